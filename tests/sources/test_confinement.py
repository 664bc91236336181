"""What a station sends cannot make a decoder read files, nor gain rights or resources."""

import os
import subprocess
from pathlib import Path

import pytest
from daemon.test_daemon import Process, running
from support.faulty_server import OK, Connection, Server, encoded, sends
from support.paths import ROOT
from support.ports import blocks_of
from support.sounds import tone, write_wav

from streamtag import Subscriber
from streamtag.feed.messages import StreamUp
from streamtag.sources.confinement import FILES, decoder_environment
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.source import ConnectionLimits
from streamtag.sources.url import UrlSource

RATE = 22050
HLS = b"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n"
LIST = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n{}#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
TEMPTATIONS = {
    "file": LIST.format("", "file://{secret}"),
    "path": LIST.format("", "{secret}"),
    "concat": LIST.format("", "concat:{secret}|{secret}"),
    "subfile": LIST.format("", "subfile,,start,0,end,0,,:{secret}"),
    "crypto of a file": LIST.format("", "crypto+file:{secret}"),
    "nested list": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile://{list}\n",
    "map": LIST.format('#EXT-X-MAP:URI="file://{secret}"\n', "file://{secret}"),
    "concat script": "ffconcat version 1.0\nfile 'file:{secret}'\n",
}
"""What a server can send so that a decoder reads a file of the machine it runs on."""
OPEN = ["-protocol_whitelist", "file,http,tcp,crypto,data", "-allowed_extensions", "ALL"]


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording on this machine that no station may make us play, and a playlist of it."""
    folder = tmp_path_factory.mktemp("secret")
    path = folder / "secret.mp3"
    path.write_bytes(encoded(folder, tone(2, RATE, 440, 0.4), RATE))
    (folder / "list.m3u8").write_text(LIST.format("", path))
    return path


def body(name: str, secret: Path) -> bytes:
    return TEMPTATIONS[name].format(secret=secret, list=secret.with_name("list.m3u8")).encode()


def samples_of(url: str) -> int:
    source, n = UrlSource(url, limits=ConnectionLimits(connect=60, stall=60)), 0
    try:
        for item in blocks_of(source):
            n += len(getattr(item, "samples", ()))
    except SourceLost:
        pass
    finally:
        source.close()
    return n


@pytest.mark.parametrize("name", TEMPTATIONS)
@pytest.mark.parametrize("address", ["", "live.m3u8", "live.m3u"])
def test_a_station_cannot_name_a_file(secret: Path, name: str, address: str) -> None:
    with Server(sends(HLS, body(name, secret))) as server:
        assert samples_of(server.url + address) == 0


@pytest.mark.parametrize("name", ["file", "nested list"])
def test_an_unconfined_decoder_would_play_it(secret: Path, name: str) -> None:
    with Server(sends(HLS, body(name, secret))) as server:
        command = [ffmpeg_path(), "-v", "error", "-nostdin", *OPEN, "-i", server.url]
        command += ["-f", "f32le", "pipe:1"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert len(done.stdout) > RATE, done.stderr.decode()


def test_the_environment_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "1234")
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    found = decoder_environment(SSL_CERT_FILE="ca.pem")
    assert "1234" not in found.values()
    assert found["PATH"] == os.environ["PATH"]
    assert (found["http_proxy"], found["SSL_CERT_FILE"]) == ("http://proxy:1", "ca.pem")


def children(process: Process) -> list[int]:
    """The processes that a daemon has started, and those that these have started."""
    found, new = [], [process.popen.pid]
    while new:
        listed = Path(f"/proc/{new.pop()}").glob("task/*/children")
        new += (born := [int(pid) for path in listed for pid in path.read_text().split()])
        found += born
    return found


def test_the_decoders_of_a_daemon_are_confined(tmp_path: Path, toy_bundle: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", tone(60, RATE, 440, 0.4), RATE)
    data = encoded(tmp_path, tone(60, RATE, 440, 0.4), RATE)

    def answer(connection: Connection) -> None:
        sends(OK, data)(connection)
        connection.closing.wait()

    with Server(answer) as server:
        config = tmp_path / "c.toml"
        config.write_text(
            'feed.bind = "tcp://127.0.0.1:0"\nengine.device = "cpu"\n'
            f'[taggers]\ntoy.bundle = "{toy_bundle}"\n[streams]\n'
            f'file = {{ source = "file:{wav}", pace = true }}\nurl.source = "{server.url}"\n'
        )
        with running(config) as daemon, Subscriber(daemon.address) as feed:
            up: set[str] = set()
            while len(up) < 2:
                message = feed.receive(60)
                assert message is not None
                if isinstance(message, StreamUp):
                    up.add(message.stream)
            decoders = [p for p in children(daemon) if "ffmpeg" in os.readlink(f"/proc/{p}/exe")]
            assert len(decoders) == 2
            for pid in decoders:
                status = Path(f"/proc/{pid}/status").read_text()
                assert "NoNewPrivs:\t1" in status
                limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
                soft = {line[:26].strip(): line[26:].split()[0] for line in limits}
                assert soft["Max file size"] == soft["Max core file size"] == "0"
                assert int(soft["Max open files"]) <= FILES


def test_the_service_is_hardened() -> None:
    """As `systemd-analyze security` rates it: 0 is best, 10 is worst."""
    unit = str(ROOT / "packaging" / "streamtag.service")
    try:
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not on this machine")
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout[-200:]
