"""Synthesised training data on disk: made once per recipe, then read as arrays.

A set is a pair of files: `NAME-frames.npy` (n, window_frames, width) float16 and `NAME-targets.npy`
(n, n_tags) float32, where NaN means unknown.
"""

import concurrent.futures
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.train.data.effects import in_random_place
from streamtag.train.data.samples import ProgressCallback, TrainingSample
from streamtag.train.recipes.file import to_dict
from streamtag.train.recipes.recipe import Mixtures, Recipe
from streamtag.train.synthesis import mixtures, stems
from streamtag.train.synthesis.midi import read_piece
from streamtag.train.synthesis.mixtures import (
    StemLibrary,
    WindowShape,
    draw_mixture,
    target_of_coverage,
)
from streamtag.train.synthesis.notes import SPLITS, split_of
from streamtag.train.synthesis.pieces import RenderedPiece, orchestrated, render_piece
from streamtag.train.synthesis.sounds import noise_and_speech
from streamtag.train.synthesis.stems import TICK, Stem

VERSION = 2
"""Must be raised when the same recipe would give other data."""
SOUNDS = "sounds.txt"
"""The file that lists what windows were made from."""
MATERIAL = ("philharmonia", "sonic-pi", "midi", "esc10", "speech-digits")
"""The folders of the data that windows are made from."""
MOST_JUDGED = 24
"""Tunes for validation and for the test, at most."""
TEST_STEP = 1.0
"""Seconds between the windows of validation and test pieces."""


@dataclass(frozen=True, slots=True)
class PreparedWindows:
    """A set of labelled windows; fulfils `Samples`."""

    frames: np.ndarray
    """(n, window_frames, width) float16."""
    targets: np.ndarray
    """(n, n_tags) float32 in [0, 1], or NaN."""

    tags: tuple[str, ...] = ()
    dimensions: np.ndarray | None = None
    """(n, n_dimensions + 1) float32 values and weights (see `nets.dimensions`), if there are."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def owners(self) -> np.ndarray:
        """Each window is scored alone."""
        return np.arange(len(self))

    def truth(self) -> np.ndarray:
        """(n, n_tags) float32."""
        return self.targets

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """The i-th window; it is not random."""
        return TrainingSample(self.frames[i].astype(np.float32), self.targets[i])


def shape_of(recipe: Recipe) -> WindowShape:
    """The shape of the recipe's windows."""
    return WindowShape(recipe.features, recipe.window_frames, recipe.first_frames, recipe.tags)


def folder_of(recipe: Recipe, cache: Path) -> Path:
    """The folder of a recipe's data; recipes that need the same data share it."""
    whole = to_dict(recipe)
    keys = ("seed", "tags", "window_frames", "first_frames", "features", "mixtures")
    text = json.dumps([VERSION, {key: whole[key] for key in keys}], sort_keys=True)
    return cache / f"windows-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def prepare(recipe: Recipe, data: Path, cache: Path, progress: ProgressCallback) -> Path:
    """Makes the recipe's data if necessary; returns its folder.

    Args:
        recipe: the recipe.
        data: the folder with `philharmonia`, `sonic-pi`, `midi`, `esc10`, `speech-digits`.
        cache: keeps renderings (`stems`) and windows: some gigabytes.
        progress: reports progress.

    Raises:
        RecipeError: data, soundfonts or FluidSynth are missing, or the cache has windows made from
            other data.
    """
    folder = folder_of(recipe, cache)
    if (folder / "done").exists():
        _refuse_other_sounds(folder, data)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        _prepare_mixtures(recipe, split, data, cache, folder, progress)
        _prepare_music(recipe, split, data, folder, progress)
        _prepare_non_music(recipe, split, data, folder)
    (folder / SOUNDS).write_text("\n".join(_sounds(data)), encoding="utf-8")
    (folder / "done").write_text(json.dumps(to_dict(recipe), indent=1))
    return folder


def _sounds(data: Path) -> list[str]:
    """Names and sizes of the files that windows are made from."""
    found = (path for name in MATERIAL for path in (data / name).rglob("*") if path.is_file())
    return sorted(f"{path.relative_to(data).as_posix()} {path.stat().st_size}" for path in found)


def _refuse_other_sounds(folder: Path, data: Path) -> None:
    """Refuses windows that were made from other files; those without a list are taken as they are.

    Raises:
        RecipeError: a file has come, has gone, or has another size.
    """
    if not (folder / SOUNDS).exists():
        return
    made = set((folder / SOUNDS).read_text(encoding="utf-8").splitlines())
    if other := sorted(made.symmetric_difference(_sounds(data))):
        raise RecipeError(
            f"{folder}: expected windows made from the sounds in {data}, got windows made from "
            f"others: {len(other)} files differ, first: {other[0].rpartition(' ')[0]!r}; use "
            "another --cache, or remove this folder"
        )


