"""The level of a stream: silence, the end of a silence, clipping.

The level is measured in cells of a tenth of a second, counted from where the audio started. A cell
is measured when it is complete. So the same audio gives the same changes, to the sample, in blocks
of any size.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from streamtag import _core
from streamtag.errors import ConfigError

CELLS_PER_SECOND = 10
"""Number of measurements of level and channels per second."""
READING_CELLS = 5
"""Number of cells in one reading for displays: half a second."""
LEAST_DBFS = -120.0
"""A level or loudness below this is given as this."""
LOUDNESS_OFFSET = -0.691 + 10 * math.log10(2)
"""Loudness in LUFS of a K-weighted mean square of 1 (BS.1770-4, equation 2), for two channels that
are both the mono mix."""
LAG_SAMPLES, LAG_SECONDS = 2400, 0.2
"""A silence is reported after so much more audio (the longer of both). Every window that ended
before it has come out of the resampler by then."""


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """What counts as silence, and how often clipping is reported.

    Raises:
        ConfigError: a number is out of its range.
    """

    threshold_dbfs: float = -60.0
    """A level below this is silence, in dB of full scale (root mean square without DC)."""
    silence_seconds: float = 5.0
    """How long the level must stay below before it is a silence; 0 turns silences off."""
    sound_seconds: float = 0.2
    """How long the level must stay above to end a silence, so that a click does not end it."""
    clipping_seconds: float = 60.0
    """Least time between two reports of clipping; 0 turns them off."""
    channels_seconds: float = 0.0
    """How long a channel must be silent, or both equal, to be reported; 0 turns this off."""
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


class LevelMeter(_core.LevelMeter):
    """The level of one stream; the arithmetic is in C++ (`csrc/level.cpp`).

    Silence is known (`silence_at` finds it) as soon as it has lasted. It is reported a little
    later, when no window that ended before can come any more.

    Args:
        rate: Hz.
        start: index of the first sample.
        settings: what counts as silence and clipping.
    """

    def __init__(self, rate: int, start: int, settings: LevelSettings) -> None:
        lag = max(LAG_SAMPLES, math.ceil(LAG_SECONDS * rate))
        super().__init__(
            rate=rate,
            cell=rate // CELLS_PER_SECOND,
            power=10 ** (settings.threshold_dbfs / 10),
            lag=lag,
            quiet=math.ceil(settings.silence_seconds * rate),
            loud=max(lag, math.ceil(settings.sound_seconds * rate)),
            clipping_interval=math.ceil(settings.clipping_seconds * rate),
            start=start,
        )
        self._weighted = False

    def measure(self, wanted: bool, loudness: bool) -> None:
        """Whether there are readings from now on, and with loudness."""
        self._weighted = loudness
        self.set_readings(READING_CELLS if wanted else 0, loudness)

    def lufs_of(self, weighted: float) -> float | None:
        """The loudness of a K-weighted mean square; None if it was not wanted."""
        return _db(weighted, LOUDNESS_OFFSET) if self._weighted else None


class LevelReading(NamedTuple):
    """The level of half a second, for displays."""

    end: int
    """One past its last sample."""
    peak_dbfs: float
    """The largest sample, in dB of full scale."""
    rms_dbfs: float
    """Root mean square without DC, in dB of full scale: that of a full-scale sine is -3."""
    lufs: float | None
    """Momentary loudness by EBU R 128, of the last 400 ms of it. None if it is not measured."""


def take_readings(meters: Sequence[LevelMeter]) -> list[tuple[int, LevelReading]]:
    """What the meters have read since the last call, each with the index of its meter."""
    return [
        (i, LevelReading(end, _db(peak * peak), _db(mean_square), meters[i].lufs_of(weighted)))
        for i, end, mean_square, peak, weighted in _core.take_readings(meters)
    ]


def _db(power: float, offset: float = 0.0) -> float:
    """A mean square in dB, to the tenth."""
    return max(LEAST_DBFS, round(10 * math.log10(power) + offset, 1)) if power > 0 else LEAST_DBFS


def level_changes(found: Iterable[tuple[str, int, int, int, int]]) -> list[LevelChange]:
    """Changes of level as C++ returns them."""
    return [LevelChange(LevelKind(kind), *numbers) for kind, *numbers in found]
