"""Bundles that do harm, made by hand."""

import zipfile
from pathlib import Path

import torch
from torch import nn

from streamtag.model.bundle import save_bundle
from streamtag.model.card import Card
from support.toy import Bands


class LoopingBands(Bands):
    """Does not come back from its ninth call on."""

    def __init__(self) -> None:
        super().__init__(8, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        k = 0
        if int(self.calls) > 8:
            while k >= 0:
                k = (k + 1) % 1000
        y = (x.mean(dim=1, keepdim=True) * self.weight).sum(dim=-1) * 0.3
        return torch.sigmoid(y + k).clamp(1e-6, 1 - 1e-6)


class GreedyBands(Bands):
    """Asks for 100 GB."""

    def __init__(self) -> None:
        super().__init__(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        much = torch.zeros([100, 1000, 1000, 250])
        y = (x.mean(dim=1, keepdim=True) * self.weight).sum(dim=-1) + much[0, 0, 0, 0]
        return torch.sigmoid(y)


class SavingBands(Bands):
    """Saves what it is given to a file of its choice."""

    def __init__(self, path: str) -> None:
        super().__init__(8, 3)
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.ops.aten.save(x, self.path)
        y = (x.mean(dim=1, keepdim=True) * self.weight).sum(dim=-1) * 0.3
        return torch.sigmoid(y)


class NotANumberBands(Bands):
    """Answers NaN."""

    def __init__(self) -> None:
        super().__init__(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=1)[:, :3] * float("nan")


def saved(path: Path, module: nn.Module, card: Card) -> Path:
    """A bundle with a module that was never asked whether it fits the card."""
    save_bundle(path, torch.jit.script(module.eval()), card)
    return path


def rewritten_code(bundle: Path, path: Path, old: bytes, new: bytes) -> Path:
    """The same bundle with other code."""
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for item in source.infolist():
            content = source.read(item)
            if item.filename.endswith(".debug_pkl"):
                continue
            if item.filename.endswith(".py"):
                content = content.replace(old, new)
            out.writestr(item.filename, content)
    return path


class HangsAtHighTones(nn.Module):
    """Hears tones as `ToyNet` of the tests does, and never comes back from a high one alone."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        low = windows[:, :, :8].amax(2).mean(1)
        high = windows[:, :, 20:].amax(2).mean(1)
        k = 0
        if float(high.max()) > -1.0 and float(low.max()) < -5.0:
            while k >= 0:
                k = (k + 1) % 1000
        logits = torch.stack([low + 3, high + 3, 0 * low - 8 + k], 1)
        return torch.sigmoid(2 * logits.clamp(-5, 5))
