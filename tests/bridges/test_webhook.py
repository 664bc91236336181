"""Webhooks with a receiver that fails, hangs, redirects, is busy, dies and comes back."""

import hashlib
import hmac
import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.feeds import Feed, off, on, up
from support.paths import ROOT
from support.peers import Processes, free_port, wait_until
from support.receiver import Receiver, status

from streamtag.bridges.webhook.bridge import Webhook, load_position
from streamtag.bridges.webhook.delivery import Delivery, Outcome, key_of, signature
from streamtag.config.config import FeedConfig, load_config
from streamtag.daemon.check import complaints_about
from streamtag.engine import events
from streamtag.errors import StreamtagError
from streamtag.feed.client.subscriber import MissedMessages
from streamtag.feed.messages import AlertAcknowledged


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    with open_here(tmp_path) as made:
        yield made


def open_here(folder: Path, port: int = 0) -> Feed:
    bind = f"tcp://127.0.0.1:{port or free_port()}"
    return Feed(FeedConfig(bind=bind, journal=str(folder / "j.db"), beat_seconds=0.2))


QUICK = "retry_seconds = 0.01\nlongest_retry_seconds = 0.05\n"


def configuration(folder: Path, feed: Feed, url: str, more: str = "", name: str = "one") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(
        f'streams.room.source = "device:"\nlog.style = "keyvalue"\n[feed]\njournal = "j.db"\n'
        f'bind = "{feed.publisher.address}"\n[[webhook]]\nname = "{name}"\nurl = "{url}"\n'
        f"{QUICK if 'retry' not in more else ''}{more}\n"
    )
    return path


@contextmanager
def running(path: Path, feed: Feed) -> Iterator[Webhook]:
    """The first webhook of a configuration, in a thread; somebody follows the feed then."""
    whole, stop = load_config(path), threading.Event()
    webhook = Webhook(whole, whole.webhook[0], stop)
    thread = threading.Thread(target=webhook.run)
    thread.start()
    assert feed.publisher.wait_for_subscriber(60)
    try:
        yield webhook
    finally:
        stop.set()
        thread.join()


def until(receiver: Receiver, count: int) -> None:
    wait_until(lambda: len(receiver.requests) >= count, lambda: str(receiver.received()))


def test_a_message_is_posted_unchanged_and_signed(tmp_path: Path, feed: Feed) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    more = 'secret_file = "secret"\nheaders = { Authorization = "Bearer x" }'
    with Receiver() as receiver, running(configuration(tmp_path, feed, receiver.url, more), feed):
        feed.publish(up(), on("low"))
        until(receiver, 2)
    headers, body = receiver.requests[1]
    message = json.loads(body)
    assert (message["type"], message["tag"], message["seq"]) == ("tag_on", "low", 2)
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == f"{message['epoch']}/event/room/2"
    assert headers["Authorization"] == "Bearer x"
    parts = dict(part.split("=") for part in headers["X-Streamtag-Signature"].split(","))
    signed = f"{parts['t']}.".encode() + body
    assert parts["v1"] == hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()


def test_failures_are_retried_in_order(tmp_path: Path, feed: Feed) -> None:
    replies = [status(500), status(503), status(429, Retry_After="0"), status(408), status(200)]
    with Receiver(*replies) as receiver, running(configuration(tmp_path, feed, receiver.url), feed):
        feed.publish(up(), on("low"), off("low"))
        until(receiver, 7)
    first = [("stream_up", 1)] * 5
    assert receiver.received() == [*first, ("tag_on", 2), ("tag_off", 3)]
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.requests}) == 3


def test_refused_requests_are_not_retried(tmp_path: Path, feed: Feed) -> None:
    moved = status(302, Location="http://127.0.0.1:1/elsewhere")
    with Receiver(moved, status(400), status(204)) as receiver:
        path = configuration(tmp_path, feed, receiver.url)
        with running(path, feed) as webhook:
            feed.publish(up(), on("low"), off("low"))
            until(receiver, 3)
            wait_until(lambda: webhook.position.n_delivered == 1, "not counted")
            assert (webhook.position.n_delivered, webhook.position.n_given_up) == (1, 2)
    assert [kind for kind, _ in receiver.received()] == ["stream_up", "tag_on", "tag_off"]


def test_a_hanging_receiver_does_not_delay_another(tmp_path: Path, feed: Feed) -> None:
    with Receiver() as hanging, Receiver() as other:
        hanging.replies = [status(204), hanging.hang]
        slow = configuration(tmp_path, feed, hanging.url, "timeout_seconds = 1", name="slow")
        with running(slow, feed), running(configuration(tmp_path, feed, other.url), feed):
            feed.publish(up())
            until(other, 1)
            until(hanging, 1)
            feed.publish(*[events.GapFound("room", i, i + 1) for i in range(1, 50)])
            until(other, 50)
            until(hanging, 2)
            hanging.replies = [status(204)]
            wait_until(lambda: ("gap", 50) in hanging.received(), "never delivered")
    received = dict.fromkeys(hanging.received())  # in order, less what was tried again
    assert list(received) == other.received()


