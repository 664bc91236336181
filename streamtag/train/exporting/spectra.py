"""The front end as a scripted torch module, for use without streamtag.

torchaudio's transforms (Spectrogram, MelScale, AmplitudeToDB, Resample) are used where they can
express it, our own small layers elsewhere. The daemon and the trainer never use this. Their frames
come from `streamtag.audio.front_end`, which these equal up to rounding.
"""

import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from streamtag.audio.block import Resampler
from streamtag.audio.feature_config import (
    FeatureConfig,
    FrameKind,
    Framing,
    Log,
    MelNorm,
    MelScale,
    Order,
    Padding,
    Spectrum,
    Tail,
    Weighting,
    WindowFunction,
)
from streamtag.errors import BundleError
from streamtag.train.exporting.torchaudio_loader import torchaudio

ZERO_CROSSINGS = 120
"""Length of a resampling filter to either side; beyond it the filter of soxr is below 1e-7."""
EDGE_SAMPLES = 128
"""The most samples at the beginning that differ from the steady state of a resampler."""
MOST_PHASES = 2**20
"""Largest number of phases of a resampling filter; 44100 to 48000 Hz has 160 · 147."""


class FrontEndModule(nn.Module):
    """Samples (batch, n) float32 to frames (batch, n_frames, width) float32.

    Equals `front_end.frames_of`, except for a recording shorter than one causal frame, which is
    padded with zeros as in the engine. Arithmetic is in double precision, because a
    single-precision spectrum loses quiet mels in rounding.

    Args:
        config: the front end.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.raw, self.width, self.gain = config.kind is FrameKind.RAW, config.width, config.gain
        self.preemphasis = 0.0 if self.raw else float(config.preemphasis)
        self.padded = FramePadding(config)
        self.layers = nn.Sequential() if self.raw else _layers(config)

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, n) to (batch, n_frames, width)."""
        if self.n_frames(samples.shape[1]) == 0:
            return samples.new_zeros((samples.shape[0], 0, self.width))
        if self.raw:
            return (samples * self.gain).unsqueeze(2)
        x = samples.double() * self.gain
        if self.preemphasis > 0:
            x = x[:, 1:] - self.preemphasis * x[:, :-1]
        values: Tensor = self.layers(self.padded(x))
        return values.transpose(1, 2).float()

    def n_frames(self, n: int) -> int:
        """Number of frames of `n` samples."""
        if self.preemphasis > 0 and n > 0:
            n -= 1
        return n if self.raw or n == 0 else self.padded.n_frames(n)


class FramePadding(nn.Module):
    """The samples that all frames cover, padded at both ends.

    torchaudio's own centring supports neither the CEIL tail nor reflections of short recordings.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.n_fft, self.hop, self.delay = config.n_fft, config.hop, config.delay
        self.centred = config.framing is Framing.CENTERED
        self.ceil = config.tail is Tail.CEIL
        self.mirrored = self.centred and config.padding is Padding.REFLECT

    def n_frames(self, n: int) -> int:
        """Number of frames of `n` samples, at least one."""
        if not self.centred:
            return max(0, (n - self.n_fft) // self.hop) + 1
        return (n + self.hop - 1 if self.ceil else n) // self.hop + 1

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, n) to (batch, (n_frames - 1) · hop + n_fft)."""
        n = samples.shape[1]
        total = (self.n_frames(n) - 1) * self.hop + self.n_fft
        index = torch.arange(total, device=samples.device) - self.delay
        if self.mirrored:
            period = max(2 * (n - 1), 1)
            index = index.abs() % period
            return samples.index_select(1, torch.minimum(index, period - index))
        inside = (index >= 0) & (index < n)
        return samples.index_select(1, index.clamp(0, n - 1)) * inside


class Logarithm(nn.Module):
    """ln(max(x, floor) + offset) · scale."""

    def __init__(self, floor: float, offset: float, scale: float) -> None:
        super().__init__()
        self.floor, self.offset, self.scale = floor, offset, scale

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return torch.log(x.clamp(min=self.floor) + self.offset) * self.scale


class Log1p(nn.Module):
    """ln(1 + gain · x)."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return torch.log1p(x * self.gain)


class RunningTop(nn.Module):
    """Each value is at least the largest one so far minus `top_db`.

    The limit of AmplitudeToDB refers to the maximum of the whole recording, which a stream does not
    know.
    """

    def __init__(self, top_db: float) -> None:
        super().__init__()
        self.top_db = top_db

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, n_frames)."""
        peak = torch.cummax(x.amax(dim=1, keepdim=True), dim=2)[0]
        return torch.maximum(x, peak - self.top_db)


