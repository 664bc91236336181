"""Keys with limited rights: what is not for them is nowhere, in no message and no answer."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from streamtag.config.config import parse_config
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput
from streamtag.engine import events
from streamtag.errors import ConfigError, FeedError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.event_encoder import TaggerInfo
from streamtag.feed.keys import KeyPair, generate, read_pair
from streamtag.feed.messages import Message
from streamtag.feed.rights import EVERYTHING, Rights

SECONDS = 30
NAMES = ("own1", "own2", "other", "secret")
"""Streams; the limited key may see those that begin with `own`, and `other` in part."""


class LimitedFeed:
    """A feed with keys: `staff` sees everything, `guest` only events of `own*`."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        (folder / "in").mkdir()
        self.server = read_pair(generate(folder / "daemon")[0])
        self.keys = {
            name: read_pair(generate(folder / "in" / name)[0])
            for name in ("staff", "guest", "nobody")
        }
        table = {
            "bind": "tcp://127.0.0.1:0",
            "beat_seconds": 0.2,
            "stats_seconds": 0.5,
            "secret_key": "daemon.key_secret",
            "authorised_keys": "in",
            "journal": "j.db",
            "access": {
                "staff": {"streams": ["*"]},
                "guests": {
                    "keys": ["guest"],
                    "streams": ["own*"],
                    "topics": ["event", "mood"],
                    "bind": "tcp://127.0.0.1:0",
                },
            },
        }
        feed = parse_config({"streams": {}, "exit_when_done": False, "feed": table}, folder).feed
        self.output = EventOutput(feed, Monitor())
        self.output._encoder.taggers["m"] = TaggerInfo(("a",))
        assert self.output.relay is not None
        self.relay = self.output.relay
        self.main, self.view = self.relay.addresses

    def subscriber(self, name: str, address: str = "", **more: bool) -> Subscriber:
        keys = {"key": self.keys[name], "server_key": self.server.public}
        return Subscriber(address or self.view, **keys, **more)  # type: ignore[arg-type]

    def publish(self, number: int) -> None:
        """A title, scores and a mood of each stream, and counters."""
        for name in NAMES:
            self.output.publish([events.TitleChanged(name, 0, f"{name} {number}")])
            values = (0.5,)
            self.output.publish([events.WindowScored(name, "m", 0, 1000, values, values, False)])
        self.output.publish_stats({f"dropped.{name}": number for name in NAMES})
        self.output.publish_notice(f"secret {number}")

    def titles(self, feed: Subscriber, last: str) -> list[Message]:
        """What a subscriber gets until a title."""
        found: list[Message] = []
        deadline = time.monotonic() + SECONDS
        while not (found and getattr(found[-1], "title", "") == last):
            assert time.monotonic() < deadline, found
            message = feed.receive(SECONDS)
            assert isinstance(message, Message), message
            found.append(message)
        return found


@contextmanager
def errors_to(path: Path) -> Iterator[None]:
    """Processes that are started meanwhile write their log to a file."""
    before = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[LimitedFeed]:
    with errors_to(tmp_path / "log"):
        made = LimitedFeed(tmp_path)
    for name in NAMES:
        made.output.publish([events.StreamOpened(name, 0, 1000, 10**18, ("m",))])
    yield made
    made.output.close(0)


def test_a_limited_key_gets_its_streams_and_nothing_is_missing(feed: LimitedFeed) -> None:
    with (
        feed.subscriber("guest", scores=True, stats=True, mood=True) as guest,
        feed.subscriber("staff", feed.main, scores=True, stats=True) as staff,
    ):
        assert {guest.receive(SECONDS).stream for _ in range(2)} == {"own1", "own2"}  # type: ignore[union-attr]
        assert {staff.receive(SECONDS).stream for _ in range(4)} == set(NAMES)  # type: ignore[union-attr]
        for number in range(20):
            feed.publish(number)
        got = feed.titles(guest, "own2 19")
        assert {message.type for message in got} == {"title"}
        assert {message.stream for message in got} == {"own1", "own2"}
        assert len(got) == 40
        everything = feed.titles(staff, "secret 19")
        assert {message.stream for message in everything} == {"", *NAMES}
        assert {"scores", "stats", "notice"} <= {message.type for message in everything}
        feed.publish(20)  # after beats that name other streams, nothing is reported as missed
        assert len(feed.titles(guest, "own2 20")) == 2


def raw(
    feed: LimitedFeed, context: "zmq.Context[zmq.Socket[bytes]]", kind: int, who: str
) -> "zmq.Socket[bytes]":
    socket = context.socket(kind)
    socket.linger, socket.rcvtimeo = 0, SECONDS * 1000
    pair: KeyPair = feed.keys[who]
    socket.curve_publickey, socket.curve_secretkey = pair.public.encode(), pair.secret.encode()
    socket.curve_serverkey = feed.server.public.encode()
    return socket


