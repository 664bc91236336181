"""Whether both channels of a stereo stream have something to say: one silent, or both the same.

As in `level`, everything is decided on cells of a tenth of a second that are counted from where the
audio began, so the same audio gives the same changes, to the sample, in blocks of any size. Cells
in which both channels are silent say nothing.
"""

import math
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from streamtag.audio.level import CELLS_PER_SECOND, LevelSettings

RECOVERY_SECONDS = 1.0
"""How long it must sound as it should before that is told."""


class ChannelState(StrEnum):
    """What the channels are like."""

    STEREO = "stereo"
    """Both sound, and they differ: as it should be."""
    LEFT_SILENT = "left_silent"
    RIGHT_SILENT = "right_silent"
    MONO = "mono"
    """Both are the same, though the source says that it has two."""


class ChannelChange(NamedTuple):
    """The channels are different now."""

    state: ChannelState
    at: int
    """First sample at which they were."""
    decided: int
    """One past the last sample that was needed to know it."""


class ChannelMeter:
    """The channels of one stream.

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
        """As it was told last."""
        self._filled, self._at, self._end = 0, start, start  # of the cell; of the audio
        self._next, self._since, self._lasted = self.state, start, 0  # what may be told soon

    def push(self, start: int, sides: np.ndarray | None) -> list[ChannelChange]:
        """What changes with samples from sample `start` on.

        Args:
            start: index of the first one.
            sides: left and right, (n, 2) float32; None where the source has but one channel.
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
        """The source has one channel from sample `start` on: nothing can be wrong with two."""
        self._restart(start)
        if self.state is ChannelState.STEREO:
            return []
        self.state = self._next = ChannelState.STEREO
        return [ChannelChange(self.state, start, start)]

    def _restart(self, start: int) -> None:
        """Audio is missing before sample `start`; what was told holds until it sounds otherwise."""
        self._filled, self._at, self._end = 0, start, start
        self._next, self._since, self._lasted = self.state, start, 0

    def _measure(self) -> list[ChannelChange]:
        """The cell is full: what it is like, and what that changes."""
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
        """What the cell is like; None where it is silent."""
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
