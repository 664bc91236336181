"""The mood plane: a slow pair of valence and arousal for displays, from the tags' probabilities.

Valence says how pleasant, arousal how lively the music is, each from -1 to 1 (Russell, "A
circumplex model of affect", 1980). Tags stand at places on the plane (`PLACES`: our own reading of
the words, not measured on listeners); each pulls the point towards its place, the more the further
its smoothed probability is above its own on threshold. A pull to the middle keeps a point at rest
where little is certain. It is a summary for eyes, not a measurement: see docs/models.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from streamtag.engine.events import MoodUpdated, StreamClosed, WindowScored
from streamtag.model.card import Card

PLACES: dict[str, tuple[float, float]] = {
    # tag: (valence, arousal)
    "action": (0.1, 0.8), "ambient": (0.15, -0.7), "ballad": (0.0, -0.5), "calm": (0.4, -0.8),
    "chillout": (0.4, -0.6), "children": (0.7, 0.3), "christmas": (0.6, 0.0),
    "classical": (0.15, -0.35), "dance": (0.6, 0.7), "dark": (-0.7, 0.0), "deep": (-0.1, -0.3),
    "downtempo": (0.2, -0.5), "drama": (-0.3, 0.3), "dramatic": (-0.3, 0.5),
    "dream": (0.3, -0.6), "drum machine": (0.1, 0.4), "drums": (0.1, 0.5),
    "easy listening": (0.4, -0.4), "electric guitar": (0.0, 0.5), "electronic": (0.1, 0.3),
    "emotional": (-0.1, -0.1), "energetic": (0.4, 0.9), "epic": (0.1, 0.6), "fast": (0.1, 0.9),
    "folk": (0.3, -0.1), "fun": (0.8, 0.6), "funk": (0.7, 0.6), "funny": (0.7, 0.4),
    "groovy": (0.6, 0.5), "happy": (0.9, 0.5), "harp": (0.4, -0.5), "heavy": (-0.5, 0.8),
    "hopeful": (0.6, 0.1), "house": (0.4, 0.7), "inspiring": (0.6, 0.3), "jazz": (0.4, 0.0),
    "loud": (-0.3, 0.9), "lounge": (0.4, -0.4), "love": (0.5, -0.2), "meditative": (0.3, -0.8),
    "melancholic": (-0.6, -0.4), "metal": (-0.5, 0.95), "new age": (0.4, -0.7),
    "party": (0.7, 0.8), "piano": (0.1, -0.3), "positive": (0.8, 0.3), "powerful": (0.1, 0.8),
    "quiet": (0.2, -0.9), "reggae": (0.6, 0.2), "relaxing": (0.5, -0.8), "rock": (0.0, 0.6),
    "romantic": (0.5, -0.3), "sad": (-0.8, -0.5), "slow": (-0.1, -0.7), "soft": (0.4, -0.7),
    "soundscape": (0.0, -0.6), "space": (0.0, -0.4), "sport": (0.4, 0.8), "summer": (0.8, 0.3),
    "techno": (0.1, 0.8), "trailer": (-0.1, 0.7), "trance": (0.3, 0.7), "upbeat": (0.8, 0.6),
    "uplifting": (0.8, 0.4),
}  # fmt: skip
"""By tag, short and in lower case, as in `genre---rock` after the dashes."""
REST = 0.6
"""Pull to the middle, in tags that are certainly on."""
SLOWNESS = 6.0
"""Seconds: time constant of the point's movement."""
STEP = 1.0
"""Seconds between two points of a stream."""
FORGIVEN = 0.95
"""Share of it that is enough, because windows come at a hop of their own."""


def place_of(tag: str) -> tuple[float, float] | None:
    """Where a tag stands, (valence, arousal); None for one that says nothing of moods."""
    return PLACES.get(tag.rpartition("---")[2].lower())


def point(
    places: Sequence[tuple[float, float] | None],
    thresholds: Sequence[float],
    probabilities: Sequence[float],
) -> tuple[float, float, float]:
    """Valence, arousal and certainty of one moment.

    Args:
        places: of the tags.
        thresholds: at which they are switched on, in (0, 1).
        probabilities: smoothed, in [0, 1].

    Returns:
        Valence and arousal in [-1, 1], certainty in [0, 1): how strong all pulls together are
        beside the pull to the middle.
    """
    return _rest(_pulls(places, thresholds), probabilities)


class _Pull(NamedTuple):
    """A tag that stands on the plane."""

    tag: int
    """Its place among the probabilities."""
    on: float
    """Threshold."""
    off: float
    """What the threshold lacks to 1."""
    valence: float
    arousal: float


def _pulls(
    places: Sequence[tuple[float, float] | None], thresholds: Sequence[float]
) -> list[_Pull]:
    pairs = enumerate(zip(places, thresholds, strict=True))
    return [_Pull(i, on, 1 - on, *place) for i, (place, on) in pairs if place is not None]


def _rest(pulls: list[_Pull], probabilities: Sequence[float]) -> tuple[float, float, float]:
    """Where the pulls are in balance; the same as `point`.

    A tag's pull, in [0, 1], is the square of a soft decision, so that whispers do not add up:
    odds², against the square of the threshold's odds; the decision is one half at the threshold.
    """
    total = valence = arousal = 0.0
    for tag, on, off, right, up in pulls:
        p = probabilities[tag]
        against = (1 - p) * on / (p * off) if p * off else math.inf
        pull = 1 / (1 + against * against)
        pull *= pull
        total += pull
        valence += pull * right
        arousal += pull * up
    return valence / (total + REST), arousal / (total + REST), total / (total + REST)


class MoodPlane:
    """Where each stream stands.

    Args:
        card: of the tagger whose scores are shown to it.
        thresholds: per tag, those of the card where nobody changed them.
    """

    def __init__(self, card: Card, thresholds: Sequence[float] | None = None) -> None:
        places = [place_of(tag) for tag in card.tags]
        self._pulls = _pulls(places, card.on_thresholds if thresholds is None else thresholds)
        self._points: dict[str, tuple[float, float, int, int]] = {}

    @property
    def has_tags(self) -> bool:
        """Whether the tagger's tags say anything of moods."""
        return bool(self._pulls)

    def update(self, scores: WindowScored, rate: int) -> MoodUpdated | None:
        """The stream's new place, if it is time for one.

        Args:
            scores: the newest of a stream; its smoothed probabilities count.
            rate: Hz, of the stream.
        """
        valence, arousal, certainty = _rest(self._pulls, scores.smoothed)
        last = self._points.get(scores.stream)
        told = None
        if last is not None and last[2] < scores.end:
            share = 1 - math.exp(-(scores.end - last[2]) / rate / SLOWNESS)
            valence = last[0] + share * (valence - last[0])
            arousal = last[1] + share * (arousal - last[1])
            told = last[3]
        due = told is None or scores.end - told >= FORGIVEN * STEP * rate
        self._points[scores.stream] = (valence, arousal, scores.end, scores.end if due else told)  # type: ignore[assignment]
        if not due:
            return None
        return MoodUpdated(scores.stream, scores.tagger, scores.end, valence, arousal, certainty)

    def end_stream(self, down: StreamClosed) -> None:
        """A stream has ended; the next one of that name begins anew."""
        self._points.pop(down.stream, None)