class AddPerRow(nn.Module):
    """Adds a number to each row."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows: Tensor
        self.register_buffer("rows", rows[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, n_frames)."""
        return x + self.rows


class ResampleModule(nn.Module):
    """Resampling: torchaudio's Resample with the filter of our own `audio.Resampler`.

    Args:
        from_rate: Hz of the input.
        to_rate: Hz of the output.

    Raises:
        BundleError: the ratio of the rates needs too many filters.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        super().__init__()
        self.from_rate, self.to_rate = from_rate, to_rate
        common = math.gcd(from_rate, to_rate)
        self.step = from_rate // common
        if self.step * (to_rate // common) > MOST_PHASES:
            raise BundleError(
                f"rate: expected one in a simple ratio to the model's {to_rate} Hz, such as 16000, "
                f"22050, 32000, 44100 or 48000, got {from_rate} Hz; resample before"
            )
        self.layer = torchaudio().transforms.Resample(
            from_rate, to_rate, lowpass_filter_width=ZERO_CROSSINGS
        )
        reach: int = self.layer.width
        self.layer.kernel = torch.from_numpy(_soxr_kernel(from_rate, to_rate, reach))[:, None]
        # soxr filters in stages, each of which begins at 0: its first outputs differ.
        firsts = torch.eye(reach, 4 * reach)
        responses = np.stack([_soxr(row, from_rate, to_rate) for row in firsts.numpy()])
        self.start: Tensor
        self.register_buffer("start", torch.zeros(0, 0))
        special = torch.from_numpy(responses) - self.forward(firsts)
        self.start = special[:, : min(EDGE_SAMPLES, special.shape[1] // 2)].clone()

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, n) to (batch, n · to_rate / from_rate, rounded)."""
        n = samples.shape[1]
        wanted = (2 * n * self.to_rate + self.from_rate) // (2 * self.from_rate)
        longer = nn.functional.pad(samples, (0, self.step))
        resampled: Tensor = self.layer(longer)[:, :wanted]
        known, special = min(n, self.start.shape[0]), min(wanted, self.start.shape[1])
        first = samples[:, :known] @ self.start[:known, :special]
        return torch.cat([resampled[:, :special] + first, resampled[:, special:]], dim=1)


