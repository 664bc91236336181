"""What `live.evaluate` found, for people: tables and a picture."""

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtag.errors import StreamtagError
from streamtag.train.evaluation.scores import table as score_table

INK, GRID = "#1f2933", "#d5dbe1"
COLOURS = {"pr_auc": "#1c7ed6", "f_macro": "#d9480f", "events_f_macro": "#2b8a3e"}
CURVES = {
    "pr_auc": "PR-AUC of the scores",
    "f_macro": "F of the scores at the on thresholds",
    "events_f_macro": "F of the events",
}


def live_table(body: dict[str, Any]) -> RenderableType:
    """Everything, as tables."""
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
        Text("\nas a function of the seconds heard", "bold"),
        _curve_table(body["heard"], "heard"),
        Text("\nas a function of the seconds after a cut", "bold"),
        _curve_table(body["after_cuts"], "after"),
        Text("\nevents", "bold"),
        _events_table(body),
    )


def live_plot(path: Path, body: dict[str, Any]) -> None:
    """Draws accuracy over the seconds heard and over the seconds after a cut.

    Args:
        path: its suffix says the format; matplotlib knows PNG, SVG, PDF.
        body: of `live.evaluate`.

    Raises:
        StreamtagError: nothing to draw, or the picture cannot be written.
    """
    from matplotlib.figure import Figure

    if not body["tags"]:
        raise StreamtagError(
            f"{path}: expected a model and data with tags in common, got none: nothing to draw"
        )
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    titles = {"heard": "only so much is heard", "after_cuts": "after a cut"}
    whole = {"pr_auc": body["whole"]["macro"]["pr_auc"]}
    for axes, (key, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        for name, words in CURVES.items():
            points = [(e["seconds"], e[name]) for e in body[key] if e.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[name], label=words)
        if whole["pr_auc"] is not None:
            axes.axhline(
                whole["pr_auc"], color=COLOURS["pr_auc"], linestyle=":", label="PR-AUC, all heard"
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
    alien = false["without_tags"]
    note = f"{alien['false']} in {alien['hours']:.2f} hours"
    table.add_row("  where no tag is true", _number(alien["per_hour"], 1), note)
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
