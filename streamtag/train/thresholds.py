"""From a fitted net to decisions: temperatures and thresholds, on validation data only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtag.train.metrics import best_f1, known

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
    """Tags whose F1 is too small to be believed."""


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
    smallest_f1: float,
    off_ratio: float,
) -> Switches:
    """On thresholds of the largest F1, off thresholds at a ratio of them.

    Args:
        tags: names of the columns.
        targets: (n, n_tags) in [0, 1] or NaN.
        probabilities: (n, n_tags).
        smallest_f1: below it a tag is off by default.
        off_ratio: in (0, 1].
    """
    found = [best_f1(*known(targets[:, i], probabilities[:, i])) for i in range(targets.shape[1])]
    on = tuple(round(min(max(threshold, LOWEST), HIGHEST), 4) for threshold, _ in found)
    return Switches(
        on=on,
        off=tuple(round(threshold * off_ratio, 4) for threshold in on),
        f1=tuple(round(f1, 3) for _, f1 in found),
        off_by_default=tuple(
            tag for tag, (_, f1) in zip(tags, found, strict=True) if f1 < smallest_f1
        ),
    )
