"""Recordings of which something is known without a teacher."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamtag.train.data.corpora.corpus import Item

NO_VOICE = dict.fromkeys(
    ("speech", "singing", "rap", "choir", "female voice", "male voice", "applause", "silence"), 0.0
)
"""What a rendering never has."""


@dataclass(frozen=True, slots=True)
class KnownItem:
    """A recording and what is true of all of it."""

    item: Item
    tags: Mapping[str, float] = field(default_factory=dict)
    """1 or 0 by tag; NaN, or a tag that is left out, is unknown."""
    valence: float = math.nan
    """From −1 (unpleasant) to 1 (pleasant); NaN is unknown."""
    arousal: float = math.nan
    """From −1 (calm) to 1 (excited); NaN is unknown."""
    licence: str = ""


def known_targets(known: KnownItem, tags: Sequence[str]) -> np.ndarray:
    """What is known of a recording, (n_tags,) float32: 1, 0, or NaN."""
    return np.array([known.tags.get(tag, math.nan) for tag in tags], np.float32)
