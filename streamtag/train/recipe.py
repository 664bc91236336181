"""The recipe: everything that makes a bundle. `recipe_file` reads it from TOML."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from streamtag.card import PastPadding
from streamtag.errors import RecipeError
from streamtag.features import FeatureConfig, Log
from streamtag.train.codec import codec_of

CLEAR = 40.0
"""dB: the largest signal-to-noise ratio of `Augment.noise_db`."""


class Task(StrEnum):
    """What is learned."""

    TAG = "tag"
    RECONSTRUCT = "reconstruct"
    """The input itself, without labels: pre-training of an autoencoder."""


class Cut(StrEnum):
    """Where windows are cut from a recording."""

    RANDOM = "random"
    """Anywhere, new ones in each epoch."""
    DRAWN = "drawn"
    """Anywhere, drawn once before the training."""
    CENTRE = "centre"
    FIRST = "first"
    SEGMENTS = "segments"
    """The first `segments` windows, one after the other."""
    CONSECUTIVE = "consecutive"
    """All of them, one after the other; what is left at the end is dropped unless it is all."""
    STRETCHED = "stretched"
    """The whole recording as one window of its own length, which the net must allow."""


class Short(StrEnum):
    """What becomes of a recording that is shorter than a window."""

    DISCARD = "discard"
    """Not used at all."""
    WRAP = "wrap"
    """Repeated from its beginning until the window is full."""
    MINIMUM = "minimum"
    """In the middle, its smallest value on both sides."""
    EITHER = "either"
    """In the middle; on both sides, by chance, wrapped or its smallest value (P1, 4.1)."""
    SILENCE = "silence"
    """At the right end, the front end's silence before it: as a live stream begins."""


@dataclass(frozen=True, slots=True)
class Net:
    """Which net, and what of it this variant chooses."""

    name: str
    """A key of `nets.NETS`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of its constructor."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """How labelled recordings become windows. Which recordings: the command line says that."""

    subset: str = ""
    """Of MTG-Jamendo the categories of tags (`mood/theme`), of MagnaTagATune how many of the most
    frequent tags (`50`); empty for all."""
    split: str = ""
    """`split-0` … `split-4`; `random` or `folders` of MagnaTagATune; empty for the first."""
    train: Cut = Cut.RANDOM
    validation: Cut = Cut.CENTRE
    test: Cut = Cut.CENTRE
    segments: int = 1
    """Windows per recording and epoch, unless the cut says it."""
    short: Short = Short.WRAP
    """In training."""
    short_judged: Short = Short.WRAP
    """In validation and test."""
    side: int = 0
    """Values per recording from a side file, given to the net beside the frames."""


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
class Distil:
    """What a student learns from larger taggers and from made-up mixtures, noises and speech."""

    vocabulary: str
    """A table of `vocabularies/`, see `lessons`."""
    teachers: tuple[str, ...]
    """`VOCABULARY-NET=KIND:CHECKPOINT`; checkpoints are below the data folder, and their kinds are
    those of `streamtag import`."""
    music: str
    """Folder of recordings below the data folder, with a table `train.tsv`: file, source."""
    unseen_sources: tuple[str, ...]
    """Of that table; all their recordings are for the test."""
    instruments: str
    """Recipe whose made-up windows teach the families of instruments; same front end and window."""
    sharpness: float = 2.0
    """Of soft decisions, see `lessons`."""
    leniency: tuple[float, float] = (0.5, 1.0)
    """Of soft decisions, in logits: of common tags, and of rare ones at most."""
    common: float = 0.025
    """Share of the training music in which a tag is on that is not rare."""
    windows: int = 24000
    """Per epoch."""
    judged: int = 4000
    """Windows of the validation set, and of each test set."""
    shares: tuple[float, float, float, float] = (0.55, 0.25, 0.15, 0.05)
    """Of the windows: of music, mixtures, noises and speech, silence."""


@dataclass(frozen=True, slots=True)
class Augment:
    """What makes training windows different each time; everything is off by default."""

    mixup_alpha: float = 0.0
    """λ ~ Beta(alpha, alpha) per window, inputs and labels mixed (Zhang et al. 2017)."""
    mixup_larger: bool = False
    """λ ← max(λ, 1 − λ) (Koutini et al. 2019, their code)."""
    mixup_two_orders: bool = False
    """The partner comes from a second, independently shuffled pass over the data (Sukhavasi
    and Adapa 2019, their code) instead of from the same batch."""
    crop_chance: float = 0.0
    """Of a random box that is scaled back to the whole window (Sukhavasi and Adapa 2019)."""
    crop_area: tuple[float, float] = (0.8, 1.0)
    """Share of the window that the box keeps."""
    crop_literal: bool = False
    """As that paper's code behaves: always the centre `width × 221` frames."""
    mask_chance: float = 0.0
    """Of hiding blocks of bands and of frames (Park et al., SpecAugment, 2019)."""
    mask_rounds: int = 2
    """At most; 1 … this are equally likely."""
    mask_bands: float = 0.15
    """Largest share of the bands per round."""
    mask_frames: float = 0.20
    """Largest share of the frames per round."""
    shift_frames: int = 0
    """Circular shift by up to so many frames either way (Koutini et al. 2019, their code)."""
    mix_share: float = 0.0
    """Of the windows of a batch that get another window's power added. Natural logarithms only."""
    level_db: float = 0.0
    """Standard deviation of a window's change of level. Natural logarithms only."""
    colour_db: float = 0.0
    """Same at five places of the spectrum."""
    band_masks: int = 0
    """Neighbouring mel bands at most that are set to the window's mean."""
    audio_variants: int = 0
    """Versions of each recording besides the clean one that went through the chain below before the
    front end; epochs take turns."""
    codecs: tuple[str, ...] = ()
    """Of `CODEC:KBIT`, CODEC one of mp3, aac, opus, KBIT of one channel: one is chosen for half of
    the versions."""
    audio_level_db: float = 0.0
    """Level is changed by up to so much either way."""
    audio_eq_db: float = 0.0
    """Standard deviation of a random equaliser."""
    noise_db: float = 0.0
    """Smallest signal-to-noise ratio; up to 40 dB; 0 is no noise."""
    room_chance: float = 0.0
    """Of reverberation."""


