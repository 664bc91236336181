"""How many bytes a process has received over TCP: whether a station still sends while its decoder
delivers nothing. Linux only; elsewhere it is unknown."""

import contextlib
import os
import socket
import struct
import threading
import time

SHARED_SECONDS = 0.2
"""One list of all connections serves everybody who asks within this time."""
MIN_BYTES = 500
"""Bytes between two looks, a second apart, above which audio is being sent."""

# struct nlmsghdr with SOCK_DIAG_BY_FAMILY and NLM_F_REQUEST | NLM_F_DUMP, struct inet_diag_req_v2:
# linux/netlink.h, linux/inet_diag.h
_REQUEST = struct.Struct("=IHHII BBBxI48x")
_DONE, _ERROR = 3, 2
_INODE, _ATTRIBUTES = 16 + 68, 16 + 72  # in an answer: nlmsghdr and struct inet_diag_msg
_INFO, _BYTES_RECEIVED = 2, 128  # INET_DIAG_INFO; tcpi_bytes_received in struct tcp_info
_STATES = 1 << 1 | 1 << 8  # ESTABLISHED, CLOSE_WAIT


class TcpConnections:
    """The TCP connections of this machine, or of its network name space."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: dict[str, int] = {}  # by `socket:[INODE]`, as /proc names it
        self._read_at = float("-inf")

    def received(self, pid: int) -> int | None:
        """Bytes received over all the connections that a process has now; None if unknown."""
        try:
            with self._lock:
                if time.monotonic() > self._read_at + SHARED_SECONDS:
                    self._bytes = _all_connections()
                    self._read_at = time.monotonic()
                return sum(self._bytes.get(name, 0) for name in _open_files(pid))
        except (OSError, AttributeError, struct.error):
            return None


CONNECTIONS = TcpConnections()


class TcpTraffic:
    """Whether a process still receives while it delivers nothing."""

    def __init__(self, pid: int, connections: TcpConnections = CONNECTIONS) -> None:
        self._pid, self._connections = pid, connections
        self.reset()

    def reset(self) -> None:
        """The next look is the first one again."""
        self._last: int | None = None
        self._times = 0

    def look(self) -> int:
        """How many looks in a row, up to this one, found `MIN_BYTES` more than the one before."""
        now, last = self._connections.received(self._pid), self._last
        self._last = now
        more = now is not None and last is not None and now - last >= MIN_BYTES
        self._times = self._times + 1 if more else 0
        return self._times


def _open_files(pid: int) -> list[str]:
    """What the file descriptors of a process point to."""
    folder, names = f"/proc/{pid}/fd", list[str]()
    for number in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            names.append(os.readlink(f"{folder}/{number}"))
    return names


def _all_connections() -> dict[str, int]:
    """Bytes received by each connection."""
    found: dict[str, int] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:  # NETLINK_SOCK_DIAG
            kernel.settimeout(1.0)
            kernel.send(
                _REQUEST.pack(
                    *(_REQUEST.size, 20, 0x301, 1, 0),
                    *(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), _STATES),
                )
            )
            while _parse(kernel.recv(65536), found):
                pass
    return found


def _parse(answer: bytes, found: dict[str, int]) -> bool:
    """Adds the connections of one part of the answer; False if it is the last part."""
    at = 0
    while at < len(answer):
        length, kind = struct.unpack_from("=IH", answer, at)
        if kind in (_DONE, _ERROR):
            return False
        (inode,) = struct.unpack_from("=I", answer, at + _INODE)
        attribute = at + _ATTRIBUTES
        while attribute < at + length:
            size, kind = struct.unpack_from("=HH", answer, attribute)
            if kind == _INFO:
                (count,) = struct.unpack_from("=Q", answer, attribute + 4 + _BYTES_RECEIVED)
                found[f"socket:[{inode}]"] = count
            attribute += max(4, (size + 3) & ~3)
        at += max(16, (length + 3) & ~3)
    return True
