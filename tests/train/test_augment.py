"""Augmentation does to windows and labels what it says, as often and as strongly as asked for."""

import dataclasses

import numpy as np
import pytest
import torch

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.train.data.augment import (
    LITERAL_FRAMES,
    augment_batch,
    augment_window,
    crop,
    mask_bands,
    mask_blocks,
    mixup,
    mixup_shares,
    power_gains,
    stretch,
    union_targets,
)
from streamtag.train.exporting.torchaudio_loader import torchaudio
from streamtag.train.recipes.file import load_recipe
from streamtag.train.recipes.recipe import Augment

RECIPE = load_recipe("instruments")
FEATURES = RECIPE.features
OFF = Augment()


def windows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    frames = rng.normal(-6, 2, (n, 12, FEATURES.n_mels)).astype(np.float32)
    return np.maximum(frames, np.log(1e-6)), rng.integers(0, 2, (n, 3)).astype(np.float32)


def window(n_frames: int = 200, width: int = 96, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n_frames, width)).astype(np.float32)


def ramp(n_frames: int, width: int, axis: int) -> np.ndarray:
    """Each value is its own index along an axis: where it goes, can be read."""
    shape = (n_frames, width)
    return np.ascontiguousarray(np.indices(shape)[axis], np.float32)


EVERYTHING = Augment(
    mixup_alpha=0.5, crop_chance=0.5, mask_chance=0.5, shift_frames=3, mix_share=0.5, level_db=3,
    colour_db=2, band_masks=4,
)  # fmt: skip


# --- windows, one by one


def test_nothing_is_done_to_a_window_by_default() -> None:
    frames = window()
    assert augment_window(frames, OFF, np.random.default_rng(1)) is frames


def test_the_seed_decides_everything_and_what_was_given_stays() -> None:
    frames, (batch, targets) = window(), windows(6)
    kept = frames.copy(), batch.copy(), targets.copy()
    made = []
    for seed in (1, 1, 2):
        rng = np.random.default_rng(seed)
        single = [augment_window(frames, EVERYTHING, rng) for _ in range(5)]
        made.append([*single, *augment_batch(batch, targets, FEATURES, EVERYTHING, rng)])
    for one, same in zip(made[0], made[1], strict=True):
        assert np.array_equal(one, same)
    assert not all(np.array_equal(a, b) for a, b in zip(made[0], made[2], strict=True))
    for before, after in zip(kept, (frames, batch, targets), strict=True):
        assert np.array_equal(before, after)


def test_a_crop_of_everything_is_the_window_itself() -> None:
    frames = window(6590)
    out = crop(frames, Augment(crop_area=(1.0, 1.0)), np.random.default_rng(2))
    assert np.array_equal(out, frames)


def test_a_box_is_stretched_between_its_edges() -> None:
    """By hand: the middles of outputs lie at quarters between the middles of inputs."""
    box = np.array([[0, 8], [4, 12]], np.float32)
    out = stretch(box, 4, 2)
    assert out[:, 0].tolist() == [0, 1, 3, 4]
    assert out[:, 1].tolist() == [8, 9, 11, 12]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(window(50, 20))[None, None, 3:40, 2:19], (50, 20), mode="bilinear"
    )
    assert np.array_equal(stretch(window(50, 20)[3:40, 2:19], 50, 20), expected[0, 0].numpy())


def test_what_cannot_be_written_to_can_be_stretched() -> None:
    frames = window()
    frames.flags.writeable = False
    out = crop(frames, Augment(crop_area=(1.0, 1.0)), np.random.default_rng(0))
    assert np.array_equal(out, frames)


