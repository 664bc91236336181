"""Learning rates and optimisers are those of the papers."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from streamtag.train.recipes.recipe import Schedule, Stage
from streamtag.train.run_folder import Plateau
from streamtag.train.training.schedule import learning_rate, make_optimizer


def rates(stage: Stage, steps: int, per_epoch: int) -> np.ndarray:
    return np.array([learning_rate(stage, step, per_epoch) for step in range(steps)])


def test_a_cosine_rises_and_falls() -> None:
    stage = Stage(20, 3e-3, schedule=Schedule.COSINE, warmup=0.1)
    found = rates(stage, 200, 10)
    assert found.argmax() == 20
    assert found.max() == pytest.approx(3e-3)
    assert (np.diff(found[:20]) > 0).all()
    assert (np.diff(found[20:]) < 0).all()
    assert found[-1] < 3e-6


def test_the_linear_schedule_of_the_resnets() -> None:
    """Koutini et al. 2019: 10 epochs up, 60 level, 50 down to 1e-6, 80 level."""
    stage = Stage(200, 1e-4, schedule=Schedule.LINEAR, warmup_epochs=10, hold_epochs=60,
                  fall_epochs=50, last_lr=1e-6)  # fmt: skip
    found = rates(stage, 200 * 4, 4)[::4]
    assert found[0] == pytest.approx(1e-6)
    assert found[5] == pytest.approx((1e-6 + 1e-4) / 2)
    assert found[10:71] == pytest.approx(np.full(61, 1e-4))
    assert found[95] == pytest.approx((1e-6 + 1e-4) / 2)
    assert found[120:] == pytest.approx(np.full(80, 1e-6))


def test_a_learning_rate_may_change_with_the_epoch_alone() -> None:
    """As in the authors' code: one rate for all steps of an epoch, that of its first step."""
    stage = Stage(20, 1e-3, schedule=Schedule.LINEAR, warmup_epochs=4, hold_epochs=2,
                  fall_epochs=8, last_lr=1e-5)  # fmt: skip
    smooth = rates(stage, 200, 10)
    found = rates(dataclasses.replace(stage, interval="epoch"), 200, 10)
    assert found.tolist() == np.repeat(smooth[::10], 10).tolist()
    assert len(set(smooth)) > 100 > len(set(found))


def test_decay_per_step_is_that_of_keras() -> None:
    stage = Stage(1, 0.01, optimizer="sgd", step_decay=1e-6)
    assert learning_rate(stage, 100_000, 640) == pytest.approx(0.01 / 1.1)


def test_a_plateau_is_that_of_torch() -> None:
    losses = [1.0, 0.9, 0.95, 0.9, 0.91, 0.92, 0.93, 0.94, 0.5, *[0.6] * 12]
    stage = Stage(99, 0.1, schedule=Schedule.PLATEAU, factor=0.1, plateau_patience=5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=5)
    ours = Plateau()
    for loss in losses:
        theirs.step(loss)
        ours.see(loss, stage)
        rate = learning_rate(stage, 0, 1, ours.factor)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours.factor == pytest.approx(0.001)


def test_optimisers() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad = False
    stage = Stage(1, 0.1, weight_decay=1e-4)
    amsgrad = make_optimizer(dataclasses.replace(stage, optimizer="amsgrad"), net.parameters())
    assert amsgrad.defaults["amsgrad"]
    assert len(amsgrad.param_groups[0]["params"]) == 1
    sgd = make_optimizer(dataclasses.replace(stage, optimizer="sgd"), net.parameters())
    assert (sgd.defaults["nesterov"], sgd.defaults["momentum"]) == (True, 0.9)
    adam = make_optimizer(dataclasses.replace(stage, epsilon=1e-7), net.parameters())
    assert type(adam) is torch.optim.Adam
    assert adam.defaults["eps"] == 1e-7
    assert adam.defaults["weight_decay"] == 1e-4
