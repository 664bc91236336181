"""Figures of a playlist, and their tables and picture for people.

The figures tell how soon events come, how many are false, and how often tags flap.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtag.errors import StreamtagError
from streamtag.train.evaluation.metrics import areas, pooled, rates
from streamtag.train.evaluation.playlist import StreamResult
from streamtag.train.evaluation.scores import table as score_table

INK, GRID = "#1f2933", "#d5dbe1"
"""Colours of text and grid."""
COLOURS = {"pr_auc": "#1c7ed6", "f_macro": "#d9480f", "events_f_macro": "#2b8a3e"}
CURVES = {
    "pr_auc": "PR-AUC of the scores",
    "f_macro": "F of the scores at the on thresholds",
    "events_f_macro": "F of the events",
}


def live_table(body: dict[str, Any]) -> RenderableType:
    """All figures as tables."""
    head = Text(f"{body['bundle']} on {body['corpus']}", "bold")
    head.append(
        f"\n{body['recordings']} recordings ({body['part']}), {body['hours']:.2f} hours in "
        f"{body['streams']} streams, windows of {body['window_seconds']:.2f} s"
    )
    for key, words in (
        ("only_in_bundle", "tags of the model that the data does not have, left out"),
        ("only_in_corpus", "tags of the data that the model does not have"),
        ("off_by_default", "off by default, so they make no events"),
        ("broken", "recordings that cannot be decoded, left out"),
    ):
        if body[key]:
            head.append(f"\n{words}: {len(body[key])} ({', '.join(body[key][:8])}", "dim")
            head.append(", …)" if len(body[key]) > 8 else ")", "dim")
    if not body["tags"]:
        head.append("\nNo tag of the model is in the data: every event counts as false.", "bold")
        return Group(head, Text(), _events_table(body))
    return Group(
        head,
        Text("\nwhole recordings, one by one", "bold"),
        score_table(body["whole"]),
        Text("\nas a function of the seconds of audio", "bold"),
        _curve_table(body["heard"], "heard"),
        Text("\nas a function of the seconds after a cut", "bold"),
        _curve_table(body["after_cuts"], "after"),
        Text("\nevents", "bold"),
        _events_table(body),
    )


def live_plot(path: Path, body: dict[str, Any]) -> None:
    """Draws accuracy against the seconds given and against the seconds after a cut.

    Args:
        path: the file; its suffix selects the format (PNG, SVG, PDF).
        body: the result of `live.evaluate`.

    Raises:
        StreamtagError: there is nothing to draw, or the picture cannot be written.
    """
    from matplotlib.figure import Figure

    if not body["tags"]:
        raise StreamtagError(
            f"{path}: expected a model and data with tags in common, got none: nothing to draw"
        )
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    titles = {"heard": "after the first seconds", "after_cuts": "after a cut"}
    whole = {"pr_auc": body["whole"]["macro"]["pr_auc"]}
    for axes, (key, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        for name, words in CURVES.items():
            points = [(e["seconds"], e[name]) for e in body[key] if e.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[name], label=words)
        if whole["pr_auc"] is not None:
            axes.axhline(
                whole["pr_auc"],
                color=COLOURS["pr_auc"],
                linestyle=":",
                label="PR-AUC, whole recordings",
            )
        prior = body["whole"]["macro"]["prior"]
        axes.axhline(prior, color=GRID, label="PR-AUC by chance")
        axes.set_title(title, loc="left", color=INK, fontsize=10)
        axes.set_xlabel("seconds", color=INK, fontsize=9)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(left=0)
        axes.grid(color=GRID, linewidth=0.5)
        axes.tick_params(labelsize=8, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    lines, names = figure.axes[-1].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=5, fontsize=7, frameon=False)
    figure.suptitle(f"{body['bundle']} on {body['corpus']}", x=0.01, ha="left", fontsize=11)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise StreamtagError(f"{path}: the picture cannot be written: {error}") from None


def _curve_table(entries: list[dict[str, Any]], what: str) -> Table:
    names = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC", "f_macro": "F macro", "f_micro": "F micro"}
    if what == "after":
        names |= {"events_f_macro": "events: F macro", "events_f_micro": "F micro"}
    table = Table(box=None, padding=(0, 2, 0, 1), header_style="dim")
    for name in (what, "recordings" if what == "heard" else "cuts", *names.values()):
        table.add_column(name, justify="right")
    for entry in entries:
        values = (_number(entry[key], 4) for key in names)
        table.add_row(f"{entry['seconds']:g} s", str(entry["n"]), *values)
    return table


def _events_table(body: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 1), show_header=False)
    table.add_column()
    table.add_column(style="bold", justify="right")
    table.add_column(style="dim")
    false, flaps = body["false_events"], body["flapping"]
    worst = ", ".join(f"{tag} {n}" for tag, n in list(false["tags"].items())[:4])
    note = f"{false['false']} of {false['events']}" + (f"; most: {worst}" if worst else "")
    table.add_row("false events per hour", _number(false["per_hour"], 1), note)
    without_tags = false["without_tags"]
    note = f"{without_tags['false']} in {without_tags['hours']:.2f} hours"
    table.add_row("  where no tag is true", _number(without_tags["per_hour"], 1), note)
    table.add_row(
        "tags switched on again, per hour", _number(flaps["per_hour"], 1), f"{flaps['again']} times"
    )
    for key, words in (("detection", "from a cut to on"), ("release", "from a cut to off")):
        if key in body:
            row = body[key]
            share = f"{_percent(row['share'])} of {row['wanted']} before the next cut"
            late = f"90 % of them within {_number(row['p90'], 2)} s"
            note = f"{share}, {late}" if row["median"] is not None else share
            median = f"{row['median']:.2f} s" if row["median"] is not None else "–"
            table.add_row(words, median, f"{note}; {row['already']} were so already")
    return table


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def score_metrics(truth: np.ndarray, scores: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """Rows `n`, macro areas, and F1 at thresholds, over the tags that are true somewhere.

    Args:
        truth: (n, n_tags) bool.
        scores: (n, n_tags).
        high: (n_tags,) thresholds; a score that is equal counts.
    """
    found = areas(truth, scores)
    f_macro, f_micro = f_scores(truth, scores >= high)
    return {
        "n": len(truth),
        "roc_auc": _mean(found.roc_auc),
        "pr_auc": _mean(found.pr_auc),
        "f_macro": f_macro,
        "f_micro": f_micro,
    }


def f_scores(truth: np.ndarray, decided: np.ndarray) -> tuple[float | None, float | None]:
    """Macro F1 over the tags that are true somewhere, and micro F1 over all."""
    some = truth.any(axis=0)
    if not some.any():
        return None, None
    each, all_ = rates(truth, decided), rates(pooled(truth), pooled(decided))
    return float(each.f[some].mean()), float(all_.f[0])


def after_cuts(
    streams: Sequence[StreamResult],
    truth: np.ndarray,
    high: np.ndarray,
    columns: Sequence[int],
    switched: Sequence[int],
    delays: Sequence[float],
    rate: int,
) -> list[dict[str, Any]]:
    """Scores and decisions some seconds after a cut, one entry per delay.

    Only cuts between recordings whose tags differ count, and only recordings that last so long.

    Args:
        streams: what the tagger returned, per stream.
        truth: (n_recordings, n_tags) bool, of all tags of the bundle.
        high: (n_tags,) on thresholds.
        columns: tags to judge the smoothed scores of: areas, and F1 at the on thresholds.
        switched: tags to judge the decisions of: which tags are on.
        delays: seconds.
        rate: Hz.
    """
    table = []
    for delay in delays:
        right, found, on = [], [], []
        for stream in streams:
            positions = [k for k in _cuts(stream, truth) if (k, delay) in stream.snapshots]
            starts = np.array([stream.spans[k].start for k in positions], np.int64)
            right += [truth[stream.spans[k].recording] for k in positions]
            found += [stream.snapshots[k, delay] for k in positions]
            on.append(stream.active.state(starts + round(delay * rate), truth.shape[1]))
        if right:
            both = np.array(right)
            # Before the first window of a stream there is no score.
            scores = np.nan_to_num(np.array(found)[:, list(columns)], nan=0.0)
            entry = {"seconds": delay} | score_metrics(
                both[:, list(columns)], scores, high[list(columns)]
            )
            macro, micro = f_scores(both[:, list(switched)], np.concatenate(on)[:, list(switched)])
            table.append(entry | {"events_f_macro": macro, "events_f_micro": micro})
    return table


def false_events(
    streams: Sequence[StreamResult], truth: np.ndarray, tags: Sequence[str], rate: int
) -> dict[str, Any]:
    """False switch-ons per hour, in all and in recordings in which no tag is true.

    An event is false if its tag is never true from the event's own time to its decision. So a
    window across a cut makes neither a late nor an early event false.

    Args:
        streams: what the tagger returned, per stream.
        truth: (n_recordings, n_tags) bool.
        tags: names.
        rate: Hz.
    """
    switched = false = false_without_tags = quiet = 0
    by_tag: Counter[str] = Counter()
    for stream in streams:
        numbers = [span.recording for span in stream.spans]
        without_tags = [not truth[number].any() for number in numbers]
        quiet += sum(
            s.end - s.start for s, is_so in zip(stream.spans, without_tags, strict=True) if is_so
        )
        first, last = stream.position(stream.active.at + 1), stream.position(stream.active.decided)
        for tag, i, k in zip(stream.active.tag.tolist(), first, last, strict=True):
            switched += 1
            if not truth[numbers[i : k + 1], tag].any():
                false += 1
                false_without_tags += without_tags[k]
                by_tag[tags[tag]] += 1
    hours = quiet / rate / 3600
    return {
        "events": switched,
        "false": false,
        "per_hour": _per_hour(false, _hours(streams, rate)),
        "without_tags": {
            "false": false_without_tags,
            "hours": hours,
            "per_hour": _per_hour(false_without_tags, hours),
        },
        "tags": dict(by_tag.most_common()),
    }


def flapping(streams: Sequence[StreamResult], rate: int) -> dict[str, Any]:
    """Tags per hour that are switched on again within one recording."""
    again = 0
    for stream in streams:
        starts = np.array([span.start for span in stream.spans])
        for tag in np.unique(stream.active.tag):
            mine = stream.active.of(int(tag))
            begun = starts[stream.position(mine.decided)]
            again += int(np.sum(mine.until[:-1] > begun[1:]))
    return {"again": again, "per_hour": _per_hour(again, _hours(streams, rate))}


def detection(
    streams: Sequence[StreamResult], truth: np.ndarray, switched: Sequence[int], rate: int
) -> dict[str, Any]:
    """Delay from a cut to the switch-on of the tags that became true there.

    Tags that were already on at the cut are counted apart.
    """
    return _switch_delays(streams, truth, switched, rate, became=True)


def release(
    streams: Sequence[StreamResult], truth: np.ndarray, switched: Sequence[int], rate: int
) -> dict[str, Any]:
    """Delay from a cut to the switch-off of the tags that are no longer true.

    Tags that were already off at the cut are counted apart.
    """
    return _switch_delays(streams, truth, switched, rate, became=False)


def _switch_delays(
    streams: Sequence[StreamResult],
    truth: np.ndarray,
    switched: Sequence[int],
    rate: int,
    *,
    became: bool,
) -> dict[str, Any]:
    """Delays from cuts to the switches that should follow them, within the recording."""
    delays: list[float] = []
    wanted = already = 0
    for stream in streams:
        numbers = [span.recording for span in stream.spans]
        old, new = truth[numbers[:-1]], truth[numbers[1:]]
        changed = new & ~old if became else old & ~new
        starts = np.array([span.start for span in stream.spans[1:]], np.int64)
        ends = np.array([span.end for span in stream.spans[1:]], np.int64)
        done = stream.active.state(starts, truth.shape[1]) == became
        for tag in switched:
            mine = stream.active.of(tag)
            moments = mine.decided if became else mine.until
            cuts = np.flatnonzero(changed[:, tag] & ~done[:, tag])
            already += int(np.sum(changed[:, tag] & done[:, tag]))
            wanted += len(cuts)
            following = np.searchsorted(moments, starts[cuts], side="right")
            for cut, k in zip(cuts, following, strict=True):
                if k < len(moments) and moments[k] <= ends[cut]:
                    delays.append(float(moments[k] - starts[cut]) / rate)
    return {
        "wanted": wanted,
        "share": len(delays) / wanted if wanted else None,
        "median": float(np.median(delays)) if delays else None,
        "p90": float(np.percentile(delays, 90)) if delays else None,
        "already": already,
    }


def _cuts(stream: StreamResult, truth: np.ndarray) -> list[int]:
    """Positions of the recordings that begin with a change of truth."""
    numbers = [span.recording for span in stream.spans]
    return [k for k in range(1, len(numbers)) if (truth[numbers[k]] != truth[numbers[k - 1]]).any()]


def _hours(streams: Sequence[StreamResult], rate: int) -> float:
    return sum(stream.end for stream in streams) / rate / 3600


def _per_hour(count: int, hours: float) -> float | None:
    return count / hours if hours else None


def _mean(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
