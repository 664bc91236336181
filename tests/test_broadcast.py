"""What is done to audio is as strong as asked for, and moves nothing."""

import dataclasses
import os
import pickle
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sounds import tone, write_wav

from streamtag.assets import demo_piece
from streamtag.decoder import FileSource
from streamtag.errors import RecipeError, SourceError
from streamtag.features import FeatureConfig
from streamtag.train import broadcast, codec
from streamtag.train.broadcast import (
    Chain,
    equalised,
    filtered,
    in_room,
    louder,
    passed_through,
    with_noise,
)
from streamtag.train.cache import FeatureCache
from streamtag.train.codec import Codec, codec_of
from streamtag.train.corpora.corpus import Item
from streamtag.train.effects import any_room, power, reverberation, room
from streamtag.train.recipe_augment import Augment

CODECS = ("mp3", "aac", "opus")
WHOLE = Augment(
    audio_variants=1, codecs=("mp3:32", "aac:48", "opus:24"), audio_level_db=6.0, audio_eq_db=4.0,
    noise_db=20.0, room_chance=0.5,
)  # fmt: skip


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed or 1)


def hiss(n: int, *seed: int) -> np.ndarray:
    """White noise, (n,) float32."""
    return (0.1 * rng(*seed).standard_normal(n)).astype(np.float32)


def reddish(seconds: float, rate: int) -> np.ndarray:
    """Noise that falls by 6 dB per octave above 300 Hz: a codec drops little of its power."""
    n = round(seconds * rate)
    spectrum = np.fft.rfft(hiss(n)) / np.maximum(np.fft.rfftfreq(n, 1 / rate), 300) * 300
    return np.fft.irfft(spectrum, n).astype(np.float32)


def piece(seconds: float) -> tuple[np.ndarray, int]:
    """The beginning of the demo piece, and its rate."""
    with closing(FileSource(demo_piece())) as source:
        blocks = [block.samples for block, _ in zip(source, range(int(seconds)), strict=False)]
        return np.concatenate(blocks), source.rate


