"""The mood plane: a slow pair of valence and arousal for displays, from the tags' probabilities.

Valence says how pleasant the music is, arousal how lively, each from -1 to 1 (Russell, "A
circumplex model of affect", 1980). Tags have positions on the plane (`TAG_POSITIONS`, our own
reading of the words, not measured on listeners). Each pulls the point towards its position, the
more the further its smoothed probability is above its on threshold. A pull to the middle keeps the
point at rest where little is certain. It is a summary for eyes, not a measurement: see
docs/models.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from streamtag.engine.events import MoodUpdated, StreamClosed, WindowScored
from streamtag.model.card import Card

TAG_POSITIONS: dict[str, tuple[float, float]] = {
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
"""Valence and arousal by tag, in lower case and without what stands before the dashes in
`genre---rock`."""
REST = 0.6
"""The pull to the middle is as strong as that of so many tags that are certainly on."""
TIME_CONSTANT_SECONDS = 6.0
"""The point follows the mood as a first-order low-pass with this time constant."""
STEP_SECONDS = 1.0
"""A stream gets a new point once in so many seconds."""
STEP_TOLERANCE = 0.95
"""This share of a step is enough, because windows come at a hop of their own."""


class TagPull(NamedTuple):
    """How a tag that has a position on the plane moves the point."""

    tag: int
    """Its index among the probabilities."""
    on: float
    """Its on threshold, in (0, 1)."""
    off: float
    """What the threshold lacks to 1."""
    valence: float
    arousal: float


def position_of(tag: str) -> tuple[float, float] | None:
    """Valence and arousal of a tag; None for one that says nothing about moods."""
    return TAG_POSITIONS.get(tag.rpartition("---")[2].lower())


def tag_pulls(tags: Sequence[str], thresholds: Sequence[float]) -> list[TagPull]:
    """The pulls of those of the tags that have a position, with their on thresholds."""
    return [
        TagPull(i, on, 1 - on, *position)
        for i, (tag, on) in enumerate(zip(tags, thresholds, strict=True))
        if (position := position_of(tag)) is not None
    ]


def mood_of(pulls: Sequence[TagPull], probabilities: Sequence[float]) -> tuple[float, float, float]:
    """Valence and arousal in [-1, 1] and certainty in [0, 1) of one moment.

    A tag's pull, in [0, 1], is the square of a soft decision, so that many low probabilities do
    not add up. The decision is odds² / (odds² + threshold odds²): one half at the threshold. The
    certainty says how strong all pulls together are beside the pull to the middle. The
    probabilities are those of all tags, smoothed, in [0, 1].
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


class _Point(NamedTuple):
    """A stream on the plane."""

    valence: float
    arousal: float
    end: int
    """End of the newest window that counts."""
    reported: float
    """End of the window after which the point was reported."""


class MoodPlane:
    """The points of all streams of one tagger."""

    def __init__(self, card: Card) -> None:
        self._pulls = tag_pulls(card.tags, card.on_thresholds)
        self._points: dict[str, _Point] = {}

    @property
    def has_tags(self) -> bool:
        """Whether any of the tagger's tags has a position on the plane."""
        return bool(self._pulls)

    def update(self, scores: WindowScored, rate: int) -> MoodUpdated | None:
        """The stream's new point, by its newest smoothed scores, if it is time to report one.

        `rate` is that of the stream, in Hz.
        """
        valence, arousal, certainty = mood_of(self._pulls, scores.smoothed)
        last = self._points.get(scores.stream)
        reported = -math.inf
        if last is not None and last.end < scores.end:
            share = 1 - math.exp(-(scores.end - last.end) / rate / TIME_CONSTANT_SECONDS)
            valence = last.valence + share * (valence - last.valence)
            arousal = last.arousal + share * (arousal - last.arousal)
            reported = last.reported
        due = scores.end - reported >= STEP_TOLERANCE * STEP_SECONDS * rate
        reported = scores.end if due else reported
        self._points[scores.stream] = _Point(valence, arousal, scores.end, reported)
        if not due:
            return None
        return MoodUpdated(scores.stream, scores.tagger, scores.end, valence, arousal, certainty)

    def end_stream(self, closed: StreamClosed) -> None:
        """A stream has ended. The next one of that name starts anew."""
        self._points.pop(closed.stream, None)
