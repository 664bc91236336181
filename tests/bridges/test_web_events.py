"""Server-sent events and WebSocket: nothing is lost or repeated, and slow clients are closed."""

import json
import math
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.forked import run
from support.peers import free_port
from support.web_server import SECONDS, EventSource, Feed, Server, numbers, serving, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from streamtag.bridges.web.hub import ClientQueue, FeedHub
from streamtag.feed import publisher
from streamtag.feed.journal.lock_file import read_record, write_record
from streamtag.feed.journal.retention import Retention
from streamtag.feed.messages import TagOn
from streamtag.history.history import History
from streamtag.history.query import Query


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    # A port that the system gives to nobody else: a daemon that comes back takes it again.
    feed = Feed(tmp_path / "j.db", f"tcp://127.0.0.1:{free_port()}")
    feed.up("a")
    yield feed
    feed.close()


@pytest.fixture
def server(tmp_path: Path, feed: Feed) -> Iterator[Server]:
    with serving(tmp_path, feed, tmp_path / "j.db") as server:
        yield server


@pytest.fixture
def no_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher of `feed` removes nothing from the journal by itself."""
    monkeypatch.setattr(publisher, "PRUNE_SECONDS", math.inf)


def some(feed: Feed, n: int, begin: int = 0, stream: str = "a") -> None:
    """`n` tags that go on and off again."""
    for k in range(begin, begin + n):
        feed.on(stream, "calm", k)
        feed.off(stream, "calm", k, k + 0.5)


def test_events_arrive_exactly_once_across_breaks(
    feed: Feed, server: Server, tmp_path: Path
) -> None:
    got: list[dict[str, Any]] = []
    with EventSource(server) as source:
        state = source.until("state")
        assert state["streams"]["a"]["status"] == "up"
        some(feed, 3)
        got += source.read(4)  # and not the last two
        last = got[-1]["id"]
    some(feed, 3, 3)
    with EventSource(server, last=last) as source:  # the client comes back
        got += source.read(8)
        last = source.last
    server.close()
    some(feed, 2, 6)
    with serving(tmp_path, feed, tmp_path / "j.db") as again:  # the server was away
        with EventSource(again, last=last) as source:
            got += source.read(4)
            address = feed.publisher.address
            feed.on("a", "loud", 9)
            got += source.read(1)
            feed.close()
            back = Feed(tmp_path / "j.db", address)  # the daemon was away, and closes what was on
            back.up("a")
            published = feed.published + back.published
            got += source.read(len(back.published))
            last = source.last
            back.on("a", "loud", 1)
        with EventSource(again, last=last) as source:
            got += source.read(1)
        published = feed.published + back.published
        back.close()
    assert numbers(got) == [("a", message.seq) for message in published[1:]]
    assert [body["type"] for body in got] == [message.type for message in published[1:]]
    assert len({body["id"] for body in got}) == len(got)


def test_resuming_after_the_last_event_sends_only_new_ones(feed: Feed, server: Server) -> None:
    with EventSource(server) as source:
        some(feed, 1)
        source.read(2)
        last = source.last
    with EventSource(server, last=last) as source:
        feed.on("a", "loud", 3)
        assert source.read(1)[0]["tag"] == "loud"
    with EventSource(server, query=f"?last_event_id={last}") as source:  # as a parameter
        assert source.read(1)[0]["tag"] == "loud"


@pytest.mark.usefixtures("no_pruning")
def test_events_removed_by_retention_are_reported(feed: Feed, server: Server) -> None:
    with EventSource(server) as source:
        last = source.until("state")["id"]
    some(feed, 4)
    journal = feed.publisher._journal
    assert journal is not None
    journal.retention = Retention(seconds=1e-9)
    assert journal.prune(time.time_ns() + 10**9) == 7  # the newest stays
    (on,) = feed.on("a", "calm", 5)
    assert isinstance(on, TagOn)
    since = on.utc
    # It has read everything, so the state comes after the events.
    server.state_with(lambda state: [t["since"] for t in state["streams"]["a"]["tags"]] == [since])
    with EventSource(server, last=last) as source:
        missed, off, on_again = source.read(3)
        assert (missed["type"], missed["count"], missed["reason"]) == ("missed", 7, "retention")
        assert [(body["type"], body["t"]) for body in (off, on_again)] == [
            ("tag_off", 3.5),
            ("tag_on", 5),
        ]
        state = source.until("state")  # begin anew with this
        assert [tag["tag"] for tag in state["streams"]["a"]["tags"]] == ["calm"]


def test_an_id_of_another_journal_is_recognised(feed: Feed, server: Server) -> None:
    epoch = feed.published[0].epoch
    with EventSource(server, last=f"{int(epoch, 16) - 1:016x}-1-0") as source:
        missed, up = source.read(2)
        assert (missed["reason"], up["type"]) == ("epoch", "stream_up")


def killed_on_a_full_disk(feed: Feed, path: Path, lost: int) -> Feed:
    """The daemon that comes after one that published messages it could not keep."""
    address = feed.publisher.address
    feed.close()
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR)
    record = read_record(handle)
    write_record(handle, replace(record, state="open", given=record.given + lost))
    os.close(handle)
    return Feed(path, address)


def with_state(source: EventSource, n: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The next `n` events about streams, and the state, which may come between two of them."""
    events, states = list[dict[str, Any]](), list[dict[str, Any]]()
    while len(events) < n or not states:
        body = next(iter(source))
        if body["type"] != "daemon":
            (states if body["type"] == "state" else events).append(body)
    return events, states[-1]


