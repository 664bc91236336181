"""Training: one recipe, one loop, one bundle."""

import copy
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional

from streamtag.errors import RecipeError
from streamtag.tagger import Tagger
from streamtag.train.augment import augmented
from streamtag.train.data import Windows, prepare, training_set, validation_set
from streamtag.train.evaluate import describe, false_alarms
from streamtag.train.export import export
from streamtag.train.metrics import macro, per_tag
from streamtag.train.nets import NETS
from streamtag.train.recipe import Recipe, load_recipe, to_dict
from streamtag.train.trainable import logits_of, trainable


@dataclass(slots=True)
class Run:
    """Everything that a resumed run needs besides the weights."""

    epoch: int = 0
    """Epochs done."""
    best: float = -math.inf
    """Largest validation score (macro PR-AUC) so far."""
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def train(
    recipe: Path | str,
    data: Path,
    out: Path,
    *,
    cache: Path = Path("data"),
    runs: Path = Path("runs"),
    console: Console | None = None,
) -> Path:
    """Makes a bundle from a recipe; picks up where an interrupted run of it stopped.

    Args:
        recipe: a TOML file, or the name of a recipe that comes along.
        data: the folder with the recordings and MIDI files.
        out: the bundle to write, or a folder for `NAME.pt`.
        cache: where prepared data is kept.
        runs: where checkpoints and the log (JSON lines) of each run are kept.
        console: for the progress bar; None is silent.

    Returns:
        Path of the bundle.

    Raises:
        RecipeError: the recipe or its data is wrong.
        BundleError: the net does not fit what the recipe says.
    """
    wanted = load_recipe(recipe)
    path = out / f"{wanted.name}.pt" if out.is_dir() or not out.suffix else out
    folder = runs / wanted.name
    folder.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        bar = stack.enter_context(_bar(console))
        windows = prepare(wanted, data, cache, _reporter(bar))
        net = fitted(wanted, windows, folder, bar)
        card = export(net, describe(wanted, net, windows), path)
        alarms = false_alarms(Tagger.load(path, "cpu"), data)
        scores = card.scores | {"false alarms, noise and speech": alarms}
        export(net, dataclasses.replace(card, scores=scores), path)
    return path


def _bar(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console or Console(quiet=True),
    )


def _reporter(bar: Progress) -> Any:
    """A `stems.Progress` on a bar, with one task per kind of work."""
    tasks: dict[str, Any] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, note="")
        bar.update(tasks[what], completed=done, total=total)

    return report


def new_net(recipe: Recipe) -> nn.Module:
    """The recipe's net with fresh weights.

    Raises:
        RecipeError: no such net, or one that cannot be trained here.
    """
    if recipe.net not in NETS:
        raise RecipeError(f"net: expected one of {', '.join(NETS)}, got {recipe.net!r}")
    torch.manual_seed(recipe.seed)
    net = NETS[recipe.net](len(recipe.tags))
    trainable(net)
    made: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return made


