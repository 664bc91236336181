"""What decides the value of a frame, and its numbers checked."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from streamtag.errors import ConfigError


class FrameKind(StrEnum):
    """What a frame is."""

    LOGMEL = "logmel"
    RAW = "raw"
    """One frame is one sample times `gain`; only `sample_rate` and `gain` matter then."""


class WindowFunction(StrEnum):
    """Analysis window."""

    HANN = "hann"
    """Periodic: denominator N."""
    HANN_SYMMETRIC = "hann_symmetric"
    """Denominator N - 1."""


class Spectrum(StrEnum):
    """What stands in an FFT bin."""

    POWER = "power"
    MAGNITUDE = "magnitude"


class MelScale(StrEnum):
    """Spacing of the triangles."""

    SLANEY = "slaney"
    """Linear below 1 kHz, logarithmic above (Slaney, Auditory Toolbox 1998)."""
    HTK = "htk"
    """2595 log10(1 + f/700) (O'Shaughnessy 1987)."""
    ESSENTIA = "essentia"
    """SLANEY with the triangles' feet rounded as Essentia does: for the MTG-Jamendo files."""


class MelNorm(StrEnum):
    """Height of the triangles."""

    NONE = "none"
    """Peak 1."""
    SLANEY = "slaney"
    """Area 1 (in Hz): librosa's `norm="slaney"`, Essentia's `unit_tri`."""


class Order(StrEnum):
    """Whether the logarithm is of mels or of bins."""

    MEL_LOG = "mel_log"
    LOG_MEL = "log_mel"
    """Log of each bin, clip, weighting, and then the mel matrix over those (CP-JKU 2019)."""


class Weighting(StrEnum):
    """dB added to each logged bin, with LOG_MEL."""

    NONE = "none"
    A = "a"
    """IEC 61672-1 A-curve, floored at -80 dB."""


class Log(StrEnum):
    """The logarithm, of y = max(x, log_floor) + log_offset."""

    NONE = "none"
    """x itself."""
    LN = "ln"
    """ln(y)."""
    DB = "db"
    """log_multiplier · log10(y)."""
    LN1P = "ln1p"
    """ln(1 + log_gain · x)."""


class Framing(StrEnum):
    """Which samples frame k covers."""

    CAUSAL = "causal"
    """[k·hop, k·hop + n_fft)."""
    CENTERED = "centered"
    """[k·hop - n_fft/2, k·hop + n_fft/2)."""


class Padding(StrEnum):
    """What centred frames see outside the stream."""

    REFLECT = "reflect"
    """Mirrored samples, the end ones not repeated."""
    ZERO = "zero"


class Tail(StrEnum):
    """How many centred frames N samples give."""

    FLOOR = "floor"
    """1 + N//hop."""
    CEIL = "ceil"
    """1 + ceil(N/hop), as the MTG-Jamendo files have; needs padding with zeros."""


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """Everything that decides the value of a frame.

    Raises:
        ConfigError: a field is out of its range, or two of them contradict each other.
    """

    kind: FrameKind = FrameKind.LOGMEL
    sample_rate: int = 16000
    """Hz."""
    n_fft: int = 512
    """Samples of a frame: a power of two from 32 to 16384."""
    win_length: int = 0
    """Samples under the window, in the middle of the frame, zeros around; 0 means n_fft."""
    hop: int = 160
    """Samples between frames; may exceed n_fft."""
    window: WindowFunction = WindowFunction.HANN
    spectrum: Spectrum = Spectrum.POWER
    n_mels: int = 96
    """Mel bands, at most 4096; a band too narrow to hold a bin is 0 before the logarithm."""
    f_min: float = 0.0
    """Hz, left foot of the first triangle."""
    f_max: float = 0.0
    """Hz, right foot of the last one; 0 means half the sample rate."""
    mel_scale: MelScale = MelScale.SLANEY
    mel_norm: MelNorm = MelNorm.SLANEY
    order: Order = Order.MEL_LOG
    weighting: Weighting = Weighting.NONE
    log: Log = Log.LN
    log_multiplier: float = 10.0
    """Of DB: 10, or 20 as in the MTG-Jamendo files."""
    log_floor: float = 1e-10
    log_offset: float = 0.0
    log_gain: float = 10000.0
    """Of LN1P."""
    gain: float = 1.0
    """Factor on the samples: 32768 for a net that was trained on 16-bit integers."""
    top_db: float | None = None
    """With DB: each logged value (bin with LOG_MEL, else mel) is at least the largest one since the
    start minus this. Clipping at the whole clip's maximum takes two passes: `FrontEnd.peak`."""
    framing: Framing = Framing.CAUSAL
    padding: Padding = Padding.REFLECT
    """Of centred frames."""
    tail: Tail = Tail.FLOOR
    """Of centred frames."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field, getattr(self, field.name)))
        _check_numbers(self)
        _check_combinations(self)

    @property
    def width(self) -> int:
        """Values per frame."""
        return self.n_mels if self.kind is FrameKind.LOGMEL else 1

    @property
    def frame_hop(self) -> int:
        """Samples between frames: `hop`, or 1 for raw samples."""
        return self.hop if self.kind is FrameKind.LOGMEL else 1

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.frame_hop

    @property
    def delay(self) -> int:
        """Samples after a frame's position k·hop that are centred around it; 0 if causal."""
        centred = self.kind is FrameKind.LOGMEL and self.framing is Framing.CENTERED
        return self.n_fft // 2 if centred else 0

    def n_frames(self, n_samples: int) -> int:
        """Frames of a stream that was closed after `n_samples`."""
        if self.kind is FrameKind.RAW:
            return n_samples
        if self.framing is Framing.CAUSAL:
            return max(0, (n_samples - self.n_fft) // self.hop + 1)
        if n_samples == 0:
            return 0
        if self.tail is Tail.CEIL:
            return -(-n_samples // self.hop) + 1
        return n_samples // self.hop + 1

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Samples [start, end) that frames [first, last) cover, padding included."""
        start = first * self.frame_hop - self.delay
        if last <= first:
            return start, start
        size = self.n_fft if self.kind is FrameKind.LOGMEL else 1
        return start, (last - 1) * self.frame_hop - self.delay + size

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: str(value) if isinstance(value, StrEnum) else value for name, value in values}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "FeatureConfig":
        """Reads what `to_dict` wrote; missing keys take their defaults.

        Raises:
            ConfigError: an unknown key or a value out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(table) - set(known)):
            raise ConfigError(f"unknown key {unknown[0]!r:.60}; known here: {', '.join(known)}")
        return cls(**table)


def _typed(field: dataclasses.Field[Any], value: Any) -> Any:
    """`value` as the field's type: enumerations from their text, floats from integers."""
    kind = field.type
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(f"{field.name}: expected a number of 64 bits, got a longer one")
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if isinstance(value, str) and value in list(kind):
            return kind(value)
        expected = "one of " + ", ".join(kind)
    elif kind is int:
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            return int(value)
        expected = "an integer"
    else:
        if value is None and field.name == "top_db":
            return None
        number = isinstance(value, int | float | np.integer | np.floating)
        if number and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        expected = "a finite number"
    raise ConfigError(f"{field.name}: expected {expected}, got {value!r:.60}")


def _check_numbers(config: FeatureConfig) -> None:
    """Every number within its range."""
    nyquist = config.sample_rate / 2
    high = config.f_max or nyquist
    power_of_two = config.n_fft > 0 and config.n_fft & (config.n_fft - 1) == 0
    rules = (
        ("sample_rate", 1 <= config.sample_rate < 2**31, "[1, 2**31)"),
        ("n_fft", power_of_two and 32 <= config.n_fft <= 16384, "a power of two, 32 to 16384"),
        ("win_length", 0 <= config.win_length <= config.n_fft, f"[0, n_fft = {config.n_fft}]"),
        ("hop", 1 <= config.hop < 2**31, "[1, 2**31)"),
        ("n_mels", 1 <= config.n_mels <= 4096, "[1, 4096]"),
        ("f_max", 0 <= config.f_max <= nyquist, f"[0, sample_rate / 2 = {nyquist:g}]"),
        ("f_min", 0 <= config.f_min < high, f"[0, f_max = {high:g})"),
        ("log_floor", 0 <= config.log_floor <= 1e30, "[0, 1e30]"),
        ("log_offset", 0 <= config.log_offset <= 1e30, "[0, 1e30]"),
        ("log_gain", 0 < config.log_gain <= 1e18, "(0, 1e18]"),
        ("gain", 1e-9 <= config.gain <= 1e9, "[1e-9, 1e9]"),
        ("top_db", config.top_db is None or config.top_db > 0, "None or a positive number"),
    )
    for name, fine, expected in rules:
        if not fine:
            raise ConfigError(f"{name}: expected {expected}, got {getattr(config, name)!r}")


def _check_combinations(config: FeatureConfig) -> None:
    """No two options that contradict each other."""
    smallest = config.log_floor + config.log_offset
    if config.log in (Log.LN, Log.DB) and smallest < 1e-37:
        raise ConfigError(f"log_floor + log_offset: expected at least 1e-37, got {smallest!r}")
    if config.top_db is not None and config.log is not Log.DB:
        raise ConfigError(f"top_db: expected None unless log is 'db', got {config.top_db!r}")
    decibel_bins = config.order is Order.LOG_MEL and config.log is Log.DB
    if config.weighting is Weighting.A and not decibel_bins:
        raise ConfigError(
            "weighting: expected 'none' unless order is 'log_mel' and log is 'db', "
            f"got 'a' with order {config.order!s} and log {config.log!s}"
        )
    zero_centred = config.framing is Framing.CENTERED and config.padding is Padding.ZERO
    if config.tail is Tail.CEIL and not zero_centred:
        raise ConfigError(
            "tail: expected 'floor' unless framing is 'centered' and padding is 'zero', "
            f"got 'ceil' with framing {config.framing!s} and padding {config.padding!s}"
        )
