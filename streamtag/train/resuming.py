"""Whether a run may begin, go on, or be exported with the data of now."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamtag.errors import RecipeError
from streamtag.train.data.fingerprint import Differences, Fingerprint, fingerprint
from streamtag.train.data.samples import Sets
from streamtag.train.data_sets import TrainingJob
from streamtag.train.pretrained import find_origin, read_origin
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.run_folder import RunFolder
from streamtag.train.training.distributed import broadcast_from_first


def check_run(job: TrainingJob, folder: RunFolder) -> None:
    """Refuses, before any work, a run that must not go on; the first process decides for all.

    Raises:
        RecipeError: the folder has a run of another recipe or of other data, and is not to be
            moved aside.
    """
    _for_all(job, lambda: job.fresh or folder.check())


def open_run(job: TrainingJob, folder: RunFolder, facts: dict[str, Any]) -> None:
    """Begins a run or lets an earlier one go on; the first process decides for all.

    Raises:
        RecipeError: as `check_run`.
    """

    def work() -> None:
        if job.fresh and (old := folder.set_aside()):
            job.warn(f"{folder.path}: begun anew; the old run is now {old}")
        for difference in folder.check():
            job.warn(f"{folder.path}: the weights stay, the scores are of other data: {difference}")
        if not folder.is_finished:
            note = "" if folder.data is None else folder.data.note
            folder.begin({"data": note, "device": str(job.device)} | facts)

    _for_all(job, work)


def _for_all(job: TrainingJob, work: Callable[[], object]) -> None:
    """Does something in the first process; all raise its error."""

    def answer() -> dict[str, Any]:
        try:
            work()
        except RecipeError as error:
            return {"refused": error}
        return {}

    found = broadcast_from_first(answer, job.share)
    if "refused" in found:
        raise found["refused"]


def refuse_other_data(
    job: TrainingJob, folder: Path, recipe: Recipe, sets: Sets, n_tags: int
) -> None:
    """Refuses to export a run with data that it did not learn from.

    Raises:
        RecipeError: tags, training or validation recordings differ.
    """
    now = dataclasses.replace(fingerprint(sets), pretrained=begins_with(job, recipe))
    found = RunFolder(folder, recipe, now).data_differences()
    if found is None:
        job.warn(
            f"{folder}: no data.json (made by an older version): nobody can say whether it learned "
            f"from {job.data}"
        )
        found = Differences()
    wrong = [f"{n_tags} tags in the run, {len(sets.tags)} now"] * (n_tags != len(sets.tags))
    if wrong := [*found.training, *wrong][:1]:
        raise RecipeError(
            f"{folder}: expected the data that the run learned from, got others: {wrong[0]}; name "
            "its own data with --data, or train on these: streamtag train --name NAME"
        )
    for difference in found.test:
        job.warn(f"{folder}: the scores are of other data than the run's: {difference}")


def note_pretrained(job: TrainingJob, recipe: Recipe, data: Fingerprint) -> None:
    """Says so if the weights that a net begins with come from a run on other data."""
    path = find_origin(recipe.pretrained, job.runs) if recipe.pretrained else None
    if path is None or not path.is_dir():
        return
    found = RunFolder(path, recipe, data).data_differences()
    if found is not None and found.training:
        job.warn(
            f"{recipe.name}: begins with the weights of {path}, which learned from other data: "
            f"{found.training[0]}"
        )


def begins_with(job: TrainingJob, recipe: Recipe) -> str:
    """A checksum of the weights that a net begins with; empty if they are random, or gone."""
    path = find_origin(recipe.pretrained, job.runs) if recipe.pretrained else None
    return "" if path is None else read_origin(path).checksum[:8]