def _soxr_kernel(from_rate: int, to_rate: int, reach: int) -> np.ndarray:
    """The impulse responses of `audio.Resampler` in the layout of torchaudio's Resample.

    Args:
        from_rate: Hz.
        to_rate: Hz.
        reach: samples at `from_rate` that the filter extends to either side.

    Returns:
        (to, 2 · reach + from) float32, the rates without their common divisor: row j is the filter
        for the j-th of `to` samples that come out for `from` samples.
    """
    common = math.gcd(from_rate, to_rate)
    step, made = from_rate // common, to_rate // common
    length = 2 * reach + step
    apart = -(-2 * length // step) * step  # one impulse is over before the next one
    impulses = np.zeros((step + 2) * (apart + 1), np.float32)
    positions = apart + np.arange(step) * (apart + 1)  # each in another phase
    impulses[positions] = 1.0
    answers = _soxr(impulses, from_rate, to_rate)
    kernel = np.zeros((made, length), np.float32)
    for phase, position in enumerate(positions.tolist()):
        for k in range((phase + reach) % step, length, step):
            block = (position + reach - k) // step
            kernel[:, k] = answers[block * made : (block + 1) * made]
    return kernel


def _soxr(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """A whole recording after `audio.Resampler`."""
    resampler = Resampler(from_rate, to_rate)
    return np.concatenate([resampler.push(samples), resampler.close()])


def _layers(config: FeatureConfig) -> nn.Sequential:
    """From (batch, samples) to (batch, width, n_frames)."""
    spectrum, mels = _spectrum(config), _mels(config)
    logged = [_logarithm(config)] if config.log is not Log.NONE else []
    if config.top_db is not None:
        logged.append(RunningTop(config.top_db))
    if config.order is Order.MEL_LOG:
        return nn.Sequential(spectrum, mels, *logged).double()
    if config.weighting is Weighting.A:
        logged.append(AddPerRow(torch.from_numpy(a_weighting(config))))
    return nn.Sequential(spectrum, *logged, mels).double()


def _spectrum(config: FeatureConfig) -> nn.Module:
    layer: nn.Module = torchaudio().transforms.Spectrogram(
        n_fft=config.n_fft,
        win_length=config.win_length or config.n_fft,
        hop_length=config.hop,
        window_fn=torch.hann_window,
        wkwargs={"periodic": config.window is WindowFunction.HANN, "dtype": torch.float64},
        power=2.0 if config.spectrum is Spectrum.POWER else 1.0,
        center=False,
    )
    return layer


def _mels(config: FeatureConfig) -> nn.Module:
    """MelScale with our own matrix: it has neither Essentia's triangles nor double precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bands without a bin are 0 in both
        layer: nn.Module = torchaudio().transforms.MelScale(
            config.n_mels, config.sample_rate, n_stft=config.n_fft // 2 + 1
        )
    layer.fb = torch.from_numpy(mel_matrix(config))
    return layer


def _logarithm(config: FeatureConfig) -> nn.Module:
    if config.log is Log.LN1P:
        return Log1p(config.log_gain)
    if config.log is Log.LN:
        return Logarithm(config.log_floor, config.log_offset, 1.0)
    if config.log_offset:
        scale = config.log_multiplier / math.log(10)
        return Logarithm(config.log_floor, config.log_offset, scale)
    layer = torchaudio().transforms.AmplitudeToDB()
    layer.multiplier, layer.amin, layer.db_multiplier = config.log_multiplier, config.log_floor, 0.0
    out: nn.Module = layer
    return out


# Slaney, Auditory Toolbox 1998: linear below 1 kHz, 27 steps per factor of 6.4 above.
HZ_PER_MEL = 200.0 / 3.0
BREAK_HZ = 1000.0
BREAK_MEL = BREAK_HZ / HZ_PER_MEL
LOG_STEP = math.log(6.4) / 27.0


def mel_matrix(config: FeatureConfig) -> np.ndarray:
    """Weights of the triangles, (n_fft // 2 + 1, n_mels) float64.

    The front end has the same numbers in C++ (csrc/mel.cpp); a test compares the two.
    """
    hz = bin_hertz(config)[:, None]  # in mel for KALDI
    if config.mel_scale is MelScale.KALDI:
        hz = 2595.0 * np.log10(1.0 + hz / 700.0)
    edges = mel_edges(config)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    matrix = np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre))
    matrix = np.maximum(matrix, 0.0)
    if config.mel_norm is MelNorm.SLANEY:
        matrix *= 2.0 / (right - left)
    out: np.ndarray = matrix
    return out


def mel_edges(config: FeatureConfig) -> np.ndarray:
    """Feet and centres of the triangles in Hz, for KALDI in mel, (n_mels + 2,) float64."""
    scale = config.mel_scale
    low = _hertz_to_mel(config.f_min, scale)
    high = _hertz_to_mel(config.f_max or config.sample_rate / 2, scale)
    step = (high - low) / (config.n_mels + 1)
    mels: np.ndarray
    if scale is MelScale.ESSENTIA:  # adds up single-precision steps
        steps = np.full(config.n_mels + 2, step, np.float32)
        steps[0] = low
        mels = np.cumsum(steps, dtype=np.float32).astype(np.float64)
    else:
        mels = low + step * np.arange(config.n_mels + 2)
    if scale is MelScale.KALDI:
        return mels
    return np.array([_mel_to_hertz(float(mel), scale) for mel in mels])


def a_weighting(config: FeatureConfig) -> np.ndarray:
    """A-curve of IEC 61672-1 in dB per FFT bin, floored at -80, (n_fft // 2 + 1,) float64."""
    square = bin_hertz(config) ** 2
    poles = np.array([12194.217, 20.598997, 107.65265, 737.86223]) ** 2  # Hz²
    response = poles[0] * square**2 / ((square + poles[1]) * (square + poles[0]))
    response /= np.sqrt((square + poles[2]) * (square + poles[3]))
    out: np.ndarray = np.maximum(-80.0, 2.0 + 20.0 * np.log10(np.maximum(response, 1e-30)))
    return out


def bin_hertz(config: FeatureConfig) -> np.ndarray:
    """Frequencies of the FFT bins in Hz, (n_fft // 2 + 1,) float64."""
    out: np.ndarray = np.arange(config.n_fft // 2 + 1) * (config.sample_rate / config.n_fft)
    return out


def _hertz_to_mel(hz: float, scale: MelScale) -> float:
    if scale in (MelScale.HTK, MelScale.KALDI):
        return 2595.0 * math.log10(1.0 + hz / 700.0)  # O'Shaughnessy 1987
    return hz / HZ_PER_MEL if hz < BREAK_HZ else BREAK_MEL + math.log(hz / BREAK_HZ) / LOG_STEP


def _mel_to_hertz(mel: float, scale: MelScale) -> float:
    if scale is MelScale.HTK:
        return float(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    return (
        mel * HZ_PER_MEL if mel < BREAK_MEL else BREAK_HZ * math.exp(LOG_STEP * (mel - BREAK_MEL))
    )
