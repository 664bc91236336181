"""A small training run for tests of the loop; as a program it trains in its own process."""

import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamtag.train.data.samples import TrainingSample
from streamtag.train.job import assemble
from streamtag.train.nets import NETS
from streamtag.train.nets.model import Model, new_model
from streamtag.train.recipes.file import load_recipe
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.run_folder import RunFolder
from streamtag.train.training import loop
from streamtag.train.training.distributed import process_group
from streamtag.train.training.loop import FitResult, Training, fit

TAGS = ("low", "high", "never")
BASE = (
    'name="toy"', "window_frames=32", "first_frames=8", "hop_frames=8", "fit.batch_size=16",
    "fit.select=pr_auc", "fit.stages.0.epochs=3", "fit.stages.0.patience=0", "augment.band_masks=2",
    "augment.mix_share=0.0",
)  # fmt: skip


class Plain(nn.Module):
    """A deterministic net without batch statistics, on which several processes must agree."""

    def __init__(self, n_tags: int, *, width: int = 80, window_frames: int = 32) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, 16), nn.Linear(16, n_tags)

    def logits(self, frames: Tensor) -> Tensor:
        out: Tensor = self.last(torch.tanh(self.first(frames / 8)).mean(dim=1))
        return out

    def forward(self, frames: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(frames))


NETS["plain"] = Plain


class ToySamples:
    """Noise that is louder in the lower or the upper bands, according to the tags."""

    tags = TAGS

    def __init__(self, n: int, seed: int, gain: float = 3.0) -> None:
        rng = np.random.default_rng(seed)
        self.targets = np.zeros((n, 3), np.float32)
        self.targets[:, :2] = rng.random((n, 2)) < 0.5
        self.frames = rng.normal(-8, 1, (n, 32, 80)).astype(np.float32)
        self.frames[:, :, :40] += gain * self.targets[:, None, :1]
        self.frames[:, :, 40:] += gain * self.targets[:, None, 1:2]
        self.owners = np.arange(n)
        self.seen: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.targets)

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        self.seen.append((epoch, i))
        return TrainingSample(self.frames[i], self.targets[i])

    def truth(self) -> np.ndarray:
        return self.targets


def toy_recipe(*changes: str) -> Recipe:
    """A recipe with three tags; two of them depend on one half of the bands each."""
    return load_recipe("instruments", (*BASE, *changes))


def toy_training(recipe: Recipe, folder: Path, n: int = 64, **more: object) -> Training:
    """A training run that is ready to start."""
    model = new_model(recipe, 3)
    sets = {"train_set": ToySamples(n, 1), "validation": ToySamples(48, 2)}
    model.normalise(torch.full((80,), -7.0), torch.full((80,), 2.0))
    return Training(
        recipe,
        model,
        folder=RunFolder(folder, recipe),
        **(sets | more),  # type: ignore[arg-type]
    )


def toy_fit(recipe: Recipe, folder: Path, n: int = 64, **more: object) -> tuple[Model, FitResult]:
    """Trains; returns the model and the result of the training loop."""
    found = fit(toy_training(recipe, folder, n, **more))
    return assemble(recipe, found.members, found.shares, 3), found


HANGS_AT = "TOY_TRAINING_HANGS_AT"
"""Environment variable: the number of the training step that never ends."""


def hang_at(number: int) -> None:
    """Lets training steps go on until that one, which waits for a signal."""
    real, steps = loop.training_step, itertools.count(1)

    def step(*args: Any) -> float:
        if next(steps) == number:
            signal.pause()
        return real(*args)

    loop.training_step = step


def main(arguments: Sequence[str]) -> None:
    """Runs `toy_training.py FOLDER CHANGE…`."""
    torch.set_num_threads(1)
    if HANGS_AT in os.environ:
        hang_at(int(os.environ[HANGS_AT]))
    recipe = toy_recipe(*arguments[1:])
    with process_group() as share:
        training = toy_training(recipe, Path(arguments[0]), share=share)
        found = fit(training)
        if share.rank == 0:
            training.folder.finish(found.members, found.shares)


if __name__ == "__main__":
    main(sys.argv[1:])
