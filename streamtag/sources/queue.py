"""From many source threads to the one engine thread: a queue with a bound for every stream.

A live source is never held up: what does not fit is left out, and the next block's position shows
the hole. A source that can wait is made to wait.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamtag.audio.block import Block, joined
from streamtag.engine.events import Cause, Reason, SourceState
from streamtag.errors import StreamtagError
from streamtag.sources.source import Titled, TitledSource

log = logging.getLogger(__name__)

CROWD, ENOUGH = 16, 32
"""Among more streams than a crowd, the one who takes waits for items of enough of them, or"""
GATHER_SECONDS = 0.01
"""so long, if there is time: to be woken for the block of each costs more than the block does."""
JOINED_SECONDS = 0.5
"""Blocks of one stream that waited are taken as one up to this length."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source is about to deliver blocks."""

    rate: int
    """Hz."""
    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970."""
    live: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A source has delivered its last block."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a source that comes back; the fields are those of `events.StreamStatus`."""

    state: SourceState
    cause: Cause = Cause.NONE
    detail: str = ""
    retry_seconds: float = 0.0

    @property
    def lost(self) -> bool:
        """No more audio comes until the source is open again."""
        return self.state in (
            SourceState.STALLED,
            SourceState.RETRYING,
            SourceState.FAILED,
            SourceState.PAUSED,
        )


@dataclass(frozen=True, slots=True)
class ClockCorrection:
    """The source's clock is a little off: from now on times are reckoned anew."""

    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970, as if the clock had always been right."""


Item = Opened | Block | Ended | Status | Titled | ClockCorrection


class Door(Protocol):
    """Where sources put what they have."""

    def put(self, stream: str, item: Item, *, wait: bool = True) -> bool:
        """Queues an item; False when nothing more is taken."""
        ...


class Intake:
    """The queues.

    Args:
        seconds: audio that may wait in the queue of one stream.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._queues: dict[str, deque[Item]] = {}
        self._ready: dict[str, None] = {}  # streams whose queue holds something, longest first
        self._waiting: dict[str, float] = {}  # stream -> seconds of audio in its queue
        self._changed = threading.Condition()
        self._closed = False
        self._shut: set[str] = set()  # streams of which nothing more is taken until they end
        self._woken = False
        self.dropped_blocks = 0

    def put(self, stream: str, item: Item, *, wait: bool = True) -> bool:
        """Queues an item; False once the intake is closed, or the stream's part of it shut.

        Args:
            stream: whose.
            item: blocks count against the bound, the rest always fits.
            wait: whether to wait for room, or else leave a block out.
        """
        seconds = len(item.samples) / item.rate if isinstance(item, Block) else 0.0
        with self._changed:
            if stream in self._shut:
                self._forget(stream, item)
                return False
            queue = self._queues.setdefault(stream, deque())
            while seconds and self._waiting.get(stream, 0.0) >= self._seconds:
                if self._closed or stream in self._shut:
                    return False
                if not wait:
                    self.dropped_blocks += 1
                    return True
                self._changed.wait()
            if self._closed or stream in self._shut:
                return False
            queue.append(item)
            self._ready.setdefault(stream)
            self._waiting[stream] = self._waiting.get(stream, 0.0) + seconds
            self._changed.notify_all()
            return True

    def take(self, timeout: float | None) -> list[tuple[str, Item]]:
        """The oldest item of every stream, with the blocks that follow on a block.

        Args:
            timeout: seconds to wait for the first one at most; None for ever.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._woken or bool(self._ready), timeout)
            more = not self._woken and len(self._queues) > CROWD and len(self._ready) < ENOUGH
        if more:
            time.sleep(GATHER_SECONDS if timeout is None else min(GATHER_SECONDS, timeout))
        with self._changed:
            self._woken = False
            taken = [(stream, self._next(stream)) for stream in self._ready]
            self._ready = {stream: None for stream, _ in taken if self._queues[stream]}
            for stream, item in taken:
                if isinstance(item, Block):
                    self._waiting[stream] -= len(item.samples) / item.rate
                elif isinstance(item, Ended):
                    del self._queues[stream], self._waiting[stream]
                    self._ready.pop(stream, None)
            if taken:
                self._changed.notify_all()
        return taken

    def _next(self, stream: str) -> Item:
        """The oldest item of a stream."""
        queue = self._queues[stream]
        item = queue.popleft()
        if not isinstance(item, Block) or not queue:
            return item
        blocks = [item]
        while queue and isinstance(block := queue[0], Block) and block.follows(blocks[-1]):
            if (block.end - item.start) > JOINED_SECONDS * item.rate:
                break
            blocks.append(block)
            queue.popleft()
        return joined(blocks)

    def shut(self, stream: str) -> None:
        """Forgets what is queued for a stream and takes nothing more of it, up to its Ended."""
        with self._changed:
            self._shut.add(stream)
            self._queues.pop(stream, None)
            self._ready.pop(stream, None)
            self._waiting.pop(stream, None)
            self._changed.notify_all()

    def _forget(self, stream: str, item: Item) -> None:
        """After its Ended nothing more can come of a stream that is shut."""
        if isinstance(item, Ended):
            self._shut.discard(stream)

    def wake(self) -> None:
        """Makes a `take` that is waiting come back."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Takes nothing more, and lets everybody go who is waiting."""
        with self._changed:
            self._closed = self._woken = True
            self._changed.notify_all()


class Inlet:
    """One source's own way into an intake, under a key of its own.

    Args:
        intake: where to.
        key: instead of the stream's name, which another source may bear tomorrow.
    """

    def __init__(self, intake: Intake, key: str) -> None:
        self._intake, self.key = intake, key

    def put(self, stream: str, item: Item, *, wait: bool = True) -> bool:
        """Queues an item under the key."""
        return self._intake.put(self.key, item, wait=wait)


class SourceReader(threading.Thread):
    """Reads one source into an intake until it ends, fails, or is told to stop.

    Args:
        stream: its name.
        open_source: opens the source; may take its time, and may raise StreamtagError.
        intake: where to.
    """

    def __init__(self, stream: str, open_source: Callable[[], TitledSource], intake: Door) -> None:
        super().__init__(name=f"source {stream}", daemon=True)
        self._stream, self._open, self._intake = stream, open_source, intake
        self._source: TitledSource | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Whatever happens, the last item is an Ended."""
        try:
            self._read()
            ended = Ended(Reason.STREAM_CLOSED)
        except StreamtagError as error:
            ended = Ended(Reason.STREAM_LOST, str(error))
        except Exception as error:  # a fault in one source must not touch the others
            log.exception("stream %s: its source failed in an unexpected way", self._stream)
            ended = Ended(Reason.STREAM_LOST, f"{type(error).__name__}: {error}")
        self._intake.put(self._stream, ended)

    def stop(self) -> None:
        """Ends the source, from another thread."""
        self._stopped.set()
        if (source := self._source) is not None:
            source.close()

    def _read(self) -> None:
        source = self._source = self._open()
        try:
            self._intake.put(self._stream, Opened(source.rate, source.epoch_ns, source.live))
            for block in source:
                fits = self._intake.put(self._stream, block, wait=not source.live)
                if self._stopped.is_set() or not fits:
                    return
        finally:
            source.close()
