"""Bytes that have come to a process over TCP."""

import os
import socket

import pytest

from streamtag.sources import tcp_traffic
from streamtag.sources.tcp_traffic import MIN_BYTES, TcpConnections, TcpTraffic


class FakeConnections(TcpConnections):
    """Says what it is told to say."""

    def __init__(self, *totals: int | None) -> None:
        super().__init__()
        self._totals = list(totals)

    def received(self, process: int) -> int | None:
        return self._totals.pop(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_received_bytes_are_counted_exactly(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    monkeypatch.setattr(tcp_traffic, "SHARED_SECONDS", -1)
    connections, me = TcpConnections(), os.getpid()
    if connections.received(me) is None:
        pytest.skip("this system does not tell how much has come")
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} here")
    with server, socket.create_connection(server.getsockname()[:2]) as here:
        there, _ = server.accept()
        with there:
            before = connections.received(me)
            there.sendall(bytes(7000))
            left = 7000
            while left:
                left -= len(here.recv(left))
            after = connections.received(me)
    assert before is not None
    assert after == before + 7000


def test_an_unknown_process_gives_none() -> None:
    assert TcpConnections().received(2**22 + 1) is None


def test_one_list_of_connections_is_shared_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(tcp_traffic, "_all_connections", lambda: looks.append(1) or iter([]))
    monkeypatch.setattr(tcp_traffic, "SHARED_SECONDS", 60)
    connections = TcpConnections()
    for _ in range(5):
        connections.received(os.getpid())
    assert len(looks) == 1


def test_consecutive_looks_with_traffic_are_counted() -> None:
    a = MIN_BYTES
    seen = TcpTraffic(1, FakeConnections(0, a, 2 * a, 3 * a - 1, 4 * a, None, 9 * a, 10 * a, 0))
    assert [seen.look() for _ in range(9)] == [0, 1, 2, 0, 1, 0, 0, 1, 0]
    again = TcpTraffic(1, FakeConnections(0, a, 2 * a, 3 * a))
    assert [again.look(), again.look()] == [0, 1]
    again.reset()
    assert [again.look(), again.look()] == [0, 1]
