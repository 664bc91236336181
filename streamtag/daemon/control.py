"""The local socket through which a running daemon takes commands, and the other end of it.

One thread serves all clients. Each has one request under way at most: what a client sends beyond
that stays in the kernel's buffers, so that one that floods, hangs or goes away holds up nobody.
"""

import fcntl
import json
import logging
import os
import selectors
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamtag.daemon.commands import LONGEST, Request, parse_request, reply
from streamtag.errors import ControlError

log = logging.getLogger(__name__)

MOST_CLIENTS = 32
_LISTENER, _WAKER = object(), object()


def default_path() -> Path:
    """Where a daemon of this user has its socket, if nobody says otherwise."""
    if folder := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(folder.split(":")[0]) / "streamtag.sock"
    if folder := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(folder) / "streamtag" / "streamtag.sock"
    return Path(tempfile.gettempdir()) / f"streamtag-{os.getuid()}" / "streamtag.sock"


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard, self.unsent = b"", b""
        self.asked = False


class ControlServer:
    """The socket and its thread.

    Args:
        path: of the socket; a file that another daemon left behind is replaced.
        ask: takes a request and what is to be called with its result, from any thread; must not
            wait. An exception as result says that the request failed.

    Raises:
        ControlError: another daemon is there, or the path cannot be used.
    """

    def __init__(
        self, path: Path, ask: Callable[[Request, Callable[[object], None]], None]
    ) -> None:
        self.path, self._ask = path, ask
        self._lock, self._listener = _bind(path)
        self._answers: deque[tuple[_Client, bytes]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._closing = False
        self._clients: dict[_Client, None] = {}  # oldest first
        self._selector = selectors.DefaultSelector()
        for end in (self._listener, self._woken):
            end.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, _LISTENER)
        self._selector.register(self._woken, selectors.EVENT_READ, _WAKER)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sends what can be sent at once, ends all connections and removes the socket."""
        self._closing = True
        self._wake.send(b"x")
        self._thread.join()
        for client in list(self._clients):
            self._drop(client)
        self.path.unlink(missing_ok=True)
        for end in (self._listener, self._wake, self._woken):
            end.close()
        self._selector.close()
        os.close(self._lock)

    def _run(self) -> None:
        while not self._closing:
            for key, events in self._selector.select():
                if key.data is _LISTENER:
                    self._accept()
                elif key.data is _WAKER:
                    self._woken.recv(4096)
                elif key.data in self._clients:
                    self._serve(key.data, events)
            self._hand_out()

    def _hand_out(self) -> None:
        while self._answers:
            client, line = self._answers.popleft()
            if client in self._clients:
                client.asked = False
                client.unsent += line
                self._serve(client, 0)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MOST_CLIENTS:  # whoever waits for nothing has to go
            self._drop(next((c for c in self._clients if not c.asked), next(iter(self._clients))))
        connection.setblocking(False)
        client = _Client(connection)
        self._clients[client] = None
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _serve(self, client: _Client, events: int) -> None:
        """Reads, acts and writes as far as that goes without waiting."""
        try:
            if events & selectors.EVENT_READ and not self._read(client):
                self._drop(client)
                return
            if not client.asked and not client.unsent:
                self._act(client)
            if client.unsent:
                client.unsent = client.unsent[client.connection.send(client.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        self._watch(client)

    def _read(self, client: _Client) -> bool:
        """Whether the client is still there."""
        data = client.connection.recv(LONGEST)
        client.heard += data
        return bool(data)

    def _act(self, client: _Client) -> None:
        """Acts on the next request, if it is complete."""
        line, found, rest = client.heard.partition(b"\n")
        if not found:
            if len(line) > LONGEST:
                client.heard = b""
                client.unsent += reply(None, ControlError(f"request: longer than {LONGEST} bytes"))
            return
        client.heard = rest
        try:
            request = parse_request(line)
        except ControlError as error:
            client.unsent += reply(None, error)
            return
        client.asked = True

        def answer(result: object) -> None:
            self._answers.append((client, reply(request, result)))
            try:
                self._wake.send(b"x")
            except OSError:  # closed meanwhile
                log.debug("control: nobody waits for the reply to %s", request)

        self._ask(request, answer)

    def _watch(self, client: _Client) -> None:
        """What to wait for: a client that has a request under way is not read."""
        busy = client.asked or len(client.heard) > LONGEST
        wanted = selectors.EVENT_WRITE if client.unsent else 0
        if not busy and not client.unsent:
            wanted |= selectors.EVENT_READ
            if b"\n" in client.heard:
                wanted |= selectors.EVENT_WRITE  # there is more to do at once
        if client.connection in self._selector.get_map():
            self._selector.unregister(client.connection)
        if wanted:
            self._selector.register(client.connection, wanted, client)

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client, None)
        if client.connection in self._selector.get_map():
            self._selector.unregister(client.connection)
        client.connection.close()


def _bind(path: Path) -> tuple[int, socket.socket]:
    """A lock that says who is alive, and the listening socket, for this user only."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except (OSError, ValueError) as error:
        raise ControlError(f"control {path}: expected a path for a socket, got {error}") from None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)  # Linux gives the file this mode
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(socket.SOMAXCONN)
    except BlockingIOError:
        listener.close()
        os.close(lock)
        raise ControlError(
            f"control {path}: another daemon takes its commands there; give this one another "
            "control.socket"
        ) from None
    except OSError as error:
        listener.close()
        os.close(lock)
        raise ControlError(f"control {path}: expected a path for a socket, got {error}") from None
    return lock, listener


def send_command(path: Path, command: dict[str, Any], timeout: float | None = None) -> Any:
    """Tells a daemon something, and waits for its answer.

    Args:
        path: of its socket.
        command: see `commands`.
        timeout: seconds; None waits as long as it takes.

    Raises:
        ControlError: nobody is there, or the daemon refuses.
    """
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps(command, default=str).encode() + b"\n")
            while not answer.endswith(b"\n"):
                if not (data := connection.recv(LONGEST)):
                    raise ControlError(f"control {path}: the daemon ended before it answered")
                answer += data
    except TimeoutError:
        raise ControlError(
            f"control {path}: expected an answer within {timeout:g} s, got none; the daemon "
            "is busy or hangs, and may still do it: see its log, or wait longer (--timeout)"
        ) from None
    except PermissionError:
        raise ControlError(
            f"control {path}: expected a daemon of this user, got Permission denied; "
            "it belongs to another one: become that user"
        ) from None
    except OSError as error:
        raise ControlError(
            f"control {path}: expected a running daemon, got {error.strerror or error}; "
            "is it running, and is that its socket (--socket)?"
        ) from None
    return _result(path, answer)


def _result(path: Path, answer: bytes) -> Any:
    """What a line of a daemon says."""
    try:
        body = json.loads(answer)
        good, result = body["ok"], body["result" if body["ok"] else "error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ControlError(
            f"control {path}: expected a daemon's answer, got {answer[:60]!r}; is that its socket?"
        ) from None
    if not good:
        raise ControlError(str(result))
    return result
