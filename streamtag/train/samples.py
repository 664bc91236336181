"""Samples: what the training loop asks of a set of windows, however they come about."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """One window."""

    frames: np.ndarray
    """(window_frames, width) float32."""
    targets: np.ndarray
    """(n_tags,) float32 in [0, 1], or NaN where nobody can say."""
    side: np.ndarray | None = None
    """(n_side,) float32."""


class Samples(Protocol):
    """A set of windows."""

    tags: tuple[str, ...]
    owners: np.ndarray
    """(n,) int64: which recording each window is of, from 0; scores are averaged per recording."""

    def __len__(self) -> int:
        """Windows per epoch."""

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> Sample:
        """The i-th window; whatever is random about it comes from `rng` alone."""

    def truth(self) -> np.ndarray:
        """(n_recordings, n_tags) float32: what the averaged scores are compared with."""
