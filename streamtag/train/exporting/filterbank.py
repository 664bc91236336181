"""The numbers of the front end's filters once more, for those who build it elsewhere.

The front end itself has them in C++ (csrc/mel.cpp); a test compares the two.
"""

import math

import numpy as np

from streamtag.audio.feature_config import FeatureConfig, MelNorm, MelScale

# Slaney, Auditory Toolbox 1998: linear below 1 kHz, 27 steps per factor of 6.4 above.
HZ_PER_MEL = 200.0 / 3.0
BREAK_HZ = 1000.0
BREAK_MEL = BREAK_HZ / HZ_PER_MEL
LOG_STEP = math.log(6.4) / 27.0


def mel_matrix(config: FeatureConfig) -> np.ndarray:
    """Weights of the triangles, (n_fft // 2 + 1, n_mels) float64."""
    hz = bin_hertz(config)[:, None]
    edges = mel_edges(config)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    matrix = np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre))
    matrix = np.maximum(matrix, 0.0)
    if config.mel_norm is MelNorm.SLANEY:
        matrix *= 2.0 / (right - left)
    out: np.ndarray = matrix
    return out


def mel_edges(config: FeatureConfig) -> np.ndarray:
    """Feet and centres of the triangles in Hz, (n_mels + 2,) float64."""
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
    if scale is MelScale.HTK:
        return 2595.0 * math.log10(1.0 + hz / 700.0)  # O'Shaughnessy 1987
    return hz / HZ_PER_MEL if hz < BREAK_HZ else BREAK_MEL + math.log(hz / BREAK_HZ) / LOG_STEP


def _mel_to_hertz(mel: float, scale: MelScale) -> float:
    if scale is MelScale.HTK:
        return float(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    return (
        mel * HZ_PER_MEL if mel < BREAK_MEL else BREAK_HZ * math.exp(LOG_STEP * (mel - BREAK_MEL))
    )
