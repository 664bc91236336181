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

BACK_SECONDS = 1.0
"""How long it must sound as it should before that is told."""


class StereoMeter(StrEnum):
    """What the channels are like."""

    STEREO = "stereo"
    """Both sound, and they differ: as it should be."""
    LEFT_SILENT = "left_silent"
    RIGHT_SILENT = "right_silent"
    MONO = "mono"
    """Both are the same, though the source says that it has two."""


class Turn(NamedTuple):
    """The channels are different now."""

    state: StereoMeter
    at: int
    """First sample at which they were."""
    decided: int
    """One past the last sample that was needed to know it."""


class Balance:
    """The channels of one stream.

    Args:
        rate: Hz.
        start: index of the first sample.
        settings: what counts as silent and as the same, and how long it takes.
    """

    def __init__(self, rate: int, start: int, settings: LevelSettings) -> None:
        self._cell = np.zeros((2, max(1, rate // CELLS_PER_SECOND)))
        self._power = 10 ** (settings.threshold_dbfs / 10)
        self._alike = 10 ** (settings.mono_db / 10)
        self._patience = math.ceil(settings.channels_seconds * rate)
        self._back = math.ceil(BACK_SECONDS * rate)
        self.state = StereoMeter.STEREO
        """As it was told last."""
        self._filled, self._at, self._end = 0, start, start  # of the cell; of the audio
        self._next, self._since, self._heard = self.state, start, 0  # what may be told soon

    def hear(self, start: int, sides: np.ndarray | None) -> list[Turn]:
        """What changes with samples from sample `start` on.

        Args:
            start: index of the first one.
            sides: left and right, (n, 2) float32; None where the source has but one channel.
        """
        if sides is None:
            return self._single(start)
        if start != self._end:
            self._begin(start)
        self._end, taken, turns = start + len(sides), 0, list[Turn]()
        while taken < len(sides):
            piece = sides[taken : taken + self._cell.shape[1] - self._filled].T
            self._cell[:, self._filled : self._filled + piece.shape[1]] = piece
            self._filled += piece.shape[1]
            taken += piece.shape[1]
            if self._filled == self._cell.shape[1]:
                turns += self._measure()
        return turns

    def _single(self, start: int) -> list[Turn]:
        """The source has one channel from sample `start` on: nothing can be wrong with two."""
        self._begin(start)
        if self.state is StereoMeter.STEREO:
            return []
        self.state = self._next = StereoMeter.STEREO
        return [Turn(self.state, start, start)]

    def _begin(self, start: int) -> None:
        """Audio is missing before sample `start`; what was told holds until it sounds otherwise."""
        self._filled, self._at, self._end = 0, start, start
        self._next, self._since, self._heard = self.state, start, 0

    def _measure(self) -> list[Turn]:
        """The cell is full: what it is like, and what that changes."""
        size = self._cell.shape[1]
        start, end = self._at, self._at + size
        self._at, self._filled = end, 0
        found = self._like()
        if found is None or found is self.state:
            self._next = self.state if found else self._next
            return []
        if found is not self._next:
            self._next, self._since, self._heard = found, start, 0
        self._heard += size
        if self._heard < (self._back if found is StereoMeter.STEREO else self._patience):
            return []
        self.state = found
        return [Turn(found, self._since, end)]

    def _like(self) -> StereoMeter | None:
        """What the cell is like; None where it is silent."""
        left, right = self._cell
        n = len(left)
        left -= np.add.reduce(left) / n  # without DC
        right -= np.add.reduce(right) / n
        a, b = float(left @ left) / n, float(right @ right) / n
        if a < self._power and b < self._power:
            return None
        if a < self._power:
            return StereoMeter.LEFT_SILENT
        if b < self._power:
            return StereoMeter.RIGHT_SILENT
        difference = a + b - 2 * float(left @ right) / n
        return StereoMeter.MONO if difference < self._alike * (a + b) else StereoMeter.STEREO
