"""The recipe: everything that makes a bundle. `recipe_file` reads it from TOML."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamtag.audio.feature_config import FeatureConfig, Log
from streamtag.errors import RecipeError
from streamtag.model.card import PastPadding
from streamtag.train.recipes.augment import Augment, augment_rules
from streamtag.train.recipes.data import Distil, Mixtures, Recordings, Task
from streamtag.train.recipes.fit import Fit, Thresholds, stage_rules


@dataclass(frozen=True, slots=True)
class Net:
    """Which net, and what of it this variant chooses."""

    name: str
    """A key of `nets.NETS`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of its constructor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One variant of one net.

    Raises:
        RecipeError: a value out of its range.
    """

    name: str
    """Of the bundle."""
    net: Net
    features: FeatureConfig
    window_frames: int
    hop_frames: int
    first_frames: int
    """Frames of the shortest provisional window."""
    fit: Fit
    padding: PastPadding = PastPadding.SILENCE
    task: Task = Task.TAG
    seed: int = 1
    tags: tuple[str, ...] = ()
    """Of mixtures; recordings bring their own."""
    pretrained: str = ""
    """A recipe whose weights the net begins with, trained first where it is not there yet."""
    smoothing_seconds: float = 1.0
    min_on_seconds: float = 0.5
    min_off_seconds: float = 1.0
    recordings: Recordings = field(default_factory=Recordings)
    mixtures: Mixtures | None = None
    """If given, the training data is made rather than read."""
    distil: Distil | None = None
    """If given, a student learns from teachers."""
    augment: Augment = field(default_factory=Augment)
    thresholds: Thresholds = field(default_factory=Thresholds)
    paper: str = ""
    run: str = ""
    """Which of the paper's runs this is."""
    published: Mapping[str, float] = field(default_factory=dict)
    """The paper's test scores: roc_auc, pr_auc, f_macro …"""
    data: str = ""
    """For the card."""
    licence: str = "Apache-2.0"
    description: str = ""

    def __post_init__(self) -> None:
        decibel = self.augment.mix_share or self.augment.level_db or self.augment.colour_db
        rules = (
            ("tags", len(set(self.tags)) == len(self.tags), "no name twice"),
            ("tags", self.mixtures is None or self.tags, "at least one, for mixtures"),
            ("window_frames", self.window_frames >= 1, "at least 1"),
            ("first_frames", 1 <= self.first_frames <= self.window_frames, "1 to window_frames"),
            ("hop_frames", self.hop_frames >= 1, "at least 1"),
            ("fit.batch_size", self.fit.batch_size >= 1, "at least 1"),
            ("fit.stages", self.fit.stages or self.net.name == "popularity", "at least one"),
            ("fit.select", self.fit.select in ("pr_auc", "roc_auc", "loss", "last"),
             "pr_auc, roc_auc, loss or last"),
            ("fit.pos_weight", self.fit.pos_weight > 0, "a positive number"),
            ("fit.snapshots", self.fit.snapshots == 0 or self.fit.swa_start > 0,
             "0 without fit.swa_start"),
            ("recordings.segments", self.recordings.segments >= 1, "at least 1"),
            ("features.log", not decibel or self.features.log is Log.LN,
             "'ln', which augment.mix_share, level_db and colour_db undo"),
            ("thresholds.rule", self.thresholds.rule in ("f_beta", "roc_elbow", "equal_error"),
             "f_beta, roc_elbow or equal_error"),
            ("thresholds.beta", self.thresholds.beta > 0, "a positive number"),
            ("thresholds.stray_share", 0 < self.thresholds.stray_share <= 1, "a share in (0, 1]"),
            ("thresholds.off_ratio", 0 < self.thresholds.off_ratio <= 1, "a ratio in (0, 1]"),
            *_mixture_rules(self),
            *_distil_rules(self),
            ("augment.mixup_alpha", not (self.augment.mixup_alpha and self.recordings.side),
             "0 with recordings.side, whose values are not mixed"),
            *augment_rules(self.augment),
            *(rule for i, stage in enumerate(self.fit.stages) for rule in stage_rules(i, stage)),
        )  # fmt: skip
        for key, fine, expected in rules:
            if not fine:
                raise RecipeError(f"{key}: expected {expected}, got {_value(self, key)!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Several recipes whose nets' scores are averaged in one bundle."""

    name: str
    members: tuple[str, ...]
    """Names of recipes or of their files; all with the same front end."""
    paper: str = ""
    run: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        if len(set(self.members)) != len(self.members) or len(self.members) < 2:
            raise RecipeError(f"members: expected two or more, none twice, got {self.members!r}")


def _mixture_rules(recipe: Recipe) -> Iterable[tuple[str, object, str]]:
    """What must hold of made-up data."""
    if recipe.mixtures is not None:
        yield "padding", recipe.padding is PastPadding.SILENCE, "'silence', as mixtures are made"
        yield "mixtures.train", recipe.mixtures.train >= 1, "at least 1"
        yield "mixtures.strangers", recipe.mixtures.strangers >= 8, "at least 8"
        yield "mixtures.tunes", recipe.mixtures.tunes >= 8, "at least 8"


def _distil_rules(recipe: Recipe) -> Iterable[tuple[str, object, str]]:
    """What must hold of a student."""
    if (want := recipe.distil) is not None:
        yield "padding", recipe.padding is PastPadding.SILENCE, "'silence', as windows are made"
        yield "features.log", recipe.features.log is Log.LN, "'ln', under which sounds are added"
        yield "distil.windows", want.windows >= 1, "at least 1"
        yield "distil.sharpness", want.sharpness > 0, "a positive number"
        yield "distil.shares", abs(sum(want.shares) - 1) < 1e-6, "four shares that sum to 1"
        yield "distil.teachers", want.teachers, "at least one"


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = value[int(name)] if name.isdecimal() else getattr(value, name)
    return value
