"""The front end once more, in float64 NumPy and without a thought for speed.

Written from the papers' formulas, sharing nothing with the C++ but `FeatureConfig`; the tests
compare the two.
"""

import numpy as np

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


def frames(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """(n_frames, width) float64."""
    x = samples.astype(np.float64) * config.gain
    if config.kind is FrameKind.RAW:
        return x[:, None]
    if config.preemphasis:
        x = x[1:] - config.preemphasis * x[:-1]
    cut = framed(x, config)
    bins = np.abs(np.fft.rfft(cut * window(config), axis=1))
    if config.spectrum is Spectrum.POWER:
        bins **= 2
    matrix = mel_matrix(config)
    if config.order is Order.MEL_LOG:
        return clipped(logged(bins @ matrix.T, config), config)
    weighting = a_curve(config) if config.weighting is Weighting.A else 0.0
    return (clipped(logged(bins, config), config) + weighting) @ matrix.T


def framed(x: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """(n_frames, n_fft) of the padded signal."""
    count = config.n_frames(len(x) + 1 if config.preemphasis else len(x)) if len(x) else 0
    if config.framing is Framing.CENTERED and len(x):
        half = config.n_fft // 2
        if config.padding is Padding.REFLECT:
            x = np.pad(x, half, mode="reflect")
        else:
            right = half + (config.hop if config.tail is Tail.CEIL else 0)
            x = np.pad(x, (half, right))
    if count == 0:
        return np.empty((0, config.n_fft))
    starts = np.arange(count) * config.hop
    return x[starts[:, None] + np.arange(config.n_fft)]


def window(config: FeatureConfig) -> np.ndarray:
    """(n_fft,) Hann window in the middle of zeros."""
    length = config.win_length or config.n_fft
    if config.window is WindowFunction.HANN_SYMMETRIC:
        hann = np.hanning(length)
    else:
        hann = np.sin(np.pi * np.arange(length) / length) ** 2 if length > 1 else np.ones(1)
    left = (config.n_fft - length) // 2
    return np.pad(hann, (left, config.n_fft - length - left))


def mel_edges(config: FeatureConfig) -> np.ndarray:
    """(n_mels + 2,) feet and centres of the triangles in Hz."""
    high = config.f_max or config.sample_rate / 2
    if config.mel_scale in (MelScale.HTK, MelScale.KALDI):
        mels = 2595 * np.log10(1 + np.array([config.f_min, high]) / 700)
        return 700 * (10 ** (np.linspace(*mels, config.n_mels + 2) / 2595) - 1)
    grid = np.array([config.f_min, high])
    step = np.log(6.4) / 27
    mels = np.where(grid < 1000, grid * 3 / 200, 15 + np.log(np.maximum(grid, 1) / 1000) / step)
    points = np.linspace(*mels, config.n_mels + 2)
    if config.mel_scale is MelScale.ESSENTIA:  # adds up float32 steps
        steps = np.full(config.n_mels + 2, points[1] - points[0], np.float32)
        steps[0] = points[0]
        points = np.cumsum(steps, dtype=np.float32).astype(np.float64)
    return np.where(points < 15, points * 200 / 3, 1000 * np.exp(step * (points - 15)))


def mel_matrix(config: FeatureConfig) -> np.ndarray:
    """(n_mels, bins)."""
    hz = np.arange(config.n_fft // 2 + 1) * config.sample_rate / config.n_fft
    edges = mel_edges(config)
    if config.mel_scale is MelScale.KALDI:  # Povey et al. 2011: straight sides in mel
        hz, edges = (1127 * np.log(1 + points / 700) for points in (hz, edges))
    rows = [np.interp(hz, edges[m : m + 3], [0, 1, 0]) for m in range(config.n_mels)]
    matrix = np.array(rows)
    if config.mel_norm is MelNorm.SLANEY:
        matrix *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return matrix


def a_curve(config: FeatureConfig) -> np.ndarray:
    """IEC 61672-1 A-weighting per bin in dB, floored at -80."""
    f = np.arange(config.n_fft // 2 + 1) * config.sample_rate / config.n_fft
    response = 12194.217**2 * f**4 / (f**2 + 20.598997**2) / (f**2 + 12194.217**2)
    response /= np.sqrt((f**2 + 107.65265**2) * (f**2 + 737.86223**2))
    return np.maximum(-80, 20 * np.log10(np.maximum(response, 1e-30)) + 2.0)


def logged(x: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """The configured logarithm."""
    y = np.maximum(x, config.log_floor) + config.log_offset
    match config.log:
        case Log.LN:
            return np.log(y)
        case Log.DB:
            return config.log_multiplier * np.log10(y)
        case Log.LN1P:
            return np.log1p(config.log_gain * x)
        case _:
            return x


def clipped(values: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Each value at least the largest one so far minus top_db."""
    if config.top_db is None or len(values) == 0:
        return values
    peak = np.maximum.accumulate(values.max(axis=1, keepdims=True))
    return np.maximum(values, peak - config.top_db)
