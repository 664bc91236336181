"""From a fitted net to decisions: temperatures and thresholds, on validation data only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtag.train.metrics import best_f, f1, known, pr_auc, roc_auc
from streamtag.train.recipe import Thresholds

TEMPERATURES = np.geomspace(0.25, 4.0, 65)
"""Those tried; the middle one is 1."""
LOWEST, HIGHEST = 0.1, 0.95
"""Thresholds are kept within: beyond, a little drift would hold a tag on or off for good."""


@dataclass(frozen=True, slots=True)
class Switches:
    """Thresholds per tag."""

    on: tuple[float, ...]
    off: tuple[float, ...]
    f1: tuple[float, ...]
    """In validation, at `on`."""
    off_by_default: tuple[str, ...]
    """Tags that are hardly better than chance."""


def temperatures(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Per tag the temperature that makes the probabilities likeliest, (n_tags,) float32.

    Guo et al., "On calibration of modern neural networks", 2017, section 4.2, per tag.

    Args:
        targets: (n, n_tags) in [0, 1] or NaN.
        logits: (n, n_tags).
    """
    best = np.ones(targets.shape[1], np.float32)
    for i in range(targets.shape[1]):
        sure = ~np.isnan(targets[:, i])
        if not sure.any():
            continue
        y, z = targets[sure, i].astype(np.float64), logits[sure, i].astype(np.float64)
        losses = [cross_entropy(y, z / t) for t in TEMPERATURES]
        best[i] = TEMPERATURES[int(np.argmin(losses))]
    return best


def cross_entropy(targets: np.ndarray, logits: np.ndarray) -> float:
    """Mean binary cross-entropy of (n,) logits, in nats."""
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def switches(
    tags: Sequence[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    rules: Thresholds,
) -> Switches:
    """On thresholds of the largest F-beta, but high enough for sounds that are no instrument.

    Off thresholds are at a ratio of them.

    Args:
        tags: names of the columns.
        targets: (n, n_tags) in [0, 1] or NaN.
        probabilities: (n, n_tags).
        rules: of the recipe.
    """
    nothing = probabilities[(targets == 0).all(axis=1)]
    on, scores = [], []
    for i in range(len(tags)):
        truth, chances = known(targets[:, i], probabilities[:, i])
        best = max(
            best_f(truth, chances, rules.beta)[0], _above(nothing[:, i], rules.stray_share), LOWEST
        )
        on.append(math.floor(1e4 * min(best, HIGHEST)) / 1e4)
        scores.append(round(f1(truth, chances >= on[-1]), 3))
    return Switches(
        on=tuple(on),
        off=tuple(round(threshold * rules.off_ratio, 4) for threshold in on),
        f1=tuple(scores),
        off_by_default=tuple(
            tag
            for i, tag in enumerate(tags)
            if not _believed(*known(targets[:, i], probabilities[:, i]), rules)
        ),
    )


def _believed(truth: np.ndarray, chances: np.ndarray, rules: Thresholds) -> bool:
    """Whether a tag is better than chance by as much as the rules want.

    The area must exceed what is wanted by two standard errors of chance (Mann and Whitney 1947).
    """
    n, positives = len(truth), int(truth.sum())
    if positives in (0, n):
        return False
    error = math.sqrt((n + 1) / (12 * positives * (n - positives)))
    if roc_auc(truth, chances) < rules.smallest_roc_auc + 2 * error:
        return False
    return pr_auc(truth, chances) >= rules.smallest_lift * positives / n


def _above(values: np.ndarray, share: float) -> float:
    """A threshold that at most `share` of the values exceed; 0 if there are none."""
    return float(np.quantile(values, 1 - share)) if len(values) else 0.0
