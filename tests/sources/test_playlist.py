"""Playlists that lead to stations: their addresses, and every way in which they cannot be had."""

import ssl
import sys
import time
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from support.faulty_server import (
    OK,
    Answer,
    Connection,
    Server,
    encoded,
    play_until_lost,
    redirect_loop,
    sends,
    status,
)
from support.sounds import tone

from streamtag.engine.events import Cause
from streamtag.errors import SourceError
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.playlist import MAX_BYTES, choose_station, entries, is_playlist
from streamtag.sources.source import ConnectionLimits
from streamtag.sources.tls import TlsSettings
from streamtag.sources.url import UrlSource

PATIENT = ConnectionLimits(connect=60, stall=60)
TEXT = b"HTTP/1.0 200 OK\r\nContent-Type: audio/x-scpls\r\n\r\n"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://x/a.pls", True),
        ("https://x/listen.PLS?sid=1", True),
        ("http://u:p@x:8000/a.mp3.m3u", True),
        ("http://x/a.m3u8", False),
        ("http://x/a.mp3?list=a.pls", False),
        ("rtsp://x/a.pls", False),
        ("sdp:a.m3u", False),
    ],
)
def test_which_addresses_are_of_playlists(url: str, expected: bool) -> None:
    assert is_playlist(url) == expected


