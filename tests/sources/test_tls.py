"""Certificates over TLS: what may be trusted is heard, everything else refused, with its cause."""

import functools
import http.server
import shutil
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import imageio_ffmpeg
import pytest
import trustme
from support.faulty_server import OK, Answer, Connection, Server, encoded, play_until_lost, sends
from support.ports import blocks_of
from support.sounds import tone

from streamtag.audio.block import Block
from streamtag.config.config import load_config
from streamtag.daemon.check import complaints_about
from streamtag.engine.events import Cause
from streamtag.sources import tls
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.source import ConnectionLimits
from streamtag.sources.tls import (
    TlsSettings,
    certificate_problem,
    ffmpeg_for_tls,
    system_authorities,
    verifies_everything,
)
from streamtag.sources.url import UrlSource

PATIENT = ConnectionLimits(connect=60, stall=60)
DAY = timedelta(days=1)


class Secured(Server):
    """A server that speaks TLS; `asked` counts the requests that it understood."""

    def __init__(self, certificate: trustme.LeafCert, *answers: Answer) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        self.asked = 0
        super().__init__(*[self._securely(answer) for answer in answers], http=False)
        self.url = f"https://127.0.0.1:{self.port}/a"

    def _securely(self, answer: Answer) -> Answer:
        def secured(plain: Connection) -> None:
            with self._context.wrap_socket(plain.client.dup(), server_side=True) as client:
                connection = Connection(client, plain.closing, plain.port)
                if connection.request():
                    self.asked += 1
                    answer(connection)

        return secured


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of a tone as MP3."""
    return encoded(tmp_path_factory.mktemp("song"), tone(2, 22050, 440, 0.4), 22050)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The authority's certificate as a file."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def certificate(authority: trustme.CA, kind: str) -> trustme.LeafCert:
    """For this machine, but for what is wrong with it."""
    now = datetime.now(UTC)
    if kind == "untrusted":
        return trustme.CA().issue_cert("127.0.0.1")
    if kind == "expired":
        return authority.issue_cert("127.0.0.1", not_before=now - 9 * DAY, not_after=now - DAY)
    return authority.issue_cert("example.com" if kind == "of another" else "127.0.0.1")


def test_a_trusted_server_is_accepted(authority: trustme.CA, trusted: str, song: bytes) -> None:
    with Secured(certificate(authority, "good"), sends(OK, song)) as server:
        seconds, lost = play_until_lost(
            UrlSource(server.url, limits=PATIENT, tls=TlsSettings(True, trusted))
        )
    assert seconds > 1.5
    assert lost.cause is Cause.ENDED  # though TLS was not ended in due form


BAD = [
    ("untrusted", "unable to get local issuer certificate|self.signed"),
    ("expired", "certificate has expired"),
    ("of another", "mismatch"),
]


@pytest.mark.parametrize(("kind", "why"), BAD, ids=[kind for kind, _ in BAD])
def test_a_bad_certificate_is_refused_before_anything_is_asked(
    authority: trustme.CA, trusted: str, song: bytes, kind: str, why: str
) -> None:
    with Secured(certificate(authority, kind), sends(OK, song)) as server:
        seconds, lost = play_until_lost(
            UrlSource(server.url, limits=PATIENT, tls=TlsSettings(True, trusted))
        )
        assert (seconds, lost.cause, server.asked) == (0, Cause.TLS, 0)
        with pytest.raises(SourceLost, match=why):
            raise lost
        # Who does not want to know hears it.
        seconds, lost = play_until_lost(
            UrlSource(server.url, limits=PATIENT, tls=TlsSettings(False))
        )
        assert (seconds > 1.5, lost.cause) == (True, Cause.ENDED)


def test_by_default_the_authorities_of_the_system_count(
    authority: trustme.CA, trusted: str, song: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Secured(certificate(authority, "good"), sends(OK, song)) as server:
        _, lost = play_until_lost(UrlSource(server.url, limits=PATIENT))
        assert (lost.cause, server.asked) == (Cause.TLS, 0)
        monkeypatch.setenv("SSL_CERT_FILE", trusted)
        system_authorities.cache_clear()
        try:
            seconds, _ = play_until_lost(UrlSource(server.url, limits=PATIENT))
        finally:
            system_authorities.cache_clear()
    assert seconds > 1.5


def test_a_plain_address_that_leads_to_a_bad_certificate(
    authority: trustme.CA, song: bytes
) -> None:
    if ffmpeg_for_tls(ffmpeg_path()) != ffmpeg_path():
        pytest.skip("the ffmpeg on the PATH is too old to check whom a plain address leads to")
    with Secured(certificate(authority, "good"), sends(OK, song)) as server:
        to = f"HTTP/1.0 302 Found\r\nLocation: {server.url}\r\n\r\n".encode()
        with Server(sends(to)) as plain:
            seconds, lost = play_until_lost(UrlSource(plain.url, limits=PATIENT))
        assert (seconds, lost.cause, server.asked) == (0, Cause.TLS, 0)


def test_rtsp_over_tls(authority: trustme.CA, trusted: str) -> None:
    answer = sends(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n")
    for kind, asked, cause in (("good", 1, Cause.NOT_FOUND), ("of another", 0, Cause.TLS)):
        with Secured(certificate(authority, kind), answer) as server:
            url = server.url.replace("https", "rtsps")
            _, lost = play_until_lost(
                UrlSource(url, limits=PATIENT, tls=TlsSettings(True, trusted))
            )
        assert (lost.cause, server.asked > 0) == (cause, asked > 0), str(lost)


class Folder(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A folder's files over TLS."""

    def __init__(self, folder: Path, leaf: trustme.LeafCert) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, form: str, *words: object) -> None:
                asked.append(self.path)

        super().__init__(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, *_: object) -> None:
        pass  # clients that go are what this is about


