import numpy as np
import pytest
from support.toy import music

from streamtag.audio.block import Block, Resampler, mono, resampled_length
from streamtag.errors import SourceError

RATES = [(44100, 16000), (48000, 22050), (8000, 22050), (44100, 12000), (16000, 16000)]


def pieces(resampler: Resampler, samples: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Pushes samples in blocks of these sizes, over and over."""
    out, at, k = [], 0, 0
    while at < len(samples):
        out.append(resampler.push(samples[at : at + sizes[k % len(sizes)]]))
        at += sizes[k % len(sizes)]
        k += 1
    return np.concatenate([*out, resampler.close()])


@pytest.mark.parametrize(("a", "b"), RATES)
def test_blocks_of_any_size_give_the_same_samples(a: int, b: int) -> None:
    x = music(1.3, a)
    whole = pieces(Resampler(a, b), x, [len(x)])
    for sizes in ([1], [441], [17, 3000, 1], [a]):
        assert np.array_equal(pieces(Resampler(a, b), x, sizes), whole), sizes
    used = Resampler(a, b)
    used.push(music(0.3, a, seed=9))
    used.reset()
    assert np.array_equal(pieces(used, x, [997]), whole)


def test_without_reset_old_samples_remain() -> None:
    x = music(0.5, 44100)
    used = Resampler(44100, 16000)
    before = len(used.push(music(0.3, 44100, seed=9)))
    stale = pieces(used, x, [len(x)])[before:]
    whole = pieces(Resampler(44100, 16000), x, [len(x)])
    n = min(len(stale), len(whole))
    assert not np.array_equal(stale[:n], whole[:n])


@pytest.mark.parametrize(("a", "b"), RATES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 99, 441, 4411, 30007])
def test_the_output_has_resampled_length(a: int, b: int, n: int) -> None:
    samples = np.ones(n, np.float32)
    assert len(pieces(Resampler(a, b), samples, [100])) == resampled_length(n, a, b)
    assert abs(resampled_length(n, a, b) - n * b / a) <= 0.5


@pytest.mark.parametrize(("a", "b"), [(44100, 16000), (48000, 22050), (8000, 22050)])
def test_a_tone_keeps_its_pitch_level_and_time(a: int, b: int) -> None:
    hertz = 1000.0
    tone = np.sin(2 * np.pi * hertz * np.arange(a) / a).astype(np.float32)
    out = pieces(Resampler(a, b), tone, [4410])
    ideal = np.sin(2 * np.pi * hertz * np.arange(len(out)) / b)
    middle = slice(len(out) // 4, -len(out) // 4)
    assert np.abs(out - ideal)[middle].max() < 1e-4


def test_agrees_with_scipy() -> None:
    from scipy import signal

    # Nothing at the band's edge:
    x = signal.resample_poly(music(1.0, 24000), 1, 2).astype(np.float32)
    ours = pieces(Resampler(12000, 48000), x, [100])
    theirs = signal.resample_poly(x, 4, 1)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999


def test_frequencies_above_the_new_band_are_removed() -> None:
    tone = np.sin(2 * np.pi * 15000 * np.arange(44100) / 44100).astype(np.float32)
    out = pieces(Resampler(44100, 16000), tone, [4410])
    assert np.abs(out[1000:-1000]).max() < 1e-4


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(SourceError, match="at least 1 Hz, got 0 Hz"):
        Resampler(0, 16000)


def test_mono_is_the_mean() -> None:
    stereo = np.array([[1.0, 0.0], [0.5, -0.5], [0.25, 0.75]], np.float32)
    assert mono(stereo).tolist() == [0.5, 0.0, 0.5]
    assert mono(stereo[:, 0]).tolist() == [1.0, 0.5, 0.25]
    assert mono(stereo[:, :1]).tolist() == [1.0, 0.5, 0.25]
    assert mono(stereo[:, 1]).flags.c_contiguous
    assert mono(np.zeros((0, 2), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    "bad", [np.zeros(3), np.zeros((2, 2, 2), np.float32), np.zeros((3, 0), np.float32)]
)
def test_mono_refuses_other_shapes_and_types(bad: np.ndarray) -> None:
    with pytest.raises(SourceError, match="expected float32 samples"):
        mono(bad)


def test_the_end_of_a_block() -> None:
    assert Block(np.zeros(5, np.float32), 2**53, 8000).end == 2**53 + 5


@pytest.mark.parametrize(
    ("samples", "got"),
    [
        (np.zeros(4), r"float64 of shape \(4,\)"),
        (np.zeros((4, 2), np.float32), r"float32 of shape \(4, 2\)"),
        (np.zeros(8, np.float32)[::2], r"strided float32 of shape \(4,\)"),
    ],
)
def test_a_block_refuses_what_is_not_mono_float32(samples: np.ndarray, got: str) -> None:
    with pytest.raises(SourceError, match=got):
        Block(samples, 0, 8000)
