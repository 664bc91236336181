"""Excerpts of ten seconds whose families of instruments are known: the same for every model.

Nothing in them is in a training: `notes` are mixtures of phrases from notes of a split, `tunes` are
orchestrated folk tunes of that split, rendered with the soundfonts of the trainings or, as
`unknown`, with one that no training has; that one is for the test alone.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from streamtag.train.data.effects import in_random_place
from streamtag.train.recipes.file import load_recipe
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.synthesis.midi import read_piece
from streamtag.train.synthesis.mixtures import (
    FAMILIES_IN_A_MIX,
    StemLibrary,
    excerpt,
)
from streamtag.train.synthesis.notes import split_of
from streamtag.train.synthesis.pieces import orchestrated, render_piece
from streamtag.train.synthesis.stems import TICK, real_stems, tunes

RATE, SECONDS = 32000, 10.0
"""Hz and length of the excerpts."""
NOTES, TUNES = 300, 24
"""Mixtures of notes; tunes for each test, about six excerpts of each."""
MOST = 0.5
"""A family is in an excerpt if it sounds in this share of it."""
PEAK = 0.5
"""Of an excerpt."""

Excerpts = tuple[np.ndarray, np.ndarray]
"""(n, n_samples) float16, and (n, n_families) float32: 1, 0, or NaN where it is not known."""


def instrument_excerpts(
    data: Path, cache: Path, split: str, report: Callable[[str, int, int], None]
) -> tuple[tuple[str, ...], dict[str, Excerpts]]:
    """The families, and the excerpts of each test; made once.

    Args:
        data: the folder with `philharmonia`, `sonic-pi` and `midi`.
        cache: keeps them.
        split: of notes and tunes.
        report: shows progress.
    """
    recipe = load_recipe("instruments")
    assert recipe.mixtures is not None
    known, unknown = recipe.mixtures.soundfonts, recipe.mixtures.unseen_soundfonts
    makers = {
        "notes": lambda: _notes(recipe, data, split),
        "tunes": lambda: _tunes(recipe, data, split, known, report),
    }
    if split == "test":
        makers["unknown"] = lambda: _tunes(recipe, data, split, unknown, report)
    found = {}
    for name, make in makers.items():
        path = cache / f"instrument-excerpts-{split}-{name}.npz"
        if not path.exists():
            audio, truth = zip(*make(), strict=True)
            np.savez(path, audio=np.array(audio, np.float16), truth=np.array(truth, np.float32))
        with np.load(path) as arrays:
            found[name] = arrays["audio"], arrays["truth"]
    return recipe.tags, found


def _notes(recipe: Recipe, data: Path, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Mixtures of phrases of real notes; of families without real notes nothing is known."""
    assert recipe.mixtures is not None
    length = recipe.mixtures.phrase_seconds
    stems = list(real_stems(data, split, 30, length, RATE, recipe.seed))
    have = [tag for tag in recipe.tags if any(stem.family == tag for stem in stems)]
    library, rng = StemLibrary(stems, [], have), np.random.default_rng(1)
    size = round(SECONDS * RATE)
    for _ in range(NOTES):
        count = 1 + int(
            rng.choice(4, p=np.array(FAMILIES_IN_A_MIX[1:]) / sum(FAMILIES_IN_A_MIX[1:]))
        )
        truth = np.array([0.0 if tag in have else np.nan for tag in recipe.tags])
        audio = np.zeros(size, np.float32)
        for family in rng.choice(have, size=count, replace=False):
            part, share = excerpt(library.draw(rng, str(family)), size, RATE, rng)
            audio += part * np.float32(10 ** (rng.uniform(-9, 0) / 20))
            truth[recipe.tags.index(str(family))] = float(share >= MOST)
        yield _loud(in_random_place(audio, RATE, rng)), truth


def _tunes(
    recipe: Recipe,
    data: Path,
    split: str,
    fonts: Sequence[str],
    report: Callable[[str, int, int], None],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Excerpts of orchestrated tunes, by one of the soundfonts each."""
    unseen = [path for path in tunes(data) if split_of(path.stem) == split]
    chosen = unseen[:: max(1, len(unseen) // TUNES)][:TUNES]
    size, ticks = round(SECONDS * RATE), round(SECONDS / TICK)
    for i, path in enumerate(chosen):
        rng = np.random.default_rng([2, *path.stem.encode()])
        written = orchestrated(read_piece(path), recipe.tags, rng)
        piece = render_piece(path.stem, written, fonts[i % len(fonts)], recipe.tags, RATE)
        report("render tunes", i + 1, len(chosen))
        if piece is None:
            continue
        for k in range(len(piece.audio) // size):
            audio = piece.audio[k * size : (k + 1) * size]
            share = piece.truth[k * ticks : (k + 1) * ticks].mean(axis=0)
            if audio.any():
                yield _loud(audio), np.where(np.isnan(share), np.nan, share >= MOST)


def _loud(audio: np.ndarray) -> np.ndarray:
    out: np.ndarray = audio * np.float32(PEAK / max(float(np.abs(audio).max()), 1e-6))
    return out
