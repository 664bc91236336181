"""Ensembles: the mean of scores, as a net in training and as one bundle of several."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy import FEATURES, TAGS, Bands, card, music
from torch import Tensor, nn

from streamtag.audio.block import Block
from streamtag.engine.offline import tag_blocks
from streamtag.errors import BundleError, RecipeError
from streamtag.model.bundle import checksum, read_card
from streamtag.model.card import PastPadding
from streamtag.model.tagger import Tagger
from streamtag.train.exporting.bundle import export
from streamtag.train.exporting.ensemble import EnsembleNet, ensemble_of, mean_of_bundles
from streamtag.train.nets.model import Model


class Steep(nn.Module):
    """A net after the contract: a linear layer on the mean over time, times `gain`."""

    def __init__(self, n_tags: int, seed: int, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.dense, self.gain = nn.Linear(8, n_tags), gain

    def logits(self, frames: Tensor) -> Tensor:
        return self.dense(frames.mean(1)) * self.gain

    def forward(self, frames: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(frames))


def frames(n: int = 4, length: int = 50) -> Tensor:
    return 3 * torch.randn(n, length, 8, generator=torch.Generator().manual_seed(9))


def test_scores_are_the_weighted_mean() -> None:
    nets = [Steep(3, seed) for seed in range(3)]
    weights = torch.tensor([[0.2, 1.0, 0.0], [0.3, 0.0, 0.5], [0.5, 0.0, 0.5]])
    net = EnsembleNet(nets, weights)
    x = frames()
    expected = sum(w * member(x) for w, member in zip(weights, nets, strict=True))
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(net.logits(x), torch.logit(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net(x)[:, 1], nets[0](x)[:, 1], rtol=0, atol=1e-6)


def test_certainty_far_beyond_single_precision_stays_finite_and_right() -> None:
    """The members' scores round to 0 and 1; the logits still know how sure they are."""
    nets = [Steep(2, 0, 300.0), Steep(2, 1, 300.0)]
    x = frames(64)
    net = EnsembleNet(nets, torch.full((2, 2), 0.5))
    both = torch.stack([member.logits(x) for member in nets]).double()
    assert both.abs().max() > 200
    low, high = both.amin(0), both.amax(0)
    yes = torch.logaddexp(nn.functional.logsigmoid(low), nn.functional.logsigmoid(high))
    no = torch.logaddexp(nn.functional.logsigmoid(-low), nn.functional.logsigmoid(-high))
    got = net.logits(x)
    assert got.isfinite().all()
    torch.testing.assert_close(got.double(), yes - no, rtol=1e-5, atol=1e-5)


def test_gradients_pass_where_a_member_has_weight_0() -> None:
    nets = [Steep(2, 0), Steep(2, 1)]
    EnsembleNet(nets, torch.eye(2)).logits(frames()).sum().backward()
    for i, net in enumerate(nets):
        rows = net.dense.weight.grad.abs().sum(1)
        assert rows.isfinite().all()
        assert rows[i] > 0
        assert rows[1 - i] == 0


def test_shorter_windows_see_the_last_frames_and_it_scripts() -> None:
    nets = [Steep(3, 0), Steep(3, 1)]
    net = EnsembleNet(nets, torch.full((2, 3), 0.5), [50, 20]).eval()
    x = frames()
    expected = (nets[0](x) + nets[1](x[:, -20:])) / 2
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.jit.script(net)(x), expected, rtol=0, atol=1e-6)


def test_models_bring_their_normalisation_and_temperature(tmp_path: Path) -> None:
    models = [Model(Steep(3, seed), 3, 8) for seed in range(2)]
    models[0].normalise(torch.full((8,), -10.0), torch.full((8,), 4.0))
    models[1].calibrate(torch.tensor([0.5, 2.0, 3.0]))
    whole = Model(ensemble_of(models), 3, 8).eval()
    x = frames()
    expected = (models[0](x) + models[1](x)) / 2
    torch.testing.assert_close(whole(x), expected, rtol=0, atol=1e-6)
    picked = ensemble_of(models, torch.tensor([[1.0, 0, 0], [0, 1.0, 1.0]]))
    expected = torch.cat([models[0](x)[:, :1], models[1](x)[:, 1:]], 1)
    torch.testing.assert_close(picked(x), expected, rtol=0, atol=1e-6)
    export(whole, card(), tmp_path / "whole.pt")


@pytest.mark.parametrize(
    ("weights", "windows", "message"),
    [
        (torch.ones(3, 2) / 3, None, "a row of numbers of at least 0 for each of 2 members"),
        (torch.tensor([[-0.5], [1.5]]), None, "at least 0"),
        (torch.ones(2, 3), None, "sums of 1 over the members for every tag, got .* off by 1"),
        (torch.ones(2, 3) / 2, [50], "windows: expected 2 numbers of frames"),
        (torch.ones(2, 3) / 2, [50, 0], "windows: expected 2 numbers of frames"),
    ],
)
def test_weights_that_do_not_fit(weights: Tensor, windows: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        EnsembleNet([Steep(3, 0), Steep(3, 1)], weights, windows)


def test_models_that_do_not_fit() -> None:
    with pytest.raises(RecipeError, match=r"one number of tags, got \[2, 3\]"):
        ensemble_of([Model(Steep(n, 0), n, 8) for n in (2, 3)])
    with pytest.raises(RecipeError, match="one number of tags, got none"):
        ensemble_of([])
    with pytest.raises(RecipeError, match=r"expected shape \(1, 3\).* got \(1, 2\)"):
        ensemble_of([Model(Steep(3, 0), 3, 8)], torch.ones(1, 2))


def bundles(folder: Path, **second: Any) -> list[Path]:
    """Two toy bundles; the second as its card's changes say."""
    changes = {"name": "b", "licence": "B", "on_thresholds": (0.7, 0.8, 0.9)} | second
    n_tags = len(changes.get("tags", TAGS))
    width = changes.get("features", FEATURES).width
    first = {"name": "a", "licence": "A", "scores": {"f1": 0.5}}
    export(Bands(8, 3), card(**first), folder / "a.pt")
    other = nn.Linear(width, n_tags)
    torch.manual_seed(3)
    nn.init.normal_(other.weight, 0, 0.2)
    export(Linear(other), card(**changes), folder / "b.pt")
    return [folder / "a.pt", folder / "b.pt"]


class Linear(nn.Module):
    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, frames: Tensor) -> Tensor:
        return torch.sigmoid(self.dense(frames.mean(1)))


