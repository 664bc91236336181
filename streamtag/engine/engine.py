"""The engine: blocks of many streams in, events out.

It does no input or output, starts no thread and reads no clock: the caller says what `now` is, in
seconds on a clock of its own. So the daemon, a file on disk and an evaluation get the same events
from the same audio.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence

from streamtag.audio.block import Block
from streamtag.audio.level import LevelSettings
from streamtag.engine.batcher import Batcher
from streamtag.engine.counters import Counters, Histogram, Series, dotted
from streamtag.engine.events import Event, Reason, StreamClosed, StreamOpened
from streamtag.engine.scheduler import Scheduler
from streamtag.engine.settings import LagPolicy, TaggerSettings
from streamtag.engine.stream import Stream, in_rounds
from streamtag.engine.stream_tagger import StreamTagger
from streamtag.errors import ConfigError, StreamError
from streamtag.model.tagger import Tagger

__all__ = ["Engine", "LagPolicy", "TaggerSettings"]

logger = logging.getLogger(__name__)


class Engine:
    """Many streams, a few taggers, one model call for many windows.

    Ready when constructed: the models have been warmed up. One thread at a time.

    Args:
        taggers: loaded bundles by name.
        max_batch: windows to run together at most.
        max_wait: seconds that a due window may wait for others to fill its batch.
        sizes: batch sizes that the models get; None means powers of two on a GPU, and 1 on a CPU,
            where other sizes are a little faster but make last bits depend on the company.
        lag_policy: what to do when a model is too slow, for streams that do not say.
        threads: windows that a CPU scores at the same time, where it gets them one by one. The
            events are the same with any number.
        slack: seconds of audio that a stream may be ahead of the models. With `DROP` this is how
            late a result can be, and how much audio may come in one call without loss.

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
    ) -> None:
        if not 0 <= slack < math.inf:
            raise ConfigError(f"engine: expected slack of at least 0 seconds, got {slack}")
        self.counters = Counters()
        self._scheduler = Scheduler(max_batch, max_wait, sizes, self.counters, threads)
        for name, tagger in taggers.items():
            self.add_tagger(self.prepare(name, tagger))
        self._lag_policy, self._slack = lag_policy, slack
        self._streams: dict[str, Stream] = {}
        self._retired = 0  # samples of closed streams that were not finite

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
    ) -> list[Event]:
        """Begins a stream.

        Args:
            name: none that is open.
            rate: Hz.
            epoch_ns: UTC of sample 0, in nanoseconds since 1970.
            taggers: which listen, and how; None means all, as their cards say.
            start: index of the first sample.
            lag_policy: what to do when a model is too slow for it; None means as the engine does.
            level: what counts as silence and clipping; None means the usual.

        Raises:
            StreamError: the name is taken, or the rate or start cannot be.
            ConfigError: a tagger that is not there, or settings that do not fit it.
        """
        if name in self._streams:
            raise StreamError(name, "expected a new name, got one that is open")
        if rate < 1 or start < 0:
            raise StreamError(name, f"expected rate >= 1 and start >= 0, got {rate} and {start}")
        wanted = taggers
        if wanted is None:
            wanted = dict.fromkeys(self._scheduler.batchers, TaggerSettings())
        stream_taggers = [self._stream_tagger(name, rate, *item) for item in wanted.items()]
        lag_policy = lag_policy or self._lag_policy
        self._streams[name] = Stream(
            name, rate, start, stream_taggers, lag_policy, self._slack, level
        )
        logger.info("stream %s: opened at %d Hz, tagged by %s", name, rate, ", ".join(wanted))
        return [StreamOpened(name, start, rate, epoch_ns, tuple(wanted))]

    def feed(self, name: str, block: Block, now: float = 0.0) -> list[Event]:
        """`feed_many` for one block."""
        return self.feed_many([(name, block)], now)

    def feed_many(self, blocks: Iterable[tuple[str, Block]], now: float = 0.0) -> list[Event]:
        """Takes blocks of any streams; several of one stream come in their order.

        A block that begins later than expected makes a `Gap`: its stream begins anew there.

        Args:
            blocks: names of streams, each with its next block.
            now: when windows that become due now began to wait; must not go back.

        Returns:
            What happened, perhaps to other streams too. Windows that became due wait for `step`.

        Raises:
            StreamError: a block of an unknown stream, with a wrong rate, or that begins before
                the stream's end. No block was taken then.
        """
        rounds = in_rounds([(self._stream(name), block) for name, block in blocks])
        events: list[Event] = []
        for one_of_each_stream in rounds:
            events += self._scheduler.push(one_of_each_stream, now)
            self.counters.add("blocks", len(one_of_each_stream))
        return events

    def step(self, now: float = math.inf) -> list[Event]:
        """Runs, per tagger, one batch that is full or whose oldest window has waited `max_wait`.

        Only one, so that new audio is taken in between; call again if `next_deadline` has passed.

        Args:
            now: the time; infinity runs everything that waits.
        """
        return self._scheduler.step(now)

    def next_deadline(self) -> float | None:
        """When `step` has something to do next; None if no window waits."""
        return self._scheduler.next_deadline()

    def close(
        self, name: str, reason: Reason = Reason.STREAM_CLOSED, detail: str = ""
    ) -> list[Event]:
        """Ends a stream: its last windows are scored, and its tags end.

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
            score: whether to score what waits; without it this takes no time.
        """
        streams = [self._stream(name) for name in dict.fromkeys(names)]
        events = self._scheduler.flush(streams, math.inf, last=True) if score else []
        for stream in streams:
            events += self._scheduler.end_tags(stream, reason)
            events.append(StreamClosed(stream.name, stream.end, reason, detail))
            logger.info("stream %s: closed at %d: %s %s", stream.name, stream.end, reason, detail)
            self._retired += stream.nonfinite
            del self._streams[stream.name]
        return events

    def mark_lost(
        self, name: str, reason: Reason = Reason.STREAM_LOST, now: float = math.inf
    ) -> list[Event]:
        """Ends the tags of a stream whose source is gone, perhaps for a while; it stays open.

        What follows begins anew, and its first block's position says how much is missing.

        Raises:
            StreamError: no such stream is open.
        """
        stream = self._stream(name)
        events = self._scheduler.flush([stream], now, last=False)
        events += self._scheduler.end_tags(stream, reason)
        stream.restart(stream.end)
        self.counters.add("losses")
        return events

    def end_of(self, name: str) -> int:
        """One past the stream's last sample; 0 where no such stream is open."""
        return self._streams[name].end if name in self._streams else 0

    def prepare(self, name: str, tagger: Tagger) -> Batcher:
        """A tagger warmed up, for `admit`; any thread may do this.

        Raises:
            ConfigError: the engine's options do not fit it.
        """
        return self._scheduler.prepare(name, tagger)

    def add_tagger(self, batcher: Batcher) -> None:
        """One more tagger, to which nobody listens yet."""
        self._scheduler.batchers[batcher.name] = batcher

    def remove_tagger(self, tagger: str) -> None:
        """A tagger that no stream needs any more goes."""
        self._scheduler.batchers.pop(tagger, None)

    def stream_taggers(self, stream: str) -> dict[str, StreamTagger]:
        """How each tagger that listens to a stream does; empty where no such stream is open."""
        found = self._streams[stream].stream_taggers if stream in self._streams else []
        return {one.tagger: one for one in found}

    def attach(self, name: str, tagger: str, settings: TaggerSettings) -> None:
        """A tagger begins to listen to an open stream, from its next window on.

        Raises:
            StreamError: no such stream is open.
            ConfigError: no such tagger, or settings that do not fit it.
        """
        stream = self._stream(name)
        stream.add(self._stream_tagger(name, stream.rate, tagger, settings))

    def detach(self, name: str, tagger: str, reason: Reason) -> list[Event]:
        """A tagger listens no more to a stream: what waits is scored, its tags end."""
        stream, stream_tagger = self._stream(name), self.stream_taggers(name)[tagger]
        events = self._scheduler.score_pending([stream_tagger])
        events += stream_tagger.close(stream.end, reason)
        stream.remove(stream_tagger)
        return events

    def update_settings(self, name: str, tagger: str, settings: TaggerSettings) -> list[Event]:
        """A tagger listens otherwise from the next window on; tags that keep theirs go on.

        Raises:
            ConfigError: settings that do not fit it; nothing has changed then.
        """
        stream, stream_tagger = self._stream(name), self.stream_taggers(name)[tagger]
        settings.thresholds(stream_tagger.card)  # raises before anything changes
        events = self._scheduler.score_pending([stream_tagger])
        n_frames = stream.front_end_of(stream_tagger).ring.end
        return events + stream_tagger.update_settings(settings, n_frames, stream.end)

    def replace_tagger(self, old: str, new: str) -> tuple[list[Event], list[Event]]:
        """Puts one tagger in another's place, between two windows of every stream.

        All that waits is scored first. The tags of the old one end; what the new one, which has
        listened beside it, holds to be on begins there.

        Args:
            old: whose name stays.
            new: whose name goes; it listens wherever it is to speak.

        Returns:
            The last events of the old one, and the first of the new one.
        """
        return self._scheduler.replace_tagger(self._streams.values(), old, new)

    def series(self) -> dict[Series, float]:
        """What was counted since the engine began, and how many streams and windows there are."""
        counted: dict[Series, float] = {**self.counters.snapshot()}
        return counted | {
            Series("nonfinite"): self._retired + sum(s.nonfinite for s in self._streams.values()),
            Series("streams"): len(self._streams),
            Series("waiting"): sum(map(len, self._scheduler.batchers.values())),
        }

    def stats(self) -> dict[str, float]:
        """`series` by dotted name, as in a `stats` message."""
        return dotted(self.series())

    def notices(self) -> list[str]:
        """What has happened since the last call that is not about one stream, for people."""
        return self._scheduler.notices()

    def histograms(self) -> dict[Series, Histogram]:
        """Sizes of batches and waits of windows, per tagger."""
        return self._scheduler.histograms()

    def _stream_tagger(
        self, stream: str, rate: int, tagger: str, settings: TaggerSettings
    ) -> StreamTagger:
        card = self._scheduler.batcher_for(tagger, stream).tagger.card
        return StreamTagger(stream, tagger, card, settings, rate)

    def _stream(self, name: str) -> Stream:
        if name not in self._streams:
            raise StreamError(name, "expected an open stream, got one that is not")
        return self._streams[name]
