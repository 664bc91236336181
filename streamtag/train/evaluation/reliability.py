"""Calibration: whether events with a probability of 70 % happen in 70 of 100 cases."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamtag.errors import StreamtagError
from streamtag.train.evaluation.metrics import HALF, pooled

MAX_TAGS = 24
"""The most small plots of a picture, which are of the tags with the most positives."""
INK, GRID, ACCENT = "#1f2933", "#d5dbe1", "#d9480f"
"""Colours of text, grid and curve."""


def reliability(
    truth: np.ndarray,
    probabilities: np.ndarray,
    bins: int = 10,
    *,
    tags: Sequence[str] = (),
    before: np.ndarray | None = None,
) -> dict[str, Any]:
    """Differences between probabilities and frequencies, in bins of equal width.

    The expected calibration error is the mean distance between the mean probability of a bin and
    its share of positives, weighted by the number of rows in it (Naeini et al. 2015; Guo et al.
    2017, equation 3), here of the probability of each tag.

    Args:
        truth: (n, n_tags) in [0, 1], or NaN.
        probabilities: (n, n_tags) in [0, 1].
        bins: number of bins.
        tags: names of the columns; without them there are only pooled figures.
        before: (n, n_tags), the same before the temperatures.

    Returns:
        `error` and `bins` (those that are not empty: mean probability `said`, share `true`, `n`)
        of all tags together, `error_before` if known; the same for each of `tags`.
    """
    table = _figures(pooled(truth), pooled(probabilities), before, bins)
    table["mean_error"] = _mean_error(truth, probabilities, bins)
    if before is not None:
        table["mean_error_before"] = _mean_error(truth, before, bins)
    if tags:
        table["tags"] = {
            tag: _figures(
                truth[:, i], probabilities[:, i], None if before is None else before[:, i], bins
            )
            for i, tag in enumerate(tags)
        }
    return table


def plot(path: Path, table: dict[str, Any], title: str = "") -> None:
    """Draws the result of `reliability`: all tags together, and a small plot for each tag.

    Args:
        path: the file; its suffix selects the format (PNG, SVG, PDF).
        table: the result of `reliability`.
        title: above it.

    Raises:
        StreamtagError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    tags = table.get("tags", {})
    often = sorted(tags, key=lambda tag: -_positives(tags[tag]))[:MAX_TAGS]
    columns = min(6, len(often))
    rows = math.ceil(len(often) / 6)
    figure = Figure(figsize=(max(5.0, 1.9 * columns), 5 + 2 * rows), dpi=120, layout="constrained")
    top, *rest = figure.subfigures(
        1 + (rows > 0), 1, height_ratios=[5, 2 * rows][: 1 + (rows > 0)], squeeze=False
    )[:, 0]
    _draw(top.add_subplot(), table, title or "all tags", large=True)
    for i, tag in enumerate(often):
        _draw(rest[0].add_subplot(rows, columns, i + 1), tags[tag], tag, large=False)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise StreamtagError(f"{path}: the picture cannot be written: {error}") from None


def _draw(axes: Any, table: dict[str, Any], title: str, *, large: bool) -> None:
    """One reliability diagram; the area of a point grows with the number of rows in its bin."""
    predicted = [b["said"] for b in table["bins"]]
    true = [b["true"] for b in table["bins"]]
    n = np.array([b["n"] for b in table["bins"]], float)
    axes.plot([0, 1], [0, 1], color=GRID, linewidth=1)
    axes.plot(predicted, true, color=ACCENT, linewidth=1, alpha=0.6)
    axes.scatter(
        predicted,
        true,
        s=(90 if large else 30) * np.sqrt(n / max(n.max(initial=1), 1)) + 4,
        color=ACCENT,
    )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    note = f"error {table['error']:.3f}" if table["error"] is not None else ""
    if table.get("error_before") is not None:
        note += f", before the temperatures {table['error_before']:.3f}" if large else ""
    size = 10 if large else 7
    axes.set_title(f"{title}\n{note}", color=INK, fontsize=size, loc="left")
    axes.tick_params(labelsize=8 if large else 5, color=GRID)
    if large:
        axes.set_xlabel("mean probability of a bin", color=INK, fontsize=9)
        axes.set_ylabel("share of positives", color=INK, fontsize=9)
    for spine in axes.spines.values():
        spine.set_color(GRID)


def _figures(
    truth: np.ndarray, probabilities: np.ndarray, before: np.ndarray | None, bins: int
) -> dict[str, Any]:
    """The figures of one column, or of all pooled."""
    predicted, true, n = _bins(truth, probabilities, bins)
    full = np.flatnonzero(n)
    table: dict[str, Any] = {"error": _error(predicted, true, n)}
    if before is not None:
        table["error_before"] = _error(*_bins(truth, before, bins))
    table["bins"] = [
        {"said": round(float(predicted[k]), 4), "true": round(float(true[k]), 4), "n": int(n[k])}
        for k in full
    ]
    return table


def _bins(
    truth: np.ndarray, probabilities: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share of positives and number of rows per bin, (bins,) each."""
    y, p = truth.ravel(), probabilities.ravel().astype(np.float64)
    sure = ~np.isnan(y)
    y, p = y[sure] >= HALF, p[sure]
    which = np.clip(np.floor(p * bins).astype(np.int64), 0, bins - 1)
    n = np.bincount(which, minlength=bins)
    some = np.maximum(n, 1)
    predicted = np.bincount(which, weights=p, minlength=bins) / some
    return predicted, np.bincount(which, weights=y, minlength=bins) / some, n


def _error(predicted: np.ndarray, true: np.ndarray, n: np.ndarray) -> float | None:
    """The expected calibration error; None if there are no rows."""
    if not n.any():
        return None
    return round(float(np.sum(n * np.abs(predicted - true)) / n.sum()), 4)


def _mean_error(truth: np.ndarray, probabilities: np.ndarray, bins: int) -> float | None:
    """Mean over the tags of each one's error."""
    columns = range(truth.shape[1])
    errors = [_error(*_bins(truth[:, i], probabilities[:, i], bins)) for i in columns]
    known = [error for error in errors if error is not None]
    return round(sum(known) / len(known), 4) if known else None


def _positives(table: dict[str, Any]) -> float:
    return float(sum(b["n"] * b["true"] for b in table["bins"]))
