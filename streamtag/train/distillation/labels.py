"""Labels of recordings: the combined scores of the teachers, replaced by the truth where known.

A row of labels is for the window around a moment: the tags, valence and arousal and their weight
(see `train.training.dimensions`), and the logits of the taught classes of AudioSet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.errors import RecipeError
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.known import KnownItem, known_targets
from streamtag.train.data.samples import ProgressCallback
from streamtag.train.data.vocabulary import VocabularyTag
from streamtag.train.distillation.evidence import Combination, learn, opinions
from streamtag.train.distillation.mixing import LABEL_STEP
from streamtag.train.distillation.teachers import CLAMP, TeacherScores, column_of, teacher_scores
from streamtag.train.training.predictions import sigmoid

HOP_SECONDS = {True: 3.0, False: 2.5}
"""Seconds between a teacher's windows if they are shorter than 5 s (True) or longer (False)."""
SHORT_WINDOW = 5.0
TAUGHT = "audioset"
"""The teacher whose logits are taught too."""
FOUND = {
    # tag: (probability that AudioSet gives where it is as likely as not, slope)
    "speech": (0.3, 1.5),
    "singing": (0.02, 1.5),
    "noise": (0.3, 1.5),
    "applause": (0.2, 1.5),
    "rap": (0.02, 1.5),
}
"""Tags whose probability by AudioSet means the same everywhere, unlike those of genres. The
threshold of singing finds four fifths of the sung songs and no other (see models-method.md)."""
DOUBTFUL = 0.3
"""Where AudioSet gives music less, and nobody sings, it is not known whether it is music."""
SUNG_LOGIT = 1.5
"""Added to the logit of singing where a song is known to be sung."""
SUNG_SPEECH = 0.1
"""Where somebody is known to sing and is heard singing, a voice taken for speech is the singer's:
the label of speech is this share of what it would be."""
JUDGED = (0.1, 0.85)
"""Labels of moods that people deny or find in a recording: they judge all of its moments
alike, and moods are not certain."""
WHOLE = ("instrument", "mood/theme")
"""Categories whose truth is true of every moment."""
AROUSAL = {"energetic": 1, "aggressive": 1, "party": 1, "calm": -1, "dreamy": -1, "sad": -0.5}
VALENCE = {"happy": 1, "party": 0.5, "funny": 0.5, "tender": 0.5, "sad": -1, "dark": -1,
           "aggressive": -0.5, "melancholic": -0.5}  # fmt: skip
"""Weights of the teachers' moods in the two dimensions, for recordings without judgements."""
JUDGED_WEIGHT, PROXY_WEIGHT = 3.0, 1.0
"""Weights of valence and arousal in the loss."""


@dataclass(slots=True)
class Labeller:
    """Makes labels of recordings; made by `learn_labels`."""

    vocabulary: tuple[VocabularyTag, ...]
    cards: Mapping[str, Card]
    combination: Combination
    sharpness: float
    dimensions: np.ndarray
    """(2, n_quantiles) of valence and arousal by the teachers' moods over the training music."""

    def labels(
        self,
        scores: Mapping[str, TeacherScores],
        known: KnownItem,
        sung_speech: float = SUNG_SPEECH,
    ) -> np.ndarray:
        """(n, n_tags + 3 + n_taught) float32 of a recording, a row per `LABEL_STEP`.

        Args:
            scores: of the teachers.
            known: the recording.
            sung_speech: see `SUNG_SPEECH`; 1 for what the teachers say.
        """
        moments = moments_of(scores)
        logits = opinions(self.vocabulary, scores, self.cards, moments)
        tags = self.combination.soft_labels(logits, self.sharpness)
        mood = mood_of(self.vocabulary, self.combination.combined(logits))
        ranks = [2 * np.interp(m, q, np.linspace(0, 1, len(q))) - 1
                 for m, q in zip(mood, self.dimensions, strict=True)]  # fmt: skip
        plane = np.stack([*ranks, np.full(len(moments), PROXY_WEIGHT)], axis=1)
        self._find(tags, scores, moments)
        self._know(tags, known, sung_speech)
        if not np.isnan(known.valence + known.arousal):
            plane[:] = known.valence, known.arousal, JUDGED_WEIGHT
        taught = np.clip(scores[TAUGHT].at(moments), CLAMP, 1 - CLAMP)
        rows = [tags, plane, np.log(taught / (1 - taught))]
        return np.concatenate(rows, axis=1).astype(np.float32)

    def _find(
        self, tags: np.ndarray, scores: Mapping[str, TeacherScores], moments: np.ndarray
    ) -> None:
        """Sets the tags of `FOUND`; all recordings are music, but wind in a game may be one."""
        p = np.clip(scores[TAUGHT].at(moments), CLAMP, 1 - CLAMP)
        logits, card = np.log(p / (1 - p)), self.cards[TAUGHT]
        for i, tag in enumerate(self.vocabulary):
            if tag.tag in FOUND:
                at, slope = FOUND[tag.tag]
                words = [column_of(card, t) for v, t in tag.teacher_tags if v == TAUGHT]
                own = logits[:, words].max(axis=1) - np.log(at / (1 - at))
                tags[:, i] = sigmoid(slope * own)
        music = p[:, column_of(card, "Music")]
        unsung = tags[:, self._column("singing")] < 0.5
        tags[:, self._column("music")] = np.where((music < DOUBTFUL) & unsung, np.nan, 1)
        tags[:, self._column("silence")] = 0

    def _know(self, tags: np.ndarray, known: KnownItem, sung_speech: float) -> None:
        """Lets what is known of a recording override the teachers."""
        singing = self._column("singing")
        if known.tags.get("singing") == 1:
            p = np.clip(tags[:, singing], CLAMP, 1 - CLAMP)
            tags[:, singing] = sigmoid(np.log(p / (1 - p)) + SUNG_LOGIT)
            sung = tags[:, singing] >= 0.5
            tags[sung, self._column("speech")] *= sung_speech
        for i, tag in enumerate(self.vocabulary):
            value = known.tags.get(tag.tag, np.nan)
            if np.isnan(value) or (tag.tag == "singing" and value):
                continue
            if tag.category == "mood/theme":
                tags[:, i] = JUDGED[int(value)]
            elif not value or tag.category in WHOLE:
                tags[:, i] = value
            elif tag.category == "voice":
                tags[:, i] = tags[:, singing]
            elif tag.category == "genre":
                tags[:, i] = 0.5 + 0.5 * tags[:, i]

    def _column(self, name: str) -> int:
        return [tag.tag for tag in self.vocabulary].index(name)

    def first_weights(self) -> tuple[np.ndarray, np.ndarray]:
        """How AudioSet's logits give the tags, for the beginning of a training: the logit of the
        first word of each.

        Returns:
            (n_tags, n_classes) and (n_tags,) float32, as `begin_dense` takes them.
        """
        k, card = self.combination.teachers.index(TAUGHT), self.cards[TAUGHT]
        weight = np.zeros((len(self.vocabulary), len(card.tags)), np.float32)
        bias = np.zeros(len(self.vocabulary), np.float32)
        for i, tag in enumerate(self.vocabulary):
            words = [column_of(card, t) for v, t in tag.teacher_tags if v == TAUGHT]
            if not words:
                continue
            if tag.tag in FOUND:
                at, slope = FOUND[tag.tag]
                middle = float(np.log(at / (1 - at)))
            else:
                scale = float(self.combination.scale[i, k])
                slope = self.sharpness / scale
                middle = float(self.combination.mean[i, k] + scale * self.combination.middle[i])
            weight[i, words[0]], bias[i] = slope, -slope * middle
        return weight, bias


