"""Training jobs: from a recipe and data to a bundle."""

import dataclasses
import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console

from streamtag.errors import RecipeError
from streamtag.model.tagger import Tagger
from streamtag.train.data.fingerprint import fingerprint
from streamtag.train.data.loader import BatchShare, Loader
from streamtag.train.data.samples import Samples, Sets, statistics
from streamtag.train.data.windows import RecordingSamples
from streamtag.train.data_sets import TrainingJob, make_sets, make_sets_here
from streamtag.train.dry_run import DryRun, dry_run
from streamtag.train.evaluation.live import false_alarms
from streamtag.train.evaluation.reliability import plot as reliability_plot
from streamtag.train.exporting.bundle import export
from streamtag.train.exporting.ensemble import ensemble_of
from streamtag.train.nets.model import Model, new_model
from streamtag.train.pretrained import (
    begin_with,
    check_answers,
    origin_or_recipe,
    read_origin,
    with_origin,
)
from streamtag.train.progress import TrainingProgress
from streamtag.train.recipes.file import from_dict, load_any, load_recipe
from streamtag.train.recipes.recipe import Ensemble, Recipe, Task
from streamtag.train.resuming import (
    begins_with,
    check_run,
    note_pretrained,
    open_run,
    refuse_other_data,
)
from streamtag.train.run_folder import RunFolder, Weights, result
from streamtag.train.training.card import make_card
from streamtag.train.training.distributed import (
    barrier,
    keep_freed_memory,
    process_group,
    resolve_device,
)
from streamtag.train.training.loop import (
    FitResult,
    Training,
    cpu_weights,
    fit,
    running_mean,
    with_statistics,
)


def train(
    recipe: Path | str,
    data: Path,
    out: Path,
    *,
    cache: Path = Path("data"),
    runs: Path = Path("runs"),
    changes: Sequence[str] = (),
    device: str = "auto",
    workers: int = 0,
    side: Path | None = None,
    name: str = "",
    fresh: bool = False,
    plot: bool = False,
    console: Console | None = None,
) -> Path:
    """Makes a bundle from a recipe; resumes an interrupted run of it on the same data.

    Args:
        recipe: a TOML file, or the name of an included recipe.
        data: the folder or manifest with the recordings.
        out: the bundle to write, or a folder for `NAME.pt`.
        cache: folder of prepared data.
        runs: folder of the run folders.
        changes: `KEY=VALUE` that replace values of the recipe.
        device: auto, cpu or cuda.
        workers: processes that read and augment windows.
        side: a table or a folder of JSON files with side values, for recipes that need them.
        name: of the run and of the bundle, if not that of the recipe.
        fresh: begins anew; a run that exists is moved aside.
        plot: keeps `curves.png` in the run folder fresh after every epoch.
        console: for progress and warnings; None is silent.

    Returns:
        Path of the bundle, or of the weights if the recipe has no tags.

    Raises:
        RecipeError: the recipe or its data is wrong, or the run folder has a run of another recipe
            or of other data.
        BundleError: the net does not fit the recipe.
    """
    wanted, path = _wanted(recipe, changes, name, out)
    keep_freed_memory()
    with ExitStack() as stack:
        share = stack.enter_context(process_group())
        progress = stack.enter_context(TrainingProgress(console if share.rank == 0 else None))
        job = TrainingJob(
            data,
            cache,
            runs,
            progress,
            share,
            resolve_device(device),
            workers,
            changes,
            side,
            name=name,
            fresh=fresh,
            plot=plot,
        )
        if isinstance(wanted, Ensemble):
            return _train_ensemble(job, wanted, path)
        sets = make_sets(job, wanted)
        model = train_net(job, wanted, sets)
        if wanted.task is Task.RECONSTRUCT:
            return runs / wanted.name / "weights.pt"
        if share.rank == 0:
            write_bundle(job, wanted, model, sets, path, runs / wanted.name)
        barrier(share)
    return path


