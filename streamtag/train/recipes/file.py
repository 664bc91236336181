"""Recipes as TOML files.

Variants are data: `like = "other"` takes everything from another recipe and replaces what is
written here. Unknown and missing keys are refused by name, values by type and range: a slip of the
pen must not cost a night of training.
"""

import dataclasses
import json
import tomllib
import types
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

from streamtag.audio.feature_config import FeatureConfig
from streamtag.errors import ConfigError, RecipeError
from streamtag.train.recipes.recipe import Ensemble, Net, Recipe

RECIPES = Path(__file__).parent
"""Those that come along."""
OWN = ("run", "published")
"""Keys that are of one run alone: a recipe that is like it does not inherit them."""


def load_recipe(recipe: Path | str, changes: Iterable[str] = ()) -> Recipe:
    """Reads a recipe of one net: a file, or the name of one that comes along (`instruments`).

    Args:
        recipe: path or name.
        changes: `KEY=VALUE` with KEY as in `fit.batch_size` or `fit.stages.0.lr` and VALUE as in
            TOML (a bare word counts as text): they replace what the file says.

    Raises:
        RecipeError: no such file, no TOML, an unknown or missing key, a wrong type or value, or an
            ensemble; the message names the file and the key.
    """
    made = load_any(recipe, changes)
    if isinstance(made, Ensemble):
        raise RecipeError(
            f"{recipe}: expected the recipe of one net, got an ensemble of {len(made.members)}: "
            f"name one of {', '.join(made.members)}"
        )
    return made


def load_any(recipe: Path | str, changes: Iterable[str] = ()) -> Recipe | Ensemble:
    """As `load_recipe`, ensembles included."""
    path = find_recipe(recipe)
    table = read_table(path)
    try:
        for change in changes:
            replace_key(table, change)
        built: Recipe | Ensemble
        built = _build(Ensemble if "members" in table else Recipe, table, "")
    except (RecipeError, ConfigError) as error:
        raise RecipeError(f"{path}: {error}") from error
    return built


def find_recipe(recipe: Path | str) -> Path:
    """The file of a recipe: one that comes along if it is a bare name."""
    path = Path(recipe)
    return path if path.suffix or path.exists() else RECIPES / f"{recipe}.toml"


def known_recipes() -> list[str]:
    """Names of those that come along, in order."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_table(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a recipe file, with those of the recipe it is `like` below them.

    Raises:
        RecipeError: a file is missing or no TOML, or recipes are like each other in a circle.
    """
    if path in seen:
        raise RecipeError(f"{path}: like: expected a recipe that does not lead back to this one")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"{path}: expected a recipe, got: {error.strerror}; these come along: "
            f"{', '.join(known_recipes())}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: expected TOML, got: {error}") from error
    like = table.pop("like", None)
    if like is None:
        return table
    beside = path.parent / f"{like}.toml"
    below = read_table(beside if beside.exists() else find_recipe(like), (*seen, path))
    return _merged({key: value for key, value in below.items() if key not in OWN}, table)


def replace_key(table: dict[str, Any], change: str) -> None:
    """Carries out one `KEY=VALUE` in a table."""
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
    table = dataclasses.asdict(recipe) | {"features": recipe.features.to_dict()}
    plain: dict[str, Any] = json.loads(json.dumps(table))
    return plain


def from_dict(table: dict[str, Any]) -> Recipe:
    """Reads what `to_dict` wrote."""
    built: Recipe = _build(Recipe, {k: v for k, v in table.items() if v is not None}, "")
    return built


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merged key by key; a list, or a [net] of another name, replaces the whole of it."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        other = (
            key == "net" and isinstance(old, dict) and value.get("name", old["name"]) != old["name"]
        )
        both = isinstance(value, dict) and isinstance(old, dict) and not other
        out[key] = _merged(old, value) if both and old is not None else value
    return out


def _build(kind: Any, table: dict[str, Any], prefix: str) -> Any:
    """A frozen dataclass from a TOML table, nested tables included."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(table.keys() - fields.keys()):
        raise RecipeError(f"unknown key {prefix}{unknown[0]}; known here: {', '.join(fields)}")
    for name, f in fields.items():
        needed = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if needed and name not in table:
            raise RecipeError(f"missing key {prefix}{name}")
    return kind(**{n: _typed(fields[n].type, v, f"{prefix}{n}") for n, v in table.items()})


def _typed(kind: Any, value: Any, key: str) -> Any:
    """A TOML value as a field's type."""
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    if kind is FeatureConfig:
        if not isinstance(value, dict):
            raise RecipeError(f"{key}: expected a table, got {value!r:.80}")
        try:
            return FeatureConfig.from_dict(value)
        except ConfigError as error:
            raise RecipeError(f"{key}: {error}") from error
    if kind is Net:
        return _net(value, key)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise RecipeError(f"{key}: expected a table, got {value!r}")
        return _build(kind, value, f"{key}.")
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if value not in list(kind):
            raise RecipeError(f"{key}: expected one of {', '.join(kind)}, got {value!r}")
        return kind(value)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return _tuple(arguments, value, key)
    if origin is not None:  # Mapping[str, X]
        if not isinstance(value, dict):
            raise RecipeError(f"{key}: expected a table, got {value!r}")
        return {n: _typed(arguments[1], v, f"{key}.{n}") for n, v in value.items()}
    if kind is float and type(value) is int and abs(value) < 2**63:
        return float(value)
    if type(value) is not kind:
        raise RecipeError(f"{key}: expected {kind.__name__}, got {value!r:.80}")
    return value


def _tuple(arguments: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
    """A TOML list as a tuple of one type, or of a fixed length."""
    if not isinstance(value, list):
        raise RecipeError(f"{key}: expected a list, got {value!r}")
    if arguments[-1] is not ... and len(value) != len(arguments):
        raise RecipeError(f"{key}: expected {len(arguments)} values, got {len(value)}")
    return tuple(_typed(arguments[0], v, f"{key}[{i}]") for i, v in enumerate(value))


def _net(value: Any, key: str) -> Net:
    """`[net]` has the net's own options beside its name."""
    if not isinstance(value, dict) or type(value.get("name")) is not str:
        raise RecipeError(f"{key}: expected a table with a name, got {value!r}")
    options = value.get("options", {n: v for n, v in value.items() if n != "name"})
    return Net(value["name"], options)
