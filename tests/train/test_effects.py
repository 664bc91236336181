"""What is done to audio is as strong as asked for, and moves nothing."""

import dataclasses
import hashlib
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.sounds import tone, write_wav
from train.test_codec import WHOLE, hiss, lag, reddish, rng

from streamtag.audio.feature_config import FeatureConfig
from streamtag.train.data import broadcast, effects
from streamtag.train.data.broadcast import BroadcastChain
from streamtag.train.data.cache import FeatureCache
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.effects import (
    add_noise,
    add_reverberation,
    change_level,
    convolve,
    equalise,
    power,
    random_room,
    reverberation,
    room,
)
from streamtag.train.recipes.file import load_recipe
from streamtag.train.recipes.recipe import Augment


def test_a_level_is_in_decibels() -> None:
    before = hiss(1000)
    assert change_level(before, -20.0) == pytest.approx(before / 10, rel=1e-6)
    assert change_level(before, -20.0).dtype == np.float32


@pytest.mark.parametrize("ratio", [-3.0, 0.0, 10.0, 40.0])
def test_the_noise_is_as_far_below_as_asked(ratio: float) -> None:
    before = tone(2.0, 16000)
    after = add_noise(before, 16000, ratio, rng(3))
    assert after.dtype == np.float32
    found = 10 * np.log10(power(before) / power(after - before))
    assert found == pytest.approx(ratio, abs=0.02)


def test_long_noise_repeats_without_a_seam() -> None:
    rate = 1000
    before = np.ones(45 * rate, np.float32)
    added = add_noise(before, rate, 0.0, rng(4)) - before
    turn = effects.NOISE_SECONDS * rate
    assert np.array_equal(added[:turn], added[turn : 2 * turn])
    steps = np.abs(np.diff(added))
    assert steps[turn - 1] < 5 * steps.mean()


def test_silence_and_nothing_get_no_noise() -> None:
    silence = np.zeros(500, np.float32)
    assert np.array_equal(add_noise(silence, 8000, 10.0, rng()), silence)
    assert len(add_noise(silence[:0], 8000, 10.0, rng())) == 0


@pytest.mark.parametrize(("decay", "level"), [(0.3, -6.0), (1.2, -12.0)])
def test_reverberation_decays_as_asked(decay: float, level: float) -> None:
    rate, gap = 16000, 0.01
    impulse = np.zeros(2 * rate, np.float32)
    impulse[100] = 1
    heard = add_reverberation(impulse, rate, decay, rng(5), level=level, gap=gap)[100:].astype(
        np.float64
    )
    direct, tail = heard[0], heard[1:]
    assert direct == pytest.approx(1, abs=1e-5)
    assert np.abs(tail[: round(gap * rate) - 1]).max() < 1e-5
    assert 10 * np.log10(np.sum(tail**2)) == pytest.approx(level, abs=0.05)
    left = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2) + 1e-12)  # Schroeder
    span = (left < -5) & (left > -25)
    slope = np.polyfit(np.flatnonzero(span) / rate, left[span], 1)[0]
    assert -60 / slope == pytest.approx(decay, rel=0.1)


def test_a_room_by_chance_has_a_direct_sound_and_a_tail() -> None:
    for seed in range(20):
        response = random_room(32000, 16000, rng(seed))
        assert 0.15 * 16000 <= len(response) <= 1.2 * 16000
        assert response[0] == pytest.approx(1, abs=1e-6)
        level = 10 * np.log10(np.sum(response[1:].astype(np.float64) ** 2))
        assert -18.1 < level < -2.9
        spectrum = room(32768, 16000, rng(seed))
        back = np.fft.irfft(spectrum, 32768)[: len(response)]
        np.testing.assert_allclose(back, response, atol=1e-5)


def test_a_room_shorter_than_its_gap_is_the_direct_sound() -> None:
    assert reverberation(np.ones(3), 8000, 0.5, 0.01, -6.0).tolist() == [1, 0, 0]


def test_an_equaliser_is_smooth_and_moves_nothing() -> None:
    rate, found = 44100, []
    impulse = np.zeros(30000, np.float32)
    impulse[15000] = 1
    for seed in range(150):
        heard = equalise(impulse, rate, 6.0, rng(seed))
        assert int(np.abs(heard).argmax()) == 15000
        around = heard[15000 - 2000 : 15000 + 2001]
        np.testing.assert_allclose(around, around[::-1], atol=1e-5)
        spectrum = np.abs(np.fft.rfft(heard))
        hertz = np.array([500, 1500])
        found.append(20 * np.log10(spectrum[np.round(hertz * 30000 / rate).astype(int)]))
    assert np.std(found, axis=0) == pytest.approx([6, 6], rel=0.2)
    assert equalise(hiss(100), rate, 0.0, rng(2)).shape == (100,)


@pytest.mark.parametrize("n", [1, 2, 1000, 4097, 20000])
@pytest.mark.parametrize(("taps", "centre"), [(1, 0), (7, 3), (1000, 0), (1000, 500)])
def test_blocks_of_a_filter_add_up(
    n: int, taps: int, centre: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "FFT_BLOCK", 4096)
    samples, response = hiss(n), hiss(taps, 2)
    expected = np.convolve(samples.astype(np.float64), response)[centre : centre + n]
    np.testing.assert_allclose(convolve(samples, response, centre), expected, atol=1e-5)


