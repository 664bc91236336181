"""The card: what a bundle says about itself.

It travels inside the TorchScript file as JSON, so a model can never be separated from its front
end, its labels, its thresholds, its scores and its licence.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from streamtag.features import FeatureConfig


class PastPadding(StrEnum):
    """What stands in a window before the audio that the stream has: as the net was trained."""

    SILENCE = "silence"
    """The front end's answer to digital silence."""
    ZERO = "zero"
    """The number 0."""
    MINIMUM = "minimum"
    """Per window, the smallest value heard so far."""
    WRAP = "wrap"
    """The frames heard so far, repeated."""


@dataclass(frozen=True, slots=True)
class Golden:
    """The answer that the exporting machine got for the built-in signal (`bundle.golden_signal`)."""

    probabilities: tuple[float, ...]
    """In the order of the tags."""
    tolerance: float = 2e-3
    """Largest difference at which a replay still counts as the same."""


@dataclass(frozen=True, slots=True)
class Card:
    """Everything the daemon must know about a bundle."""

    name: str
    """Short and unique, such as `instruments-1`."""
    net: str
    """Architecture, for people."""
    features: FeatureConfig
    features_version: int
    """`features.FEATURES_VERSION` of the exporter; another one is refused."""
    window_frames: int
    hop_frames: int
    """Frames between the ends of two windows."""
    first_frames: int
    """Frames needed for the first, provisional answer; at most `window_frames`."""
    padding: PastPadding
    tags: tuple[str, ...]
    """In the order of the outputs."""
    on_thresholds: tuple[float, ...]
    """Per tag, in (0, 1): switched on at this smoothed probability or above."""
    off_thresholds: tuple[float, ...]
    """Per tag, in (0, on]: switched off below it."""
    golden: Golden
    smoothing_seconds: float = 1.0
    """Time constant of the exponential smoothing; 0 turns it off."""
    min_on_seconds: float = 0.5
    """A tag must stay above its on threshold so long before it is switched on."""
    min_off_seconds: float = 1.0
    """A tag must stay below its off threshold so long before it is switched off."""
    display: dict[str, str] = field(default_factory=dict)
    """Nicer or shared names for tags (`female vocals` for `female vocal`); may merge several."""
    off_by_default: tuple[str, ...] = ()
    """Tags that the evidence does not support; they are scored but make no events."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Measured on data the net never saw."""
    data: str = ""
    """What it was trained on."""
    licence: str = ""
    description: str = ""
    """What it is for, what not, known biases."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Whatever else the exporter wants to record: recipe, revision, source."""
