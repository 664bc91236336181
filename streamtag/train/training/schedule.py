"""Optimisers and learning rates of the stages of a recipe."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from streamtag.train.recipes.recipe import Schedule, Stage


def make_optimizer(stage: Stage, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """A new optimiser for the trainable parameters."""
    learning = [p for p in parameters if p.requires_grad]
    decay = stage.weight_decay
    if stage.optimizer == "sgd":
        return torch.optim.SGD(learning, stage.lr, momentum=stage.momentum,
                               nesterov=stage.nesterov, weight_decay=decay)  # fmt: skip
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(learning, stage.lr, eps=stage.epsilon, weight_decay=decay)
    amsgrad = stage.optimizer == "amsgrad"
    return torch.optim.Adam(
        learning, stage.lr, eps=stage.epsilon, weight_decay=decay, amsgrad=amsgrad
    )


def learning_rate(stage: Stage, step: int, steps_per_epoch: int, plateau: float = 1.0) -> float:
    """The learning rate of one step.

    Args:
        stage: with the schedule.
        step: number of steps since the stage began.
        steps_per_epoch: at least 1.
        plateau: `Plateau.factor`.
    """
    rate = stage.lr
    if stage.interval == "epoch":
        step -= step % steps_per_epoch
    if stage.schedule is Schedule.COSINE:
        rate *= _cosine(stage, step, stage.epochs * steps_per_epoch)
    elif stage.schedule is Schedule.LINEAR:
        rate = _linear(stage, step / steps_per_epoch)
    elif stage.schedule is Schedule.PLATEAU:
        rate *= plateau
    return rate / (1 + stage.step_decay * step)


def _cosine(stage: Stage, step: int, steps: int) -> float:
    """A linear rise, then half a cosine down to 0 (Loshchilov and Hutter 2017)."""
    rise = stage.warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


def _linear(stage: Stage, epoch: float) -> float:
    """A rise, a constant part, a fall and a constant part; Koutini et al. 2019, section 3.3."""
    falls = stage.warmup_epochs + stage.hold_epochs
    if epoch < stage.warmup_epochs:
        return stage.last_lr + (stage.lr - stage.last_lr) * epoch / stage.warmup_epochs
    if epoch < falls:
        return stage.lr
    share = min(1.0, (epoch - falls) / stage.fall_epochs) if stage.fall_epochs else 1.0
    return stage.lr + (stage.last_lr - stage.lr) * share if stage.fall_epochs else stage.lr