def try_training(
    recipe: Path | str,
    data: Path,
    out: Path,
    *,
    cache: Path = Path("data"),
    runs: Path = Path("runs"),
    changes: Sequence[str] = (),
    device: str = "auto",
    workers: int = 0,
    side: Path | None = None,
    name: str = "",
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, DryRun]:
    """What `train` with the same arguments would do, by recipe: an ensemble has several.

    Raises:
        RecipeError: the recipe or its data is wrong.
    """
    wanted, path = _wanted(recipe, changes, name, out)
    keep_freed_memory()
    with TrainingProgress(console) as progress:
        job = TrainingJob(
            data, cache, runs, progress, BatchShare(), resolve_device(device), workers, changes,
            side, name=name, fresh=fresh,
        )  # fmt: skip
        some = _members(job, wanted) if isinstance(wanted, Ensemble) else [wanted]
        return {one.name: dry_run(job, one, path) for one in some}


def export_run(
    folder: Path,
    out: Path,
    *,
    data: Path | None = None,
    cache: Path = Path("data"),
    side: Path | None = None,
    console: Console | None = None,
) -> Path:
    """Makes a bundle from a run's weights: the result, or the best epoch of an unfinished run.

    Args:
        folder: the run folder.
        out: the bundle to write.
        data: the training data, for calibration, thresholds and scores.
        cache: folder of prepared data.
        side: a table or a folder of JSON files with side values, for recipes that need them.
        console: for the progress bar and warnings.

    Raises:
        RecipeError: there is no run folder, or no data.
    """
    try:
        table = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{folder}: expected a run folder with recipe.json, got: {error}"
        ) from error
    if data is None:
        raise RecipeError(f"{folder}: expected --data, to calibrate and to score on, got none")
    recipe = from_dict(table)
    members, shares = result(folder)
    with TrainingProgress(console) as progress:
        job = TrainingJob(
            data, cache, folder.parent, progress, BatchShare(), resolve_device("auto"), side=side,
        )  # fmt: skip
        sets = make_sets(job, recipe)
        refuse_other_data(job, folder, recipe, sets, len(members[0]["temperature"]))
        model = assemble(recipe, members, shares, len(sets.tags))
        write_bundle(job, recipe, model, sets, out, folder)
    return out


def train_net(job: TrainingJob, recipe: Recipe, sets: Sets) -> Model:
    """Trains the recipe's net, as far as it is not trained yet, and returns its model."""
    data = dataclasses.replace(fingerprint(sets), pretrained=begins_with(job, recipe))
    folder = RunFolder(job.runs / recipe.name, recipe, data)
    if recipe.fit.stages:
        check_run(job, folder)
    model = new_model(recipe, len(sets.tags))
    facts = {"windows": len(sets.train)} | _initialise(job, recipe, model, sets)
    folder.data = dataclasses.replace(data, pretrained=begins_with(job, recipe))
    if not recipe.fit.stages:
        found = FitResult([model.state_dict()], None)
    else:
        note_pretrained(job, recipe, data)
        open_run(job, folder, facts)
        run = _mean_of_trainings if recipe.fit.trainings > 1 else _fitted
        found = run(job, sets, model, folder)
    if job.share.rank == 0:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.finish(found.members, found.shares)
    return assemble(recipe, found.members, found.shares, len(sets.tags))


def _fitted(job: TrainingJob, sets: Sets, model: Model, folder: RunFolder) -> FitResult:
    """Trains the model, or lets its training go on."""
    if job.plot:
        job.progress.say(f"curves, fresh after every epoch: {folder.path / 'curves.png'}")
    return fit(
        Training(folder.recipe, model, sets.train, sets.validation, folder, job.progress, job.share,
                 job.device, job.workers, plot=job.plot)
    )  # fmt: skip


