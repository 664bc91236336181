from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import Bands, card
from torch import Tensor, nn

from streamtag.errors import BundleError
from streamtag.model.bundle import read_card
from streamtag.model.tagger import Tagger
from streamtag.train.exporting.bundle import export


def test_it_returns_the_card_that_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "toy.pt"
    written = export(Bands(8, 3), card(), path)
    assert read_card(path) == written
    assert written.golden is not None
    assert [p.name for p in path.parent.iterdir()] == ["toy.pt"]


def test_dropout_is_off_in_a_bundle(tmp_path: Path) -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bands, self.dropout = Bands(8, 3), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.bands(self.dropout(x))

    export(Forgetful().train(), card(), tmp_path / "toy.pt")
    loaded = Tagger.load(tmp_path / "toy.pt", "cpu")
    x = np.full((1, 50, 8), -4, np.float32)
    assert np.array_equal(loaded(x), loaded(x))


def test_a_convolutional_net_with_batch_norm_is_the_same_scripted(tmp_path: Path) -> None:
    class Conv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveMaxPool2d(1)
            )
            self.out = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.out(self.layers(x.unsqueeze(1)).flatten(1)))

    torch.manual_seed(0)
    net = Conv()
    net(torch.randn(4, 50, 8))  # gives the batch norm something to remember
    export(net, card(), tmp_path / "toy.pt")
    x = np.random.default_rng(0).normal(size=(4, 50, 8)).astype(np.float32)
    with torch.inference_mode():
        eager = net.eval()(torch.from_numpy(x)).numpy()
    assert np.abs(Tagger.load(tmp_path / "toy.pt", "cpu")(x) - eager).max() < 1e-5


def test_logits_are_refused(tmp_path: Path) -> None:
    class Logits(Bands):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1) @ self.weight.T

    with pytest.raises(BundleError, match=r"expected probabilities in \(0, 1\)"):
        export(Logits(8, 3), card(), tmp_path / "toy.pt")


def test_another_number_of_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected 3 probabilities per window, got shape \(1, 4"):
        export(Bands(8, 4), card(), tmp_path / "toy.pt")


def test_what_cannot_be_scripted_is_refused(tmp_path: Path) -> None:
    class Odd(Bands):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if hasattr(self, "weight") else eval("x")

    with pytest.raises(BundleError, match="net 'bands' cannot be scripted"):
        export(Odd(8, 3), card(), tmp_path / "toy.pt")
    assert not (tmp_path / "toy.pt").exists()


def test_a_net_that_mixes_up_the_rows_of_a_batch_is_refused(tmp_path: Path) -> None:
    class Leaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bands = Bands(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return (self.bands(x) / x.shape[0]).clamp(1e-6, 1)

    with pytest.raises(BundleError, match=r"toy.pt: .* differs from the net by .* in a batch of 3"):
        export(Leaky(), card(), tmp_path / "toy.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_older_file(tmp_path: Path) -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bands = Bands(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bands(x.reshape(1, 50, 8))

    path = tmp_path / "toy.pt"
    export(Bands(8, 3), card(), path)
    before = path.read_bytes()
    with pytest.raises(BundleError, match=r"toy.pt: the scripted model fails in a batch of 3"):
        export(Single(), card(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="windows of 50 frames of 8 values, got one that fails"):
        export(Bands(9, 3), card(), tmp_path / "toy.pt")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "toy.pt").mkdir()
    with pytest.raises(
        BundleError, match=r"toy.pt: expected a place to write to, got: .*directory"
    ):
        export(Bands(8, 3), card(), tmp_path / "toy.pt")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"toy.pt: expected a place to write to"):
        export(Bands(8, 3), card(), tmp_path / "file" / "toy.pt")
