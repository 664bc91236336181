"""Recordings joined to streams and run through the engine.

All positions are samples at the rate of the bundle's front end. Every recording is resampled on its
own, so that files of different rates can follow one another in one stream.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamtag.audio.block import Block
from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import Event, TagEnded, TagStarted, WindowScored, WindowsDropped
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import StreamtagError
from streamtag.model.tagger import Tagger
from streamtag.model.threads import usable_threads

TAGGER = "model"
"""The name of the tagger in the engine."""


@dataclass(frozen=True, slots=True)
class PlaylistSpan:
    """A recording as a part of a stream: samples [start, end)."""

    recording: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ActivePeriods:
    """When tags were on, as the events say; (n,) int64 each, sorted by `decided`."""

    tag: np.ndarray
    at: np.ndarray
    """Begin of the period, as in the event."""
    decided: np.ndarray
    """One past the last sample that the switch-on needed."""
    until: np.ndarray
    """One past the last sample that the switch-off needed."""

    def of(self, tag: int) -> "ActivePeriods":
        """The periods of one tag, which do not overlap."""
        mine = self.tag == tag
        return ActivePeriods(self.tag[mine], self.at[mine], self.decided[mine], self.until[mine])

    def state(self, moments: np.ndarray, n_tags: int) -> np.ndarray:
        """(n_moments, n_tags) bool: which tags are on just before sample `moments[i]`."""
        state = np.zeros((len(moments), n_tags), bool)
        for tag in np.unique(self.tag):
            mine = self.of(int(tag))
            k = np.searchsorted(mine.decided, moments, side="right") - 1
            state[:, tag] = (k >= 0) & (mine.until[k] > moments)
        return state


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The scores and events of one stream."""

    spans: tuple[PlaylistSpan, ...]
    active: ActivePeriods
    snapshots: Mapping[tuple[int, float], np.ndarray]
    """By position in `spans` and seconds since its start: the newest smoothed probabilities at that
    time, (n_tags,), NaN before the first; missing if the recording is shorter."""

    @property
    def end(self) -> int:
        """Number of samples."""
        return self.spans[-1].end

    def position(self, ends: np.ndarray) -> np.ndarray:
        """The index in `spans` of the sample before each of `ends`."""
        last = np.array([span.end for span in self.spans])
        out: np.ndarray = np.minimum(np.searchsorted(last, np.maximum(ends, 1)), len(last) - 1)
        return out


def alternating_order(truth: np.ndarray, rng: np.random.Generator) -> list[int]:
    """A random order of the rows in which neighbours differ as far as possible.

    Args:
        truth: (n, n_tags) bool.
        rng: source of randomness.
    """
    keys = [row.tobytes() for row in truth]
    waiting = deque(rng.permutation(len(truth)).tolist())
    left = Counter(keys)
    order: list[int] = []
    while waiting:
        if order and left[keys[order[-1]]] < len(waiting):
            while keys[waiting[0]] == keys[order[-1]]:
                waiting.rotate(-1)
        order.append(waiting.popleft())
        left[keys[order[-1]]] -= 1
    return order


def run_playlist(
    tagger: Tagger,
    settings: TaggerSettings,
    lists: Sequence[Sequence[int]],
    samples_of: Callable[[int], np.ndarray],
    delays: Sequence[float],
    on_progress: Callable[[int], None],
) -> list[StreamResult]:
    """Runs streams side by side through one engine, recording after recording.

    Args:
        tagger: a loaded bundle.
        settings: of the tagger.
        lists: numbers of recordings, per stream, in their order.
        samples_of: gives a recording, (n,) float32.
        delays: seconds after the start of each recording at which scores are recorded.
        on_progress: called with the number of recordings that are done.

    Raises:
        StreamtagError: the model failed.
    """
    rate, threads = tagger.card.features.sample_rate, usable_threads()
    n = 64 if tagger.device != "cpu" else threads
    slack = min(60.0, n * settings.hop_frames(tagger.card) / tagger.card.features.frame_rate)
    engine = Engine({TAGGER: tagger}, slack=slack, lag_policy=LagPolicy.WAIT, threads=threads)
    recorders = [_StreamRecorder(tagger.card.tags, rate, delays) for _ in lists]
    for number in range(len(lists)):
        engine.open(f"{number}", rate, taggers={TAGGER: settings})
    done = 0
    for turn in range(max(map(len, lists), default=0)):
        blocks = []
        for number, (recordings, recorder) in enumerate(zip(lists, recorders, strict=True)):
            if turn < len(recordings):
                block = Block(samples_of(recordings[turn]), recorder.end, rate)
                recorder.begin(recordings[turn], block.end)
                blocks.append((f"{number}", block))
        _dispatch(engine.feed_many(blocks), recorders)
        done += len(blocks)
        on_progress(done)
    _dispatch(engine.close_many(engine.streams), recorders)
    return [recorder.finished() for recorder in recorders]


class _StreamRecorder:
    """Records what the figures need of one stream's events.

    Args:
        tags: tags of the bundle.
        rate: Hz of the stream.
        delays: seconds after each start at which scores are recorded, rising.
    """

    def __init__(self, tags: Sequence[str], rate: int, delays: Sequence[float]) -> None:
        self.end = 0
        """Samples so far."""
        self._spans: list[PlaylistSpan] = []
        self._active: list[tuple[int, int, int, int]] = []
        self._snapshots: dict[tuple[int, float], np.ndarray] = {}
        self._index: Mapping[str, int] = {tag: i for i, tag in enumerate(tags)}
        self._rate, self._delays = rate, delays
        self._due: deque[tuple[int, tuple[int, float]]] = deque()
        self._open: dict[int, TagStarted] = {}
        self._newest = np.full(len(tags), np.nan)

    def begin(self, recording: int, end: int) -> None:
        """Announces the next recording, which ends at sample `end`."""
        position = len(self._spans)
        self._spans.append(PlaylistSpan(recording, self.end, end))
        for delay in self._delays:
            if (at := self.end + round(delay * self._rate)) <= end:
                self._due.append((at, (position, delay)))
        self.end = end

    def add(self, event: Event) -> None:
        """Records the next event of the stream."""
        if isinstance(event, WindowScored):
            self._take_snapshots(event.end)
            self._newest = np.array(event.smoothed)
        elif isinstance(event, TagStarted):
            self._open[self._index[event.tag]] = event
        elif isinstance(event, TagEnded):
            tag = self._index[event.tag]
            on = self._open.pop(tag)
            self._active.append((on.decided, tag, on.at, event.decided))
        elif isinstance(event, WindowsDropped):
            raise StreamtagError(
                f"tagger {event.tagger!r}: expected a result for every window, "
                f"but its model failed: {event.detail}"
            )

    def finished(self) -> StreamResult:
        """The result after the last event."""
        self._take_snapshots(self.end + 1)
        table = np.array(sorted(self._active), np.int64).reshape(-1, 4)
        decided, tag, at, until = table.T
        return StreamResult(
            tuple(self._spans), ActivePeriods(tag, at, decided, until), self._snapshots
        )

    def _take_snapshots(self, end: int) -> None:
        """Stores the newest scores for all moments before `end`."""
        while self._due and self._due[0][0] < end:
            self._snapshots[self._due.popleft()[1]] = self._newest


def _dispatch(events: Sequence[Event], recorders: Sequence[_StreamRecorder]) -> None:
    """Gives each event to the recorder of its stream."""
    for event in events:
        recorders[int(event.stream)].add(event)
