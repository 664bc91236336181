"""The training loop: one for every net of every paper.

The recipe has the settings of a paper. Their meaning is in `schedule` (learning rates),
`data.loader` (batches), `data.augment` and in the nets (losses). Here are epochs, selection of
weights and weight averaging.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from streamtag.errors import RecipeError
from streamtag.train.curves import CurveWriter, draw
from streamtag.train.data.loader import Batch, BatchShare, Loader
from streamtag.train.data.samples import Samples
from streamtag.train.evaluation.metrics import HALF, macro, per_tag
from streamtag.train.nets.dimensions import with_dimensions
from streamtag.train.nets.model import Criterion, Model, selection_model
from streamtag.train.progress import MEASURES, TrainingProgress
from streamtag.train.recipes.recipe import Augment, Recipe, Schedule, Stage, Task
from streamtag.train.run_folder import Plateau, Run, RunFolder, Weights
from streamtag.train.training.distributed import (
    broadcast_from_first,
    distributed_module,
    largest_of_all,
)
from streamtag.train.training.embedded import embedded_windows, family_segments
from streamtag.train.training.interrupt import InterruptFlag
from streamtag.train.training.memory import (
    Accumulation,
    choose_accumulation,
    free_memory,
    split_batch,
    step_memory,
)
from streamtag.train.training.predictions import (
    cross_entropy,
    predict,
    reconstruction_loss,
    with_logit_loss,
)
from streamtag.train.training.schedule import learning_rate, make_optimizer

CHECKPOINT_SECONDS = 300.0
"""Seconds between two checkpoints within an epoch."""
LARGEST_POS_WEIGHT = 50.0
"""Largest weight of the positives of a rare tag with `fit.balanced`."""


@dataclass(slots=True)
class Training:
    """The state and the settings of one training."""

    recipe: Recipe
    model: Model
    train_set: Samples
    validation: Samples | None
    folder: RunFolder
    progress: TrainingProgress = field(default_factory=TrainingProgress)
    share: BatchShare = field(default_factory=BatchShare)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    run: Run = field(default_factory=Run)
    plot: bool = False
    """Whether `curves.png` is drawn after every epoch, not only at the end."""
    interrupt: InterruptFlag = field(default_factory=InterruptFlag)

    @property
    def loader(self) -> Loader:
        """The training batches."""
        return Loader(self.train_set, self.recipe, self.share, self.workers)


@dataclass(frozen=True, slots=True)
class FitResult:
    """The result of a training: the weights of one net, or of several nets to be averaged."""

    members: list[Weights]
    shares: np.ndarray | None
    """(n_members, n_tags), summing to 1 per tag; None means equal shares."""


class LossModule(nn.Module):
    """Maps a batch to its loss; DistributedDataParallel wraps it."""

    def __init__(self, model: Model, criterion: Criterion) -> None:
        super().__init__()
        self.model, self.criterion = model, criterion

    def forward(self, frames: Tensor, targets: Tensor, side: Tensor | None) -> Tensor:
        """The loss of a batch, a scalar."""
        return self.model.loss(frames, targets, side, self.criterion)


def fit(training: Training) -> FitResult:
    """Trains, or resumes a training, until its epochs or its patience are used up."""
    recipe, folder, share = training.recipe, training.folder, training.share
    run, state = folder.resume()
    training.run = run
    if state is not None:
        training.model.load_state_dict(state["model"])
    training.model.to(training.device)
    module = LossModule(training.model, criterion_of(training))
    if not is_done(training):
        set_accumulation(training, module)
    step = distributed_module(module, share, training.device)
    board = CurveWriter(folder.path, run.epoch)
    _begin_progress(training)
    with training.interrupt:
        _run_stages(training, step, board, state)
    board.close()
    if share.rank == 0:
        _draw_curves(training)
    return select_weights(run, recipe, training.model)


def _run_stages(
    training: Training,
    step: nn.Module,
    board: CurveWriter,
    state: dict[str, Any] | None,
) -> None:
    """Runs what is left of all stages; `state` is the checkpoint of a run that goes on."""
    recipe, folder, share, run = training.recipe, training.folder, training.share, training.run
    optimizer: Optimizer | None = None
    while not is_done(training):
        number, stage = run.stage, recipe.fit.stages[run.stage]
        optimizer = _stage_optimizer(training, stage, state, optimizer)
        state, loader = None, _stage_loader(training, stage)
        while run.stage == number and not _is_over(training):
            began = time.monotonic()
            loss, rate = run_epoch(training, step, optimizer, stage, loader)
            line = {"epoch": run.epoch, "stage": number, "lr": rate, "loss": loss}
            line |= broadcast_from_first(lambda: validate(training), share)
            line["seconds"] = round(time.monotonic() - began, 1)
            _keep_best(training, stage, line)
            if share.rank == 0:
                line |= update_average(training)
                folder.log(line)
                board.show(line)
            _advance(run, stage)
            if share.rank == 0:
                folder.save(run, _parts(training.model, optimizer))
                if training.plot:
                    _draw_curves(training)
            training.progress.epoch_done(
                line, recipe.fit.select, run.best_epoch, _epochs_behind(run, recipe)
            )
            if training.interrupt.is_set:
                raise KeyboardInterrupt(f"after epoch {run.epoch}")


def run_epoch(
    training: Training,
    step: nn.Module,
    optimizer: Optimizer,
    stage: Stage,
    loader: Loader,
) -> tuple[float, float]:
    """Runs the rest of one epoch; returns its mean loss and its last learning rate."""
    training.model.train()
    run, steps, saved = training.run, loader.steps, time.monotonic()
    rate = 0.0
    for batch in loader.epoch(run.epoch, run.step):
        done = run.stage_epoch * steps + run.step
        rate = learning_rate(stage, done, steps, run.plateau.factor)
        # dropout, Shake-Shake, …
        torch.manual_seed(_seed(training, stage, run.epoch * steps + run.step))
        run.loss_sum += training_step(training, step, optimizer, rate, batch.to(training.device))
        run.step += 1
        training.progress.learned(_windows_here(training) / steps, run.loss_sum / run.step)
        if training.share.rank == 0 and time.monotonic() - saved > CHECKPOINT_SECONDS:
            training.folder.save(run, _parts(training.model, optimizer))
            saved = time.monotonic()
        if training.interrupt.is_set and run.step < steps:
            if training.share.rank == 0:
                training.folder.save(run, _parts(training.model, optimizer))
            raise KeyboardInterrupt(f"in epoch {run.epoch + 1}, after batch {run.step} of {steps}")
    loss = run.loss_sum / max(1, run.step)
    run.epoch, run.step, run.loss_sum = run.epoch + 1, 0, 0.0
    run.stage_epoch, run.counted = run.stage_epoch + 1, run.counted + 1
    return loss, rate


def training_step(
    training: Training, step: nn.Module, optimizer: Optimizer, rate: float, batch: Any
) -> float:
    """One step on one batch at a learning rate; returns the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    parts = split_batch(batch, math.ceil(len(batch.frames) / max(1, training.run.accumulate)))
    mean = sum(
        _add_gradients(training, step, part, weight, is_last=number == len(parts))
        for number, (part, weight) in enumerate(parts, 1)
    )
    if training.recipe.fit.clip_norm:
        nn.utils.clip_grad_norm_(training.model.parameters(), training.recipe.fit.clip_norm)
    optimizer.step()
    return float(mean)


