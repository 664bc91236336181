"""Recordings: the events of a whole file, from the same engine that serves live streams."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from streamtag.audio.block import Block
from streamtag.engine.embeddings import saves_work
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, Reason, TagEnded, WindowScored, WindowsDropped
from streamtag.engine.mood import MoodPlane
from streamtag.engine.settings import LagPolicy, TaggerSettings
from streamtag.errors import StreamtagError
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger
from streamtag.model.threads import one_thread
from streamtag.model.watchdog import CallLimits

STREAM = "file"
"""The name of the stream in the engine; nobody sees it."""
_SMALL_BATCH = 8
"""Windows of the batch at the end of a recording that is not padded to a full one."""
MAX_SLACK_SECONDS = 60.0
"""A batch is not made of more audio than this, which the rings have to hold."""


CALL_SECONDS = 120.0
"""A model whose call takes longer hangs: the recording fails."""


@dataclass(frozen=True, slots=True)
class TagInterval:
    """A tag was on during [on, off)."""

    tag: str
    on: float
    """Seconds from the start of the recording."""
    off: float
    peak: float
    """Largest smoothed probability."""
    reason: Reason
    """Why it ended; `stream_closed` if it was on at the end."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The scores of the window [start, end)."""

    start: float
    """Seconds from the start of the recording."""
    end: float
    values: tuple[float, ...]
    """Probabilities in the order of the tags, before smoothing."""
    smoothed: tuple[float, ...]
    provisional: bool
    """The window was not full."""
    dimensions: tuple[float, ...] = ()
    """Valence and arousal, and the standard deviation of each, of a model that gives them."""


@dataclass(frozen=True, slots=True)
class MoodPoint:
    """Where a recording is on the mood plane (see `mood`), once a second."""

    t: float
    """Seconds from the start of the recording."""
    valence: float
    """From -1, unpleasant, to 1, pleasant."""
    arousal: float
    """From -1, at rest, to 1, excited."""
    certainty: float
    """From 0 (the model does not know the mood) to 1."""


@dataclass(frozen=True, slots=True)
class RecordingMood:
    """The mood of a whole recording: means over its full windows, or its last window if none is
    full."""

    valence: float
    arousal: float
    certainty: float
    tags: dict[str, float]
    """The mean probability of each tag of mood, also of those that are off by default."""
    over_time: tuple[MoodPoint, ...]
    """The points that the daemon publishes for a stream: they follow slowly."""


@dataclass(frozen=True, slots=True)
class TaggerResult:
    """What one tagger found in a recording."""

    hop_seconds: float
    """Between the ends of two windows, as it was used."""
    seconds: float
    """Length of the recording."""
    scores: tuple[ScoreRow, ...]
    events: tuple[TagInterval, ...]
    """In the order of their beginnings."""
    mood: RecordingMood | None = None
    """None if the model knows no moods, or the recording is too short."""


def tag_blocks(
    blocks: Iterable[Block],
    rate: int,
    taggers: Mapping[str, Tagger],
    *,
    settings: Mapping[str, TaggerSettings] | None = None,
    max_batch: int = 64,
    threads: int = 1,
    exact: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, TaggerResult]:
    """Tags a recording, however short.

    Args:
        blocks: the recording, from sample 0 on.
        rate: Hz.
        taggers: loaded bundles by name.
        settings: per tagger, changes to its card.
        max_batch: windows to run together where that is faster.
        threads: windows that a CPU scores at the same time. The results are the same with any
            number.
        exact: streaming nets too see whole windows.
        on_progress: called with the seconds of audio done.

    Returns:
        One result per tagger.

    Raises:
        StreamtagError: a model failed, a block does not fit, or what the source raises.
    """
    chosen = {name: (settings or {}).get(name, TaggerSettings()) for name in taggers}
    found = {
        name: _Found(tagger.card, chosen[name], MoodFold(tagger.card, rate))
        for name, tagger in taggers.items()
    }
    end = 0
    for now, events in recording_events(
        blocks, rate, taggers, settings=settings, max_batch=max_batch, threads=threads, exact=exact
    ):
        for name, one in found.items():
            one.add([e for e in events if getattr(e, "tagger", None) == name], rate)
        if on_progress and now > end:
            on_progress(now / rate)
        end = now
    return {name: one.result(end / rate) for name, one in found.items()}


def recording_events(
    blocks: Iterable[Block],
    rate: int,
    taggers: Mapping[str, Tagger],
    *,
    settings: Mapping[str, TaggerSettings] | None = None,
    max_batch: int = 64,
    threads: int = 1,
    exact: bool = False,
) -> Iterator[tuple[int, list[Event]]]:
    """The events of a recording, block by block; only what a block needs is in memory.

    For the arguments see `tag_blocks`.

    Yields:
        One past the last sample so far, and what became known by the block; last, what the end of
        the recording makes known.
    """
    chosen = {name: (settings or {}).get(name, TaggerSettings()) for name in taggers}
    hops = [one.hop_frames(taggers[name].card) / taggers[name].card.features.frame_rate
            for name, one in chosen.items()]  # fmt: skip
    slack = min(MAX_SLACK_SECONDS, max_batch * max(hops, default=0.0))
    end = 0
    with one_thread():
        engine = Engine(
            taggers, max_batch=max_batch, sizes=_sizes(taggers.values(), max_batch, exact),
            slack=slack, lag_policy=LagPolicy.WAIT, threads=threads, exact=exact,
            calls=CallLimits(CALL_SECONDS, 10 * CALL_SECONDS),
        )  # fmt: skip
        engine.open(STREAM, rate, taggers=chosen)
        for block in blocks:
            end = block.end
            yield end, _checked(engine.feed(STREAM, block))
        yield end, _checked(engine.close(STREAM))


