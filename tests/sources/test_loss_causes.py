"""Why a source was lost, how long to wait then, and where its audio belongs afterwards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtag.audio.block import Block
from streamtag.engine.events import Cause
from streamtag.sources.backoff import Backoff, BackoffPolicy
from streamtag.sources.causes import Lost, classify, words
from streamtag.sources.ffmpeg_log import MAX_TITLE, Words
from streamtag.sources.reconnect import AHEAD_SECONDS, SETTLE_SECONDS, Timeline

SAID = [
    ("Error opening input: Server returned 404 Not Found", Cause.NOT_FOUND),
    ("HTTP error 410 Gone", Cause.NOT_FOUND),
    ("method DESCRIBE failed: 404 Not Found", Cause.NOT_FOUND),
    ("Server returned 401 Unauthorized (authorization failed)", Cause.AUTH),
    ("Server returned 403 Forbidden (access denied)", Cause.AUTH),
    ("Server returned 5XX Server Error reply", Cause.HTTP),
    ("HTTP error 429 Slow", Cause.HTTP),
    ("Connection to tcp://h:1 failed: Connection refused", Cause.REFUSED),
    ("Failed to resolve hostname nowhere: Name or service not known", Cause.DNS),
    ("Connection to tcp://h:1 failed: Network is unreachable", Cause.UNREACHABLE),
    ("Error opening input: Connection timed out", Cause.TIMEOUT),
    ("The TLS connection was non-properly terminated.", Cause.TLS),
    ("Error opening input: Invalid data found when processing input", Cause.FORMAT),
    ("Stream map '0:a:0' matches no streams.", Cause.FORMAT),
    ("Error while filtering: Cannot allocate memory", Cause.MEMORY),
    ("Error reading HTTP response: End of file", Cause.ENDED),
    ("Stream ends prematurely at 300000, should be 18446744073709551615", Cause.FORMAT),
    ("Stream ends prematurely at 0, should be 18446744073709551615", Cause.ENDED),
    ("who knows", Cause.OTHER),
]


@pytest.mark.parametrize(("line", "cause"), SAID)
def test_what_ffmpeg_says_has_a_cause(line: str, cause: Cause) -> None:
    assert classify([line, "Error opening input files: Input/output error"], heard=False) is cause


def test_after_audio_an_end_is_an_end_whatever_the_last_packet_was() -> None:
    assert classify(["Invalid data found when processing input"], heard=True) is Cause.ENDED
    assert classify(["Stream ends prematurely at 9, should be 99"], heard=True) is Cause.ENDED
    assert classify(["Cannot allocate memory"], heard=True) is Cause.MEMORY


def test_a_circle_of_redirects_is_counted() -> None:
    hop = "Starting connection attempt to 127.0.0.1 port 1"
    assert classify([hop] * 9, heard=False) is Cause.REDIRECT
    assert classify([hop] * 8, heard=False) is Cause.OTHER


def test_no_password_in_what_people_read() -> None:
    lines = ["Server returned 401 Unauthorized http://me:pw@host/x", "Error opening input file x."]
    assert words(lines) == "Server returned 401 Unauthorized http://host/x"
    assert "pw" not in str(Lost(Cause.AUTH, "rtsp://me:pw@host/x: no"))


# What ffmpeg says while it runs


def heard(*lines: str) -> Words:
    said = Words([], [])  # type: ignore[arg-type]  # lists keep everything
    for line in lines:
        said.take(line)
    return said


def test_titles_and_durations_are_read() -> None:
    said = heard(
        "[in#0/mp3 @ 0x55] [verbose] Metadata update for StreamTitle: Käse - Über: ‘x’",
        "[ogg @ 0x1] [verbose] Metadata update for TITLE: b\x1b[31m\u202e\r",
        "[info]   Duration: 01:02:03.50, start: 0.000000, bitrate: 64 kb/s",
        "[tcp @ 0x1] [verbose] Starting connection attempt to 127.0.0.1 port 1",
        "[verbose] nothing of interest",
        "[http @ 0x1] [warning] HTTP error 404 Not Found",
    )
    assert said.titles == ["Käse - Über: ‘x’", "b [31m"]
    assert said.duration == 3723.5
    assert [line[:8] for line in said.lines] == ["Starting", "HTTP err"]


@given(st.text(max_size=900), st.sampled_from(["", "[a @ 0x1] [verbose] ", "[error] "]))
def test_no_line_hurts(text: str, head: str) -> None:
    said = heard(f"{head}{text}", f"[info] Metadata update for StreamTitle: {text}")
    assert all(len(line) <= MAX_TITLE for line in (*said.lines, *said.titles))
    assert all(title.isprintable() for title in said.titles)
    assert classify(said.lines, heard=False) in Cause
    assert words(said.lines)


# How long to wait


def test_waits_double_up_to_the_longest_and_begin_anew_when_it_works() -> None:
    backoff = Backoff(BackoffPolicy(first=1, longest=60, healthy=30), lambda: 1.0)
    waits = [backoff.failed(Cause.REFUSED) for _ in range(8)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.heard(29)
    assert backoff.failed(Cause.ENDED) == 60  # it came, but not for long
    backoff.heard(30)
    assert backoff.failed(Cause.ENDED) == 1


def test_a_thousand_streams_do_not_come_back_in_one_moment() -> None:
    random = np.random.default_rng(1).random
    waits = [Backoff(BackoffPolicy(first=8), random).failed(Cause.REFUSED) for _ in range(1000)]
    assert 4 <= min(waits) < 4.1
    assert 7.9 < max(waits) < 8
    assert np.std(waits) > 1


def test_the_breaker_opens_for_what_waiting_does_not_cure_and_closes_with_audio() -> None:
    backoff = Backoff(BackoffPolicy(tries=3, slow=300), lambda: 1.0)
    assert [backoff.failed(Cause.NOT_FOUND) for _ in range(2)] == [1, 2]
    backoff.failed(Cause.REFUSED)  # another kind of failure: it counts from 1 again
    assert [backoff.failed(Cause.AUTH) for _ in range(2)] == [8, 16]
    assert not backoff.open
    assert [backoff.failed(Cause.NOT_FOUND) for _ in range(2)] == [300, 300]
    assert backoff.open
    backoff.heard(0.1)
    assert not backoff.open


def test_a_lasting_failure_never_overflows() -> None:
    backoff = Backoff(BackoffPolicy(), lambda: 0.0)
    assert [backoff.failed(Cause.DNS) for _ in range(5000)][-1] == 30


# Where audio belongs


def block(start: int, n: int = 100) -> Block:
    return Block(np.zeros(n, np.float32), start, 1000)


def test_a_connection_is_counted_and_the_next_one_placed_by_the_clock() -> None:
    line = Timeline(1000, begun=50.0)
    assert [line.place(block(100 * i), 50.1 + 0.1 * i).start for i in range(3)] == [0, 100, 200]
    line.interrupt()
    assert line.place(block(0), 60.1).start == 10_000  # it ends at the clock's 10.1 s
    assert line.place(block(100), 60.2).start == 10_100
    assert line.place(block(250), 60.3).start == 10_250  # a hole that the source knows of


def test_without_lost_time_one_sample_still_says_that_it_is_another_connection() -> None:
    line = Timeline(1000, begun=0.0)
    line.place(block(0, 5000), 0.1)  # a burst
    line.interrupt()
    assert line.place(block(0), 0.2).start == 5001


def test_audio_is_never_far_ahead_of_the_clock() -> None:
    line, now, start = Timeline(1000, begun=0.0), 0.0, 0
    waited = []
    for _ in range(1000):
        start = line.place(block(start), now).end
        waited.append(wait := max(0.0, line.early(now)))
        now += wait
        assert line.end / 1000 - now <= AHEAD_SECONDS + 1e-9
    assert waited[:20] == [0.0] * 20  # two seconds at once
    assert now == pytest.approx(100 - AHEAD_SECONDS)


def play(drift: float, jitter: float = 0.0) -> tuple[Timeline, int, float, float]:
    """Eight hours of a sender that is too slow or too fast, in blocks of a second.

    Returns:
        The timeline, how many gaps there were, the furthest that a time was wrong, and the longest
        that the sender was held up.
    """
    late = np.random.default_rng(1).uniform(0, jitter, 30_000)
    line = Timeline(1000, begun=drift + late[0])
    now, gaps, furthest, held = 0.0, 0, 0.0, 0.0
    for i in range(30_000):
        now += 1 + drift
        end = line.end
        held = max(held, line.early(now))
        now += max(0.0, line.early(now))
        gaps += line.place(block(1000 * i, 1000), now + late[i]).start > end
        furthest = max(furthest, abs(line.end / 1000 + line.drifted - now))
    return line, gaps, furthest, held


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize("drift", [1e-5, 1e-4, 1e-3, -1e-3, -1e-4])
def test_a_clock_that_is_a_little_off_makes_no_gap_and_no_lag(drift: float, jitter: float) -> None:
    line, gaps, furthest, held = play(drift, jitter)
    assert gaps == 0
    assert held <= 0
    assert line.end == 30_000_000  # every sample, and none twice
    assert line.drifted == pytest.approx(30_000 * drift, abs=0.5)
    assert furthest < 0.5


def test_where_packets_may_be_lost_what_is_missing_is_a_gap() -> None:
    """One in a thousand: it might be a clock, but over UDP it is most likely a loss."""
    line, gaps, now = Timeline(1000, begun=0.001, lossless=False), 0, 0.0
    for i in range(10_000):
        now += 1.001
        end = line.end
        gaps += line.place(block(1000 * i, 1000), now).start > end
    assert gaps == 9
    assert line.drifted == 0


@pytest.mark.parametrize("drift", [0.05, -0.05])
def test_a_sender_far_off_stays_within_a_bound(drift: float) -> None:
    _, gaps, furthest, held = play(drift)
    assert furthest <= (AHEAD_SECONDS + 1.1 if drift < 0 else 1.1 + 3 * drift * SETTLE_SECONDS)
    assert (gaps > 0, held > 0) == (drift > 0, drift < 0)


def test_a_short_delay_is_not_a_loss() -> None:
    line = Timeline(1000, begun=0.0)
    starts = [line.place(block(100 * i), 0.1 * i + 0.1).start for i in range(100)]
    late = [line.place(block(10_000 + 100 * i), 15.0 + 0.05 * i).start for i in range(400)]
    assert starts + late == [100 * i for i in range(500)]
