"""The loss of values with deviations, and what calibration makes of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy_training import Plain, ToySamples, toy_recipe, toy_training
from torch import Tensor

from streamtag.train.evaluation.metrics import rank_correlation
from streamtag.train.nets.dimensions import (
    SHARE,
    SMALLEST_DEVIATION,
    deviation_factors,
    likelihood_loss,
    values_and_deviations,
    with_dimensions,
)
from streamtag.train.nets.model import Model
from streamtag.train.training.card import calibrate_dimensions
from streamtag.train.training.loop import fit

NAN = float("nan")


def test_the_loss_is_that_of_a_normal_distribution() -> None:
    raw = torch.tensor([[0.3, -0.2, 0.5, -1.0]])
    values, deviations = values_and_deviations(raw)
    targets = torch.tensor([[0.9, -1.0, 1.0]])
    normal = torch.distributions.Normal(values, deviations)
    expected = -normal.log_prob(targets[:, :2]).mean() - 0.5 * np.log(2 * np.pi)
    assert float(likelihood_loss(raw, targets)) == pytest.approx(float(expected), abs=1e-6)


def test_unknown_values_and_windows_without_weight_teach_nothing() -> None:
    raw = torch.randn(3, 4, requires_grad=True)
    targets = torch.tensor([[NAN, 0.5, 1.0], [0.3, 0.3, 0.0], [0.3, NAN, NAN]])
    likelihood_loss(raw, targets).backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None
    assert (raw.grad[:, [0, 2]] == 0).all()
    assert (raw.grad[1:] == 0).all()
    assert (raw.grad[0, [1, 3]] != 0).all()
    assert float(likelihood_loss(raw.detach(), torch.zeros(3, 3))) == 0


def test_tags_and_dimensions_share_a_loss() -> None:
    def criterion(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits - targets).abs().mean()

    outputs, targets = torch.ones(2, 7), torch.tensor([[0.0, 1.0, 0.0, 0.4, NAN, 3.0]] * 2)
    expected = 2 / 3 + SHARE * likelihood_loss(outputs[:, 3:], targets[:, 3:])
    assert float(with_dimensions(criterion, 3)(outputs, targets)) == pytest.approx(float(expected))


def test_a_net_learns_how_far_it_is_off() -> None:
    """Targets of mean 0.4 and deviation 0.3 of one input, which nothing else tells apart."""
    rng = np.random.default_rng(0)
    wanted = torch.from_numpy(rng.normal(0.4, 0.3, (4000, 1)).astype(np.float32))
    raw = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = likelihood_loss(
            raw.expand(4000, 2), torch.cat([wanted, torch.ones_like(wanted)], dim=1)
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    value, deviation = values_and_deviations(raw.detach())
    assert float(value) == pytest.approx(0.4, abs=0.02)
    assert float(deviation) == pytest.approx(0.3, abs=0.02)
    assert SMALLEST_DEVIATION < 0.3


def test_deviations_become_as_large_as_the_errors() -> None:
    values, deviations = torch.zeros(4, 2), torch.full((4, 2), 0.2)
    targets = torch.tensor([[0.4, NAN, 1.0], [-0.4, NAN, 1.0], [0.4, NAN, 2.0], [9.0, NAN, 0.0]])
    assert deviation_factors(values, deviations, targets).tolist() == pytest.approx([2.0, 1.0])


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, 200), rng.normal(size=200)
    other += one
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5)))


class Moody(ToySamples):
    """Windows whose valence is 0.8 where the lower bands are loud, else -0.8, give or take 0.2."""

    def __init__(self, n: int, seed: int) -> None:
        super().__init__(n, seed)
        rng = np.random.default_rng(seed)
        self.dimensions = np.full((n, 3), np.nan, np.float32)
        self.dimensions[:, 0] = 1.6 * self.targets[:, 0] - 0.8 + rng.normal(0, 0.2, n)
        self.dimensions[:, 2] = 1
        self.targets = np.concatenate([self.targets, self.dimensions], axis=1)

    def truth(self) -> np.ndarray:
        return self.targets[:, :3]


def test_a_training_learns_them_beside_the_tags(tmp_path: Path) -> None:
    recipe = toy_recipe("fit.stages.0.epochs=12", "fit.stages.0.lr=0.02")
    training = toy_training(recipe, tmp_path)
    training.model = Model(Plain(7), 3, 80, None, 2)
    training.model.normalise(torch.full((80,), -7.0), torch.full((80,), 2.0))
    training.train_set, validation = Moody(256, 1), Moody(128, 2)
    training.validation = validation
    fit(training)
    model = training.model.eval()
    found = calibrate_dimensions(model, validation)
    assert list(found) == ["valence"]
    row = found["valence"]
    assert row["windows"] == 128
    assert row["rank_correlation"] > 0.7
    assert row["error"] < 0.4
    assert row["stated"] == pytest.approx(row["error"], rel=0.5)
    with torch.inference_mode():
        said = model(torch.from_numpy(validation.frames)).numpy()
    assert said.shape == (128, 7)
    errors = (validation.dimensions[:, 0] - said[:, 3]) / said[:, 5]
    assert float(np.sqrt(np.mean(errors**2))) == pytest.approx(1, abs=0.01)
