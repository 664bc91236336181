"""Variety for prepared windows, batch by batch: other levels and colours, further mixtures.

Everything happens to the power under the logarithm, where gains multiply and sounds add up (but
for their phases), so that it means what it would mean for the audio itself.
"""

import numpy as np

from streamtag.features import FeatureConfig
from streamtag.train.recipe import Fit


def augmented(
    frames: np.ndarray,
    targets: np.ndarray,
    features: FeatureConfig,
    fit: Fit,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A batch with other levels and colours, some of its windows mixed, a few bands hidden.

    Args:
        frames: (n, window_frames, width) float32, natural logarithms of mel power.
        targets: (n, n_tags) float32 in [0, 1], or NaN.
        features: what the frames are.
        fit: how much of everything.
        rng: decides everything.
    """
    offset = np.float32(features.log_floor + features.log_offset)
    power = np.exp(frames) - offset
    power *= gains(len(frames), features.n_mels, fit, rng)
    partner = rng.permutation(len(frames))
    full = frames[:, 0].max(axis=1) > np.log(offset) + 0.01  # no padding at the beginning
    mixed = (rng.random(len(frames)) < fit.mix_share) & full & full[partner]
    power[mixed] += power[partner[mixed]]
    out = np.log(np.maximum(power, 0) + offset).astype(np.float32)
    labels = targets.copy()
    labels[mixed] = either(targets[mixed], targets[partner[mixed]])
    for frame in out:
        hide_bands(frame, fit.band_masks, rng)
    return out, labels


def gains(n: int, n_mels: int, fit: Fit, rng: np.random.Generator) -> np.ndarray:
    """Factors on power, (n, 1, n_mels) float32: one level and one smooth colour per window."""
    corners = np.linspace(0, n_mels - 1, 5)
    decibel = rng.normal(0, fit.colour_db, (n, 5)) + rng.normal(0, fit.level_db, (n, 1))
    smooth = np.stack([np.interp(np.arange(n_mels), corners, row) for row in decibel])
    out: np.ndarray = (10 ** (smooth / 10)).astype(np.float32)[:, None]
    return out


def either(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Targets of a mixture of two windows: the larger; unknown unless one of them is certain."""
    certain = (one == 1) | (other == 1)
    out: np.ndarray = np.where(certain, np.float32(1), np.maximum(one, other))
    return out


def hide_bands(frame: np.ndarray, most: int, rng: np.random.Generator) -> None:
    """Sets up to `most` neighbouring bands of (n_frames, width) to their mean, in place.

    Park et al., "SpecAugment", 2019, section 2: frequency masking.
    """
    bands = int(rng.integers(0, most + 1))
    first = int(rng.integers(0, frame.shape[1] - bands + 1))
    frame[:, first : first + bands] = frame.mean()
