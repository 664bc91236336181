import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from support.paths import ROOT
from support.toy import tagger
from torch import Tensor, nn

from streamtag.model.optimise import freeze, fuse, optimisations, optimise
from streamtag.model.tagger import Tagger

CPU = torch.device("cpu")
MODELS = ROOT / "models"


class Convolved(nn.Module):
    """Enough for a graph compiler: convolutions with norms, a sum, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.dense = nn.Linear(8, 3)

    def forward(self, frames: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(frames.unsqueeze(1))))
        x = x + torch.relu(self.second(x))
        return torch.sigmoid(self.dense(x.mean([2, 3])))


class Plain(nn.Module):
    """Nothing that could be fused."""

    def forward(self, frames: Tensor) -> Tensor:
        return (frames.cumsum(1)[:, -1, :3] > 0).float()


@pytest.fixture(scope="module")
def net() -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    return torch.jit.script(Convolved().eval())


def windows(n: int) -> Tensor:
    return torch.randn(n, 50, 8, generator=torch.Generator().manual_seed(1)) * 3 - 5


def test_a_fused_module_agrees_for_any_window(net: torch.jit.ScriptModule) -> None:
    made = fuse(net, torch.zeros(1, 50, 8))
    with torch.inference_mode():
        for window in windows(20).split(1):
            assert torch.allclose(made(window), net(window), atol=1e-6)
        assert torch.allclose(made(windows(4)), net(windows(4)), atol=1e-6)  # slower, not wrong


def test_a_fused_module_gives_the_same_bits_at_each_call_and_address(
    net: torch.jit.ScriptModule,
) -> None:
    made, window = fuse(net, torch.zeros(1, 50, 8)), windows(1)
    room, answers = torch.zeros(window.numel() + 16), set()
    with torch.inference_mode():
        for start in range(17):
            place = room[start : start + window.numel()].view(window.shape)
            place.copy_(window)
            answers.add(made(place).numpy().tobytes())
    assert len(answers) == 1


@pytest.mark.parametrize("before", [False, True])
def test_torchs_switch_is_restored(net: torch.jit.ScriptModule, before: bool) -> None:
    torch.jit.enable_onednn_fusion(before)
    try:
        fuse(net, torch.zeros(1, 50, 8))
        assert torch.jit.onednn_fusion_enabled() == before
        with pytest.raises(RuntimeError, match="nothing was fused"):
            fuse(torch.jit.script(Plain().eval()), torch.zeros(1, 50, 8))
        assert torch.jit.onednn_fusion_enabled() == before
    finally:
        torch.jit.enable_onednn_fusion(False)


def test_the_last_optimisation_is_none(net: torch.jit.ScriptModule) -> None:
    assert [name for name, _ in optimisations(CPU, 1)] == ["onednn", "inference", "none"]
    assert [name for name, _ in optimisations(CPU, 8)] == ["inference", "none"]
    assert [name for name, _ in optimisations(torch.device("cuda"), 1)] == ["frozen", "none"]
    *_, (_, last) = optimisations(CPU, 1)
    assert last(net, windows(1)) is net


def test_every_optimisation_computes_the_same(net: torch.jit.ScriptModule) -> None:
    with torch.inference_mode():
        expected = net(windows(1))
        for optimised in (fuse, optimise, freeze):
            assert torch.allclose(optimised(net, windows(1))(windows(1)), expected, atol=1e-6)


def test_a_tagger_fuses_windows_alone_and_not_batches(tmp_path: Path) -> None:
    made = tagger(tmp_path, Convolved().eval())
    x = windows(8).numpy()
    alone = np.concatenate([made(x[i : i + 1]) for i in range(8)])
    assert np.abs(made(x) - alone).max() < 1e-6
    assert "onednn" in made.optimisations
    assert made.optimisations == {"onednn", "inference"}


def test_a_module_that_cannot_be_fused_runs(tmp_path: Path) -> None:
    made = tagger(tmp_path, Plain())
    assert made(windows(1).numpy()).shape == (1, 3)
    assert made.optimisations == {"inference"}


def test_an_optimisation_with_another_answer_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagger(tmp_path, Convolved().eval())

    def wrong(module: torch.jit.ScriptModule, _: Tensor) -> torch.jit.ScriptModule:
        class Wrong(nn.Module):
            def forward(self, frames: Tensor) -> Tensor:
                return torch.full((frames.shape[0], 3), 0.5)

        return torch.jit.script(Wrong())

    steps = [("onednn", wrong), ("none", lambda module, _: module)]
    monkeypatch.setattr("streamtag.model.tagger.optimisations", lambda device, size: iter(steps))
    assert Tagger.load(tmp_path / "toy.pt", "cpu").optimisations == {"none"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="torch fuses on x86-64 only")
@pytest.mark.parametrize("name", ["general-1", "instruments-1"])
def test_the_shipped_models_are_fused(name: str) -> None:
    made = Tagger.load(MODELS / f"{name}.pt", "cpu")
    assert made.optimisations == {"onednn"}
