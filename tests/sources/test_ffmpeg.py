"""The log of ffmpeg: titles, durations, messages."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from streamtag.engine.events import Cause
from streamtag.sources.ffmpeg import MAX_TITLE, FfmpegLog
from streamtag.sources.loss_causes import classify, telling_line


def parsed(*lines: str) -> FfmpegLog:
    said = FfmpegLog(deque(), deque())  # without a bound
    for line in lines:
        said.add(line)
    return said


def test_titles_and_durations_are_read() -> None:
    said = parsed(
        "[in#0/mp3 @ 0x55] [verbose] Metadata update for StreamTitle: Käse - Über: ‘x’",
        "[ogg @ 0x1] [verbose] Metadata update for TITLE: b\x1b[31m\u202e\r",
        "[info]   Duration: 01:02:03.50, start: 0.000000, bitrate: 64 kb/s",
        "[tcp @ 0x1] [verbose] Starting connection attempt to 127.0.0.1 port 1",
        "[verbose] nothing of interest",
        "[http @ 0x1] [warning] HTTP error 404 Not Found",
    )
    assert list(said.titles) == ["Käse - Über: ‘x’", "b [31m"]
    assert said.duration == 3723.5
    assert [line[:8] for line in said.lines] == ["Starting", "HTTP err"]


@given(st.text(max_size=900), st.sampled_from(["", "[a @ 0x1] [verbose] ", "[error] "]))
def test_any_line_is_parsed(text: str, head: str) -> None:
    said = parsed(f"{head}{text}", f"[info] Metadata update for StreamTitle: {text}")
    assert all(len(line) <= MAX_TITLE for line in (*said.lines, *said.titles))
    assert all(title.isprintable() for title in said.titles)
    assert classify(said.lines, had_audio=False) in Cause
    assert telling_line(said.lines)
