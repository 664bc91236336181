"""What a recipe says of the training, and of the thresholds that follow it."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


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


def stage_rules(i: int, stage: Stage) -> Iterator[tuple[str, object, str]]:
    """What must hold of the i-th stage."""
    key = f"fit.stages.{i}"
    yield f"{key}.epochs", stage.epochs >= 1, "at least 1"
    yield f"{key}.lr", stage.lr > 0, "a positive number"
    yield f"{key}.warmup", 0 <= stage.warmup < 1, "a share in [0, 1)"
    known = ("adam", "amsgrad", "adamw", "sgd")
    yield f"{key}.optimizer", stage.optimizer in known, f"one of {', '.join(known)}"
