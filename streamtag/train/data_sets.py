"""The data sets of a recipe: read from recordings, synthesised, or labelled by teachers."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from streamtag.errors import RecipeError
from streamtag.train.data.broadcast import BroadcastChain
from streamtag.train.data.cache import FeatureCache
from streamtag.train.data.corpora import read_corpus
from streamtag.train.data.corpora.corpus import Corpus
from streamtag.train.data.loader import BatchShare
from streamtag.train.data.samples import Samples, Sets
from streamtag.train.data.side_values import with_side
from streamtag.train.data.windows import RecordingSamples
from streamtag.train.distillation.sets import distillation_sets
from streamtag.train.progress import TrainingProgress
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.synthesis.prepared import (
    judged_sets,
    load,
    mixture_settings,
    prepare,
    training_set,
    validation_set,
)
from streamtag.train.training.distributed import barrier

RARE = 0.05
"""A tag that is on in a smaller share of the synthesised windows is not scored."""


@dataclass(slots=True)
class TrainingJob:
    """Folders, device and processes of one training job."""

    data: Path
    cache: Path
    runs: Path
    progress: TrainingProgress
    share: BatchShare
    device: torch.device
    workers: int = 0
    changes: Sequence[str] = ()
    side: Path | None = None
    name: str = ""
    """Of the run, if not that of the recipe; the runs of an ensemble's members begin with it."""
    fresh: bool = False
    """Whether runs that exist are moved aside."""
    plot: bool = False
    """Whether the curves are drawn after every epoch."""
    sample: int = 0
    """If given, at most so many recordings are read that are not in the cache yet; the others are
    left out."""

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self.progress.warn(text)


def make_sets(job: TrainingJob, recipe: Recipe) -> Sets:
    """Reads or makes the data; the first process does the work, the others wait for it."""
    if job.share.rank == 0:
        sets = make_sets_here(job, recipe)
    barrier(job.share)
    return sets if job.share.rank == 0 else make_sets_here(job, recipe)


def make_sets_here(job: TrainingJob, recipe: Recipe) -> Sets:
    """The same in this process alone."""
    if recipe.mixtures is not None:
        return _synthesised_sets(job, recipe)
    if recipe.distil is not None:
        report, workers = job.progress.prepared, job.workers or None
        return distillation_sets(recipe, job.data, job.cache, report, workers)
    corpus, cache = labelled_recordings(job, recipe), cache_of(job, recipe)
    if job.sample:
        corpus = _sampled(corpus, cache, job.sample)
    if job.share.rank == 0:
        found = cache.build(
            corpus.items,
            variants=recipe.augment.audio_variants,
            workers=job.workers or None,
            progress=job.progress.prepared,
        )
        for item in found.broken[:10]:
            job.warn(f"{item.name}: skipped: {item.reason}")
        if found.broken:
            job.warn(f"{len(found.broken)} of {len(corpus.items)} recordings cannot be used")
    unusable = sum(not cache.has(item) for item in corpus.items)
    return Sets(
        tags=corpus.tags,
        train=_recordings(recipe, corpus, "train", cache) or _missing(recipe, corpus, "train"),
        validation=_recordings(recipe, corpus, "validation", cache),
        tests={"test": test} if (test := _recordings(recipe, corpus, "test", cache)) else {},
        note=f"{corpus.note}; {unusable} of them unusable" if unusable else corpus.note,
        corpus=corpus.form,
    )


def cache_of(job: TrainingJob, recipe: Recipe) -> FeatureCache:
    """The cache of the recipe's front end."""
    chain = BroadcastChain(recipe.augment) if recipe.augment.audio_variants else None
    whole_peak = recipe.recordings.top_db_from == "recording"
    return FeatureCache(job.cache, recipe.features, chain, whole_peak=whole_peak)


def _sampled(corpus: Corpus, cache: FeatureCache, most: int) -> Corpus:
    """The recordings that are in the cache, and of the others some, evenly over all splits."""
    missing = [item for item in corpus.items if not cache.has(item)]
    if len(missing) <= most:
        return corpus
    some = {missing[i * len(missing) // most].name for i in range(most)}
    items = tuple(item for item in corpus.items if item.name in some or cache.has(item))
    return dataclasses.replace(corpus, items=items)


def labelled_recordings(job: TrainingJob, recipe: Recipe) -> Corpus:
    """The labelled recordings, with side values if the recipe needs them."""
    wanted = recipe.recordings
    corpus = read_corpus(job.data, subset=wanted.subset, split=wanted.split)
    if not wanted.side:
        return corpus
    if job.side is None:
        raise RecipeError(
            f"recipe {recipe.name!r}: expected a file with {wanted.side} values per recording, got "
            "none: name it with --side; a recipe like innsbruck-own-features needs none"
        )
    sided = with_side(corpus, job.side, wanted.side)
    if sided.missing:
        job.warn(f"{sided}; they are left out")
    return sided.corpus


def _recordings(recipe: Recipe, corpus: Corpus, split: str, cache: FeatureCache) -> Samples | None:
    """The windows of a split; None if it is empty."""
    if not corpus.of(split):
        return None
    samples = RecordingSamples(recipe, corpus, split, cache)
    return samples if len(samples) else None


def _missing(recipe: Recipe, corpus: Corpus, split: str) -> Samples:
    raise RecipeError(
        f"corpus {corpus.name!r}: expected recordings in split {split!r} that recipe "
        f"{recipe.name!r} can use, found none of {len(corpus.of(split))}"
    )


def _synthesised_sets(job: TrainingJob, recipe: Recipe) -> Sets:
    """Sets of mixtures and rendered pieces."""
    mixture_settings(recipe)
    windows = prepare(recipe, job.data, job.cache, job.progress.prepared)
    tests = {
        title: load(windows, *names, tags=recipe.tags)
        for title, names in judged_sets(recipe).items()
    }
    return Sets(
        tags=recipe.tags,
        train=training_set(recipe, windows),
        validation=validation_set(recipe, windows),
        tests=tests,
        note=recipe.data,
        rare=RARE,
    )
