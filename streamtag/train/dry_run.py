"""`streamtag train --dry-run`: what a training would read, need, take and write.

It may read recordings into the cache, as the training would, but writes nothing into the run folder
and no bundle. Of a large corpus that is not in the cache yet it reads a sample.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import SPLITS, Corpus
from streamtag.train.data.fingerprint import fingerprint
from streamtag.train.data.samples import Samples, Sets
from streamtag.train.data_sets import TrainingJob, cache_of, labelled_recordings, make_sets_here
from streamtag.train.nets.model import new_model
from streamtag.train.pretrained import origin_or_recipe
from streamtag.train.progress import duration
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.run_folder import RunFolder
from streamtag.train.training.loop import (
    LossModule,
    Training,
    criterion_of,
    plan_accumulation,
    total_epochs,
    training_step,
)
from streamtag.train.training.predictions import predict
from streamtag.train.training.schedule import make_optimizer

SAMPLE = 200
"""The most recordings that are read because they are not in the cache yet."""
STEPS = 4
"""Steps that are timed; the first one is left out."""
PATIENCE = 30.0
"""Seconds after which no further step is timed."""
RAREST = 30
"""The most tags that are listed: those with the fewest training recordings."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What was found, for people."""

    facts: tuple[tuple[str, str], ...]
    """Titles and texts."""
    tags: tuple[tuple[str, tuple[int, int, int]], ...]
    """Recordings in training, validation and test per tag, the rarest first."""
    refused: str = ""
    """Why the training would not begin."""

    def table(self) -> RenderableType:
        """The tables for a terminal."""
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        for title, text in self.facts:
            facts.add_row(title, Text(text, "red" if text == self.refused else ""))
        tags = Table(box=None, padding=(0, 2, 0, 1), header_style="dim")
        tags.add_column(f"{len(self.tags)} tags")
        for split in SPLITS:
            tags.add_column(split, justify="right")
        for tag, counts in self.tags[:RAREST]:
            tags.add_row(Text(tag), *map(str, counts))
        if len(self.tags) > RAREST:
            tags.add_row(f"… {len(self.tags) - RAREST} more, with more recordings")
        return Group(facts, Text(), tags) if self.tags else facts


def dry_run(job: TrainingJob, recipe: Recipe, bundle: Path) -> DryRun:
    """Tries what a training would do.

    Args:
        job: folders and device.
        recipe: of one net.
        bundle: the path that would be written.

    Raises:
        RecipeError: the recipe or its data is wrong.
    """
    folder = RunFolder(job.runs / recipe.name, recipe)
    if recipe.mixtures is not None or recipe.distil is not None:
        verdict, refused = _verdict(folder, job.fresh)
        facts = [("data", "synthesised when the training begins; a dry run does not")]
        facts += [("run", verdict), ("bundle", str(bundle)), ("cache", str(job.cache))]
        return DryRun(tuple(facts), (), refused)
    corpus = labelled_recordings(job, recipe)
    cache = cache_of(job, recipe)
    missing = sum(not cache.has(item) for item in corpus.items)
    began = time.monotonic()
    sets = make_sets_here(replace(job, sample=SAMPLE), recipe)
    read = time.monotonic() - began
    is_whole = missing <= SAMPLE
    if is_whole:
        folder.data = fingerprint(sets)
    facts = [("data", sets.note), *_windows(corpus, sets, is_whole)]
    if recipe.fit.stages:
        facts += _training(job, recipe, sets, corpus, is_whole)
    verdict, refused = _verdict(folder, job.fresh)
    if not is_whole:
        wait = duration(read / SAMPLE * missing)
        facts.append(("frames", f"{missing - SAMPLE} recordings still to be read: about {wait}"))
        verdict += "; its data are compared when all recordings are read"
    if recipe.pretrained:
        origin = origin_or_recipe(recipe, job.runs, job.changes)
        first = f"{recipe.pretrained}, to be trained first"
        facts.append(("begins with", str(origin) if isinstance(origin, Path) else first))
    facts += [("run", verdict), ("bundle", str(bundle)), ("cache", str(cache.folder))]
    return DryRun(tuple(facts), _tags(corpus), refused)


def _windows(corpus: Corpus, sets: Sets, is_whole: bool) -> Iterator[tuple[str, str]]:
    """Recordings and windows of each part."""
    parts = {"train": sets.train, "validation": sets.validation, **sets.tests}
    for part, samples in parts.items():
        recordings = len(corpus.of(part))
        if samples is None:
            yield part, f"{recordings} recordings, no windows"
            continue
        used = len(samples.truth())
        if is_whole:
            left = f" ({recordings - used} unusable)" if recordings > used else ""
            yield part, f"{used} recordings{left}, {len(samples)} windows"
        else:
            windows = round(len(samples) / used * recordings)
            yield part, f"{recordings} recordings, about {windows} windows"


