import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import Bands, card, tagger
from torch import Tensor, nn

from streamtag.errors import BundleError
from streamtag.model.bundle import checksum, golden_window, save_bundle
from streamtag.model.tagger import Tagger, flush_denormal_weights


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return tagger(tmp_path_factory.mktemp("tagger"))


def windows(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(-5, 3, (n, 50, 8)).astype(np.float32)


def changed(folder: Path, change: dict[str, object]) -> Path:
    """The toy bundle with something else in its card."""
    tagger(folder)
    path = folder / "changed.pt"
    with zipfile.ZipFile(folder / "toy.pt") as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            text = old.read(item)
            if item.filename.endswith("extra/card.json"):
                text = json.dumps(json.loads(text) | change).encode()
            new.writestr(item, text)
    return path


def test_answers_equal_those_of_the_module(toy: Tagger) -> None:
    x = windows(5)
    with torch.inference_mode():
        expected = Bands(8, 3)(torch.from_numpy(x)).numpy()
    answer = toy(x)
    assert answer.dtype == np.float32
    assert answer.shape == (5, 3)
    assert np.abs(answer - expected).max() < 1e-6


def test_card_device_and_checksum(toy: Tagger, tmp_path: Path) -> None:
    assert toy.card.name == "toy"
    assert toy.device == "cpu"
    tagger(tmp_path)
    assert Tagger.load(tmp_path / "toy.pt", "cpu").checksum == checksum(tmp_path / "toy.pt")


def test_the_staging_buffer_is_reused_and_answers_are_kept(toy: Tagger) -> None:
    first = toy.staging(4)
    assert first.shape == (4, 50, 8)
    first[:] = windows(4)
    answer = toy(first)
    kept = answer.copy()
    toy.staging(4)[:] = windows(4, seed=1)
    toy(toy.staging(4))
    assert np.array_equal(answer, kept)
    assert np.shares_memory(toy.staging(2), toy.staging(4))


def test_warming_up_changes_no_answer(tmp_path: Path) -> None:
    cold = tagger(tmp_path)
    before = cold(windows(1))
    cold.warm_up([1, 2, 8])
    cold.warm_up([1, 2, 8])
    assert np.array_equal(cold(windows(1)), before)


@pytest.mark.parametrize("device", ["tpu0", "cpux", ""])
def test_an_unknown_device_is_named(tmp_path: Path, device: str) -> None:
    tagger(tmp_path)
    with pytest.raises(BundleError, match=f"expected device auto, cpu or cuda, got '{device}'"):
        Tagger.load(tmp_path / "toy.pt", device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_reported(tmp_path: Path) -> None:
    tagger(tmp_path)
    with pytest.raises(BundleError, match="torch finds no GPU; use cpu"):
        Tagger.load(tmp_path / "toy.pt", "cuda")
    assert Tagger.load(tmp_path / "toy.pt").device == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_answers_from_pinned_memory(toy: Tagger, tmp_path: Path) -> None:
    tagger(tmp_path)
    gpu = Tagger.load(tmp_path / "toy.pt")
    assert gpu.device.startswith("cuda")
    gpu.warm_up([1, 8])
    rows = gpu.staging(8)
    assert torch.from_numpy(rows).is_pinned()
    rows[:] = windows(8)
    assert np.abs(gpu(rows) - toy(windows(8))).max() < 1e-5


def test_another_golden_answer_is_refused_with_the_tag(tmp_path: Path) -> None:
    answer = [float(p) for p in tagger(tmp_path).card.golden.probabilities]  # type: ignore[union-attr]
    answer[1] += 0.08
    path = changed(tmp_path, {"golden": {"probabilities": answer, "tolerance": 2e-3}})
    with pytest.raises(BundleError, match=r"golden answer differs by 0\.08 for tag 'high'"):
        Tagger.load(path, "cpu")


def test_a_bundle_without_a_golden_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a golden answer in its card"):
        Tagger.load(changed(tmp_path, {"golden": None}), "cpu")


def test_a_model_that_does_not_fit_its_card_is_refused(tmp_path: Path) -> None:
    two = {
        "tags": ["a", "b"],
        "on_thresholds": [0.5, 0.5],
        "off_thresholds": [0.4, 0.4],
        "golden": {"probabilities": [0.5, 0.5], "tolerance": 2e-3},
    }
    with pytest.raises(BundleError, match=r"expected 2 probabilities, got shape \(1, 3\)"):
        Tagger.load(changed(tmp_path, two), "cpu")
    wide = {"features": card().features.to_dict() | {"n_mels": 9}}
    with pytest.raises(BundleError, match="its model fails on the golden window"):
        Tagger.load(changed(tmp_path, wide), "cpu")


def test_a_zip_with_a_card_but_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.pt"
    with zipfile.ZipFile(path, "w") as new:
        new.writestr("empty/extra/card.json", json.dumps(tagger(tmp_path).card.to_dict()))
    with pytest.raises(BundleError, match=r"empty\.pt: torch .* cannot load it"):
        Tagger.load(path, "cpu")


def test_denormal_weights_are_flushed_and_counted() -> None:
    net = nn.Linear(4, 1)
    with torch.no_grad():
        net.weight[:] = torch.tensor([1e-39, -1e-21, 0.0, 1e-19])
    assert flush_denormal_weights(net) == 2
    assert net.weight.tolist() == [[0.0, 0.0, 0.0, pytest.approx(1e-19)]]
    assert flush_denormal_weights(net) == 0


def test_a_bundle_with_denormal_weights_loads_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((8, 3), 1e-40))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(x.mean(1) @ self.weight)

    made = tagger(tmp_path, Tiny())
    assert made(windows(1)) == pytest.approx(0.5)
    save_bundle(tmp_path / "raw.pt", torch.jit.script(Tiny()), made.card)
    with caplog.at_level(logging.WARNING):
        Tagger.load(tmp_path / "raw.pt", "cpu")
    assert "24 weights below 1e-20 set to zero" in caplog.text


def test_the_golden_answer_is_that_of_the_golden_window(toy: Tagger) -> None:
    assert toy.card.golden is not None
    assert toy(golden_window(toy.card))[0] == pytest.approx(toy.card.golden.probabilities, abs=1e-6)