def learn_labels(
    vocabulary: tuple[VocabularyTag, ...],
    cards: Mapping[str, Card],
    training: Sequence[tuple[KnownItem, Mapping[str, TeacherScores]]],
    sharpness: float,
) -> Labeller:
    """Learns from the training recordings how the teachers' opinions become labels.

    Args:
        vocabulary: the student's tags.
        cards: of the teachers.
        training: recordings and their scores.
        sharpness: slope of the soft labels.

    Raises:
        RecipeError: AudioSet's tagger is not among the teachers.
    """
    if TAUGHT not in cards:
        raise RecipeError(f"distil.teachers: expected {TAUGHT!r} among them, got {list(cards)}")
    made = [opinions(vocabulary, own, cards, moments_of(own)) for _, own in training]
    truth = np.stack([judging_truth(vocabulary, known) for known, _ in training])
    combination = learn(vocabulary, list(cards), made, truth)
    mood = np.concatenate([mood_of(vocabulary, combination.combined(own)) for own in made], axis=1)
    quantiles = np.quantile(mood, np.linspace(0, 1, 101), axis=1).T
    return Labeller(vocabulary, cards, combination, sharpness, quantiles)


def judging_truth(vocabulary: Sequence[VocabularyTag], known: KnownItem) -> np.ndarray:
    """What teachers are judged by, (n_tags,): 0, 1 or NaN.

    A recording whose table names one genre is taken to have no other.
    """
    genres = [tag.category == "genre" for tag in vocabulary]
    out = known_targets(known, [tag.tag for tag in vocabulary]).astype(np.float64)
    if np.nansum(out[genres]) > 0:
        out[genres] = np.nan_to_num(out[genres])
    return out


def mood_of(vocabulary: Sequence[VocabularyTag], z: np.ndarray) -> np.ndarray:
    """Valence and arousal by the teachers' moods, (2, n), of combined opinions (n, n_tags)."""
    tags = [tag.tag for tag in vocabulary]
    rows = []
    for weights in (VALENCE, AROUSAL):
        known = {mood: w for mood, w in weights.items() if mood in tags}
        rows.append(sum(w * np.nan_to_num(z[:, tags.index(m)]) for m, w in known.items()))
    return np.stack([np.broadcast_to(row, len(z)) for row in rows])


def moments_of(scores: Mapping[str, TeacherScores]) -> np.ndarray:
    """The moments that have labels, in seconds."""
    return np.arange(0, max(float(own.moments[-1]) for own in scores.values()) + 2.0, LABEL_STEP)


def all_scores(
    teachers: Mapping[str, Tagger], items: Sequence[Item], cache: Path, report: ProgressCallback
) -> list[dict[str, TeacherScores]]:
    """Each teacher's scores of each recording, computed where they are not cached."""
    hops = {n: HOP_SECONDS[t.card.window_seconds < SHORT_WINDOW] for n, t in teachers.items()}
    found = []
    for i, item in enumerate(items):
        found.append(teacher_scores(teachers, item, hops, cache / "opinions"))
        report("teachers", i + 1, len(items))
    return found
