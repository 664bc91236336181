"""Lets a daemon publish events of a stream only while its lease for it holds.

The clock also counts the time during which the machine or the process was suspended. So a daemon
that was frozen notices the end of its lease before it publishes anything.
"""

import threading
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from streamtag.engine.events import Event, StreamClosed, StreamOpened, TagEnded, TagStarted
from streamtag.feed.messages import Message

_OF_STREAMS = (StreamOpened, StreamClosed)
"""These events pass after the end of a lease, too, so that the daemon's own feed is complete.
Readers of the fleet drop them, because a newer lease exists."""


def boot_clock() -> float:
    """Seconds since the machine started, including those in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseGate:
    """The leases of a daemon. Any thread may use it.

    Args:
        clock: seconds. It must go on while the process is frozen.
    """

    def __init__(self, clock: Callable[[], float] = boot_clock) -> None:
        self.clock = clock
        self._valid_until = -1.0
        self._leases: dict[str, int] = {}
        # Tags whose beginning was not published: stream, tagger and tag.
        self._unpublished: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()
        self.dropped = 0
        """Number of events that were dropped because the lease had ended."""

    @property
    def is_open(self) -> bool:
        """Whether the daemon's leases hold now."""
        return self.clock() < self._valid_until

    @property
    def seconds_left(self) -> float:
        """Seconds until the leases end; negative afterwards."""
        return self._valid_until - self.clock()

    def renew(self, valid_until: float) -> None:
        """Extends all leases to a time of the clock."""
        self._valid_until = max(self._valid_until, valid_until)

    def shut(self) -> None:
        """Ends all leases now."""
        self._valid_until = -1.0

    def set(self, stream: str, lease: int) -> None:
        """Notes the daemon's lease for a stream."""
        with self._lock:
            self._leases[stream] = lease

    def forget(self, stream: str) -> None:
        """Removes the lease for a stream."""
        with self._lock:
            self._leases.pop(stream, None)

    def filter(self, events: list[Event]) -> list[Event]:
        """The events to publish. After the end of the leases these are only ends: of streams, and
        of tags whose beginning was published."""
        if self.is_open and not self._unpublished:
            return events
        is_open = self.is_open
        allowed = [event for event in events if self._is_allowed(event, is_open)]
        self.dropped += len(events) - len(allowed)
        return allowed

    def _is_allowed(self, event: Event, is_open: bool) -> bool:
        """Whether to publish an event. The end of a tag follows its beginning only."""
        if isinstance(event, TagStarted) and not is_open:
            self._unpublished.add((event.stream, event.tagger, event.tag))
        elif isinstance(event, TagEnded):
            key = event.stream, event.tagger, event.tag
            was_published = key not in self._unpublished
            self._unpublished.discard(key)
            return was_published
        return is_open or isinstance(event, _OF_STREAMS)

    def stamp(self, messages: Sequence[Message]) -> list[Message]:
        """The same messages with the leases of their streams."""
        with self._lock:
            leases = self._leases
            return [_stamped(one, leases.get(one.stream, 0)) for one in messages]


def _stamped(message: Message, lease: int) -> Message:
    return replace(message, lease=lease) if lease and not message.lease else message