@contextmanager
def serving(folder: Path, leaf: trustme.LeafCert) -> Iterator[Folder]:
    with Folder(folder, leaf) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_segments_of_a_playlist_are_verified(
    tmp_path: Path, authority: trustme.CA, trusted: str
) -> None:
    (tmp_path / "part.aac").write_bytes(encoded(tmp_path, tone(2, 22050), 22050, "aac"))
    good, bad = certificate(authority, "good"), certificate(authority, "untrusted")
    with serving(tmp_path, good) as here, serving(tmp_path, bad) as there:
        for where in (here, there):
            url = f"https://127.0.0.1:{where.server_port}/part.aac"
            (tmp_path / "list.m3u8").write_text(
                "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n"
                f"{url}\n#EXT-X-ENDLIST\n"
            )
            source = UrlSource(
                f"https://127.0.0.1:{here.server_port}/list.m3u8",
                limits=ConnectionLimits(connect=20, stall=20),
                tls=TlsSettings(True, trusted),
            )
            if where is here:
                assert sum(
                    len(item.samples) for item in blocks_of(source) if isinstance(item, Block)
                )
                source.close()
            else:
                seconds, lost = play_until_lost(source)
                assert (seconds, lost.cause) == (0, Cause.TLS)
        assert "/part.aac" in here.asked
        assert not there.asked


@contextmanager
def playlist(folder: Path, leaf: trustme.LeafCert) -> Iterator[str]:
    """The URL of a playlist, with its parts beside it."""
    (folder / "part.aac").write_bytes(encoded(folder, tone(2, 22050), 22050, "aac"))
    (folder / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\npart.aac\n"
        "#EXT-X-ENDLIST\n"
    )
    with serving(folder, leaf) as server:
        yield f"https://127.0.0.1:{server.server_port}/list.m3u8"


