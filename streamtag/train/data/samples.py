"""What the training loop needs of a set of windows."""

from collections.abc import Callable, Mapping
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


def statistics(samples: Samples, most: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each band over at most `most` windows, (width,) float32 each."""
    rows = range(0, len(samples), max(1, len(samples) // most))
    first = samples.sample(0, 0, np.random.default_rng([0, 7])).frames
    count, total, squares = 0, np.zeros(first.shape[1]), np.zeros(first.shape[1])
    for i in rows:
        frames = samples.sample(i, 0, np.random.default_rng([i, 7])).frames.astype(np.float64)
        count, total = count + len(frames), total + frames.sum(axis=0)
        squares += (frames**2).sum(axis=0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.astype(np.float32), np.maximum(deviation, 1e-3).astype(np.float32)


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
    corpus: str = ""
    """`Corpus.form` of the recordings; empty for what the recipe itself describes."""
    rare: float = 0.0
    """A tag that is on in a smaller share of a test set, or off in one, is not scored there."""
    categories: Mapping[str, str] = field(default_factory=dict)
    """The category of each tag for the card."""
