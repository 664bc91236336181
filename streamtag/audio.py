"""Blocks of samples: the form in which every source delivers audio."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive mono samples of one stream."""

    samples: np.ndarray
    """(n,) float32, C-contiguous, full scale ±1."""
    start: int
    """Index of the first sample since the stream began."""
    rate: int
    """Hz."""

    @property
    def end(self) -> int:
        """One past the last sample."""
        return self.start + len(self.samples)
