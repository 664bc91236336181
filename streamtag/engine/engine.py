"""The engine: blocks of many streams in, events out.

It does no input or output and reads no clock: the caller says what `now` is, in seconds on a clock
of its own. So the daemon, a file on disk and an evaluation get the same events from the same audio.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from streamtag._core import AudioRing, PcmPort
from streamtag.audio.block import Block
from streamtag.audio.level import LevelSettings
from streamtag.engine.batcher import Batcher
from streamtag.engine.counters import Counters, Histogram, Series, dotted, series
from streamtag.engine.events import Event, Reason, StreamClosed, StreamOpened
from streamtag.engine.scheduler import Scheduler
from streamtag.engine.settings import LagPolicy, TaggerSettings
from streamtag.engine.stream import Stream
from streamtag.engine.stream_tagger import StreamTagger
from streamtag.errors import ConfigError, StreamError
from streamtag.model.tagger import Tagger
from streamtag.model.watchdog import CallLimits

__all__ = ["Engine", "LagPolicy", "TaggerSettings"]

logger = logging.getLogger(__name__)


class Engine:
    """Many streams, a few taggers, one model call for many windows.

    Ready when constructed: the models have been warmed up. Use it from one thread at a time.

    Args:
        taggers: loaded bundles by name.
        max_batch: largest number of windows in one model call.
        max_wait: seconds that a due window may wait for others to fill its batch.
        sizes: batch sizes that the models get. None means powers of two on a GPU, and 1 on a CPU,
            where other sizes are a little faster but make last bits depend on the other windows.
        lag_policy: what to do when a model is too slow, for streams that do not say.
        threads: windows that a CPU scores at the same time where the batch size is 1. The events
            are the same with any number.
        slack: seconds of audio that a stream may be ahead of the models. With `DROP` this is how
            late a result can be, and how much audio may come in one call without loss.
        exact: streaming nets too see whole windows, as the nets of the papers do.
        calls: how long a call of a model may take; see `Batcher`.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        taggers: Mapping[str, Tagger],
        *,
        max_batch: int = 64,
        max_wait: float = 0.05,
        sizes: Sequence[int] | None = None,
        lag_policy: LagPolicy = LagPolicy.WAIT,
        slack: float = 5.0,
        threads: int = 1,
        exact: bool = False,
        calls: CallLimits | None = None,
    ) -> None:
        if not 0 <= slack < math.inf:
            raise ConfigError(f"engine: expected slack of at least 0 seconds, got {slack}")
        if threads < 1:
            raise ConfigError(f"engine: expected at least 1 thread, got {threads}")
        pool = None
        if threads > 1:  # torch itself uses one thread in each of them
            pool = ThreadPoolExecutor(threads, "model", torch.set_num_threads, (1,))
        self.counters, self._notices = Counters(), list[str]()
        self._batching = (
            max_batch, max_wait, sizes, self.counters, threads, pool, self._notices, exact,
            calls,
        )  # fmt: skip
        self._batchers = {name: self.prepare(name, tagger) for name, tagger in taggers.items()}
        self._scheduler = Scheduler(self._batchers, self.counters)
        self._lag_policy, self._slack = lag_policy, slack
        self._streams: dict[str, Stream] = {}
        self._nonfinite = 0  # samples of closed streams that were not finite

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the open streams, in the order in which they were opened."""
        return tuple(self._streams)

    def open(
        self,
        name: str,
        rate: int,
        epoch_ns: int = 0,
        taggers: Mapping[str, TaggerSettings] | None = None,
        start: int = 0,
        lag_policy: LagPolicy | None = None,
        level: LevelSettings | None = None,
        ring: AudioRing | None = None,
    ) -> list[Event]:
        """Opens a stream.

        Args:
            name: not the name of an open stream.
            rate: Hz.
            epoch_ns: UTC of sample 0, in nanoseconds since 1970.
            taggers: the taggers of the stream with their settings. None means all taggers with
                the settings of their cards.
            start: index of the first sample.
            lag_policy: what to do when a model is too slow. None means the engine's policy.
            level: what counts as silence and clipping. None means the defaults.
            ring: keeps the last of its audio. None for nothing.

        Raises:
            StreamError: the name is in use, or the rate or start is out of its range.
            ConfigError: an unknown tagger, or settings that do not fit it.
        """
        if name in self._streams:
            raise StreamError(name, "expected a new name, got one that is open")
        if rate < 1 or start < 0:
            raise StreamError(name, f"expected rate >= 1 and start >= 0, got {rate} and {start}")
        chosen = dict.fromkeys(self._batchers, TaggerSettings()) if taggers is None else taggers
        stream_taggers = [self._stream_tagger(name, rate, *item) for item in chosen.items()]
        policy = lag_policy or self._lag_policy
        stream = Stream(name, rate, start, stream_taggers, policy, self._slack, level)
        stream.level.measure(*self._scheduler.measures_level)
        if ring is not None:
            stream.audio.keep(ring)
        self._streams[name] = stream
        logger.info("stream %s: opened at %d Hz, tagged by %s", name, rate, ", ".join(chosen))
        return [StreamOpened(name, start, rate, epoch_ns, tuple(chosen))]

    def feed(self, name: str, block: Block, now: float = 0.0) -> list[Event]:
        """`feed_many` for one block."""
        return self.feed_many([(name, block)], now)

    def feed_many(self, blocks: Iterable[tuple[str, Block]], now: float = 0.0) -> list[Event]:
        """Takes blocks of any streams. Several blocks of one stream come in their order.

        A block that begins later than expected makes a `GapFound`. The stream starts again there.

        Args:
            blocks: names of streams, each with its next block.
            now: time at which windows become due by these blocks; must not go back.

        Returns:
            What happened, perhaps to other streams too. Windows that became due wait for `step`.

        Raises:
            StreamError: a block of an unknown stream, with a wrong rate, or that begins before
                the stream's end. No block was taken then.
        """
        ends: dict[Stream, int] = {}
        taken: list[tuple[Stream, Block]] = []
        for name, block in blocks:
            stream = self._stream(name)
            stream.check(block, ends.get(stream, stream.end))
            ends[stream] = block.end
            taken.append((stream, block))
        for stream, block in taken:
            stream.append(block)
        return self._scheduler.advance(list(ends), now)

    def read_from(self, name: str, port: PcmPort, now: float = 0.0) -> list[Event]:
        """Takes the audio of a stream from a port, once it has used what it has.

        Raises:
            StreamError: no such stream is open.
        """
        stream = self._stream(name)
        events = self._scheduler.advance([stream], now)
        stream.audio.read_from(port)
        return events

    def advance(self, now: float, seconds: float = math.inf) -> list[Event]:
        """Uses the audio that has come through ports, at most `seconds` of each stream."""
        return self._scheduler.advance(list(self._streams.values()), now, seconds)

    def measure_levels(self, wanted: bool, loudness: bool = False) -> None:
        """Whether there is a `LevelMeasured` for each half second of every stream from now on.

        `loudness` is whether it has the momentary loudness, which takes a third more of what the
        engine takes beside its models.
        """
        self._scheduler.measures_level = wanted, loudness
        for stream in self._streams.values():
            stream.level.measure(wanted, loudness)

    @property
    def worn_out(self) -> bool:
        """Whether a model hangs that was started anew as often as one process can."""
        return any(batcher.worn_out for batcher in self._batchers.values())

    @property
    def behind(self) -> bool:
        """Whether `advance` has left audio that waits."""
        return self._scheduler.behind

    @property
    def audio_seconds(self) -> float:
        """Audio used so far, of all streams."""
        return self._scheduler.audio_seconds

    def step(self, now: float = math.inf) -> list[Event]:
        """Runs, per tagger, one batch that is full or whose oldest window has waited `max_wait`.

        It runs only one, so that new audio is taken in between. Call it again if `next_deadline`
        has passed.

        Args:
            now: the time; infinity runs everything that waits.
        """
        return self._scheduler.step(now)

    def next_deadline(self) -> float | None:
        """Time at which `step` has something to do; None if no window waits."""
        deadlines = [batcher.deadline() for batcher in self._batchers.values()]
        return min((d for d in deadlines if d is not None), default=None)

    def close(
        self, name: str, reason: Reason = Reason.STREAM_CLOSED, detail: str = ""
    ) -> list[Event]:
        """Closes a stream: its last windows are scored, and its tags end.

        Raises:
            StreamError: no such stream is open.
        """
        return self.close_many([name], reason, detail)

    def close_many(
        self,
        names: Iterable[str],
        reason: Reason = Reason.STREAM_CLOSED,
        detail: str = "",
        *,
        score: bool = True,
    ) -> list[Event]:
        """`close` for several streams, whose last windows share batches.

        Args:
            names: of open streams.
            reason: why.
            detail: for people.
            score: whether to score the windows that wait; without it this takes no time.
        """
        streams = [self._stream(name) for name in dict.fromkeys(names)]
        events: list[Event] = []
        if score:
            events += self._scheduler.advance(streams, math.inf)
            events += self._scheduler.flush(streams, math.inf, last=True)
        for stream in streams:
            events += self._scheduler.end_tags(stream, reason)
            events.append(StreamClosed(stream.name, stream.end, reason, detail))
            logger.info("stream %s: closed at %d: %s %s", stream.name, stream.end, reason, detail)
            self._nonfinite += stream.nonfinite
            for stream_tagger in self._streams.pop(stream.name).stream_taggers:
                stream_tagger.release()
        return events

    def mark_lost(
        self, name: str, reason: Reason = Reason.STREAM_LOST, now: float = math.inf
    ) -> list[Event]:
        """Ends the tags of a stream that has lost its source. The stream stays open.

        The position of its next block says how much audio is missing.

        Raises:
            StreamError: no such stream is open.
        """
        stream = self._stream(name)
        events = self._scheduler.advance([stream], now)
        events += self._scheduler.flush([stream], now, last=False)
        events += self._scheduler.end_tags(stream, reason)
        stream.restart(stream.end)
        self.counters.add("losses")
        return events

    def end_of(self, name: str) -> int:
        """One past the stream's last sample; 0 where no such stream is open."""
        return self._streams[name].end if name in self._streams else 0

    def prepare(self, name: str, tagger: Tagger) -> Batcher:
        """Warms a tagger up for `add_tagger`. Any thread may call this.

        Raises:
            ConfigError: the engine's options do not fit the tagger.
        """
        return Batcher(name, tagger, *self._batching)

    def add_tagger(self, batcher: Batcher) -> None:
        """Adds a tagger that no stream uses yet."""
        self._batchers[batcher.name] = batcher

    def remove_tagger(self, tagger: str) -> None:
        """Removes a tagger that no stream uses any more."""
        self._batchers.pop(tagger, None)

    def stream_taggers(self, stream: str) -> dict[str, StreamTagger]:
        """The state of a stream's taggers by name; empty where no such stream is open."""
        found = self._streams[stream].stream_taggers if stream in self._streams else []
        return {one.tagger: one for one in found}

    def attach(self, name: str, tagger: str, settings: TaggerSettings) -> None:
        """Adds a tagger to an open stream, from the next window on.

        Raises:
            StreamError: no such stream is open.
            ConfigError: an unknown tagger, or settings that do not fit it.
        """
        stream = self._stream(name)
        stream.add(self._stream_tagger(name, stream.rate, tagger, settings))

    def detach(self, name: str, tagger: str, reason: Reason) -> list[Event]:
        """Removes a tagger from a stream: its last windows are scored, and its tags end."""
        stream, stream_tagger = self._stream(name), self.stream_taggers(name)[tagger]
        events = self._scheduler.score_pending([stream_tagger])
        events += stream_tagger.close(stream.end, reason)
        stream.remove(stream_tagger)
        stream_tagger.release()
        return events

    def update_settings(self, name: str, tagger: str, settings: TaggerSettings) -> list[Event]:
        """Changes the settings of a stream's tagger from the next window on.

        Tags whose settings stay the same are not disturbed.

        Raises:
            ConfigError: settings that do not fit the tagger. Nothing has changed then.
        """
        stream, stream_tagger = self._stream(name), self.stream_taggers(name)[tagger]
        settings.thresholds(stream_tagger.card)  # raises before anything changes
        events = self._scheduler.score_pending([stream_tagger])
        stream.forget_due()
        n_frames = stream.front_end_of(stream_tagger).ring.end
        return events + stream_tagger.update_settings(settings, n_frames, stream.end)

    def replace_tagger(self, old: str, new: str) -> tuple[list[Event], list[Event]]:
        """Puts the tagger `new` in the place of `old`, between two windows of every stream.

        All windows that wait are scored first. The tags of the old tagger end. Those that the new
        one, which has run beside it, has found to be on begin there.

        Args:
            old: its name stays.
            new: gets the name `old`.

        Returns:
            The last events of the old tagger, and the first of the new one.
        """
        last, first = list[Event](), list[Event]()
        for stream in self._streams.values():
            found = {one.tagger: one for one in stream.stream_taggers}
            both = [found[name] for name in (old, new) if name in found]
            last += self._scheduler.score_pending(both)
            middles = [one.last_middle for one in both if one.last_middle is not None]
            at = max(middles, default=stream.origin)
            if old in found:
                last += found[old].close(at, Reason.MODEL_SWAPPED, stream.end)
                stream.remove(found[old])
            if new in found:
                first += found[new].promote(old, at, stream.end)
        self._batchers[old] = self._batchers.pop(new)
        self._batchers[old].name = old
        return last, first

    def series(self) -> dict[Series, float]:
        """The counters, and the numbers of open streams and waiting windows."""
        nonfinite = self._nonfinite + sum(s.nonfinite for s in self._streams.values())
        return {
            **self.counters.snapshot(),
            Series("nonfinite"): nonfinite,
            Series("streams"): len(self._streams),
            Series("waiting"): sum(map(len, self._batchers.values())),
        }

    def stats(self) -> dict[str, float]:
        """`series` by dotted name, as in a `stats` message."""
        return dotted(self.series())

    def notices(self) -> list[str]:
        """What has happened since the last call that is not about one stream, for people."""
        texts = self._notices.copy()
        del self._notices[: len(texts)]
        return texts

    def histograms(self) -> dict[Series, Histogram]:
        """Sizes of batches and waits of windows, per tagger."""
        sizes = {series("batch_size", tagger=n): b.batch_sizes for n, b in self._batchers.items()}
        waits = {series("wait_seconds", tagger=n): b.waits for n, b in self._batchers.items()}
        return sizes | waits

    def _stream_tagger(
        self, stream: str, rate: int, tagger: str, settings: TaggerSettings
    ) -> StreamTagger:
        if tagger not in self._batchers:
            known = ", ".join(self._batchers) or "none"
            raise ConfigError(f"stream {stream!r}: unknown tagger {tagger!r}; there are: {known}")
        batcher = self._batchers[tagger]
        card, streaming, bank = batcher.tagger.card, batcher.streaming, batcher.bank
        return StreamTagger(stream, tagger, card, settings, rate, streaming=streaming, bank=bank)

    def _stream(self, name: str) -> Stream:
        if name not in self._streams:
            raise StreamError(name, "expected an open stream, got one that is not")
        return self._streams[name]
