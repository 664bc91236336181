"""What every bridge needs: its daemon's configuration, feed and liveness, and when to stop."""

import json
import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TypeVar

from streamtag.config.config import Config, load_config, parse_config
from streamtag.config.feed import FeedKeys, feed_keys
from streamtag.errors import ConfigError
from streamtag.feed.client.connection import Connection
from streamtag.feed.client.tracker import FeedItem
from streamtag.feed.messages import Goodbye

SHUTDOWN_POLL_SECONDS = 0.2
"""How often is looked whether the daemon has ended."""
ENV_FEED = "STREAMTAG_FEED"
"""Environment variable in which a daemon gives its bridges the address of its feed."""
ENV_JOURNAL = "STREAMTAG_JOURNAL"
"""Environment variable in which a daemon gives its bridges the path of its journal."""
ENV_CONFIG = "STREAMTAG_CONFIG"
"""Environment variable that is `stdin` if a bridge shall read the daemon's configuration from
standard input. The running configuration may differ from the file."""
ENV_PARENT = "STREAMTAG_PARENT"
"""Environment variable in which a daemon gives its bridges its process id. They end with it."""
MISSED_BEATS = 5
"""Number of beats that may be missing before a daemon counts as gone."""

T = TypeVar("T")


def load_running_config(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration that a bridge's daemon runs with, or that of the file without a daemon.

    Raises:
        ConfigError: it cannot be read, or a value in it is not allowed.
    """
    if environment.get(ENV_CONFIG) != "stdin":
        return load_config(path)
    with open(0, "rb", closefd=False) as file:
        file.seek(0)
        return parse_config(json.load(file), path.resolve().parent)


@contextmanager
def config_as_file(config: Config) -> Iterator[IO[bytes]]:
    """A file without a name from which `load_running_config` can read a configuration.

    It is in memory where the system can do that, so it works with a full disk.

    Raises:
        OSError: there is no room for it.
    """
    text = json.dumps(config.model_dump(exclude_unset=True)).encode()
    in_memory = hasattr(os, "memfd_create")
    with (
        os.fdopen(os.memfd_create("streamtag"), "w+b") if in_memory else tempfile.TemporaryFile()
    ) as file:
        file.write(text)
        file.flush()
        yield file


def required_table(table: T | None, path: Path, name: str, page: str) -> T:
    """A bridge's own table `name` of the configuration; `page` is that of the documentation.

    Raises:
        ConfigError: the configuration does not have it.
    """
    if not table:
        raise ConfigError(f"{path}: expected a table {name}, got none; see docs/{page}")
    return table


def feed_address(config: Config, environment: Mapping[str, str] = os.environ) -> str:
    """Address of a daemon's feed for programs on the same machine.

    Raises:
        ConfigError: the daemon binds to any free port, and the environment does not name it.
    """
    if address := environment.get(ENV_FEED):
        return address
    bind = config.feed.bind
    port = bind.rpartition(":")[2]
    if bind.startswith("tcp://") and port in ("0", "*"):
        raise ConfigError(
            f"feed.bind: expected a fixed port for programs that follow the feed, got {bind!r}"
        )
    return local_address(bind)


def local_address(bind: str) -> str:
    """The address at which programs of this machine reach a socket bound to `bind`."""
    head, _, port = bind.rpartition(":")
    host = {"tcp://*": "127.0.0.1", "tcp://0.0.0.0": "127.0.0.1", "tcp://[::]": "[::1]"}.get(head)
    return f"tcp://{host}:{port}" if host else bind


class FeedAccess(FeedKeys):
    """What a subscriber of a configuration's daemon needs, as arguments of `Subscriber`."""

    address: str
    replay: str | None


def feed_access(config: Config) -> FeedAccess:
    """Where and with which keys a configuration's daemon publishes.

    Raises:
        StreamtagError: its port is not known, or the key's file cannot be used.
    """
    if address := os.environ.get(ENV_FEED):  # of the daemon's own, without keys
        return {"address": address, "replay": None}
    replay = config.feed.replay or None
    return {"address": feed_address(config), "replay": replay, **feed_keys(config.feed)}


class DaemonLiveness:
    """Whether the daemon is alive. It publishes beats, and a goodbye when it ends.

    Args:
        feed: its subscriber.
        beat_seconds: time between two beats; 0 for none, then only a goodbye counts.
    """

    def __init__(self, feed: Connection, beat_seconds: float) -> None:
        self._feed, self._timeout = feed, MISSED_BEATS * beat_seconds or math.inf
        self._goodbye_at = 0.0

    def update(self, message: FeedItem) -> None:
        """Updates the liveness from one message that the subscriber has just received."""
        if isinstance(message, Goodbye):
            self._goodbye_at = self._feed.received_at

    @property
    def alive(self) -> bool:
        """Whether it is alive and its current state has been received."""
        received = self._feed.received_at
        fresh = time.monotonic() - received < self._timeout
        return self._feed.synced and received > self._goodbye_at and fresh


class Shutdown:
    """True after SIGTERM or SIGINT, or when the daemon that started this process has ended."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.event = threading.Event()
        """Set by the signals."""
        self._parent = int(environment.get(ENV_PARENT) or 0)

    def __bool__(self) -> bool:
        return self.event.is_set() or (self._parent > 0 and os.getppid() != self._parent)


def run_until_shutdown(
    work: Sequence[Callable[[], object]], shutdown: Shutdown, seconds: float
) -> None:
    """Runs each piece of work in a thread until the shutdown; they watch its event to end.

    Args:
        work: functions without arguments.
        shutdown: is set when this returns.
        seconds: how long to wait for all of them to end.
    """
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    while not shutdown:
        shutdown.event.wait(SHUTDOWN_POLL_SECONDS)
    shutdown.event.set()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


@contextmanager
def shutdown_on_signals() -> Iterator[Shutdown]:
    """Turns signals into a `Shutdown` while the block runs. Only for the main thread."""
    shutdown = Shutdown()

    def stop(_: int, __: FrameType | None) -> None:
        shutdown.event.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield shutdown
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
