"""A subscriber receives exactly what was emitted, whatever happens to the daemon."""

import os
import random
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.paths import SUPPORT
from support.peers import free_ports

from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.journal.compression import Decompressor
from streamtag.feed.messages import Message, StreamDown, TagOff, TagOn, parse

SECONDS = 60
KILLS = int(os.environ.get("STREAMTAG_KILLS", "8"))
PUBLISHER = SUPPORT / "publisher_program.py"


@contextmanager
def publisher(journal: Path, bind: str, replay: str, seed: int) -> Iterator[subprocess.Popen[str]]:
    """A feed that is killed with -9 in the end."""
    command = [sys.executable, str(PUBLISHER), str(journal), bind, replay, str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def emitted(journal: Path) -> dict[str, list[Message]]:
    """What a journal holds, by topic."""
    topics: dict[str, list[Message]] = defaultdict(list)
    db = sqlite3.connect(journal)
    decompressor = Decompressor(db)
    for (body,) in db.execute("SELECT body FROM event ORDER BY topic, seq"):
        message = parse(decompressor.decompress(body))
        topics[message.topic].append(message)
    db.close()
    return topics


def receive(feed: Subscriber, n: int, into: dict[str, list[Message]]) -> None:
    """Takes `n` messages; none may be missed."""
    for _ in range(n):
        message = feed.receive(SECONDS)
        assert message is not None
        assert not isinstance(message, MissedMessages), message
        if message.topic.startswith("event/"):
            into[message.topic].append(message)


def check_tags(received: list[Message]) -> None:
    """Every tag_on has one tag_off."""
    on: set[str] = set()
    for message in received:
        if isinstance(message, TagOn):
            assert message.tag not in on
            on.add(message.tag)
        elif isinstance(message, TagOff):
            on.remove(message.tag)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Numbers, contents and order are those of the journal, over all deaths of the daemon."""
    journal, rng = tmp_path / "journal.db", random.Random(1)
    bind, replay = (f"tcp://127.0.0.1:{number}" for number in free_ports())
    received: dict[str, list[Message]] = defaultdict(list)
    with Subscriber(bind) as feed:
        for round_ in range(KILLS):
            with publisher(journal, bind, replay, round_):
                receive(feed, rng.randrange(50, 400), received)
        with publisher(journal, bind, replay, KILLS):
            end = {topic: messages[-1].seq for topic, messages in emitted(journal).items()}
            while any(not received[t] or received[t][-1].seq < seq for t, seq in end.items()):
                receive(feed, 1, received)
    kept = emitted(journal)
    for topic, messages in kept.items():
        assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
        assert received[topic] == messages[: len(received[topic])]
        check_tags(messages)
    assert len({m.epoch for messages in received.values() for m in messages}) == 1
    recovered = [
        m for ms in received.values() for m in ms if getattr(m, "reason", "") == "recovered"
    ]
    assert {type(m) for m in recovered} == {TagOff, StreamDown}
