"""How good scores are: areas under curves, F1. Truth may be unknown (NaN) in places."""

from collections.abc import Sequence

import numpy as np


def known(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One tag's truth as (n,) bool and its scores, where the truth is no NaN; 0.5 is true."""
    sure = ~np.isnan(truth)
    return truth[sure] >= 0.5, scores[sure].astype(np.float64)


def roc_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive is above a negative, ties half.

    Mann and Whitney 1947; NaN without positives or without negatives.

    Args:
        truth: (n,) bool.
        scores: (n,), larger is likelier.
    """
    n_positive, n = int(truth.sum()), len(truth)
    if n_positive in (0, n):
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = ranks[truth].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * (n - n_positive)))


def pr_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Average precision, Σ (recall step · precision), as scikit-learn defines it.

    NaN without positives.
    """
    if not truth.any():
        return float("nan")
    precision, recall, _ = curve(truth, scores)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def curve(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at each distinct score as threshold, from the largest down."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    precision = hits[ends] / (ends + 1)
    recall = hits[ends] / max(1, int(truth.sum()))
    return precision, recall, scores[order][ends]


def best_f(truth: np.ndarray, scores: np.ndarray, beta: float = 1.0) -> tuple[float, float]:
    """The threshold (score >= threshold) of the largest F-beta, and that; (1, 0) if none is true.

    Args:
        truth: (n,) bool.
        scores: (n,).
        beta: recall counts so many times as much as precision (van Rijsbergen 1979).
    """
    if not truth.any():
        return 1.0, 0.0
    precision, recall, thresholds = curve(truth, scores)
    below = beta**2 * precision + recall
    f_beta = (1 + beta**2) * precision * recall / np.maximum(below, 1e-12)
    best = int(np.argmax(f_beta))
    return float(thresholds[best]), float(f_beta[best])


def f1(truth: np.ndarray, decided: np.ndarray) -> float:
    """F1 of decisions, (n,) bool each; NaN if nothing is true and nothing was decided."""
    both, either = int((truth & decided).sum()), int(truth.sum()) + int(decided.sum())
    return 2 * both / either if either else float("nan")


def per_tag(
    tags: Sequence[str], targets: np.ndarray, scores: np.ndarray
) -> dict[str, dict[str, float]]:
    """`roc_auc`, `pr_auc`, the prior that PR-AUC starts from, and `n` judged windows, per tag.

    Args:
        tags: names of the columns.
        targets: (n, n_tags) in [0, 1] or NaN.
        scores: (n, n_tags).

    Returns:
        Tags without a positive or without a negative are left out.
    """
    table = {}
    for i, tag in enumerate(tags):
        truth, score = known(targets[:, i], scores[:, i])
        if 0 < truth.sum() < len(truth):
            table[tag] = {
                "roc_auc": round(roc_auc(truth, score), 3),
                "pr_auc": round(pr_auc(truth, score), 3),
                "prior": round(float(truth.mean()), 3),
                "n": len(truth),
            }
    return table


def macro(table: dict[str, dict[str, float]], key: str) -> float:
    """Mean of one column of `per_tag`, every tag counting the same; NaN if it is empty."""
    values = [row[key] for row in table.values()]
    return round(sum(values) / len(values), 3) if values else float("nan")
