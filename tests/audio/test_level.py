"""Silence and clipping are found where they are, whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtag.audio.level import (
    LevelChange,
    LevelKind,
    LevelMeter,
    LevelSettings,
    level_changes,
)
from streamtag.errors import ConfigError

RATE = 16000
CELL = RATE // 10
LAG = 3200
"""0.2 s."""
FULL_SCALE = 1 - 2**-14
"""A sample of this size or more counts as clipped. The largest 16-bit value is 1 - 2^-15."""


def noise(seconds: float, dbfs: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """White noise of a level, (n,) float32."""
    rng = np.random.default_rng(seed)
    return (10 ** (dbfs / 20) * rng.standard_normal(round(seconds * rate))).astype(np.float32)


def changes(
    samples: np.ndarray,
    sizes: list[int] | None = None,
    start: int = 0,
    rate: int = RATE,
    **settings: float,
) -> list[LevelChange]:
    """What a meter says to samples in blocks of these sizes, over and over, and at their end."""
    meter = LevelMeter(rate, start, LevelSettings(**settings))
    told: list[LevelChange] = []
    position, turn = 0, 0
    while position < len(samples):
        block = samples[position : position + (sizes or [len(samples)])[turn % len(sizes or [0])]]
        turn, position = turn + 1, position + len(block)
        while len(block):
            taken, some = meter.scan(block)
            told += level_changes(some)
            block = block[taken:]
    return told + level_changes(meter.close(start + len(samples)))


def silences(told: list[LevelChange]) -> list[tuple[LevelKind, int, int]]:
    return [(c.kind, c.at, c.decided) for c in told if c.kind is not LevelKind.CLIPPED]


def test_a_silence_begins_when_it_began_and_ends_when_sound_is_back() -> None:
    samples = np.concatenate([noise(2, -20), noise(6, -200), noise(1, -20)])
    told = changes(samples, silence_seconds=4.0)
    assert told == [
        LevelChange(LevelKind.SILENT, 2 * RATE, 6 * RATE),
        LevelChange(LevelKind.SOUND, 8 * RATE, 8 * RATE + LAG, since=2 * RATE),
    ]


@pytest.mark.parametrize("length", [3.9, 4.0])
def test_a_shorter_silence_is_none(length: float) -> None:
    samples = np.concatenate([noise(1, -20), noise(length, -200), noise(1, -20)])
    assert bool(changes(samples, silence_seconds=4.0)) == (length >= 4)


def test_the_level_is_the_root_mean_square_without_dc() -> None:
    for dbfs, silent in ((-60.5, True), (-59.5, False)):
        for offset in (0.0, 0.3):
            hum = 10 ** (dbfs / 20) * np.sqrt(2) * np.sin(np.arange(6 * RATE) * 2 * np.pi / 160)
            told = changes((hum + offset).astype(np.float32))
            assert bool(told) == silent, (dbfs, offset)


@pytest.mark.parametrize(
    "quiet",
    [
        np.zeros(6 * RATE),
        np.full(6 * RATE, -0.5),
        np.random.default_rng(1).integers(-1, 2, 6 * RATE) / 32768,  # 16-bit dither
        np.linspace(-1e-3, 1e-3, 6 * RATE),  # a coupling capacitor that discharges
        np.full(6 * RATE, 1e-30),
    ],
)
def test_what_a_dead_line_sounds_like(quiet: np.ndarray) -> None:
    told = changes(quiet.astype(np.float32))
    assert silences(told) == [
        (LevelKind.SILENT, 0, 5 * RATE),
        (LevelKind.SOUND, 6 * RATE, 6 * RATE),
    ]


def test_a_click_neither_ends_a_silence_nor_hinders_one() -> None:
    samples = noise(12, -90)
    samples[[3 * RATE, 9 * RATE]] = 1.0
    assert silences(changes(samples)) == [
        (LevelKind.SILENT, 0, 5 * RATE),
        (LevelKind.SOUND, 12 * RATE, 12 * RATE),
    ]


def test_a_silence_is_told_before_it_ends_however_soon() -> None:
    samples = np.concatenate([noise(5, -200), noise(5, -20)])
    assert [c.kind for c in changes(samples)] == [LevelKind.SILENT, LevelKind.SOUND]
    assert [c.kind for c in changes(samples[: 5 * RATE])] == [LevelKind.SILENT, LevelKind.SOUND]


def test_never_if_switched_off() -> None:
    assert changes(np.ones(10 * RATE, np.float32), silence_seconds=0, clipping_seconds=0) == []


def test_windows_inside_a_silence_are_muted() -> None:
    meter = LevelMeter(RATE, 100, LevelSettings(silence_seconds=1))
    at, told = 0, []
    samples = np.concatenate([noise(2, -200), noise(1, -20)])
    while at < len(samples):
        taken, some = meter.scan(samples[at:])
        at, told = at + taken, told + level_changes(some)
    (_, begin, known, *_), (_, _, back, *_) = told
    assert (begin, known, back) == (100, 100 + RATE, 100 + 2 * RATE + LAG)
    assert not meter.silence_at(known)
    assert meter.silence_at(known + 1)
    assert meter.silence_at(back)
    assert not meter.silence_at(back + 1)


def test_a_gap_is_no_silence_but_a_silence_survives_it() -> None:
    meter = LevelMeter(RATE, 0, LevelSettings())
    quiet = np.zeros(3 * RATE, np.float32)
    assert meter.scan(quiet) == (len(quiet), [])
    meter.restart(10 * RATE)
    assert meter.scan(quiet) == (len(quiet), [])
    taken, some = meter.scan(quiet)
    (change,) = level_changes(some)
    assert (taken, change.at) == (2 * RATE + LAG, 10 * RATE)
    meter.restart(20 * RATE)
    assert meter.silence_at(21 * RATE)
    assert [c.kind for c in level_changes(meter.close(21 * RATE))] == [LevelKind.SOUND]


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 30000), min_size=1, max_size=5),
    rate=st.sampled_from([8000, 16000, 44100]),
    start=st.sampled_from([0, 1, 2**53 + 1]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_cutting_gives_equal_changes(
    seed: int, sizes: list[int], rate: int, start: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = [noise(rng.uniform(0, 1.5), rng.choice([-200, -61, -59, 5]), rate) for _ in range(12)]
    samples = np.clip(np.concatenate(parts), -1, 1)
    options = {"silence_seconds": 0.5, "sound_seconds": 0.3, "clipping_seconds": 1.0}
    whole = changes(samples, None, start, rate, **options)
    assert changes(samples, sizes, start, rate, **options) == whole
    kinds = [c.kind for c in whole if c.kind is not LevelKind.CLIPPED]
    assert kinds == [LevelKind.SILENT, LevelKind.SOUND] * (len(kinds) // 2)
    assert all(start <= c.at <= c.decided <= start + len(samples) for c in whole)


def plainly_clipped(samples: np.ndarray) -> int:
    """Samples in runs of at least three at full scale, one by one."""
    count = run = 0
    for x in [*np.abs(samples).tolist(), 0.0]:
        if x >= FULL_SCALE:
            run += 1
            continue
        count += run if run >= 3 else 0
        run = 0
    return count


@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_clipped_sample_is_counted_once(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.uniform(-0.5, 0.5, 4 * CELL).astype(np.float32)
    for at in [*rng.integers(0, len(samples), 6).tolist(), CELL - 2, 2 * CELL - 1]:
        samples[at : at + rng.integers(1, 6)] = rng.choice([-1.0, 1.0, 32767 / 32768, 1.5])
    told = changes(samples, sizes, clipping_seconds=0.1)
    assert sum(c.samples for c in told) == plainly_clipped(samples)


def test_clipping_is_told_once_per_interval() -> None:
    samples = np.clip(noise(10, 6), -1, 1)
    told = changes(samples, clipping_seconds=3.0)
    assert [c.decided - told[0].decided for c in told[:-1]] == [0, 3 * RATE, 6 * RATE, 9 * RATE]
    loud = np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE).astype(np.float32)
    assert changes(loud) == []  # peaks at full scale, but no flat tops


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold_dbfs": 1.0},
        {"threshold_dbfs": float("nan")},
        {"silence_seconds": -1.0},
        {"clipping_seconds": float("inf")},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        LevelSettings(**wrong)
