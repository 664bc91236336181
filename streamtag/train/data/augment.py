"""Augmentation of training windows: crops, masks and shifts of one window; mixing in a batch.

`augment_window` changes one window and may run in a process that reads windows. `augment_batch` is
for what needs a whole batch. All randomness comes from the generator that they are given.
"""

import numpy as np
import torch
from torch.nn import functional

from streamtag.audio.feature_config import FeatureConfig
from streamtag.train.recipes.recipe import Augment

LITERAL_FRAMES = 221
"""The crop of Sukhavasi and Adapa (2019) always keeps so many frames. Its aspect ratios, 1.7 to
2.3, never fit a window 96 bands high and thousands of frames long, and torchvision then takes the
centre of 96 · 2.3 frames."""
NO_PADDING = 0.01
"""How far above the floor a first frame must be, in logarithms, to be audio and not padding."""

Arrays = tuple[np.ndarray, np.ndarray]


def augment_window(frames: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """One window, cropped, masked and shifted by the settings of the recipe.

    Args:
        frames: (window_frames, width) float32; not changed; returned as it is if nothing
            applies.
        augment: the settings.
        rng: source of all randomness.
    """
    if rng.random() < augment.crop_chance:
        frames = crop(frames, augment, rng)
    if rng.random() < augment.mask_chance:
        frames = mask_blocks(frames, augment, rng)
    if augment.shift_frames:
        by = int(rng.integers(-augment.shift_frames, augment.shift_frames + 1))
        frames = np.roll(frames, by, axis=0)
    return frames


def crop(frames: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """A random box of a window, scaled back bilinearly to the whole window.

    The share of the area that the box keeps is uniform in `crop_area`. How much of the loss is in
    frames and how much in bands is uniform in logarithms. Sukhavasi and Adapa (2019, their code)
    give the area and 1.7 … 2.3 for the ratio of the sides, which no window as long as theirs can
    fulfil. `crop_literal` is the effect of that: always the centre, `LITERAL_FRAMES` long.

    Args:
        frames: (window_frames, width) float32.
        augment: the settings.
        rng: source of all randomness.
    """
    n, width = frames.shape
    if augment.crop_literal:
        long = min(LITERAL_FRAMES, n)
        first = (n - long) // 2
        return stretch(frames[first : first + long], n, width)
    area, by_frames = rng.uniform(*augment.crop_area), rng.random()
    long = max(1, round(n * area**by_frames))
    high = max(1, round(width * area ** (1 - by_frames)))
    first, lowest = rng.integers(n - long + 1), rng.integers(width - high + 1)
    return stretch(frames[first : first + long, lowest : lowest + high], n, width)


def stretch(box: np.ndarray, n_frames: int, width: int) -> np.ndarray:
    """Bilinear interpolation of (n, m) to (n_frames, width) float32."""
    own = box if box.flags.writeable else box.copy()  # torch cannot wrap read-only arrays
    whole = functional.interpolate(
        torch.from_numpy(own)[None, None], size=(n_frames, width), mode="bilinear"
    )
    out: np.ndarray = whole[0, 0].numpy()
    return out


def mask_blocks(frames: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """A copy of a window with blocks of bands and of frames set to the minimum of the window.

    Park et al., "SpecAugment", 2019, section 2. Sizes are shares of the window and the number of
    rounds is random, as in the code of Sukhavasi and Adapa (2019). A block may touch either end.

    Args:
        frames: (window_frames, width) float32.
        augment: the settings.
        rng: source of all randomness.
    """
    out, least = frames.copy(), frames.min()
    n, width = frames.shape
    for _ in range(rng.integers(1, augment.mask_rounds + 1)):
        out[:, _block(width, augment.mask_bands, rng)] = least
        out[_block(n, augment.mask_frames, rng)] = least
    return out


def _block(size: int, share: float, rng: np.random.Generator) -> slice:
    """A random slice of an axis; its length is uniform from 0 up to a share of the axis."""
    count = int(rng.uniform(0, share) * size)
    first = int(rng.integers(size - count + 1))
    return slice(first, first + count)


def augment_batch(
    frames: np.ndarray,
    targets: np.ndarray,
    features: FeatureConfig,
    augment: Augment,
    rng: np.random.Generator,
    partner: Arrays | None = None,
) -> Arrays:
    """A batch with other levels and spectra, with windows added to each other or mixed.

    Args:
        frames: (n, window_frames, width) float32; not changed.
        targets: (n, n_tags) float32 in [0, 1], or NaN.
        features: of the frames.
        augment: the settings.
        rng: source of all randomness.
        partner: frames and targets of the same shapes for `mixup`; without them each window's
            partner is a random window of the same batch.
    """
    frames, targets = _vary(frames, targets, features, augment, rng)
    if not augment.mixup_alpha:
        return frames, targets
    if partner is None:
        order = rng.permutation(len(frames))
        partner = frames[order], targets[order]
    else:
        partner = _vary(*partner, features, augment, rng)
    return mixup((frames, targets), partner, mixup_shares(len(frames), augment, rng))


def mixup_shares(n: int, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """λ ~ Beta(alpha, alpha) of n windows, (n,) float32 (Zhang et al., "mixup", 2017, section 2).

    With `mixup_larger` no partner weighs more than the window itself: λ ← max(λ, 1 − λ).
    """
    share = rng.beta(augment.mixup_alpha, augment.mixup_alpha, n).astype(np.float32)
    return np.maximum(share, 1 - share) if augment.mixup_larger else share


def mixup(batch: Arrays, partner: Arrays, share: np.ndarray) -> Arrays:
    """λ·x + (1 − λ)·x′ of the frames and of the targets.

    A target of the mixture is known only where both targets are known.

    Args:
        batch: (n, window_frames, width) frames and (n, n_tags) targets, float32.
        partner: the same.
        share: (n,) float32, λ.
    """
    own, other = share[:, None], 1 - share[:, None]
    frames = batch[0] * own[:, None]
    frames += partner[0] * other[:, None]
    return frames, batch[1] * own + partner[1] * other


def _vary(
    frames: np.ndarray,
    targets: np.ndarray,
    features: FeatureConfig,
    augment: Augment,
    rng: np.random.Generator,
) -> Arrays:
    """A batch with varied power and masked bands."""
    if augment.level_db or augment.colour_db or augment.mix_share:
        frames, targets = vary_power(frames, targets, features, augment, rng)
    if augment.band_masks:
        frames = frames.copy()
        for window in frames:
            mask_bands(window, augment.band_masks, rng)
    return frames, targets


def vary_power(
    frames: np.ndarray,
    targets: np.ndarray,
    features: FeatureConfig,
    augment: Augment,
    rng: np.random.Generator,
) -> Arrays:
    """A batch with other levels and spectra; some windows get another window added.

    The changes apply to the power under the logarithm. There gains multiply and sounds add up
    (except for their phases), as they do in the audio itself.

    Args:
        frames: (n, window_frames, width) float32, natural logarithms of mel power.
        targets: (n, n_tags) float32 in [0, 1], or NaN.
        features: of the frames.
        augment: the settings.
        rng: source of all randomness.
    """
    offset = np.float32(features.log_floor + features.log_offset)
    power = np.exp(frames) - offset
    power *= power_gains(len(frames), features.n_mels, augment, rng)
    partner = rng.permutation(len(frames))
    full = frames[:, 0].max(axis=1) > np.log(offset) + NO_PADDING  # no padding at the beginning
    mixed = (rng.random(len(frames)) < augment.mix_share) & full & full[partner]
    power[mixed] += power[partner[mixed]]
    out = np.log(np.maximum(power, 0) + offset).astype(np.float32)
    labels = targets.copy()
    labels[mixed] = union_targets(targets[mixed], targets[partner[mixed]])
    return out, labels


def power_gains(n: int, n_mels: int, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Factors on power, (n, 1, n_mels) float32: one level and one smooth spectrum per window."""
    corners = np.linspace(0, n_mels - 1, 5)
    decibel = rng.normal(0, augment.colour_db, (n, 5)) + rng.normal(0, augment.level_db, (n, 1))
    smooth = np.stack([np.interp(np.arange(n_mels), corners, row) for row in decibel])
    out: np.ndarray = (10 ** (smooth / 10)).astype(np.float32)[:, None]
    return out


def union_targets(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Targets of the sum of two windows: the larger one; NaN unless one of them is certainly 1."""
    certain = (one == 1) | (other == 1)
    out: np.ndarray = np.where(certain, np.float32(1), np.maximum(one, other))
    return out


def mask_bands(frames: np.ndarray, most: int, rng: np.random.Generator) -> None:
    """Sets up to `most` neighbouring bands of (n_frames, width) to their mean, in place.

    Park et al., "SpecAugment", 2019, section 2: frequency masking.
    """
    bands = int(rng.integers(0, most + 1))
    first = int(rng.integers(0, frames.shape[1] - bands + 1))
    frames[:, first : first + bands] = frames.mean()
