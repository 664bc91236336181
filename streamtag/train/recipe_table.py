"""The table of the included recipes, for `streamtag recipes` and docs/models-method.md."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtag.train.data.vocabulary import read_vocabulary
from streamtag.train.nets.model import new_model
from streamtag.train.recipes.file import known_recipes, load_any
from streamtag.train.recipes.recipe import Ensemble, Recipe, Task
from streamtag.train.recipes.sources import (
    DEFAULT,
    RecipeValue,
    heading_comments,
    recipe_values,
)

FIGURES = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC", "f_macro": "F macro", "f_micro": "F micro"}
"""Published scores that have a column."""
WIDE = 120
"""Columns of a terminal that shows everything."""
CAPTION = "published: test ROC-AUC / PR-AUC, v: on validation"
MORE = "what a run is, and its data: streamtag recipes NAME, or a wider terminal"
MOODS = 56
"""Number of tags of MTG-Jamendo's mood/theme subset (Bogdanov et al. 2019)."""


@dataclass(frozen=True, slots=True)
class RecipeRow:
    """A recipe in short."""

    name: str
    paper: str
    """Full citation; empty for our own recipes."""
    run: str
    net: str
    parameters: int
    """Number of weights of the net, or of all members of an ensemble."""
    window_seconds: float
    """Window in seconds, of the longest member of an ensemble."""
    data: str
    """The training data."""
    options: str
    """The options of the command that name that data."""
    published: Mapping[str, float]

    @property
    def command(self) -> str:
        """The command that trains it."""
        return f"streamtag train {self.name} {self.options}"


def recipe_rows() -> list[RecipeRow]:
    """All included recipes, grouped by paper, in the order of their names."""
    found = {name: load_any(name) for name in known_recipes()}
    single = {name: _row(name, r) for name, r in found.items() if isinstance(r, Recipe)}
    several = [
        _ensemble_row(name, r, single) for name, r in found.items() if isinstance(r, Ensemble)
    ]
    return sorted([*single.values(), *several], key=lambda row: (_key(row.paper), row.name))


def n_tags(recipe: Recipe) -> int:
    """Number of tags on the data that the recipe was written for; 1 if it has none."""
    if recipe.distil is not None:
        return len(read_vocabulary(recipe.distil.vocabulary))
    if recipe.tags:
        return len(recipe.tags)
    if recipe.task is Task.RECONSTRUCT:
        return 1
    number = re.match(r"\d+", recipe.recordings.subset)
    return int(number[0]) if number else MOODS


def parameters(recipe: Recipe) -> int:
    """Number of weights of its net, frozen ones included."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return sum(weights.numel() for weights in new_model(recipe, n_tags(recipe)).parameters())


def short_citation(paper: str) -> str:
    """`Names: Title. Venue 2019` as `First et al. 2019`."""
    if not paper:
        return "streamtag"
    names = paper.partition(":")[0].split(", ")
    who = {1: names[0], 2: " and ".join(names)}.get(len(names), f"{names[0]} et al.")
    years = re.findall(r"\b20\d\d\b", paper)
    return f"{who} {years[-1]}" if years else who


def table(width: int = WIDE) -> Table:
    """The table for a terminal of `width` columns. Names are never broken.

    Below `WIDE` columns it leaves out what the run is in its paper, and the data.
    """
    wide = width >= WIDE
    out = Table(title="Recipes: streamtag train RECIPE --data FOLDER", title_justify="left",
                caption=CAPTION if wide else f"{CAPTION}\n{MORE}", caption_justify="left",
                box=None, padding=(0, 2 if wide else 1, 0, 0))  # fmt: skip
    out.add_column("recipe", no_wrap=True)
    for heading in ("run", "data") if wide else ():
        out.add_column(heading)
    out.add_column("net", no_wrap=True)
    for heading in ("weights", "window", "published"):
        out.add_column(heading, justify="right", no_wrap=True)
    for paper, some in _papers(recipe_rows()):
        out.add_row()
        out.add_row(f"[bold]{short_citation(paper)}[/bold]")
        for row in some:
            more = (row.run, row.data) if wide else ()
            figures = [_figure(row.published, key, "v") for key in ("roc_auc", "pr_auc")]
            out.add_row(row.name, *more, row.net, f"{row.parameters / 1e6:.2f} M",
                        f"{row.window_seconds:.1f} s",
                        " / ".join(figures) if figures != ["–", "–"] else "")  # fmt: skip
    return out


def recipe_page(name: str, changes: Iterable[str] = ()) -> RenderableType:
    """A recipe for people: what it is, and its values with their sources.

    Args:
        name: a file, or the name of an included recipe.
        changes: `KEY=VALUE` that replace values.

    Raises:
        RecipeError: as `load_recipe`.
    """
    changes = tuple(changes)
    made = load_any(name, changes)
    about = Table.grid(padding=(0, 2))
    about.add_column(style="dim", no_wrap=True)
    for heading, text in {
        "paper": made.paper,
        "run": made.run,
        "about": made.description,
        "published": ", ".join(f"{key} {value:g}" for key, value in made.published.items()),
        "deviates": "\n".join(f"- {sentence}" for sentence in made.deviates),
    }.items():
        if text:
            about.add_row(heading, Text(text))
    values = recipe_values(name, changes)
    given = [value for value in values if value.source != DEFAULT]
    rest = [value for value in values if value.source == DEFAULT]
    return Group(Text(made.name, "bold"), about, Text(), _values_table(name, given), *_usual(rest))


def _usual(values: Iterable[RecipeValue]) -> Iterable[RenderableType]:
    """The values that are as by default, a paragraph per table; stages share one."""
    tables: dict[str, dict[str, str]] = {}
    for value in values:
        table, _, key = re.sub(r"\.\d+\.", ".N.", value.key).rpartition(".")
        tables.setdefault(table, {})[key] = f"{key} = {_toml(value.value)}"
    out = Table.grid(padding=(0, 2), expand=False)
    for table, some in tables.items():
        out.add_row(
            Text(f"[{table}]" if table else "", "dim"), Text(", ".join(some.values()), "dim")
        )
    return (Text("\nas by default", "dim"), out) if tables else ()


def _values_table(name: str, values: Iterable[RecipeValue]) -> Table:
    """Keys, values, sources and comments under the headings of their tables."""
    out = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading, whole in (("key", True), ("value", False), ("from", True), ("why", False)):
        out.add_column(heading, no_wrap=whole)
    headings = heading_comments(name)
    for table, some in groupby(values, key=lambda value: value.key.rpartition(".")[0]):
        if table:
            comment = headings.get(table, "")
            out.add_row(Text(f"[{table}]", "bold"), "", "", Text(comment, "dim"))
        for value in some:
            key = f"{'  ' * bool(table)}{value.key.rpartition('.')[2]}"
            cells = (Text(key), Text(_toml(value.value)), Text(value.source, "dim"))
            out.add_row(*cells, Text(value.comment, "dim"))
    return out


def _toml(value: Any) -> str:
    """A value as TOML has it, which has nothing for None."""
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def markdown() -> str:
    """The papers' published scores beside the commands that reproduce them, as Markdown."""
    some = [row for row in recipe_rows() if row.published]
    headings = ("paper", "run", "net", "weights", "window", *FIGURES.values(), "reproduce with")
    lines = [_line(headings), _line(["---"] * len(headings))]
    for row in some:
        figures = [_figure(row.published, key, " (validation)") for key in FIGURES]
        weights = f"{row.parameters / 1e6:.2f} M"
        window = f"{row.window_seconds:.1f} s"
        cells = [short_citation(row.paper), row.run, row.net, weights, window, *figures]
        lines.append(_line([*cells, f"`{row.command}`"]))
    papers = [f"- {short_citation(paper)}: {paper}." for paper, _ in _papers(some)]
    return "\n".join([*lines, "", *papers])


