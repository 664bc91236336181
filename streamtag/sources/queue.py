"""The queue from the threads of all sources to the one thread of the engine, and what is put in it.

Each stream has a bound of its own. A live source never waits: a block that does not fit is left
out, and the position of the next block shows the gap. A source that can wait has to wait.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from streamtag._core import ArrivalSignal, PcmPort
from streamtag.audio.block import Block, joined
from streamtag.engine.events import Reason, SourceStatusChanged
from streamtag.errors import StreamtagError
from streamtag.sources.source import AudioArrived, AudioSource, SourceTitle

log = logging.getLogger(__name__)

MANY_STREAMS = 16
"""With more streams than this, the consumer waits a moment for more items before it returns."""
ENOUGH_ITEMS = 32
"""The consumer does not wait for more if this number of streams have an item ready."""
GATHER_SECONDS = 0.01
"""How long the consumer waits for more items: waking up for each block costs more than the block
does."""
FOREVER = 1e6
"""Seconds."""
JOINED_SECONDS = 0.5
"""Consecutive blocks of a stream that waited are joined up to this length."""


@dataclass(frozen=True, slots=True)
class SourceOpened:
    """A source is about to deliver blocks."""

    rate: int
    """Hz."""
    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970."""
    live: bool


@dataclass(frozen=True, slots=True)
class SourceConnected:
    """The audio of the stream comes through another port from now on."""

    port: PcmPort


@dataclass(frozen=True, slots=True)
class SourceEnded:
    """A source has delivered its last block."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ClockCorrection:
    """The clock of a source is a little off: from now on UTC is counted from another epoch."""

    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970, as if the clock had always been right."""


QueueItem = (
    SourceOpened
    | SourceConnected
    | Block
    | SourceEnded
    | SourceStatusChanged
    | SourceTitle
    | ClockCorrection
)
"""What sources deliver. They do not know the position of a `SourceStatusChanged`: it is 0."""