def load(folder: Path, *names: str, tags: tuple[str, ...] = ()) -> PreparedWindows:
    """The sets of these names, joined; a single set stays on disk until it is used."""
    frames = [np.load(folder / f"{name}-frames.npy", mmap_mode="r") for name in names]
    targets = [np.load(folder / f"{name}-targets.npy") for name in names]
    if len(names) == 1:
        return PreparedWindows(frames[0], targets[0], tags)
    return PreparedWindows(np.concatenate(frames), np.concatenate(targets), tags)


def mixture_settings(recipe: Recipe) -> Mixtures:
    """The recipe's section [mixtures].

    Raises:
        RecipeError: the recipe has none.
    """
    if recipe.mixtures is None:
        raise RecipeError(f"recipe {recipe.name!r}: expected a section [mixtures], found none")
    return recipe.mixtures


def training_set(recipe: Recipe, windows: Path) -> PreparedWindows:
    """Mixtures, pieces and non-music windows for training."""
    names = ("mixtures-train", "strangers-train", *soundfont_sets(recipe, "train"))
    return load(windows, *names, tags=recipe.tags)


def validation_set(recipe: Recipe, windows: Path) -> PreparedWindows:
    """The windows that select the epoch, the temperatures and the thresholds."""
    names = ("mixtures-validation", "strangers-validation")
    return load(windows, *names, *soundfont_sets(recipe, "validation"), tags=recipe.tags)


def soundfont_sets(recipe: Recipe, split: str) -> list[str]:
    """Names of the sets of pieces and tunes, rendered with the soundfonts of the training."""
    fonts = mixture_settings(recipe).soundfonts
    if not mixture_settings(recipe).windows_per_piece:
        return []
    return [f"{kind}-{split}-{font}" for kind in ("pieces", "tunes") for font in fonts]


def judged_sets(recipe: Recipe) -> dict[str, list[str]]:
    """The names of the sets of each test, by the title that it has in the card."""
    want = mixture_settings(recipe)
    sets = {
        "unseen notes, mixed": ["mixtures-test"],
    }
    for kind in ("tunes", "pieces"):
        known = [f"{kind}-test-{font}" for font in want.soundfonts]
        sets[f"unseen {kind}, known soundfonts"] = known
        for font in want.unseen_soundfonts:
            sets[f"unseen {kind}, unknown soundfont {font}"] = [f"{kind}-test-{font}"]
    return sets


def _prepare_mixtures(
    recipe: Recipe, split: str, data: Path, cache: Path, folder: Path, progress: ProgressCallback
) -> None:
    """Makes the set `mixtures-SPLIT`; for the test split from real notes alone."""
    want = mixture_settings(recipe)
    count = {"train": want.train, "validation": want.validation, "test": want.test}[split]
    name = f"mixtures-{split}"
    if (folder / f"{name}-targets.npy").exists() or count == 0:
        return
    shape, rate = shape_of(recipe), recipe.features.sample_rate
    found = _stems(recipe, split, data, cache, progress)
    real = {stem.family for stem in found if stem.origin == "real"}
    tags = [t for t in recipe.tags if split != "test" or t in real]
    library = StemLibrary(found, noise_and_speech(data, split, rate), tags)
    columns = [recipe.tags.index(tag) for tag in tags]
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split)])
    frames = np.empty((count, shape.window_frames, recipe.features.width), np.float16)
    targets = np.zeros((count, len(recipe.tags)), np.float32)
    for i in range(count):
        frames[i], targets[i, columns] = draw_mixture(library, shape, rng)
        if i % 100 == 0:
            progress(f"mix {split}", i, count)
    _save(folder, name, frames, targets)


def _stems(
    recipe: Recipe, split: str, data: Path, cache: Path, progress: ProgressCallback
) -> list[Stem]:
    want, rate = mixture_settings(recipe), recipe.features.sample_rate
    per_instrument = want.phrases_per_instrument if split == "train" else 30
    progress(f"phrases {split}", 0, 1)
    found = list(
        stems.real_stems(data, split, per_instrument, want.phrase_seconds, rate, recipe.seed)
    )
    if split == "test":
        return found
    per_program = want.phrases_per_program if split == "train" else 1
    found += stems.rendered_stems(
        data, split, want.soundfonts, per_program, want.phrase_seconds, rate,
        cache / "stems", progress,
    )  # fmt: skip
    return found