def test_no_byte_of_other_streams_reaches_a_limited_key(feed: LimitedFeed) -> None:
    with zmq.Context() as context, raw(feed, context, zmq.SUB, "guest") as sub:
        sub.subscribe(b"")
        sub.subscribe(b"hello/12345678/")
        sub.connect(feed.view)
        seen: list[list[bytes]] = []
        kinds: set[bytes] = set()
        number = 0
        while not (b"hello" in kinds and b"event" in kinds and len(seen) > 20):
            feed.publish(number := number + 1)
            seen.append(sub.recv_multipart())
            kinds.add(seen[-1][0].partition(b"/")[0])
        assert kinds <= {b"hello", b"event", b"mood", b"beat"}
        text = b"\n".join(b"".join(parts) for parts in seen)
        assert b"other" not in text
        assert b"secret" not in text
        state = next(parts for parts in seen if parts[0].startswith(b"hello/"))
        assert set(json.loads(state[1])["last"]) <= {"event/own1/", "event/own2/", "beat/"}


def test_the_past_of_other_streams_looks_like_that_of_no_stream(feed: LimitedFeed) -> None:
    with feed.subscriber("staff", feed.main) as staff:
        epoch = staff.receive(SECONDS).epoch  # type: ignore[union-attr]
    with zmq.Context() as context, raw(feed, context, zmq.DEALER, "guest") as asks:
        asks.connect(feed.relay.replay_address)

        def ask(topic: str) -> list[bytes]:
            request = {"v": 1, "type": "replay", "id": 1, "topic": topic, "epoch": epoch}
            asks.send_json({**request, "from": 1, "to": 1})
            head, *bodies = asks.recv_multipart()
            return [head.replace(topic.encode(), b"TOPIC"), *bodies]

        assert len(ask("event/own1/")) == 2
        assert ask("event/secret/") == ask("event/nosuch/") == ask("event/own/")
        assert len(ask("event/secret/")) == 1
    words = "refused key guest at 127.0.0.1: request for 'event/secret/'"
    wait_for_log(feed, words)
    deadline = time.monotonic() + SECONDS
    while not feed.output.counters()["refused"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_log(feed: LimitedFeed, words: str) -> None:
    deadline = time.monotonic() + SECONDS
    while words not in (text := feed.log.read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("who", "address"),
    [("guest", "main"), ("staff", "view"), ("nobody", "main"), ("nobody", "view")],
)
def test_an_address_is_for_its_own_keys(feed: LimitedFeed, who: str, address: str) -> None:
    with feed.subscriber(who, getattr(feed, address)) as strange, pytest.raises(FeedError):
        strange.receive(SECONDS)
    wait_for_log(feed, f"refused key {who} at 127.0.0.1: no right to this address")


def test_refused_subscriptions_are_logged(feed: LimitedFeed) -> None:
    with zmq.Context() as context, raw(feed, context, zmq.SUB, "guest") as sub:
        for i in range(30):
            sub.subscribe(f"event/secret{i}/")
        sub.subscribe("event/own1/")
        sub.connect(feed.view)
        wait_for_log(feed, "feed: refused key guest at 127.0.0.1: subscription to 'event/secret")
        deadline = time.monotonic() + SECONDS
        while feed.output.counters()["refused"] < 30:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert feed.log.read_text().count("subscription to") <= 10  # a minute


def test_rights() -> None:
    some = Rights(("radio1", "studio-*"), ("event", "mood"))
    assert some.sees("event/radio1/")
    assert some.sees("mood/studio-2/")
    for topic in ("event/radio10/", "scores/radio1/", "stats/", "journal/", "beat/", "hello/a/"):
        assert not some.sees(topic), topic
    assert some.meets(b"")
    assert some.meets(b"event/")
    assert some.meets(b"event/studio-77/")
    assert not some.meets(b"event/other/")
    assert not some.meets(b"stats/")
    assert EVERYTHING.sees("stats/")


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ({"a": {"streams": ["x"]}}, r"access.a.bind: expected an address of its own"),
        ({"a": {"streams": ["x"], "topics": ["stats"]}}, r"only with streams = \[\"\*\"\]"),
        ({"a": {"streams": ["x?"]}}, r"feed.access.a.streams"),
        (
            {"a": {"streams": ["*"]}, "b": {"streams": ["*"], "keys": ["a"]}},
            r"expected each key in one table",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, access: dict[str, object], words: str) -> None:
    feed = {"secret_key": "a", "authorised_keys": "b", "access": access}
    with pytest.raises(ConfigError, match=words):
        parse_config({"streams": {}, "exit_when_done": False, "feed": feed}, tmp_path)


def test_rights_need_keys(tmp_path: Path) -> None:
    feed = {"access": {"a": {"streams": ["*"]}}}
    with pytest.raises(ConfigError, match=r"access.a: expected secret_key"):
        parse_config({"streams": {}, "exit_when_done": False, "feed": feed}, tmp_path)
