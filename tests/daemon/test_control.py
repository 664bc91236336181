"""The control socket: who may use it, and that no client holds up another one or the engine."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.config.control_socket import default_path, send_command
from streamtag.daemon.control import (
    LONGEST,
    MOST_CLIENTS,
    ControlRequest,
    ControlServer,
    PlainCommand,
    parse_request,
    reply,
)
from streamtag.errors import ControlError

SECONDS = 60


class Engine:
    """Answers `list`; keeps everything else until told to answer."""

    def __init__(self) -> None:
        self.kept: list[Future[object]] = []
        self.submitted = threading.Semaphore(0)

    def submit(self, request: ControlRequest) -> Future[object]:
        result = Future[object]()
        result.set_running_or_notify_cancel()
        if isinstance(request, PlainCommand) and request.command == "list":
            result.set_result(["a"])
        else:
            self.kept.append(result)
            self.submitted.release()
        return result


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def path(tmp_path: Path, engine: Engine) -> Iterator[Path]:
    server = ControlServer(tmp_path / "run" / "c.sock", engine.submit)
    yield server.path
    server.close()
    assert not server.path.exists()


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(SECONDS)
    client.connect(str(path))
    return client


def fill(client: socket.socket, data: bytes) -> None:
    """Sends until nothing more fits."""
    try:
        while True:
            client.send(data)
    except BlockingIOError:
        return


def lines(client: socket.socket, count: int) -> list[dict[str, object]]:
    with client.makefile("rb") as file:
        return [json.loads(file.readline()) for _ in range(count)]


def test_only_this_user_may_use_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_requests_get_replies_with_their_ids(path: Path) -> None:
    assert send_command(path, {"command": "list"}, SECONDS) == ["a"]
    with connected(path) as client:
        client.sendall(b'{"command": "list", "id": 7}\n{"command": "list"}\n')
        assert lines(client, 2) == [
            {"ok": True, "result": ["a"], "id": 7},
            {"ok": True, "result": ["a"]},
        ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "request: "),
        (b"\xff\xfe", "request: "),
        (b"[]", "request: "),
        (b"{}", "expected a command, one of list, status"),
        (b'{"command": "fly"}', "expected a command, one of list, status"),
        (b'{"command": "pause"}', "missing key name"),
        (b'{"command": "pause", "name": "a/b"}', "name: expected 1 to 64 of the characters A-Z"),
        (b'{"command": "list", "x": 1}', "unknown key x; allowed here: id, command"),
        (b"[" * 10_000, "request: "),
    ],
)
def test_a_malformed_request_gets_an_error_and_the_next_one_its_reply(
    path: Path, line: bytes, words: str
) -> None:
    with connected(path) as client:
        client.sendall(line + b'\n{"command": "list"}\n')
        error, answer = lines(client, 2)
        assert error["ok"] is False
        assert words in str(error["error"])
        assert answer == {"ok": True, "result": ["a"]}


def test_an_endless_line_gets_an_error(path: Path) -> None:
    with connected(path) as client:
        client.sendall(b"x" * (LONGEST + 1))
        (error,) = lines(client, 1)
        assert "longer than 65536 bytes" in str(error["error"])


def test_clients_that_hang_flood_or_disconnect_delay_no_other(path: Path, engine: Engine) -> None:
    hanging = [connected(path) for _ in range(MOST_CLIENTS + 3)]
    hanging[-1].sendall(b'{"command": "rel')
    with connected(path) as gone:
        gone.sendall(b'{"command": "reload"}\n')
        assert engine.submitted.acquire(timeout=SECONDS)
    with connected(path) as waiting, connected(path) as flood:
        waiting.sendall(b'{"command": "reload"}\n')
        assert engine.submitted.acquire(timeout=SECONDS)
        flood.setblocking(False)
        fill(flood, b'{"command": "reload"}\n' * 100)  # what is not fetched stays in the kernel
        assert send_command(path, {"command": "list"}, SECONDS) == ["a"]
        engine.kept[0].set_result("for nobody")
        engine.kept[1].set_exception(ControlError("no such file"))
        assert lines(waiting, 1) == [{"ok": False, "error": "no such file"}]
    assert len(engine.kept) <= 3  # of a flood, one is under way
    for client in hanging:
        client.close()


def test_a_second_daemon_is_refused_and_the_socket_of_a_dead_one_replaced(
    path: Path, engine: Engine, tmp_path: Path
) -> None:
    with pytest.raises(ControlError, match="another daemon takes its commands there"):
        ControlServer(path, engine.submit)
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    server = ControlServer(left, engine.submit)
    assert send_command(left, {"command": "list"}, SECONDS) == ["a"]
    server.close()


def test_unusable_paths_are_errors(tmp_path: Path, engine: Engine) -> None:
    for place in (tmp_path / ("x" * 200), Path("/proc/none/c.sock")):
        with pytest.raises(ControlError, match="expected a path for a socket, got"):
            ControlServer(place, engine.submit)
    with pytest.raises(ControlError, match="expected a running daemon, got No such file"):
        send_command(tmp_path / "none", {"command": "list"})


def test_the_default_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_path() == Path("/run/user/7/streamtag/streamtag.sock")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_path().parent.name == f"streamtag-{os.getuid()}"
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/streamtag:/run/other")
    assert default_path() == Path("/run/streamtag/streamtag.sock")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
WORDS = st.sampled_from(["list", "add", "set", "swap", "shadow", "pause", "x", "streams", "a"])
KEYS = st.sampled_from(["command", "name", "stream", "table", "tagger", "bundle", "id", "x"])
LINES = st.binary(max_size=99) | st.dictionaries(KEYS, WORDS | JSON).map(
    lambda body: json.dumps(body).encode()
)


@settings(max_examples=500, deadline=None)
@given(LINES)
def test_any_line_is_a_request_or_an_error_that_can_be_encoded(line: bytes) -> None:
    try:
        request = parse_request(line)
    except ControlError as error:
        answer = reply(None, error)
    else:
        answer = reply(request, {"x": 1})
    assert answer.count(b"\n") == 1
    assert json.loads(answer)["ok"] in (True, False)


def listening(path: Path) -> socket.socket:
    """A daemon that is frozen: its kernel still takes connections."""
    frozen = socket.socket(socket.AF_UNIX)
    frozen.bind(str(path))
    frozen.listen()
    return frozen


def test_a_daemon_that_does_not_reply_is_an_error(tmp_path: Path) -> None:
    with listening(tmp_path / "c.sock"):
        command = ["ctl", "list", "--socket", str(tmp_path / "c.sock"), "--timeout", "0.2"]
        with pytest.raises(ControlError, match=r"expected an answer within 0\.2 s, got none"):
            CliRunner().invoke(app, command, catch_exceptions=False)


def test_no_daemon_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="expected a running daemon, got No such file"):
        CliRunner().invoke(
            app, ["ctl", "status", "--socket", str(tmp_path / "c")], catch_exceptions=False
        )
    with listening(tmp_path / "left.sock"):
        pass
    with pytest.raises(ControlError, match="expected a running daemon, got Connection refused"):
        send_command(tmp_path / "left.sock", {"command": "list"}, SECONDS)


NO_ANSWERS = [b"\n", b"HTTP/1.0 400\r\n", b"[" * 50_000 + b"\n", b'{"ok":1}\n']


@pytest.mark.parametrize("answer", NO_ANSWERS)
def test_the_reply_of_another_program_is_an_error(tmp_path: Path, answer: bytes) -> None:
    with listening(tmp_path / "c.sock") as other:

        def serve() -> None:
            with other.accept()[0] as client:
                client.recv(99)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControlError, match="expected a daemon's answer, got b"):
            send_command(tmp_path / "c.sock", {"command": "list"}, SECONDS)
        thread.join()


OTHER = """
import os, sys
from pathlib import Path
from streamtag.config.control_socket import send_command
from streamtag.errors import ControlError
os.setuid(65534)
try:
    send_command(Path(sys.argv[1]), {"command": "list"}, 60)
except ControlError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_users_daemon_is_an_error(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(path)], capture_output=True, text=True, timeout=SECONDS,
        check=True,
    )  # fmt: skip
    assert "expected a daemon of this user, got Permission denied" in done.stdout