def _training(
    job: TrainingJob, recipe: Recipe, sets: Sets, corpus: Corpus, is_whole: bool
) -> Iterator[tuple[str, str]]:
    """The first batch, memory and time, from some steps on a net that is thrown away."""
    model = new_model(recipe, len(sets.tags)).to(job.device)
    training = Training(recipe, model, sets.train, sets.validation,
                        RunFolder(job.runs / recipe.name, recipe), share=job.share,
                        device=job.device, workers=job.workers)  # fmt: skip
    weights = sum(w.numel() for w in model.parameters())
    yield "net", f"{recipe.net.name}, {weights:,} weights, on {job.device}"
    module = LossModule(model, criterion_of(training))
    memory = plan_accumulation(training, module)
    training.run.accumulate = memory.parts
    batch = next(iter(training.loader.epoch(0)))
    shapes = f"frames {tuple(batch.frames.shape)}, targets {tuple(batch.targets.shape)}"
    side = "" if batch.side is None else f", side values {tuple(batch.side.shape)}"
    yield "first batch", shapes + side
    yield "memory", str(memory).removeprefix("memory: ")
    share = 1.0 if is_whole else len(corpus.of("train")) / len(sets.train.truth())
    steps = max(1, round(training.loader.steps * share))
    epoch = steps * _seconds_of_step(training, module)
    if sets.validation is not None:
        epoch += _seconds_of_validation(training, sets.validation) * share
    epochs = total_epochs(recipe)
    most = "at most " if any(stage.patience for stage in recipe.fit.stages) else ""
    yield "epoch", f"{steps} batches, about {duration(epoch)}"
    count = recipe.fit.trainings
    times = f"{count} trainings of " if count > 1 else ""
    whole = duration(count * epochs * epoch)
    yield "training", f"{times}{most}{epochs} epochs, {most}about {whole}"


def _seconds_of_step(training: Training, module: LossModule) -> float:
    """The median time of a step, with reading its batch."""
    stage, took = training.recipe.fit.stages[0], []
    optimizer = make_optimizer(stage, training.model.parameters())
    training.model.train()
    began, last = time.monotonic(), time.monotonic()
    for batch in training.loader.epoch(0):
        training_step(training, module, optimizer, 0.0, batch.to(training.device))
        now = time.monotonic()
        took.append(now - last)
        last = now
        if len(took) == STEPS or now - began > PATIENCE:
            break
    return float(np.median(took[1:] or took))


def _seconds_of_validation(training: Training, validation: Samples) -> float:
    """The time of predicting the validation windows, from that of a few."""
    some = _First(validation, 16)
    began = time.monotonic()
    predict(copy.deepcopy(training.model), some)
    return (time.monotonic() - began) / len(some) * len(validation)


class _First:
    """The first windows of a set, as recordings of their own; fulfils `Samples`."""

    def __init__(self, samples: Samples, count: int) -> None:
        self.tags, self._samples = samples.tags, samples
        self.owners = np.arange(min(count, len(samples)))
        self.sample = samples.sample

    def __len__(self) -> int:
        return len(self.owners)

    def truth(self) -> np.ndarray:
        """(n, n_tags) float32, of no meaning."""
        return np.zeros((len(self), len(self.tags)), np.float32)


def _verdict(folder: RunFolder, fresh: bool) -> tuple[str, str]:
    """What would happen to the run folder, and why the training would be refused."""
    path = folder.path
    if not folder.has_run:
        return f"{path}: a new run", ""
    if fresh:
        return f"{path}: a new run; the old one would be moved aside", ""
    try:
        notes = folder.check()
    except RecipeError as error:
        return str(error), str(error)
    other = "".join(f"; the scores are of other data: {note}" for note in notes)
    if folder.is_finished:
        return f"{path}: finished; only the bundle would be written{other}", ""
    return f"{path}: goes on after epoch {len(folder.lines())}{other}", ""


def _tags(corpus: Corpus) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """Recordings per tag and part, the tag with the fewest in training first."""
    counts = [corpus.targets(corpus.of(split)).sum(axis=0).astype(int) for split in SPLITS]
    rows = [
        (tag, (int(a), int(b), int(c))) for tag, a, b, c in zip(corpus.tags, *counts, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: row[1][0]))