@pytest.mark.parametrize(
    ("verify", "said"),
    [(True, "its certificate is not to be trusted"), (False, "name in ca_file who signs them")],
)
def test_an_hls_playlist_with_an_untrusted_certificate(
    tmp_path: Path, authority: trustme.CA, trusted: str, verify: bool, said: str
) -> None:
    with playlist(tmp_path, certificate(authority, "untrusted")) as url:
        if not verify and not verifies_everything(ffmpeg_path()):
            pytest.skip("the ffmpeg on the PATH is too old to check the parts")
        seconds, lost = play_until_lost(
            UrlSource(url, limits=PATIENT, tls=TlsSettings(verify, trusted))
        )
    assert (seconds, lost.cause) == (0, Cause.TLS)
    assert said in str(lost)


def test_an_ffmpeg_that_does_not_verify_segments_is_refused(
    tmp_path: Path, authority: trustme.CA, trusted: str, song: bytes,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(tls, "SAFE_SINCE", 999)
    ffmpeg_for_tls.cache_clear()
    try:
        with playlist(tmp_path, certificate(authority, "good")) as url:
            seconds, lost = play_until_lost(
                UrlSource(url, limits=PATIENT, tls=TlsSettings(True, trusted))
            )
            assert (seconds, lost.cause) == (0, Cause.TLS)
            assert "expected ffmpeg 999 or later" in str(lost)
        # What leads nowhere else is heard.
        with Secured(certificate(authority, "good"), sends(OK, song)) as server:
            source = UrlSource(server.url, limits=PATIENT, tls=TlsSettings(True, trusted))
            assert play_until_lost(source)[0] > 1.5
    finally:
        ffmpeg_for_tls.cache_clear()
    assert "playlists are refused" in caplog.text


# What there is to say, and to configure


def test_no_certificate_problem_where_nothing_is_wrong_or_no_server_answers(
    authority: trustme.CA, trusted: str
) -> None:
    with Secured(certificate(authority, "good"), sends(OK)) as server:
        assert certificate_problem("127.0.0.1", server.port, TlsSettings(True, trusted)) == ""
    assert certificate_problem("127.0.0.1", server.port, TlsSettings(True, trusted)) == ""


def test_an_old_ffmpeg_is_not_used_over_tls_if_there_is_a_newer_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(version: str) -> str:
        path = tmp_path / version
        path.write_text(f"#!/bin/sh\necho ffmpeg version {version} Copyright\n")
        path.chmod(0o755)
        return str(path)

    old, new, newer = made("5.1.6-0+deb12u1"), made("n9.0.2-17"), made("10.1")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: newer)
    assert [ffmpeg_for_tls(path) for path in (old, new, newer)] == [newer, new, newer]
    assert "may not compare the name" not in caplog.text
    older = made("4.4.2")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: old)
    assert ffmpeg_for_tls(older) == older
    assert "may not compare the name" in caplog.text


def test_there_is_a_list_of_authorities_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    none = ssl.DefaultVerifyPaths(None, None, "", "", "", "")
    monkeypatch.setattr(tls.ssl, "get_default_verify_paths", lambda: none)
    system_authorities.cache_clear()
    try:
        assert b"BEGIN CERTIFICATE" in Path(system_authorities()).read_bytes()
    finally:
        system_authorities.cache_clear()


def test_tls_keys_of_the_configuration(tmp_path: Path, trusted: str) -> None:
    shutil.copy(trusted, tmp_path / "own.pem")
    path = tmp_path / "daemon.toml"
    path.write_text(
        '[defaults]\nca_file = "own.pem"\n'
        '[streams.a]\nsource = "https://x.example/a"\n'
        '[streams.b]\nsource = "https://x.example/b"\nca_file = "none.pem"\ntls_verify = false\n'
        '[streams.c]\nsource = "http://x.example/c"\n'
        '[streams.d]\nsource = "https://x.example/d.m3u8"\ntls_verify = false\n'
    )
    config = load_config(path)
    assert config.stream("a").ca_file == str(tmp_path / "own.pem")
    assert config.stream("a").tls_verify
    assert not config.stream("b").tls_verify
    assert config.stream("c").ca_file == ""
    missing, useless = complaints_about(path)
    assert "streams.b.ca_file: expected an existing file" in missing
    assert "streams.d.tls_verify: expected true for a playlist, got false" in useless
