"""What makes trainings and models of tests quick, where speed and pictures prove nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamtag.model import bundle
from streamtag.model.tagger import Tagger
from streamtag.train import job
from streamtag.train.data import extraction
from streamtag.train.exporting import bundle as exporting
from streamtag.train.training import loop


def without_processes_and_pictures(patch: pytest.MonkeyPatch) -> None:
    """Both take longer than the epochs of a test; tests marked `complete` have them."""
    patch.setattr(extraction, "_cores", lambda: 1)
    patch.setattr(loop, "draw", lambda *args: None)
    patch.setattr(job, "reliability_plot", lambda *args: None)


@contextmanager
def loaded_once() -> Iterator[None]:
    """`Tagger.load` returns the tagger that `export` has made of the same bytes by `Tagger.load`,
    instead of compiling it a second time."""
    load_trial, load = exporting._load_trial, Tagger.load
    last: list[Tagger] = []

    def keep(trial: Path, path: Path) -> Tagger:
        last[:] = [load_trial(trial, path)]
        last[0].path = path
        return last[0]

    def load_or_take(path: Path, device: str = "auto") -> Tagger:
        if last and last[0].path == path and last[0].checksum == bundle.checksum(path):
            return last[0]
        return load(path, device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_load_trial", keep)
        patch.setattr(Tagger, "load", load_or_take)
        yield
