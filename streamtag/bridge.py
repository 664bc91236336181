"""What the process of a bridge knows: where the feed and the journal are, and when to end."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from streamtag.bridges import VARIABLE
from streamtag.config import Config
from streamtag.feed import FeedKeys, feed_keys

LEAVE_SECONDS = 3.0
"""How long a bridge may take to end when its daemon is gone."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bridge finds its daemon: `Subscriber(place.address, **place.keys)`."""

    address: str
    """Of the feed."""
    journal: Path | None = None
    """Its file; None if it is not known."""
    keys: FeedKeys = field(default_factory=FeedKeys)
    """Arguments of `Subscriber` where the feed is guarded."""
    by_daemon: bool = False
    """A daemon started this process and takes it along when it ends."""


def place_of(config: Config) -> Place:
    """Where the daemon is that runs a configuration; it need not run yet.

    Raises:
        FeedError: the key's file cannot be used.
    """
    keys = feed_keys(config)
    if told := os.environ.get(VARIABLE):
        where = json.loads(told)
        journal = Path(where["journal"]) if where["journal"] else None
        return Place(where["feed"], journal, keys, by_daemon=True)
    journal = Path(config.feed.journal) if config.feed.journal else None
    return Place(reachable(config.feed.bind), journal, keys)


def reachable(address: str) -> str:
    """How this machine's programs reach an address that listens everywhere."""
    for everywhere, here in (("*", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):
        if address.startswith(f"tcp://{everywhere}:"):
            return address.replace(everywhere, here, 1)
    return address


def end_with_daemon() -> None:
    """From now on this process gets SIGTERM when its daemon, at the other end of standard input,
    has gone; and is killed if it does not listen."""
    threading.Thread(target=_watch, name="daemon's end", daemon=True).start()


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
