"""Recordings: the events of a whole file, from the same engine that serves live streams."""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """From 0, the model says nothing of moods, to 1."""


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
    """None if the model says nothing of moods, or the recording is too short."""


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
    hops = {
        name: chosen[name].hop_frames(tagger.card) / tagger.card.features.frame_rate
        for name, tagger in taggers.items()
    }
    slack = min(MAX_SLACK_SECONDS, max_batch * max(hops.values(), default=0.0))
    events: list[Event] = []
    end = 0
    with one_thread():
        engine = Engine(
            taggers, max_batch=max_batch, sizes=_sizes(taggers.values(), max_batch, exact),
            slack=slack, lag_policy=LagPolicy.WAIT, threads=threads, exact=exact,
            calls=CallLimits(CALL_SECONDS, 10 * CALL_SECONDS),
        )  # fmt: skip
        engine.open(STREAM, rate, taggers=chosen)
        for block in blocks:
            events += _checked(engine.feed(STREAM, block))
            end = block.end
            if on_progress:
                on_progress(end / rate)
        events += _checked(engine.close(STREAM))
    return {
        name: TaggerResult(
            hop,
            end / rate,
            _scores(events, name, rate),
            _intervals(events, name, rate),
            _mood(events, name, taggers[name].card, rate),
        )
        for name, hop in hops.items()
    }


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


def _scores(events: list[Event], tagger: str, rate: int) -> tuple[ScoreRow, ...]:
    return tuple(
        ScoreRow(
            e.start / rate,
            e.end / rate,
            tuple(e.values),
            tuple(e.smoothed),
            e.provisional,
            tuple(e.dimensions),
        )
        for e in events
        if isinstance(e, WindowScored) and e.tagger == tagger
    )


def _intervals(events: list[Event], tagger: str, rate: int) -> tuple[TagInterval, ...]:
    ended = [e for e in events if isinstance(e, TagEnded) and e.tagger == tagger]
    found = [TagInterval(e.tag, e.since / rate, e.at / rate, e.peak, e.reason) for e in ended]
    return tuple(sorted(found, key=lambda interval: (interval.on, interval.tag)))


def _mood(events: list[Event], tagger: str, card: Card, rate: int) -> RecordingMood | None:
    scored = [e for e in events if isinstance(e, WindowScored) and e.tagger == tagger]
    plane = MoodPlane(card)
    if not (scored and plane.is_known):
        return None
    moods = plane.moods(scored)
    points = [plane.update(e, mood, rate) for e, mood in zip(scored, moods, strict=True)]
    whole = [i for i, e in enumerate(scored) if not e.provisional] or [len(scored) - 1]
    valence, arousal, certainty = np.array(moods)[whole].mean(axis=0).tolist()
    values = np.array([scored[i].values for i in whole]).mean(axis=0).tolist()
    return RecordingMood(
        valence,
        arousal,
        certainty,
        {
            tag: value
            for tag, value in zip(card.tags, values, strict=True)
            if card.categories.get(tag, "").startswith("mood")
        },
        tuple(
            MoodPoint(point.at / rate, point.valence, point.arousal, point.certainty)
            for point in points
            if point is not None
        ),
    )
