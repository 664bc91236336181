"""What is written beside a journal: how far its numbers have gone, whatever became of the file."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamtag.feed.current_state import JournalRow

RESERVE = 10_000
"""Messages written before the disk is waited for: a power cut loses no more of them."""
ROUND = 1000
"""The mark runs ahead by so many numbers at the most while nothing can be written."""
MARK_BYTES = 128


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known beside a journal of how it stood last."""

    state: str = ""
    """`open`, `closed`; empty where nothing is known."""
    given: int = 0
    """Numbers given out on all its topics together, at least those of messages published."""
    boot: str = ""
    """During which the machine was on; `durable` where every message was waited for."""
    run_ns: int = 0
    """When its last writer began, in nanoseconds since 1970."""


def read_mark(handle: int) -> Mark:
    """The mark in an open lock file."""
    words = os.pread(handle, MARK_BYTES, 0).decode(errors="replace").split()
    try:
        state, given, boot, run = words
        return Mark(state, int(given), boot, int(run))
    except ValueError:  # none, or of layout 1: nobody knows how far its numbers went
        closed = words == ["closed"] or words == ["open", boot_id()]
        return Mark("closed" if closed else "")


def write_mark(handle: int, mark: Mark, *, sync: bool = False) -> None:
    """Overwrites the mark.

    Raises:
        OSError: the disk is full or damaged.
    """
    text = f"{mark.state} {mark.given} {mark.boot} {mark.run_ns}"
    os.pwrite(handle, text.ljust(MARK_BYTES - 1).encode() + b"\n", 0)
    if sync:
        os.fdatasync(handle)


class Ledger:
    """How many numbers have been given out, said beside the journal in time.

    Args:
        handle: of the lock file.
        boot: as in `Mark`.
        run_ns: as in `Mark`.
        newest: the newest number of each topic.

    Raises:
        OSError: the disk is full or damaged.
    """

    def __init__(self, handle: int, boot: str, run_ns: int, newest: dict[str, int]) -> None:
        self._handle, self._boot, self._run_ns = handle, boot, run_ns
        self._newest = newest
        self._given = self._synced = sum(newest.values())
        self.write(sync=True)

    def count(self, rows: Iterable[JournalRow]) -> None:
        """Messages that are about to be published."""
        for topic, seq in {row.topic: row.seq for row in rows}.items():
            self._given += seq - self._newest.get(topic, 0)
            self._newest[topic] = seq

    def write(self, state: str = "open", *, settled: bool = True, sync: bool = False) -> None:
        """Says how it stands.

        Where that is not `settled` (nothing can be written to the journal) the mark runs ahead, so
        that the disk need not be waited for at every message.
        """
        given = self._given
        if not settled:
            given = -(-given // ROUND) * ROUND
            sync = sync or given > self._synced
        write_mark(self._handle, Mark(state, given, self._boot, self._run_ns), sync=sync)
        if sync:
            self._synced = given


def missing(mark: Mark, kept: int) -> int:
    """How many messages may have been published that are not in the file.

    Args:
        mark: beside it.
        kept: the sum of the newest numbers of its topics.
    """
    given = mark.given
    if not mark.state:
        given = kept + RESERVE
    elif mark.state == "open" and mark.boot not in (boot_id(), "durable"):
        given += RESERVE
    return max(0, given - kept)


def boot_id() -> str:
    """Names the time since the machine was switched on."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "unknown"
