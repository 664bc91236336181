"""The messages between a daemon and its workers, over a Unix socket.

Each frame is a length and a pickle. Both ends are one program and one user. A worker that is killed
in the middle of a frame leaves nothing of it.
"""

import pickle
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from streamtag.config.config import Config
from streamtag.daemon.engine_commands import EngineCommand, TaggerCost
from streamtag.engine.counters import Histogram, Series

OutputCall = tuple[str, tuple[Any, ...]]
"""The name of a method of `EngineOutput`, and its arguments."""
_LENGTH = struct.Struct("<Q")
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Begin:
    """The first frame to a worker: the configuration, without streams."""

    config: Config


@dataclass(frozen=True, slots=True)
class Request:
    """A command, to a worker."""

    number: int
    command: EngineCommand


@dataclass(frozen=True, slots=True)
class Stop:
    """Makes a worker close its streams and end."""


@dataclass(frozen=True, slots=True)
class Started:
    """The first frame of a worker."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The models of a worker are warm."""

    costs: Mapping[str, TaggerCost]
    """By tagger."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker cannot begin: the last frame before it ends."""

    error: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    number: int
    result: Any
    error: str = ""
    """Why there is none. Empty for an answer."""


@dataclass(frozen=True, slots=True)
class Output:
    """Calls of methods of `EngineOutput`, in order."""

    calls: Sequence[OutputCall]


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker has done so far."""

    applied: int = 0
    """Number of changes that it has made."""
    ended: frozenset[str] = frozenset()
    """Its streams that have ended by themselves."""
    audio_seconds: float = 0.0
    busy_seconds: float = 0.0
    memory_bytes: int = 0
    """What it has in memory for itself; it shares the libraries with the other workers."""
    series: Mapping[Series, float] = field(default_factory=dict)
    histograms: Mapping[Series, Histogram] = field(default_factory=dict)
    shadows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How far each shadow agrees with its tagger."""


class Channel:
    """One end of the socket. Any thread may send, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._sending = connection, threading.Lock()
        self._received = bytearray()

    def send(self, *messages: object) -> None:
        """Sends messages; waits while the other end is behind.

        Raises:
            OSError: the other end is gone.
        """
        bodies = [pickle.dumps(message, pickle.HIGHEST_PROTOCOL) for message in messages]
        with self._sending:
            self._socket.sendall(b"".join(_LENGTH.pack(len(body)) + body for body in bodies))

    def receive(self) -> Any:
        """The next message; None once the other end is closed."""
        head = self._take(_LENGTH.size)
        body = head and self._take(_LENGTH.unpack(head)[0])
        return pickle.loads(body) if body else None

    def close(self) -> None:
        """Closes the socket; a `receive` that waits returns None."""
        with suppress(OSError):  # the other end did it before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _take(self, n: int) -> bytes:
        """The next bytes; empty at the end, even if there are some."""
        while len(self._received) < n:
            try:
                data = self._socket.recv(max(_READ_BYTES, n - len(self._received)))
            except OSError:
                data = b""
            if not data:
                return b""
            self._received += data
        taken = bytes(memoryview(self._received)[:n])
        del self._received[:n]
        return taken