def test_resuming_after_a_crash_sends_what_the_journal_has(
    feed: Feed, server: Server, tmp_path: Path
) -> None:
    some(feed, 2)
    with EventSource(server) as source:
        source.until("state")
        (on,) = feed.on("a", "loud", 3)
        while numbers(source.read(1)) != [("a", on.seq)]:
            pass  # what was on its way before the state
        last = source.last
    before = feed.published[0].epoch
    feed.off("a", "loud", 3, 4)
    back = killed_on_a_full_disk(feed, tmp_path / "j.db", 5)
    up = back.up("b")  # a topic of the new epoch
    assert up[0].epoch != before
    with serving(tmp_path, back, tmp_path / "j.db") as other:  # and one that was there all the time
        for one in (server, other):
            one.state_with(lambda state: "b" in state["streams"])  # it has read everything
            with EventSource(one, last=last) as source:
                (missed, *rest), state = with_state(source, 1 + 1 + len(back.published))
                assert (missed["type"], missed["reason"]) == ("missed", "not_kept")
                assert missed["count"] == 0  # nobody knows
                assert [body["type"] for body in rest] == [
                    m.type for m in (feed.published[-1], *back.published)
                ]
                assert state["streams"]["b"]["status"] == "up"
                newest = source.last
            assert newest.startswith(f"{up[0].epoch}-")
            with EventSource(one, last=newest) as source:  # all is known since then
                on = back.on("b", "loud", 1)
                assert numbers(source.read(1)) == [("b", on[0].seq)]
                back.off("b", "loud", 1, 2)
                source.read(1)
    page = server.get(f"/api/history?after={last}").json()
    assert page["missed"] == {"count": 0, "reason": "not_kept"}
    assert page["events"][0]["seq"] == feed.published[-1].seq
    back.close()


def test_a_connected_client_is_told_of_events_lost_in_a_crash(
    feed: Feed, server: Server, tmp_path: Path
) -> None:
    with EventSource(server) as source:
        source.until("state")
        some(feed, 1)
        source.read(2)
        back = killed_on_a_full_disk(feed, tmp_path / "j.db", 5)
        published = [*back.published, *back.up("a")]
        got = source.read(len(published) + 1)
        (missed,) = (body for body in got if body["type"] == "missed")
        assert (missed["topic"], missed["reason"]) == ("event/a/", "not_kept")
        assert missed["count"] == published[0].seq - feed.published[-1].seq - 1
        assert numbers([b for b in got if b is not missed]) == [("a", m.seq) for m in published]
        back.close()