def _row(name: str, recipe: Recipe) -> RecipeRow:
    data, options = _data(recipe)
    return RecipeRow(
        name=name,
        paper=recipe.paper,
        run=recipe.run,
        net=recipe.net.name,
        parameters=parameters(recipe),
        window_seconds=recipe.window_frames / recipe.features.frame_rate,
        data=data,
        options=options,
        published=recipe.published,
    )


def _ensemble_row(name: str, ensemble: Ensemble, single: Mapping[str, RecipeRow]) -> RecipeRow:
    members = [single[member] for member in ensemble.members]
    return RecipeRow(
        name=name,
        paper=ensemble.paper,
        run=ensemble.run,
        net=f"mean of {len(members)}",
        parameters=sum(member.parameters for member in members),
        window_seconds=max(member.window_seconds for member in members),
        data=members[0].data,
        options=members[0].options,
        published=ensemble.published,
    )


def _data(recipe: Recipe) -> tuple[str, str]:
    """The training data, and the options of the command that name it."""
    wanted = recipe.recordings
    if recipe.mixtures is not None:
        return "notes, MIDI pieces, noises", "--data FOLDER"
    if recipe.distil is not None:
        return "openly licensed music, mixtures", "--data FOLDER"
    if wanted.subset[:1].isdigit():
        tags = wanted.subset.replace("-", " ")
        return f"MagnaTagATune {tags}, {wanted.split}", "--data MAGNATAGATUNE"
    if recipe.task is Task.RECONSTRUCT:
        return "any music", "--data MUSIC"
    if not wanted.subset:
        return "your recordings", "--data FOLDER"
    jamendo = f"MTG-Jamendo {wanted.subset}, {wanted.split}"
    if wanted.side:
        return f"{jamendo}; a side file", "--data MTG-JAMENDO --side ACOUSTICBRAINZ"
    return jamendo, "--data MTG-JAMENDO"


def _key(paper: str) -> tuple[bool, str]:
    """Sort key; our own recipes come last."""
    return not paper, short_citation(paper)


def _papers(some: Iterable[RecipeRow]) -> Iterable[tuple[str, list[RecipeRow]]]:
    return [(paper, list(group)) for paper, group in groupby(some, key=lambda row: row.paper)]


def _figure(published: Mapping[str, float], key: str, of_validation: str) -> str:
    """A published score with its digits; the validation score if there is no other."""
    if key in published:
        return f"{published[key]:.4f}"
    value = published.get(f"validation_{key}")
    return "–" if value is None else f"{value:.4f}{of_validation}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
