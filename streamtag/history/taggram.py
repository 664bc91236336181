"""A taggram: the tags of a recording over time, as a picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamtag.errors import StreamtagError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TAGS = 24
"""A picture has at most this many rows; the least important tags are left out."""
INK, GRID, ACCENT = "#1f2933", "#d5dbe1", "#d9480f"


@dataclass(frozen=True, slots=True)
class TagSpan:
    """A tag that was on, [on, off) in seconds."""

    tag: str
    on: float
    off: float


def importance(tags: Sequence[str], smoothed: np.ndarray, spans: Sequence[TagSpan]) -> list[int]:
    """Indices of the tags, the most important first: longest on, then most probable.

    `smoothed` are (n_windows, n_tags) probabilities.
    """
    on = {tag: sum(s.off - s.on for s in spans if s.tag == tag) for tag in tags}
    known = ~np.isnan(smoothed)
    mean = np.where(known, smoothed, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return sorted(range(len(tags)), key=lambda i: (-on[tags[i]], -float(mean[i])))


def draw(
    path: Path,
    title: str,
    tags: Sequence[str],
    times: np.ndarray,
    smoothed: np.ndarray,
    spans: Sequence[TagSpan],
    duration: float,
    unknown: Sequence[tuple[float, float]] = (),
) -> None:
    """Writes a picture: a row per tag, shaded by probability, with a bar where the tag was on.

    Args:
        path: its suffix selects the format; matplotlib writes PNG, SVG and PDF.
        title: above it.
        tags: names, in the order of the columns of `smoothed`.
        times: (n_windows,) seconds, the middle of each window; rising.
        smoothed: (n_windows, n_tags) probabilities; NaN where nothing is known.
        spans: when tags were on.
        duration: seconds of audio.
        unknown: [begin, end) seconds of which nothing is known.

    Raises:
        StreamtagError: the picture cannot be written.
    """
    from matplotlib.figure import Figure  # the import takes half a second

    order = importance(tags, smoothed, spans)[:MAX_TAGS]
    figure = Figure(figsize=(11, 1.2 + 0.3 * max(4, len(order))), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    edges = _edges(times, duration)
    if len(times):
        rows = np.arange(len(order) + 1) - 0.5
        values = smoothed[:, order].T
        axes.hlines(rows, 0, edges[-1], color="white", linewidth=2)
        top = (
            math.ceil(10 * max(float(np.nanmax(values, initial=0.0)), 0.1)) / 10
        )  # some models are never sure
        mesh = axes.pcolormesh(edges, rows, values, cmap="Blues", vmin=0, vmax=top, rasterized=True)
        bar = figure.colorbar(mesh, ax=axes, pad=0.01, fraction=0.03, aspect=30)
        bar.set_label("smoothed probability", color=INK, fontsize=8)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, color=GRID)
    for begin, end in unknown:
        axes.axvspan(begin, end, facecolor="#eef1f4", edgecolor=GRID, hatch="////", linewidth=0)
    _draw_spans(axes, [tags[i] for i in order], spans)
    _style(axes, [tags[i] for i in order], {s.tag for s in spans}, duration)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise StreamtagError(f"{path}: the picture cannot be written: {error}") from None


def _edges(times: np.ndarray, duration: float) -> np.ndarray:
    """(n_windows + 1,) borders between windows: half-way between their middles."""
    if not len(times):
        return np.array([0.0])
    between = (times[1:] + times[:-1]) / 2
    return np.concatenate([[0.0], between, [max(duration, times[-1])]])


def _draw_spans(axes: "Axes", tags: Sequence[str], spans: Sequence[TagSpan]) -> None:
    for row, tag in enumerate(tags):
        bars = [(s.on, max(s.off - s.on, 0.05)) for s in spans if s.tag == tag]
        if bars:
            axes.broken_barh(bars, (row - 0.12, 0.24), color=ACCENT, linewidth=0)


def _style(axes: "Axes", tags: Sequence[str], active: set[str], duration: float) -> None:
    """Axes, names and grid; the names of tags that were on stand out."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    axes.set_xlim(0, max(duration, 0.1))
    axes.set_ylim(max(len(tags), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(tags)), tags)
    for label in axes.get_yticklabels():
        on = label.get_text() in active
        label.set(color=INK if on else "#7b8794", fontweight="bold" if on else "normal", size=9)
    axes.xaxis.set_major_locator(MultipleLocator(_step(duration)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: minutes(x)))
    axes.tick_params(axis="both", length=0, labelsize=9)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_xlabel("time (minutes:seconds); orange: the tag is on", color=INK, fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _step(duration: float) -> float:
    """Seconds between the marks of the time axis: a round number, about twelve marks."""
    rounds = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    return next((step for step in rounds if duration / step <= 14), 7200)


def minutes(seconds: float) -> str:
    """`75` as `1:15`; tenths only where there are some."""
    tenths = round(seconds * 10)
    whole = f"{tenths // 600}:{tenths // 10 % 60:02}"
    return f"{whole}.{tenths % 10}" if tenths % 10 else whole