def _mean_of_trainings(job: TrainingJob, sets: Sets, model: Model, folder: RunFolder) -> FitResult:
    """Trains the net several times, each in a run of its own, and averages the weights."""
    if folder.is_finished:
        return FitResult(*result(folder.path))
    recipe = folder.recipe
    mean: Weights = {}
    for draw in range(recipe.fit.trainings):
        one = dataclasses.replace(
            recipe,
            name=f"{recipe.name}-{draw + 1}",
            fit=dataclasses.replace(recipe.fit, trainings=1, draw=draw),
        )
        job.progress.member(draw + 1, recipe.fit.trainings, one.name)
        mean = running_mean(mean, draw, cpu_weights(train_net(job, one, sets)))
    batches = Loader(sets.train, recipe, workers=job.workers, plain=True).epoch(0)
    twin = with_statistics(model.to(job.device), mean, batches, recipe.window_frames)
    return FitResult([cpu_weights(twin)], None)


def _wanted(
    recipe: Path | str, changes: Sequence[str], name: str, out: Path
) -> tuple[Recipe | Ensemble, Path]:
    """What is to be trained, under its name, and the bundle to write."""
    wanted = load_any(recipe, () if _is_ensemble(recipe) else changes)
    if name:
        wanted = dataclasses.replace(wanted, name=checked_name(name))
    return wanted, out / f"{wanted.name}.pt" if out.is_dir() or not out.suffix else out


def checked_name(name: str) -> str:
    """The name of a run, which is that of a folder and of a file.

    Raises:
        RecipeError: it has other characters than those of names.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name):
        raise RecipeError(
            f"--name: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -, got {name!r:.80}"
        )
    return name


def assemble(
    recipe: Recipe, members: Sequence[dict[str, Any]], shares: np.ndarray | None, n_tags: int
) -> Model:
    """One model from the weights of one or several nets, on the CPU, in evaluation mode."""
    models = []
    for weights in members:
        model = new_model(recipe, n_tags)
        model.load_state_dict(weights)
        models.append(model.eval())
    if len(models) == 1:
        return models[0]
    net = ensemble_of(models, None if shares is None else torch.from_numpy(shares))
    return Model(net, n_tags, recipe.features.width).eval()


def write_bundle(
    job: TrainingJob,
    recipe: Recipe,
    model: Model,
    sets: Sets,
    path: Path,
    folder: Path,
    **more: Any,
) -> None:
    """Writes the bundle with all measured figures; arrays and pictures go to the run folder."""
    job.progress.finishing()
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(job.device)
    card = with_origin(make_card(recipe, model, sets, folder, **more), folder)
    if hasattr(model.net, "drop_training_parts"):
        cast(Any, model.net).drop_training_parts()
    needs = getattr(model.net, "needs", None)
    if needs is not None:
        card = dataclasses.replace(card, extra=card.extra | {"needs": needs()})
    card = export(model, card, path)
    if "calibration" in card.scores:
        reliability_plot(folder / "reliability.png", card.scores["calibration"], card.name)
    if recipe.mixtures is not None or recipe.distil is not None:
        alarms = false_alarms(Tagger.load(path, "cpu"), job.data)
        scores = card.scores | {"false alarms, noise and speech": alarms}
        export(model, dataclasses.replace(card, scores=scores), path)


def _members(job: TrainingJob, wanted: Ensemble) -> list[Recipe]:
    """The recipes of an ensemble, each with the name of its run.

    Raises:
        RecipeError: they have several front ends.
    """
    recipes = [load_recipe(name, job.changes) for name in wanted.members]
    for recipe in recipes[1:]:
        if recipe.features != recipes[0].features:
            raise RecipeError(
                f"ensemble {wanted.name!r}: expected members with one front end, but "
                f"{recipe.name!r} has another one than {recipes[0].name!r}"
            )
    start = f"{job.name}-" if job.name else ""
    return [dataclasses.replace(recipe, name=f"{start}{recipe.name}") for recipe in recipes]


def _train_ensemble(job: TrainingJob, wanted: Ensemble, path: Path) -> Path:
    """Trains every member and averages their scores."""
    models, recipes = [], _members(job, wanted)
    for number, recipe in enumerate(recipes, 1):
        job.progress.member(number, len(recipes), recipe.name)
        sets = make_sets(job, recipe)
        models.append(train_net(job, recipe, sets))
    first = recipes[0]
    if job.share.rank == 0:
        longest = max(recipes, key=lambda r: r.window_frames)
        windows = [r.window_frames for r in recipes]
        net = ensemble_of(models, windows=windows)
        model = Model(net, len(sets.tags), first.features.width).eval()
        sets = make_sets_here(job, longest)
        more = {
            "name": wanted.name,
            "net": f"mean of {len(models)}",
            "description": wanted.description,
        }
        extra = {"members": list(wanted.members), "paper": wanted.paper, "run": wanted.run}
        folder = job.runs / wanted.name
        write_bundle(job, longest, model, sets, path, folder, **more, extra=extra)
    barrier(job.share)
    return path


def _initialise(job: TrainingJob, recipe: Recipe, model: Model, sets: Sets) -> dict[str, Any]:
    """Gives the net what it needs before its first step; returns facts for `about.json`."""
    net: Any = model.net
    facts: dict[str, Any] = {}
    if recipe.fit.normalise:
        mean, scale = _moments(job, sets.train)
        model.normalise(torch.from_numpy(mean), torch.from_numpy(scale))
    if recipe.pretrained:
        facts["begins_with"] = _load_pretrained(job, recipe, model, sets)
    if hasattr(net, "count"):
        net.count(torch.from_numpy(sets.train.truth()))
    if hasattr(net, "count_side") and recipe.recordings.side:
        sides = [item.side for item in cast(RecordingSamples, sets.train).items]
        net.count_side(torch.tensor(sides))
    return facts


def _moments(job: TrainingJob, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each band: over all frames of recordings, else over some windows."""
    if not isinstance(samples, RecordingSamples):
        return statistics(samples)
    if job.share.rank == 0:
        samples.moments(job.progress.prepared)
    barrier(job.share)
    return samples.moments()