def _add_gradients(
    training: Training, step: nn.Module, part: Batch, weight: float, *, is_last: bool
) -> float:
    """Adds the gradients of a part of a batch; returns its share of the batch's loss.

    Processes exchange gradients with the last part.
    """
    later = not is_last and isinstance(step, DistributedDataParallel)
    with step.no_sync() if later else nullcontext():  # type: ignore[operator]
        with torch.autocast(training.device.type, torch.bfloat16, enabled=training.recipe.fit.amp):
            loss = step(part.frames, part.targets, part.side)
        if not torch.isfinite(loss):
            run, name = training.run, training.recipe.name
            raise RecipeError(
                f"recipe {name!r}: expected a finite loss in epoch {run.epoch + 1}, batch "
                f"{run.step + 1}, got {loss.item()}: lower fit.stages.{run.stage}.lr, or clip_norm"
            )
        (loss if weight == 1 else loss * weight).backward()
    return weight * float(loss.item())


def set_accumulation(training: Training, module: nn.Module) -> Accumulation:
    """Decides in how many parts batches are computed, says so, and notes it in `about.json`."""
    run, share, before = training.run, training.share, training.run.accumulate
    chosen = plan_accumulation(training, module)
    run.accumulate = largest_of_all(chosen.parts, share)
    chosen = dataclasses.replace(chosen, parts=run.accumulate)
    if share.rank == 0:
        training.progress.say(str(chosen))
        training.folder.note({"memory": chosen.to_dict()})
    if before and before != run.accumulate:
        training.progress.warn(
            f"{training.folder.path}: batches are now computed in {run.accumulate} parts instead "
            f"of {before}: the run goes on, but not to the same last digit"
        )
    if not chosen.fits:
        training.progress.warn(
            f"recipe {training.recipe.name!r}: fit.batch_size: even parts of {chosen.windows} "
            "windows need more memory than is free: the system may end this process; use a "
            "smaller window_frames, or another machine"
        )
    return chosen


