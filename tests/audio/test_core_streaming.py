"""Whole = pieces, to the last bit: the front end as a machine with a state."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracle

from streamtag import _core
from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FrontEnd, frames_of, push_many

CONFIGS = [
    FeatureConfig(n_fft=64, hop=20, n_mels=12),
    FeatureConfig(n_fft=512, hop=160),
    FeatureConfig(n_fft=64, hop=24, n_mels=12, framing="centered"),
    FeatureConfig(n_fft=64, hop=24, n_mels=12, framing="centered", padding="zero", tail="ceil"),
    FeatureConfig(n_fft=32, hop=100, n_mels=5, framing="centered"),
    FeatureConfig(n_fft=32, hop=100, n_mels=5, framing="centered", padding="zero", tail="ceil"),
    FeatureConfig(n_fft=32, hop=100, n_mels=5),
    FeatureConfig(n_fft=64, hop=16, n_mels=9, log="db", top_db=20, order="log_mel", weighting="a"),
    FeatureConfig(n_fft=64, hop=24, n_mels=12, framing="centered", preemphasis=0.97),
    FeatureConfig(n_fft=32, hop=100, n_mels=5, preemphasis=1.0),
    FeatureConfig(kind="raw", gain=0.5),
]
NOISE = np.random.default_rng(0).standard_normal(6000).astype(np.float32)
TONES = np.concatenate([np.sin(0.3 * np.arange(3000)), NOISE[:400], np.sin(np.arange(2600))])
TONES = TONES.astype(np.float32)  # frames that need double precision, among others that do not


def all_frames(front_end: FrontEnd) -> np.ndarray:
    ring = front_end.ring
    return ring.copy(ring.begin, ring.end - ring.begin)


@settings(max_examples=150, deadline=None)
@given(
    config=st.sampled_from(CONFIGS),
    isa=st.sampled_from(_core.instruction_sets()),
    signal=st.sampled_from([NOISE, TONES[1000:]]),
    length=st.integers(0, 2500),
    cuts=st.lists(st.integers(0, 2500), max_size=30),
)
def test_any_blocks_give_the_same_frames(
    config: FeatureConfig, isa: str, signal: np.ndarray, length: int, cuts: list[int]
) -> None:
    blocks = np.split(signal[:length], sorted(cuts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMTAG_ISA", isa)
        whole = frames_of(signal[:length], config)
        front_end = FrontEnd(config, 3000)
        gained = [front_end.push(block) for block in blocks]
    assert front_end.position == len(np.concatenate(blocks))
    gained.append(front_end.close())
    assert sum(gained) == front_end.ring.end == config.n_frames(front_end.position)
    if front_end.position == length:
        np.testing.assert_array_equal(all_frames(front_end), whole)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_blocks_of_one_size(config: FeatureConfig, size: int) -> None:
    front_end = FrontEnd(config, 6001)
    for start in range(0, len(NOISE), size):
        front_end.push(NOISE[start : start + size])
    front_end.close()
    np.testing.assert_array_equal(all_frames(front_end), frames_of(NOISE, config))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("capacity", [1, 3, 17])
def test_a_ring_smaller_than_the_block_keeps_the_newest(
    config: FeatureConfig, capacity: int
) -> None:
    front_end = FrontEnd(config, capacity)
    front_end.push(NOISE)
    expected = frames_of(NOISE, config)[: front_end.ring.end]
    np.testing.assert_array_equal(all_frames(front_end), expected[-capacity:])


@pytest.mark.parametrize("isa", _core.instruction_sets())
@pytest.mark.parametrize("n_fft", [32, 64, 128, 256, 512, 1024, 2048])
@pytest.mark.parametrize("spectrum", ["power", "magnitude"])
def test_batched_frames_equal_single_frames(
    isa: str, n_fft: int, spectrum: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMTAG_ISA", isa)
    config = FeatureConfig(
        n_fft=n_fft, hop=n_fft // 4, n_mels=min(37, n_fft // 4), spectrum=spectrum, log="none"
    )
    for signal in (NOISE, TONES):
        together = frames_of(signal, config)
        alone = [
            frames_of(signal[start : start + n_fft], config)
            for start in range(0, len(signal) - n_fft + 1, config.hop)
        ]
        np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 99, 100, 101])
def test_short_streams_equal_the_oracle(config: FeatureConfig, length: int) -> None:
    samples = NOISE[:length]
    got, truth = frames_of(samples, config), oracle.frames(samples, config)
    assert got.shape == (config.n_frames(length), config.width)
    if length:
        np.testing.assert_allclose(got, truth, atol=2e-3)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("start_frame", [2**31 - 3, 2**32 - 3, 2**53 - 3])
def test_large_start_frames(config: FeatureConfig, start_frame: int) -> None:
    front_end = FrontEnd(config, 6001, start_frame=start_frame)
    assert front_end.position == start_frame * config.frame_hop
    front_end.push(NOISE[:1234])
    front_end.push(NOISE[1234:])
    front_end.close()
    expected = frames_of(NOISE, config)
    assert front_end.position == start_frame * config.frame_hop + len(NOISE)
    assert (front_end.ring.begin, front_end.ring.end) == (start_frame, start_frame + len(expected))
    np.testing.assert_array_equal(front_end.ring.copy(start_frame, len(expected)), expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_reset_clears_all_state(config: FeatureConfig) -> None:
    used, fresh, kept = (FrontEnd(config, 6001) for _ in range(3))
    for front_end in (used, kept):
        front_end.push(NOISE[:1001] * 30)
    used.close()
    used.reset(7)
    for front_end in (used, fresh, kept):
        front_end.push(NOISE[1001:])
    assert used.ring.begin == 7
    np.testing.assert_array_equal(all_frames(used), all_frames(fresh))
    assert used.position == fresh.position + 7 * config.frame_hop
    newest = kept.ring.copy(kept.ring.end - fresh.ring.end, fresh.ring.end)
    if config.kind == "logmel":
        assert not np.array_equal(newest, all_frames(fresh))
    used.reset()
    assert (used.ring.begin, used.ring.end, used.position) == (0, 0, 0)


@pytest.mark.parametrize("config", CONFIGS)
def test_many_streams_in_one_call_equal_each_alone(config: FeatureConfig) -> None:
    rng = np.random.default_rng(5)
    streams = rng.standard_normal((20, 3000)).astype(np.float32)
    front_ends = [FrontEnd(config, 3001) for _ in streams]
    taken = np.zeros(len(streams), int)
    while (taken < 3000).any():
        ends = np.minimum(3000, taken + rng.integers(0, 700, len(streams)))
        blocks = [s[a:b] for s, a, b in zip(streams, taken, ends, strict=True)]
        before = [front_end.ring.end for front_end in front_ends]
        gained = push_many(front_ends, blocks)
        assert gained == [f.ring.end - b for f, b in zip(front_ends, before, strict=True)]
        taken = ends
    for front_end, stream in zip(front_ends, streams, strict=True):
        front_end.close()
        np.testing.assert_array_equal(all_frames(front_end), frames_of(stream, config))


def test_streams_of_different_kinds_share_a_call() -> None:
    front_ends = [FrontEnd(config, 6001) for config in CONFIGS]
    push_many(front_ends, [NOISE] * len(front_ends))
    for front_end in front_ends:
        front_end.close()
        np.testing.assert_array_equal(all_frames(front_end), frames_of(NOISE, front_end.config))


def test_push_many_refuses_bad_arguments_and_changes_nothing() -> None:
    one, two = FrontEnd(CONFIGS[0], 10), FrontEnd(CONFIGS[0], 10)
    with pytest.raises(ValueError, match="each one once"):
        push_many([one, two, one], [NOISE] * 3)
    with pytest.raises(ValueError, match="blocks: expected 2 of them, got 1"):
        push_many([one, two], [NOISE])
    with pytest.raises(TypeError, match="float64"):
        push_many([one, two], [NOISE, NOISE.astype(np.float64)])
    two.close()
    with pytest.raises(ValueError, match="push after close"):
        push_many([one, two], [NOISE, NOISE])
    assert one.position == two.position == 0
    assert push_many([], []) == []


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "float32 array of 1 dimension, got .*list"),
        (np.zeros(8), TypeError, "got float64"),
        (np.zeros(8, np.int16), TypeError, "got int16"),
        (np.zeros(8, ">f4"), TypeError, "got >f4"),
        (np.zeros((8, 2), np.float32), ValueError, r"got shape \(8, 2\)"),
        (np.zeros((), np.float32), ValueError, r"got shape \(\)"),
        (np.zeros((8, 2), np.float32)[:, 0], ValueError, r"strided memory of shape \(8,\)"),
    ],
)
def test_other_arrays_are_refused(samples: object, error: type[Exception], message: str) -> None:
    front_end = FrontEnd(CONFIGS[0], 10)
    with pytest.raises(error, match=message):
        front_end.push(samples)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        frames_of(samples, CONFIGS[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("config", CONFIGS)
def test_nonfinite_samples_count_as_zero(config: FeatureConfig) -> None:
    bad = NOISE.copy()
    bad[[0, 17, 2000]] = np.nan, np.inf, -np.inf
    front_end = FrontEnd(config, 6001)
    front_end.push(bad)
    front_end.close()
    assert front_end.nonfinite == 3
    cleaned = np.where(np.isfinite(bad), bad, np.float32(0))
    np.testing.assert_array_equal(all_frames(front_end), frames_of(cleaned, config))
    front_end.reset()
    assert front_end.nonfinite == 0


def test_closing_twice_adds_nothing_and_pushing_then_is_refused() -> None:
    front_end = FrontEnd(CONFIGS[2], 1000)
    front_end.push(NOISE)
    assert front_end.close() > 0
    assert front_end.close() == 0
    with pytest.raises(ValueError, match="reset the front end first"):
        front_end.push(NOISE)
    front_end.reset()
    assert front_end.push(NOISE) > 0


@pytest.mark.parametrize("start_frame", [-1, 2**62])
def test_start_frames_that_cannot_be_counted_are_refused(start_frame: int) -> None:
    with pytest.raises(ValueError, match="start_frame"):
        FrontEnd(CONFIGS[0], 10, start_frame=start_frame)


def test_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMTAG_ISA", "mmx")
    with pytest.raises(ValueError, match=r"this CPU runs .*baseline, got 'mmx'"):
        frames_of(NOISE, CONFIGS[0])


def test_other_threads_run_while_frames_are_made() -> None:
    config = FeatureConfig(n_fft=2048, hop=8)
    samples = np.tile(NOISE, 40)
    turns = 0
    done = threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1

    thread = threading.Thread(target=count)
    extractor = _core.Extractor(**config.to_dict())
    thread.start()
    try:
        before = turns
        extractor.push(samples)
        progress = turns - before
    finally:
        done.set()
        thread.join()
    assert progress > 1000
