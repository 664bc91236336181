"""The mood plane: a slow pair of valence and arousal for displays.

Valence says how pleasant the music is, arousal how lively, each from -1 to 1 (Russell, "A
circumplex model of affect", 1980). A model whose card has `dimensions` gives them, and their
standard deviations.

For other models the tags' probabilities give them. Tags have positions on the plane
(`TAG_POSITIONS`, our own reading of the words, not measured on listeners). Each pulls the point
towards its position, the more the further its smoothed probability is above its on threshold. A
pull to the middle keeps the point at rest where little is certain. This is a summary for eyes, not
a measurement: see docs/models.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamtag.engine.events import MoodUpdated, StreamClosed, WindowScored
from streamtag.model.card import Card

TAG_POSITIONS: dict[str, tuple[float, float]] = {
    # tag: (valence, arousal)
    "aggressive": (-0.6, 0.8), "dreamy": (0.3, -0.6), "tender": (0.5, -0.4), "opera": (0.0, 0.1),
    "punk": (-0.2, 0.9), "soul": (0.4, 0.1), "disco": (0.7, 0.7), "latin": (0.7, 0.5),
    "drum and bass": (0.1, 0.8),
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
"""The pull to the middle, as a number of tags that are certainly on."""
TIME_CONSTANT_SECONDS = 6.0
"""The point follows the mood as a first-order low-pass with this time constant."""
STEP_SECONDS = 1.0
"""Seconds between two points of a stream."""
STEP_TOLERANCE = 0.95
"""This share of a step is enough, because windows come at a hop of their own."""


class TagPulls(NamedTuple):
    """How the tags that have a position on the plane move the point; (n,) each."""

    tags: np.ndarray
    """Their indices among the probabilities."""
    on: np.ndarray
    """Their on thresholds, in (0, 1)."""
    positions: np.ndarray
    """(n, 3) valence, arousal, and 1."""


def position_of(tag: str) -> tuple[float, float] | None:
    """Valence and arousal of a tag; None for a tag without a mood."""
    return TAG_POSITIONS.get(tag.rpartition("---")[2].lower())


def tag_pulls(tags: Sequence[str], thresholds: Sequence[float]) -> TagPulls:
    """The pulls of those of the tags that have a position, with their on thresholds."""
    places = [position_of(tag) for tag in tags]
    known = [i for i, place in enumerate(places) if place is not None]
    positions = np.array([(*places[i], 1.0) for i in known]).reshape(-1, 3)  # type: ignore[misc]
    return TagPulls(np.array(known, int), np.asarray(thresholds, float)[known], positions)


def mood_of(pulls: TagPulls, probabilities: Sequence[float] | np.ndarray) -> np.ndarray:
    """Valence and arousal in [-1, 1] and certainty in [0, 1) of moments, (..., 3).

    A tag's pull, in [0, 1], is the square of a soft decision, so that many low probabilities do
    not add up. The decision is odds² / (odds² + threshold odds²): one half at the threshold. The
    certainty says how strong all pulls together are beside the pull to the middle. The
    probabilities, (..., n_tags), are those of all tags, smoothed, in [0, 1].
    """
    p = np.asarray(probabilities, float)[..., pulls.tags]
    with np.errstate(divide="ignore", over="ignore"):
        against = (1 - p) * pulls.on / (p * (1 - pulls.on))
        pull = (1 + against * against) ** -2.0
    sums = pull @ pulls.positions
    mood: np.ndarray = sums / (sums[..., 2:] + REST)
    return mood


def mood_of_outputs(dimensions: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Valence and arousal in [-1, 1] and certainty in [0, 1] of moments, (..., 3).

    The certainty is 1 less the root mean square of the two standard deviations, and at least 0. A
    deviation of 1 is that of a value which may as well be -1 as 1.

    Args:
        dimensions: (..., 4) valence, arousal, and their standard deviations.
    """
    values, deviations = np.split(np.asarray(dimensions, float), 2, axis=-1)
    spread = np.sqrt(np.mean(deviations**2, axis=-1, keepdims=True))
    mood: np.ndarray = np.concatenate([values.clip(-1, 1), np.maximum(0.0, 1 - spread)], axis=-1)
    return mood


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
        self._pulls = None if card.dimensions else tag_pulls(card.tags, card.on_thresholds)
        self._points: dict[str, _Point] = {}

    @property
    def is_known(self) -> bool:
        """Whether the tagger knows moods: by outputs of its own, or by tags that have a
        position on the plane."""
        return self._pulls is None or len(self._pulls.tags) > 0

    def moods(self, scored: Sequence[WindowScored]) -> list[list[float]]:
        """The mood of each window by itself: valence, arousal and certainty."""
        moods: list[list[float]]
        if self._pulls is None:
            moods = mood_of_outputs([one.dimensions for one in scored]).tolist()
            return moods
        smoothed = np.concatenate([one.smoothed for one in scored]).reshape(len(scored), -1)
        moods = mood_of(self._pulls, smoothed).tolist()
        return moods

    def update(self, scores: WindowScored, mood: Sequence[float], rate: int) -> MoodUpdated | None:
        """The stream's new point, by its newest smoothed scores, if it is time to report one.

        Args:
            scores: the newest.
            mood: theirs (`moods`).
            rate: of the stream, in Hz.
        """
        valence, arousal, certainty = mood
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
