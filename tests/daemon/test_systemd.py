"""What systemd hears: ready with the first audio, fed only while the engine makes progress."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon.test_daemon import configuration
from support.paths import ROOT
from support.sounds import tone, write_wav

from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.ops.systemd import READY_SECONDS, SystemdNotifier

SECONDS = 60
UNIT = ROOT / "packaging" / "streamtag.service"


class Systemd:
    """The receiving end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.settimeout(SECONDS)

    def receive(self) -> str:
        return self._socket.recv(4096).decode()

    def now(self) -> list[str]:
        """What has come so far."""
        self._socket.settimeout(0)
        got = []
        try:
            while True:
                got.append(self.receive())
        except BlockingIOError:
            return got

    def falls_silent(self) -> bool:
        """Whether nothing comes for 3 s, after a few messages at most."""
        self._socket.settimeout(3.0)
        try:
            for _ in range(20):
                self.receive()
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    name = {"path": str(tmp_path / "notify"), "abstract": f"@streamtag-test-{os.getpid()}"}
    made = Systemd(name[request.param])
    yield made
    made.close()


def notifier(systemd: Systemd, monitor: Monitor, **more: str) -> SystemdNotifier:
    return SystemdNotifier(monitor, 0.0, {"NOTIFY_SOCKET": systemd.address, **more})


def test_ready_with_the_first_audio(systemd: Systemd) -> None:
    monitor = Monitor()
    some = notifier(systemd, monitor)
    assert systemd.now() == ["STATUS=models are warm, waiting for audio"]
    some.tick(1.0)
    assert systemd.now() == []
    monitor.audio_seconds = 0.1
    some.tick(1.1)
    some.tick(1.2)
    assert systemd.now() == ["READY=1", "STATUS=streams: none yet"]
    some.stopping()
    assert systemd.now() == ["STOPPING=1", "STATUS=stopping"]


def test_ready_without_audio_after_a_while(systemd: Systemd) -> None:
    some = notifier(systemd, Monitor())
    systemd.now()
    some.tick(READY_SECONDS - 0.1)
    assert systemd.now() == []
    some.tick(READY_SECONDS)
    assert systemd.now()[0] == "READY=1"


def test_the_watchdog_is_fed_by_progress_alone(systemd: Systemd) -> None:
    monitor = Monitor()
    some = notifier(systemd, monitor, WATCHDOG_USEC="2000000", WATCHDOG_PID=str(os.getpid()))
    fed = []
    for tenth in range(100):
        now = tenth / 10
        if now < 3 or now >= 7:  # stuck in between
            monitor.record_round(now, now)
        some.tick(now)
        fed += [now for message in systemd.now() if message == "WATCHDOG=1"]
    assert fed == [1.0, 2.0, 3.0, 7.0, 8.0, 9.0]


def test_a_watchdog_for_another_process_or_with_an_invalid_interval(
    systemd: Systemd, caplog: pytest.LogCaptureFixture
) -> None:
    for more in (
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
    ):
        monitor = Monitor()
        some = notifier(systemd, monitor, **more)
        monitor.record_round(0, 1)
        some.tick(20.0)
    assert "WATCHDOG=1" not in systemd.now()
    assert "expected a number, got 'soon'" in caplog.text


def test_a_socket_that_is_gone_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SystemdNotifier(Monitor(), 0.0, {"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping()
    assert "cannot be told 'STOPPING=1'" in caplog.text


def test_without_systemd_nothing_happens() -> None:
    SystemdNotifier(Monitor(), 0.0, {}).stopping()


STUCK = """
import sys, threading
from streamtag.engine.batcher import Batcher
from streamtag.cli.main import main
take, calls = Batcher.score, []
def score(self, dues):
    calls.append(1)
    if len(calls) > 4:
        threading.Event().wait()  # a model that never comes back
    return take(self, dues)
Batcher.score = score
sys.argv = ["streamtag", "run", sys.argv[1]]
main()
"""


@pytest.mark.parametrize("stuck", [False, True])
def test_a_daemon_notifies_systemd_and_a_stuck_engine_stops_feeding_the_watchdog(
    tmp_path: Path, toy_bundle: Path, stuck: bool
) -> None:
    wav = write_wav(tmp_path / "a.wav", tone(2, 22050, 200), 22050)
    config = configuration(
        tmp_path, toy_bundle, f'a = {{ source = "file:{wav}", pace = true, loop = true }}'
    )
    config.write_text(config.read_text().replace(f"_seconds = {SECONDS}", "_seconds = 0"))
    systemd = Systemd(str(tmp_path / "notify"))
    usual = [sys.executable, "-m", "streamtag", "run", str(config)]
    command = [sys.executable, "-c", STUCK, str(config)] if stuck else usual
    variables = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | variables, stderr=log)
    try:
        received = [systemd.receive()]
        while "READY=1" not in received:
            received.append(systemd.receive())
        assert received[0] == "STATUS=models are warm, waiting for audio"
        if stuck:
            assert systemd.falls_silent()
        else:
            while received.count("WATCHDOG=1") < 3:
                received.append(systemd.receive())
            assert "STATUS=streams: 1 up" in received
        process.send_signal(signal.SIGTERM)
        systemd._socket.settimeout(SECONDS)
        while "STOPPING=1" not in received:
            received.append(systemd.receive())
        assert process.wait(SECONDS) == (1 if stuck else 0)
    finally:
        process.kill()
        process.wait()
        systemd.close()


def test_the_unit_file_fits_the_daemon() -> None:
    text = UNIT.read_text()
    for line in ("Type=notify", "WatchdogSec=", "ExecStart=", "Restart=on-failure"):
        assert line in text
