"""MessagePack instead of JSON: shorter, and nothing else is different."""

import json
from pathlib import Path

import msgpack
import pytest
import zmq
from feed.test_event_encoder import GOLDEN, OF_THE_PUBLISHER, new_wire
from hypothesis import example, given
from hypothesis import strategies as st

from streamtag.config.config import FeedConfig
from streamtag.daemon.output import open_feed
from streamtag.engine import events
from streamtag.errors import FeedError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.codec import is_msgpack
from streamtag.feed.messages import Message, TagOff, TagOn, dump, parse

SECONDS = 60


def test_it_says_the_same_as_json() -> None:
    wire = new_wire()
    for message in [*(wire.message(e) for e, *_ in GOLDEN), *(m for m, _ in OF_THE_PUBLISHER)]:
        packed, plain = dump(message, "msgpack"), dump(message)
        assert list(msgpack.unpackb(packed).items()) == list(json.loads(plain).items())
        assert parse(packed) == parse(plain)
        assert is_msgpack(packed)
        assert not is_msgpack(plain)
        assert len(packed) < len(plain)


@given(st.binary(max_size=200), st.sampled_from([b"\x80", b"\x8f", b"\xde", b"\xdf", b"{", b""]))
@example(b"\xa1v\x01", b"\x81")
@example(b"\x91" * 100_000, b"\x81\xa1a")
def test_whatever_comes_is_a_message_or_an_error(rest: bytes, first: bytes) -> None:
    with pytest.raises(FeedError):
        parse(first + rest)


def test_a_subscriber_needs_no_word_about_it(tmp_path: Path) -> None:
    """State, live, a hole and what an older daemon kept as JSON."""
    config = FeedConfig(bind="tcp://127.0.0.1:0", journal=str(tmp_path / "j.db"))
    sent: list[Message] = []
    for encoding in ("json", "msgpack"):
        publisher, wire = open_feed(config.model_copy(update={"encoding": encoding}))
        with Subscriber(publisher.address) as feed:
            for event in (
                events.StreamOpened("a", 0, 1000, 0, ()),
                events.TagStarted("a", "m", "tag", 1, 2, 0.5, False),
            ):
                publisher.publish(message := wire.message(event))
                sent.append(message)
                assert feed.receive(SECONDS) == message
        with Subscriber(publisher.address) as late:
            assert [late.receive(SECONDS), late.receive(SECONDS)] == sent[-2:]
            late._tracker._last["event/a/"] = (message.epoch, 0)  # as if it had missed all
            off = events.TagEnded("a", "m", "tag", 2, 3, 1, 0.5, events.Reason.SHUTDOWN)
            for event in (off, events.StreamClosed("a", 4, events.Reason.SHUTDOWN, "")):
                publisher.publish(message := wire.message(event))
                sent.append(message)
            assert [late.receive(SECONDS) for _ in sent] == sent
        publisher.close()
    assert [type(m) for m in sent if isinstance(m, TagOn | TagOff)] == [TagOn, TagOff] * 2


def test_requests_and_the_state_are_packed_too() -> None:
    publisher, wire = open_feed(FeedConfig(bind="tcp://127.0.0.1:0", encoding="msgpack"))
    publisher.publish(message := wire.message(events.StreamOpened("a", 0, 1000, 0, ())))
    with (
        zmq.Context() as context,
        context.socket(zmq.SUB) as feed,
        context.socket(zmq.REQ) as asks,
    ):
        for socket in (feed, asks):
            socket.linger, socket.rcvtimeo = 0, SECONDS * 1000
        feed.subscribe("hello/x/")
        feed.connect(publisher.address)
        while len(parts := feed.recv_multipart()) < 3:  # before the message was there
            feed.unsubscribe("hello/x/")
            feed.subscribe("hello/x/")
        assert parts[2] == dump(message, "msgpack")
        head = msgpack.unpackb(parts[1])
        assert head["last"].pop("beat/")[0] == head["epoch"]
        assert head["last"] == {"event/a/": [message.epoch, 1]}
        request = {"v": 1, "type": "replay", "topic": "event/a/", "epoch": message.epoch}
        for spell, read in ((msgpack.packb, msgpack.unpackb), (json.dumps, json.loads)):
            asks.connect(head["replay"])
            words = spell(request | {"from": 1, "to": 1})
            asks.send(words if isinstance(words, bytes) else words.encode())
            answer, *messages = asks.recv_multipart()
            assert (read(answer)["next"], messages) == (0, parts[2:])
    publisher.close()
