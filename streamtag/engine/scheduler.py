"""The way of a block through the engine: front ends, windows, batches, results, events."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence

from streamtag.audio.block import Block
from streamtag.audio.front_end import push_many
from streamtag.audio.level import LevelChange, LevelKind
from streamtag.engine.batcher import Batcher
from streamtag.engine.counters import Counters
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

logger = logging.getLogger(__name__)


class Scheduler:
    """Decides what is computed when, for all streams and taggers of an engine.

    `push` takes blocks and queues the windows that become due. `step` runs the batches that are
    due. The batchers, one per tagger, own the windows in between. The engine adds and removes some.
    """

    def __init__(self, batchers: dict[str, Batcher], counters: Counters) -> None:
        self._batchers, self._counters = batchers, counters

    def push(self, blocks: Mapping[Stream, Block], now: float) -> list[Event]:
        """Takes a block of each stream, in pieces that end where the stream's level changes."""
        late = [stream for stream, block in blocks.items() if block.start > stream.end]
        events = self._restart_after_gaps(late, blocks, now) if late else []
        pieces = list(blocks.items())
        while pieces:
            parts = [(stream, *stream.push(block)) for stream, block in pieces]
            events += self._extract([part for _, inputs, _, _ in parts for part in inputs], now)
            for stream, _, changes, _ in parts:
                events += self._level_events(stream, changes)
            pieces = [(stream, rest) for stream, _, _, rest in parts if len(rest.samples)]
        for stream, block in blocks.items():
            for state, at, decided in stream.channel_changes(block):
                events.append(ChannelsChanged(stream.name, at, decided, state.value))
        self._counters.add("blocks", len(blocks))
        return events

    def step(self, now: float) -> list[Event]:
        """Runs one batch per tagger that has one due; at the time infinity, all batches."""
        events: list[Event] = []
        for batcher in self._batchers.values():
            while (deadline := batcher.deadline()) is not None and deadline <= now:
                events += self._run_batch(batcher, now)
                if now != math.inf:
                    break
        return events

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
            self._batchers[stream_tagger.tagger].discard(stream_tagger)
        events = self._level_events(stream, stream.level.close(stream.end))
        for stream_tagger in stream.stream_taggers:
            events += stream_tagger.close(stream.end, reason)
        return events

    def score_pending(self, stream_taggers: Iterable[StreamTagger]) -> list[Event]:
        """Runs batches until no window of these stream taggers waits."""
        events: list[Event] = []
        for stream_tagger in stream_taggers:
            batcher = self._batchers[stream_tagger.tagger]
            while batcher.oldest(stream_tagger) is not None:
                events += self._run_batch(batcher, math.inf)
        return events

    def _restart_after_gaps(
        self, streams: list[Stream], blocks: Mapping[Stream, Block], now: float
    ) -> list[Event]:
        """Ends the audio before a gap and restarts with the block after it."""
        events = self.flush(streams, now, last=False)
        for stream in streams:
            start = blocks[stream].start
            logger.warning("stream %s: gap [%d, %d)", stream.name, stream.end, start)
            events.append(GapFound(stream.name, stream.end, start))
            stream.restart(start)
        self._counters.add("gaps", len(streams))
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
            oldest = self._batchers[stream_tagger.tagger].oldest(stream_tagger)
            if oldest is not None and oldest.first_frame < first:
                return self.score_pending(front_end.stream_taggers)
        return []

    def _queue_windows(
        self, stream: Stream, front_end: StreamFrontEnd, now: float, *, last: bool = False
    ) -> list[Event]:
        """Queues the windows that have become due, and drops those whose frames are gone."""
        events: list[Event] = []
        ring, origin = front_end.ring, front_end.origin
        for stream_tagger in front_end.stream_taggers:
            batcher = self._batchers[stream_tagger.tagger]
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
