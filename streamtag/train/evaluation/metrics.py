"""Metrics of scores and decisions: areas under curves, precision, recall, F.

Unknown truth (NaN) is left out. Everything else is as in scikit-learn, with which the published
figures of MediaEval 2019 were made: average precision is the step-wise sum, ties are one step, 0/0
counts as 0 in precision, recall and F.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HALF = 0.5
"""A soft label counts as true from this value on."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The known rows of each tag from the largest score down; see `ranking`.

    Rows after `known` are padding.
    """

    scores: np.ndarray
    """(n, n_tags) float64, falling."""
    truth: np.ndarray
    """(n, n_tags) bool, in the same order."""
    hits: np.ndarray
    """(n, n_tags) int64: positives up to this row."""
    ends: np.ndarray
    """(n, n_tags) bool: whether the row is the last one of its score, where a threshold can be."""
    known: np.ndarray
    """(n_tags,) int64: rows with a known truth."""

    @property
    def positives(self) -> np.ndarray:
        """(n_tags,) int64: number of positives."""
        out: np.ndarray = self.truth.sum(axis=0)
        return out

    @property
    def seen(self) -> np.ndarray:
        """(n, 1) int64: number of rows up to this one."""
        return np.arange(1, len(self.scores) + 1)[:, None]


@dataclass(frozen=True, slots=True)
class Areas:
    """Areas per tag, (n_tags,) each; NaN where undefined."""

    roc_auc: np.ndarray
    """float64; NaN without positives or without negatives."""
    pr_auc: np.ndarray
    """float64; NaN without positives."""
    prior: np.ndarray
    """Share of positives, which is the PR-AUC by chance."""
    positives: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of decisions per tag, (n_tags,) float64 each; 0 where undefined."""

    precision: np.ndarray
    recall: np.ndarray
    """The true positive rate."""
    f: np.ndarray
    false_positive_rate: np.ndarray


def ranking(truth: np.ndarray, scores: np.ndarray) -> Ranking:
    """Sorts every column by score.

    Args:
        truth: (n, n_tags) bool, or numbers of which those from 0.5 on are true, or NaN.
        scores: (n, n_tags), no NaN, larger is likelier; bool, integers or floats up to 64 bit.
    """
    sure = ~np.isnan(truth) if truth.dtype.kind == "f" else np.ones(truth.shape, bool)
    keys = np.where(sure, scores.astype(np.float64), -np.inf)
    order = np.argsort(-keys, axis=0)
    keys = np.take_along_axis(keys, order, axis=0)
    right = np.take_along_axis(sure & (truth >= HALF), order, axis=0)
    known = sure.sum(axis=0)
    ends = np.ones(keys.shape, bool)
    ends[:-1] = keys[:-1] != keys[1:]
    ends &= np.arange(len(keys))[:, None] < known
    return Ranking(keys, right, np.cumsum(right, axis=0), ends, known)


def areas(truth: np.ndarray, scores: np.ndarray) -> Areas:
    """Areas under the curves of every tag; arguments as for `ranking`."""
    ranked = ranking(truth, scores)
    n, positives = len(ranked.scores), ranked.positives
    negatives = ranked.known - positives
    rows = np.arange(n)[:, None]
    # The last row of each row's score, and how many positives are above that score.
    last = np.minimum.accumulate(np.where(ranked.ends, rows, n - 1)[::-1], axis=0)[::-1]
    hits = np.take_along_axis(ranked.hits, last, axis=0)
    starts = np.ones(ranked.ends.shape, bool)
    starts[1:] = ranked.ends[:-1]
    first = np.maximum.accumulate(np.where(starts, rows, 0), axis=0)
    before = np.take_along_axis(ranked.hits - ranked.truth, first, axis=0)
    false = ~ranked.truth & (rows < ranked.known)
    # Mann and Whitney 1947: how often a positive is above a negative, ties half.
    pairs = np.where(false, before + hits, 0).sum(axis=0) / 2
    steps = np.where(ranked.truth, hits / (last + 1), 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        prior = positives / ranked.known
        return Areas(
            pairs / (positives * negatives), steps / positives, prior, positives, ranked.known
        )


def rates(truth: np.ndarray, decisions: np.ndarray) -> Rates:
    """Precision, recall, F1 and the false positive rate of every tag.

    Args:
        truth: (n, n_tags) as for `ranking`.
        decisions: (n, n_tags) bool.
    """
    sure = ~np.isnan(truth) if truth.dtype.kind == "f" else np.ones(truth.shape, bool)
    true, decided = sure & (truth >= HALF), sure & decisions
    both = (true & decided).sum(axis=0)
    n_true, n_decided, n = true.sum(axis=0), decided.sum(axis=0), sure.sum(axis=0)
    return Rates(
        precision=_ratio(both, n_decided),
        recall=_ratio(both, n_true),
        f=_ratio(2 * both, n_true + n_decided),
        false_positive_rate=_ratio(n_decided - both, n - n_true),
    )


def pooled(matrix: np.ndarray) -> np.ndarray:
    """(n · n_tags, 1): all pairs of row and tag as one tag, for micro averages."""
    return matrix.reshape(-1, 1)


def roc_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve of one tag; (n,) each, as for `ranking`."""
    return float(areas(truth[:, None], scores[:, None]).roc_auc[0])


def pr_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Average precision of one tag; (n,) each, as for `ranking`."""
    return float(areas(truth[:, None], scores[:, None]).pr_auc[0])


def f1(truth: np.ndarray, decided: np.ndarray) -> float:
    """F1 of decisions, (n,) bool each; NaN if nothing is true and nothing is decided."""
    both, either = int((truth & decided).sum()), int(truth.sum()) + int(decided.sum())
    return 2 * both / either if either else float("nan")


def per_tag(
    tags: Sequence[str], targets: np.ndarray, scores: np.ndarray
) -> dict[str, dict[str, float]]:
    """`roc_auc`, `pr_auc`, the prior (PR-AUC by chance), and `n` known rows, per tag.

    Args:
        tags: names of the columns.
        targets: (n, n_tags) in [0, 1] or NaN.
        scores: (n, n_tags).

    Returns:
        Not rounded; tags without a positive or without a negative are left out.
    """
    found = areas(targets, scores)
    return {
        tag: {
            "roc_auc": float(found.roc_auc[i]),
            "pr_auc": float(found.pr_auc[i]),
            "prior": float(found.prior[i]),
            "n": int(found.known[i]),
        }
        for i, tag in enumerate(tags)
        if 0 < found.positives[i] < found.known[i]
    }


def macro(table: dict[str, dict[str, float]], key: str) -> float:
    """Mean of one column of `per_tag` with equal weights; NaN if the table is empty."""
    values = [row[key] for row in table.values()]
    return sum(values) / len(values) if values else float("nan")


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """over / under, 0 for 0/0."""
    out: np.ndarray = np.divide(over, under, out=np.zeros(len(over)), where=under > 0)
    return out


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two rows of numbers; NaN if one of them is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 on; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks
