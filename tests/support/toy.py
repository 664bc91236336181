"""Small models and streams for the tests of the engine."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from streamtag.audio.block import Block
from streamtag.audio.feature_config import FeatureConfig
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, TagEnded, TagStarted, WindowScored, WindowsDropped
from streamtag.model.card import Card, PastPadding
from streamtag.model.tagger import Tagger
from streamtag.train.exporting.bundle import export

FEATURES = FeatureConfig(sample_rate=8000, n_fft=256, hop=80, n_mels=8, f_max=4000)
TAGS = ("low", "high", "loud")


class Bands(nn.Module):
    """Mean over time of each band, a fixed linear layer, sigmoid."""

    def __init__(self, width: int, n_tags: int) -> None:
        super().__init__()
        signs = torch.cos(torch.arange(n_tags * width, dtype=torch.float32) * 1.7)
        signs = signs.reshape(n_tags, width)
        self.weight = nn.Parameter(signs - signs.mean(dim=1, keepdim=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (x.mean(dim=1, keepdim=True) * self.weight).sum(dim=-1) * 0.3
        return torch.sigmoid(y).clamp(1e-6, 1 - 1e-6)


def card(**changes: Any) -> Card:
    """A card for `Bands`: windows of 0.5 s every 0.1 s, the first after 0.2 s."""
    fields: dict[str, Any] = {
        "name": "toy",
        "net": "bands",
        "features": FEATURES,
        "window_frames": 50,
        "hop_frames": 10,
        "first_frames": 20,
        "padding": PastPadding.SILENCE,
        "tags": TAGS,
        "on_thresholds": (0.55,) * 3,
        "off_thresholds": (0.45,) * 3,
        "smoothing_seconds": 0.2,
        "min_on_seconds": 0.1,
        "min_off_seconds": 0.2,
    }
    return Card(**{**fields, **changes})


def tagger(folder: Path, module: nn.Module | None = None, **changes: Any) -> Tagger:
    """A toy bundle, exported and loaded."""
    toy = card(**changes)
    path = folder / f"{toy.name}.pt"
    export(module or Bands(toy.features.width, len(toy.tags)), toy, path)
    return Tagger.load(path, "cpu")


def music(seconds: float, rate: int = 8000, seed: int = 0) -> np.ndarray:
    """Tones that start and stop in noise, (n,) float32."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    t = np.arange(n) / rate
    out = 0.002 * rng.standard_normal(n)
    for _ in range(3):
        pitch, beat = rng.uniform(60, 3900), rng.uniform(0.5, 2.5)
        gate = np.sin(2 * np.pi * t / beat + rng.uniform(0, 6)) > 0
        out += rng.uniform(0.1, 0.3) * gate * np.sin(2 * np.pi * pitch * t)
    return out.astype(np.float32)


def alone(
    taggers: Mapping[str, Tagger], samples: np.ndarray, rate: int, name: str = "a", start: int = 0
) -> list[Event]:
    """All events of a recording, fed in one block to an engine with no other stream."""
    engine = Engine(taggers)
    events = engine.open(name, rate, start=start)
    events += engine.feed(name, Block(samples, start, rate))
    return events + engine.close(name)


def events_of(events: Iterable[Event], stream: str, tagger: str) -> list[Event]:
    """The events of one tagger on one stream, in order."""
    return [
        e
        for e in events
        if isinstance(e, WindowScored | TagStarted | TagEnded | WindowsDropped)
        and (e.stream, e.tagger) == (stream, tagger)
    ]


def cut(samples: np.ndarray, rate: int, sizes: Iterable[int], start: int = 0) -> list[Block]:
    """Blocks whose sizes cycle through `sizes`; a size of 0 makes an empty block."""
    blocks, at = [], 0
    for size in itertools.cycle(sizes):
        if at >= len(samples):
            return blocks
        blocks.append(Block(samples[at : at + size], start + at, rate))
        at += size
    return blocks