# --- the chain


def test_a_chain_without_anything_is_the_identity() -> None:
    before = hiss(5000)
    assert np.array_equal(BroadcastChain(Augment())(before, 8000, rng()), before)
    assert len(BroadcastChain(WHOLE)(before[:0], 8000, rng())) == 0


def test_a_chain_moves_nothing_and_the_seed_decides() -> None:
    before = reddish(1.2, 22050)
    kept, chain = before.copy(), BroadcastChain(WHOLE)
    made = [chain(before, 22050, rng(seed)) for seed in (*range(10), 0)]
    assert np.array_equal(before, kept)
    assert np.array_equal(made[0], made[-1])
    assert not np.array_equal(made[0], made[1])
    for after in made:
        assert after.shape == before.shape
        assert after.dtype == np.float32
        assert np.isfinite(after).all()
        assert abs(lag(before, after)) < 1


def test_a_chain_can_be_pickled_and_only_its_own_settings_count() -> None:
    chain, before = BroadcastChain(WHOLE), hiss(4000)
    other = dataclasses.replace(WHOLE, mixup_alpha=1.0, audio_variants=7)
    louder_one = dataclasses.replace(WHOLE, audio_level_db=7.0)
    key = chain.cache_key()
    assert BroadcastChain(other).cache_key() == key
    assert BroadcastChain(louder_one).cache_key() != key
    again = pickle.loads(pickle.dumps(chain))
    assert again.cache_key() == key
    assert np.array_equal(again(before, 8000, rng(3)), chain(before, 8000, rng(3)))


def test_caches_of_earlier_versions_stay_valid() -> None:
    key = BroadcastChain(load_recipe("general").augment).cache_key()
    assert hashlib.sha256(key).hexdigest().startswith("77fdc46d288714c4")


def test_what_is_not_a_number_counts_as_silence() -> None:
    before = hiss(3000)
    before[[5, 100, 2000]] = np.nan, np.inf, -np.inf
    clean = np.where(np.isfinite(before), before, 0).astype(np.float32)
    chain = BroadcastChain(dataclasses.replace(WHOLE, codecs=(), room_chance=1.0))
    assert np.array_equal(chain(before, 8000, rng(1)), chain(clean, 8000, rng(1)))


def test_half_is_coded_and_all_codecs_come(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, heard = (
        BroadcastChain(dataclasses.replace(Augment(), codecs=WHOLE.codecs)),
        Counter[str](),
    )

    def count(samples: np.ndarray, rate: int, name: str) -> np.ndarray:
        heard[name] += 1
        return samples

    monkeypatch.setattr(broadcast, "encode_decode", count)
    for seed in range(900):
        chain(np.ones(1, np.float32), 8000, rng(seed))
    assert sum(heard.values()) == pytest.approx(450, abs=50)
    assert [heard[name] for name in WHOLE.codecs] == pytest.approx([150] * 3, abs=40)


def test_levels_noise_and_rooms_are_as_often_and_as_strong_as_asked() -> None:
    before = tone(0.1, 8000)
    level = BroadcastChain(Augment(audio_level_db=12.0))
    found = [10 * np.log10(power(level(before, 8000, rng(s))) / power(before)) for s in range(500)]
    assert np.abs(found).max() <= 12.001
    assert np.std(found) == pytest.approx(12 / np.sqrt(3), rel=0.1)
    noisy = BroadcastChain(Augment(noise_db=10.0))
    ratios = [
        10 * np.log10(power(before) / power(noisy(before, 8000, rng(s)) - before))
        for s in range(500)
    ]
    assert min(ratios) > 9.9
    assert max(ratios) < 40.1
    assert np.mean(ratios) == pytest.approx(25, abs=1.5)
    hall = BroadcastChain(Augment(room_chance=0.3))
    rooms = [not np.array_equal(hall(before, 8000, rng(s)), before) for s in range(500)]
    assert np.mean(rooms) == pytest.approx(0.3, abs=0.06)


def test_versions_in_the_cache_lie_beside_the_clean_recording(tmp_path: Path) -> None:
    """Frame by frame the same place: an onset is at the same frame in all of them."""
    rate = 22050
    sound = np.zeros(2 * rate, np.float32)
    sound[rate:] = hiss(rate)
    path = write_wav(tmp_path / "onset.wav", sound, rate)
    item = Item(name="onset", path=path, tags=(), split="train")
    cache = FeatureCache(tmp_path / "cache", FeatureConfig(n_mels=32), BroadcastChain(WHOLE))
    assert not cache.build([item], variants=3, workers=1).broken
    onsets, frames = [], [cache.frames(item, version) for version in range(4)]
    for version in frames:
        assert version.shape == frames[0].shape
        loudness = version[:, :16].mean(axis=1)
        onsets.append(int(np.diff(loudness).argmax()))
    assert max(onsets) - min(onsets) <= 2
    assert not np.allclose(frames[0], frames[1], atol=0.1)