def _load_pretrained(job: TrainingJob, recipe: Recipe, model: Model, sets: Sets) -> dict[str, str]:
    """Gives the net the weights that its recipe names; returns facts about them.

    An autoencoder that has no run is trained first.
    """
    origin = read_origin(_origin(job, recipe))
    notes = begin_with(model, recipe, sets.tags, origin)
    trunk_alone = recipe.pretrained_part == "base"  # all weights have an output layer that learned
    if sets.beginning is not None and trunk_alone and hasattr(model.net, "begin_dense"):
        begin_dense = cast(Any, model.net).begin_dense
        begin_dense(*(torch.from_numpy(values) for values in sets.beginning))
        notes.append("begins with the teacher's classes as its tags")
    frames = sets.train.sample(0, 0, np.random.default_rng(0)).frames
    window = torch.from_numpy(frames[: recipe.window_frames])
    check_answers(model, window, origin.source)
    if job.share.rank == 0:
        for note in notes:
            job.progress.say(f"{recipe.name}: {note}")
    return origin.facts


def _origin(job: TrainingJob, recipe: Recipe) -> Path:
    """The run or the file with the weights that a recipe begins with."""
    if recipe.distil is not None:
        teachers = [text.partition("=")[0] for text in recipe.distil.teachers]
        if recipe.pretrained in teachers:
            return job.cache / "teachers" / f"{recipe.pretrained}.pt"
    found = origin_or_recipe(recipe, job.runs, job.changes)
    if isinstance(found, Path):
        return found
    train_net(job, found, make_sets(job, found))
    barrier(job.share)
    return job.runs / found.name


def _is_ensemble(recipe: Path | str) -> bool:
    """Whether the recipe is an ensemble; then changes apply to its members."""
    return isinstance(load_any(recipe), Ensemble)
