"""Recipes as TOML files.

`like = "other"` inherits everything from another recipe and replaces what is written here. Unknown
and missing keys, wrong types and values out of range are refused by name before a training begins.
"""

import dataclasses
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from streamtag.errors import RecipeError, complaint
from streamtag.train.recipes.recipe import Ensemble, Recipe

T = TypeVar("T")

RECIPES = Path(__file__).parent
"""The folder of the included recipes."""
OWN = ("run", "published")
"""Keys of a single run, which other recipes do not inherit."""
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""Pydantic's types of error for a key that a class does not have."""


def load_recipe(recipe: Path | str, changes: Iterable[str] = ()) -> Recipe:
    """Reads a recipe of one net: a file, or the name of an included one (`instruments`).

    Args:
        recipe: path or name.
        changes: `KEY=VALUE` with KEY as in `fit.batch_size` or `fit.stages.0.lr` and VALUE as in
            TOML (a bare word counts as text). They replace values of the file.

    Raises:
        RecipeError: the file is missing or is not TOML, a key is unknown or missing, a type or
            value is wrong, or it is an ensemble; the message names the file and the key.
    """
    made = load_any(recipe, changes)
    if isinstance(made, Ensemble):
        raise RecipeError(
            f"{recipe}: expected the recipe of one net, got an ensemble of {len(made.members)}: "
            f"name one of {', '.join(made.members)}"
        )
    return made


def load_any(recipe: Path | str, changes: Iterable[str] = ()) -> Recipe | Ensemble:
    """Reads a recipe or an ensemble; see `load_recipe`."""
    path, changes = find_recipe(recipe), tuple(changes)
    table = read_table(path)
    try:
        for change in changes:
            replace_key(table, change)
        if "members" in table:
            return _checked(Ensemble, table)
        return _checked(Recipe, table)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}{_value_of_file(path, changes, error)}") from error


def _value_of_file(path: Path, changes: Iterable[str], error: RecipeError) -> str:
    """What the file has where a change was refused, as the end of the message."""
    for change in changes:
        key = change.partition("=")[0].strip()
        value: Any = read_table(path)
        try:
            for name in key.split("."):
                value = value[int(name)] if isinstance(value, list) else value[name]
        except (LookupError, ValueError, TypeError):
            continue
        if str(error).startswith(f"{key}:") and not isinstance(value, dict | list):
            return f"; the recipe has {value!r:.80}"
    return ""


def find_recipe(recipe: Path | str) -> Path:
    """The file of a recipe; a bare name means an included one."""
    path = Path(recipe)
    return path if path.suffix or path.exists() else RECIPES / f"{recipe}.toml"


def known_recipes() -> list[str]:
    """Sorted names of the included recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_table(path: Path) -> dict[str, Any]:
    """The keys of a recipe file over those of the recipe that it is `like`.

    Raises:
        RecipeError: a file is missing or is not TOML, or recipes are like each other in a circle.
    """
    *above, (_, table) = recipe_chain(path)
    for _, own in reversed(above):
        table = _merged({key: value for key, value in table.items() if key not in OWN}, own)
    return table


def recipe_chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """A recipe file, the one that it is `like`, and so on: each with its own keys but `like`.

    Raises:
        RecipeError: a file is missing or is not TOML, or recipes are like each other in a circle.
    """
    chain: list[tuple[Path, dict[str, Any]]] = []
    while True:
        if any(path == before for before, _ in chain):
            raise RecipeError(
                f"{path}: like: expected a recipe that does not lead back to this one"
            )
        table = _read_toml(path)
        like = table.pop("like", None)
        chain.append((path, table))
        if like is None:
            return chain
        beside = path.parent / f"{like}.toml"
        path = beside if beside.exists() else find_recipe(like)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"{path}: expected a recipe, got: {error.strerror}; these come along: "
            f"{', '.join(known_recipes())}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: expected TOML, got: {error}") from error


def replace_key(table: dict[str, Any], change: str) -> None:
    """Applies one `KEY=VALUE` to a table."""
    key, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"{change:.80}: expected KEY=VALUE, got no '='")
    try:
        value = tomllib.loads(f"x = {text}")["x"]
    except (ValueError, RecursionError):
        value = text
    *path, last = key.strip().split(".")
    inner: Any = table
    try:
        for name in path:
            inner = inner[int(name)] if isinstance(inner, list) else inner.setdefault(name, {})
        inner[int(last) if isinstance(inner, list) else last] = value
    except (LookupError, ValueError, TypeError, AttributeError):
        raise RecipeError(
            f"{change:.80}: expected a key of the recipe, got {key.strip()!r:.80}"
        ) from None


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """All fields as plain JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return plain


def from_dict(table: dict[str, Any]) -> Recipe:
    """Reads what `to_dict` wrote.

    Raises:
        RecipeError: a key is unknown or missing, or a type or value is wrong.
    """
    return _checked(Recipe, table)


def _checked(kind: type[T], table: dict[str, Any]) -> T:
    """A recipe or an ensemble from the values of a TOML or JSON file.

    JSON, unlike Python, has one kind of list and names enumerations by their text. That is how
    pydantic's strict mode can read them without converting anything else.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        faults = [dict(fault) for fault in error.errors()]
        # A misspelt key explains more than the key that is missing because of it.
        first = next((fault for fault in faults if fault["type"] in UNKNOWN), faults[0])
        raise RecipeError(complaint(first, kind)) from error


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merged key by key; a list, or a [net] of another name, is replaced as a whole."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        other = (
            key == "net" and isinstance(old, dict) and value.get("name", old["name"]) != old["name"]
        )
        both = isinstance(value, dict) and isinstance(old, dict) and not other
        out[key] = _merged(old, value) if both and old is not None else value
    return out
