"""The run folder: what a training leaves on disk and resumes from.

`recipe.json` the recipe · `about.json` versions and machine · `log.jsonl` a line per epoch ·
`checkpoint.pt` everything that a resumed run needs · `weights.pt` the result · `curves.png` ·
`tensorboard/`.
"""

import dataclasses
import json
import math
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import streamtag
from streamtag.errors import RecipeError
from streamtag.train.recipes.file import to_dict
from streamtag.train.recipes.recipe import Recipe, Stage

Weights = dict[str, Tensor]
TEXTS = ("paper", "run", "published", "data", "licence", "description")
"""Keys of a recipe that only describe it; a run can be resumed after they have changed."""


IMPROVEMENT = 1e-4
"""Relative. A smaller decrease of the validation loss does not count (default of torch)."""


@dataclass(slots=True)
class Plateau:
    """The state of a plateau schedule."""

    factor: float = 1.0
    """Factor on the stage's learning rate."""
    lowest: float = math.inf
    """Lowest validation loss so far."""
    waited: int = 0
    """Epochs since the lowest loss."""

    def see(self, loss: float, stage: Stage) -> None:
        """Updates the state with the validation loss of an epoch."""
        if loss < self.lowest * (1 - IMPROVEMENT):
            self.lowest, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > stage.plateau_patience:
            self.factor, self.waited = self.factor * stage.factor, 0


@dataclass(slots=True)
class Run:
    """The progress of a training, besides the present weights and the optimiser."""

    epoch: int = 0
    """Number of completed epochs."""
    step: int = 0
    """Number of completed batches of the current epoch."""
    loss_sum: float = 0.0
    """Sum of the losses of those batches."""
    stage: int = 0
    stage_epoch: int = 0
    """Number of completed epochs of this stage."""
    counted: int = 0
    """Epochs that count for `fit.max_epochs`; a restart subtracts those after the best one."""
    plateau: Plateau = field(default_factory=Plateau)
    best: float = -math.inf
    """Largest score so far; losses are negated."""
    best_epoch: int = 0
    best_counted: int = 0
    best_weights: Weights = field(default_factory=dict)
    tag_epochs: list[int] = field(default_factory=list)
    """Per tag, the epoch with its smallest validation loss so far."""
    kept: dict[int, Weights] = field(default_factory=dict)
    """Weights of the epochs in `tag_epochs`."""
    kept_losses: dict[int, list[float]] = field(default_factory=dict)
    """Per tag, the validation loss of those epochs."""
    averaged: int = 0
    """Number of epochs in the running mean of the weights."""
    mean: Weights = field(default_factory=dict)
    snapshots: list[Weights] = field(default_factory=list)
    """The last running means, each with its own batch statistics."""


class RunFolder:
    """The folder of one training.

    Args:
        path: created if necessary.
        recipe: the recipe of the training.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self.recipe = path, recipe
        path.mkdir(parents=True, exist_ok=True)

    def begin(self, facts: dict[str, Any]) -> None:
        """Writes the recipe and the versions."""
        recipe = json.dumps(to_dict(self.recipe), indent=1, ensure_ascii=False)
        (self.path / "recipe.json").write_text(recipe + "\n", encoding="utf-8")
        about = {
            "streamtag": streamtag.__version__,
            "revision": revision(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "seed": self.recipe.seed,
        }
        text = json.dumps(about | facts, indent=1, ensure_ascii=False)
        (self.path / "about.json").write_text(text + "\n", encoding="utf-8")

    def log(self, line: dict[str, Any]) -> None:
        """Appends the line of an epoch."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """The lines of all epochs."""
        path = self.path / "log.jsonl"
        if not path.exists():
            return []
        return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text]

    def save(self, run: Run, parts: dict[str, Any]) -> None:
        """Writes the checkpoint atomically."""
        state = {
            "recipe": json.dumps(to_dict(self.recipe)),
            "run": {f.name: getattr(run, f.name) for f in dataclasses.fields(Run)}
            | {"plateau": dataclasses.asdict(run.plateau)},
        }
        _replace(self.path / "checkpoint.pt", state | parts)

    def resume(self) -> tuple[Run, dict[str, Any] | None]:
        """The state in which an earlier run of this recipe stopped; the log is truncated
        accordingly.

        Raises:
            RecipeError: the folder holds a run of another recipe.
        """
        path = self.path / "checkpoint.pt"
        if not path.exists():
            (self.path / "log.jsonl").unlink(missing_ok=True)
            return Run(), None
        state = torch.load(path, map_location="cpu", weights_only=True)
        if _settings(json.loads(state["recipe"])) != _settings(to_dict(self.recipe)):
            raise RecipeError(
                f"{path}: expected a run of this recipe, got one of another version of it: move it "
                "away, or give the recipe another name"
            )
        run = Run(**state["run"] | {"plateau": Plateau(**state["run"]["plateau"])})
        kept = [line for line in self.lines() if line["epoch"] <= run.epoch]
        with (self.path / "log.jsonl").open("w", encoding="utf-8") as log:
            log.writelines(json.dumps(line) + "\n" for line in kept)
        return run, state

    def finish(self, members: list[Weights], shares: np.ndarray | None) -> None:
        """Writes the result: the weights of one net, or of several and their share per tag."""
        share = None if shares is None else torch.from_numpy(shares)
        _replace(self.path / "weights.pt", {"members": members, "shares": share})


def result(path: Path) -> tuple[list[Weights], np.ndarray | None]:
    """What `RunFolder.finish` wrote, or the best weights of an unfinished run.

    Raises:
        RecipeError: neither exists.
    """
    if (path / "weights.pt").exists():
        state = torch.load(path / "weights.pt", map_location="cpu", weights_only=True)
        return state["members"], None if state["shares"] is None else state["shares"].numpy()
    if (path / "checkpoint.pt").exists():
        state = torch.load(path / "checkpoint.pt", map_location="cpu", weights_only=True)
        return [state["run"]["best_weights"] or state["model"]], None
    raise RecipeError(f"{path}: expected a run folder with weights.pt or checkpoint.pt, found none")


def revision() -> str:
    """The git revision of the code; empty outside of a checkout."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _settings(table: dict[str, Any]) -> dict[str, Any]:
    """The keys of a recipe that decide the result of a training."""
    return {key: value for key, value in table.items() if key not in TEXTS}


def _replace(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
