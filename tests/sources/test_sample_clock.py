"""Where the blocks of successive connections belong on the clock of a stream."""

import numpy as np
import pytest

from streamtag.audio.block import Block
from streamtag.sources.reconnect import AHEAD_SECONDS, SETTLE_SECONDS, SampleClock


def block(start: int, n: int = 100) -> Block:
    return Block(np.zeros(n, np.float32), start, 1000)


def test_a_connection_is_counted_and_the_next_one_placed_by_the_clock() -> None:
    line = SampleClock(1000, begun=50.0)
    assert [line.place(block(100 * i), 50.1 + 0.1 * i).start for i in range(3)] == [0, 100, 200]
    line.disconnect()
    assert line.place(block(0), 60.1).start == 10_000  # it ends at the clock's 10.1 s
    assert line.place(block(100), 60.2).start == 10_100
    assert line.place(block(250), 60.3).start == 10_250  # a hole that the source knows of


def test_without_lost_time_a_gap_of_one_sample_separates_connections() -> None:
    line = SampleClock(1000, begun=0.0)
    line.place(block(0, 5000), 0.1)  # a burst
    line.disconnect()
    assert line.place(block(0), 0.2).start == 5001


def test_audio_is_never_far_ahead_of_the_clock() -> None:
    line, now, start = SampleClock(1000, begun=0.0), 0.0, 0
    waited = []
    for _ in range(1000):
        start = line.place(block(start), now).end
        waited.append(wait := max(0.0, line.wait_seconds(now)))
        now += wait
        assert line.end / 1000 - now <= AHEAD_SECONDS + 1e-9
    assert waited[:20] == [0.0] * 20  # two seconds at once
    assert now == pytest.approx(100 - AHEAD_SECONDS)


def play(drift: float, jitter: float = 0.0) -> tuple[SampleClock, int, float, float]:
    """Eight hours of a sender that is too slow or too fast, in blocks of a second.

    Returns:
        The timeline, how many gaps there were, the furthest that a time was wrong, and the longest
        that the sender was held up.
    """
    late = np.random.default_rng(1).uniform(0, jitter, 30_000)
    line = SampleClock(1000, begun=drift + late[0])
    now, gaps, furthest, held = 0.0, 0, 0.0, 0.0
    for i in range(30_000):
        now += 1 + drift
        end = line.end
        held = max(held, line.wait_seconds(now))
        now += max(0.0, line.wait_seconds(now))
        gaps += line.place(block(1000 * i, 1000), now + late[i]).start > end
        furthest = max(furthest, abs(line.end / 1000 + line.drift - now))
    return line, gaps, furthest, held


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize("drift", [1e-5, 1e-4, 1e-3, -1e-3, -1e-4])
def test_a_clock_that_is_a_little_off_makes_no_gap_and_no_lag(drift: float, jitter: float) -> None:
    line, gaps, furthest, held = play(drift, jitter)
    assert gaps == 0
    assert held <= 0
    assert line.end == 30_000_000  # every sample, and none twice
    assert line.drift == pytest.approx(30_000 * drift, abs=0.5)
    assert furthest < 0.5


def test_where_packets_may_be_lost_what_is_missing_is_a_gap() -> None:
    """One in a thousand: it might be a clock, but over UDP it is most likely a loss."""
    line, gaps, now = SampleClock(1000, begun=0.001, lossless=False), 0, 0.0
    for i in range(10_000):
        now += 1.001
        end = line.end
        gaps += line.place(block(1000 * i, 1000), now).start > end
    assert gaps == 9
    assert line.drift == 0


@pytest.mark.parametrize("drift", [0.05, -0.05])
def test_a_sender_far_off_stays_within_a_bound(drift: float) -> None:
    _, gaps, furthest, held = play(drift)
    assert furthest <= (AHEAD_SECONDS + 1.1 if drift < 0 else 1.1 + 3 * drift * SETTLE_SECONDS)
    assert (gaps > 0, held > 0) == (drift > 0, drift < 0)


def test_a_short_delay_is_not_a_loss() -> None:
    line = SampleClock(1000, begun=0.0)
    starts = [line.place(block(100 * i), 0.1 * i + 0.1).start for i in range(100)]
    late = [line.place(block(10_000 + 100 * i), 15.0 + 0.05 * i).start for i in range(400)]
    assert starts + late == [100 * i for i in range(500)]