def plan_accumulation(training: Training, module: nn.Module) -> Accumulation:
    """In how many parts this process computes its batches; set in the recipe, or estimated."""
    fit, share = training.recipe.fit, training.share
    batch = max(1, math.ceil(min(fit.batch_size, len(training.train_set)) / share.world))
    if isinstance(fit.accumulate, int):
        return Accumulation(batch, max(1, min(fit.accumulate, batch // 2)))
    needed = step_memory(
        training.recipe, module, training.train_set, training.device, training.workers
    )
    return choose_accumulation(needed, batch, free_memory(training.device), training.run.accumulate)


def criterion_of(training: Training) -> Criterion:
    """The loss of tags, and of dimensions if the recipe has some."""
    of_tags = _tag_criterion(training)
    if training.recipe.fit.logit_weight:
        of_tags = with_logit_loss(of_tags, training.recipe.fit.logit_weight)
    if training.model.n_dimensions:
        return with_dimensions(of_tags, training.model.n_tags)
    return of_tags


def _tag_criterion(training: Training) -> Criterion:
    """Binary cross-entropy over known targets, with the recipe's weights of positives."""
    fit = training.recipe.fit
    if fit.pos_weight == 1 and not fit.balanced:
        return cross_entropy
    truth = training.train_set.truth()
    weights = torch.full((truth.shape[1],), fit.pos_weight, device=training.device)
    if fit.balanced:
        share = np.nan_to_num(np.nanmean(truth, axis=0)).clip(1e-9)
        weights *= (
            torch.from_numpy(((1 - share) / share).clip(1 / LARGEST_POS_WEIGHT, LARGEST_POS_WEIGHT))
            .float()
            .to(training.device)
        )
    return lambda logits, targets: cross_entropy(logits, targets, weights)


def validate(training: Training) -> dict[str, Any]:
    """Scores on the validation set, without decisions."""
    if training.validation is None:
        return {}
    if training.recipe.task is Task.RECONSTRUCT:
        return {
            "validation_loss": reconstruction_loss(
                training.model, training.validation, on_windows=training.progress.predicted
            )
        }
    predictions = predict(
        selection_model(training.model),
        training.validation,
        per_window=training.recipe.fit.per_window,
        on_windows=training.progress.predicted,
    )
    table = per_tag(training.validation.tags, predictions.truth, predictions.logits)
    line: dict[str, Any] = {"validation_loss": predictions.loss}
    line |= {name: macro(table, name) for name in ("pr_auc", "roc_auc")}
    return line | {"tag_losses": predictions.loss_per_tag.tolist(), "tags": table}


def _keep_best(training: Training, stage: Stage, line: dict[str, Any]) -> None:
    """Stores the weights if they are the best so far, for all tags or for some."""
    run, fit = training.run, training.recipe.fit
    losses = line.pop("tag_losses", None)
    score = _score(fit.select, line)
    if score > run.best or not run.best_weights:
        run.best, run.best_epoch, run.best_counted = score, run.epoch, run.counted
        run.best_weights = cpu_weights(training.model)
    if stage.schedule is Schedule.PLATEAU and "validation_loss" in line:
        run.plateau.see(line["validation_loss"], stage)
    if fit.per_tag and losses is not None:
        _keep_best_per_tag(run, losses, cpu_weights(training.model), fit.per_tag_members)


def _keep_best_per_tag(run: Run, losses: Sequence[float], weights: Weights, most: int) -> None:
    """Early stopping for every tag alone (Sukhavasi and Adapa 2019, section 3.3)."""
    run.kept[run.epoch] = weights
    run.kept_losses[run.epoch] = [math.inf if math.isnan(x) else x for x in losses]
    while True:
        epochs = list(run.kept_losses)
        table = np.array([run.kept_losses[e] for e in epochs])
        run.tag_epochs = [epochs[i] for i in table.argmin(axis=0)]
        idle = [e for e in epochs if e not in run.tag_epochs]
        if not idle and most and len(epochs) > most:
            idle = [epochs[_least_useful(table)]]
        if not idle:
            return
        for epoch in idle:
            del run.kept[epoch], run.kept_losses[epoch]


def _least_useful(table: np.ndarray) -> int:
    """The row whose removal increases the sum of the smallest losses per column least."""
    finite = np.nan_to_num(table, posinf=0.0)
    without = [np.delete(finite, i, axis=0).min(axis=0).sum() for i in range(len(finite))]
    return int(np.argmin(without))


def update_average(training: Training) -> dict[str, Any]:
    """Adds the weights to their running mean when it is due, and scores the mean."""
    run, fit = training.run, training.recipe.fit
    since = run.counted - fit.swa_start
    if not fit.swa_start or since < 0 or since % fit.swa_every:
        return {}
    run.mean = running_mean(run.mean, run.averaged, cpu_weights(training.model))
    run.averaged += 1
    whole = Loader(training.train_set, training.recipe, workers=training.workers, plain=True)
    twin = with_statistics(training.model, run.mean, whole.epoch(0), training.recipe.window_frames)
    run.snapshots = [*run.snapshots, cpu_weights(twin)][-max(1, fit.snapshots) :]
    if training.validation is None or training.recipe.task is Task.RECONSTRUCT:
        return {}
    predictions = predict(twin, training.validation, per_window=fit.per_window)
    table = per_tag(training.validation.tags, predictions.truth, predictions.logits)
    return {f"swa_{name}": macro(table, name) for name in ("pr_auc", "roc_auc")}


def select_weights(run: Run, recipe: Recipe, model: Model) -> FitResult:
    """The weights that go into the bundle."""
    fit = recipe.fit
    best = run.best_weights if run.best_weights and fit.select != "last" else cpu_weights(model)
    if fit.per_tag and run.kept:
        epochs = list(run.kept)
        shares = np.array([[float(e == own) for own in run.tag_epochs] for e in epochs], np.float32)
        return FitResult([run.kept[e] for e in epochs], shares)
    if run.snapshots:
        return FitResult([best, *run.snapshots] if fit.snapshots else run.snapshots[-1:], None)
    return FitResult([best], None)


def _stage_optimizer(
    training: Training, stage: Stage, state: dict[str, Any] | None, before: Optimizer | None
) -> Optimizer:
    """The optimiser of a stage that begins or continues.

    Args:
        training: its weights and counters are set for the stage.
        stage: the stage.
        state: the checkpoint of a run that is resumed.
        before: the optimiser of the stage before, if that ran in this process.
    """
    optimizer = make_optimizer(stage, training.model.parameters())
    if state is not None and (training.run.stage_epoch or training.run.step):
        optimizer.load_state_dict(state["optimizer"])
        return optimizer
    if stage.keep_optimizer:
        kept = before.state_dict() if before else state["optimizer"] if state else {}
        optimizer.load_state_dict(optimizer.state_dict() | {"state": kept.get("state", {})})
    if stage.reload_best and training.run.best_weights:
        training.model.load_state_dict(training.run.best_weights)
    if stage.rewind:
        training.run.counted = training.run.best_counted
    return optimizer


def _stage_loader(training: Training, stage: Stage) -> Loader:
    """The batches of a stage; those of a head alone are made by the trunk as it is now. Changes to
    the frames of batches do not apply to those of a part of the net.

    Raises:
        RecipeError: the data has no programmes, or the net no such part.
    """
    if not stage.embedded and not stage.segments:
        return training.loader
    windows = (
        family_segments(training.model, training.train_set, stage.segments)
        if stage.segments
        else embedded_windows(
            training.model, training.train_set, stage.embedded, training.progress.prepared
        )
    )
    unchanged = dataclasses.replace(training.recipe, augment=Augment())
    if stage.segments:  # the same in all trainings whose weights are averaged
        unchanged = dataclasses.replace(unchanged, fit=dataclasses.replace(unchanged.fit, draw=0))
    return Loader(windows, unchanged, training.share, training.workers)


def _advance(run: Run, stage: Stage) -> None:
    """Goes to the next stage after the last epoch of this one, or when its patience is used up."""
    waited = run.epoch - max(run.best_epoch, run.epoch - run.stage_epoch)
    if run.stage_epoch >= stage.epochs or (stage.patience and waited >= stage.patience):
        run.stage, run.stage_epoch, run.plateau = run.stage + 1, 0, Plateau()


def is_done(training: Training) -> bool:
    """Whether nothing is left to train."""
    return training.run.stage >= len(training.recipe.fit.stages) or _is_over(training)


def _is_over(training: Training) -> bool:
    """Whether the epochs of the whole training are used up."""
    most = training.recipe.fit.max_epochs
    return bool(most and training.run.counted >= most)


def total_epochs(recipe: Recipe) -> int:
    """The largest number of epochs, not counting restarts."""
    epochs = sum(stage.epochs for stage in recipe.fit.stages)
    return min(epochs, recipe.fit.max_epochs) if recipe.fit.max_epochs else epochs


def _epochs_behind(run: Run, recipe: Recipe) -> int:
    """How many of `total_epochs` are over. A stage that ended early counts as a whole."""
    if run.stage == len(recipe.fit.stages):
        return total_epochs(recipe)
    if recipe.fit.max_epochs:
        return run.counted
    return sum(stage.epochs for stage in recipe.fit.stages[: run.stage]) + run.stage_epoch


def _windows_here(training: Training) -> float:
    """Windows per epoch from which this process learns."""
    return len(training.train_set) / training.share.world


def _begin_progress(training: Training) -> None:
    recipe, validation = training.recipe, training.validation
    training.progress.begin(
        total_epochs(recipe),
        (_windows_here(training), len(validation) if validation is not None else 0),
        _epochs_behind(training.run, recipe),
        may_stop=any(stage.patience for stage in recipe.fit.stages),
    )
    _warn_of_undefined_areas(training)


def _draw_curves(training: Training) -> None:
    folder, fit = training.folder, training.recipe.fit
    best = training.run.best_epoch if fit.select != "last" else 0
    draw(folder.path / "curves.png", training.recipe.name, folder.lines(), best)


def _score(select: str, line: dict[str, Any]) -> float:
    """The value that selection maximises: minus the loss where there is no other measure."""
    if select == "last" or "validation_loss" not in line:
        return float(line["epoch"])
    score = math.nan if select == "loss" else float(line.get(select, math.nan))
    score = -float(line["validation_loss"]) if math.isnan(score) else score
    return -math.inf if math.isnan(score) else score


def _warn_of_undefined_areas(training: Training) -> None:
    """Warns if the best epoch cannot be chosen by an area: no tag is both on and off."""
    select, validation = training.recipe.fit.select, training.validation
    if select not in ("pr_auc", "roc_auc") or validation is None or training.run.epoch:
        return
    truth = validation.truth()
    if not ((truth >= HALF).any(axis=0) & (truth < HALF).any(axis=0)).any():
        training.progress.warn(
            f"validation part: expected recordings with and without some tag, to choose the best "
            f"epoch by {MEASURES[select]}, got none in {len(truth)} recordings: the smallest loss "
            "decides; move more recordings there"
        )


def _seed(training: Training, stage: Stage, step: int) -> int:
    recipe = training.recipe
    seed = recipe.seed if stage.segments else recipe.training_seed
    seeds = [seed, step, training.share.rank, 6]
    return int(np.random.SeedSequence(seeds).generate_state(1)[0])


def _parts(model: Model, optimizer: Optimizer) -> dict[str, Any]:
    return {"model": cpu_weights(model), "optimizer": optimizer.state_dict()}


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers that have batch statistics."""


def cpu_weights(model: nn.Module) -> Weights:
    """A copy of the state on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def running_mean(mean: Weights, averaged: int, new: Weights) -> Weights:
    """The mean of `averaged + 1` states (Izmailov et al. 2018, algorithm 1)."""
    if averaged == 0:
        return dict(new)
    return {
        name: old + (new[name] - old) / (averaged + 1) if old.is_floating_point() else new[name]
        for name, old in mean.items()
    }


def with_statistics(
    model: Model, weights: Weights, batches: Iterable[Batch], window_frames: int
) -> Model:
    """A copy of the model with other weights and batch statistics measured with them.

    Statistics are the cumulative average over all batches (Izmailov et al. 2018, section 3.2); of
    programmes, over the window at their end.
    """
    twin = copy.deepcopy(model)
    twin.load_state_dict(weights)
    twin.train()  # but for parts that have learned and stay as they are
    norms = [m for m in twin.modules() if isinstance(m, NORMS) and m.training]
    if not norms:
        return twin.eval()
    momenta = [norm.momentum for norm in norms]
    twin.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in batches:
            twin.logits(batch.frames[:, -window_frames:].to(twin.temperature.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return twin.eval()
