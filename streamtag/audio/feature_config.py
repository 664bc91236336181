"""The configuration of the front end: everything that decides the value of a frame."""

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from streamtag.errors import ConfigError, raises


class FrameKind(StrEnum):
    """The kind of a frame."""

    LOGMEL = "logmel"
    RAW = "raw"
    """One frame is one sample times `gain`. The other fields but `sample_rate` have no effect."""


class WindowFunction(StrEnum):
    """Analysis window."""

    HANN = "hann"
    """Periodic: denominator N."""
    HANN_SYMMETRIC = "hann_symmetric"
    """Denominator N - 1."""


class Spectrum(StrEnum):
    """The value of an FFT bin."""

    POWER = "power"
    MAGNITUDE = "magnitude"


class MelScale(StrEnum):
    """Spacing of the mel bands, which are triangles."""

    SLANEY = "slaney"
    """Linear below 1 kHz, logarithmic above (Slaney, Auditory Toolbox 1998)."""
    HTK = "htk"
    """2595 log10(1 + f/700) (O'Shaughnessy 1987)."""
    ESSENTIA = "essentia"
    """SLANEY with the triangles' corners rounded as in Essentia, for the MTG-Jamendo files."""
    KALDI = "kaldi"
    """HTK with triangles whose sides are straight in mel instead of Hz (Povey et al. 2011)."""


class MelNorm(StrEnum):
    """Height of the triangles."""

    NONE = "none"
    """Peak 1."""
    SLANEY = "slaney"
    """Area 1 (in Hz): librosa's `norm="slaney"`, Essentia's `unit_tri`."""


class Order(StrEnum):
    """Whether the logarithm is taken of mels or of bins."""

    MEL_LOG = "mel_log"
    LOG_MEL = "log_mel"
    """The logarithm of each bin, then clipping, weighting and the mel matrix (CP-JKU 2019)."""


class Weighting(StrEnum):
    """Decibels that are added to each logged bin, with LOG_MEL."""

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
    """The samples that frame k covers."""

    CAUSAL = "causal"
    """[k·hop, k·hop + n_fft)."""
    CENTERED = "centered"
    """[k·hop - n_fft/2, k·hop + n_fft/2)."""


class Padding(StrEnum):
    """The samples outside the stream that centred frames cover."""

    REFLECT = "reflect"
    """The stream mirrored at its first and last sample, which are not repeated."""
    ZERO = "zero"


class Tail(StrEnum):
    """The number of centred frames of N samples."""

    FLOOR = "floor"
    """1 + N//hop."""
    CEIL = "ceil"
    """1 + ceil(N/hop), as the MTG-Jamendo files have; needs padding with zeros."""


def _python_int(value: Any) -> Any:
    return int(value) if isinstance(value, np.integer) else value


def _power_of_two(value: int) -> int:
    if value & (value - 1) or not 32 <= value <= 16384:
        raise ValueError(f"expected a power of two, 32 to 16384, got {value}")
    return value


