"""The way of a block through the engine: front ends, windows, batches, results, events."""

import logging
import math
import sys
from collections.abc import Iterable, Mapping, Sequence

from streamtag import _core
from streamtag.audio.level import LevelChange, LevelKind, level_changes, take_readings
from streamtag.audio.stereo import channel_changes
from streamtag.engine.batcher import Batcher
from streamtag.engine.counters import Counters
from streamtag.engine.events import (
    ChannelsChanged,
    ClippingFound,
    Event,
    GapFound,
    LevelMeasured,
    Reason,
    SilenceEnded,
    SilenceStarted,
    WindowsDropped,
)
from streamtag.engine.settings import LagPolicy
from streamtag.engine.stream import Stream, StreamFrontEnd
from streamtag.engine.stream_tagger import PendingWindow, StreamTagger, update_all

logger = logging.getLogger(__name__)

_StreamProgress = tuple[
    int,
    list[int],
    list[tuple[str, int, int, int, int]],
    list[tuple[str, int, int]],
    int | None,
]
"""What happened to a stream: its index, front ends with windows due, changes of level and of
channels, and where its audio goes on after missing samples."""


class Scheduler:
    """Decides what is computed when, for all streams and taggers of an engine.

    `advance` uses the audio that waits and queues the windows that become due. `step` runs the
    batches that are due. The batchers, one per tagger, own the windows in between. The engine adds
    and removes some.
    """

    def __init__(self, batchers: dict[str, Batcher], counters: Counters) -> None:
        self._batchers, self._counters = batchers, counters
        self.audio_seconds = 0.0
        """Audio used so far, of all streams."""
        self.measures_level = (False, False)
        """Whether the streams have readings of their level, and of their loudness."""
        self.behind = False
        """Whether more audio waits than `advance` was allowed to use."""

    def advance(
        self, streams: Sequence[Stream], now: float, seconds: float = math.inf
    ) -> list[Event]:
        """Uses the audio that waits, at most `seconds` of each stream.

        It comes in pieces that end where the level changes, or where samples are missing.
        """
        events, of_channels = list[Event](), list[Event]()
        found, self.behind = _core.allow([one.audio for one in streams], seconds)
        going = [streams[i] for i in found]
        self._counters.add("blocks", len(going))
        while going:
            for stream in going:
                for front_end in stream.front_ends if stream.lag_policy is LagPolicy.WAIT else ():
                    n_samples = front_end.most_waiting(stream.rate)
                    events += self._make_room(stream, front_end, n_samples)
            used, frames, things, more = _core.advance([stream.audio for stream in going])
            self.audio_seconds += used
            self._counters.add("frames", frames)
            events += self._handle(going, things, now)
            for i, _, _, channels, _ in things:
                for state, at, decided in channel_changes(channels):
                    name = going[i].name
                    of_channels.append(ChannelsChanged(name, at, decided, state.value))
            going = [going[i] for i in more]
        return events + of_channels + self._level_readings(streams)

    def _level_readings(self, streams: Sequence[Stream]) -> list[Event]:
        """The levels of the half seconds that are complete."""
        if not self.measures_level[0]:
            return []
        found = take_readings([stream.level for stream in streams])
        return [LevelMeasured(streams[i].name, *reading) for i, reading in found]

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
        events: list[Event] = []
        for stream in streams:
            for front_end in stream.front_ends:
                events += self._make_room(stream, front_end, front_end.piece)
        _, frames, found, _ = _core.flush([stream.audio for stream in streams])
        self._counters.add("frames", frames)
        events += self._handle(streams, found, now)
        for stream in streams:
            for front_end in stream.front_ends:
                events += self._make_room(stream, front_end, front_end.flush_samples)
                front_end.flush(last=last)
                events += self._queue_windows(stream, front_end, now, last=last)
        for stream in streams:
            events += self.score_pending(stream.stream_taggers)
            events += self._level_events(stream, level_changes(stream.level.report_silence()))
        return events

    def end_tags(self, stream: Stream, reason: Reason) -> list[Event]:
        """What is on ends with the stream's last sample; windows that wait are discarded."""
        for stream_tagger in stream.stream_taggers:
            self._batchers[stream_tagger.tagger].discard(stream_tagger)
        events = self._level_events(stream, level_changes(stream.level.close(stream.end)))
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

    def _handle(
        self, streams: Sequence[Stream], found: Sequence[_StreamProgress], now: float
    ) -> list[Event]:
        """The events of gaps, windows and levels of streams that went on."""
        gaps = {streams[i]: gap for i, _, _, _, gap in found if gap is not None}
        events = self._restart_after_gaps(gaps, now) if gaps else []
        for i, due, _, _, _ in found:
            for number in due:
                events += self._queue_windows(streams[i], streams[i].front_end(number), now)
        for i, _, levels, _, _ in found:
            if levels:
                events += self._level_events(streams[i], level_changes(levels))
        return events

    def _restart_after_gaps(self, gaps: Mapping[Stream, int], now: float) -> list[Event]:
        """Ends the audio before a gap and restarts with the sample after it."""
        events = self.flush(list(gaps), now, last=False)
        for stream, start in gaps.items():
            logger.warning("stream %s: gap [%d, %d)", stream.name, stream.end, start)
            events.append(GapFound(stream.name, stream.end, start))
            stream.restart(start)
        self._counters.add("gaps", len(gaps))
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
        next_look = sys.maxsize
        for stream_tagger in front_end.stream_taggers:
            batcher = self._batchers[stream_tagger.tagger]
            for window in stream_tagger.due_windows(ring, origin, stream.end, now, last=last):
                batcher.add(window)
            if dropped := batcher.drop_overwritten(stream_tagger):
                events.append(self._dropped(dropped, "dropped", "the model is too slow"))
            next_look = min(next_look, stream_tagger.next_end)
            if (oldest := batcher.oldest(stream_tagger)) is not None:
                # With one frame more, its first frame is overwritten.
                next_look = min(next_look, oldest.first_frame + ring.capacity + 1)
        front_end.wait_for(next_look)
        return events

    def _run_batch(self, batcher: Batcher, now: float) -> list[Event]:
        """One batch, from windows to events."""
        batch = batcher.next_batch()
        if now != math.inf:
            for pending in batch:
                batcher.waits.add(now - pending.due_at)
        answers = batcher.score(batch)
        scored = [
            (pending, answer)
            for pending, answer in zip(batch, answers, strict=True)
            if not isinstance(answer, str)
        ]
        results = iter(update_all(scored))
        events: list[Event] = []
        for pending, answer in zip(batch, answers, strict=True):
            if isinstance(answer, str):
                events.append(self._dropped([pending], "failed", answer))
            else:
                events += next(results)
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
