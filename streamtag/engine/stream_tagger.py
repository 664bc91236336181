"""One stream as one tagger hears it: which windows are due, and what their results mean."""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from streamtag._core import FrameRing
from streamtag.audio.level import Meter
from streamtag.engine.branch import Branch
from streamtag.engine.events import Event, Reason, TagEnded, TagStarted, WindowScored
from streamtag.engine.settings import Settings
from streamtag.engine.smoothing import Hysteresis, Smoother, Switch
from streamtag.engine.windows import Window, Windower
from streamtag.model.card import Card

SILENCE_TAG = "silence"
"""A tag of this name may be on while a stream is silent; all others are switched off then."""


@dataclass(frozen=True, slots=True, eq=False)
class PendingWindow:
    """A window that waits to be scored."""

    listener: "StreamTagger"
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
    meter: Meter | None = None
    """Knows whether it is inside a silence: then it gets its scores, but switches nothing."""

    @property
    def overwritten(self) -> bool:
        """The ring has lost its first frames: it can be scored no more."""
        return self.window.first < self.ring.begin


class StreamTagger:
    """One stream as one tagger hears it: which windows are due, and what their results mean.

    Args:
        stream: name, for the events.
        tagger: name, for the events.
        card: the tagger's.
        settings: changes to the card.
        rate: Hz, of the stream.
    """

    def __init__(self, stream: str, tagger: str, card: Card, settings: Settings, rate: int) -> None:
        self.stream, self.tagger, self.card, self.settings = stream, tagger, card, settings
        self.pending: deque[PendingWindow] = deque()
        """Due windows, oldest first; the tagger's batcher adds and takes them."""
        self._rate = rate
        self.middle: int | None = None
        """Sample in the middle of the newest window judged; None where there was none."""
        self._smoothed: np.ndarray | None = None
        self._full_since: int | None = None
        self._heard = -1
        self.hop_frames = settings.hop_frames(card)
        self._of_silence = np.array([tag == SILENCE_TAG for tag in card.tags])
        self._windower = Windower(card.window_frames, self.hop_frames, card.first_frames)
        smoothing, min_on, min_off = settings.times(card)
        self._settling = rate * float(3 * smoothing.max() + min_on.max())
        self._smoother = Smoother(smoothing, rate)
        self._hysteresis = Hysteresis(*settings.thresholds(card), rate * min_on, rate * min_off)

    def retune(self, settings: Settings, branch: Branch, at: int) -> list[Event]:
        """Other settings from the next window on.

        Returns:
            What goes off at sample `at` because it may not be on any more.
        """
        smoothing, min_on, min_off = settings.times(self.card)
        high, low = settings.thresholds(self.card)
        self.settings = settings
        self.hop_frames = settings.hop_frames(self.card)
        self._windower.retune(self.hop_frames, branch.ring.end)
        self._smoother.retune(smoothing)
        rate = self._rate
        gone = self._hysteresis.retune(high, low, rate * min_on, rate * min_off, at)
        return [self._tag_off(switch, at, Reason.CONFIGURATION) for switch in gone]

    def join(self, branch: Branch) -> None:
        """Begins to listen in the middle of a stream, to the windows that end after now."""
        branch.listeners.append(self)
        self._windower.skip(branch.ring.end)

    def take_over(self, tagger: str, at: int, decided: int) -> list[Event]:
        """Speaks for `tagger` from here on: what is on is said to begin at sample `at`."""
        self.tagger = tagger
        if self._smoothed is None:
            return []
        return [
            TagStarted(self.stream, tagger, self.card.tags[s.tag], at, decided, s.peak, False)
            for s in self._hysteresis.restate(self._smoothed, at)
        ]

    @property
    def on(self) -> frozenset[str]:
        """Tags that are on."""
        return frozenset(self.card.tags[tag] for tag in np.flatnonzero(self._hysteresis.on))

    @property
    def settled(self) -> bool:
        """It has heard full windows for so long that it does not matter when it began."""
        return self._heard >= self._settling

    def begin(self) -> None:
        """Audio is missing, and the frames are counted from 0 again; what is on stays on."""
        self._windower.reset()
        self._smoother.reset()
        self._hysteresis.interrupt()

    def listen(
        self,
        ring: FrameRing,
        origin: int,
        end: int,
        now: float,
        *,
        last: bool,
        meter: Meter | None = None,
    ) -> list[PendingWindow]:
        """The windows that have become due.

        Args:
            ring: the stream's frames, counted since `origin`.
            origin: first sample of the stretch without gaps.
            end: one past the last sample that has arrived.
            now: when.
            last: there will be no more frames.
            meter: of the stream; without one nothing is ever silent.
        """
        windows = self._windower.last(ring.end) if last else self._windower.due(ring.end)
        return [self._due(window, ring, origin, end, now, meter) for window in windows]

    def judge(self, due: PendingWindow, probabilities: np.ndarray) -> list[Event]:
        """What the result of a window means.

        Args:
            due: the window; those of one listener come oldest first.
            probabilities: (n_tags,) float32.
        """
        smoothed = self._smoother.update(probabilities, due.end)
        self._smoothed, self.middle = smoothed, (due.start + due.end) // 2
        if not due.window.provisional:
            self._full_since = due.end if self._full_since is None else self._full_since
            self._heard = due.end - self._full_since
        events: list[Event] = [
            WindowScored(
                self.stream,
                self.tagger,
                due.start,
                due.end,
                tuple(probabilities.tolist()),
                tuple(smoothed.tolist()),
                due.window.provisional,
            )
        ]
        only = None
        if due.meter is not None and (hush := due.meter.hush(due.end)):
            events = self.hush(hush.at, hush.known) + events
            only = self._of_silence
        for switch in self._hysteresis.update(smoothed, self.middle, due.end, only):
            if switch.on:
                events.append(self._tag_on(switch, due, float(smoothed[switch.tag])))
            else:
                events.append(self._tag_off(switch, due.end, Reason.BELOW_THRESHOLD))
        return events

    def close(self, at: int, reason: Reason, decided: int | None = None) -> list[Event]:
        """Ends every tag that is on, at sample `at`; decided there too, if not later."""
        decided = at if decided is None else decided
        return [self._tag_off(switch, decided, reason) for switch in self._hysteresis.close(at)]

    def hush(self, at: int, decided: int) -> list[Event]:
        """Ends every tag that is on, because it has been silent since sample `at`.

        A tag that is called `silence` stays: it is the one that is true.

        Args:
            at: a tag that began later (in the middle of a window that still heard something)
                ends where it began.
            decided: one past the last sample that was needed to know it.
        """
        return [
            self._tag_off(replace(s, at=max(at, s.since)), decided, Reason.SILENCE)
            for s in self._hysteresis.close(at, self._of_silence)
        ]

    def _due(
        self,
        window: Window,
        ring: FrameRing,
        origin: int,
        end: int,
        now: float,
        meter: Meter | None,
    ) -> PendingWindow:
        first, last = self.card.features.span(window.first, window.end)
        rate, to_rate = self.card.features.sample_rate, self._rate
        start = origin + max(first, 0) * to_rate // rate
        stop = min(origin - (-last * to_rate // rate), end)
        return PendingWindow(self, ring, window, min(start, stop), stop, now, meter)

    def _tag_on(self, switch: Switch, due: PendingWindow, probability: float) -> TagStarted:
        return TagStarted(
            self.stream,
            self.tagger,
            self.card.tags[switch.tag],
            switch.at,
            due.end,
            probability,
            due.window.provisional,
        )

    def _tag_off(self, switch: Switch, decided: int, reason: Reason) -> TagEnded:
        tag = self.card.tags[switch.tag]
        return TagEnded(
            self.stream, self.tagger, tag, switch.at, decided, switch.since, switch.peak, reason
        )