def test_a_bundle_gives_the_mean_of_its_members(tmp_path: Path) -> None:
    """On the air, the first windows included, and with tags in another order."""
    paths = bundles(tmp_path, tags=("loud", "low", "high"), window_frames=30, first_frames=10)
    mean_of_bundles(paths, tmp_path / "ab.pt")
    samples = music(2.0, 8000, 4)
    taggers = {p.stem: Tagger.load(p, "cpu") for p in (*paths, tmp_path / "ab.pt")}
    rows = {
        name: r.scores for name, r in tag_blocks([Block(samples, 0, 8000)], 8000, taggers).items()
    }
    a = np.array([row.values for row in rows["a"]])
    b = np.array([row.values for row in rows["b"]])[-len(a) :, [1, 2, 0]]  # begins earlier
    mean = np.array([row.values for row in rows["ab"]])
    assert mean.shape == a.shape
    assert np.abs(a - b).max() > 0.05
    np.testing.assert_allclose(mean, (a + b) / 2, rtol=0, atol=1e-6)


def test_the_card_of_a_mean(tmp_path: Path) -> None:
    paths = bundles(
        tmp_path,
        tags=("loud", "low", "high"),
        window_frames=80,
        first_frames=10,
        padding=PastPadding.WRAP,
        off_by_default=("low", "high"),
    )
    made = mean_of_bundles(paths, tmp_path / "ab.pt", name="both", weights=[3, 1])
    assert read_card(tmp_path / "ab.pt") == made
    assert (made.name, made.tags) == ("both", TAGS)
    assert (made.window_frames, made.first_frames, made.hop_frames) == (80, 20, 10)
    assert made.on_thresholds == pytest.approx((0.6125, 0.6375, 0.5875))
    assert made.off_thresholds == pytest.approx((0.45,) * 3)
    assert made.off_by_default == ()
    assert made.scores == {"a": {"f1": 0.5}, "b": {}}
    assert made.licence == "A / B"
    assert made.extra["members"] == [
        {"name": "a", "file": "a.pt", "sha256": checksum(paths[0]), "weight": 0.75},
        {"name": "b", "file": "b.pt", "sha256": checksum(paths[1]), "weight": 0.25},
    ]
    assert "not chosen on data" in made.extra["notes"][0]
    assert "a: silence, b: wrap" in made.extra["notes"][1]


def test_a_mean_of_a_mean_and_scores_of_its_own(tmp_path: Path) -> None:
    paths = bundles(tmp_path, name="a", off_by_default=("low",))
    mean_of_bundles(paths, tmp_path / "ab.pt", validation={"f1": 0.6})
    assert list(read_card(tmp_path / "ab.pt").scores) == ["a (1)", "a (2)", "validation"]
    mean_of_bundles([tmp_path / "ab.pt", paths[1]], tmp_path / "abb.pt", weights=[2, 1])
    x = frames(1).numpy()
    a, b, abb = (Tagger.load(p, "cpu")(x) for p in (*paths, tmp_path / "abb.pt"))
    np.testing.assert_allclose(abb, a / 3 + 2 * b / 3, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"tags": ("low", "high", "soft")}, r"b.pt: .* tags of .*a.pt, got none called 'loud'"),
        (
            {"tags": (*TAGS, "soft"), "on_thresholds": (0.5,) * 4, "off_thresholds": (0.4,) * 4},
            r"b.pt: .*a.pt, got 'soft' besides",
        ),
        (
            {"features": type(FEATURES)(sample_rate=8000, n_fft=256, hop=100, n_mels=8)},
            r"b.pt: features.hop: expected 80 as .*a.pt has, got 100",
        ),
    ],
)
def test_bundles_that_do_not_fit(tmp_path: Path, second: dict[str, Any], message: str) -> None:
    paths = bundles(tmp_path, **second)
    with pytest.raises(BundleError, match=message):
        mean_of_bundles(paths, tmp_path / "ab.pt")
    assert not (tmp_path / "ab.pt").exists()


def test_one_bundle_and_bad_weights_are_refused(tmp_path: Path) -> None:
    paths = bundles(tmp_path)
    with pytest.raises(BundleError, match="two bundles or more to average, got 1"):
        mean_of_bundles(paths[:1], tmp_path / "ab.pt")
    for weights in ([1.0], [1.0, 0.0], [1.0, float("inf")]):
        with pytest.raises(BundleError, match="weights: expected 2 positive numbers"):
            mean_of_bundles(paths, tmp_path / "ab.pt", weights=weights)
    paths[1].write_bytes(b"no bundle")
    with pytest.raises(BundleError, match=r"b.pt: not a bundle"):
        mean_of_bundles(paths, tmp_path / "ab.pt")
