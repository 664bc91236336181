"""`NAME.lock`, beside the journal `NAME`: one writer at a time, and no number given twice.

The process that writes the journal holds a lock on this file. The 128 bytes in it are overwritten
in place, which needs no space on a full disk. They record how many numbers have been given to
messages, whatever became of the journal itself.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamtag.errors import FeedError
from streamtag.feed.current_state import JournalRow

RESERVE = 10_000
"""Messages that may be written before the journal waits for the disk. A power cut loses at most
this many."""
ROUND = 1000
"""While the journal cannot be written, the record runs ahead to the next multiple of this number,
so that the disk is not waited for at every message."""
RECORD_BYTES = 128
GRACE_SECONDS = 60.0
"""A temporary folder that is younger than this may belong to a process that has yet to lock it."""


@dataclass(frozen=True, slots=True)
class LockRecord:
    """What the last writer recorded."""

    state: str = ""
    """`open` or `closed`; empty if nothing is known."""
    given: int = 0
    """Numbers given on all topics together; at least the number of published messages."""
    boot: str = ""
    """Boot id of the machine, or `durable` if the writer waited for the disk at every commit."""
    run_ns: int = 0
    """When the last writer started, in nanoseconds since 1970."""

    def lost(self, kept: int) -> int:
        """How many messages may have been published that are not in the journal.

        Args:
            kept: sum of the newest numbers of its topics.
        """
        given = self.given
        if not self.state:
            given = kept + RESERVE
        elif self.state == "open" and self.boot not in (boot_id(), "durable"):
            given += RESERVE
        return max(0, given - kept)


def read_record(handle: int) -> LockRecord:
    """The record in an open lock file; an empty one if there is none."""
    words = os.pread(handle, RECORD_BYTES, 0).decode(errors="replace").split()
    try:
        state, given, boot, run = words
        return LockRecord(state, int(given), boot, int(run))
    except ValueError:
        return LockRecord()


def write_record(handle: int, record: LockRecord, *, sync: bool = False) -> None:
    """Overwrites the record.

    Raises:
        OSError: the disk is full or damaged.
    """
    text = f"{record.state} {record.given} {record.boot} {record.run_ns}"
    os.pwrite(handle, text.ljust(RECORD_BYTES - 1).encode() + b"\n", 0)
    if sync:
        os.fdatasync(handle)


def lock_path(journal: Path) -> Path:
    """Where the lock file of a journal is."""
    return journal.with_name(journal.name + ".lock")


def is_locked(journal: Path) -> bool:
    """Whether a process is writing the journal.

    Raises:
        OSError: there is no lock file, or it belongs to another user.
    """
    handle = os.open(lock_path(journal), os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)  # this releases the lock
    return False


class LockFile:
    """The lock of a journal's writer, and its record.

    Args:
        journal: path of the journal.
        durable: the writer waits for the disk at every commit.

    Raises:
        FeedError: another process writes the journal, or its folder cannot be written.
    """

    def __init__(self, journal: Path, *, durable: bool) -> None:
        self._handle = acquire(journal)
        self._boot = "durable" if durable else boot_id()
        self.previous = read_record(self._handle)
        """What the writer before this one recorded."""
        self.had_writer = os.fstat(self._handle).st_size > 0
        """Whether a daemon has written a journal here before."""

    def start(self, run_ns: int, newest: dict[str, int]) -> None:
        """Begins to record.

        Args:
            run_ns: when this writer started, in nanoseconds since 1970.
            newest: the newest number of each topic.

        Raises:
            OSError: the disk is full or damaged.
        """
        self._run_ns, self._newest = run_ns, newest
        self._given = self._synced = sum(newest.values())
        self.record(sync=True)

    def count(self, rows: Iterable[JournalRow]) -> None:
        """Counts messages that are about to be published."""
        for topic, seq in {row.topic: row.seq for row in rows}.items():
            self._given += seq - self._newest.get(topic, 0)
            self._newest[topic] = seq

    def record(self, state: str = "open", *, ahead: bool = False, sync: bool = False) -> None:
        """Writes the record; `ahead` if the journal cannot be written at the moment.

        Raises:
            OSError: the disk is full or damaged.
        """
        given = self._given
        if ahead:
            given = -(-given // ROUND) * ROUND
            sync = sync or given > self._synced
        write_record(self._handle, LockRecord(state, given, self._boot, self._run_ns), sync=sync)
        if sync:
            self._synced = given

    def release(self) -> None:
        """Ends the lock."""
        os.close(self._handle)


def temporary_folder(prefix: str, name: str) -> tempfile.TemporaryDirectory[str]:
    """A folder that ends with its process, which holds the lock of a file `name` in it.

    The folders of processes that were killed are removed.
    """
    for folder in Path(tempfile.gettempdir()).glob(prefix + "*"):
        with suppress(OSError):  # another user's, or none of ours
            old = time.time() - folder.stat().st_mtime > GRACE_SECONDS
            if old and not is_locked(folder / name):
                shutil.rmtree(folder)
    return tempfile.TemporaryDirectory(prefix=prefix)


def acquire(journal: Path) -> int:
    """A handle of the locked file; its folder is created if there is none.

    Raises:
        FeedError: another process holds the lock, or the folder cannot be written.
    """
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock_path(journal), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FeedError(
            f"journal {journal}: expected a folder to write to, got {error.strerror}"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise FeedError(
            f"journal {journal}: expected to be the only one who writes it, got one that is in "
            "use; is another daemon running with it? Give each its own feed.journal"
        ) from None
    return handle


def boot_id() -> str:
    """Identifies the time since the machine was switched on."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "unknown"
