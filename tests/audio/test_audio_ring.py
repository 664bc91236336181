"""The ring of 16-bit audio: its indices, its rounding, and what a stream puts into it."""

import math

import numpy as np
import pytest

from streamtag import _core
from streamtag.audio.level import LevelMeter, LevelSettings

RATE = 8000


def stream(ring: _core.AudioRing, rate: int = RATE) -> _core.StreamAudio:
    audio = _core.StreamAudio(rate, 0, LevelMeter(rate, 0, LevelSettings()), None)
    audio.keep(ring)
    return audio


def advance(audio: _core.StreamAudio) -> None:
    _core.allow([audio], math.inf)
    while True:
        _, _, found, more = _core.advance([audio])
        for *_, gap in found:
            if gap is not None:
                audio.restart(gap)
        if not more:
            return


def read(ring: _core.AudioRing, first: int, most: int) -> tuple[int, np.ndarray]:
    start, data = ring.read(first, most)
    return start, np.frombuffer(data, np.int16)


@pytest.mark.parametrize("sizes", [[5000], [1] * 50 + [4950], [799, 0, 4201], [2500, 2500]])
def test_the_newest_samples_are_kept_as_16_bits(sizes: list[int]) -> None:
    samples = np.random.default_rng(1).uniform(-1.2, 1.2, 5000).astype(np.float32)
    ring = _core.AudioRing(RATE, 3000)
    audio, at = stream(ring), 0
    for size in sizes:
        audio.append(at, samples[at : at + size], None)
        advance(audio)
        at += size
    assert (ring.begin, ring.end) == (2000, 5000)
    wanted = np.clip(np.round(samples.astype(np.float64) * 32768), -32768, 32767)
    for first, most, start, count in [(0, 9999, 2000, 3000), (2500, 100, 2500, 100)]:
        begin, found = read(ring, first, most)
        assert (begin, len(found)) == (start, count)
        np.testing.assert_array_equal(found, wanted[start : start + count])
    assert [len(read(ring, first, 10)[1]) for first in (4995, 5000, 9000)] == [5, 0, 0]
    assert read(ring, 3000, -1)[1].size == 0


def test_missing_audio_is_silence_at_its_place() -> None:
    ring = _core.AudioRing(RATE, 8000)
    audio, ones = stream(ring), np.full(1000, 0.5, np.float32)
    audio.append(0, ones, None)
    audio.append(3000, ones, None)
    advance(audio)
    _, found = read(ring, 0, 9999)
    wanted = [16384] * 1000 + [0] * 2000 + [16384] * 1000
    assert found.tolist() == wanted
    audio.append(1_000_000, ones, None)  # more is missing than the ring holds
    advance(audio)
    assert (ring.begin, ring.end) == (1_000_000, 1_001_000)


def test_another_rate_keeps_the_time() -> None:
    ring = _core.AudioRing(16000, 32000)
    audio = stream(ring, 44100)
    at = np.arange(44100 * 2) / 44100
    audio.append(0, np.sin(2 * np.pi * 100 * at).astype(np.float32), None)
    advance(audio)
    first, found = read(ring, 4000, 16000)
    wanted = np.sin(2 * np.pi * 100 * (first + np.arange(16000)) / 16000)
    np.testing.assert_allclose(found / 32768, wanted, atol=0.002)


@pytest.mark.parametrize("sizes", [(0, 1, 0), (1, 0, 0), (1, 1, -1), (1, 2**40, 0)])
def test_impossible_rings_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        _core.AudioRing(*sizes)