def test_nothing_is_lost_or_repeated_while_the_journal_cannot_be_read(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FeedHub(lambda: pytest.fail("it needs no feed"), tmp_path / "j.db", 1.0)
    hub.read_journal()
    client = ClientQueue(Query(), limit=100)
    hub.clients.add(client)
    with monkeypatch.context() as patch:
        patch.setattr(History, "after", broken_disk)
        on = feed.on("a", "calm", 1)
        hub.read_journal()
        assert hub.history is None
        hub._update(on[0])  # the feed brings it meanwhile
    off = feed.off("a", "calm", 1, 2)
    hub.read_journal()
    hub._update(off[0])
    assert [event.message for event in client.waiting] == [*on, *off]
    assert hub.state()["streams"]["a"]["tags"] == []
    hub.close()


def test_a_journal_that_cannot_be_read_at_first_is_not_sent_from_its_beginning(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(feed, 2)
    hub = FeedHub(lambda: pytest.fail("it needs no feed"), tmp_path / "j.db", 1.0)
    client = ClientQueue(Query(), limit=100)
    hub.clients.add(client)
    with monkeypatch.context() as patch:
        patch.setattr(History, "current_state", broken_disk)
        hub.read_journal()
    hub.read_journal()
    assert hub.state()["streams"]["a"]["status"] == "up"
    on = feed.on("a", "loud", 3)
    hub.read_journal()
    assert [event.message for event in client.waiting] == on
    hub.close()


def broken_disk(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_an_id_removed_by_retention_after_a_crash(feed: Feed, tmp_path: Path) -> None:
    some(feed, 4)
    path = tmp_path / "j.db"
    history = History(path)
    key, wrong = history.id_of(3), history.entry_id(3, 7)
    history.close()
    back = killed_on_a_full_disk(feed, path, 5)
    back.up("b")
    journal = back.publisher._journal
    assert journal is not None
    journal.retention = Retention(seconds=1e-9)
    assert journal.prune(time.time_ns() + 10**9)
    history = History(path)
    found = history.resume(key)
    assert found.missed == [(found.lost, "retention"), (0, "not_kept")]
    assert found.lost > 0
    stranger = f"{int(history.epoch, 16) + 1:016x}-3-7"
    assert history.resume(stranger).missed == [(0, "epoch")]
    assert history.resume(wrong).after == 3  # its number is removed: nothing speaks against it
    history.close()
    back.close()


def test_filters_apply_to_missed_and_new_events(feed: Feed, server: Server) -> None:
    feed.up("b")
    with EventSource(server) as source:
        last = source.until("state")["id"]
    some(feed, 2)
    some(feed, 2, stream="b")
    feed.on("b", "loud", 4)
    query = "?stream=b&tag=calm&type=tag_off"
    with EventSource(server, query, last) as source:
        assert numbers(source.read(2)) == [("b", 3), ("b", 5)]
        feed.off("b", "loud", 4, 5)
        some(feed, 1, 6, stream="b")
        assert numbers(source.read(1)) == [("b", 9)]
    with EventSource(server, "?type=scores") as source:
        source.until("state")
        some(feed, 1, 8)
        feed.scores("a", 9, 0.5, 0.25)
        (scores,) = source.read(1)
        assert (scores["type"], scores["id"], scores["values"]) == ("scores", "", [0.5, 0.25])


def talk(server: Server, query: str = "") -> ClientConnection:
    return connect(f"ws://{server.address}/ws{query}", proxy=None)


def receive(ws: ClientConnection, n: int, but: str = "state") -> list[dict[str, Any]]:
    """The next `n` messages, without those of one type and those about the daemon."""
    received: list[dict[str, Any]] = []
    while len(received) < n:
        body = json.loads(ws.recv(SECONDS))
        if body["type"] not in ("daemon", but):
            received.append(body)
    return received


def test_a_websocket_receives_the_same_events(feed: Feed, server: Server) -> None:
    with talk(server, "?tag=calm") as ws:
        (state,) = receive(ws, 1, but="")
        assert state["type"] == "state"
        feed.on("a", "loud", 1)
        some(feed, 2)
        ws.send("what is this?")  # not looked at
        received = receive(ws, 2)
    with talk(server, f"?tag=calm&last_event_id={received[-1]['id']}") as ws:
        received += receive(ws, 2)
    assert numbers(received) == [("a", 3), ("a", 4), ("a", 5), ("a", 6)]


def test_a_slow_websocket_is_closed_with_1013(tmp_path: Path, feed: Feed) -> None:
    with serving(tmp_path, feed, tmp_path / "j.db", "queue = 20") as server:
        with talk(server, "?type=scores") as ws:
            assert receive(ws, 1, but="")[0]["type"] == "state"
            ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # A burst that is larger than what may wait.
            messages = [feed.wire.message(m) for m in scores(3000)]
            for message in messages:
                feed.publisher.publish(message)
            received: list[dict[str, Any]] = []
            with suppress(ConnectionClosed):
                for text in ws:
                    received.append(json.loads(text))
            assert received[-1]["type"] == "slow"
            assert ws.close_code == 1013
        assert len(received) < 3000
        server.state_with(lambda state: state["daemon"] == "up")  # nobody else minds


def scores(n: int) -> list[Any]:
    from streamtag.engine import events

    return [
        events.WindowScored("a", "m", k, k + 1, (0.5, 0.25), (0.5, 0.25), False) for k in range(n)
    ]


def test_the_number_of_clients_is_limited(tmp_path: Path, feed: Feed) -> None:
    with serving(tmp_path, feed, tmp_path / "j.db", "clients = 1") as server:
        with EventSource(server) as source:
            source.until("state")
            answer = server.get("/events")
            assert answer.status_code == 503
            assert answer.json()["error"]["parameter"] == "web.clients"
        wait_for(lambda: _status(server) == 200)


def _status(server: Server) -> int:
    with EventSource(server) as source:
        return source.response.status_code


def test_without_a_journal_there_are_state_and_new_events(tmp_path: Path, feed: Feed) -> None:
    with serving(tmp_path, feed, None) as server:
        server.state_with(lambda state: "a" in state["streams"])
        answer = server.get("/api/history")
        assert answer.status_code == 404
        assert "feed.journal" in answer.json()["error"]["expected"]
        with EventSource(server) as source:
            source.until("state")
            some(feed, 1)
            on, off = source.read(2)
            assert (on["type"], off["type"], on["id"]) == ("tag_on", "tag_off", "")


def test_clients_are_told_that_the_daemon_ended_and_the_server_ends_quickly(
    feed: Feed, server: Server
) -> None:
    with EventSource(server) as source, talk(server) as ws:
        source.until("state")
        feed.close()
        assert source.until("daemon")["state"] == "gone"
        assert server.get("/healthz").json()["daemon"] == "gone"
        assert server.close() == 0
        assert list(source) == []  # it ended as it should
        received: list[str | bytes] = []
        with suppress(ConnectionClosed):  # uvicorn may be first to close it
            received.extend(ws)
        assert json.loads(received[-1])["state"] == "gone"
        assert ws.close_code in (1001, 1012)


def test_an_address_in_use_is_an_error(tmp_path: Path, feed: Feed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "taken.toml"
        path.write_text(f'exit_when_done = false\n[streams]\n[web]\nbind = "127.0.0.1:{port}"\n')
        done = run("-m", "streamtag", "web", path, timeout=SECONDS)
    assert done.returncode == 1
    assert "web.bind: expected an address to listen on, such as 127.0.0.1:8080" in done.stderr
    assert f"got '127.0.0.1:{port}': Address already in use" in done.stderr
