"""A publisher and a subscriber in two processes, and a check that nothing was lost."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from streamtag.feed.messages import parse

SECONDS = 120
"""A time limit that is long enough for a busy machine."""
HERE = Path(__file__).parent


class Pair:
    """The two running processes.

    Args:
        folder: for their files.
        publisher: the process of `controlled_publisher.py`.
        subscriber: the process of `subscriber_program.py`.
    """

    def __init__(
        self,
        folder: Path,
        publisher: "subprocess.Popen[str]",
        subscriber: "subprocess.Popen[bytes]",
    ) -> None:
        self._folder, self._publisher, self.subscriber = folder, publisher, subscriber

    def emit(self, n: int) -> int:
        """Publishes `n` more events; returns the total so far."""
        assert self._publisher.stdin is not None
        assert self._publisher.stdout is not None
        self._publisher.stdin.write(f"{n}\n")
        self._publisher.stdin.flush()
        return int(self._publisher.stdout.readline())

    def received(self) -> int:
        """The number of lines that the subscriber has written."""
        path = self._folder / "received"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def wait_for(self, n: int) -> None:
        """Waits until the subscriber has written `n` lines."""
        wait_until(lambda: self.received() >= n)

    def check(self) -> None:
        """The subscriber has received every published message once and in order."""
        count = self.emit(1)
        self.wait_for(count)
        received, emitted = (by_topic(self._folder / name) for name in ("received", "emitted"))
        assert sum(map(len, emitted.values())) == count
        assert received == emitted


def by_topic(path: Path) -> dict[str, list[str]]:
    """The lines of a file of messages, by topic."""
    topics: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        topics[parse(line.encode()).topic].append(line)
    return topics


def wait_until(true: Callable[[], bool]) -> None:
    """Polls a condition; fails after `SECONDS`."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def pair(
    folder: Path,
    bind: tuple[str, str],
    reached_at: tuple[str, str],
    *,
    before: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Iterator[Pair]:
    """Starts a publisher and its subscriber.

    Args:
        folder: for their files.
        bind: addresses of the feed and of its replay socket.
        reached_at: the same two addresses for the subscriber.
        before: prefixes of the two commands, such as `ip netns exec`.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    feed = [str(folder / "journal.db"), *bind, str(folder / "emitted")]
    subscriber_arguments = [*reached_at, str(folder / "received")]
    with ExitStack() as stack:
        publisher = subprocess.Popen(
            [*before[0], sys.executable, str(HERE / "controlled_publisher.py"), *feed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        stack.enter_context(publisher)
        stack.callback(publisher.kill)
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "ready\n"
        subscriber = subprocess.Popen(
            [
                *before[1],
                sys.executable,
                str(HERE / "subscriber_program.py"),
                *subscriber_arguments,
            ],
            env=environment,
        )
        stack.enter_context(subscriber)
        stack.callback(subscriber.kill)
        yield Pair(folder, publisher, subscriber)
