"""Real servers on loopback, each terminated by its process id."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from streamtag.sources.ffmpeg import ffmpeg_path
from support.faulty_server import CODECS
from support.forked import Forked

SECONDS = 60
TRAINING_SECONDS = 240
SYSTEM_TEMPORARY = tempfile.gettempdir()
"""The system's folder for temporary files, before the tests have one of their own."""
PASSWORD = "hackme"
TYPES = {"mp3": "audio/mpeg", "aac": "audio/aac"}
SINE = ["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]
"""Arguments of ffmpeg for an endless tone in real time."""
RTSP = """
import gi, sys
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch("( audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=48000,channels=1 "
                   "! audioconvert ! opusenc ! rtpopuspay name=pay0 )")
factory.set_shared(True)
server.get_mount_points().add_factory("/mic", factory)
if not server.attach(None):  # the port is taken
    sys.exit(1)
print("ready", flush=True)
GLib.MainLoop().run()
"""


def require_programs(*programs: str) -> None:
    """Skips a test whose programs are not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `.ci/run` lists the packages")


_claims: list[IO[str]] = []
"""Files whose locks claim ports for this process until it ends."""


def free_port() -> int:
    """A free port for TCP and UDP. It is even, as RTP requires, and the next one is free too.

    No other test process gets it while this one runs. It is below the ephemeral ports, so a client
    that waits for its server cannot connect to itself.
    """
    folder = Path(SYSTEM_TEMPORARY) / "streamtag-test-ports"
    folder.mkdir(exist_ok=True)
    for port in range(12_000 + 2 * (os.getpid() % 5000), 32_000, 2):
        claim = (folder / str(port)).open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            claim.close()
            continue
        if _is_free(port) and _is_free(port + 1):
            _claims.append(claim)
            return port
        claim.close()
    raise AssertionError("no free port")


def start_on_free_port(start: Callable[[int], bool]) -> int:
    """Starts a server that cannot choose its port itself; returns the port that it could bind.

    Args:
        start: starts it on a port; returns whether it runs.
    """
    for _ in range(5):
        if start(port := free_port()):
            return port
    raise AssertionError("a server could bind none of five ports")


def free_ports() -> tuple[int, int]:
    """Two free ports: for a feed and for its replay socket."""
    return (port := free_port()), port + 1


def _is_free(port: int) -> bool:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        try:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(true: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Waits until a condition is true; fails with `what` after `SECONDS`."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.02)


def training_group(*arguments: str | Path, cwd: Path | None = None, log: Path) -> list[int]:
    """Runs `python ARGUMENTS` twice, as processes that train together; their exit codes.

    They get the environment that `torchrun` gives its processes. `log` receives what they report.
    """
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    with log.open("w") as errors:
        both = [
            Forked(*arguments, cwd=cwd, stderr=errors, env=os.environ | shared | {"RANK": rank})
            for rank in ("0", "1")
        ]
        try:
            return [process.wait(TRAINING_SECONDS) for process in both]
        finally:
            for process in both:
                process.kill()
                process.wait()


class Processes:
    """Processes that end with the test; a folder receives their output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[subprocess.Popen[bytes] | Forked] = []

    def start(self, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        if shutil.which("setpriv"):  # it also ends when the tests are killed
            command = ("setpriv", "--pdeathsig", "KILL", *command)
        with (self.folder / f"{len(self._all)}.log").open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
            )
        self._all.append(process)
        return process

    def python(self, *arguments: str | Path, env: dict[str, str] | None = None) -> Forked:
        """Starts `python ARGUMENTS`, forked from a process that has imported torch."""
        with (self.folder / f"{len(self._all)}.log").open("wb") as output:
            process = Forked(
                *arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
            )
        self._all.append(process)
        return process

    def ffmpeg(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start(ffmpeg_path(), "-nostdin", "-v", "error", *arguments)

    def logs(self) -> str:
        return "\n".join(path.read_text()[-500:] for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        for process in self._all:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


ICECAST = """<icecast><location>x</location><admin>x@localhost</admin><hostname>localhost</hostname>
<limits><clients>50</clients><sources>10</sources><queue-size>524288</queue-size>
<client-timeout>10</client-timeout><header-timeout>5</header-timeout>
<source-timeout>5</source-timeout><burst-on-connect>1</burst-on-connect>
<burst-size>16384</burst-size></limits>
<authentication><source-password>{password}</source-password><admin-user>admin</admin-user>
<admin-password>{password}</admin-password></authentication>
<listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
<fileserve>0</fileserve><paths><basedir>/usr/share/icecast2</basedir><logdir>{log}</logdir>
<webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot></paths>
<logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>2</loglevel>
</logging><security><chroot>0</chroot>{owner}</security></icecast>"""
OWNER = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"


class Icecast:
    """An Icecast server with a tone at every codec's mount, such as `/a.mp3`."""

    def __init__(self, folder: Path, root: bool) -> None:
        self.processes = Processes(folder)
        # Icecast will not run as root, and pytest's own folders are closed to anybody else.
        self._log = Path(tempfile.mkdtemp(prefix="streamtag-icecast-", dir=SYSTEM_TEMPORARY))
        if root:
            shutil.chown(self._log, "nobody")
        self._config, self._owner = folder / "icecast.xml", OWNER if root else ""
        self.port = start_on_free_port(self._start_on)

    def start(self) -> None:
        """Starts the server; its sources have to be started anew."""
        assert self._starts(), f"icecast2 does not start\n{self.processes.logs()}"

    def _start_on(self, port: int) -> bool:
        self.url = f"http://127.0.0.1:{port}"
        self._config.write_text(
            ICECAST.format(password=PASSWORD, port=port, log=self._log, owner=self._owner)
        )
        return self._starts()

    def _starts(self) -> bool:
        """Icecast 2.4 crashes when a client comes in its first moments, so it may take a few."""
        for _ in range(20):
            self.server = self.processes.start("icecast2", "-c", str(self._config))
            wait_until(lambda: self._answers() or self.server.poll() is not None, "no icecast2")
            if self.server.poll() is None:
                return True
        return False

    def close(self) -> None:
        """Ends the server and its sources."""
        self.processes.close()
        shutil.rmtree(self._log)

    def play(self, codec: str) -> str:
        """The URL of a codec's mount; starts a source for it if there is none."""
        url = f"{self.url}/a.{codec}"
        if self._there(url):
            return url
        options = [*CODECS[codec], "-content_type", TYPES.get(codec, "application/ogg")]
        where = f"icecast://source:{PASSWORD}@127.0.0.1:{self.port}/a.{codec}"
        self.processes.ffmpeg(*SINE, *options, where)
        wait_until(lambda: self._there(url), f"{url} does not come\n{self.processes.logs()}")
        return url

    def title(self, mount: str, text: str) -> None:
        """Sets the title that is playing."""
        query = urllib.parse.urlencode({"mount": mount, "mode": "updinfo", "song": text})
        self._open(f"{self.url}/admin/metadata?{query}")

    def _answers(self) -> bool:
        try:
            self._open(f"{self.url}/admin/stats")
        except OSError:
            return False
        return True

    def _there(self, url: str) -> bool:
        try:
            self._open(url)
        except OSError:
            return False
        return True

    def _open(self, url: str) -> None:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self.url, "admin", PASSWORD)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
        )
        with opener.open(url, timeout=5) as answer:
            answer.read(1)
