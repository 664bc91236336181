"""A folder for a journal that ends with its process; those of processes that were killed go."""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PREFIX = "streamtag-journal-"
NAME = "journal.db"
_GRACE_SECONDS = 60.0
"""A younger folder may be somebody's who has not locked it yet."""


def passing_folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder; a journal in it is called `NAME`."""
    for folder in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _GRACE_SECONDS and not _in_use(folder):
                shutil.rmtree(folder)
    return tempfile.TemporaryDirectory(prefix=_PREFIX)


def _in_use(folder: Path) -> bool:
    """Whether a journal in it is locked.

    Raises:
        OSError: it is another user's, or there is no journal.
    """
    handle = os.open(folder / f"{NAME}.lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
