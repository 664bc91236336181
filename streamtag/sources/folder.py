"""A folder of recordings, one after the other, as one stream."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from streamtag.audio.block import Block
from streamtag.errors import SourceError
from streamtag.sources.file import FileSource
from streamtag.sources.source import SourceTitle

log = logging.getLogger(__name__)

SCAN_SECONDS = 1.0
"""Time between two scans for new files."""


class FolderSource:
    """The files of a folder in the order of their names; the name of each file is its title.

    Files that are not audio are left out with a warning. If a file breaks off, the next one begins
    one sample later, so that the gap is visible.

    Args:
        path: the folder; hidden files and folders in it are ignored.
        name: of the stream, for the log.
        pace: deliver blocks when they would be heard.
        loop: begin again after the last file.
        watch: wait for new files after the last one; each is played once. With `loop` new files
            join the next round, without waiting.
        rate: Hz; None for that of the first file.

    Raises:
        SourceError: there is no such folder, or (without `watch`) no audio in it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str = "",
        pace: bool = False,
        loop: bool = False,
        watch: bool = False,
        rate: int | None = None,
    ) -> None:
        self.path, self.name, self.live = Path(path), name or Path(path).name, pace
        self._loop, self._watch, self._stopped = loop, watch and not loop, threading.Event()
        if not self.path.is_dir():
            got = "a file" if self.path.exists() else "nothing there"
            raise SourceError(f"{self.path}: expected a folder, got {got}")
        self._played: set[Path] = set()
        self._sizes: dict[Path, int] = {}
        self._source: FileSource | None = None
        self.rate = rate or self._first_rate()
        self.epoch_ns = time.time_ns()

    def __iter__(self) -> Iterator[Block | SourceTitle]:
        start, begun = 0, time.monotonic()
        while not self._stopped.is_set():
            round_begin = start
            for path in self._next_files():
                end = start
                for item in self._play(path):
                    if isinstance(item, Block):
                        item = Block(item.samples, start + item.start, item.rate)
                        end = item.end
                        if self.live:
                            self._stopped.wait(begun + end / self.rate - time.monotonic())
                    if self._stopped.is_set():
                        return
                    yield item
                start = end
            if self._watch:
                self._stopped.wait(SCAN_SECONDS)
            elif not self._loop:
                return
            elif start == round_begin:
                raise SourceError(f"{self.path}: expected audio files, got none that plays")

    def close(self) -> None:
        """Ends the iteration, also from another thread."""
        self._stopped.set()
        if (source := self._source) is not None:
            source.close()

    def _play(self, path: Path) -> Iterator[Block | SourceTitle]:
        """One file, from position 0."""
        self._played.add(path)
        end = 0
        try:
            source = self._source = FileSource(path, rate=self.rate)
            if self._stopped.is_set():  # `close` came while it was opened
                return
            yield SourceTitle(path.name)
            for block in source:
                yield block
                end = block.end
        except SourceError as error:
            log.warning("%s: left out: %s", self.name, error)
            if end and not self._stopped.is_set():
                yield Block(block.samples[:0], end + 1, self.rate)
        finally:
            if self._source is not None:
                self._source.close()
            self._source = None

    def _files(self) -> list[Path]:
        files = (path for path in self.path.iterdir() if not path.name.startswith("."))
        return sorted(path for path in files if path.is_file())

    def _next_files(self) -> list[Path]:
        """The files of this round: all, or with `watch` new ones that have stopped growing."""
        try:
            files = self._files()
        except OSError as error:
            raise SourceError(f"{self.path}: expected a folder, got {error.strerror}") from None
        if not self._watch:
            return files
        sizes = {path: _size(path) for path in files if path not in self._played}
        complete = [path for path, size in sizes.items() if self._sizes.get(path) == size > 0]
        self._sizes = sizes
        return complete

    def _first_rate(self) -> int:
        for path in self._files():
            try:
                source = FileSource(path)
            except SourceError:
                continue
            source.close()
            return source.rate
        if self._watch:
            raise SourceError(
                f"{self.path}: expected a key `rate` for a folder without audio yet, got none"
            )
        raise SourceError(f"{self.path}: expected audio files, got none that plays")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # removed in between
        return 0
