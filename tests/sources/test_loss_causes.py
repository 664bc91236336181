"""Why a source was lost."""

import pytest

from streamtag.engine.events import Cause
from streamtag.sources.loss_causes import SourceLost, classify, telling_line

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
def test_a_message_of_ffmpeg_has_a_cause(line: str, cause: Cause) -> None:
    assert (
        classify([line, "Error opening input files: Input/output error"], had_audio=False) is cause
    )


def test_after_audio_an_end_is_an_end_whatever_the_last_packet_was() -> None:
    assert classify(["Invalid data found when processing input"], had_audio=True) is Cause.ENDED
    assert classify(["Stream ends prematurely at 9, should be 99"], had_audio=True) is Cause.ENDED
    assert classify(["Cannot allocate memory"], had_audio=True) is Cause.MEMORY


def test_a_circle_of_redirects_is_counted() -> None:
    hop = "Starting connection attempt to 127.0.0.1 port 1"
    assert classify([hop] * 9, had_audio=False) is Cause.REDIRECT
    assert classify([hop] * 8, had_audio=False) is Cause.OTHER


def test_no_password_in_messages() -> None:
    lines = ["Server returned 401 Unauthorized http://me:pw@host/x", "Error opening input file x."]
    assert telling_line(lines) == "Server returned 401 Unauthorized http://host/x"
    assert "pw" not in str(SourceLost(Cause.AUTH, "rtsp://me:pw@host/x: no"))
