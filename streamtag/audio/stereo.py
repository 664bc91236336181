"""Faults of a stereo stream: one channel is silent, or both are the same.

As in `level`, the channels are measured in cells of a tenth of a second, so the same audio gives
the same changes, to the sample, in blocks of any size. Cells in which both channels are silent do
not count.
"""

import math
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from streamtag.audio.level import CELLS_PER_SECOND, LevelSettings

RECOVERY_SECONDS = 1.0
"""A fault ends when both channels have been as they should for so long."""


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


class ChannelMeter:
    """Measures the two channels of one stream.

    Args:
        rate: Hz.
        start: index of the first sample.
        settings: what counts as silent and as the same, and how long it takes.
    """

    def __init__(self, rate: int, start: int, settings: LevelSettings) -> None:
        self._cell = np.zeros((2, max(1, rate // CELLS_PER_SECOND)))
        self._power = 10 ** (settings.threshold_dbfs / 10)
        self._mono_ratio = 10 ** (settings.mono_db / 10)
        self._fault_samples = math.ceil(settings.channels_seconds * rate)
        self._recovery_samples = math.ceil(RECOVERY_SECONDS * rate)
        self.state = ChannelState.STEREO
        """As it was reported last."""
        self._filled, self._at, self._end = 0, start, start  # of the cell; of the audio
        self._next, self._since, self._lasted = self.state, start, 0  # the state that may come next

    def push(self, start: int, sides: np.ndarray | None) -> list[ChannelChange]:
        """Measures samples and returns what they change.

        Args:
            start: index of the first one.
            sides: left and right, (n, 2) float32; None where the source has one channel.
        """
        if sides is None:
            return self._push_mono(start)
        if start != self._end:
            self._restart(start)
        self._end, taken, changes = start + len(sides), 0, list[ChannelChange]()
        while taken < len(sides):
            piece = sides[taken : taken + self._cell.shape[1] - self._filled].T
            self._cell[:, self._filled : self._filled + piece.shape[1]] = piece
            self._filled += piece.shape[1]
            taken += piece.shape[1]
            if self._filled == self._cell.shape[1]:
                changes += self._measure()
        return changes

    def _push_mono(self, start: int) -> list[ChannelChange]:
        """The source has one channel from sample `start` on, so that there is no fault."""
        self._restart(start)
        if self.state is ChannelState.STEREO:
            return []
        self.state = self._next = ChannelState.STEREO
        return [ChannelChange(self.state, start, start)]

    def _restart(self, start: int) -> None:
        """Starts again after missing audio. The state stays until the audio shows another."""
        self._filled, self._at, self._end = 0, start, start
        self._next, self._since, self._lasted = self.state, start, 0

    def _measure(self) -> list[ChannelChange]:
        """Measures the cells, which are full, and returns what that changes."""
        size = self._cell.shape[1]
        start, end = self._at, self._at + size
        self._at, self._filled = end, 0
        found = self._measure_state()
        if found is None or found is self.state:
            self._next = self.state if found else self._next
            return []
        if found is not self._next:
            self._next, self._since, self._lasted = found, start, 0
        self._lasted += size
        if self._lasted < (
            self._recovery_samples if found is ChannelState.STEREO else self._fault_samples
        ):
            return []
        self.state = found
        return [ChannelChange(found, self._since, end)]

    def _measure_state(self) -> ChannelState | None:
        """The state of the cells; None where both are silent."""
        left, right = self._cell
        n = len(left)
        left -= np.add.reduce(left) / n  # without DC
        right -= np.add.reduce(right) / n
        a, b = float(left @ left) / n, float(right @ right) / n
        if a < self._power and b < self._power:
            return None
        if a < self._power:
            return ChannelState.LEFT_SILENT
        if b < self._power:
            return ChannelState.RIGHT_SILENT
        difference = a + b - 2 * float(left @ right) / n
        return ChannelState.MONO if difference < self._mono_ratio * (a + b) else ChannelState.STEREO