def lag(before: np.ndarray, after: np.ndarray) -> float:
    """Samples by which sounds come later, to a fraction: the peak of the cross-correlation."""
    size = 1 << (2 * len(before)).bit_length()
    spectrum = np.conj(np.fft.rfft(before, size)) * np.fft.rfft(after, size)
    found = np.fft.irfft(spectrum, size)
    top = int(found.argmax())
    left, middle, right = found[[top - 1, top, (top + 1) % size]]
    fine = top + 0.5 * (left - right) / (left - 2 * middle + right)
    return float(fine if top < size // 2 else fine - size)


def band_db(samples: np.ndarray, rate: int, low: float, high: float) -> float:
    """Power between two frequencies, in dB."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / rate)
    return float(10 * np.log10(spectrum[(hertz >= low) & (hertz < high)].sum() + 1e-20))


# --- codecs


@pytest.mark.parametrize("kbit", [32, 128])
@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_codec_moves_nothing(rate: int, kind: str, kbit: int) -> None:
    before = reddish(1.53, rate)
    after = passed_through(before, rate, f"{kind}:{kbit}")
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert abs(lag(before, after)) < 0.5
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("name", ["mp3:32", "aac:32", "opus:32", "mp3:128", "aac:128", "opus:128"])
def test_music_stays_music_at_its_place(name: str) -> None:
    before, rate = piece(5)
    after = passed_through(before, rate, name)
    assert after.shape == before.shape
    assert abs(lag(before, after)) < 0.2
    assert np.corrcoef(before, after)[0, 1] > 0.95


@pytest.mark.parametrize("kind", CODECS)
def test_the_end_is_not_cut_and_an_onset_stays_where_it_is(kind: str) -> None:
    rate = 44100
    before = np.zeros(rate, np.float32)
    before[-1500:] = tone(1500 / rate, rate, 1500.0)
    after = passed_through(before, rate, f"{kind}:128")
    assert power(after[-1000:]) == pytest.approx(power(before[-1000:]), rel=0.2)
    assert power(after[: -1500 - 2100]) < 1e-6  # pre-echo is a frame at most


@pytest.mark.parametrize("kind", CODECS)
def test_a_codec_keeps_pitch_and_level(kind: str) -> None:
    rate = 44100
    before = tone(2.0, rate, 1000.0, 0.3)
    after = passed_through(before, rate, f"{kind}:64")
    turn = np.exp(-2j * np.pi * 1000 * np.arange(len(before)) / rate)
    phases = [np.angle(np.sum((after * turn)[i : i + 8820])) for i in range(8820, 70560, 8820)]
    assert np.ptp(np.unwrap(phases)) < 0.05  # of a turn per 0.2 s: less than 0.01 Hz
    assert np.std(after) == pytest.approx(np.std(before), rel=0.06)  # LAME turns down by 5 %


@pytest.mark.parametrize(
    ("name", "edge", "lost"),
    [("mp3:16", 7000, True), ("mp3:32", 11000, True), ("aac:16", 6000, True),
     ("aac:32", 15500, True), ("opus:12", 12000, True), ("mp3:192", 15000, False),
     ("aac:128", 15000, False), ("opus:128", 15000, False)],
)  # fmt: skip
def test_low_bit_rates_lose_high_frequencies(name: str, edge: float, lost: bool) -> None:
    before = hiss(66150)
    after = passed_through(before, 44100, name)
    high = band_db(after, 44100, edge, 16000) - band_db(before, 44100, edge, 16000)
    low = band_db(after, 44100, 200, 2000) - band_db(before, 44100, 200, 2000)
    assert abs(low) < 6
    assert high < -40 if lost else high > -3


@pytest.mark.parametrize("name", ["mp3:8", "mp3:32", "mp3:128", "aac:48", "opus:16", "opus:96"])
def test_so_many_bits_are_spent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, run = [], codec._run
    monkeypatch.setattr(codec, "_run", lambda *a: [sizes.append(len(b := run(*a))), b][1])
    passed_through(hiss(4 * 44100), 44100, name)
    kbit = sizes[0] * 8 / 4 / 1000
    assert codec_of(name).kbit * 0.8 < kbit < codec_of(name).kbit * 1.25 + 5  # and the container


@pytest.mark.parametrize("kind", CODECS)
def test_any_length_comes_back(kind: str) -> None:
    for n in (0, 1, 2, 575, 1153):
        assert passed_through(hiss(n), 22050, f"{kind}:32").shape == (n,)


@pytest.mark.parametrize("rate", [11025, 12345, 96000])
def test_rates_that_no_codec_knows(rate: int) -> None:
    before = reddish(1.0, rate)
    for kind in CODECS:
        after = passed_through(before, rate, f"{kind}:64")
        assert after.shape == before.shape
        assert abs(lag(before, after)) < 0.1


def test_the_same_audio_gives_the_same() -> None:
    before = hiss(30000)
    for kind in CODECS:
        once, again = (passed_through(before, 32000, Codec(kind, 48)) for _ in range(2))
        assert np.array_equal(once, again)


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for kind in CODECS:
        passed_through(hiss(5000), 44100, f"{kind}:32")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mp4:32", r"codec: expected CODEC:KBIT with CODEC one of mp3, aac, opus.* got 'mp4:32'"),
        ("mp3", r"as in 'mp3:32', got 'mp3'"),
        ("mp3:", r"got 'mp3:'"),
        ("mp3:-8", r"got 'mp3:-8'"),
        ("mp3:32k", r"got 'mp3:32k'"),
        ("mp3:３２", r"got 'mp3:３２'"),
        ("mp3:4", r"expected 8 to 320 kbit/s of mp3, got 'mp3:4'"),
        ("opus:300", r"expected 6 to 256 kbit/s of opus, got 'opus:300'"),
        ("aac:320", r"expected 8 to 288 kbit/s of aac, got 'aac:320'"),
    ],
)
def test_codecs_that_there_are_not_are_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        passed_through(hiss(10), 44100, text)
    with pytest.raises(RecipeError, match=message.replace("codec:", r"augment\.codecs:")):
        Chain(Augment(audio_variants=1, codecs=(text,)))


def test_a_codec_reads_as_it_is_written() -> None:
    assert str(codec_of("opus:24")) == "opus:24"
    assert codec_of("opus:24") == Codec("opus", 24)


def program(folder: Path, lines: str) -> str:
    """A stand-in for ffmpeg."""
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("lines", "got"),
    [
        ("cat > /dev/null; echo \"Unknown encoder 'libmp3lame'\" >&2; exit 8", "Unknown encoder"),
        ("exit 3", "status 3"),
        ("cat > /dev/null", "status 0"),
        ("kill -9 $$", "status -9"),
    ],
)
def test_a_bad_ffmpeg_is_named_with_the_codec(
    lines: str, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path, lines)
    monkeypatch.setattr(codec, "_program", lambda: path)
    message = rf"codec 'mp3:32': expected an ffmpeg .*'libmp3lame', got from {path}: {got}.*install"
    with pytest.raises(RecipeError, match=message):
        passed_through(hiss(44100), 44100, "mp3:32")
    with pytest.raises(RecipeError, match=message):
        Chain(dataclasses.replace(WHOLE, codecs=("mp3:32",)))


def test_an_ffmpeg_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    monkeypatch.setattr(codec, "_program", lambda: path)
    monkeypatch.setattr(codec, "TIMEOUT", 2.0)
    with pytest.raises(RecipeError, match=r"codec 'aac:32': .* no end after 2 s"):
        passed_through(hiss(100), 44100, "aac:32")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_no_ffmpeg_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise SourceError("none on the PATH")

    monkeypatch.setattr(codec, "_program", lambda: "/nowhere/ffmpeg")
    with pytest.raises(RecipeError, match=r"/nowhere/ffmpeg: .*No such file"):
        passed_through(hiss(10), 44100, "mp3:32")
    monkeypatch.setattr(codec, "_program", none)
    with pytest.raises(RecipeError, match="got from the search for one: none on the PATH"):
        passed_through(hiss(10), 44100, "mp3:32")


# --- level, noise, room, equaliser


def test_a_level_is_in_decibels() -> None:
    before = hiss(1000)
    assert louder(before, -20.0) == pytest.approx(before / 10, rel=1e-6)
    assert louder(before, -20.0).dtype == np.float32


@pytest.mark.parametrize("ratio", [-3.0, 0.0, 10.0, 40.0])
def test_the_noise_is_as_far_below_as_asked(ratio: float) -> None:
    before = tone(2.0, 16000)
    after = with_noise(before, 16000, ratio, rng(3))
    assert after.dtype == np.float32
    found = 10 * np.log10(power(before) / power(after - before))
    assert found == pytest.approx(ratio, abs=0.02)


def test_long_noise_repeats_without_a_seam() -> None:
    rate = 1000
    before = np.ones(45 * rate, np.float32)
    added = with_noise(before, rate, 0.0, rng(4)) - before
    turn = broadcast.NOISE_SECONDS * rate
    assert np.array_equal(added[:turn], added[turn : 2 * turn])
    steps = np.abs(np.diff(added))
    assert steps[turn - 1] < 5 * steps.mean()


def test_silence_and_nothing_get_no_noise() -> None:
    silence = np.zeros(500, np.float32)
    assert np.array_equal(with_noise(silence, 8000, 10.0, rng()), silence)
    assert len(with_noise(silence[:0], 8000, 10.0, rng())) == 0


@pytest.mark.parametrize(("decay", "level"), [(0.3, -6.0), (1.2, -12.0)])
def test_reverberation_decays_as_asked(decay: float, level: float) -> None:
    rate, gap = 16000, 0.01
    impulse = np.zeros(2 * rate, np.float32)
    impulse[100] = 1
    heard = in_room(impulse, rate, decay, rng(5), level=level, gap=gap)[100:].astype(np.float64)
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
        response = any_room(32000, 16000, rng(seed))
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
        heard = equalised(impulse, rate, 6.0, rng(seed))
        assert int(np.abs(heard).argmax()) == 15000
        around = heard[15000 - 2000 : 15000 + 2001]
        np.testing.assert_allclose(around, around[::-1], atol=1e-5)
        spectrum = np.abs(np.fft.rfft(heard))
        hertz = np.array([500, 1500])
        found.append(20 * np.log10(spectrum[np.round(hertz * 30000 / rate).astype(int)]))
    assert np.std(found, axis=0) == pytest.approx([6, 6], rel=0.2)
    assert equalised(hiss(100), rate, 0.0, rng(2)).shape == (100,)


@pytest.mark.parametrize("n", [1, 2, 1000, 4097, 20000])
@pytest.mark.parametrize(("taps", "centre"), [(1, 0), (7, 3), (1000, 0), (1000, 500)])
def test_blocks_of_a_filter_add_up(
    n: int, taps: int, centre: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "BLOCK", 4096)
    samples, response = hiss(n), hiss(taps, 2)
    expected = np.convolve(samples.astype(np.float64), response)[centre : centre + n]
    np.testing.assert_allclose(filtered(samples, response, centre), expected, atol=1e-5)


# --- the chain


def test_a_chain_without_anything_is_the_identity() -> None:
    before = hiss(5000)
    assert np.array_equal(Chain(Augment())(before, 8000, rng()), before)
    assert len(Chain(WHOLE)(before[:0], 8000, rng())) == 0


def test_a_chain_moves_nothing_and_the_seed_decides() -> None:
    before = reddish(1.2, 22050)
    kept, chain = before.copy(), Chain(WHOLE)
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
    chain, before = Chain(WHOLE), hiss(4000)
    other = dataclasses.replace(WHOLE, mixup_alpha=1.0, audio_variants=7)
    louder_one = dataclasses.replace(WHOLE, audio_level_db=7.0)
    once = pickle.dumps(chain, protocol=4)
    assert pickle.dumps(Chain(other), protocol=4) == once
    assert pickle.dumps(Chain(louder_one), protocol=4) != once
    again = pickle.loads(once)
    assert pickle.dumps(again, protocol=4) == once
    assert np.array_equal(again(before, 8000, rng(3)), chain(before, 8000, rng(3)))


def test_what_is_not_a_number_counts_as_silence() -> None:
    before = hiss(3000)
    before[[5, 100, 2000]] = np.nan, np.inf, -np.inf
    clean = np.where(np.isfinite(before), before, 0).astype(np.float32)
    chain = Chain(dataclasses.replace(WHOLE, codecs=(), room_chance=1.0))
    assert np.array_equal(chain(before, 8000, rng(1)), chain(clean, 8000, rng(1)))


def test_half_is_coded_and_all_codecs_come(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, heard = Chain(dataclasses.replace(Augment(), codecs=WHOLE.codecs)), Counter[str]()

    def count(samples: np.ndarray, rate: int, name: str) -> np.ndarray:
        heard[name] += 1
        return samples

    monkeypatch.setattr(broadcast, "passed_through", count)
    for seed in range(900):
        chain(np.ones(1, np.float32), 8000, rng(seed))
    assert sum(heard.values()) == pytest.approx(450, abs=50)
    assert [heard[name] for name in WHOLE.codecs] == pytest.approx([150] * 3, abs=40)


def test_levels_noise_and_rooms_are_as_often_and_as_strong_as_asked() -> None:
    before = tone(0.1, 8000)
    level = Chain(Augment(audio_level_db=12.0))
    found = [10 * np.log10(power(level(before, 8000, rng(s))) / power(before)) for s in range(500)]
    assert np.abs(found).max() <= 12.001
    assert np.std(found) == pytest.approx(12 / np.sqrt(3), rel=0.1)
    noisy = Chain(Augment(noise_db=10.0))
    ratios = [
        10 * np.log10(power(before) / power(noisy(before, 8000, rng(s)) - before))
        for s in range(500)
    ]
    assert min(ratios) > 9.9
    assert max(ratios) < 40.1
    assert np.mean(ratios) == pytest.approx(25, abs=1.5)
    hall = Chain(Augment(room_chance=0.3))
    rooms = [not np.array_equal(hall(before, 8000, rng(s)), before) for s in range(500)]
    assert np.mean(rooms) == pytest.approx(0.3, abs=0.06)


def test_versions_in_the_cache_lie_beside_the_clean_recording(tmp_path: Path) -> None:
    """Frame by frame the same place: an onset is at the same frame in all of them."""
    rate = 22050
    sound = np.zeros(2 * rate, np.float32)
    sound[rate:] = hiss(rate)
    path = write_wav(tmp_path / "onset.wav", sound, rate)
    item = Item(name="onset", path=path, tags=(), split="train")
    cache = FeatureCache(tmp_path / "cache", FeatureConfig(n_mels=32), Chain(WHOLE))
    assert not cache.build([item], variants=3, workers=1).broken
    onsets, frames = [], [cache.frames(item, version) for version in range(4)]
    for version in frames:
        assert version.shape == frames[0].shape
        loudness = version[:, :16].mean(axis=1)
        onsets.append(int(np.diff(loudness).argmax()))
    assert max(onsets) - min(onsets) <= 2
    assert not np.allclose(frames[0], frames[1], atol=0.1)