class BlockQueue:
    """A queue per key, bounded to `seconds` of audio, with one consumer for all of them.

    Each source puts its items under a key of its own.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._bound = seconds
        self._items: dict[str, deque[QueueItem]] = {}
        self._seconds: dict[str, float] = {}  # of audio that waits, by key
        self._ready: dict[str, None] = {}  # keys with items, the one that waited longest first
        self._discarded: set[str] = set()  # keys that accept nothing until their source has ended
        self._changed = threading.Condition()
        self._closed = self._woken = False
        self._dropped = 0
        self.signal = ArrivalSignal()
        """Wakes the consumer; ports use it, too."""

    @property
    def dropped_blocks(self) -> int:
        """Blocks of live sources that did not fit."""
        return self._dropped + self.signal.dropped

    def put(self, key: str, item: QueueItem, *, wait: bool = True) -> bool:
        """Adds an item; False once the queue is closed or the key is discarded.

        Args:
            key: of the source.
            item: only blocks count against the bound.
            wait: whether to wait for room; a block that does not fit is dropped otherwise.
        """
        seconds = len(item.samples) / item.rate if isinstance(item, Block) else 0.0
        with self._changed:
            while not self._closed and key not in self._discarded:
                waiting = self._seconds.get(key, 0.0)
                if not seconds or waiting < self._bound:
                    self._seconds[key] = waiting + seconds
                    self._append(key, item)
                    return True
                if not wait:
                    self._dropped += 1
                    return True
                self._changed.wait()
            if isinstance(item, SourceEnded):  # nothing can follow under this key
                self._discarded.discard(key)
            return False

    def get(self, timeout: float | None) -> list[tuple[str, QueueItem]]:
        """Removes the oldest item of every key; consecutive blocks are joined.

        It waits for an item, or for audio that comes through a port, at most `timeout` seconds;
        None for no limit.
        """
        with self._changed:
            ready = self._woken or bool(self._ready)
        wait = FOREVER if timeout is None else timeout
        self.signal.wait(0.0 if ready else wait)
        with self._changed:
            few = len(self._items) > MANY_STREAMS and 0 < len(self._ready) < ENOUGH_ITEMS
            gather = few and not self._woken
        if gather:
            time.sleep(GATHER_SECONDS if timeout is None else min(GATHER_SECONDS, timeout))
        with self._changed:
            self._woken = False
            items = [(key, self._next(key)) for key in self._ready]
            self._ready = {key: None for key, _ in items if self._items.get(key)}
            if items:
                self._changed.notify_all()
        return items

    def discard(self, key: str) -> None:
        """Drops what waits under a key, and accepts nothing more until its source has ended."""
        with self._changed:
            self._discarded.add(key)
            self._items.pop(key, None)
            self._seconds.pop(key, None)
            self._ready.pop(key, None)
            self._changed.notify_all()

    def wake(self) -> None:
        """Makes a `get` that is waiting return."""
        with self._changed:
            self._woken = True
        self.signal.notify()

    def close(self) -> None:
        """Accepts nothing more, and wakes everybody who waits."""
        with self._changed:
            self._closed = self._woken = True
            self._changed.notify_all()
        self.signal.notify()

    def _append(self, key: str, item: QueueItem) -> None:
        if key not in self._items:
            self._items[key] = deque()
        self._items[key].append(item)
        self._ready.setdefault(key)
        self.signal.notify()

    def _next(self, key: str) -> QueueItem:
        """Removes the oldest item of a key, with the blocks that follow on a block."""
        queue = self._items[key]
        item = queue.popleft()
        if isinstance(item, SourceEnded):
            del self._items[key], self._seconds[key]
        if not isinstance(item, Block):
            return item
        self._seconds[key] -= len(item.samples) / item.rate
        blocks = [item]
        while queue and isinstance(block := queue[0], Block) and block.follows(blocks[-1]):
            if (block.end - item.start) > JOINED_SECONDS * item.rate:
                break
            blocks.append(block)
            queue.popleft()
            self._seconds[key] -= len(block.samples) / block.rate
        return joined(blocks)


class SourceReader(threading.Thread):
    """Reads one source into the queue until it ends, fails or is stopped.

    Args:
        stream: its name, for the log.
        open_source: opens the source; may take its time, and may raise StreamtagError.
        queue: of the engine.
        key: in the queue; empty for the name of the stream.
    """

    def __init__(
        self,
        stream: str,
        open_source: Callable[[], AudioSource],
        queue: BlockQueue,
        key: str = "",
    ) -> None:
        super().__init__(name=f"source {stream}", daemon=True)
        self._stream, self._open, self._queue, self._key = stream, open_source, queue, key or stream
        self._source: AudioSource | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Puts a SourceEnded last, whatever happens."""
        try:
            self._read()
            ended = SourceEnded(Reason.STREAM_CLOSED)
        except StreamtagError as error:
            ended = SourceEnded(Reason.STREAM_LOST, str(error))
        except Exception as error:  # a fault in one source must not touch the others
            log.exception("stream %s: its source failed in an unexpected way", self._stream)
            ended = SourceEnded(Reason.STREAM_LOST, f"{type(error).__name__}: {error}")
        self._put(ended)

    def stop(self) -> None:
        """Ends the source, from another thread."""
        self._stopped.set()
        if (source := self._source) is not None:
            source.close()

    def _put(self, item: QueueItem, *, wait: bool = True) -> bool:
        return self._queue.put(self._key, item, wait=wait)

    def _read(self) -> None:
        source = self._source = self._open()
        try:
            self._put(SourceOpened(source.rate, source.epoch_ns, source.live))
            for item in source:
                assert not isinstance(item, AudioArrived)  # of live sources, which reconnect
                if not self._put(item, wait=not source.live) or self._stopped.is_set():
                    return
        finally:
            source.close()
