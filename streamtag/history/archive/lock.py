"""One run at a time writes an archive: a lock of the kernel on a folder, marks at a URL."""

import fcntl
import itertools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from streamtag.errors import StreamtagError
from streamtag.history.archive.files import Place

MARKS = ".locks"
"""Folder of the marks; each run has one in it."""
MARK, BEAT = ".json", ".beat"
"""Endings: who it is, and that it lives."""
BEAT_SECONDS = 10.0
"""Between two beats of a mark."""
LOST_SECONDS = 60.0
"""A mark without a beat for so long is that of a run that has ended."""


class Lock(Protocol):
    """Held by the one run that writes an archive."""

    def ensure(self) -> None:
        """Raises StreamtagError if it was lost meanwhile."""

    def close(self) -> None:
        """Lets others have it."""


def lock(place: Place, on_wait: Callable[[str], None]) -> Lock:
    """Takes the lock of an archive.

    Args:
        place: its folder.
        on_wait: is told what is waited for.

    Raises:
        StreamtagError: another run has it.
    """
    return FolderLock(place) if place.is_local else MarkLock(place, on_wait)


def _taken(place: Place, holder: str) -> StreamtagError:
    return StreamtagError(
        f"{place.name}: expected a folder that nobody writes, got one that another "
        f"`streamtag archive` is writing{holder}; wait for it, or end it"
    )


class FolderLock:
    """A lock of the kernel on a file of the folder: it ends with the process."""

    def __init__(self, place: Place) -> None:
        self._file = os.open(os.path.join(place.path, ".lock"), os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise _taken(place, "") from None

    def ensure(self) -> None:
        """It cannot be lost."""

    def close(self) -> None:
        os.close(self._file)


class MarkLock:
    """Marks in the archive, for stores without locks.

    A run writes its mark, then looks for others. It goes on only when there are none: of two runs
    at least one sees the other's, where a store shows at once what was written, as S3 does. A beat
    is written beside the mark again and again; a mark whose beat does not change for a minute is
    that of a run that was killed, and is removed. So clocks need not agree. A mark is written once:
    a run that was frozen, and has lost its own, does not get it back.
    """

    def __init__(self, place: Place, on_wait: Callable[[str], None]) -> None:
        self._archive = place
        self._mark = place.join(MARKS, f"{uuid.uuid4().hex}{MARK}")
        self._about = {"host": socket.gethostname(), "process": os.getpid(), "boot": _boot()}
        self._holds, self._beats = False, itertools.count()
        self._ended = threading.Event()
        self._beat()
        self._mark.write(json.dumps(self._about).encode())
        self._thread = threading.Thread(target=self._go_on, name="archive-lock", daemon=True)
        self._thread.start()
        try:
            self._wait_for_others(on_wait)
            self._holds = True
            self._beat()
            self.ensure()
        except BaseException:
            self.close()
            raise

    def ensure(self) -> None:
        if not self._mark.exists():
            raise StreamtagError(
                f"{self._archive.name}: expected to hold its lock, got that another run has taken "
                f"it, because this one said nothing for {LOST_SECONDS:g} s; start it again when "
                "the other has ended, and it goes on with what is missing"
            )

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):  # the next run waits a minute
            _remove(self._mark)

    def _go_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # the next beat may come through
                self._beat()

    def _beat(self) -> None:
        beat = {"holds": self._holds, "beat": next(self._beats)}
        _beat_of(self._mark).write(json.dumps(beat).encode())

    def _wait_for_others(self, on_wait: Callable[[str], None]) -> None:
        """Waits until there are no others."""
        seen: dict[str, tuple[dict[str, Any], float]] = {}
        while others := self._others():
            now = time.monotonic()
            for path, about in others.items():
                before, since = seen.setdefault(path, (about, now))
                if before != about:
                    self._give_way(path, about)
                    seen[path] = (about, now)
                elif now - since > LOST_SECONDS:
                    _remove(self._archive.at(path))
            on_wait(
                f"{self._archive.name}: waiting up to {LOST_SECONDS:g} s, to see whether the run "
                "that wrote it last has ended"
            )
            time.sleep(BEAT_SECONDS / 10)

    def _give_way(self, path: str, about: dict[str, Any]) -> None:
        """Ends this run if another one lives that has the lock, or that waits and comes first."""
        if about.get("holds") or path < self._mark.path:
            host, process = about.get("host"), about.get("process")
            raise _taken(self._archive, f" on {host!s:.60}, process {process!s:.10}")

    def _others(self) -> dict[str, dict[str, Any]]:
        """What the marks of other runs say; those of processes that ended on this machine are
        removed."""
        found: dict[str, dict[str, Any]] = {}
        for mark, _ in self._archive.join(MARKS).walk():
            if mark.path.endswith(MARK) and mark.path != self._mark.path:
                about = _read(mark) | _read(_beat_of(mark))
                if self._has_ended(about):
                    _remove(mark)
                else:
                    found[mark.path] = about
        return found

    def _has_ended(self, about: dict[str, Any]) -> bool:
        here = all(about.get(key) == self._about[key] for key in ("host", "boot"))
        return here and not Path("/proc", str(about.get("process"))).exists()


def _boot() -> str:
    """Tells machines and containers with the same name apart."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def _beat_of(mark: Place) -> Place:
    return mark.at(mark.path.removesuffix(MARK) + BEAT)


def _remove(mark: Place) -> None:
    """Removes a mark, and then its beat."""
    mark.delete()
    _beat_of(mark).delete()


def _read(file: Place) -> dict[str, Any]:
    """What a mark or beat says; nothing if it has gone."""
    try:
        about = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}
