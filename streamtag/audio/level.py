"""The level of a stream: silence, the end of a silence, clipping.

The level is measured in cells of a tenth of a second, counted from where the audio started. A cell
is measured when it is complete. So the same audio gives the same changes, to the sample, in blocks
of any size.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from streamtag.errors import ConfigError

CELLS_PER_SECOND = 10
"""Level and channels are measured so often."""
FULL_SCALE = 1 - 2**-14
"""A sample of this size or more counts as clipped. The largest 16-bit value is 1 - 2^-15."""
FLAT_SAMPLES = 3
"""So many samples at full scale in a row are clipping. Fewer are just a loud peak."""
LAG_SAMPLES, LAG_SECONDS = 2400, 0.2
"""A silence is reported after so much more audio (the longer of both). Every window that ended
before it has come out of the resampler then, which was seen to hold back at most 1090 samples of
the lower rate: 0.14 s at 8 kHz."""


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """What counts as silence, and how often clipping is reported.

    Raises:
        ConfigError: a number is out of its range.
    """

    threshold_dbfs: float = -60.0
    """A level below this is silence, in dB of full scale (root mean square without DC)."""
    silence_seconds: float = 5.0
    """The level must stay below for so long before it is a silence; 0 turns silences off."""
    sound_seconds: float = 0.2
    """The level must stay above for so long to end a silence, so that a click does not."""
    clipping_seconds: float = 60.0
    """Least time between two reports of clipping; 0 turns them off."""
    channels_seconds: float = 0.0
    """A channel must be silent, or both be the same, for so long; 0 turns this off."""
    mono_db: float = -50.0
    """Two channels are the same if the level of their difference, against both, is below this."""

    def __post_init__(self) -> None:
        if not -120 <= self.threshold_dbfs <= 0:
            raise ConfigError(f"threshold_dbfs: expected -120 to 0 dB, got {self.threshold_dbfs!r}")
        if not -120 <= self.mono_db <= 0:
            raise ConfigError(f"mono_db: expected -120 to 0 dB, got {self.mono_db!r}")
        for name in ("silence_seconds", "sound_seconds", "clipping_seconds", "channels_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}: expected at least 0, got {getattr(self, name)!r}")


class LevelKind(Enum):
    """What a change of level is."""

    SILENT = "silent"
    SOUND = "sound"
    CLIPPED = "clipped"


class LevelChange(NamedTuple):
    """A change of level, known when the samples up to `decided` have been measured."""

    kind: LevelKind
    at: int
    """Sample at which it happened."""
    decided: int
    """One past the last sample that was needed to know it."""
    since: int = 0
    """For the end of a silence: where the silence started."""
    samples: int = 0
    """For clipping: how many samples."""


class Silence(NamedTuple):
    """A silence, from the time at which it is known."""

    at: int
    """First silent sample."""
    known: int
    """One past the last sample that was needed to know it."""
    back: int | None
    """One past the last sample that was needed to know its end; None while it lasts."""


class LevelMeter:
    """The level of one stream.

    Silence is known (`silence_at` finds it) as soon as it has lasted. It is reported a little
    later, when no window that ended before can come any more.

    Args:
        rate: Hz.
        start: index of the first sample.
        settings: what counts as silence and clipping.
    """

    def __init__(self, rate: int, start: int, settings: LevelSettings) -> None:
        self._cell = np.zeros(max(1, rate // CELLS_PER_SECOND))
        self._power = 10 ** (settings.threshold_dbfs / 10)
        self._silence_samples = math.ceil(settings.silence_seconds * rate)
        self._lag = max(LAG_SAMPLES, math.ceil(LAG_SECONDS * rate))
        self._sound_samples = max(self._lag, math.ceil(settings.sound_seconds * rate))
        self._silences: deque[Silence] = deque(maxlen=4)
        self._silent = False
        self._unreported = False  # whether the present silence has not been reported yet
        self._clipping = _ClippingCounter(math.ceil(settings.clipping_seconds * rate))
        self.power = 0.0
        """Mean square of the last cell, without its mean."""
        self.restart(start)

    def restart(self, start: int) -> None:
        """Starts again after missing audio. A silence that was reported goes on."""
        self._filled, self._at = 0, start  # samples in the cell, and its first one
        self._quiet_since: int | None = None  # first sample of what may become a silence
        self._loud_since: int | None = None  # first sample of what may end one
        self._clipping.run = 0

    def scan(self, samples: np.ndarray) -> tuple[int, list[LevelChange]]:
        """Measures samples up to the first change.

        Args:
            samples: (n,) float32, finite; they follow the last one that was measured.

        Returns:
            How many were measured, and what changed with the last of them.
        """
        taken = 0
        while taken < len(samples):
            piece = samples[taken : taken + len(self._cell) - self._filled]
            self._cell[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            taken += len(piece)
            if self._filled == len(self._cell) and (changes := self._measure()):
                return taken, changes
        return taken, []

    def silence_at(self, end: int) -> Silence | None:
        """The silence in which a window ends; `end` is one past its last sample."""
        for silence in self._silences:
            if silence.known < end and (silence.back is None or end <= silence.back):
                return silence
        return None

    def report_silence(self) -> list[LevelChange]:
        """Reports the present silence, if it has not been reported yet."""
        if not self._unreported:
            return []
        self._unreported = False
        return [LevelChange(LevelKind.SILENT, self._silences[-1].at, self._silences[-1].known)]

    def close(self, at: int) -> list[LevelChange]:
        """Reports what is left when the stream ends, or is lost, at sample `at`."""
        changes = self.report_silence() + self._clipping.report()
        if self._silent:
            changes.append(self._end_silence(at, at))
        return changes

    def _measure(self) -> list[LevelChange]:
        """Measures the cell, which is full, and returns what that changes."""
        start, end = self._at, self._at + len(self._cell)
        self._at, self._filled = end, 0
        changes = self._clipping.count(self._cell, start)
        np.subtract(self._cell, np.add.reduce(self._cell) / len(self._cell), out=self._cell)
        self.power = float(np.add.reduce(np.square(self._cell, out=self._cell)) / len(self._cell))
        if not self._silence_samples:
            return changes
        if self.power < self._power:
            self._loud_since = None
            self._quiet(start, end)
        else:
            changes += self._loud(start, end)
        if self._unreported and end - self._silences[-1].known >= self._lag:
            changes = self.report_silence() + changes
        return changes

    def _quiet(self, start: int, end: int) -> None:
        if self._quiet_since is None:
            self._quiet_since = start
        if not self._silent and end - self._quiet_since >= self._silence_samples:
            self._silent = self._unreported = True
            self._silences.append(Silence(self._quiet_since, end, None))

    def _loud(self, start: int, end: int) -> list[LevelChange]:
        if self._loud_since is None:
            self._loud_since = start
        if end - self._loud_since < self._sound_samples:
            return []
        self._quiet_since = None
        if not self._silent:
            return []
        return [*self.report_silence(), self._end_silence(self._loud_since, end)]

    def _end_silence(self, at: int, decided: int) -> LevelChange:
        began, known, _ = self._silences[-1]
        self._silences[-1] = Silence(began, known, decided)
        self._silent, self._quiet_since = False, None
        return LevelChange(LevelKind.SOUND, at, decided, began)


class _ClippingCounter:
    """Counts clipped samples and reports them at most once per interval.

    Args:
        interval: samples; 0 for never.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.run = 0
        """Samples at full scale up to the end of the last cell."""
        self._samples = self._at = 0
        self._next = 0

    def count(self, cell: np.ndarray, start: int) -> list[LevelChange]:
        """Counts the clipped samples of a cell that starts at sample `start`."""
        if self._interval and max(cell.max(), -cell.min()) >= FULL_SCALE:
            self._count_runs(np.abs(cell) >= FULL_SCALE, start)
        else:
            self.run = 0
        if not self._samples or start + len(cell) < self._next:
            return []
        self._next = start + len(cell) + self._interval
        return self.report(start + len(cell))

    def report(self, decided: int | None = None) -> list[LevelChange]:
        """Reports what was counted since the last report."""
        if not self._samples:
            return []
        change = LevelChange(
            LevelKind.CLIPPED, self._at, decided or self._at, samples=self._samples
        )
        self._samples = 0
        return [change]

    def _count_runs(self, full: np.ndarray, start: int) -> None:
        edges = np.flatnonzero(np.diff(full, prepend=False, append=False)).reshape(-1, 2)
        carried, self.run = self.run, 0
        for first, end in edges.tolist():
            before = carried if first == 0 else 0
            length = before + end - first
            if length >= FLAT_SAMPLES:
                if not self._samples:
                    self._at = start + first - before
                self._samples += length - (before if before >= FLAT_SAMPLES else 0)
            if end == len(full):
                self.run = length
