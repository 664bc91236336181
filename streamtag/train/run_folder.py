"""The run folder: what a training leaves on disk and resumes from.

`recipe.json` the recipe · `data.json` the fingerprint of the data · `about.json` versions and
machine · `log.jsonl` a line per epoch ·
`checkpoint.pt` everything that a resumed run needs · `weights.pt` the result · `curves.png` ·
`tensorboard/`.
"""

import contextlib
import dataclasses
import itertools
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
from streamtag.feed.atomic_file import atomic_file
from streamtag.train.data.fingerprint import Differences, Fingerprint, differences, from_json
from streamtag.train.recipes.file import from_dict, to_dict
from streamtag.train.recipes.recipe import Recipe, Stage

Weights = dict[str, Tensor]
TEXTS = ("paper", "run", "published", "data", "licence", "description", "deviates", "corpus")
"""Keys of a recipe that only describe it; a run can be resumed after they have changed."""
MEANS = ("fit.accumulate",)
"""Keys that only say how a training is computed."""
ADVICE = (
    "begin anew with --fresh, which moves the old run aside, or train under another name with "
    "--name NAME"
)
"""What to do where a run must not go on."""
SHOWN = 4
"""The most differences that a refusal names."""

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
    accumulate: int = 0
    """In how many parts batches are computed; 0 before that is decided."""
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
        path: created if necessary, when the training begins.
        recipe: the recipe of the training.
        data: the fingerprint of its data; None if nothing is compared.
    """

    def __init__(self, path: Path, recipe: Recipe, data: Fingerprint | None = None) -> None:
        self.path, self.recipe, self.data = path, recipe, data

    @property
    def is_finished(self) -> bool:
        """Whether the run has its result."""
        return (self.path / "weights.pt").exists()

    @property
    def has_run(self) -> bool:
        """Whether there is something to resume, or a result."""
        return self.is_finished or (self.path / "checkpoint.pt").exists()

    def check(self) -> tuple[str, ...]:
        """Compares the recipe and the data with those of the run in the folder.

        Returns:
            What differs in the test data: it changes the scores, but not the weights.

        Raises:
            RecipeError: the run is of another recipe, of other data, or of unknown data.
        """
        if not self.has_run:
            return ()
        if (table := _read_json(self.path / "recipe.json")) is not None:
            refuse_other_recipe(self.path, table, self.recipe)
        if self.data is None:
            return ()
        found = self.data_differences()
        if found is None:
            raise RecipeError(
                f"{self.path}: expected a run with data.json, got one without (made by an older "
                f"version): nobody can say which data it learned from; {ADVICE}"
            )
        if found.training:
            shown = "; ".join(found.training[:SHOWN])
            more = len(found.training) - SHOWN
            rest = f"; {more} more differences" if more > 0 else ""
            raise RecipeError(
                f"{self.path}: expected a run on the data of now, got one on other data: {shown}"
                f"{rest}; {ADVICE}"
            )
        return found.test

    def data_differences(self) -> Differences | None:
        """How the data differ from those of the run; None if the run has no fingerprint."""
        try:
            run = from_json((self.path / "data.json").read_text(encoding="utf-8"))
        except OSError:
            return None
        return None if run is None or self.data is None else differences(run, self.data)

    def set_aside(self) -> Path | None:
        """Moves a run to the first free `NAME.1`, `NAME.2` …; returns that path."""
        if not self.has_run:
            return None
        taken = (self.path.with_name(f"{self.path.name}.{i}") for i in itertools.count(1))
        target = next(path for path in taken if not path.exists())
        return self.path.rename(target)

    def begin(self, facts: dict[str, Any]) -> None:
        """Writes the recipe, the fingerprint of the data and the versions."""
        self.path.mkdir(parents=True, exist_ok=True)
        _write_json(self.path / "recipe.json", to_dict(self.recipe))
        if self.data is not None:
            _write_json(self.path / "data.json", self.data.to_dict())
        about = {
            "streamtag": streamtag.__version__,
            "revision": revision(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "seed": self.recipe.seed,
        }
        _write_json(self.path / "about.json", about | facts)

    def note(self, facts: dict[str, Any]) -> None:
        """Adds facts to `about.json`."""
        path = self.path / "about.json"
        _write_json(path, (_read_json(path) or {}) | facts)

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
        self.path.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            (self.path / "log.jsonl").unlink(missing_ok=True)
            return Run(), None
        state = torch.load(path, map_location="cpu", weights_only=True)
        refuse_other_recipe(path, json.loads(state["recipe"]), self.recipe)
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


def refuse_other_recipe(path: Path, run: dict[str, Any], recipe: Recipe) -> None:
    """Compares the recipe of a run with the one of now.

    Raises:
        RecipeError: they would give different weights; it names the keys and both values.
    """
    with contextlib.suppress(RecipeError):  # keys that are newer than the run have their defaults
        run = to_dict(from_dict(run))
    old, new = _settings(run), _settings(to_dict(recipe))
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    if keys:
        shown = "; ".join(
            f"{key} is {_quoted(old, key)} in the run and {_quoted(new, key)} now"
            for key in keys[:SHOWN]
        )
        rest = f"; {len(keys) - SHOWN} more keys" if len(keys) > SHOWN else ""
        raise RecipeError(
            f"{path}: expected a run of this recipe, got one with other values: {shown}{rest}; "
            f"{ADVICE}, or give the old values with --set to go on"
        )


def _settings(table: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a recipe that decide the result of a training, by keys as in
    `fit.stages.0.lr`."""
    if isinstance(table, list) and any(isinstance(value, dict) for value in table):
        table = {str(i): value for i, value in enumerate(table)}
    if not isinstance(table, dict) or not table:
        return {prefix: table}
    out: dict[str, Any] = {}
    for key, value in table.items():
        whole = f"{prefix}.{key}" if prefix else key
        if whole not in (*TEXTS, *MEANS):
            out |= _settings(value, whole)
    return out


def _quoted(table: dict[str, Any], key: str) -> str:
    return f"{json.dumps(table[key], ensure_ascii=False):.80}" if key in table else "not given"


def _read_json(path: Path) -> dict[str, Any] | None:
    """A table; None if it is missing."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) else None


def _write_json(path: Path, table: dict[str, Any]) -> None:
    with atomic_file(path) as partial:
        text = json.dumps(table, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")


def _replace(path: Path, state: dict[str, Any]) -> None:
    with atomic_file(path) as partial, partial.open("wb") as file:
        torch.save(state, file)
