"""What the training loop needs of a set of windows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

ProgressCallback = Callable[[str, int, int], None]
"""Is called with the name of the work, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One window."""

    frames: np.ndarray
    """(window_frames, width) float32."""
    targets: np.ndarray
    """(n_tags,) float32 in [0, 1], NaN where unknown."""
    side: np.ndarray | None = None
    """(n_side,) float32."""


class Samples(Protocol):
    """A set of windows."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the targets."""

    @property
    def owners(self) -> np.ndarray:
        """(n,) int64: the recording of each window, from 0; scores are averaged per recording."""

    def __len__(self) -> int:
        """Windows per epoch."""

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """The i-th window; all randomness comes from `rng`."""

    def truth(self) -> np.ndarray:
        """(n_recordings, n_tags) float32: targets that the averaged scores are compared with."""


def moments(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each band over blocks of frames, (width,) float32 each.

    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979, equation 2.1. The deviation is at least 1e-3.

    Args:
        blocks: (n, width) each; at least one.
    """
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for block in blocks:
        values = block.astype(np.float64)
        share, own = len(values) / (count + len(values)), values.mean(axis=0)
        squares = squares + ((values - own) ** 2).sum(axis=0) + (own - mean) ** 2 * count * share
        mean = mean + (own - mean) * share
        count += len(values)
    deviation = np.maximum(np.sqrt(squares / count), 1e-3)
    return mean.astype(np.float32), deviation.astype(np.float32)


def statistics(samples: Samples, most: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """`moments` of at most `most` windows; those of recordings are in `FeatureCache.moments`."""
    rows = range(0, len(samples), max(1, len(samples) // most))
    return moments(samples.sample(i, 0, np.random.default_rng([i, 7])).frames for i in rows)


@dataclass(frozen=True, slots=True)
class Sets:
    """The data of one training."""

    tags: tuple[str, ...]
    train: Samples
    validation: Samples | None
    tests: Mapping[str, Samples] = field(default_factory=dict)
    """Test sets by the title that each gets in the card."""
    note: str = ""
    """A description of the data for the card."""
    sheet: str = ""
    """Their data sheet, for the card."""
    corpus: str = ""
    """`Corpus.form` of the recordings; empty for what the recipe itself describes."""
    rare: float = 0.0
    """A tag that is on in a smaller share of a test set, or off in one, is not scored there."""
    categories: Mapping[str, str] = field(default_factory=dict)
    """The category of each tag for the card."""
    beginning: tuple[np.ndarray, np.ndarray] | None = None
    """What nets with `begin_dense` begin with, (n_tags, n_classes) and (n_tags,) float32."""
