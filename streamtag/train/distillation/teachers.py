"""Teachers: what large published taggers, on their own long windows, say to a recording.

Their probabilities are the soft labels that a small student learns from (Hinton, Vinyals, Dean:
"Distilling the Knowledge in a Neural Network", 2015). A teacher hears up to half a minute, the
student three seconds; a moment's label is what the teacher says to the window around it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.extraction import read_samples
from streamtag.train.data.vocabulary import VocabularyTag
from streamtag.train.recipes.recipe import Distil

BATCH = 4
"""Windows at a time."""


@dataclass(frozen=True, slots=True)
class TeacherScores:
    """What one teacher says along a recording."""

    moments: np.ndarray
    """(n,) float64, seconds: the middle of what was heard, rising."""
    scores: np.ndarray
    """(n, n_tags) float32, probabilities."""

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """What it says at any moments, (m, n_tags) float32: linear between its own."""
        columns = [np.interp(seconds, self.moments, column) for column in self.scores.T]
        return np.stack(columns, axis=1).astype(np.float32)


def score_recording(tagger: Tagger, samples: np.ndarray, hop: float) -> TeacherScores:
    """A teacher's scores of every `hop` seconds of a recording, and of its end.

    Args:
        tagger: the teacher.
        samples: (n,) float32 at its rate, not empty; a recording shorter than its window is
            repeated to fill it.
        hop: seconds between the beginnings of windows.
    """
    features, size = tagger.card.features, tagger.card.window_frames
    frames = frames_of(samples, features)
    if len(frames) < size:
        frames = frames[np.arange(size) % len(frames)]
    step, last = max(1, round(hop * features.frame_rate)), len(frames) - size
    starts = [*range(0, last, step), last]
    scores = [
        tagger(np.stack([frames[s : s + size] for s in starts[i : i + BATCH]]))
        for i in range(0, len(starts), BATCH)
    ]
    middle = min(len(samples) / features.sample_rate, tagger.card.window_seconds) / 2
    moments = np.array(starts) / features.frame_rate + middle
    return TeacherScores(moments, np.concatenate(scores))


def teacher_scores(
    teachers: Mapping[str, Tagger], item: Item, hops: Mapping[str, float], folder: Path
) -> dict[str, TeacherScores]:
    """All teachers' scores of a recording, from a file where they have been asked before.

    Args:
        teachers: by name.
        item: the recording.
        hops: seconds between windows, by teacher.
        folder: keeps what they said, one file per recording; made where it is missing.

    Raises:
        SourceError: the recording cannot be decoded.
    """
    path = folder / f"{item.name.replace('/', '+')}.npz"
    if path.exists():
        found = _read(path, teachers)
        if found is not None:
            return found
    heard: dict[int, np.ndarray] = {}
    out: dict[str, TeacherScores] = {}
    for name, tagger in teachers.items():
        rate = tagger.card.features.sample_rate
        if rate not in heard:
            heard[rate] = read_samples(item, rate)
        out[name] = score_recording(tagger, heard[rate], hops[name])
    _write(path, out, teachers)
    return out


def _write(path: Path, found: Mapping[str, TeacherScores], teachers: Mapping[str, Tagger]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for name, own in found.items():
        key = f"{name} {teachers[name].checksum[:12]}"
        arrays[f"{key} moments"] = own.moments
        arrays[f"{key} scores"] = own.scores.astype(np.float16)
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)  # type: ignore[arg-type]  # of NumPy: it takes any names
    part.replace(path)


def _read(path: Path, teachers: Mapping[str, Tagger]) -> dict[str, TeacherScores] | None:
    """What is in a file; None if one of the teachers has not been asked, or was another one."""
    out = {}
    with np.load(path) as arrays:
        for name, tagger in teachers.items():
            key = f"{name} {tagger.checksum[:12]}"
            if f"{key} moments" not in arrays:
                return None
            scores = arrays[f"{key} scores"].astype(np.float32)
            out[name] = TeacherScores(arrays[f"{key} moments"], scores)
    return out


CLAMP = 1e-5
"""Probabilities are kept so far from 0 and 1."""


def logit_margins(
    words: tuple[VocabularyTag, ...],
    opinions: Mapping[str, TeacherScores],
    cards: Mapping[str, Card],
    moments: np.ndarray,
) -> np.ndarray:
    """How far the teachers are above their thresholds at given moments, (n, n_tags) in logits.

    NaN for tags of which no teacher has heard.

    Args:
        words: the student's tags.
        opinions: of each teacher, by name `VOCABULARY-NET`.
        cards: of the teachers, for their tags and thresholds.
        moments: (n,) seconds.
    """
    out = np.full((len(moments), len(words)), np.nan, np.float32)
    relative = {name: _margins(opinions[name], cards[name], moments) for name in opinions}
    for i, word in enumerate(words):
        said: dict[str, list[np.ndarray]] = {}
        for name, table in relative.items():
            vocabulary = name.partition("-")[0]
            if own := [_column(cards[name], t) for v, t in word.heard if v == vocabulary]:
                said.setdefault(vocabulary, []).append(table[:, own].max(axis=1))
        if said:
            out[:, i] = _combined(word, said)
    return out


def leniencies(training: np.ndarray, want: Distil) -> np.ndarray:
    """Per tag, by how many logits its teachers may stay below their thresholds, (n_tags,).

    So many that the tag is on in a share `common` of the training material, but at least the first
    and at most the second of `leniency`.

    Args:
        training: `logit_margins` of all moments of the training recordings, (n, n_tags).
        want: the recipe's limits.
    """
    least, most = want.leniency
    reached = np.quantile(np.nan_to_num(training, nan=-99.0), 1 - want.common, axis=0)
    out: np.ndarray = np.clip(-reached, least, most).astype(np.float32)
    return out


def soft_labels(odds: np.ndarray, leniency: np.ndarray, sharpness: float) -> np.ndarray:
    """Soft decisions in [0, 1], (n, n_tags) float32; NaN stays NaN."""
    out: np.ndarray = 1 / (1 + np.exp(-sharpness * (odds + leniency)))
    return out.astype(np.float32)


def _combined(word: VocabularyTag, said: Mapping[str, list[np.ndarray]]) -> np.ndarray:
    """One opinion of several teachers', by vocabulary."""
    if word.category == "instrument":
        out: np.ndarray = np.max([np.mean(some, axis=0) for some in said.values()], axis=0)
        return out
    everyone: np.ndarray = np.mean([one for some in said.values() for one in some], axis=0)
    return everyone


def _margins(opinion: TeacherScores, card: Card, moments: np.ndarray) -> np.ndarray:
    """Logits above each tag's own threshold, (n, n_tags)."""
    scores = np.clip(opinion.at(moments), CLAMP, 1 - CLAMP).astype(np.float64)
    on = np.array(card.on_thresholds)
    out: np.ndarray = np.log(scores / (1 - scores)) - np.log(on / (1 - on))
    return out


def _column(card: Card, tag: str) -> int:
    """Of a teacher's output, by its short name (`rock` for `genre---rock`)."""
    for i, name in enumerate(card.tags):
        if name == tag or name.rpartition("---")[2] == tag:
            return i
    raise RecipeError(f"teacher {card.name!r}: expected a tag {tag!r}, got {', '.join(card.tags)}")
