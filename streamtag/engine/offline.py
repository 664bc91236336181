"""Recordings: the events of a whole file, from the same engine that serves live streams."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from streamtag.audio.block import Block
from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import Event, Reason, TagEnded, WindowScored, WindowsDropped
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import StreamtagError
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger

STREAM = "file"


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
    """What the window [start, end) got."""

    start: float
    """Seconds from the start of the recording."""
    end: float
    values: tuple[float, ...]
    """Probabilities in the order of the tags, before smoothing."""
    smoothed: tuple[float, ...]
    provisional: bool
    """The window was not full."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What one tagger said to a recording."""

    tagger: str
    card: Card
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
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, FileResult]:
    """Tags a recording, however short.

    Args:
        blocks: the recording, from sample 0 on.
        rate: Hz.
        taggers: loaded bundles by name.
        settings: per tagger, changes to its card.
        max_batch: windows to run together on a GPU.
        on_progress: called with the seconds of audio done.

    Returns:
        One result per tagger.

    Raises:
        StreamtagError: a model failed, a block does not fit, or what the source raises.
    """
    wanted = {name: (settings or {}).get(name, TaggerSettings()) for name in taggers}
    hops = {name: _hop(tagger.card, wanted[name]) for name, tagger in taggers.items()}
    # A CPU takes windows one by one, so waiting for more of them would only hold up the progress.
    together = 1 if all(tagger.device == "cpu" for tagger in taggers.values()) else max_batch
    slack = min(60.0, together * max(hops.values(), default=0.0))
    engine = Engine(taggers, max_batch=max_batch, slack=slack, lag_policy=LagPolicy.WAIT)
    engine.open(STREAM, rate, taggers=wanted)
    events: list[Event] = []
    end = 0
    for block in blocks:
        events += _unless_failed(engine.feed(STREAM, block))
        end = block.end
        if on_progress:
            on_progress(end / rate)
    events += _unless_failed(engine.close(STREAM))
    return {
        name: FileResult(
            name,
            tagger.card,
            hops[name],
            end / rate,
            tuple(
                _row(e, rate) for e in events if isinstance(e, WindowScored) and e.tagger == name
            ),
            _stretches(events, name, rate),
        )
        for name, tagger in taggers.items()
    }


def _hop(card: Card, settings: TaggerSettings) -> float:
    return settings.hop_frames(card) / card.features.frame_rate


def _unless_failed(events: list[Event]) -> list[Event]:
    for event in events:
        if isinstance(event, WindowsDropped):
            raise StreamtagError(
                f"tagger {event.tagger!r}: expected a result for every window, "
                f"but its model failed: {event.detail}"
            )
    return events


def _row(event: WindowScored, rate: int) -> ScoreRow:
    return ScoreRow(
        event.start / rate, event.end / rate, event.values, event.smoothed, event.provisional
    )


def _stretches(events: list[Event], tagger: str, rate: int) -> tuple[TagInterval, ...]:
    ended = [e for e in events if isinstance(e, TagEnded) and e.tagger == tagger]
    stretches = [TagInterval(e.tag, e.since / rate, e.at / rate, e.peak, e.reason) for e in ended]
    return tuple(sorted(stretches, key=lambda stretch: (stretch.on, stretch.tag)))
