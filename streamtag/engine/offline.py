"""Recordings: the events of a whole file, from the same engine that serves live streams."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from streamtag.audio.block import Block
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, Reason, TagEnded, WindowScored, WindowsDropped
from streamtag.engine.settings import LagPolicy, TaggerSettings
from streamtag.errors import StreamtagError
from streamtag.model.tagger import Tagger

STREAM = "file"
"""The name of the stream in the engine; nobody sees it."""
MAX_SLACK_SECONDS = 60.0
"""A batch is not made of more audio than this, which the rings have to hold."""


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


def tag_blocks(
    blocks: Iterable[Block],
    rate: int,
    taggers: Mapping[str, Tagger],
    *,
    settings: Mapping[str, TaggerSettings] | None = None,
    max_batch: int = 64,
    exact: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, TaggerResult]:
    """Tags a recording, however short.

    Args:
        blocks: the recording, from sample 0 on.
        rate: Hz.
        taggers: loaded bundles by name.
        settings: per tagger, changes to its card.
        max_batch: windows to run together on a GPU.
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
    # A CPU takes windows one by one, so waiting for more of them would only hold up the progress.
    together = 1 if all(tagger.device == "cpu" for tagger in taggers.values()) else max_batch
    slack = min(MAX_SLACK_SECONDS, together * max(hops.values(), default=0.0))
    engine = Engine(
        taggers, max_batch=max_batch, slack=slack, lag_policy=LagPolicy.WAIT, exact=exact
    )
    engine.open(STREAM, rate, taggers=chosen)
    events: list[Event] = []
    end = 0
    for block in blocks:
        events += _checked(engine.feed(STREAM, block))
        end = block.end
        if on_progress:
            on_progress(end / rate)
    events += _checked(engine.close(STREAM))
    return {
        name: TaggerResult(
            hop, end / rate, _scores(events, name, rate), _intervals(events, name, rate)
        )
        for name, hop in hops.items()
    }


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
        ScoreRow(e.start / rate, e.end / rate, e.values, e.smoothed, e.provisional)
        for e in events
        if isinstance(e, WindowScored) and e.tagger == tagger
    )


def _intervals(events: list[Event], tagger: str, rate: int) -> tuple[TagInterval, ...]:
    ended = [e for e in events if isinstance(e, TagEnded) and e.tagger == tagger]
    found = [TagInterval(e.tag, e.since / rate, e.at / rate, e.peak, e.reason) for e in ended]
    return tuple(sorted(found, key=lambda interval: (interval.on, interval.tag)))
