"""Augmentation means for the frames what it would mean for the audio."""

import dataclasses

import numpy as np
import pytest

from streamtag.features import FeatureConfig, frames_of
from streamtag.train.augment import augmented, either, gains, hide_bands
from streamtag.train.recipe import load_recipe

RECIPE = load_recipe("instruments")
FEATURES = RECIPE.features
PLAIN = dataclasses.replace(RECIPE.fit, mix_share=0.0, level_db=0.0, colour_db=0.0, band_masks=0)


def windows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    frames = rng.normal(-6, 2, (n, 12, FEATURES.n_mels)).astype(np.float32)
    return np.maximum(frames, np.log(1e-6)), rng.integers(0, 2, (n, 3)).astype(np.float32)


def test_without_any_of_it_nothing_changes() -> None:
    frames, targets = windows(8)
    out, labels = augmented(frames, targets, FEATURES, PLAIN, np.random.default_rng(1))
    assert out == pytest.approx(frames, abs=1e-4)
    assert np.array_equal(labels, targets)


def test_a_level_is_the_level_of_the_audio() -> None:
    rng = np.random.default_rng(2)
    sound = (0.05 * rng.standard_normal(20_000)).astype(np.float32)
    fit = dataclasses.replace(PLAIN, level_db=6.0)
    frames = frames_of(sound, FEATURES)[None]
    out, _ = augmented(frames, np.zeros((1, 3), np.float32), FEATURES, fit, rng)
    change = float(np.median(out - frames)) * 10 / np.log(10)  # dB
    louder = frames_of(sound * np.float32(10 ** (change / 20)), FEATURES)[None]
    assert abs(change) > 0.1
    assert out == pytest.approx(louder, abs=2e-2)


def test_a_mixture_is_the_mixture_of_the_audio() -> None:
    """Powers of different sounds add up, on average; and both are on the label."""
    rng = np.random.default_rng(3)
    one, other = (rng.standard_normal(80_000).astype(np.float32) * s for s in (0.02, 0.05))
    frames = np.stack([frames_of(sound, FEATURES) for sound in (one, other)])
    targets = np.array([[1, 0, 0], [0, 1, np.nan]], np.float32)
    fit = dataclasses.replace(PLAIN, mix_share=1.0)
    both = frames_of(one + other, FEATURES)
    out, labels = next(
        found
        for seed in range(9)
        if not np.allclose((found := augmented(frames, targets, FEATURES, fit,
                                               np.random.default_rng(seed)))[0][0],
                           frames[0] + np.log(2), atol=1e-2)
    )  # fmt: skip
    assert out[0] == pytest.approx(out[1], abs=1e-4)
    assert float(np.mean(out[0] - both)) == pytest.approx(0.0, abs=0.3)
    assert labels[0].tolist()[:2] == [1, 1]
    assert np.isnan(labels[0][2])


def test_padded_windows_are_not_mixed() -> None:
    """What is heard of them begins later; a second window would begin before."""
    frames, targets = windows(16, seed=4)
    frames[::2, :5] = np.log(np.float32(1e-6))
    fit = dataclasses.replace(PLAIN, mix_share=1.0)
    out, labels = augmented(frames, targets, FEATURES, fit, np.random.default_rng(5))
    assert out[::2] == pytest.approx(frames[::2], abs=1e-3)
    assert np.array_equal(labels[::2], targets[::2])
    assert (out[1::2] > frames[1::2] + 0.1).any()


def test_silence_stays_silence() -> None:
    silence = frames_of(np.zeros(20_000, np.float32), FEATURES)[None]
    fit = dataclasses.replace(RECIPE.fit, band_masks=0)
    out, _ = augmented(silence, np.zeros((1, 3), np.float32), FEATURES, fit,
                       np.random.default_rng(6))  # fmt: skip
    assert out == pytest.approx(silence, abs=1e-3)


def test_either_is_certain_where_one_is() -> None:
    one = np.array([1, 1, 0.2, np.nan, np.nan], np.float32)
    other = np.array([0, np.nan, 0.6, 0, 1], np.float32)
    expected = [1, 1, 0.6, np.nan, 1]
    assert either(one, other) == pytest.approx(expected, nan_ok=True)
    assert either(other, one) == pytest.approx(expected, nan_ok=True)


def test_gains_are_smooth_and_as_strong_as_asked_for() -> None:
    fit = dataclasses.replace(PLAIN, level_db=5.0, colour_db=0.0)
    factors = gains(2000, 80, fit, np.random.default_rng(7))
    assert factors.shape == (2000, 1, 80)
    assert np.ptp(factors, axis=2).max() < 1e-6 * factors.max()
    assert 10 * np.log10(factors).std() == pytest.approx(5, rel=0.1)


def test_hidden_bands_are_few_and_neighbours() -> None:
    rng = np.random.default_rng(8)
    counts = set()
    for _ in range(60):
        frame = rng.standard_normal((12, 80)).astype(np.float32)
        before = frame.copy()
        hide_bands(frame, 5, rng)
        hidden = np.flatnonzero((frame != before).any(axis=0))
        assert len(hidden) <= 5
        assert len(hidden) == 0 or np.ptp(hidden) == len(hidden) - 1
        counts.add(len(hidden))
    assert counts == {0, 1, 2, 3, 4, 5}


def test_augmentation_needs_natural_logarithms() -> None:
    features = FeatureConfig.from_dict(FEATURES.to_dict() | {"log": "db"})
    with pytest.raises(ValueError, match=r"features\.log: expected 'ln'"):
        dataclasses.replace(RECIPE, features=features)
