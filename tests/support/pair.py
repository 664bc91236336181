"""A feed in one process and a subscriber in another, and whether they agree in the end."""

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
"""How long anything may take on a busy machine."""
HERE = Path(__file__).parent


class Pair:
    """Both, while they run.

    Args:
        folder: for what they write.
        emitter: tells the feed what to do.
        hearer: the subscriber.
    """

    def __init__(
        self, folder: Path, emitter: "subprocess.Popen[str]", hearer: "subprocess.Popen[bytes]"
    ) -> None:
        self._folder, self._emitter, self.hearer = folder, emitter, hearer

    def emit(self, n: int) -> int:
        """So many more events; how many there have been."""
        assert self._emitter.stdin is not None
        assert self._emitter.stdout is not None
        self._emitter.stdin.write(f"{n}\n")
        self._emitter.stdin.flush()
        return int(self._emitter.stdout.readline())

    def heard(self) -> int:
        """How many lines the subscriber has written."""
        path = self._folder / "heard"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def wait_for(self, n: int) -> None:
        """Until the subscriber has written so many lines."""
        wait_until(lambda: self.heard() >= n)

    def check(self) -> None:
        """The subscriber has heard what was emitted: all, once, in order."""
        count = self.emit(1)
        self.wait_for(count)
        heard, emitted = (by_topic(self._folder / name) for name in ("heard", "emitted"))
        assert sum(map(len, emitted.values())) == count
        assert heard == emitted


def by_topic(path: Path) -> dict[str, list[str]]:
    """Lines of messages by the topic that they were on."""
    topics: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        topics[parse(line.encode()).topic].append(line)
    return topics


def wait_until(true: Callable[[], bool]) -> None:
    """Looks often; fails after a long time."""
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
    """A feed and its subscriber.

    Args:
        folder: for what they write.
        bind: where the feed publishes and answers.
        reached_at: the same as the subscriber knows it.
        before: what comes before the commands of both, such as `ip netns exec`.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    feed = [str(folder / "journal.db"), *bind, str(folder / "emitted")]
    subscriber = [*reached_at, str(folder / "heard")]
    with ExitStack() as stack:
        emitter = subprocess.Popen(
            [*before[0], sys.executable, str(HERE / "emitter.py"), *feed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        stack.enter_context(emitter)
        stack.callback(emitter.kill)
        assert emitter.stdout is not None
        assert emitter.stdout.readline() == "ready\n"
        hearer = subprocess.Popen(
            [*before[1], sys.executable, str(HERE / "hearer.py"), *subscriber],
            env=environment,
        )
        stack.enter_context(hearer)
        stack.callback(hearer.kill)
        yield Pair(folder, emitter, hearer)