Integer = Annotated[int, Field(strict=True), BeforeValidator(_python_int)]
Count = Annotated[Integer, Field(ge=1, lt=2**31)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
LogTerm = Annotated[Number, Field(ge=0, le=1e30)]


@raises(ConfigError)
@dataclass(
    frozen=True,
    slots=True,
    config=ConfigDict(extra="forbid"),
)
class FeatureConfig:
    """Everything that decides the value of a frame.

    Raises:
        ConfigError: a field is out of its range, or two of them contradict each other.
    """

    kind: FrameKind = FrameKind.LOGMEL
    sample_rate: Count = 16000
    """Hz."""
    n_fft: Annotated[Integer, AfterValidator(_power_of_two)] = 512
    """Samples of a frame: a power of two from 32 to 16384."""
    win_length: Annotated[Integer, Field(ge=0)] = 0
    """Length of the window, which is in the middle of the frame; 0 means n_fft."""
    hop: Count = 160
    """Samples between frames; may exceed n_fft."""
    window: WindowFunction = WindowFunction.HANN
    spectrum: Spectrum = Spectrum.POWER
    n_mels: Annotated[Integer, Field(ge=1, le=4096)] = 96
    """Mel bands; a band too narrow to hold a bin is 0 before the logarithm."""
    f_min: Number = 0.0
    """Frequency in Hz where the first mel band begins."""
    f_max: Number = 0.0
    """Frequency in Hz where the last mel band ends; 0 means half the sample rate."""
    mel_scale: MelScale = MelScale.SLANEY
    mel_norm: MelNorm = MelNorm.SLANEY
    order: Order = Order.MEL_LOG
    weighting: Weighting = Weighting.NONE
    log: Log = Log.LN
    log_multiplier: Number = 10.0
    """Factor of DB: 10, or 20 as in the MTG-Jamendo files."""
    log_floor: LogTerm = 1e-10
    log_offset: LogTerm = 0.0
    log_gain: Annotated[Positive, Field(le=1e18)] = 10000.0
    """Factor inside the logarithm of LN1P."""
    gain: Annotated[Number, Field(ge=1e-9, le=1e9)] = 1.0
    """Factor on the samples: 32768 for a net that was trained on 16-bit integers."""
    preemphasis: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """Factor a of y[n] = x[n + 1] - a·x[n], the stream that is framed then; it has one sample less.
    0 frames the samples x themselves."""
    top_db: Positive | None = None
    """With DB: logged values (bins with LOG_MEL, else mels) are at least the largest one since the
    start of the stream minus this. `FrontEnd.peak` clips at the maximum of a whole recording."""
    framing: Framing = Framing.CAUSAL
    padding: Padding = Padding.REFLECT
    """Padding of centred frames."""
    tail: Tail = Tail.FLOOR
    """Number of centred frames."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for fault in _contradictions(self):
            raise ValueError(fault)
        return self

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
        """Samples that a centred frame covers after its position k·hop; 0 for a causal frame."""
        centred = self.kind is FrameKind.LOGMEL and self.framing is Framing.CENTERED
        return self.n_fft // 2 if centred else 0

    @property
    def _lookahead(self) -> int:
        """Samples that pre-emphasis needs after each one."""
        return 1 if self.preemphasis and self.kind is FrameKind.LOGMEL else 0

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a stream that is closed after `n_samples`."""
        if self.kind is FrameKind.RAW:
            return n_samples
        n_samples = max(0, n_samples - self._lookahead)
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
        size = self.n_fft + self._lookahead if self.kind is FrameKind.LOGMEL else 1
        return start, (last - 1) * self.frame_hop - self.delay + size

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _contradictions(config: FeatureConfig) -> Iterator[str]:
    """Descriptions of the fields that contradict another one."""
    nyquist = config.sample_rate / 2
    high = config.f_max or nyquist
    smallest = config.log_floor + config.log_offset
    decibel_bins = config.order is Order.LOG_MEL and config.log is Log.DB
    zero_centred = config.framing is Framing.CENTERED and config.padding is Padding.ZERO
    if config.win_length > config.n_fft:
        yield f"win_length: expected [0, n_fft = {config.n_fft}], got {config.win_length}"
    if not 0 <= config.f_max <= nyquist:
        yield f"f_max: expected [0, sample_rate / 2 = {nyquist:g}], got {config.f_max!r}"
    if not 0 <= config.f_min < high:
        yield f"f_min: expected [0, f_max = {high:g}), got {config.f_min!r}"
    if config.log in (Log.LN, Log.DB) and smallest < 1e-37:
        yield f"log_floor + log_offset: expected at least 1e-37, got {smallest!r}"
    if config.top_db is not None and config.log is not Log.DB:
        yield f"top_db: expected None unless log is 'db', got {config.top_db!r}"
    if config.weighting is Weighting.A and not decibel_bins:
        yield (
            "weighting: expected 'none' unless order is 'log_mel' and log is 'db', "
            f"got 'a' with order {config.order!s} and log {config.log!s}"
        )
    if config.mel_scale is MelScale.KALDI and config.mel_norm is not MelNorm.NONE:
        yield (
            "mel_norm: expected 'none' with mel_scale 'kaldi', whose triangles have the peak 1, "
            f"got {config.mel_norm!s}"
        )
    if config.tail is Tail.CEIL and not zero_centred:
        yield (
            "tail: expected 'floor' unless framing is 'centered' and padding is 'zero', "
            f"got 'ceil' with framing {config.framing!s} and padding {config.padding!s}"
        )