LISTS = [
    ("pls", "[playlist]\r\nNumberOfEntries=2\r\nFile1=http://a/1\r\nTitle1=http://no\r\nLength1=-1\r\n"
     "file2 = https://b:8000/;stream.mp3 \r\nVersion=2\r\n", ["http://a/1", "https://b:8000/;stream.mp3"]),
    ("m3u", "http://a/1\nhttp://b/2\n", ["http://a/1", "http://b/2"]),
    ("extended", "#EXTM3U\r\n#EXTINF:-1,Radio\r\n  http://a/1 \r\n\r\n", ["http://a/1"]),
    ("relative", "#EXTM3U\n/a.mp3\nb/c.ogg\n", ["http://x/a.mp3", "http://x/d/b/c.ogg"]),
    ("others", "file:///etc/passwd\nrtsp://a/1\nC:\\Music\\a.mp3\nhttp://b/2\n", ["http://b/2"]),
    ("xspf", '<?xml version="1.0"?>\n<playlist><trackList><track><location>http://a/1?x=1&amp;y=2'
     "</location><title>no</title></track></trackList></playlist>", ["http://a/1?x=1&y=2"]),
    ("asx", '<ASX version="3.0"><Entry><Title>x</Title><Ref href = "http://a/1"/></Entry>'
     "<entry><ref HREF='b'></entry></ASX>", ["http://a/1", "http://x/d/b"]),
    ("a page", "<html>http://a/1</html>", []),
    ("bad", "http://[\nhttp://a:x/1\nhttp://a:99999/\nhttp://a/b c\nhttp://a/\7\nhttp://"
     + "a" * 5000 + "\nhttp://b/2", ["http://b/2"]),
    ("hls", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n", []),
    ("nothing", "", []),
    ("audio", "ID3\0\0\n\xff\xfb", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [x[1:] for x in LISTS], ids=[x[0] for x in LISTS])
def test_the_addresses_in_a_list(text: str, expected: list[str]) -> None:
    assert entries(text, "http://x/d/list.m3u") == expected


@given(st.text(alphabet="[playlist]\nFile1=http://a/:#@%\\ ä\0<location>", max_size=200))
def test_any_text_is_parsed(text: str) -> None:
    for place in entries(text, "http://x/d/list.m3u"):
        assert place.startswith(("http://", "https://"))


@pytest.mark.parametrize(
    "piece",
    ["\n", " ", "a ", "<", "<location>", "<location> ", "<ref ", "<ref href", "<ref href=' ",
     "File1=", "[playlist]\n", "[", "http://[", "\x85", "//", "&#x"],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "<", "[playlist]\n"])
def test_no_long_text_takes_long(piece: str, before: str) -> None:
    """What grows with the square of the length would take minutes; this takes milliseconds."""
    begun = time.thread_time()
    entries((before + piece * MAX_BYTES)[: 16 * MAX_BYTES], "http://x/d/list.m3u")
    assert time.thread_time() - begun < 5


def listed(url: str, ending: str = "pls") -> str:
    return f"{url}.{ending}"


def test_nested_playlists_lead_to_the_station(tmp_path: Path) -> None:
    song = encoded(tmp_path, tone(2, 22050, 440, 0.4), 22050)
    with Server(sends(OK, song)) as radio:
        m3u = TEXT + f"#EXTM3U\n#EXTINF:-1,Radio\n{radio.url}\n".encode()
        with Server(sends(m3u)) as second:
            pls = TEXT + f"[playlist]\nFile1={listed(second.url, 'm3u')}\n".encode()
            with (
                Server(sends(pls)) as third,
                Server(sends(TEXT + listed(third.url).encode())) as first,
            ):
                source = UrlSource(listed(first.url), rate=16000, limits=PATIENT)
                seconds, lost = play_until_lost(source)
    assert seconds > 1.5
    assert lost.cause is Cause.ENDED
    assert first.url in str(lost)
    assert radio.url in str(lost)


def test_every_entry_is_chosen_sometimes() -> None:
    with Server(sends(TEXT + b"http://a/1\nhttp://a/2\n")) as server:
        found = set[str]()
        while len(found) < 2:
            found.add(choose_station(listed(server.url), 60, TlsSettings()))
    assert found == {"http://a/1", "http://a/2"}


def test_what_is_no_playlist_is_left_to_ffmpeg(tmp_path: Path) -> None:
    song = encoded(tmp_path, tone(2, 22050, 440, 0.4), 22050)
    with Server(sends(OK, song)) as server:
        assert choose_station(listed(server.url), 60, TlsSettings()) == listed(server.url)
        assert play_until_lost(UrlSource(listed(server.url), limits=PATIENT))[0] > 1.5


FAULTS = [
    ("not found", status("404 Not Found"), Cause.NOT_FOUND),
    ("password", status("401 No", 'WWW-Authenticate: Basic realm="x"'), Cause.AUTH),
    ("busy", status("503 Busy"), Cause.HTTP),
    ("circle", redirect_loop, Cause.REDIRECT),
    ("to a file", status("302 Found", "Location: file:///etc/passwd"), Cause.REDIRECT),
    ("garbage", sends(bytes(range(256)) * 99), Cause.HTTP),
    ("silent", sends(freeze=True), Cause.TIMEOUT),
]


@pytest.mark.parametrize(("answer", "cause"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_playlist_that_cannot_be_fetched_has_its_cause(answer: Answer, cause: Cause) -> None:
    seconds = 1 if cause is Cause.TIMEOUT else 60
    with (
        Server(answer) as server,
        pytest.raises(SourceLost, match="expected a playlist") as caught,
    ):
        UrlSource(listed(server.url), limits=ConnectionLimits(connect=seconds))
    assert caught.value.cause is cause, str(caught.value)


def test_connection_refused_and_no_such_host() -> None:
    with Server(sends(b"")) as server:
        url = server.url
    for place, cause in ((url, Cause.REFUSED), ("http://nowhere.invalid/a", Cause.DNS)):
        with pytest.raises(SourceLost) as caught:
            choose_station(listed(place), 60, TlsSettings())
        assert caught.value.cause is cause


def test_a_list_that_leads_to_itself() -> None:
    def itself(connection: Connection) -> None:
        connection.send(TEXT + f"http://127.0.0.1:{connection.port}/a.pls\n".encode())

    with Server(itself) as server, pytest.raises(SourceLost) as caught:
        choose_station(listed(server.url), 60, TlsSettings())
    assert caught.value.cause is Cause.REDIRECT


@pytest.mark.parametrize("drip", [b"X-Header: value\r\n", b"\r\n#"], ids=["header", "list"])
def test_a_list_without_end_is_given_up(drip: bytes) -> None:
    def drips(connection: Connection) -> None:
        connection.send(b"HTTP/1.0 200 OK\r\n")
        while not connection.closing.wait(0.05):
            connection.send(drip)

    result: str | Cause
    with Server(drips) as server:
        try:
            result = choose_station(listed(server.url), 0.5, TlsSettings())
        except SourceLost as error:
            result = error.cause
        assert result in (Cause.TIMEOUT, listed(server.url))


def test_a_huge_list_is_not_read_to_its_end() -> None:
    with Server(sends(TEXT + b"http://a/1\n", b"#" * 10**8)) as server:
        assert choose_station(listed(server.url), 60, TlsSettings()) == "http://a/1"
    assert MAX_BYTES < 10**6


def test_a_password_is_sent_as_such() -> None:
    asked = list[bytes]()

    def answer(connection: Connection) -> None:
        asked.append(connection.request())
        connection.send(TEXT + b"http://a/1\n")

    with Server(answer, http=False) as server:
        url = listed(server.url).replace("http://", "http://me:s%20t@")
        assert choose_station(url, 60, TlsSettings()) == "http://a/1"
    assert b"Authorization: Basic bWU6cyB0" in asked[0]


@pytest.mark.parametrize("verify", [True, False])
def test_a_playlist_with_an_untrusted_certificate(verify: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def answer(plain: Connection) -> None:
        with context.wrap_socket(plain.client.dup(), server_side=True) as client:
            connection = Connection(client, plain.closing, plain.port)
            connection.request()
            connection.send(TEXT + b"http://a/1\n")

    with Server(answer, http=False) as server:
        url = listed(server.url).replace("http:", "https:")
        if not verify:
            assert choose_station(url, 60, TlsSettings(False)) == "http://a/1"
            return
        with pytest.raises(SourceLost) as caught:
            choose_station(url, 60, TlsSettings())
    assert caught.value.cause is Cause.TLS


def test_without_httpx_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(SourceError, match=r"expected the package httpx.*pip install") as caught:
        choose_station("http://127.0.0.1:1/a.pls", 60, TlsSettings())
    assert not isinstance(caught.value, SourceLost)
