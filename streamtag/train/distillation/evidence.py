"""Combines the scores of several teachers into one soft label per tag, by evidence.

A teacher's logit of a tag is compared with its own mean and deviation over the training recordings,
because the scales of teachers and tags differ: AudioSet's `Singing` has a median of .002. Of moods
only the order counts: the values become normal scores of their ranks. A teacher's weight for a tag
is how well it agrees with the other teachers (Spearman's rank correlation with their mean), times
how well it agrees with the truth where there is one. The soft label is

    q = sigmoid(sharpness · (z - the quantile of z that leaves the expected share above it))

where z is the weighted mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from streamtag.model.card import Card
from streamtag.train.data.vocabulary import VocabularyTag
from streamtag.train.distillation.teachers import CLAMP, TeacherScores, column_of
from streamtag.train.evaluation.metrics import areas, rank_correlation
from streamtag.train.training.predictions import sigmoid

SMOOTHED_SECONDS = 9.0
"""Seconds over which the scores of teachers with short windows are averaged."""
SMALLEST_WEIGHT = 0.1
"""Teachers with a smaller weight for a tag are not used for it."""
FEWEST_TRUE = 3
"""The least number of recordings with a tag, and without it, for the truth to be used."""
SHARES = {"mood/theme": (0.12, 0.3), "genre": (0.03, 0.35), "instrument": (0.04, 0.4)}
"""Smallest and largest share of the training music that has a tag, by category."""
OTHER_SHARES = (0.02, 0.4)
MOODS = "mood/theme"
RANKS = np.linspace(0.002, 0.998, 200)
"""Shares of the training moments below the quantiles that are kept."""
NORMAL = np.array([NormalDist().inv_cdf(float(p)) for p in RANKS])
"""The normal scores of these ranks."""
TRUST = {"audioset": 2.0}
"""Teachers that count more than others, even where they agree with nobody: AudioSet's tagger is the
best one of all genres but ambient by the words of `songs`. Two others agree that pizzicato is
jazz."""
DECIDED = 0.2
"""Probability above which a teacher has found a tag, for the expected share."""


@dataclass(frozen=True, slots=True)
class Combination:
    """How the scores of teachers are combined; made by `learn` from training recordings."""

    teachers: tuple[str, ...]
    mean: np.ndarray
    """(n_tags, n_teachers) mean logit; NaN where a teacher does not know the tag."""
    scale: np.ndarray
    """(n_tags, n_teachers) deviation of the logit."""
    ranks: np.ndarray
    """(n_tags, n_teachers, n_quantiles) quantiles of the standardised logit."""
    agreement: np.ndarray
    """(n_tags, n_teachers) Spearman with the mean of the other teachers; NaN without others."""
    truth: np.ndarray
    """(n_tags, n_teachers) ROC-AUC against the truth; NaN where there is none."""
    weights: np.ndarray
    """(n_tags, n_teachers), summing to 1 per tag; all 0 where no teacher knows the tag."""
    middle: np.ndarray
    """(n_tags,) value of z at which the soft label is 1/2."""
    moods: np.ndarray
    """(n_tags,) bool: tags whose values become ranks."""

    def standardised(self, logits: np.ndarray) -> np.ndarray:
        """(n, n_tags, n_teachers) logits to values of mean 0 and deviation 1."""
        z: np.ndarray = (logits - self.mean) / self.scale
        for tag in np.flatnonzero(self.moods):
            for teacher in np.flatnonzero(~np.isnan(self.mean[tag])):
                own = self.ranks[tag, teacher]
                z[:, tag, teacher] = np.interp(z[:, tag, teacher], own, NORMAL)
        return z

    def combined(self, logits: np.ndarray) -> np.ndarray:
        """(n, n_tags, n_teachers) logits to (n, n_tags): the weighted mean, about of deviation 1.

        NaN where no teacher knows the tag. Teachers without scores of the recording (NaN) are
        left out.
        """
        z = self.standardised(logits)
        weights = np.where(np.isnan(z), 0, self.weights)
        total = weights.sum(axis=2)
        mean = (np.nan_to_num(z) * weights).sum(axis=2) / np.maximum(total, 1e-9)
        out: np.ndarray = np.where(total > 0, mean, np.nan)
        return out

    def soft_labels(self, logits: np.ndarray, sharpness: float) -> np.ndarray:
        """(n, n_tags) float32 in (0, 1); NaN where no teacher knows the tag."""
        z = self.combined(logits) - self.middle
        return sigmoid(sharpness * z).astype(np.float32)

    def table(self, tags: Sequence[str]) -> str:
        """The weights as a table of Markdown: weight (agreement, ROC-AUC against the truth)."""

        def cell(tag: int, teacher: int) -> str:
            if np.isnan(self.mean[tag, teacher]):
                return "–"
            pair = (self.agreement[tag, teacher], self.truth[tag, teacher])
            shown = ", ".join("–" if np.isnan(x) else f"{x:.2f}" for x in pair)
            return f"{self.weights[tag, teacher]:.2f} ({shown})"

        head = ["| tag |" + "".join(f" {name} |" for name in self.teachers)]
        head.append("|---|" + "---|" * len(self.teachers))
        rows = [
            f"| {tag} |" + "".join(f" {cell(i, k)} |" for k in range(len(self.teachers)))
            for i, tag in enumerate(tags)
        ]
        return "\n".join(head + rows)


def opinions(
    vocabulary: Sequence[VocabularyTag],
    scores: Mapping[str, TeacherScores],
    cards: Mapping[str, Card],
    moments: np.ndarray,
) -> np.ndarray:
    """The teachers' logits, (n, n_tags, n_teachers): the largest of a teacher's own tags for each.

    NaN where a teacher does not know the tag.

    Args:
        vocabulary: the student's tags.
        scores: scores of the recording, by name of the teacher.
        cards: of all teachers, by name `VOCABULARY` or `VOCABULARY-NET`, for their tags.
        moments: (n,) seconds.
    """
    out = np.full((len(moments), len(vocabulary), len(cards)), np.nan, np.float32)
    for k, (name, card) in enumerate(cards.items()):
        if name not in scores:
            continue
        source = name.partition("-")[0]
        p = np.clip(_around(scores[name], card, moments), CLAMP, 1 - CLAMP)
        logits = np.log(p / (1 - p))
        for i, tag in enumerate(vocabulary):
            if words := [column_of(card, t) for v, t in tag.teacher_tags if v == source]:
                out[:, i, k] = logits[:, words].max(axis=1)
    return out


def learn(
    vocabulary: Sequence[VocabularyTag],
    teachers: Sequence[str],
    recordings: Sequence[np.ndarray],
    truth: np.ndarray,
) -> Combination:
    """Learns how to combine teachers from the training recordings.

    Args:
        vocabulary: the student's tags.
        teachers: names, in the order of the opinions.
        recordings: `opinions` of each.
        truth: (n_recordings, n_tags) 0, 1 or NaN where unknown.
    """
    moods = np.array([tag.category == MOODS for tag in vocabulary])
    everything = np.concatenate(recordings)
    mean, scale = everything.mean(axis=0), np.maximum(everything.std(axis=0), 0.1)
    z = (everything - mean) / scale
    ranks = np.quantile(z, RANKS, axis=0).transpose(1, 2, 0)
    blank = np.full(mean.shape, np.nan)
    first = Combination(
        tuple(teachers), mean, scale, ranks, blank, blank, blank, blank[:, 0], moods
    )
    values = np.stack([first.standardised(own).mean(axis=0) for own in recordings])
    agreement, areas_, known = _agreement(values), _areas(values, truth), ~np.isnan(mean)
    trust = np.array([TRUST.get(name, 1.0) for name in teachers])
    weights = np.maximum(np.where(np.isnan(agreement), 1.0, agreement), np.where(trust > 1, 0.3, 0))
    weights *= np.where(np.isnan(areas_), 0.5, np.clip(2 * areas_ - 1, 0, 1) ** 2)
    weights = np.where(known & (weights >= SMALLEST_WEIGHT), weights, 0)
    lost = known.any(axis=1) & (weights.sum(axis=1) == 0)
    weights[lost] = known[lost] * (trust == (known[lost] * trust).max(axis=1, keepdims=True))
    weights *= trust
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    made = Combination(
        tuple(teachers), mean, scale, ranks, agreement, areas_, weights, blank[:, 0], moods
    )
    whole = made.combined(everything)
    shares = [_share(tag, everything[:, i], weights[i]) for i, tag in enumerate(vocabulary)]
    made.middle[:] = [
        np.quantile(np.nan_to_num(own), 1 - share)
        for own, share in zip(whole.T, shares, strict=True)
    ]
    return made


def _around(scores: TeacherScores, card: Card, moments: np.ndarray) -> np.ndarray:
    """Scores at moments; those of short windows are averaged over `SMOOTHED_SECONDS`."""
    if card.window_seconds >= SMOOTHED_SECONDS:
        return scores.at(moments)
    shifts = np.linspace(-0.5, 0.5, 7) * (SMOOTHED_SECONDS - card.window_seconds)
    out: np.ndarray = np.mean([scores.at(moments + shift) for shift in shifts], axis=0)
    return out


def _agreement(values: np.ndarray) -> np.ndarray:
    """Spearman of each teacher with the mean of the others, (n_tags, n_teachers)."""
    out = np.full(values.shape[1:], np.nan)
    for tag in range(values.shape[1]):
        known = np.flatnonzero(~np.isnan(values[0, tag]))
        for teacher in known if len(known) > 1 else []:
            others = values[:, tag, known[known != teacher]].mean(axis=1)
            out[tag, teacher] = rank_correlation(values[:, tag, teacher], others)
    return out


def _areas(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """ROC-AUC of each teacher against the truth, (n_tags, n_teachers)."""
    out = np.full(values.shape[1:], np.nan)
    for tag in range(values.shape[1]):
        sure = ~np.isnan(truth[:, tag])
        positives = int(truth[sure, tag].sum())
        if min(positives, int(sure.sum()) - positives) < FEWEST_TRUE:
            continue
        for teacher in np.flatnonzero(~np.isnan(values[0, tag])):
            own = areas(truth[sure, tag, None], values[sure, tag, teacher, None])
            out[tag, teacher] = own.roc_auc[0]
    return out


def _share(tag: VocabularyTag, logits: np.ndarray, weights: np.ndarray) -> float:
    """The expected share of training music with a tag: where its teachers find it, on average,
    within limits."""
    least, most = SHARES.get(tag.category, OTHER_SHARES)
    on = np.nan_to_num((logits > np.log(DECIDED / (1 - DECIDED))).mean(axis=0))
    return float(np.clip((on * weights).sum(), least, most))