def test_a_dead_receiver_receives_everything_when_it_is_back(tmp_path: Path, feed: Feed) -> None:
    with Receiver() as receiver:
        path = configuration(tmp_path, feed, receiver.url)
    with running(path, feed):
        feed.publish(up(), on("low"), off("low"))
        with Receiver(port=receiver.port) as back:
            until(back, 3)
    assert back.received() == [("stream_up", 1), ("tag_on", 2), ("tag_off", 3)]


def test_a_message_that_always_fails_is_given_up(tmp_path: Path, feed: Feed) -> None:
    def poisoned(handler: http.server.BaseHTTPRequestHandler) -> None:
        body = receiver.requests[-1][1]
        status(500 if b'"low"' in body else 204)(handler)

    more = "give_up_seconds = 3\n" + QUICK  # time for a second try on a busy machine
    with Receiver(poisoned) as receiver:
        with running(configuration(tmp_path, feed, receiver.url, more), feed) as webhook:
            feed.publish(up(), on("low"), on("high"))
            wait_until(lambda: ("tag_on", 3) in receiver.received(), "never went on")
            wait_until(lambda: webhook.position.n_delivered == 2, "not counted")
        assert (webhook.position.n_delivered, webhook.position.n_given_up) == (2, 1)
        assert receiver.received().count(("tag_on", 2)) > 1


def test_nothing_is_lost_when_bridge_and_daemon_are_killed(tmp_path: Path) -> None:
    processes, port = Processes(tmp_path), free_port()
    busy = [status(503)] * 3
    with Receiver(status(204), *busy) as receiver:
        feed = open_here(tmp_path, port)
        path = configuration(tmp_path, feed, receiver.url)
        words = ("-m", "streamtag", "webhook", path)
        bridge = processes.python(*words, env=os.environ | {"NO_PROXY": "*"})
        feed.publish(up(), on("low"))
        until(receiver, 3)  # the second message is being tried
        bridge.send_signal(signal.SIGKILL)
        bridge.wait()
        feed.publish(off("low"), on("high"), up("hall"))
        feed.publisher.close()
        receiver.replies = [status(204)]
        with open_here(tmp_path, port) as feed:  # the next daemon, on the same journal
            processes.python(*words, env=os.environ | {"NO_PROXY": "*"})
            wait_until(lambda: ("tag_on", 4) in receiver.received(), processes.logs)
            wait_until(lambda: "hall" in str(receiver.requests[-1]), processes.logs)
    processes.close()
    assert "HTTP Request" not in processes.logs()
    room = [json.loads(body) for _, body in receiver.requests if b'"room"' in body]
    received = dict.fromkeys((m["type"], m["seq"]) for m in room)
    assert list(received)[:4] == [("stream_up", 1), ("tag_on", 2), ("tag_off", 3), ("tag_on", 4)]
    assert [m["seq"] for m in room].count(1) == 1  # what was delivered is not told again


def test_a_hanging_receiver_does_not_delay_the_end(tmp_path: Path, feed: Feed) -> None:
    processes = Processes(tmp_path)
    with Receiver() as receiver:
        receiver.replies = [receiver.hang]
        path = configuration(tmp_path, feed, receiver.url, "timeout_seconds = 300")
        words = ("-m", "streamtag", "webhook", path)
        bridge = processes.python(*words, env=os.environ | {"NO_PROXY": "*"})
        feed.publish(up())
        until(receiver, 1)
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(60) == 0
    processes.close()


def test_batches_and_filters(tmp_path: Path, feed: Feed) -> None:
    more = (
        'batch = 10\nevents = ["tag_on", "tag_off", "scores"]\ntags = ["high"]\nstreams = ["room"]'
    )
    scores = events.WindowScored("room", "toy", 0, 9, (0.5,) * 3, (0.5,) * 3, False)
    feed.publish(up(), up("hall"))
    received: list[dict[str, Any]] = []
    with Receiver() as receiver, running(configuration(tmp_path, feed, receiver.url, more), feed):
        feed.publish(on("high", stream="hall"), on("low"), on("high"), scores, off("high"))

        def complete() -> bool:
            bodies = [json.loads(body) for _, body in receiver.requests]
            received[:] = [m for body in bodies for m in body["messages"]]
            return sum(m["type"] == "scores" for m in received) == 1 and len(received) >= 3

        wait_until(complete, lambda: str(received))
    assert {m["stream"] for m in received} == {"room"}
    assert sorted(m["type"] for m in received) == ["scores", "tag_off", "tag_on"]
    batch = json.loads(receiver.requests[0][1])
    assert (batch["v"], batch["type"]) == (1, "batch")
    assert len(batch["ids"]) == len(batch["messages"])