def _prepare_non_music(recipe: Recipe, split: str, data: Path, folder: Path) -> None:
    """Makes the set `strangers-SPLIT`, in which no tag is on; the test is scored as events
    instead."""
    count = {
        "train": mixture_settings(recipe).strangers,
        "validation": mixture_settings(recipe).strangers // 8,
    }
    name = f"strangers-{split}"
    if split == "test" or (folder / f"{name}-targets.npy").exists():
        return
    sounds = noise_and_speech(data, split, recipe.features.sample_rate)
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), 99])
    made = [mixtures.draw_non_music(sounds, shape_of(recipe), rng) for _ in range(count[split])]
    targets = np.zeros((len(made), len(recipe.tags)), np.float32)
    _save(folder, name, np.stack(made).astype(np.float16), targets)


def _prepare_music(
    recipe: Recipe, split: str, data: Path, folder: Path, progress: ProgressCallback
) -> None:
    """Makes the sets `pieces-SPLIT-SOUNDFONT` and `tunes-SPLIT-SOUNDFONT`.

    In training each piece is rendered with one soundfont, in the test with the unseen ones too.
    """
    if not mixture_settings(recipe).windows_per_piece:
        return
    fonts = mixture_settings(recipe).soundfonts
    if split == "test":
        fonts += mixture_settings(recipe).unseen_soundfonts
    for kind, paths in music(recipe, split, data).items():
        for k, font in enumerate(fonts):
            name = f"{kind}-{split}-{font}"
            if (folder / f"{name}-targets.npy").exists():
                continue
            chosen = paths[k :: len(fonts)] if split == "train" else paths
            rng = np.random.default_rng([recipe.seed, SPLITS.index(split), k])
            made = []
            for i, piece in enumerate(_performances(kind, chosen, font, recipe)):
                made += list(_windows(piece, recipe, split, rng))
                progress(f"{kind} {split} {font}", i + 1, len(chosen))
            _save(folder, name, np.stack([f for f, _ in made]), np.stack([t for _, t in made]))


def music(recipe: Recipe, split: str, data: Path) -> dict[str, list[Path]]:
    """The MIDI files of a split: pieces to render as written, tunes to orchestrate."""
    tunes = [path for path in stems.tunes(data) if split_of(path.stem) == split]
    count = mixture_settings(recipe).tunes
    count = count if split == "train" else min(count // 8, MOST_JUDGED)
    chosen = [tunes[i * len(tunes) // count] for i in range(min(count, len(tunes)))]
    pieces = [path for path in stems.freedoom(data) if split_of(path.stem) == split]
    return {"pieces": pieces} | ({"tunes": chosen} if chosen else {})


def _performances(
    kind: str, paths: list[Path], font: str, recipe: Recipe
) -> Iterator[RenderedPiece]:
    """The rendered pieces in order; two are rendered at a time."""
    rate, tags = recipe.features.sample_rate, recipe.tags
    seeds = [recipe.seed, *map(ord, font)]

    def one(path: Path) -> RenderedPiece | None:
        written = read_piece(path)
        if kind == "tunes":
            written = orchestrated(
                written, tags, np.random.default_rng([*seeds, *path.stem.encode()])
            )
        return render_piece(path.stem, written, font, tags, rate)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for i in range(0, len(paths), 4):
            made = pool.map(one, paths[i : i + 4])
            yield from (performance for performance in made if performance)


def _windows(
    piece: RenderedPiece, recipe: Recipe, split: str, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Full windows of a piece: at random places in training, else every `TEST_STEP` seconds."""
    features, size = recipe.features, recipe.window_frames
    audio = piece.audio
    if split == "train":
        audio = in_random_place(audio, features.sample_rate, rng) * np.float32(
            10 ** rng.uniform(-1.5, 0)
        )
    frames = frames_of(np.clip(audio, -1, 1), features)
    last = len(frames) - size
    if last < 1:
        return
    step = max(1, round(TEST_STEP * features.frame_rate))
    wanted = mixture_settings(recipe).windows_per_piece
    starts = rng.integers(0, last, wanted) if split == "train" else range(0, last, step)
    for start in starts:
        begin, end = features.span(int(start), int(start) + size)
        ticks = slice(round(begin / features.sample_rate / TICK),
                      round(end / features.sample_rate / TICK))  # fmt: skip
        coverage = piece.truth[ticks].mean(axis=0)
        targets = [c if np.isnan(c) else target_of_coverage(float(c)) for c in coverage]
        yield frames[start : start + size].astype(np.float16), np.array(targets, np.float32)


def _save(folder: Path, name: str, frames: np.ndarray, targets: np.ndarray) -> None:
    """Writes the targets last: if they exist, the set is complete."""
    np.save(folder / f"{name}-frames.npy", frames)
    np.save(folder / f"{name}-targets.npy", targets)
