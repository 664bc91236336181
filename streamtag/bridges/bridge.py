"""What every bridge to somewhere else needs: the daemon's feed, and to know when to end."""

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Protocol, TypeVar

from streamtag.config.config import Config, load_config, parse_config
from streamtag.config.feed import feed_keys
from streamtag.errors import ConfigError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.messages import Goodbye, Message

ADDRESS = "STREAMTAG_FEED"
"""Variable in which a daemon tells its bridges where it publishes."""
JOURNAL = "STREAMTAG_JOURNAL"
"""Variable in which a daemon tells its bridges where its journal's file is."""
CONFIG = "STREAMTAG_CONFIG"
"""Variable in which a daemon tells its bridges, by `stdin`, that they find the configuration that
it runs with in standard input: it may differ from the file's."""
PARENT = "STREAMTAG_PARENT"
"""Variable in which a daemon tells its bridges its process id: they end with it."""
BEATS = 5
"""Signs of life that may be missing before a daemon counts as gone."""


def load_running_config(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration that a bridge's daemon runs with, or else the file's.

    Args:
        path: of the file.
        environment: the process's.

    Raises:
        ConfigError: it cannot be read, or something in it is not allowed.
    """
    if environment.get(CONFIG) != "stdin":
        return load_config(path)
    with open(0, "rb", closefd=False) as handed:
        handed.seek(0)
        return parse_config(json.load(handed), path.resolve().parent)


@contextmanager
def handed_over(config: Config) -> Iterator[IO[bytes]]:
    """A file for `load_running_config` to read, which nobody else sees.

    Raises:
        OSError: there is no room for it.
    """
    text = json.dumps(config.model_dump(exclude_unset=True)).encode()
    in_memory = hasattr(os, "memfd_create")  # works where the disk is full, too
    with (
        os.fdopen(os.memfd_create("streamtag"), "w+b") if in_memory else tempfile.TemporaryFile()
    ) as file:
        file.write(text)
        file.flush()
        yield file


def feed_address(config: Config, environment: Mapping[str, str] = os.environ) -> str:
    """Where a configuration's daemon publishes, as seen from its own machine.

    Raises:
        ConfigError: the daemon takes any free port and did not say which.
    """
    if told := environment.get(ADDRESS):
        return told
    bind = config.feed.bind
    port = bind.rpartition(":")[2]
    if bind.startswith("tcp://") and port in ("0", "*"):
        raise ConfigError(
            f"feed.bind: expected a fixed port for programs that follow the feed, got {bind!r}"
        )
    return reachable(bind)


def reachable(address: str) -> str:
    """How this machine's programs reach an address that may listen everywhere."""
    head, _, port = address.rpartition(":")
    here = {"tcp://*": "127.0.0.1", "tcp://0.0.0.0": "127.0.0.1", "tcp://[::]": "[::1]"}.get(head)
    return f"tcp://{here}:{port}" if here else address


def subscribe(
    config: Config,
    *,
    streams: tuple[str, ...] | None = None,
    scores: bool = False,
    mood: bool = False,
    high_water: int = 100_000,
    since: Mapping[str, tuple[str, int]] | None = None,
) -> Subscriber:
    """A subscriber of a configuration's daemon."""
    return Subscriber(
        feed_address(config),
        streams=streams,
        scores=scores,
        mood=mood,
        high_water=high_water,
        replay=config.feed.replay or None,
        since=since,
        **feed_keys(config.feed),
    )


Kind = TypeVar("Kind")


def configured(table: Kind | None, path: Path, name: str, page: str) -> Kind:
    """A bridge's own table.

    Args:
        table: what the configuration has; None or empty for nothing.
        path: of its file.
        name: of the table, as it is written.
        page: of the documentation, which tells more.

    Raises:
        ConfigError: there is none.
    """
    if not table:
        raise ConfigError(f"{path}: expected a table {name}, got none; see docs/{page}")
    return table


class Pulse:
    """Whether the daemon lives: it says so once in a while, or says goodbye.

    Args:
        feed: its subscriber.
        beat_seconds: between two signs of life; 0 for none, then only a goodbye counts.
    """

    def __init__(self, feed: Subscriber, beat_seconds: float) -> None:
        self._feed, self._patience = feed, BEATS * beat_seconds
        self._left_at = 0.0

    def take(self, message: Message | MissedMessages) -> None:
        """Notices a goodbye."""
        if isinstance(message, Goodbye):
            self._left_at = self._feed.heard_at

    @property
    def beats(self) -> bool:
        """Whether it lives, and has said what is in force."""
        heard = self._feed.heard_at
        if heard <= self._left_at or not self._feed.synced:
            return False
        return not self._patience or time.monotonic() - heard < self._patience


class Bridge(Protocol):
    """Tells somebody else what the feed says."""

    def take(self, message: Message | MissedMessages) -> None:
        """Learns from one message of the feed."""

    def tick(self, *, heard: bool) -> None:
        """What is due now; `heard`: the daemon lives."""

    def close(self) -> None:
        """Leaves nothing on behind."""


def carry(
    bridge: Bridge,
    config: Config,
    end: "Ending",
    wait_seconds: float,
    *,
    streams: tuple[str, ...] | None,
    scores: bool,
    mood: bool,
) -> None:
    """Hands a bridge what a configuration's daemon publishes, until it is to end.

    Args:
        bridge: closed in the end.
        config: of the daemon.
        end: true when that is.
        wait_seconds: between two ticks while nothing comes, at most.
        streams: which; None for all.
        scores: whether it is told scores.
        mood: whether it is told moods.
    """
    with subscribe(config, streams=streams, scores=scores, mood=mood) as feed:
        pulse = Pulse(feed, config.feed.beat_seconds)
        while not end:
            message = feed.receive(wait_seconds)
            if message is not None:
                pulse.take(message)
                bridge.take(message)
            bridge.tick(heard=pulse.beats)
    bridge.close()


class Ending:
    """Becomes true with SIGTERM, SIGINT, or the end of the daemon that began this process."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.event = threading.Event()
        """Set by the signals."""
        self._parent = int(environment.get(PARENT) or 0)

    def __bool__(self) -> bool:
        return self.event.is_set() or (self._parent > 0 and os.getppid() != self._parent)


@contextmanager
def ending() -> Iterator[Ending]:
    """Signals become an `Ending`, for a while; only in the main thread."""
    end = Ending()

    def stop(_: int, __: FrameType | None) -> None:
        end.event.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
