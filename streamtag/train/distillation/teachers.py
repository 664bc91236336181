"""Soft labels from teachers: large published taggers that score recordings on long windows.

Their probabilities are what a small student learns from (Hinton, Vinyals, Dean: "Distilling the
Knowledge in a Neural Network", 2015). A teacher uses up to half a minute, the student three
seconds. The label of a moment comes from the teacher's window around it.

The scale of a teacher's probabilities differs from tag to tag: of a tag that it has seen once in
fifty tracks it says 0.2 when it is certain. So each probability is compared with the teacher's
threshold for that tag, and the student learns

    q = sigmoid(sharpness · (leniency + mean over teachers of (logit p - logit threshold)))

which is above one half where the teachers are, on average, near their thresholds. Tags that are
rare in the training music get more leniency, within limits: see `leniencies`. One data set names
every instrument that sounds, another one only what is prominent. So for instruments the mean is
taken per vocabulary, and the largest one counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.feed.atomic_file import atomic_file
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.extraction import read_samples
from streamtag.train.data.vocabulary import VocabularyTag
from streamtag.train.recipes.recipe import Distil

BATCH = 4
"""Number of windows that a teacher scores at a time."""


@dataclass(frozen=True, slots=True)
class TeacherScores:
    """The scores of one teacher along a recording."""

    moments: np.ndarray
    """(n,) float64, seconds: the middle of each window, rising."""
    scores: np.ndarray
    """(n, n_tags) float32, probabilities."""

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """The scores at any moments, (m, n_tags) float32, interpolated linearly."""
        columns = [np.interp(seconds, self.moments, column) for column in self.scores.T]
        return np.stack(columns, axis=1).astype(np.float32)


def score_recording(tagger: Tagger, samples: np.ndarray, hop: float) -> TeacherScores:
    """A teacher's scores every `hop` seconds of a recording, and at its end.

    A teacher with a trunk computes the embeddings of overlapping windows once.

    Args:
        tagger: the teacher.
        samples: (n,) float32 at its rate, not empty; a recording shorter than its window is
            repeated to fill it.
        hop: seconds between the beginnings of windows.
    """
    features, trunk = tagger.card.features, tagger.card.trunk
    size, step = tagger.card.window_frames, max(1, round(hop * features.frame_rate))
    frames = frames_of(samples, features)
    middle = min(len(samples) / features.sample_rate, tagger.card.window_seconds) / 2
    shared = trunk is not None and not trunk.state and step < size // 2
    least = max(size, (trunk.columns + trunk.short) * trunk.stride) if shared and trunk else size
    if len(frames) < least:
        frames = frames[np.arange(least) % len(frames)]
    score: Callable[[np.ndarray], np.ndarray] = tagger.outputs
    rows, stride = frames, 1
    if shared and trunk is not None:
        whole = len(frames) // trunk.stride * trunk.stride
        rows, score, stride = tagger.trunk(frames[None, :whole])[0], tagger.head, trunk.stride
        size, step = trunk.columns, max(1, round(step / stride))
    starts = [*range(0, len(rows) - size, step), len(rows) - size]
    pieces = [rows[s : s + size] for s in starts]
    scores = [score(np.stack(pieces[i : i + BATCH])) for i in range(0, len(pieces), BATCH)]
    return TeacherScores(
        np.array(starts) * stride / features.frame_rate + middle, np.concatenate(scores)
    )


def teacher_scores(
    teachers: Mapping[str, Tagger], item: Item, hops: Mapping[str, float], folder: Path
) -> dict[str, TeacherScores]:
    """All teachers' scores of a recording, from files if they were computed before.

    Args:
        teachers: by name.
        item: the recording.
        hops: seconds between windows, by teacher.
        folder: caches the scores, one file per teacher and recording; created if necessary.

    Raises:
        SourceError: the recording cannot be decoded.
    """
    samples: dict[int, np.ndarray] = {}
    out: dict[str, TeacherScores] = {}
    for name, tagger in teachers.items():
        own = folder / f"{name}-{tagger.checksum[:12]}"
        path = own / f"{item.name.replace('/', '+')}.npz"
        if path.exists():
            with np.load(path) as arrays:
                out[name] = TeacherScores(arrays["moments"], arrays["scores"].astype(np.float32))
            continue
        rate = tagger.card.features.sample_rate
        if rate not in samples:
            samples[rate] = read_samples(item, rate)
        found = out[name] = score_recording(tagger, samples[rate], hops[name])
        own.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            np.savez(partial, moments=found.moments, scores=found.scores.astype(np.float16))
    return out


CLAMP = 1e-5
"""Probabilities are kept so far away from 0 and 1."""


def logit_margins(
    vocabulary: tuple[VocabularyTag, ...],
    scores: Mapping[str, TeacherScores],
    cards: Mapping[str, Card],
    moments: np.ndarray,
) -> np.ndarray:
    """How far the teachers' scores are above their thresholds, (n, n_tags) in logits.

    NaN for tags that no teacher has.

    Args:
        vocabulary: the student's tags.
        scores: of each teacher, by name `VOCABULARY-NET`.
        cards: of the teachers, for their tags and thresholds.
        moments: (n,) seconds.
    """
    out = np.full((len(moments), len(vocabulary)), np.nan, np.float32)
    relative = {name: _margins(scores[name], cards[name], moments) for name in scores}
    for i, tag in enumerate(vocabulary):
        by_vocabulary: dict[str, list[np.ndarray]] = {}
        for name, table in relative.items():
            source = name.partition("-")[0]
            if own := [column_of(cards[name], t) for v, t in tag.teacher_tags if v == source]:
                by_vocabulary.setdefault(source, []).append(table[:, own].max(axis=1))
        if by_vocabulary:
            out[:, i] = _combined(tag, by_vocabulary)
    return out


def leniencies(training: np.ndarray, want: Distil) -> np.ndarray:
    """Per tag, by how many logits its teachers may stay below their thresholds, (n_tags,).

    It is chosen so that the tag is on in a share `common` of the training material, but is at least
    the first and at most the second number of `leniency`.

    Args:
        training: `logit_margins` of all moments of the training recordings, (n, n_tags).
        want: the recipe's limits.
    """
    least, most = want.leniency
    reached = np.quantile(np.nan_to_num(training, nan=-99.0), 1 - want.common, axis=0)
    out: np.ndarray = np.clip(-reached, least, most).astype(np.float32)
    return out


def soft_labels(odds: np.ndarray, leniency: np.ndarray, sharpness: float) -> np.ndarray:
    """Soft labels in [0, 1], (n, n_tags) float32; NaN stays NaN."""
    out: np.ndarray = 1 / (1 + np.exp(-sharpness * (odds + leniency)))
    return out.astype(np.float32)


def _combined(tag: VocabularyTag, by_vocabulary: Mapping[str, list[np.ndarray]]) -> np.ndarray:
    """One margin from those of several teachers, by vocabulary."""
    if tag.category == "instrument":
        out: np.ndarray = np.max([np.mean(some, axis=0) for some in by_vocabulary.values()], axis=0)
        return out
    everyone: np.ndarray = np.mean([one for some in by_vocabulary.values() for one in some], axis=0)
    return everyone


def _margins(scores: TeacherScores, card: Card, moments: np.ndarray) -> np.ndarray:
    """Logits above each tag's own threshold, (n, n_tags)."""
    p = np.clip(scores.at(moments), CLAMP, 1 - CLAMP).astype(np.float64)
    on = np.array(card.on_thresholds)
    out: np.ndarray = np.log(p / (1 - p)) - np.log(on / (1 - on))
    return out


def column_of(card: Card, tag: str) -> int:
    """The column of a teacher's output, by its short name (`rock` for `genre---rock`)."""
    for i, name in enumerate(card.tags):
        if name == tag or name.rpartition("---")[2] == tag:
            return i
    raise RecipeError(f"teacher {card.name!r}: expected a tag {tag!r}, got {', '.join(card.tags)}")
