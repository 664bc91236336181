"""The ring and the gather of windows."""

import numpy as np
import pytest

from streamtag._core import FrameRing, append_each, gather


def numbered(first: int, count: int, width: int = 3) -> np.ndarray:
    """Frames that say their own index, modulo what float32 can hold."""
    column = (np.arange(first, first + count) % 100003).astype(np.float32)
    return np.repeat(column[:, None], width, axis=1)


@pytest.mark.parametrize("start", [0, 2**31 - 4, 2**32 - 4, 2**53 - 4])
@pytest.mark.parametrize("pieces", [[1] * 25, [7, 0, 3, 15], [25], [10, 10, 5], [3, 40, 2]])
def test_ring_holds_the_newest_frames(start: int, pieces: list[int]) -> None:
    ring = FrameRing(10, 3, start)
    end = start
    for count in pieces:
        ring.push(numbered(end, count))
        end += count
        begin = max(start, end - 10)
        assert (ring.begin, ring.end) == (begin, end)
        np.testing.assert_array_equal(ring.copy(begin, end - begin), numbered(begin, end - begin))
    np.testing.assert_array_equal(ring.copy(end - 4, 3), numbered(end - 4, 3))
    assert ring.copy(end, 0).shape == (0, 3)


def test_ring_never_returns_a_view_of_itself() -> None:
    ring = FrameRing(4, 1)
    ring.push(np.ones((4, 1), np.float32))
    copied = ring.copy(0, 4)
    ring.push(np.zeros((4, 1), np.float32))
    assert copied.sum() == 4


@pytest.mark.parametrize(
    ("first", "count"), [(14, 1), (25, 1), (15, 11), (-1, 1), (15, -1), (2**62, 2**62)]
)
def test_frames_outside_are_refused_with_both_ranges(first: int, count: int) -> None:
    ring = FrameRing(10, 3)
    ring.push(numbered(0, 25))
    with pytest.raises(IndexError, match=r"asked of a ring that holds \[15, 25\)"):
        ring.copy(first, count)


def test_clear_removes_all_frames() -> None:
    ring = FrameRing(10, 3)
    ring.push(numbered(0, 25))
    ring.clear(1000)
    assert (ring.begin, ring.end) == (1000, 1000)
    ring.push(numbered(1000, 4))
    np.testing.assert_array_equal(ring.copy(1000, 4), numbered(1000, 4))
    with pytest.raises(IndexError):
        ring.copy(999, 1)


@pytest.mark.parametrize("sizes", [(0, 3), (10, 0), (-1, 3), (2**40, 2**40)])
def test_impossible_rings_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        FrameRing(*sizes)


def test_frames_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(n, 3\), got \(2, 4\)"):
        FrameRing(10, 3).push(np.zeros((2, 4), np.float32))


def test_gather_fills_each_row_from_the_right() -> None:
    rings = [FrameRing(10, 3, start) for start in (0, 100, 2**53)]
    for ring, start in zip(rings, (0, 100, 2**53), strict=True):
        ring.push(numbered(start, 14))
    out = np.full((3, 6, 3), -1, np.float32)
    gather(rings, [5, 106, 2**53 + 8], [6, 2, 0], out)
    np.testing.assert_array_equal(out[0], numbered(5, 6))
    np.testing.assert_array_equal(out[1, 4:], numbered(106, 2))
    assert (out[1, :4] == -1).all()
    assert (out[2] == -1).all()
    gather(rings, [5, 106, 2**53 + 8], 6, out)
    np.testing.assert_array_equal(out[2], numbered(2**53 + 8, 6))


def test_append_each_gives_each_ring_its_row() -> None:
    rings = [FrameRing(10, 3, start) for start in (0, 100)]
    append_each(rings, np.stack([numbered(start, 14) for start in (0, 100)]))
    for ring, start in zip(rings, (0, 100), strict=True):
        assert (ring.begin, ring.end) == (start + 4, start + 14)
        np.testing.assert_array_equal(ring.copy(start + 4, 10), numbered(start + 4, 10))


def test_append_each_changes_nothing_where_a_row_does_not_fit() -> None:
    rings = [FrameRing(10, 3), FrameRing(10, 4)]
    with pytest.raises(ValueError, match="expected rows of width 4"):
        append_each(rings, np.zeros((2, 1, 3), np.float32))
    with pytest.raises(ValueError, match="rows of frames: expected 2 of them, got 3"):
        append_each(rings, np.zeros((3, 1, 3), np.float32))
    assert [ring.end for ring in rings] == [0, 0]


def test_gather_accepts_a_ring_twice() -> None:
    ring = FrameRing(10, 3)
    ring.push(numbered(0, 10))
    out = np.empty((2, 4, 3), np.float32)
    gather([ring, ring], [0, 6], 4, out)
    np.testing.assert_array_equal(out.reshape(8, 3)[[0, 7]], numbered(0, 10)[[0, 9]])


def test_gather_accepts_numpy_integers() -> None:
    ring = FrameRing(10, 3)
    ring.push(numbered(0, 10))
    out = np.empty((2, 4, 3), np.float32)
    gather([ring, ring], list(np.array([0, 6])), np.int64(4), out)  # type: ignore[arg-type]
    again = np.empty_like(out)
    gather([ring, ring], np.array([0, 6]), np.array([4, 4]), again)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again, out)


@pytest.mark.parametrize(
    ("firsts", "counts", "shape", "error", "message"),
    [
        ([0, 3], 4, (2, 4, 3), IndexError, r"frames \[3, 7\) asked of .* \[0, 5\)"),
        ([0, -1], 4, (2, 4, 3), IndexError, r"frames \[-1, 3\)"),
        ([0], 4, (2, 4, 3), ValueError, "firsts: expected 2 of them, got 1"),
        ([0, 0], [4], (2, 4, 3), ValueError, "counts: expected 2 of them, got 1"),
        ([0, 0], 4, (3, 4, 3), ValueError, "rows of out: expected 2 of them, got 3"),
        ([0, 0], 4, (2, 4, 4), ValueError, "expected rows of width 3"),
        ([0, 0], 5, (2, 4, 3), ValueError, "counts: expected at most 4 frames, got 5"),
        ([0, 0], 4, (8, 3), ValueError, r"of 3 dimensions, got shape \(8, 3\)"),
    ],
)
def test_gather_refuses_before_it_copies(
    firsts: list[int],
    counts: int | list[int],
    shape: tuple[int, ...],
    error: type[Exception],
    message: str,
) -> None:
    rings = [FrameRing(10, 3) for _ in range(2)]
    for ring in rings:
        ring.push(numbered(0, 5))
    out = np.zeros(shape, np.float32)
    with pytest.raises(error, match=message):
        gather(rings, firsts, counts, out)
    assert not out.any()


def test_gather_refuses_read_only_and_strided_memory() -> None:
    ring = FrameRing(10, 3)
    ring.push(numbered(0, 5))
    out = np.zeros((1, 4, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        gather([ring], [0], 4, out)
    with pytest.raises(ValueError, match="strided"):
        gather([ring], [0], 4, np.zeros((1, 4, 6), np.float32)[:, :, ::2])
    with pytest.raises(TypeError, match="float64"):
        gather([ring], [0], 4, np.zeros((1, 4, 3)))