def fitted(recipe: Recipe, windows: Path, folder: Path, bar: Progress) -> nn.Module:
    """Trains, or goes on training, until the last epoch or until it stops to get better.

    Args:
        recipe: what to train.
        windows: the folder that `data.prepare` made.
        folder: of the run: `checkpoint.pt`, `log.jsonl`.
        bar: shows the progress.

    Returns:
        The net with the weights of the best epoch.
    """
    train_set, validation = training_set(recipe, windows), validation_set(recipe, windows)
    net = new_net(recipe)
    trainable(net).normalise(*statistics(train_set.frames))
    optimizer = torch.optim.AdamW(
        net.parameters(), recipe.fit.peak_lr, weight_decay=recipe.fit.weight_decay
    )
    run = _resume(folder / "checkpoint.pt", recipe, net, optimizer)
    steps = math.ceil(len(train_set) / recipe.fit.batch_size)
    task = bar.add_task("train", total=recipe.fit.epochs * steps, note="")
    while run.epoch < recipe.fit.epochs and run.epoch - run.best_epoch < recipe.fit.patience:
        began, losses = time.monotonic(), []
        torch.manual_seed(1000 * recipe.seed + run.epoch)  # dropout; the same after a resume
        for step, batch in enumerate(batches(train_set, recipe, run.epoch), run.epoch * steps):
            rate = learning_rate(recipe, step, recipe.fit.epochs * steps)
            losses.append(learn(net, optimizer, rate, *batch))
            bar.update(task, completed=step + 1, note=f"loss {np.mean(losses[-100:]):.3f}")
        run.epoch += 1
        table = per_tag(recipe.tags, validation.targets, logits_of(net, validation))
        line: dict[str, Any] = {"epoch": run.epoch, "seconds": round(time.monotonic() - began)}
        line |= {"loss": round(float(np.mean(losses)), 4), "pr_auc": macro(table, "pr_auc")}
        _note(run, net, folder, line | {"roc_auc": macro(table, "roc_auc"), "tags": table})
        _checkpoint(folder / "checkpoint.pt", recipe, net, optimizer, run)
    net.load_state_dict(run.best_weights)
    return net.eval()


def learn(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    rate: float,
    frames: Tensor,
    targets: Tensor,
) -> float:
    """One step on one batch at a learning rate; returns the loss before it."""
    net.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = loss_of(trainable(net).logits(frames), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()
    return loss.item()


def statistics(frames: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each mel band over at most 2000 windows, (width,) each."""
    some = np.asarray(frames[:: max(1, len(frames) // 2000)], np.float64)
    mean, scale = some.mean(axis=(0, 1)), some.std(axis=(0, 1))
    return torch.tensor(mean).float(), torch.tensor(np.maximum(scale, 1e-3)).float()


def batches(windows: Windows, recipe: Recipe, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, augmented batches of (frames, targets)."""
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(len(windows))
    size = recipe.fit.batch_size
    for i in range(0, len(order), size):
        rows = np.sort(order[i : i + size])
        frames, targets = windows.frames[rows].astype(np.float32), windows.targets[rows]
        frames, targets = augmented(frames, targets, recipe.features, recipe.fit, rng)
        yield torch.from_numpy(frames), torch.from_numpy(targets)


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy over what is known."""
    sure = ~torch.isnan(targets)
    return functional.binary_cross_entropy_with_logits(logits[sure], targets[sure])


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """A linear rise to the peak, then half a cosine down to 0 (Loshchilov and Hutter 2017)."""
    rise = recipe.fit.warmup * steps
    if step < rise:
        return recipe.fit.peak_lr * (step + 1) / (rise + 1)
    return recipe.fit.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def _note(run: Run, net: nn.Module, folder: Path, line: dict[str, Any]) -> None:
    """Writes an epoch's line into the log and keeps the weights if it is the best so far."""
    if line["pr_auc"] > run.best or not run.best_weights:
        run.best, run.best_epoch = line["pr_auc"], run.epoch
        run.best_weights = copy.deepcopy(net.state_dict())
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def _checkpoint(
    path: Path, recipe: Recipe, net: nn.Module, optimizer: torch.optim.Optimizer, run: Run
) -> None:
    """Writes the whole state, or nothing."""
    state = {
        "recipe": json.dumps(to_dict(recipe)),
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "run": [run.epoch, run.best, run.best_epoch, run.best_weights],
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _resume(path: Path, recipe: Recipe, net: nn.Module, optimizer: torch.optim.Optimizer) -> Run:
    """The state of an earlier run of the same recipe, if there is one."""
    if not path.exists():
        return Run()
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["recipe"] != json.dumps(to_dict(recipe)):
        raise RecipeError(
            f"{path}: expected a run of this recipe, got one of another version of it: move it "
            "away, or give the recipe another name"
        )
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    return Run(*state["run"])