class Schedule(StrEnum):
    """How the learning rate moves within a stage."""

    CONSTANT = "constant"
    COSINE = "cosine"
    """A linear rise over `warmup` of the steps, then half a cosine down to 0."""
    LINEAR = "linear"
    """A linear rise over `warmup_epochs`, `hold_epochs`, a linear fall over `fall_epochs` to
    `last_lr`, which stays."""
    PLATEAU = "plateau"
    """Times `factor` after `plateau_patience` epochs without a lower validation loss."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training with one optimiser."""

    epochs: int
    """At most."""
    lr: float
    """The largest."""
    optimizer: str = "adam"
    """adam, amsgrad, adamw or sgd."""
    weight_decay: float = 0.0
    momentum: float = 0.9
    """Of sgd."""
    nesterov: bool = True
    """Of sgd."""
    schedule: Schedule = Schedule.CONSTANT
    warmup: float = 0.0
    warmup_epochs: int = 0
    hold_epochs: int = 0
    fall_epochs: int = 0
    last_lr: float = 0.0
    factor: float = 0.1
    plateau_patience: int = 5
    step_decay: float = 0.0
    """lr / (1 + step_decay · steps of this stage) (Keras' decay; P3, section 6)."""
    patience: int = 0
    """Epochs without a better score after which the stage ends; 0 is never."""
    reload_best: bool = False
    """Begins with the best weights so far."""
    rewind: bool = False
    """Epochs are counted on from the best one: P3's restarts share one budget of epochs."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How the weights are found."""

    batch_size: int
    stages: tuple[Stage, ...]
    select: str = "pr_auc"
    """What the best epoch is best in: pr_auc, roc_auc, loss (all of validation) or last."""
    max_epochs: int = 0
    """Of all stages together; 0 is no further limit."""
    pos_weight: float = 1.0
    """Factor on the loss of positives."""
    balanced: bool = False
    """Besides, every tag's positives weigh negatives/positives of the training set (at most 50)."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0 is none."""
    amp: bool = False
    """Automatic mixed precision, on a GPU."""
    per_tag: bool = False
    """Early stopping for every tag alone: its column comes from its own best epoch (P1, 4.2)."""
    per_tag_members: int = 0
    """At most so many epochs are kept for that; 0 is no limit."""
    swa_start: int = 0
    """First epoch (from 1) whose weights go into a running mean (Izmailov 2018); 0 is never."""
    swa_every: int = 3
    snapshots: int = 0
    """The bundle averages the best epoch and so many of the last means (P4, 7.5)."""
    normalise: bool = False
    """Bands are scaled to the training set's mean 0 and deviation 1."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How probabilities become switches."""

    rule: str = "f_beta"
    """f_beta (max F1 of the task with beta = 1), roc_elbow or equal_error; on validation data."""
    beta: float = 1.0
    """Recall counts so many times as much as precision."""
    smallest_roc_auc: float = 0.5
    """A tag that stays below it in validation by chance's error is off by default."""
    smallest_lift: float = 1.0
    """So is one whose PR-AUC is below so many times its prior."""
    smallest_f1: float = 0.0
    """So is one whose decisions reach a smaller F1 in validation."""
    off_ratio: float = 0.7
    """Off threshold / on threshold."""
    stray_share: float = 1.0
    """Of the windows in which no tag is on, such as noise, at most so many reach a threshold."""


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
    recordings: Recordings = Recordings()
    mixtures: Mixtures | None = None
    """If given, the training data is made rather than read."""
    distil: Distil | None = None
    """If given, a student learns from teachers."""
    augment: Augment = Augment()
    thresholds: Thresholds = Thresholds()
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
            *_augment_rules(self.augment),
            *(rule for i, stage in enumerate(self.fit.stages) for rule in _stage_rules(i, stage)),
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


