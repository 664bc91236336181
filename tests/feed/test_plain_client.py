"""docs/protocol.md is enough: a client written from it alone hears what the journal holds."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
from support.paths import SUPPORT

from streamtag.config.config import FeedConfig
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput, open_feed
from streamtag.engine import events
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.keys import generate, read_pair
from streamtag.feed.publisher import Publisher

SECONDS = 60
CLIENT = SUPPORT / "plain_client.py"
STREAMS = ("a", "b", "c")
Body = dict[str, Any]


class Lossy:
    """Stands between a feed and one client, and loses some messages.

    Args:
        feed: the feed's address.
    """

    def __init__(self, feed: str) -> None:
        self._context = zmq.Context()
        self._front, self._back = self._context.socket(zmq.XPUB), self._context.socket(zmq.XSUB)
        for socket in (self._front, self._back):
            socket.linger = socket.sndhwm = socket.rcvhwm = 0
        self._front.bind("tcp://127.0.0.1:*")
        self.address = self._front.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._back.connect(feed)
        self.lost: set[bytes] = set()
        """How the topics begin of which messages were lost."""
        self._rng = random.Random(1)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._front, self._back):
            poller.register(socket, zmq.POLLIN)
        while not self._closing.is_set():
            for socket, _ in poller.poll(50):
                parts = socket.recv_multipart()
                if socket is self._front:
                    self._back.send_multipart(parts)
                elif parts[0].startswith((b"event/", b"beat/")) and self._rng.random() < 0.3:
                    self.lost.add(parts[0][:5])
                else:
                    self._front.send_multipart(parts)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._context.destroy(linger=0)


class Reader:
    """The plain client as a process, and what it says."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-I", str(CLIENT), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.how: list[str] = []
        self.received: dict[str, list[Body]] = defaultdict(list)
        """By stream, what is new: not what was in force when it came."""
        self.in_force: list[Body] = []

    def read(self) -> None:
        """The next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client ended"
        how, *said = json.loads(line)
        assert how in ("state", "live", "replay"), line  # nothing missed, nothing forgotten
        self.how.append(how)
        if how == "state":
            assert not self.received
            self.in_force.append(said[0])
        else:
            self.received[said[0]["stream"]].append(said[0])

    def end(self) -> None:
        assert self.process.wait(SECONDS) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def client(*arguments: str) -> Iterator[Reader]:
    reader = Reader(*arguments)
    try:
        yield reader
    finally:
        reader.process.kill()
        reader.end() if reader.process.returncode == 0 else reader.process.communicate()


def kept(journal: Path) -> dict[str, list[Body]]:
    """What the journal holds, by stream."""
    db = sqlite3.connect(journal)
    rows = db.execute("SELECT body FROM event ORDER BY topic, seq").fetchall()
    db.close()
    found: dict[str, list[Body]] = defaultdict(list)
    for (body,) in rows:
        message = json.loads(body)
        found[message["stream"]].append(message)
    return found


class Author:
    """Makes up what happens."""

    def __init__(self, publisher: Publisher, wire: EventEncoder) -> None:
        self._publisher, self._wire = publisher, wire
        self._rng, self._at, self._on = random.Random(2), 0, dict[tuple[str, str], int]()
        self.written = 0
        for stream in STREAMS:
            self._say(events.StreamOpened(stream, 0, 1000, 10**18, ("m",)))

    def _say(self, event: events.Event) -> None:
        self._publisher.publish(self._wire.message(event))
        self.written += 1

    def write(self, n: int, title: str = "") -> None:
        for _ in range(n):
            self._at += 10
            stream, tag = self._rng.choice(STREAMS), self._rng.choice("xyz")
            since = self._on.pop((stream, tag), None)
            if title:
                self._say(events.TitleChanged(stream, self._at, f"{title} {self._at}"))
            elif since is None:
                self._on[stream, tag] = self._at
                self._say(events.TagStarted(stream, "m", tag, self._at, self._at, 0.5, False))
            else:
                why = events.Reason.BELOW_THRESHOLD
                where = (self._at, self._at, since)
                self._say(events.TagEnded(stream, "m", tag, *where, 0.5, why))


def take_all(reader: Reader, author: Author, journal: Path, publisher: Publisher) -> None:
    """Until the client has what the journal holds; what it was told is compared with that."""
    while sum(len(said) for said in reader.received.values()) < author.written - late(reader):
        reader.read()
    found = kept(journal)
    for stream in STREAMS:
        first = reader.received[stream][0]["seq"]
        assert reader.received[stream] == found[stream][first - 1 :]
        before = found[stream][: first - 1]
        assert [m for m in reader.in_force if m["stream"] == stream] == standing(before)
    publisher.close()
    reader.end()


def late(reader: Reader) -> int:
    """How much was over when the client came."""
    return sum(said[0]["seq"] - 1 for said in reader.received.values())


def standing(before: list[Body]) -> list[Body]:
    """What is in force after some messages."""
    on: dict[object, Body] = {}
    for message in before:
        of_tag = message["type"] in ("tag_on", "tag_off")
        slot = ("tag", message["tag"]) if of_tag else message["type"]
        on.pop(slot, None)
        if message["type"] != "tag_off":
            on[slot] = message
    return list(on.values())


def test_it_knows_nothing_of_the_library() -> None:
    assert "import streamtag" not in CLIENT.read_text()
    assert "from streamtag" not in CLIENT.read_text()


def test_a_late_client_behind_a_network_that_loses_messages(tmp_path: Path) -> None:
    journal = tmp_path / "j.db"
    publisher, wire = open_feed(
        FeedConfig(bind="tcp://127.0.0.1:0", journal=str(journal), beat_seconds=0.05)
    )
    author, proxy = Author(publisher, wire), Lossy(publisher.address)
    author.write(100)
    try:
        with client(proxy.address) as reader:
            reader.read()
            for _ in range(20):
                author.write(100)
                for _ in range(20):
                    reader.read()
            take_all(reader, author, journal, publisher)
    finally:
        proxy.close()
        publisher.close()
    assert proxy.lost == {b"event", b"beat/"}
    assert {"state", "live", "replay"} == set(reader.how)


def test_a_frozen_client_with_a_key(tmp_path: Path) -> None:
    """Nothing is buffered for it for ever, and it gets everything."""
    journal = tmp_path / "j.db"
    server, mine = (read_pair(generate(tmp_path / name)[0]) for name in ("daemon", "mine"))
    output = EventOutput(
        FeedConfig(
            bind="tcp://127.0.0.1:0",
            journal=str(journal),
            high_water=10,
            secret_key=str(tmp_path / "daemon.key_secret"),
            authorised_keys=str(tmp_path),
        ),
        Monitor(),
    )
    publisher, author = output.publisher, Author(output.publisher, output._encoder)
    author.write(100)
    with client(output.address, mine.public, mine.secret, server.public) as reader:
        reader.read()
        reader.process.send_signal(signal.SIGSTOP)
        author.write(6000, "long " * 400)  # 12 MB: far more than the system's buffers hold
        deadline = threading.Event()
        while publisher.counters["sent"] < author.written:
            deadline.wait(0.02)
        reader.process.send_signal(signal.SIGCONT)
        take_all(reader, author, journal, publisher)
    assert {"state", "replay"} <= set(reader.how)
    output.close(0)
