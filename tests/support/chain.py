"""A whole daemon, from sources to messages, and a subscriber to its feed."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streamtag.config.config import load_config
from streamtag.daemon.daemon import Daemon
from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.messages import Message, StreamStatus
from streamtag.feed.publisher import READY
from support.forked import Forked
from support.peers import wait_until

SECONDS = 60


@contextmanager
def daemon(folder: Path, bundle: Path, streams: str, feed_keys: str = "") -> Iterator[Subscriber]:
    """Runs a daemon in this process; yields a subscriber to its feed.

    Args:
        folder: for the configuration file.
        bundle: of the only tagger, `toy`.
        streams: lines of the table `streams`.
        feed_keys: more lines of the table `feed`.
    """
    path = configuration(folder, bundle, streams, feed_keys)
    running, stop = Daemon(load_config(path)), threading.Event()
    worker = threading.Thread(target=running.run, args=(stop.is_set,))
    try:
        with Subscriber(running.address, scores=True) as feed:
            worker.start()
            yield feed
            stop.set()
            worker.join(SECONDS)
            assert not worker.is_alive()
            assert not running.failed
    finally:
        stop.set()
        worker.join(SECONDS)


@contextmanager
def daemon_process(
    folder: Path, bundle: Path, streams: str, feed_keys: str = ""
) -> Iterator[tuple[Subscriber, int]]:
    """Runs a daemon in a process of its own; yields a subscriber and the process id."""
    path, log = configuration(folder, bundle, streams, feed_keys), folder / "daemon.log"
    with log.open("wb") as output:
        process = Forked("-m", "streamtag", "run", path, stderr=output)
    try:
        wait_until(lambda: READY in log.read_text(), log.read_text)
        address = log.read_text().partition(READY)[2].split()[0]
        with Subscriber(address, scores=True) as feed:
            yield feed, process.pid
        process.terminate()
        assert process.wait(SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def configuration(folder: Path, bundle: Path, streams: str, feed_keys: str) -> Path:
    """Writes the configuration of a daemon; the arguments are those of `daemon`."""
    path = folder / "daemon.toml"
    path.write_text(
        f'[feed]\nbind = "tcp://127.0.0.1:0"\nwait_for_subscriber_seconds = {SECONDS}\n'
        f"{feed_keys}\n"
        '[engine]\ndevice = "cpu"\nthreads = 1\nslack_seconds = 30.0\n'
        f"[taggers.toy]\nbundle = {json.dumps(str(bundle))}\n"
        f"[streams]\n{streams}\n"
    )
    return path


def receive_until(feed: Subscriber, enough: Callable[[list[Message]], bool]) -> list[Message]:
    """Receives messages until `enough` is true of them; none may be missed."""
    messages: list[Message] = []
    while not enough(messages):
        message = feed.receive(SECONDS)
        assert message is not None, [str(m) for m in messages if m.type != "scores"]
        assert not isinstance(message, MissedMessages)
        messages.append(message)
    return messages


def states(messages: list[Message]) -> list[tuple[str, str]]:
    """State and cause of each status message."""
    return [(m.state, m.cause) for m in messages if isinstance(m, StreamStatus)]


def contents(messages: list[Message], stream: str) -> list[tuple[object, ...]]:
    """Type, time and details of a stream's messages, without status messages."""
    return [
        (m.type, m.t, m.details())
        for m in messages
        if m.stream == stream and not isinstance(m, StreamStatus)
    ]