def test_a_crop_keeps_a_box_of_the_area_anywhere() -> None:
    augment, areas, sides, begins = Augment(crop_area=(0.5, 0.9)), [], [], []
    for seed in range(400):
        times = crop(ramp(400, 96, 0), augment, np.random.default_rng(seed))
        bands = crop(ramp(400, 96, 1), augment, np.random.default_rng(seed))
        assert np.ptp(times, axis=1).max() < 1e-3  # no shear
        assert np.ptp(bands, axis=0).max() < 1e-3
        assert (np.diff(times[:, 0]) >= 0).all()
        assert (np.diff(bands[0]) >= 0).all()
        long, high = np.ptp(times) + 1, np.ptp(bands) + 1
        areas.append(long * high / (400 * 96))
        sides.append(long / 400)
        begins.append(times.min() / (400 - long + 1e-9))
    assert min(areas) > 0.49
    assert max(areas) < 0.91
    assert np.mean(areas) == pytest.approx(0.7, abs=0.02)
    assert min(sides) < 0.6
    assert max(sides) > 0.97
    assert np.mean(begins) == pytest.approx(0.5, abs=0.05)


def test_the_literal_crop_is_always_the_centre() -> None:
    augment = Augment(crop_chance=1.0, crop_literal=True)
    first = (6590 - LITERAL_FRAMES) // 2
    for seed in range(3):
        times = augment_window(ramp(6590, 96, 0), augment, np.random.default_rng(seed))
        bands = augment_window(ramp(6590, 96, 1), augment, np.random.default_rng(seed))
        assert (times.min(), times.max()) == (first, first + LITERAL_FRAMES - 1)
        np.testing.assert_allclose(bands, ramp(6590, 96, 1), atol=1e-4)
    short = window(100)
    assert np.array_equal(crop(short, augment, np.random.default_rng(0)), short)


