"""What every reader of labelled recordings gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled recording, or a part of one."""

    name: str
    """Unique within the corpus; only letters, digits and `-._/`."""
    path: Path
    """Audio, or a published .npy of mels."""
    tags: tuple[int, ...]
    """Columns that are on."""
    split: str
    """One of `SPLITS`."""
    group: str = ""
    """What must not lie on both sides of a split: artist, song."""
    start: float = 0.0
    """Seconds."""
    end: float = 0.0
    """Seconds; 0 is the recording's end."""
    side: tuple[float, ...] = ()
    """Values from a side file."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Labelled recordings and what their columns mean."""

    name: str
    tags: tuple[str, ...]
    items: tuple[Item, ...]
    note: str = ""
    """For the card: which data, which split, how many."""

    def of(self, split: str) -> tuple[Item, ...]:
        """The items of one split, in the corpus' order."""
        return tuple(item for item in self.items if item.split == split)

    def targets(self, items: Sequence[Item]) -> np.ndarray:
        """(n_items, n_tags) float32, 0 or 1."""
        out = np.zeros((len(items), len(self.tags)), np.float32)
        for row, item in zip(out, items, strict=True):
            row[list(item.tags)] = 1
        return out
