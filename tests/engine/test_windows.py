from itertools import pairwise

import numpy as np
import pytest

from streamtag.engine.windows import Window, Windower, pad_past
from streamtag.model.card import PastPadding


def by_definition(n: int, window: int, hop: int, first: int) -> list[Window]:
    """All windows of a stream of `n` frames, from the definition."""
    first = min(window, first)
    ends = [e for e in range(1, n + 1) if (e % hop == 0 and e >= first) or e == first < hop]
    if n and (not ends or ends[-1] < n):
        ends.append(n)
    return [Window(max(0, e - window), e, e < window) for e in ends]


def walk(windower: Windower, counts: list[int]) -> list[Window]:
    """Windows as the number of frames grows through `counts`, the last one final."""
    out = [w for n in counts[:-1] for w in windower.due(n)]
    return out + windower.last(counts[-1])


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 19, 20, 21, 29, 30, 31, 49, 50, 51, 60, 123])
@pytest.mark.parametrize(
    ("window", "hop", "first"),
    [(50, 10, 20), (50, 10, 25), (10, 10, 10), (3, 7, 1), (3, 7, 5), (50, 20, 9), (50, 1, 50)],
)
def test_the_windows_are_those_of_the_definition(n: int, window: int, hop: int, first: int) -> None:
    expected = by_definition(n, window, hop, first)
    assert Windower(window, hop, first).last(n) == expected
    assert walk(Windower(window, hop, first), [*range(n), n]) == expected
    assert walk(Windower(window, hop, first), [n // 3, n // 2, n]) == expected


def test_after_reset_it_begins_again() -> None:
    windower = Windower(50, 10, 20)
    windower.due(73)
    assert windower.due(73) == []
    windower.reset()
    assert windower.last(73) == by_definition(73, 50, 10, 20)


def test_a_first_answer_waits_for_no_more_than_a_window() -> None:
    assert Windower(30, 10, 500).due(30) == [Window(0, 30, False)]


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_is_shorter_than_a_frame(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        Windower(*sizes)


def row(count: int) -> np.ndarray:
    """Six frames of two values, the newest `count` heard, the others rubbish."""
    frames = np.full((6, 2), 99, np.float32)
    frames[6 - count :] = np.arange(2 * count, dtype=np.float32).reshape(count, 2) + 1
    return frames


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_every_padding_says_what_it_says(count: int) -> None:
    silence = np.array([-7, -8], np.float32)
    for padding in PastPadding:
        frames = row(count)
        heard = frames[6 - count :].copy()
        pad_past(frames, count, padding, silence)
        past = frames[: 6 - count]
        assert np.array_equal(frames[6 - count :], heard)
        if padding is PastPadding.SILENCE:
            assert (past == silence).all()
        elif padding is PastPadding.ZERO:
            assert (past == 0).all()
        elif padding is PastPadding.MINIMUM:
            assert (past == 1).all()
        else:
            assert np.array_equal(frames, np.concatenate([heard] * 6)[-6:])


def test_windows_overlap_by_what_the_hop_leaves() -> None:
    full = [w for w in Windower(50, 10, 50).due(200)]
    assert {b.first - a.first for a, b in pairwise(full)} == {10}