@pytest.mark.parametrize(
    ("asked", "limit", "outcome"),
    [("100", 50.0, Outcome.GIVEN_UP), ("100", 0.0, Outcome.DELIVERED), ("soon", 50.0, None)],
)
def test_retry_after_is_honoured_within_the_limit(
    tmp_path: Path, feed: Feed, asked: str, limit: float, outcome: Outcome | None
) -> None:
    """As long as nobody has to wait longer than he is willing to."""
    waits: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    with Receiver(status(429, Retry_After=asked), status(204)) as receiver:
        config = load_config(configuration(tmp_path, feed, receiver.url)).webhook[0]
        config = config.model_copy(update={"give_up_seconds": limit})
        delivery = Delivery(config, "", Stop())
        assert delivery.deliver(b"{}", "k", "it") is (outcome or Outcome.DELIVERED)
        delivery.close()
    assert waits == ([] if outcome is Outcome.GIVEN_UP else [100.0] if asked == "100" else waits)
    assert all(wait <= 100 for wait in waits)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ('url = "ftp://x"', "webhook.0.url: expected http://… or https://…, got 'ftp://x'"),
        ('events = ["tag"]', "webhook.0.events: expected some of stream_up, "),
        ('secret = "x"\nsecret_env = "y"', "webhook.0.secret: expected one of secret, "),
        ("retries = 3", "unknown key webhook.0.retries; allowed here: name, url,"),
        ('position = "none/x"', "webhook 'one'.position: expected a path in a folder that exists"),
        ('secret_file = "none"', "webhook 'one'.secret_file: expected an existing file"),
        ('[[webhook]]\nname="one"\nurl="http://x"', "webhook: expected different names, got 'one'"),
        ("batch = 0", "webhook.0.batch: expected greater than or equal to 1, got 0"),
    ],
)
def test_an_error_names_its_key(tmp_path: Path, more: str, complaint: str) -> None:
    path = tmp_path / "c.toml"
    url = "" if more.startswith("url") else 'url = "http://x"\n'
    path.write_text(f'streams.a.source = "device:"\n[[webhook]]\nname = "one"\n{url}{more}\n')
    (line,) = complaints_about(path)
    assert line.startswith(f"{path}: {complaint}")


def test_positions_are_saved_and_damaged_files_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    position = load_position(tmp_path / "p")
    position.topics["event/a/"] = ("18e9", 7)
    position.n_delivered = 3
    position.save()
    again = load_position(tmp_path / "p")
    assert (again.topics, again.n_delivered) == (position.topics, 3)
    (tmp_path / "p").write_text('{"topics": {"a": 1}}')
    assert load_position(tmp_path / "p").topics == {}
    assert "expected a webhook's position" in caplog.text
    assert (tmp_path / "p.damaged").exists()
    position.path, position.saved = tmp_path / "none" / "p", ""
    with pytest.raises(StreamtagError, match=r"set webhook\.position"):
        position.save()


def test_missed_messages_have_a_key() -> None:
    missed = MissedMessages("event/a/", 3, reason="retention")
    assert key_of(missed, {"event/a/": ("18e9", 7)}) == "18e9/event/a/7+missed"


def test_the_documentation_verifies_a_signature() -> None:
    text = (ROOT / "docs" / "webhooks.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    now = int(time.time())
    header = signature("s3cret", b"{}", now)
    assert names["is_genuine"]("s3cret", header, b"{}")
    assert not names["is_genuine"]("s3cret", header, b"[]")
    assert not names["is_genuine"]("other", header, b"{}")
    assert not names["is_genuine"]("s3cret", signature("s3cret", b"{}", now - 3600), b"{}")


def test_alerts_are_posted_where_they_are_named(tmp_path: Path, feed: Feed) -> None:
    fields: dict[str, Any] = {"epoch": "", "seq": 0, "t": 0.0, "utc": "2026-01-01T00:00:00.000000Z"}
    fields |= {"alert": "silent", "id": "silent@1", "by": "ann", "note": ""}
    with Receiver() as receiver:
        path = configuration(tmp_path, feed, receiver.url, 'events = ["alert_acknowledged", "gap"]')
        with running(path, feed):
            seen = AlertAcknowledged(stream="room", **fields)
            feed.publisher.publish(feed.wire.number(seen))
            until(receiver, 1)
            feed.publish(up(), events.GapFound("room", 1, 2))
            until(receiver, 2)
    assert receiver.received() == [("alert_acknowledged", 1), ("gap", 2)]
