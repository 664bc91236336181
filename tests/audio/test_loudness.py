"""Momentary loudness is that of ITU-R BS.1770-4 and EBU Tech 3341, at every sample rate."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.sounds import write_wav

from streamtag.audio.level import LevelMeter, LevelSettings, take_readings
from streamtag.sources.ffmpeg import ffmpeg_path

RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000)


def sine(rate: int, dbfs: float, hertz: float = 997.0, seconds: float = 2.0) -> np.ndarray:
    """A sine with a peak at a level, (n,) float32."""
    turns = 2 * np.pi * hertz / rate * np.arange(round(seconds * rate))
    return (10 ** (dbfs / 20) * np.sin(turns)).astype(np.float32)


def loudness(samples: np.ndarray, rate: int, sizes: tuple[int, ...] = (10**9,)) -> list[float]:
    """Readings of samples in blocks of these sizes, over and over."""
    meter = LevelMeter(rate, 0, LevelSettings(silence_seconds=0, clipping_seconds=0))
    meter.measure(True, loudness=True)
    at, turn = 0, 0
    while at < len(samples):
        at, turn = at + meter.scan(samples[at : at + sizes[turn % len(sizes)]])[0], turn + 1
    found = [reading.lufs for _, reading in take_readings([meter])]
    assert None not in found
    return [lufs for lufs in found if lufs is not None]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dbfs", [-23.0, -33.0])  # EBU Tech 3341, table 1, cases 1 and 2
def test_a_sine_has_the_loudness_of_the_standard(rate: int, dbfs: float) -> None:
    assert loudness(sine(rate, dbfs), rate) == pytest.approx([dbfs] * 4, abs=0.1)


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("hertz", [25, 100, 500, 2000, 10000])
def test_frequencies_weigh_as_in_the_standard(hertz: float, rate: int) -> None:
    z = np.exp(-2j * np.pi * hertz / 48000 * np.arange(3))
    shelf = z @ [1.53512485958697, -2.69169618940638, 1.19839281085285]  # BS.1770-4, table 1
    shelf /= z @ [1, -1.69065929318241, 0.73248077421585]
    high_pass = z @ [1, -2, 1] / (z @ [1, -1.99004745483398, 0.99007225036621])  # table 2
    expected = -20 - 0.691 + 20 * np.log10(abs(shelf * high_pass))
    found = loudness(sine(rate, -20, hertz), rate)
    assert found[1:] == pytest.approx([expected] * 3, abs=0.15)


def test_loudness_is_the_same_in_blocks_of_any_size() -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 50_000).astype(np.float32)
    whole = loudness(samples, 16000)
    assert len(whole) == 6
    assert loudness(samples, 16000, (1, 799, 1600, 4001)) == whole


def test_it_is_that_of_the_last_400_ms() -> None:
    """EBU Tech 3341, table 1, case 12 in short: what is before does not count."""
    samples = np.concatenate([sine(48000, -3, seconds=0.1), sine(48000, -23, seconds=0.4)])
    assert loudness(samples, 48000) == pytest.approx([-23], abs=0.3)


def test_it_agrees_with_ffmpeg(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    loud = np.repeat(10 ** (rng.uniform(-40, -10, 8) / 20), 24_000)
    samples = (loud * rng.normal(0, 1, len(loud)).cumsum() / 300).astype(np.float32)
    write_wav(tmp_path / "a.wav", samples, 48000)
    meter = "ebur128=dualmono=true:metadata=1,ametadata=print:key=lavfi.r128.M:file=-"
    command = [
        ffmpeg_path(),
        "-v",
        "error",
        "-i",
        tmp_path / "a.wav",
        "-af",
        meter,
        "-f",
        "null",
        "-",
    ]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    theirs = [float(one.partition("=")[2]) for one in lines if one.startswith("lavfi.r128.M=")]
    ours = loudness(samples, 48000)
    assert ours == pytest.approx(theirs[4::5], abs=0.1)  # they have ten a second
