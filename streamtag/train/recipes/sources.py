"""Where each value of a recipe comes from: a file of the `like` chain, `--set`, or a default."""

import inspect
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtag.train.nets import NETS
from streamtag.train.recipes.file import (
    OWN,
    find_recipe,
    load_any,
    read_table,
    recipe_chain,
    to_dict,
)
from streamtag.train.recipes.recipe import Recipe

DEFAULT = "default"
"""The source of a value that neither a file nor `--set` has."""
SET = "--set"
TEXTS = ("paper", "run", "published", "data", "licence", "description", "deviates")
"""Keys that only describe a recipe."""
GIVEN = ("n_tags", "width", "window_frames")
"""Arguments of a net that do not come from `[net]`."""
_TABLE = re.compile(r"\s*(\[\[?)\s*([\w.-]+)\s*\]\]?\s*(?:#\s*(.*))?$")
_KEY = re.compile(r"\s*([\w.-]+)\s*=")


@dataclass(frozen=True, slots=True)
class RecipeValue:
    """A value of a recipe."""

    key: str
    """As for `--set`: `fit.stages.0.lr`."""
    value: Any
    source: str
    """Name of the recipe whose file has it, `--set` or `default`."""
    comment: str = ""
    """The comment beside it in that file: table or section of the paper."""


def recipe_values(recipe: Path | str, changes: Iterable[str] = ()) -> list[RecipeValue]:
    """All values of a recipe that decide a training, table by table, defaults included.

    Args:
        recipe: path or name, also of an ensemble.
        changes: `KEY=VALUE` as for `load_recipe`.

    Raises:
        RecipeError: as `load_recipe`.
    """
    changes = tuple(changes)
    made = load_any(recipe, changes)
    files = [
        (path.stem, table, comments(path.read_text(encoding="utf-8")))
        for path, table in recipe_chain(find_recipe(recipe))
    ]
    for (path, _), (_, table, _) in zip(recipe_chain(find_recipe(recipe)), files, strict=True):
        if isinstance(made, Recipe) and read_table(path)["net"]["name"] != made.net.name:
            table.pop("net", None)  # the options of another net are not inherited
    changed = [change.partition("=")[0].strip() for change in changes]
    values = []
    for key, value in _leaves(_plain(made)):
        source, comment = DEFAULT, ""
        if any(key == other or key.startswith(f"{other}.") for other in changed):
            source = SET
        else:
            for name, table, beside in files[: 1 if key.split(".")[0] in OWN else None]:
                if (found := _find(table, key.split("."))) is not None:
                    source, comment = (name, beside.get(key, "")) if found else (DEFAULT, "")
                    break
        values.append(RecipeValue(key, value, source, comment))
    return values


def heading_comments(recipe: Path | str) -> dict[str, str]:
    """The comments beside `[table]` by its name, of the nearest file that has one.

    Raises:
        RecipeError: as `load_recipe`.
    """
    out: dict[str, str] = {}
    for path, table in reversed(recipe_chain(find_recipe(recipe))):
        if "stages" in table.get("fit", {}):  # a list is replaced as a whole
            out = {key: text for key, text in out.items() if not key.startswith("fit.stages.")}
        beside = comments(path.read_text(encoding="utf-8"))
        out |= {key[:-1]: text for key, text in beside.items() if key.endswith(".")}
    return out


def comments(text: str) -> dict[str, str]:
    """The comments of a TOML file by key; `features.` is the heading of a table.

    A comment on lines of its own belongs to what follows it.
    """
    out: dict[str, str] = {}
    table, counts, above, open_lines = "", dict[str, int](), list[str](), list[str]()
    for line in text.splitlines():
        if not open_lines and line.lstrip().startswith("#"):
            above.append(line.strip("# "))
        elif not open_lines and (heading := _TABLE.match(line)):
            brackets, table, comment = heading.groups()
            if brackets == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}.{counts[table]}"
            out[f"{table}."], above = " ".join([*above, comment or ""]).strip(), []
        elif open_lines or _KEY.match(line):
            open_lines.append(line)
            if (comment := _comment_of("\n".join(open_lines))) is not None:
                name = _KEY.match(open_lines[0])
                key = f"{table}.{name[1]}".lstrip(".") if name else table
                out[key], above, open_lines = " ".join([*above, comment]).strip(), [], []
        else:
            above = []
    return {key: comment for key, comment in out.items() if comment}


def _comment_of(statement: str) -> str | None:
    """The comment at the end of `key = value`; None if the value goes on in the next line."""
    ends = [match.start() for match in re.finditer("#", statement)]
    for end in [*ends, len(statement)]:
        try:
            tomllib.loads(statement[:end])
        except ValueError:
            continue
        return statement[end:].strip("# ")
    return None


def _plain(made: Any) -> dict[str, Any]:
    """The fields of a recipe as its file has them, without texts, and the net's defaults."""
    table = {key: value for key, value in to_dict(made).items() if key not in TEXTS}
    if isinstance(made, Recipe):
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(NETS[made.net.name]).parameters.items()
            if name not in GIVEN and parameter.default is not inspect.Parameter.empty
        }
        table["net"] = {"name": made.net.name} | defaults | dict(made.net.options)
    return table


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables under dotted keys; plain ones before tables."""
    nested: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            nested |= {f"{key}.{i}": inner for i, inner in enumerate(value)}
        elif isinstance(value, Mapping):
            nested[key] = value
        else:
            yield prefix + key, value
    for key, inner in nested.items():
        yield from _leaves(inner, f"{prefix}{key}.")


def _find(table: Any, path: list[str]) -> bool | None:
    """Whether a file has a key; None if the files below may have it.

    They cannot if the key is inside of a list, which a file replaces as a whole.
    """
    in_list = False
    for name in path:
        if isinstance(table, list):
            table, in_list = table[int(name)], True
        elif isinstance(table, dict) and name in table:
            table = table[name]
        else:
            return False if in_list else None
    return True
