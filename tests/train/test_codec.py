"""Lossy codecs lose what they lose, and move nothing."""

import dataclasses
import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support.sounds import tone

from streamtag.errors import RecipeError, SourceError
from streamtag.model.shipped import demo_piece
from streamtag.sources.file import FileSource
from streamtag.train.data import codec
from streamtag.train.data.broadcast import BroadcastChain
from streamtag.train.data.codec import encode_decode
from streamtag.train.data.effects import power
from streamtag.train.recipes.codecs import Codec, codec_of
from streamtag.train.recipes.recipe import Augment

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


@pytest.mark.parametrize("kbit", [32, 128])
@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_codec_moves_nothing(rate: int, kind: str, kbit: int) -> None:
    before = reddish(1.53, rate)
    after = encode_decode(before, rate, f"{kind}:{kbit}")
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert abs(lag(before, after)) < 0.5
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("name", ["mp3:32", "aac:32", "opus:32", "mp3:128", "aac:128", "opus:128"])
def test_music_stays_music_at_its_place(name: str) -> None:
    before, rate = piece(5)
    after = encode_decode(before, rate, name)
    assert after.shape == before.shape
    assert abs(lag(before, after)) < 0.2
    assert np.corrcoef(before, after)[0, 1] > 0.95


@pytest.mark.parametrize("kind", CODECS)
def test_the_end_is_not_cut_and_an_onset_stays_where_it_is(kind: str) -> None:
    rate = 44100
    before = np.zeros(rate, np.float32)
    before[-1500:] = tone(1500 / rate, rate, 1500.0)
    after = encode_decode(before, rate, f"{kind}:128")
    assert power(after[-1000:]) == pytest.approx(power(before[-1000:]), rel=0.2)
    assert power(after[: -1500 - 2100]) < 1e-6  # pre-echo is a frame at most


@pytest.mark.parametrize("kind", CODECS)
def test_a_codec_keeps_pitch_and_level(kind: str) -> None:
    rate = 44100
    before = tone(2.0, rate, 1000.0, 0.3)
    after = encode_decode(before, rate, f"{kind}:64")
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
    after = encode_decode(before, 44100, name)
    high = band_db(after, 44100, edge, 16000) - band_db(before, 44100, edge, 16000)
    low = band_db(after, 44100, 200, 2000) - band_db(before, 44100, 200, 2000)
    assert abs(low) < 6
    assert high < -40 if lost else high > -3


@pytest.mark.parametrize("name", ["mp3:8", "mp3:32", "mp3:128", "aac:48", "opus:16", "opus:96"])
def test_so_many_bits_are_spent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, run = [], codec._run
    monkeypatch.setattr(codec, "_run", lambda *a: [sizes.append(len(b := run(*a))), b][1])
    encode_decode(hiss(4 * 44100), 44100, name)
    kbit = sizes[0] * 8 / 4 / 1000
    assert codec_of(name).kbit * 0.8 < kbit < codec_of(name).kbit * 1.25 + 5  # and the container


@pytest.mark.parametrize("kind", CODECS)
def test_any_length_comes_back(kind: str) -> None:
    for n in (0, 1, 2, 575, 1153):
        assert encode_decode(hiss(n), 22050, f"{kind}:32").shape == (n,)


@pytest.mark.parametrize("rate", [11025, 12345, 96000])
def test_rates_that_no_codec_knows(rate: int) -> None:
    before = reddish(1.0, rate)
    for kind in CODECS:
        after = encode_decode(before, rate, f"{kind}:64")
        assert after.shape == before.shape
        assert abs(lag(before, after)) < 0.1


def test_the_same_audio_gives_the_same() -> None:
    before = hiss(30000)
    for kind in CODECS:
        once, again = (encode_decode(before, 32000, Codec(kind, 48)) for _ in range(2))
        assert np.array_equal(once, again)


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for kind in CODECS:
        encode_decode(hiss(5000), 44100, f"{kind}:32")
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
        encode_decode(hiss(10), 44100, text)
    with pytest.raises(RecipeError, match=message.replace("codec:", r"augment\.codecs\.0:")):
        BroadcastChain(Augment(audio_variants=1, codecs=(text,)))


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
        encode_decode(hiss(44100), 44100, "mp3:32")
    with pytest.raises(RecipeError, match=message):
        BroadcastChain(dataclasses.replace(WHOLE, codecs=("mp3:32",)))


def test_an_ffmpeg_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    monkeypatch.setattr(codec, "_program", lambda: path)
    monkeypatch.setattr(codec, "TIMEOUT", 2.0)
    with pytest.raises(RecipeError, match=r"codec 'aac:32': .* no end after 2 s"):
        encode_decode(hiss(100), 44100, "aac:32")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_no_ffmpeg_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise SourceError("none on the PATH")

    monkeypatch.setattr(codec, "_program", lambda: "/nowhere/ffmpeg")
    with pytest.raises(RecipeError, match=r"/nowhere/ffmpeg: .*No such file"):
        encode_decode(hiss(10), 44100, "mp3:32")
    monkeypatch.setattr(codec, "_program", none)
    with pytest.raises(RecipeError, match="got from the search for one: none on the PATH"):
        encode_decode(hiss(10), 44100, "mp3:32")