def _sizes(taggers: Iterable[Tagger], max_batch: int, exact: bool) -> list[int] | None:
    """Fixed batch sizes for streaming nets on a CPU; None for those that the engine chooses.

    A recording gives large batches. Measuring and compiling other sizes takes as long as ten
    minutes of audio, and last bits would depend on the measurement.
    """
    small = all(t.device == "cpu" and not exact and saves_work(t.card) for t in taggers)
    return sorted({1, min(_SMALL_BATCH, max_batch), max_batch}) if small else None


def read_ahead(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same blocks; the next one is read, in a thread, while one is used."""
    iterator = iter(blocks)
    with ThreadPoolExecutor(1, "reader") as reader:
        coming = reader.submit(next, iterator, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, iterator, None)
            yield block


def _checked(events: list[Event]) -> list[Event]:
    """The events, unless a model failed."""
    for event in events:
        if isinstance(event, WindowsDropped):
            raise StreamtagError(
                f"tagger {event.tagger!r}: expected a result for every window, "
                f"but its model failed: {event.detail}"
            )
    return events


class MoodFold:
    """The mood of a recording, from its windows as they come."""

    def __init__(self, card: Card, rate: int) -> None:
        self._plane, self._rate, self._card = MoodPlane(card), rate, card
        self._means = Means()
        self.points: list[MoodPoint] = []
        """What the daemon would publish."""

    @property
    def is_known(self) -> bool:
        """Whether the model knows moods."""
        return self._plane.is_known

    def add(self, scored: Sequence[WindowScored]) -> list[list[float]]:
        """Takes the next windows; returns valence, arousal and certainty of each by itself."""
        if not (scored and self.is_known):
            return []
        moods = self._plane.moods(scored)
        for one, mood in zip(scored, moods, strict=True):
            self._means.add([*mood, *one.values], one.provisional)
            if (at := self._plane.update(one, mood, self._rate)) is not None:
                t = at.at / self._rate
                self.points.append(MoodPoint(t, at.valence, at.arousal, at.certainty))
        return moods

    def result(self) -> RecordingMood | None:
        """The mood of all windows so far; None if there is none, or the model knows none."""
        if (means := self._means.result()) is None:
            return None
        valence, arousal, certainty, *values = means.tolist()
        of_tags = zip(self._card.tags, values, strict=True)
        categories = self._card.categories
        tags = {t: value for t, value in of_tags if categories.get(t, "").startswith("mood")}
        return RecordingMood(valence, arousal, certainty, tags, tuple(self.points))


class Means:
    """Means over the full windows of a recording, or its last window if none is full."""

    def __init__(self) -> None:
        self._sum: np.ndarray | None = None
        self._n = 0
        self._last: np.ndarray | None = None

    def add(self, values: Sequence[float], provisional: bool) -> None:
        """Takes the values of the next window."""
        self._last = np.array(values, np.float64)
        if not provisional:
            self._sum = self._last if self._sum is None else self._sum + self._last
            self._n += 1

    def result(self) -> np.ndarray | None:
        """The means; None if there is no window."""
        return self._last if self._sum is None else self._sum / self._n


class _Found:
    """What one tagger has found so far."""

    def __init__(self, card: Card, settings: TaggerSettings, mood: MoodFold) -> None:
        self._hop_seconds = settings.hop_frames(card) / card.features.frame_rate
        self._mood = mood
        self._scores: list[ScoreRow] = []
        self._events: list[TagInterval] = []

    def add(self, events: Sequence[Event], rate: int) -> None:
        scored = [e for e in events if isinstance(e, WindowScored)]
        self._mood.add(scored)
        self._scores += [score_row(e, rate) for e in scored]
        self._events += [interval(e, rate) for e in events if isinstance(e, TagEnded)]

    def result(self, seconds: float) -> TaggerResult:
        events = tuple(sorted(self._events, key=lambda one: (one.on, one.tag)))
        scores, mood = tuple(self._scores), self._mood.result()
        return TaggerResult(self._hop_seconds, seconds, scores, events, mood)


def score_row(e: WindowScored, rate: int) -> ScoreRow:
    """The scores of a window, in seconds."""
    values, smoothed = tuple(e.values), tuple(e.smoothed)
    dimensions = tuple(e.dimensions)
    return ScoreRow(e.start / rate, e.end / rate, values, smoothed, e.provisional, dimensions)


def interval(e: TagEnded, rate: int) -> TagInterval:
    """When a tag was on, in seconds."""
    return TagInterval(e.tag, e.since / rate, e.at / rate, e.peak, e.reason)
