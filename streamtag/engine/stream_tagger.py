"""One tagger on one stream: which windows are due, and what their results mean."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtag._core import FrameRing
from streamtag.audio.level import LevelMeter
from streamtag.engine.embeddings import EmbeddingBuffer
from streamtag.engine.events import Event, Reason, TagEnded, TagStarted, WindowScored
from streamtag.engine.settings import TaggerSettings
from streamtag.engine.smoothing import Settled, Switch, SwitchBank, SwitchSettings
from streamtag.engine.windows import Window, Windower
from streamtag.model.card import Card

SILENCE_TAG = "silence"
"""A tag of this name may be on while a stream is silent. All others are switched off then."""


@dataclass(frozen=True, slots=True, eq=False)
class PendingWindow:
    """A window that waits to be scored."""

    stream_tagger: "StreamTagger"
    """The stream tagger that gets the result."""
    ring: FrameRing
    """Where its frames are."""
    window: Window
    start: int
    """First sample of the stream that it covers."""
    end: int
    """One past the last one."""
    due_at: float
    """`now` when it became due."""

    @property
    def middle(self) -> int:
        """The sample that stands for its time."""
        return (self.start + self.end) // 2

    @property
    def first_frame(self) -> int:
        """The first frame that its score needs."""
        return max(0, self.window.first - self.stream_tagger.margin)

    @property
    def overwritten(self) -> bool:
        """The ring has lost its first frames: it can be scored no more."""
        return self.first_frame < self.ring.begin

    @property
    def buffer(self) -> EmbeddingBuffer | None:
        """The embeddings of its stream; None if the model has to see the whole window."""
        buffer = self.stream_tagger.embeddings
        return buffer if buffer and buffer.serves(self.window) else None


class StreamTagger:
    """The state of one tagger on one stream of `rate` Hz. The settings are changes to the card.

    With `streaming` it keeps the stream's embeddings; the card has a trunk then.
    """

    def __init__(
        self,
        stream: str,
        tagger: str,
        card: Card,
        settings: TaggerSettings,
        rate: int,
        *,
        streaming: bool = False,
        bank: SwitchBank | None = None,
    ) -> None:
        self.stream, self.tagger, self.card, self.settings = stream, tagger, card, settings
        self.level: LevelMeter | None = None
        """The stream's, which knows its silences; a `Stream` sets it."""
        self.last_middle: int | None = None
        """Sample in the middle of the newest window that was scored; None before the first."""
        self.hop_frames = settings.hop_frames(card)
        self.embeddings = EmbeddingBuffer(card, self.hop_frames) if streaming else None
        """The final embeddings, if windows are scored by them."""
        self._rate = rate
        self._full_since: int | None = None  # end of the first window that was full
        self._full_samples = -1  # between the ends of the first and the newest full window
        self._is_silence_tag = np.array([tag == SILENCE_TAG for tag in card.tags])
        self._windower = Windower(card.window_frames, self.hop_frames, card.first_frames)
        smoothing, min_on, _ = settings.times(card)
        self._converges_after = rate * float(3 * smoothing.max() + min_on.max())
        self.bank = SwitchBank(len(card.tags)) if bank is None else bank
        """The state of its tags, in row `row`, beside that of other streams."""
        self.row = self.bank.add(self._switch_settings(settings))

    @property
    def margin(self) -> int:
        """Frames before a window that its score may need."""
        return self.embeddings.margin if self.embeddings else 0

    @property
    def next_end(self) -> int:
        """Frames that make its next window due."""
        return self._windower.next_end

    @property
    def active_tags(self) -> frozenset[str]:
        """Tags that are on."""
        return frozenset(self.card.tags[tag] for tag in np.flatnonzero(self.bank.on(self.row)))

    @property
    def converged(self) -> bool:
        """Whether it has had full windows for long enough that its beginning does not matter."""
        return self._full_samples >= self._converges_after

    def update_settings(self, settings: TaggerSettings, n_frames: int, at: int) -> list[Event]:
        """Other settings from the next window on.

        Args:
            settings: the new ones.
            n_frames: frames so far.
            at: sample at which tags end that may not be on any more.
        """
        new = self._switch_settings(settings)
        self.settings = settings
        self.hop_frames = settings.hop_frames(self.card)
        self._windower.set_hop(self.hop_frames, n_frames)
        if self.embeddings:
            self.embeddings.set_hop(self.hop_frames)
        switches = self.bank.update_settings(self.row, new, at)
        return [self._ended(switch, at, Reason.CONFIGURATION) for switch in switches]

    def skip(self, n_frames: int) -> None:
        """Begins in the middle of a stream, with the windows that end after `n_frames`."""
        self._windower.skip(n_frames)

    def promote(self, tagger: str, at: int, decided: int) -> list[Event]:
        """Takes the name of `tagger` from here on. What is on begins anew at sample `at`."""
        self.tagger = tagger
        switches = self.bank.restate(self.row, at)
        return [self._started(switch, decided, switch.peak, False) for switch in switches]

    def restart(self) -> None:
        """Audio is missing, and frames are counted from 0 again. What is on stays on."""
        self._windower.reset()
        if self.embeddings:
            self.embeddings.clear()
        self.bank.restart(self.row)

    def due_windows(
        self, ring: FrameRing, origin: int, end: int, now: float, *, last: bool
    ) -> list[PendingWindow]:
        """The windows that have become due.

        Args:
            ring: the stream's frames, counted since `origin`.
            origin: first sample of the stretch without gaps.
            end: one past the last sample that has arrived.
            now: when.
            last: there will be no more frames.
        """
        windows = self._windower.last(ring.end) if last else self._windower.due(ring.end)
        return [self._pending(window, ring, origin, end, now) for window in windows]

    def close(self, at: int, reason: Reason, decided: int | None = None) -> list[Event]:
        """Ends every tag that is on, at sample `at`; decided there too, if not later."""
        decided = at if decided is None else decided
        return [self._ended(switch, decided, reason) for switch in self.bank.close(self.row, at)]

    def end_for_silence(self, at: int, decided: int) -> list[Event]:
        """Ends every tag that is on but `silence`, because it has been silent since sample `at`.

        Args:
            at: a tag that began later (in the middle of a window that still contained sound)
                ends where it began.
            decided: one past the last sample that was needed to know it.
        """
        switches = self.bank.close(self.row, at, self._is_silence_tag)
        return [self._ended(switch, decided, Reason.SILENCE) for switch in switches]

    def release(self) -> None:
        """Frees its row in the bank. It must not be used afterwards."""
        self.bank.release(self.row)

    def _pending(
        self, window: Window, ring: FrameRing, origin: int, end: int, now: float
    ) -> PendingWindow:
        first, last = self.card.features.span(window.first, window.end)
        rate, to_rate = self.card.features.sample_rate, self._rate
        start = origin + max(first, 0) * to_rate // rate
        stop = min(origin - (-last * to_rate // rate), end)
        return PendingWindow(self, ring, window, min(start, stop), stop, now)

    def _switch_settings(self, settings: TaggerSettings) -> SwitchSettings:
        smoothing, min_on, min_off = (self._rate * times for times in settings.times(self.card))
        settled = Settled.of(settings, self.card, self._rate)
        return SwitchSettings(*settings.thresholds(self.card), min_on, min_off, smoothing, settled)

    def _count(self, pending: PendingWindow) -> None:
        """Notes how far it has come."""
        self.last_middle = pending.middle
        if not pending.window.provisional:
            self._full_since = pending.end if self._full_since is None else self._full_since
            self._full_samples = pending.end - self._full_since

    def _scored(
        self,
        pending: PendingWindow,
        values: Sequence[float],
        smoothed: Sequence[float],
        further: Sequence[float],
    ) -> WindowScored:
        start, end, provisional = pending.start, pending.end, pending.window.provisional
        return WindowScored(
            self.stream, self.tagger, start, end, values, smoothed, provisional, further
        )

    def _switched(self, switch: Switch, pending: PendingWindow, smoothed: Sequence[float]) -> Event:
        if not switch.on:
            return self._ended(switch, pending.end, Reason.BELOW_THRESHOLD)
        probability, provisional = smoothed[switch.tag], pending.window.provisional
        return self._started(switch, pending.end, probability, provisional)

    def _started(
        self, switch: Switch, decided: int, probability: float, provisional: bool
    ) -> TagStarted:
        tag = self.card.tags[switch.tag]
        return TagStarted(
            self.stream, self.tagger, tag, switch.at, decided, probability, provisional
        )

    def _ended(self, switch: Switch, decided: int, reason: Reason) -> TagEnded:
        tag = self.card.tags[switch.tag]
        return TagEnded(
            self.stream, self.tagger, tag, switch.at, decided, switch.since, switch.peak, reason
        )


def update_all(scored: Sequence[tuple[PendingWindow, np.ndarray]]) -> list[list[Event]]:
    """What the results of windows, (n_outputs,) float32 each, mean, window by window.

    Their stream taggers share a bank. The windows of a stream come oldest first.
    """
    made: list[list[Event]] = []
    first = 0
    while first < len(scored):  # as many as come before a second window of the same stream
        last, seen = first, set[StreamTagger]()
        while last < len(scored) and scored[last][0].stream_tagger not in seen:
            seen.add(scored[last][0].stream_tagger)
            last += 1
        windows, answers = zip(*scored[first:last], strict=True)
        made += _update_each(windows, np.array(answers, np.float64))
        first = last
    return made


def _update_each(windows: Sequence[PendingWindow], outputs: np.ndarray) -> list[list[Event]]:
    """`update_all` for one window of each stream; `outputs` is (n, n_outputs) float64."""
    made: list[list[Event]] = [[] for _ in windows]
    may_switch: dict[int, np.ndarray] = {}
    taggers = [pending.stream_tagger for pending in windows]
    for i, (tagger, pending) in enumerate(zip(taggers, windows, strict=True)):
        tagger._count(pending)
        if tagger.level is not None and (silence := tagger.level.silence_at(pending.end)):
            at, known, _ = silence
            made[i] += tagger.end_for_silence(at, known)
            may_switch[i] = tagger._is_silence_tag
    rows, middles = [one.row for one in taggers], [one.middle for one in windows]
    ends = [one.end for one in windows]
    n_tags, n_outputs = len(taggers[0].card.tags), outputs.shape[1]
    probabilities = outputs[:, :n_tags]
    smoothed, switches = taggers[0].bank.update(rows, probabilities, middles, ends, may_switch)
    values = [array("d", row.tobytes()) for row in probabilities]
    further = outputs[:, n_tags:].tolist() if n_outputs > n_tags else [()] * len(windows)
    after = [array("d", row.tobytes()) for row in smoothed]
    for i, (tagger, pending) in enumerate(zip(taggers, windows, strict=True)):
        made[i].append(tagger._scored(pending, values[i], after[i], tuple(further[i])))
        made[i] += [tagger._switched(switch, pending, after[i]) for switch in switches[i]]
    return made