def _augment_rules(augment: Augment) -> Iterable[tuple[str, object, str]]:
    """What must hold of the augmentation."""
    for name in ("mix_share", "crop_chance", "mask_chance", "mask_bands", "mask_frames"):
        yield f"augment.{name}", 0 <= getattr(augment, name) <= 1, "a share in [0, 1]"
    for name in ("mixup_alpha", "level_db", "colour_db"):
        yield f"augment.{name}", 0 <= getattr(augment, name) < math.inf, "a finite number from 0 on"
    for name in ("shift_frames", "band_masks", "audio_variants"):
        yield f"augment.{name}", getattr(augment, name) >= 0, "0 or more"
    low, high = augment.crop_area
    yield "augment.crop_area", 0 < low <= high <= 1, "two shares in (0, 1], the smaller one first"
    yield "augment.mask_rounds", augment.mask_rounds >= 1, "at least 1"
    chain = augment.codecs or augment.noise_db or augment.room_chance or augment.audio_eq_db
    heard = augment.audio_variants > 0 or not (chain or augment.audio_level_db)
    yield "augment.audio_variants", heard, "at least 1 where codecs, noise, rooms or levels are set"
    check_chain(augment)


def check_chain(augment: Augment) -> None:
    """Whether the audio can be changed as asked for.

    Raises:
        RecipeError: a value is out of its range.
    """
    for text in augment.codecs:
        codec_of(text, "augment.codecs")
    rules = (
        ("codecs", len(set(augment.codecs)) == len(augment.codecs), "no codec twice"),
        ("room_chance", 0 <= augment.room_chance <= 1, "a share in [0, 1]"),
        ("noise_db", 0 <= augment.noise_db <= CLEAR, f"0, or up to {CLEAR:g} dB"),
        ("audio_level_db", 0 <= augment.audio_level_db <= 100, "0 to 100 dB"),
        ("audio_eq_db", 0 <= augment.audio_eq_db <= 100, "0 to 100 dB"),
    )
    for name, fine, expected in rules:
        if not fine:
            raise RecipeError(
                f"augment.{name}: expected {expected}, got {getattr(augment, name)!r}"
            )


def _stage_rules(i: int, stage: Stage) -> Iterable[tuple[str, object, str]]:
    """What must hold of the i-th stage."""
    key = f"fit.stages.{i}"
    yield f"{key}.epochs", stage.epochs >= 1, "at least 1"
    yield f"{key}.lr", stage.lr > 0, "a positive number"
    yield f"{key}.warmup", 0 <= stage.warmup < 1, "a share in [0, 1)"
    known = ("adam", "amsgrad", "adamw", "sgd")
    yield f"{key}.optimizer", stage.optimizer in known, f"one of {', '.join(known)}"


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = value[int(name)] if name.isdecimal() else getattr(value, name)
    return value
