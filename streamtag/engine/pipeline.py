"""What happens between blocks and events: frames, windows, batches, results."""

import logging
import math
from collections.abc import Iterable

from streamtag.audio.block import Block
from streamtag.audio.front_end import push_many
from streamtag.audio.level import Change, LevelKind
from streamtag.engine.batcher import Batcher
from streamtag.engine.branch import Branch
from streamtag.engine.counters import Counters
from streamtag.engine.events import (
    ClippingFound,
    Event,
    GapFound,
    Reason,
    SilenceEnded,
    SilenceStarted,
    WindowsDropped,
)
from streamtag.engine.settings import Behind
from streamtag.engine.stream import FrontEndInput, Stream
from streamtag.engine.stream_tagger import PendingWindow, StreamTagger

logger = logging.getLogger(__name__)


class Pipeline:
    """The engine's streams on their way through its taggers.

    Args:
        batchers: by name of the tagger; whose they are may add and remove some.
        counters: where to count.
    """

    def __init__(self, batchers: dict[str, Batcher], counters: Counters) -> None:
        self.batchers = batchers
        self._counters = counters

    def hear(self, pairs: list[tuple[Stream, Block]], now: float) -> list[Event]:
        """Takes a block of each stream, in pieces that end where its level changes."""
        events: list[Event] = []
        while pairs:
            heard = [(stream, *stream.hear(block)) for stream, block in pairs]
            events += self._push([job for _, jobs, _, _ in heard for job in jobs], now)
            for stream, _, changes, _ in heard:
                events += self.tell(stream, changes)
            pairs = [(stream, rest) for stream, _, _, rest in heard if len(rest.samples)]
        return events

    def tell(self, stream: Stream, changes: list[Change]) -> list[Event]:
        """What changes of a stream's level mean; silence switches its tags off."""
        events: list[Event] = []
        for kind, at, decided, since, samples in changes:
            self._counters.add("level", kind=kind.value)
            if kind is LevelKind.CLIPPED:
                events.append(ClippingFound(stream.name, at, samples))
                continue
            if kind is LevelKind.SOUND:
                events.append(SilenceEnded(stream.name, at, decided, since))
                continue
            events += self.settle(stream.listeners)  # every window that ended before it was known
            events.append(SilenceStarted(stream.name, at, decided))
            for listener in stream.listeners:
                events += listener.hush(at, decided)
        return events

    def leap(self, late: list[tuple[Stream, Block]], now: float) -> list[Event]:
        """Ends the stretch before a gap and begins the one after it."""
        if not late:
            return []
        events = self.finish([stream for stream, _ in late], now, last=False)
        for stream, block in late:
            logger.warning("stream %s: gap [%d, %d)", stream.name, stream.end, block.start)
            events.append(GapFound(stream.name, stream.end, block.start))
            stream.begin(block.start)
        self._counters.add("gaps", len(late))
        return events

    def finish(self, streams: list[Stream], now: float, *, last: bool) -> list[Event]:
        """Scores what the audio so far still holds; with `last`, the very last window too."""
        events = self._push([job for stream in streams for job in stream.flush()], now)
        for stream in streams:
            for branch in stream.branches:
                events += self._make_room(stream, branch, branch.flush)
                branch.finish(last=last)
                events += self._listen(stream, branch, now, last=last)
        for stream in streams:
            events += self.settle(stream.listeners)
            events += self.tell(stream, stream.meter.tell())
        return events

    def end(self, stream: Stream, reason: Reason) -> list[Event]:
        """What is on ends with the stream's last sample; what waits is forgotten."""
        for listener in stream.listeners:
            self.batchers[listener.tagger].forget(listener)
        events = self.tell(stream, stream.meter.end(stream.end))
        for listener in stream.listeners:
            events += listener.close(stream.end, reason)
        return events

    def swap(
        self, stream: Stream, old: str, new: str, last: list[Event], first: list[Event]
    ) -> None:
        """Puts one tagger of a stream in another's place; adds to the last and first events."""
        found = {listener.tagger: listener for listener in stream.listeners}
        before, after = found.get(old), found.get(new)
        both = [listener for listener in (before, after) if listener is not None]
        last += self.settle(both)
        middles = [listener.middle for listener in both if listener.middle is not None]
        at = max(middles, default=stream.origin)
        if before is not None:
            last += before.close(at, Reason.MODEL_SWAPPED, stream.end)
            stream.dismiss(before)
        if after is not None:
            first += after.take_over(old, at, stream.end)

    def _push(self, jobs: list[FrontEndInput], now: float) -> list[Event]:
        """Makes frames of samples, in pieces that the rings can take."""
        events: list[Event] = []
        while jobs:
            for stream, branch, samples in jobs:
                events += self._make_room(stream, branch, min(len(samples), branch.piece))
            added = push_many(
                [branch.front_end for _, branch, _ in jobs],
                [samples[: branch.piece] for _, branch, samples in jobs],
            )
            self._counters.add("frames", sum(added))
            for (stream, branch, _), frames in zip(jobs, added, strict=True):
                if frames:
                    events += self._listen(stream, branch, now)
            jobs = [
                FrontEndInput(stream, branch, samples[branch.piece :])
                for stream, branch, samples in jobs
                if len(samples) > branch.piece
            ]
        return events

    def _make_room(self, stream: Stream, branch: Branch, n_samples: int) -> list[Event]:
        """Scores the windows that `n_samples` more would overwrite, unless they are to be lost."""
        if stream.behind is Behind.DROP or branch.has_room(n_samples):
            return []
        return self.settle(branch.listeners)

    def _listen(
        self, stream: Stream, branch: Branch, now: float, *, last: bool = False
    ) -> list[Event]:
        """Offers the windows that have become due, and drops those that can be scored no more."""
        events: list[Event] = []
        for listener in branch.listeners:
            batcher = self.batchers[listener.tagger]
            for due in listener.listen(
                branch.ring, branch.origin, stream.end, now, last=last, meter=stream.meter
            ):
                batcher.offer(due)
            if lost := batcher.drop_overwritten(listener):
                events.append(self._dropped(lost, "dropped", "the model is too slow"))
        return events

    def settle(self, listeners: Iterable[StreamTagger]) -> list[Event]:
        """Runs batches until no window of these listeners waits."""
        events: list[Event] = []
        for listener in listeners:
            while listener.pending:
                events += self.run(self.batchers[listener.tagger])
        return events

    def run(self, batcher: Batcher, now: float = math.inf) -> list[Event]:
        """One batch, from windows to events."""
        dues = batcher.take()
        if now != math.inf:
            for due in dues:
                batcher.waits.add(now - due.offered)
        events: list[Event] = []
        for due, answer in zip(dues, batcher.score(dues), strict=True):
            if isinstance(answer, str):
                events.append(self._dropped([due], "failed", answer))
            else:
                events += due.listener.judge(due, answer)
        return events

    def _dropped(self, lost: list[PendingWindow], counter: str, why: str) -> WindowsDropped:
        listener = lost[-1].listener
        self._counters.add(counter, len(lost), tagger=listener.tagger)
        return WindowsDropped(listener.stream, listener.tagger, lost[-1].end, len(lost), why)
