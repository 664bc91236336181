"""One stream inside the engine: its resamplers, front ends and rings, and who listens to it."""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamtag.audio import Block, Resampler
from streamtag.card import Card
from streamtag.errors import StreamError
from streamtag.events import Event, Reason, Scores, TagOff, TagOn
from streamtag.features import FeatureConfig, FrameRing, FrontEnd
from streamtag.settings import Behind, Settings
from streamtag.smoothing import Hysteresis, Smoother, Switch
from streamtag.window import Window, Windower


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """A window that waits to be scored."""

    listener: "Listener"
    """Who gets the result."""
    ring: FrameRing
    """Where its frames are."""
    window: Window
    start: int
    """First sample of the stream that it hears."""
    end: int
    """One past the last one."""
    offered: float
    """`now` when it became due."""

    @property
    def overwritten(self) -> bool:
        """The ring has lost its first frames: it can be scored no more."""
        return self.window.first < self.ring.begin


class Listener:
    """One stream as one tagger hears it: which windows are due, and what their results mean.

    Args:
        stream: name, for the events.
        tagger: name, for the events.
        card: the tagger's.
        settings: changes to the card.
        rate: Hz, of the stream.
    """

    def __init__(self, stream: str, tagger: str, card: Card, settings: Settings, rate: int) -> None:
        self.stream, self.tagger, self.card = stream, tagger, card
        self.pending: deque[Due] = deque()
        """Due windows, oldest first; the tagger's batcher adds and takes them."""
        self._rate = rate
        self.hop_frames = settings.hop_frames(card)
        self._windower = Windower(card.window_frames, self.hop_frames, card.first_frames)
        smoothing, min_on, min_off = settings.times(card)
        self._smoother = Smoother(smoothing, rate)
        self._hysteresis = Hysteresis(*settings.thresholds(card), rate * min_on, rate * min_off)

    def begin(self) -> None:
        """Audio is missing, and the frames are counted from 0 again; what is on stays on."""
        self._windower.reset()
        self._smoother.reset()
        self._hysteresis.interrupt()

    def listen(
        self, ring: FrameRing, origin: int, end: int, now: float, *, last: bool
    ) -> list[Due]:
        """The windows that have become due.

        Args:
            ring: the stream's frames, counted since `origin`.
            origin: first sample of the stretch without gaps.
            end: one past the last sample that has arrived.
            now: when.
            last: there will be no more frames.
        """
        windows = self._windower.last(ring.end) if last else self._windower.due(ring.end)
        return [self._due(window, ring, origin, end, now) for window in windows]

    def judge(self, due: Due, probabilities: np.ndarray) -> list[Event]:
        """What the result of a window means.

        Args:
            due: the window; those of one listener come oldest first.
            probabilities: (n_tags,) float32.
        """
        smoothed = self._smoother.update(probabilities, due.end)
        events: list[Event] = [
            Scores(
                self.stream,
                self.tagger,
                due.start,
                due.end,
                tuple(probabilities.tolist()),
                tuple(smoothed.tolist()),
                due.window.provisional,
            )
        ]
        for switch in self._hysteresis.update(smoothed, (due.start + due.end) // 2, due.end):
            if switch.on:
                events.append(self._tag_on(switch, due, float(smoothed[switch.tag])))
            else:
                events.append(self._tag_off(switch, due.end, Reason.BELOW_THRESHOLD))
        return events

    def close(self, at: int, reason: Reason) -> list[Event]:
        """Ends every tag that is on."""
        return [self._tag_off(switch, at, reason) for switch in self._hysteresis.close(at)]

    def _due(self, window: Window, ring: FrameRing, origin: int, end: int, now: float) -> Due:
        first, last = self.card.features.span(window.first, window.end)
        rate, to_rate = self.card.features.sample_rate, self._rate
        start = origin + max(first, 0) * to_rate // rate
        stop = min(origin - (-last * to_rate // rate), end)
        return Due(self, ring, window, min(start, stop), stop, now)

    def _tag_on(self, switch: Switch, due: Due, probability: float) -> TagOn:
        return TagOn(
            self.stream,
            self.tagger,
            self.card.tags[switch.tag],
            switch.at,
            due.end,
            probability,
            due.window.provisional,
        )

    def _tag_off(self, switch: Switch, decided: int, reason: Reason) -> TagOff:
        tag = self.card.tags[switch.tag]
        return TagOff(
            self.stream, self.tagger, tag, switch.at, decided, switch.since, switch.peak, reason
        )


class Branch:
    """One front end of a stream, with the listeners that share it.

    Args:
        config: of the front end.
        listeners: at least one.
        slack_seconds: how much longer than the longest window the ring is.
    """

    def __init__(
        self, config: FeatureConfig, listeners: list[Listener], slack_seconds: float
    ) -> None:
        self.config, self.listeners = config, listeners
        flush = config.span(0, 1)[1] // config.frame_hop + 2  # what `close` may add at once
        slack = math.ceil(slack_seconds * config.frame_rate)
        self.flush = flush * config.frame_hop
        """Samples that make at least as many frames as the end of the stream does."""
        slack = max(slack, flush + 1, 2 * max(listener.hop_frames for listener in listeners))
        longest = max(listener.card.window_frames for listener in listeners)
        self.front_end = FrontEnd(config, longest + slack)
        self.piece = max(1, (slack - 1) // 2) * config.frame_hop
        """Samples, at most, to push at once: they make at most `slack` frames."""

    @property
    def ring(self) -> FrameRing:
        return self.front_end.ring

    def finish(self, *, last: bool) -> None:
        """Makes the last frames. A whole stream shorter than one frame gets silence to fill it."""
        heard, needed = self.front_end.position, self.config.span(0, 1)[1]
        if last and not self.ring.end and 0 < heard < needed and not self.config.delay:
            self.front_end.push(np.zeros(needed - heard, np.float32))
        self.front_end.close()

    def has_room(self, n_samples: int) -> bool:
        """Whether that many more samples would overwrite no frame that a pending window needs."""
        begin = self.ring.end + n_samples // self.config.frame_hop + 1 - self.ring.capacity
        return all(
            begin <= listener.pending[0].window.first
            for listener in self.listeners
            if listener.pending
        )


class Job(NamedTuple):
    """Samples for one front end of a stream."""

    stream: "Stream"
    branch: Branch
    samples: np.ndarray


class Stream:
    """A named source of audio, as the engine knows it.

    Args:
        name: of the stream.
        rate: Hz.
        start: index of its first sample.
        branches: its front ends.
        behind: what to do when a model is too slow.
    """

    def __init__(
        self, name: str, rate: int, start: int, branches: list[Branch], behind: Behind
    ) -> None:
        self.name, self.rate, self.branches, self.behind = name, rate, branches, behind
        self.origin = start
        """First sample since the last gap."""
        self.end = start
        """One past the last sample that has arrived: where the next block must begin."""
        self.nonfinite = 0
        """Samples so far that were NaN or infinite and counted as 0."""
        rates = {branch.config.sample_rate for branch in branches}
        self._resamplers = {to_rate: Resampler(rate, to_rate) for to_rate in sorted(rates)}

    @property
    def listeners(self) -> list[Listener]:
        return [listener for branch in self.branches for listener in branch.listeners]

    def check(self, block: Block, end: int) -> None:
        """Refuses a block that cannot follow sample `end`.

        Raises:
            StreamError: another rate, or it begins before.
        """
        if block.rate != self.rate:
            raise StreamError(self.name, f"expected blocks at {self.rate} Hz, got {block.rate} Hz")
        if block.start < end:
            raise StreamError(
                self.name,
                f"expected a block that begins at sample {end} or later, got one at "
                f"{block.start}; audio cannot be taken back",
            )

    def take(self, block: Block) -> list[Job]:
        """Samples for each front end; what is not finite becomes 0 before a filter smears it."""
        self.end = block.end
        samples = block.samples
        if not (finite := np.isfinite(samples)).all():
            self.nonfinite += len(samples) - int(np.count_nonzero(finite))
            samples = np.where(finite, samples, np.float32(0))
        return self._jobs({r: s.push(samples) for r, s in self._resamplers.items()})

    def flush(self) -> list[Job]:
        """The last samples for each front end."""
        return self._jobs({r: s.close() for r, s in self._resamplers.items()})

    def begin(self, start: int) -> None:
        """Begins anew at sample `start`, after a gap."""
        self.origin = self.end = start
        for resampler in self._resamplers.values():
            resampler.reset()
        for branch in self.branches:
            branch.front_end.reset()
        for listener in self.listeners:
            listener.begin()

    def _jobs(self, by_rate: dict[int, np.ndarray]) -> list[Job]:
        jobs = [Job(self, b, by_rate[b.config.sample_rate]) for b in self.branches]
        return [job for job in jobs if len(job.samples)]
