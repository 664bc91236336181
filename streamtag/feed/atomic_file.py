"""Files that get their names only when they are whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".partial-"
"""Names of files that are being written begin with this."""


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A path to write to, in the folder of `path`. The file is renamed to `path` when the block
    ends without an error, and replaces an older one. An error leaves the older one as it is.

    Args:
        path: the name that the file gets.
        durable: whether the contents are on the disk before the file gets its name.
    """
    partial = path.with_name(f"{PREFIX}{os.getpid()}-{path.name}")
    try:
        yield partial
        if durable:
            sync(partial)
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
