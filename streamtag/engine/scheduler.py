"""The way of a block through the engine: front ends, windows, batches, results, events."""

import logging
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from streamtag.audio.block import Block
from streamtag.audio.front_end import push_many
from streamtag.audio.level import LevelChange, LevelKind
from streamtag.engine.batcher import Batcher
from streamtag.engine.counters import Counters, Histogram, Series, series
from streamtag.engine.events import (
    ChannelsChanged,
    ClippingFound,
    Event,
    GapFound,
    Reason,
    SilenceEnded,
    SilenceStarted,
    WindowsDropped,
)
from streamtag.engine.settings import LagPolicy
from streamtag.engine.stream import FrontEndInput, Stream, StreamFrontEnd
from streamtag.engine.stream_tagger import PendingWindow, StreamTagger
from streamtag.errors import ConfigError
from streamtag.model.tagger import Tagger

logger = logging.getLogger(__name__)


class Scheduler:
    """Decides what is computed when, for all streams and taggers of an engine.

    `push` takes blocks and queues the windows that become due. `step` runs the batches that are
    due. The batchers, one per tagger, own the windows in between.

    Args:
        max_batch: windows to run together at most.
        max_wait: seconds that a due window may wait for others to fill its batch.
        sizes: batch sizes that the models get. None means powers of two on a GPU and 1 on a CPU.
        counters: where to count.
        threads: windows that a CPU scores at the same time, where it gets them one by one.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        max_batch: int,
        max_wait: float,
        sizes: Sequence[int] | None,
        counters: Counters,
        threads: int,
    ) -> None:
        if threads < 1:
            raise ConfigError(f"engine: expected at least 1 thread, got {threads}")
        pool = None
        if threads > 1:  # each of them with one thread of torch's own
            pool = ThreadPoolExecutor(threads, "model", torch.set_num_threads, (1,))
        self._options = (max_batch, max_wait, sizes, counters, threads, pool)
        self._counters = counters
        self.batchers: dict[str, Batcher] = {}
        """By name of the tagger."""

    def prepare(self, name: str, tagger: Tagger) -> Batcher:
        """A batcher that is warmed up and not in use yet. Any thread may call this."""
        batcher = Batcher(name, tagger, *self._options)
        batcher.warm_up()
        return batcher

    def batcher_for(self, tagger: str, stream: str) -> Batcher:
        """The batcher of a tagger that a stream wants.

        Raises:
            ConfigError: there is no such tagger.
        """
        if tagger not in self.batchers:
            known = ", ".join(self.batchers) or "none"
            raise ConfigError(f"stream {stream!r}: unknown tagger {tagger!r}; there are: {known}")
        return self.batchers[tagger]

    def push(self, blocks: list[tuple[Stream, Block]], now: float) -> list[Event]:
        """Takes a block of each stream, in pieces that end where the stream's level changes."""
        events = self._restart_after_gaps([(s, b) for s, b in blocks if b.start > s.end], now)
        pieces = blocks
        while pieces:
            parts = [(stream, *stream.push(block)) for stream, block in pieces]
            events += self._extract([part for _, inputs, _, _ in parts for part in inputs], now)
            for stream, _, changes, _ in parts:
                events += self._level_events(stream, changes)
            pieces = [(stream, rest) for stream, _, _, rest in parts if len(rest.samples)]
        for stream, block in blocks:
            for state, at, decided in stream.channel_changes(block):
                events.append(ChannelsChanged(stream.name, at, decided, state.value))
        return events

    def step(self, now: float) -> list[Event]:
        """Runs one batch per tagger that has one due; at the time infinity, all batches."""
        events: list[Event] = []
        for batcher in self.batchers.values():
            while (deadline := batcher.deadline()) is not None and deadline <= now:
                events += self._run_batch(batcher, now)
                if now != math.inf:
                    break
        return events

    def next_deadline(self) -> float | None:
        """When `step` has something to do next; None if no window waits."""
        deadlines = [batcher.deadline() for batcher in self.batchers.values()]
        return min((d for d in deadlines if d is not None), default=None)

    def flush(self, streams: Sequence[Stream], now: float, *, last: bool) -> list[Event]:
        """Scores what the audio so far still holds; with `last`, the very last window too."""
        events = self._extract([part for stream in streams for part in stream.flush()], now)
        for stream in streams:
            for front_end in stream.front_ends:
                events += self._make_room(stream, front_end, front_end.flush_samples)
                front_end.flush(last=last)
                events += self._queue_windows(stream, front_end, now, last=last)
        for stream in streams:
            events += self.score_pending(stream.stream_taggers)
            events += self._level_events(stream, stream.level.report_silence())
        return events

    def end_tags(self, stream: Stream, reason: Reason) -> list[Event]:
        """What is on ends with the stream's last sample; windows that wait are discarded."""
        for stream_tagger in stream.stream_taggers:
            self.batchers[stream_tagger.tagger].discard(stream_tagger)
        events = self._level_events(stream, stream.level.close(stream.end))
        for stream_tagger in stream.stream_taggers:
            events += stream_tagger.close(stream.end, reason)
        return events

    def score_pending(self, stream_taggers: Iterable[StreamTagger]) -> list[Event]:
        """Runs batches until no window of these stream taggers waits."""
        events: list[Event] = []
        for stream_tagger in stream_taggers:
            batcher = self.batchers[stream_tagger.tagger]
            while batcher.oldest(stream_tagger) is not None:
                events += self._run_batch(batcher, math.inf)
        return events

    def replace_tagger(
        self, streams: Iterable[Stream], old: str, new: str
    ) -> tuple[list[Event], list[Event]]:
        """Puts the tagger `new` in the place of `old`, whose name it gets.

        Returns:
            The last events of the old tagger, and the first of the new one.
        """
        last, first = list[Event](), list[Event]()
        for stream in streams:
            found = {one.tagger: one for one in stream.stream_taggers}
            both = [found[name] for name in (old, new) if name in found]
            last += self.score_pending(both)
            middles = [one.last_middle for one in both if one.last_middle is not None]
            at = max(middles, default=stream.origin)
            if old in found:
                last += found[old].close(at, Reason.MODEL_SWAPPED, stream.end)
                stream.remove(found[old])
            if new in found:
                first += found[new].promote(old, at, stream.end)
        self.batchers[old] = self.batchers.pop(new)
        self.batchers[old].name = old
        return last, first

    def notices(self) -> list[str]:
        """What has happened since the last call that is not about one stream, for people."""
        texts = [text for batcher in self.batchers.values() for text in batcher.notices]
        for batcher in self.batchers.values():
            batcher.notices.clear()
        return texts

    def histograms(self) -> dict[Series, Histogram]:
        """Sizes of batches and waits of windows, per tagger."""
        sizes = {series("batch_size", tagger=n): b.batch_sizes for n, b in self.batchers.items()}
        waits = {series("wait_seconds", tagger=n): b.waits for n, b in self.batchers.items()}
        return sizes | waits

    def _restart_after_gaps(self, blocks: list[tuple[Stream, Block]], now: float) -> list[Event]:
        """Ends the audio before a gap and begins anew after it."""
        if not blocks:
            return []
        events = self.flush([stream for stream, _ in blocks], now, last=False)
        for stream, block in blocks:
            logger.warning("stream %s: gap [%d, %d)", stream.name, stream.end, block.start)
            events.append(GapFound(stream.name, stream.end, block.start))
            stream.restart(block.start)
        self._counters.add("gaps", len(blocks))
        return events

    def _extract(self, inputs: list[FrontEndInput], now: float) -> list[Event]:
        """Makes frames of samples, in pieces that the rings can take, and queues windows."""
        events: list[Event] = []
        while inputs:
            for stream, front_end, samples in inputs:
                n_samples = min(len(samples), front_end.piece)
                events += self._make_room(stream, front_end, n_samples)
            added = push_many(
                [front_end for _, front_end, _ in inputs],
                [samples[: front_end.piece] for _, front_end, samples in inputs],
            )
            self._counters.add("frames", sum(added))
            for (stream, front_end, _), frames in zip(inputs, added, strict=True):
                if frames:
                    events += self._queue_windows(stream, front_end, now)
            inputs = [
                FrontEndInput(stream, front_end, samples[front_end.piece :])
                for stream, front_end, samples in inputs
                if len(samples) > front_end.piece
            ]
        return events

    def _make_room(self, stream: Stream, front_end: StreamFrontEnd, n_samples: int) -> list[Event]:
        """Scores the windows that `n_samples` more would overwrite, unless they may be lost."""
        if stream.lag_policy is LagPolicy.DROP:
            return []
        first = front_end.first_frame_after(n_samples)
        for stream_tagger in front_end.stream_taggers:
            oldest = self.batchers[stream_tagger.tagger].oldest(stream_tagger)
            if oldest is not None and oldest.window.first < first:
                return self.score_pending(front_end.stream_taggers)
        return []

    def _queue_windows(
        self, stream: Stream, front_end: StreamFrontEnd, now: float, *, last: bool = False
    ) -> list[Event]:
        """Queues the windows that have become due, and drops those whose frames are gone."""
        events: list[Event] = []
        ring, origin = front_end.ring, front_end.origin
        for stream_tagger in front_end.stream_taggers:
            batcher = self.batchers[stream_tagger.tagger]
            for window in stream_tagger.due_windows(ring, origin, stream.end, now, last=last):
                batcher.add(window)
            if dropped := batcher.drop_overwritten(stream_tagger):
                events.append(self._dropped(dropped, "dropped", "the model is too slow"))
        return events

    def _run_batch(self, batcher: Batcher, now: float) -> list[Event]:
        """One batch, from windows to events."""
        batch = batcher.next_batch()
        if now != math.inf:
            for pending in batch:
                batcher.waits.add(now - pending.due_at)
        events: list[Event] = []
        for pending, answer in zip(batch, batcher.score(batch), strict=True):
            if isinstance(answer, str):
                events.append(self._dropped([pending], "failed", answer))
            else:
                events += pending.stream_tagger.update(pending, answer)
        return events

    def _dropped(self, windows: list[PendingWindow], counter: str, why: str) -> WindowsDropped:
        one = windows[-1].stream_tagger
        self._counters.add(counter, len(windows), tagger=one.tagger)
        return WindowsDropped(one.stream, one.tagger, windows[-1].end, len(windows), why)

    def _level_events(self, stream: Stream, changes: list[LevelChange]) -> list[Event]:
        """The events of changes of a stream's level. Silence switches the stream's tags off."""
        events: list[Event] = []
        for kind, at, decided, since, samples in changes:
            self._counters.add("level", kind=kind.value)
            if kind is LevelKind.CLIPPED:
                events.append(ClippingFound(stream.name, at, samples))
            elif kind is LevelKind.SOUND:
                events.append(SilenceEnded(stream.name, at, decided, since))
            else:  # first every window that ended before the silence was known
                events += self.score_pending(stream.stream_taggers)
                events.append(SilenceStarted(stream.name, at, decided))
                for stream_tagger in stream.stream_taggers:
                    events += stream_tagger.end_for_silence(at, decided)
        return events
