"""Recipes: everything about a training run that is not data, as TOML."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamtag.errors import ConfigError, RecipeError
from streamtag.features import FeatureConfig
from streamtag.train.mixtures import MixConfig

FOLDER = Path(__file__).parent / "recipes"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(_Table):
    """What the net sees at a time."""

    frames: int = Field(ge=1)
    hop_frames: int = Field(ge=1)
    first_frames: int = Field(ge=1)


class Rendering(_Table):
    """Phrases rendered from MIDI."""

    soundfonts: tuple[str, ...]
    """File names, looked for in the usual folders; those that are missing are left out and said."""
    held_out: tuple[str, ...] = ()
    """Soundfonts that only the test may hear."""
    phrases_per_program: int = Field(5, ge=1)


class Fit(_Table):
    """The training loop."""

    seed: int = 1
    windows: int = Field(40_000, ge=1)
    """Distinct training windows."""
    validation_windows: int = Field(4_000, ge=1)
    epochs: int = Field(12, ge=1)
    batch_size: int = Field(64, ge=2)
    peak_lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    mask_bands: int = Field(12, ge=0)
    """Most mel bands that are hidden from the net (SpecAugment, Park 2019, section 2)."""
    mask_frames: int = Field(20, ge=0)


class Live(_Table):
    """How the daemon is to smooth and switch."""

    smoothing_seconds: float = Field(0.7, ge=0)
    min_on_seconds: float = Field(0.5, ge=0)
    min_off_seconds: float = Field(1.0, ge=0)
    off_ratio: float = Field(0.7, gt=0, le=1)
    """Off threshold as a part of the on threshold."""


class Recipe(_Table):
    """One training run."""

    name: str
    net: str
    tags: tuple[str, ...] = Field(min_length=1)
    description: str
    licence: str
    features: dict[str, Any]
    window: Window
    mix: dict[str, Any] = {}
    rendering: Rendering
    fit: Fit = Fit()
    live: Live = Live()

    @model_validator(mode="after")
    def _frames_and_mixes_can_be_made(self) -> "Recipe":
        self.feature_config()
        try:
            self.mix_config()
        except TypeError as error:
            raise ValueError(f"mix: {error}") from None
        return self

    def feature_config(self) -> FeatureConfig:
        """The front end."""
        return FeatureConfig.from_dict(self.features)

    def mix_config(self) -> MixConfig:
        """How windows are mixed: exactly as long as the net's window."""
        config = self.feature_config()
        start, end = config.span(0, self.window.frames)
        rate = config.sample_rate
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in self.mix.items()}
        return MixConfig(rate=rate, seconds=(end - start) / rate, **values)


def load_recipe(name: str | Path) -> Recipe:
    """Reads a recipe: a path, or the name of one that comes along.

    Raises:
        RecipeError: it is not there, or a key is unknown, missing or has a wrong value.
    """
    path = Path(name)
    if not path.suffix:
        path = FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise RecipeError(f"{name}: expected a recipe file, or one of: {known}")
    try:
        return Recipe(**tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None
    except ConfigError as error:
        raise RecipeError(f"{path}: features: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "recipe"
        got = "" if first["type"] == "missing" else f", got {first['input']!r:.80}"
        raise RecipeError(f"{path}: {key}: {first['msg']}{got}") from None
