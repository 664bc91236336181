"""Batches of windows that depend on seed and epoch alone.

Everything random about a window comes from a generator seeded by (seed, epoch, window, order),
about a batch from one seeded by (seed, epoch, step). A run that was killed continues with exactly
the batches that it has not used, and the number of workers changes nothing.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from streamtag.audio.feature_config import FeatureConfig
from streamtag.train.data.augment import augment_batch, augment_window
from streamtag.train.data.samples import Samples, TrainingSample
from streamtag.train.recipes.recipe import Augment, Recipe


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows for one step of the training."""

    frames: Tensor
    """(n, window_frames, width) float32."""
    targets: Tensor
    """(n, n_tags) float32."""
    side: Tensor | None
    """(n, n_side) float32."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        side = None if self.side is None else self.side.to(device, non_blocking=True)
        frames = self.frames.to(device, non_blocking=True)
        return Batch(frames, self.targets.to(device, non_blocking=True), side)


Row = tuple[int, int]
"""A window and the order it comes from: 1, or 2 for the partners of `mixup_two_orders`, which are
cut and augmented anew."""


@dataclass(frozen=True, slots=True)
class BatchShare:
    """Which part of every batch this process uses."""

    rank: int = 0
    world: int = 1


class Loader:
    """Shuffled, augmented batches of a set of windows.

    Args:
        samples: the windows.
        recipe: seed, batch size, augmentation.
        share: of this process among several.
        workers: processes that read and augment windows; 0 means this process.
        plain: in order and without augmentation, as for statistics.
    """

    def __init__(
        self,
        samples: Samples,
        recipe: Recipe,
        share: BatchShare = BatchShare(),
        workers: int = 0,
        *,
        plain: bool = False,
    ) -> None:
        self._samples, self._recipe, self._share = samples, recipe, share
        self._workers, self._plain = workers, plain
        self._augment = Augment() if plain else recipe.augment

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(self._cuts())

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number `first` on."""
        wanted = self._rows(epoch, 1)[first:]
        if self._augment.mixup_two_orders:
            partners = self._rows(epoch, 2)[first:]
            wanted = [[*a, *b] for a, b in zip(wanted, partners, strict=True)]
        seeds = (self._recipe.training_seed, epoch)
        source = _Windows(self._samples, self._augment, seeds)
        loader = DataLoader(
            source, batch_sampler=wanted, num_workers=self._workers, collate_fn=_collated,
            worker_init_fn=_ignore_interrupts,
        )  # fmt: skip
        for step, (frames, targets, side) in enumerate(loader, first):
            rng = np.random.default_rng([*seeds, step, 3, self._share.rank])
            yield _batch(frames, targets, side, self._recipe.features, self._augment, rng)

    def _rows(self, epoch: int, order: int) -> list[list[Row]]:
        """The windows of each batch for this process, in one of the epoch's orders."""
        rows = self._order(epoch, order)
        mine = slice(self._share.rank, None, self._share.world)
        batches = [
            [(i, order) for i in rows[begin:end][mine].tolist()] for begin, end in self._cuts()
        ]
        if self._recipe.recordings.shuffle == "batches" and not self._plain:
            np.random.default_rng([self._recipe.training_seed, epoch, order]).shuffle(batches)
        return batches

    def _order(self, epoch: int, order: int) -> np.ndarray:
        """All windows in one of the orders of an epoch."""
        rows, shuffle = np.arange(len(self._samples)), self._recipe.recordings.shuffle
        if self._plain:
            return rows
        now = 0 if shuffle == "batches" else epoch
        rng = np.random.default_rng([self._recipe.training_seed, now, order])
        rows = rng.permutation(rows)
        if shuffle == "windows":
            return rows
        owners = self._samples.owners
        place = rng.permutation(owners.max() + 1)  # of each recording
        out: np.ndarray = rows[np.argsort(place[owners[rows]], kind="stable")]
        return out

    def _cuts(self) -> list[tuple[int, int]]:
        """[begin, end) of each batch; a last one too small for batch normalisation is left out, and
        so is any smaller one if the recipe says so."""
        n, size = len(self._samples), self._recipe.fit.batch_size
        cuts = [(i, min(i + size, n)) for i in range(0, n, size)]
        smallest = size if self._recipe.fit.drop_last and not self._plain else 2 * self._share.world
        small = len(cuts) > 1 and cuts[-1][1] - cuts[-1][0] < smallest
        return cuts[:-1] if small else cuts


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches the processes that read batches too, but it is their parent that ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Windows(Dataset[TrainingSample]):
    """The windows of one epoch, augmented one by one."""

    def __init__(self, samples: Samples, augment: Augment, seeds: tuple[int, int]) -> None:
        self._samples, self._augment, self._seeds = samples, augment, seeds

    def __getitem__(self, row: Row) -> TrainingSample:
        i, order = row
        rng = np.random.default_rng([*self._seeds, i, 3 + order])
        sample = self._samples.sample(i, self._seeds[1], rng)
        frames = augment_window(sample.frames, self._augment, rng)
        return TrainingSample(frames, sample.targets, sample.side)


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def _collated(samples: list[TrainingSample]) -> Arrays:
    frames = np.stack([s.frames for s in samples]).astype(np.float32, copy=False)
    targets = np.stack([s.targets for s in samples])
    sides = [s.side for s in samples if s.side is not None]
    return frames, targets, np.stack(sides) if sides else None


def _batch(
    frames: np.ndarray,
    targets: np.ndarray,
    side: np.ndarray | None,
    features: FeatureConfig,
    augment: Augment,
    rng: np.random.Generator,
) -> Batch:
    """One batch after batch-wise augmentation."""
    partner = None
    if augment.mixup_two_orders:
        half = len(frames) // 2
        partner = frames[half:], targets[half:]
        frames, targets = frames[:half], targets[:half]
        side = None if side is None else side[:half]
    frames, targets = augment_batch(frames, targets, features, augment, rng, partner)
    rest = None if side is None else torch.from_numpy(side)
    return Batch(torch.from_numpy(frames), torch.from_numpy(targets), rest)
