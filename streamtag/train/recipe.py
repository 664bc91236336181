"""The recipe: everything that makes a bundle, read from one TOML file.

Unknown and missing keys are refused by name, values by type and range: a slip of the pen must not
cost a night of training.
"""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from streamtag.card import PastPadding
from streamtag.errors import ConfigError, RecipeError
from streamtag.features import FeatureConfig, Log

RECIPES = Path(__file__).parent / "recipes"
"""Those that come along."""


@dataclass(frozen=True, slots=True)
class Mixtures:
    """What is mixed from single instruments, and which pieces are rendered whole."""

    soundfonts: tuple[str, ...]
    """File names without endings; all are used in training."""
    unseen_soundfonts: tuple[str, ...]
    """Only for a test of what another synthesiser does to the scores."""
    train: int
    """Windows mixed from the stems of the training split."""
    validation: int
    test: int
    """Windows mixed from real notes of the test split alone."""
    strangers: int
    """Windows of noises and speech alone, in training; an eighth as many in validation."""
    phrases_per_program: int
    """Rendered phrases per General MIDI program and soundfont, in training."""
    phrases_per_instrument: int
    """Phrases of real notes per instrument, in training."""
    phrase_seconds: float
    tunes: int
    """Folk tunes in random orchestrations, in training; an eighth as many in the other splits."""
    windows_per_piece: int
    """Windows of each whole piece and tune in training."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How the weights are found."""

    epochs: int
    batch_size: int
    peak_lr: float
    """Reached after `warmup` of the steps, then a cosine down to 0."""
    warmup: float
    """Share of all steps."""
    weight_decay: float
    patience: int
    """Epochs without a better validation score after which it stops."""
    mix_share: float
    """Of the windows of a batch that get a second window added."""
    level_db: float
    """Standard deviation of a window's change of level."""
    colour_db: float
    """Standard deviation of a window's change of colour, at five places of the spectrum."""
    band_masks: int
    """Mel bands at most that are hidden at a time (Park et al., SpecAugment, 2019)."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How probabilities become switches."""

    beta: float
    """On thresholds are those of the largest F-beta; below 1, precision counts more."""
    smallest_roc_auc: float
    """A tag that stays below it in validation is off by default."""
    smallest_lift: float
    """So is one whose PR-AUC is below so many times its prior."""
    off_ratio: float
    """Off threshold / on threshold."""
    stray_share: float
    """Of the windows in which no tag is on, such as noise, at most so many reach a threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One variant of one net.

    Raises:
        RecipeError: a value out of its range.
    """

    name: str
    """Of the bundle."""
    net: str
    """A key of `nets.NETS`."""
    seed: int
    tags: tuple[str, ...]
    window_frames: int
    hop_frames: int
    first_frames: int
    """Frames of the shortest provisional window."""
    padding: PastPadding
    smoothing_seconds: float
    min_on_seconds: float
    min_off_seconds: float
    data: str
    """For the card."""
    licence: str
    description: str
    features: FeatureConfig
    mixtures: Mixtures
    fit: Fit
    thresholds: Thresholds

    def __post_init__(self) -> None:
        rules = (
            ("tags", len(set(self.tags)) == len(self.tags) > 0, "at least one, none twice"),
            ("first_frames", 1 <= self.first_frames <= self.window_frames, "1 to window_frames"),
            ("hop_frames", self.hop_frames >= 1, "at least 1"),
            ("padding", self.padding is PastPadding.SILENCE, "'silence', which is how mixtures"
             " are made"),
            ("fit.epochs", self.fit.epochs >= 1, "at least 1"),
            ("fit.batch_size", self.fit.batch_size >= 1, "at least 1"),
            ("fit.peak_lr", self.fit.peak_lr > 0, "a positive number"),
            ("fit.mix_share", 0 <= self.fit.mix_share <= 1, "a share in [0, 1]"),
            ("features.log", self.features.log is Log.LN, "'ln', which augmentation undoes"),
            ("fit.warmup", 0 <= self.fit.warmup < 1, "a share in [0, 1)"),
            ("mixtures.train", self.mixtures.train >= 1, "at least 1"),
            ("mixtures.strangers", self.mixtures.strangers >= 8, "at least 8"),
            ("mixtures.tunes", self.mixtures.tunes >= 8, "at least 8"),
            ("thresholds.beta", self.thresholds.beta > 0, "a positive number"),
            ("thresholds.stray_share", 0 < self.thresholds.stray_share <= 1, "a share in (0, 1]"),
            ("thresholds.off_ratio", 0 < self.thresholds.off_ratio <= 1, "a ratio in (0, 1]"),
        )  # fmt: skip
        for key, fine, expected in rules:
            if not fine:
                raise RecipeError(f"{key}: expected {expected}, got {_value(self, key)!r}")


def load_recipe(recipe: Path | str) -> Recipe:
    """Reads a recipe: a file, or the name of one that comes along (`instruments`).

    Raises:
        RecipeError: no such file, no TOML, an unknown or missing key, a wrong type or value; the
            message names the file and the key.
    """
    path = Path(recipe)
    if not path.suffix and not path.exists():
        path = RECIPES / f"{recipe}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise RecipeError(
            f"{path}: expected a recipe, got: {error.strerror}; these come along: {known}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: expected TOML, got: {error}") from error
    try:
        built: Recipe = _build(Recipe, table, "")
    except (RecipeError, ConfigError) as error:
        raise RecipeError(f"{path}: {error}") from error
    return built


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """All fields as plain JSON values."""
    return dataclasses.asdict(recipe) | {
        "features": recipe.features.to_dict(),
        "padding": str(recipe.padding),
    }


def _build(kind: Any, table: dict[str, Any], prefix: str) -> Any:
    """A frozen dataclass from a TOML table, nested tables included; every key must be there."""
    fields = {f.name: f.type for f in dataclasses.fields(kind)}
    if unknown := sorted(table.keys() - fields.keys()):
        raise RecipeError(f"unknown key {prefix}{unknown[0]}; known here: {', '.join(fields)}")
    if missing := [name for name in fields if name not in table]:
        raise RecipeError(f"missing key {prefix}{missing[0]}")
    return kind(**{n: _typed(fields[n], value, f"{prefix}{n}") for n, value in table.items()})


def _typed(kind: Any, value: Any, key: str) -> Any:
    """A TOML value as a field's type."""
    if kind is FeatureConfig:
        try:
            return FeatureConfig.from_dict(value)
        except ConfigError as error:
            raise RecipeError(f"{key}: {error}") from error
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise RecipeError(f"{key}: expected a table, got {value!r}")
        return _build(kind, value, f"{key}.")
    if kind is PastPadding:
        if value not in list(PastPadding):
            raise RecipeError(f"{key}: expected one of {', '.join(PastPadding)}, got {value!r}")
        return PastPadding(value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{key}: expected a list, got {value!r}")
        return tuple(_typed(get_args(kind)[0], v, f"{key}[{i}]") for i, v in enumerate(value))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise RecipeError(f"{key}: expected {kind.__name__}, got {value!r}")
    return value


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value