def hidden(frames: np.ndarray, augment: Augment, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of whole bands and of whole frames that were set to the minimum."""
    out = mask_blocks(frames, augment, np.random.default_rng(seed))
    least = frames.min()
    bands, times = (np.flatnonzero((out == least).all(axis=axis)) for axis in (0, 1))
    rest = np.delete(np.delete(out, times, axis=0), bands, axis=1)
    assert np.array_equal(rest, np.delete(np.delete(frames, times, axis=0), bands, axis=1))
    return bands, times


def is_block(indices: np.ndarray) -> bool:
    return len(indices) == 0 or int(np.ptp(indices)) == len(indices) - 1


def test_one_round_hides_one_block_of_each_kind() -> None:
    augment, frames = Augment(mask_rounds=1, mask_bands=0.15, mask_frames=0.2), window(500)
    found = [hidden(frames, augment, seed) for seed in range(1500)]
    for axis, size, share in ((0, 96, 0.15), (1, 500, 0.2)):
        lengths = np.array([len(pair[axis]) for pair in found])
        assert all(is_block(pair[axis]) for pair in found)
        assert lengths.max() < share * size
        # floor(U(0, share) · size): uniform over 0 … ceil(share · size) − 1, roughly
        assert lengths.mean() == pytest.approx(share * size / 2 - 0.5, rel=0.04)
        assert lengths.std() == pytest.approx(share * size / np.sqrt(12), rel=0.05)
        assert min(pair[axis][0] for pair in found if len(pair[axis])) == 0
        assert max(pair[axis][-1] for pair in found if len(pair[axis])) == size - 1


def test_rounds_are_equally_likely() -> None:
    """Blocks of almost no width make the rounds countable: one frame is hidden in each, or none."""
    augment, frames = Augment(mask_rounds=3, mask_bands=0.0, mask_frames=0.01), window(199)
    counts = np.bincount(
        [len(hidden(frames, augment, seed)[1]) for seed in range(1500)], minlength=4
    )
    # Each round hides a frame with the chance of floor(U(0, 1.99)) = 1.
    p = 0.99 / 1.99
    expected = [
        np.mean([(1 - p) ** k for k in (1, 2, 3)]),
        np.mean([k * p * (1 - p) ** (k - 1) for k in (1, 2, 3)]),
    ]
    assert counts[:2] / 1500 == pytest.approx(expected, abs=0.04)
    assert len(counts) == 4
    assert counts[3] > 0


def test_blocks_are_hidden_as_by_torchaudio() -> None:
    """Its SpecAugment: the same lengths; a block never reaches the very end there."""
    along = torchaudio().functional.mask_along_axis
    torch.manual_seed(0)
    frames = torch.from_numpy(window(400))[None]
    theirs = []
    for _ in range(800):
        out = along(frames, 400 * 0.2, -99.0, axis=1)[0].numpy()
        times = np.flatnonzero((out == -99).all(axis=1))
        assert is_block(times)
        theirs.append(len(times))
    augment = Augment(mask_rounds=1, mask_bands=0.0, mask_frames=0.2)
    ours = [len(hidden(window(400), augment, seed)[1]) for seed in range(800)]
    quantiles = np.linspace(0.05, 0.95, 10)
    assert np.quantile(ours, quantiles) == pytest.approx(np.quantile(theirs, quantiles), abs=5)
    assert max(ours) == max(theirs) == 79


def test_each_thing_happens_as_often_as_asked() -> None:
    frames = window(60)
    for augment in (Augment(crop_chance=0.33, crop_area=(0.5, 0.8)),
                    Augment(mask_chance=0.33, mask_bands=1.0, mask_frames=1.0)):  # fmt: skip
        changed = [
            augment_window(frames, augment, np.random.default_rng(s)) is not frames
            for s in range(600)
        ]
        assert np.mean(changed) == pytest.approx(0.33, abs=0.05)


def test_a_shift_is_circular_and_goes_either_way() -> None:
    frames, seen = ramp(200, 4, 0), set()
    for seed in range(300):
        out = augment_window(frames, Augment(shift_frames=5), np.random.default_rng(seed))
        by = int(-out[0, 0]) if out[0, 0] < 100 else int(200 - out[0, 0])
        assert np.array_equal(out, np.concatenate([frames[-by:], frames[:-by]]) if by else frames)
        seen.add(by)
    assert seen == set(range(-5, 6))


@pytest.mark.parametrize(("n_frames", "width"), [(1, 1), (1, 96), (3, 2), (59049, 1)])
def test_windows_of_any_size(n_frames: int, width: int) -> None:
    augment = dataclasses.replace(EVERYTHING, crop_chance=1.0, mask_chance=1.0)
    for seed in range(5):
        out = augment_window(window(n_frames, width), augment, np.random.default_rng(seed))
        assert out.shape == (n_frames, width)
        assert out.dtype == np.float32


# --- mixup


def test_mixup_mixes_inputs_and_labels_by_the_same_share() -> None:
    frames, _ = windows(64)
    targets = np.eye(64, dtype=np.float32)
    augment = Augment(mixup_alpha=1.0)
    out, labels = augment_batch(frames, targets, FEATURES, augment, np.random.default_rng(3))
    partners = []
    for i in range(64):
        share = labels[i, i]
        j = int(np.argmax(labels[i] * (np.arange(64) != i))) if share < 1 else i
        partners.append(j)
        assert labels[i].sum() == pytest.approx(1, abs=1e-6)
        expected = share * frames[i] + (1 - share) * frames[j]
        assert out[i] == pytest.approx(expected, abs=1e-5)
    assert sorted(partners) == list(range(64))  # a permutation: nobody is used twice


def test_shares_are_distributed_as_beta() -> None:
    rng = np.random.default_rng(4)
    for alpha in (0.3, 1.0, 4.0):
        share = mixup_shares(20_000, Augment(mixup_alpha=alpha), rng)
        assert share.mean() == pytest.approx(0.5, abs=0.01)
        assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
        assert share.min() >= 0
        assert share.max() <= 1
    larger = mixup_shares(20_000, Augment(mixup_alpha=1.0, mixup_larger=True), rng)
    assert larger.min() >= 0.5
    assert larger.mean() == pytest.approx(0.75, abs=0.01)


def test_the_partner_may_come_from_another_pass() -> None:
    frames, targets = windows(8)
    other, others = windows(8, seed=9)
    augment = Augment(mixup_alpha=1.0, mixup_two_orders=True)
    out, labels = augment_batch(
        frames, targets, FEATURES, augment, np.random.default_rng(5), (other, others)
    )
    for i in range(8):
        share = np.dot((out[i] - other[i]).ravel(), (frames[i] - other[i]).ravel()) / np.sum(
            (frames[i] - other[i]) ** 2
        )
        assert 0 <= share <= 1
        assert out[i] == pytest.approx(share * frames[i] + (1 - share) * other[i], abs=1e-4)
        expected = share * targets[i] + (1 - share) * others[i]
        assert labels[i] == pytest.approx(expected, abs=1e-4)


def test_the_partner_gets_colours_of_its_own_too() -> None:
    """Silence has no colour: what varies from band to band is the partner's."""
    silence = np.full((4, 12, FEATURES.n_mels), np.log(1e-6), np.float32)
    flat, targets = np.zeros_like(silence), np.zeros((4, 3), np.float32)
    augment, partner = Augment(mixup_alpha=1.0, colour_db=6.0), (flat, targets + 1)
    out, labels = augment_batch(
        silence, targets, FEATURES, augment, np.random.default_rng(6), partner
    )
    share = labels[:, :1]  # of the partner
    colours = (out[:, 0] - (1 - share) * silence[:, 0]) / share
    assert (np.ptp(colours, axis=1) > 0.3).all()


def test_what_nobody_knows_of_one_nobody_knows_of_the_mixture() -> None:
    nan = np.float32(np.nan)
    one = np.zeros((2, 3, 4), np.float32), np.array([[1, nan, nan], [0, 1, 0]], np.float32)
    other = np.ones((2, 3, 4), np.float32), np.array([[0, 1, nan], [0, 0, nan]], np.float32)
    share = np.array([0.75, 1.0], np.float32)
    frames, labels = mixup(one, other, share)
    assert labels[0] == pytest.approx([0.75, np.nan, np.nan], nan_ok=True)
    assert labels[1] == pytest.approx([0, 1, np.nan], nan_ok=True)
    assert (frames[0] == 0.25).all()
    assert (frames[1] == 0).all()


def test_mixup_does_not_ask_for_natural_logarithms() -> None:
    """It mixes whatever the net sees, as the papers do; levels and power do ask."""
    decibel = FeatureConfig(**(FEATURES.to_dict() | {"log": "db"}))
    mixed = Augment(mixup_alpha=1.0)
    dataclasses.replace(RECIPE, features=decibel, augment=mixed)
    with pytest.raises(RecipeError, match=r"features\.log: expected 'ln'"):
        dataclasses.replace(RECIPE, features=decibel)


# --- batches: levels, colours, sums of powers


def test_without_any_of_it_nothing_changes() -> None:
    frames, targets = windows(8)
    out, labels = augment_batch(frames, targets, FEATURES, OFF, np.random.default_rng(1))
    assert np.array_equal(out, frames)
    assert np.array_equal(labels, targets)


def test_a_level_is_the_level_of_the_audio() -> None:
    rng = np.random.default_rng(2)
    sound = (0.05 * rng.standard_normal(20_000)).astype(np.float32)
    frames = frames_of(sound, FEATURES)[None]
    targets = np.zeros((1, 3), np.float32)
    out, _ = augment_batch(frames, targets, FEATURES, Augment(level_db=6.0), rng)
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
    both = frames_of(one + other, FEATURES)
    found = [
        augment_batch(frames, targets, FEATURES, Augment(mix_share=1.0),
                        np.random.default_rng(seed))
        for seed in range(9)
    ]  # fmt: skip
    doubled = frames[0] + np.log(2)  # its partner was itself
    out, labels = next(pair for pair in found if not np.allclose(pair[0][0], doubled, atol=1e-2))
    assert out[0] == pytest.approx(out[1], abs=1e-4)
    assert float(np.mean(out[0] - both)) == pytest.approx(0.0, abs=0.3)
    assert labels[0].tolist()[:2] == [1, 1]
    assert np.isnan(labels[0][2])


def test_padded_windows_are_not_mixed() -> None:
    """What is heard of them begins later; a second window would begin before."""
    frames, targets = windows(16, seed=4)
    frames[::2, :5] = np.log(np.float32(1e-6))
    augment = Augment(mix_share=1.0)
    out, labels = augment_batch(frames, targets, FEATURES, augment, np.random.default_rng(5))
    assert out[::2] == pytest.approx(frames[::2], abs=1e-3)
    assert np.array_equal(labels[::2], targets[::2])
    assert (out[1::2] > frames[1::2] + 0.1).any()


def test_silence_stays_silence() -> None:
    silence = frames_of(np.zeros(20_000, np.float32), FEATURES)[None]
    augment = dataclasses.replace(RECIPE.augment, band_masks=0)
    targets = np.zeros((1, 3), np.float32)
    out, _ = augment_batch(silence, targets, FEATURES, augment, np.random.default_rng(6))
    assert out == pytest.approx(silence, abs=1e-3)


def test_either_is_certain_where_one_is() -> None:
    one = np.array([1, 1, 0.2, np.nan, np.nan], np.float32)
    other = np.array([0, np.nan, 0.6, 0, 1], np.float32)
    expected = [1, 1, 0.6, np.nan, 1]
    assert union_targets(one, other) == pytest.approx(expected, nan_ok=True)
    assert union_targets(other, one) == pytest.approx(expected, nan_ok=True)


def test_gains_are_smooth_and_as_strong_as_asked_for() -> None:
    factors = power_gains(2000, 80, Augment(level_db=5.0), np.random.default_rng(7))
    assert factors.shape == (2000, 1, 80)
    assert np.ptp(factors, axis=2).max() < 1e-6 * factors.max()
    assert 10 * np.log10(factors).std() == pytest.approx(5, rel=0.1)


def test_hidden_bands_are_few_and_neighbours() -> None:
    rng = np.random.default_rng(8)
    counts = set()
    for _ in range(60):
        frame = rng.standard_normal((12, 80)).astype(np.float32)
        before = frame.copy()
        mask_bands(frame, 5, rng)
        changed = np.flatnonzero((frame != before).any(axis=0))
        assert len(changed) <= 5
        assert is_block(changed)
        counts.add(len(changed))
    assert counts == {0, 1, 2, 3, 4, 5}


# --- what a recipe may ask for


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"crop_area": (0.9, 0.8)}, r"augment\.crop_area: .* two shares .* got \(0\.9, 0\.8\)"),
        ({"crop_chance": 1.5}, r"augment\.crop_chance: expected less than or equal to 1"),
        ({"mask_rounds": 0}, r"augment\.mask_rounds: expected greater than or equal to 1, got 0"),
        ({"mask_frames": -0.1}, r"augment\.mask_frames: expected greater than or equal to 0"),
        ({"mixup_alpha": -1.0}, r"augment\.mixup_alpha: expected greater than or equal to 0"),
        ({"shift_frames": -1}, r"augment\.shift_frames: expected greater than or equal to 0"),
        ({"room_chance": 2.0}, r"augment\.room_chance: expected less than or equal to 1, got 2\.0"),
        ({"noise_db": 50.0}, r"augment\.noise_db: expected less than or equal to 40, got 50\.0"),
        ({"codecs": ("mp4:32",)}, r"augment\.codecs\.0: .* mp3, aac, opus.* got 'mp4:32'"),
        ({"codecs": ("mp3:32", "mp3:32")}, r"augment\.codecs: expected no codec twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(change: dict[str, object], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        dataclasses.replace(RECIPE, augment=dataclasses.replace(OFF, **change))
