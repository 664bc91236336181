"""How many bytes have come to a process over TCP: whether a station still sends while its decoder
says nothing. Linux only; elsewhere nothing is known."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

FRESH_SECONDS = 0.2
"""One look at all connections is enough for everybody who asks within this time."""
LEAST_BYTES = 500
"""That come between two looks where audio comes, in a second."""
_BY_FAMILY, _DONE, _ERROR = 20, 3, 2  # types of messages: linux/netlink.h, sock_diag.h
_REQUEST_DUMP = 0x301
_HEAD = struct.Struct("=IHHII")  # struct nlmsghdr
_ASK = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2
_INODE_AT, _SOCKET_SIZE = 68, 72  # in struct inet_diag_msg
_INFO, _RECEIVED_AT = 2, 128  # INET_DIAG_INFO; tcpi_bytes_received in struct tcp_info
_ESTABLISHED = 1 << 1
_CLOSE_WAIT = 1 << 8


class Connections:
    """The TCP connections of this machine (of its network name space), seen now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[int, int] = {}
        self._at = float("-inf")

    def received(self, process: int) -> int | None:
        """Bytes that have come over all the connections that a process has now.

        Args:
            process: its id.

        Returns:
            None where that cannot be known.
        """
        try:
            mine = _sockets(process)
            with self._lock:
                if time.monotonic() > self._at + FRESH_SECONDS:
                    self._seen = dict(_all_connections())
                    self._at = time.monotonic()
                return sum(self._seen.get(number, 0) for number in mine)
        except (OSError, AttributeError, ValueError, struct.error):
            return None


CONNECTIONS = Connections()


class TcpTraffic:
    """Whether something still comes to a process from which nothing has come out for a while.

    Args:
        process: its id.
        connections: where to look.
    """

    def __init__(self, process: int, connections: Connections = CONNECTIONS) -> None:
        self._process, self._connections = process, connections
        self._last: int | None = None
        self._times = 0

    def look(self) -> int:
        """How often in a row, up to this look, `LEAST_BYTES` had come since the look before."""
        now, last = self._connections.received(self._process), self._last
        self._last = now
        more = now is not None and last is not None and now - last >= LEAST_BYTES
        self._times = self._times + 1 if more else 0
        return self._times

    def forget(self) -> None:
        """The next look is the first one again."""
        self._last, self._times = None, 0


def _sockets(process: int) -> list[int]:
    """The inodes of a process's sockets."""
    folder, links = f"/proc/{process}/fd", list[str]()
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(f"{folder}/{name}"))
    return [int(link[8:-1]) for link in links if link.startswith("socket:[")]


def _all_connections() -> Iterator[tuple[int, int]]:
    """The inode of each connection, and the bytes that it has received."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:  # SOCK_DIAG
            kernel.settimeout(1.0)
            states = _ESTABLISHED | _CLOSE_WAIT
            ask = _ASK.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), states)
            kernel.send(_HEAD.pack(_HEAD.size + len(ask), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + ask)
            yield from map(_connection, _answers(kernel))


def _answers(kernel: socket.socket) -> Iterator[bytes]:
    """The parts of the kernel's answer, up to its end."""
    while True:
        for kind, body in _parts(kernel.recv(65536), "=IH10x"):
            if kind in (_DONE, _ERROR):
                return
            yield body


def _connection(body: bytes) -> tuple[int, int]:
    """The inode and the bytes of one `struct inet_diag_msg` with its attributes."""
    (inode,) = struct.unpack_from("=I", body, _INODE_AT)
    for kind, value in _parts(body[_SOCKET_SIZE:], "=HH"):
        if kind == _INFO and len(value) >= _RECEIVED_AT + 8:
            return inode, struct.unpack_from("=Q", value, _RECEIVED_AT)[0]
    return inode, 0


def _parts(data: bytes, head: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each part: its length with the head goes before, four bytes a step."""
    shape, at = struct.Struct(head), 0
    while at + shape.size <= len(data):
        length, kind = shape.unpack_from(data, at)
        if length < shape.size:
            return
        yield kind, data[at + shape.size : at + length]
        at += (length + 3) & ~3
