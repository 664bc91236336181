"""Faults of a stereo stream: one channel is silent, or both are the same.

As in `level`, the channels are measured in cells of a tenth of a second, so the same audio gives
the same changes, to the sample, in blocks of any size. Cells in which both channels are silent do
not count.
"""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from streamtag import _core
from streamtag.audio.level import CELLS_PER_SECOND, LevelSettings

RECOVERY_SECONDS = 1.0
"""How long both channels must be without a fault before it ends."""


class ChannelState(StrEnum):
    """The relation of the two channels."""

    STEREO = "stereo"
    """Both have sound, and they differ: no fault."""
    LEFT_SILENT = "left_silent"
    RIGHT_SILENT = "right_silent"
    MONO = "mono"
    """Both are the same, though the source has two."""


class ChannelChange(NamedTuple):
    """The channels are in another state."""

    state: ChannelState
    at: int
    """First sample in this state."""
    decided: int
    """One past the last sample that was needed to know it."""


class ChannelMeter(_core.ChannelMeter):
    """Measures the two channels of one stream; the arithmetic is in C++ (`csrc/channels.cpp`).

    Args:
        rate: Hz.
        start: index of the first sample.
        settings: what counts as silent and as the same, and how long it takes.
    """

    def __init__(self, rate: int, start: int, settings: LevelSettings) -> None:
        super().__init__(
            cell=rate // CELLS_PER_SECOND,
            power=10 ** (settings.threshold_dbfs / 10),
            mono_ratio=10 ** (settings.mono_db / 10),
            fault=math.ceil(settings.channels_seconds * rate),
            recovery=math.ceil(RECOVERY_SECONDS * rate),
            start=start,
        )


def channel_changes(found: Iterable[tuple[str, int, int]]) -> list[ChannelChange]:
    """Changes of the channels as C++ returns them."""
    return [ChannelChange(ChannelState(state), at, decided) for state, at, decided in found]
