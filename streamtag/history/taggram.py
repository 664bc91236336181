"""A taggram: the tags of a recording, or of a past hour in a journal, over time as a picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamtag.errors import StreamtagError
from streamtag.feed.messages import Scores
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.history.history import History
from streamtag.history.intervals import HOUR, StreamIntervals, stream_intervals, without
from streamtag.history.query import Query

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TAGS = 24
"""A picture has at most this many rows; the least important tags are left out."""
MARGIN = 600 * 10**9
"""Scores are read this many nanoseconds beyond the hour: a message has the time of the end of its
window, and the picture shows the middle."""
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


def draw_hour(
    history: History, stream: str, hour: int, path: Path, end: int | None, tagger: str = ""
) -> str:
    """Draws one hour of a stream and returns the name of the tagger.

    The hour is its beginning, in nanoseconds since 1970. The suffix of the path selects the format.
    For `end` see `stream_intervals`. `tagger` may be empty if there is only one.

    Raises:
        StreamtagError: the journal has nothing of that hour, there are several taggers, or the
            picture cannot be written.
    """
    events = history.events_between([stream], hour, hour + HOUR)
    intervals = stream_intervals(events[stream], end) if events else StreamIntervals()
    if tagger:
        intervals = StreamIntervals(
            intervals.received, {k: v for k, v in intervals.on.items() if k[0] == tagger}
        )
    scores = _scores(history, stream, hour, tagger)
    spans = _spans(intervals, hour)
    unknown = without([(hour, hour + HOUR)], intervals.received)
    title = f"{stream}, {rfc3339(hour)[:16].replace('T', ' ')} UTC"
    if not scores and not spans and unknown == [(hour, hour + HOUR)]:
        known = ", ".join(history.streams()) or "none"
        raise StreamtagError(
            f"journal {history.path}: expected something about {title}, got nothing; it knows the "
            f"streams {known}"
        )
    taggers = {one.tagger for one in scores} | {name for name, _ in spans}
    if len(taggers) > 1:
        raise StreamtagError(
            f"{title}: expected one tagger, got {', '.join(sorted(taggers))}; choose: --tagger"
        )
    on = [span for _, span in spans]
    tags, times, smoothed = _matrix(scores, on, hour)
    grey = [((a - hour) / 1e9, (b - hour) / 1e9) for a, b in unknown]
    draw(path, title, tags, times, smoothed, on, HOUR / 1e9, unknown=grey)
    return next(iter(taggers), "")


def _spans(intervals: StreamIntervals, hour: int) -> list[tuple[str, TagSpan]]:
    """Tagger and span, in seconds of the hour."""
    return [
        (tagger, TagSpan(tag, (max(a, hour) - hour) / 1e9, (min(b, hour + HOUR) - hour) / 1e9))
        for (tagger, tag), spans in intervals.on.items()
        for a, b in spans
        if a < hour + HOUR and b > hour
    ]


def _scores(history: History, stream: str, hour: int, tagger: str) -> list[Scores]:
    """The scores whose windows have their middle in the hour."""
    wanted = Query(
        streams=frozenset([stream]),
        types=frozenset(["scores"]),
        since=hour - MARGIN,
        until=hour + HOUR + MARGIN,
    )
    return [
        entry.message
        for entry in history.entries(wanted)
        if isinstance(entry.message, Scores)
        and (not tagger or entry.message.tagger == tagger)
        and hour <= _middle(entry.message) < hour + HOUR
    ]


def _middle(scores: Scores) -> int:
    return ns_of(scores.utc) - round((scores.t - scores.start) * 5e8)


def _matrix(
    scores: list[Scores], on: list[TagSpan], hour: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Tags, (n,) seconds of the hour, rising, and (n, n_tags) probabilities.

    Where windows are missing, a row of NaN on either side keeps the neighbours from being drawn
    over the hole. A model may have been replaced by one with other tags: unknown values are NaN.
    """
    tags = list(dict.fromkeys([*(tag for s in scores for tag in s.tags), *(s.tag for s in on)]))
    column = {tag: i for i, tag in enumerate(tags)}
    rows = sorted(
        (((_middle(one) - hour) / 1e9, one) for one in _distinct(scores)), key=lambda row: row[0]
    )
    times = np.array([at for at, _ in rows])
    values = np.full((len(rows), len(tags)), np.nan)
    for row, (_, one) in zip(values, rows, strict=True):
        row[[column[tag] for tag in one.tags]] = one.smoothed
    if len(times) < 2:
        return tags, times, values
    hop = float(np.median(np.diff(times)))
    holes = np.flatnonzero(np.diff(times) > 2.5 * hop)
    borders = np.concatenate([times[holes] + hop, times[holes + 1] - hop])
    order = np.argsort(np.concatenate([times, borders]), kind="stable")
    values = np.concatenate([values, np.full((len(borders), len(tags)), np.nan)])
    return tags, np.concatenate([times, borders])[order], values[order]


def _distinct(scores: list[Scores]) -> list[Scores]:
    """The last scores of each moment."""
    return list({_middle(one): one for one in scores}.values())
