"""Rendered tunes and pieces, a minute or two each, whose instruments are known at every moment.

A programme cut from them changes its instruments while it goes on, as music does. A window with
one target (see `prepared`) cannot teach when an instrument came or went.
"""

import concurrent.futures
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.audio.front_end import frames_of
from streamtag.feed.atomic_file import atomic_file
from streamtag.train.data.effects import in_random_place
from streamtag.train.data.samples import ProgressCallback
from streamtag.train.recipes.file import to_dict
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.synthesis.midi import read_piece
from streamtag.train.synthesis.pieces import orchestrated, render_piece
from streamtag.train.synthesis.prepared import mixture_settings, music
from streamtag.train.synthesis.stems import TICK

VERSION = 1
"""Must be raised when the same recipe would give other frames."""
SEED = 7
QUIETEST_DB = -30.0
"""Range of the level, below the loudest."""
AT_A_TIME = 2
"""Renderings."""


@dataclass(frozen=True, slots=True)
class Performance:
    """A rendered tune or piece."""

    frames: np.ndarray
    """(n, width) float16, memory-mapped."""
    truth: np.ndarray
    """(n_ticks, n_families) float16, one row per `stems.TICK`: 1, 0, or NaN where unknown."""

    def targets(self, step: float, span: float) -> np.ndarray:
        """(n, n_families) float32, a row every `step` seconds, of the `span` seconds around it."""
        count = max(1, int(len(self.truth) * TICK / step))
        rows = []
        for i in range(count):
            first = max(0, round((i * step - span / 2) / TICK))
            last = max(first + 1, round((i * step + span / 2) / TICK))
            rows.append(self.truth[first:last].astype(np.float32).mean(axis=0))
        coverage = np.array(rows)
        return np.where(np.isnan(coverage), np.nan, np.clip(2 * coverage - 0.5, 0, 1))


def performances(
    recipe: Recipe, data: Path, cache: Path, report: ProgressCallback
) -> list[Performance]:
    """The training's tunes and pieces, each with every soundfont and orchestrated anew.

    Args:
        recipe: with a section [mixtures] and tags that are families of instruments.
        data: the folder with `midi`.
        cache: keeps them: 1.5 MB each.
        report: reports progress.

    Raises:
        RecipeError: MIDI files, a soundfont or FluidSynth are missing.
    """
    folder = _folder(recipe, cache)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        (kind, path, font)
        for kind, paths in music(recipe, "train", data).items()
        for path in paths
        for font in mixture_settings(recipe).soundfonts
    ]
    found = []

    def one(job: tuple[str, Path, str]) -> Performance | None:
        return _performance(recipe, *job, folder)

    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        made = pool.map(one, wanted)
        for i, performance in enumerate(made):
            report("tunes", i + 1, len(wanted))
            if performance is not None:
                found.append(performance)
    return found


def _folder(recipe: Recipe, cache: Path) -> Path:
    whole = to_dict(recipe)
    text = json.dumps([VERSION, whole["features"], whole["tags"]], sort_keys=True)
    return cache / f"performances-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _performance(
    recipe: Recipe, kind: str, path: Path, font: str, folder: Path
) -> Performance | None:
    """A tune or a piece with a soundfont, made if necessary; None if there is nothing to play."""
    kept = folder / f"{kind}-{path.stem}-{font}-frames.npy"
    truth = folder / f"{kind}-{path.stem}-{font}-truth.npy"
    if not truth.exists():
        rng = np.random.default_rng([SEED, *path.stem.encode(), *font.encode()])
        written = read_piece(path)
        if kind == "tunes":
            written = orchestrated(written, recipe.tags, rng)
        rate = recipe.features.sample_rate
        piece = render_piece(path.stem, written, font, recipe.tags, rate)
        if piece is None:
            return None
        audio = in_random_place(piece.audio, rate, rng)
        audio = audio * np.float32(10 ** (rng.uniform(QUIETEST_DB, 0) / 20))
        with atomic_file(kept) as partial:
            np.save(partial, frames_of(np.clip(audio, -1, 1), recipe.features).astype(np.float16))
        with atomic_file(truth) as partial:
            np.save(partial, piece.truth.astype(np.float16))
    return Performance(np.load(kept, mmap_mode="r"), np.load(truth))
