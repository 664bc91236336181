"""Windows of labelled recordings: where they are cut and how short ones are filled."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from streamtag.errors import RecipeError
from streamtag.model.bundle import silence_frame
from streamtag.train.data.cache import FeatureCache
from streamtag.train.data.corpora.corpus import SPLITS, Corpus, Item
from streamtag.train.data.samples import ProgressCallback, TrainingSample
from streamtag.train.recipes.recipe import Cut, Recipe, Short, Task

RANDOM_START = -1
"""Stands for a first frame that is drawn anew in each epoch."""


class RecordingSamples:
    """The windows of one split of a corpus, cut by the recipe; fulfils `Samples`.

    Recordings without frames in the cache are left out, and so are those that the recipe discards.
    In training, epochs use the versions of a recording in turn.

    Args:
        recipe: front end, window, cuts.
        corpus: the recordings.
        split: `train`, `validation` or `test`.
        cache: already built, with the chain of the versions if the recipe has some.

    Raises:
        RecipeError: the split has no recording that can be used, or the recipe needs tags, side
            values or versions that do not exist.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, split: str, cache: FeatureCache) -> None:
        want = recipe.recordings
        self._recipe, self._cache = recipe, cache
        self._cut: Cut = getattr(want, split)
        self._short = want.short if split == SPLITS[0] else want.short_judged
        self._variants = recipe.augment.audio_variants if split == SPLITS[0] else 0
        self._silence = silence_frame(recipe.features) if self._short is Short.SILENCE else None
        self.tags = corpus.tags
        self.items = tuple(item for item in corpus.of(split) if self._usable(item))
        """The recordings, in the order of `truth`."""
        self.left_out = len(corpus.of(split)) - len(self.items)
        """Recordings of the split that cannot be used."""
        self._check(corpus, split)
        self._targets = corpus.targets(self.items)
        windows = [(i, first) for i, item in enumerate(self.items) for first in self._firsts(item)]
        self.owners = np.array([i for i, _ in windows], np.int64)
        self.starts = np.array([first for _, first in windows], np.int64)
        """First frame of each window, or `RANDOM_START`."""

    def __len__(self) -> int:
        """Windows per epoch."""
        return len(self.owners)

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """The i-th window; all randomness comes from `rng`."""
        owner = int(self.owners[i])
        item, size = self.items[owner], self._recipe.window_frames
        version = self._version(item, epoch)
        n = self._cache.n_frames(item, version)
        if self._cut is Cut.STRETCHED:
            size = n
        first = int(self.starts[i])
        if first == RANDOM_START:
            first = int(rng.integers(max(n - size, 0) + 1))
        first = min(first, max(n - size, 0))  # a version may be slightly shorter
        cut = self._cache.window(item, first, first + size, version)
        frames = fill_window(cut, size, self._short, rng, self._silence)
        side = np.array(item.side, np.float32) if self._recipe.recordings.side else None
        return TrainingSample(frames, self._targets[owner], side)

    def truth(self) -> np.ndarray:
        """(n_recordings, n_tags) float32: targets that the averaged scores are compared with."""
        return self._targets

    @property
    def sources(self) -> list[Path]:
        """The file of each recording: its audio, or its published mels."""
        return [self._cache.source(item) for item in self.items]

    def moments(self, progress: ProgressCallback | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each band over all frames of the recordings, (width,) each."""
        return self._cache.moments(self.items, progress)

    def _usable(self, item: Item) -> bool:
        side = self._recipe.recordings.side
        if not self._cache.has(item) or (side and not item.side):
            return False
        if self._short is not Short.DISCARD or self._cut is Cut.STRETCHED:
            return True
        return self._cache.n_frames(item) >= self._recipe.window_frames

    def _check(self, corpus: Corpus, split: str) -> None:
        if not self.items:
            raise RecipeError(
                f"{corpus.name}: expected recordings in the split {split!r}, got none that can be "
                f"used ({corpus.sizes()}{self._first_reason(corpus.of(split))})"
            )
        if not self.tags and self._recipe.task is Task.TAG:
            raise RecipeError(f"{corpus.name}: expected tags to learn, got recordings without any")
        if self._variants and self._cache.chain is None:
            raise RecipeError(
                f"augment.audio_variants: expected 0 for a cache without a chain, got "
                f"{self._variants}"
            )
        count = self._recipe.recordings.side
        if wrong := [item for item in self.items if count and len(item.side) != count]:
            raise RecipeError(
                f"{wrong[0].name}: recordings.side: expected {count} values from the side file, "
                f"got {len(wrong[0].side)} ({len(wrong)} such recordings)"
            )

    def _first_reason(self, items: Sequence[Item]) -> str:
        for item in items:
            if reason := self._cache.why_broken(item):
                return f"; {item.name}: {reason}"
            if not self._cache.has(item):
                return f"; {item.name}: its frames are not in {self._cache.folder}"
            if self._recipe.recordings.side and not item.side:
                return f"; {item.name}: it has no side values"
            return f"; {item.name}: shorter than a window of {self._recipe.window_frames} frames"
        return ""

    def _version(self, item: Item, epoch: int) -> int:
        """The version of a recording for an epoch; the clean one if that is missing."""
        version = epoch % (self._variants + 1)
        return version if version and self._cache.has(item, version) else 0

    def _firsts(self, item: Item) -> Iterator[int]:
        """The first frames of a recording's windows."""
        n, size = self._cache.n_frames(item), self._recipe.window_frames
        room, count = max(n - size, 0), self._recipe.recordings.segments
        whole = max(n // size, 1)
        match self._cut:
            case Cut.RANDOM:
                yield from [RANDOM_START] * count
            case Cut.DRAWN:
                rng = np.random.default_rng([self._recipe.seed, _number(item.name)])
                yield from rng.integers(room + 1, size=count).tolist()
            case Cut.CENTRE:
                yield room // 2
            case Cut.FIRST | Cut.STRETCHED:
                yield 0
            case Cut.SEGMENTS:
                yield from range(0, min(count, whole) * size, size)
            case Cut.CONSECUTIVE:
                yield from range(0, whole * size, size)


def fill_window(
    frames: np.ndarray,
    size: int,
    short: Short,
    rng: np.random.Generator,
    silence: np.ndarray | None = None,
) -> np.ndarray:
    """A window of `size` frames, (size, width) float32.

    Args:
        frames: (n, width) float32, at least 1 frame.
        size: frames wanted.
        short: how the rest is filled.
        rng: source of randomness.
        silence: (width,) float32, the front end's frame of digital silence, if that fills the rest.
    """
    n = len(frames)
    if n >= size:
        return frames[:size]
    before = (size - n) // 2
    if short is Short.EITHER and rng.random() < 0.5:
        return np.take(frames, np.arange(-before, size - before), axis=0, mode="wrap")
    if short in (Short.MINIMUM, Short.EITHER):
        out = np.full((size, frames.shape[1]), frames.min(), np.float32)
        out[before : before + n] = frames
        return out
    if short is Short.SILENCE and silence is not None:
        out = np.repeat(silence[np.newaxis].astype(np.float32), size, axis=0)
        out[size - n :] = frames
        return out
    return np.take(frames, np.arange(size), axis=0, mode="wrap")


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
