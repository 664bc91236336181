"""What a daemon may say: only of streams that it has a lease for, and only as long as that holds.

The clock counts the time that the machine or the process was asleep, too. So a daemon that was
frozen gives up before it says anything.
"""

import threading
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from streamtag.engine.events import Event, StreamClosed, StreamOpened, TagEnded, TagStarted
from streamtag.feed.messages import Message

_FRAME = (StreamOpened, StreamClosed)
"""What is said after the end, too, so that a daemon's own feed stays whole. Readers of the fleet
drop it: it has an old lease."""


def sleepless_clock() -> float:
    """Seconds since the machine started, with those in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseGate:
    """The leases of a daemon. Any thread may use it.

    Args:
        clock: seconds; it must not stand still while the process is frozen.
    """

    def __init__(self, clock: Callable[[], float] = sleepless_clock) -> None:
        self.clock = clock
        self._valid_until = -1.0
        self._leases: dict[str, int] = {}
        self._unsaid: set[tuple[str, str, str]] = set()  # stream, tagger and tag
        self._lock = threading.Lock()
        self.dropped = 0
        """Number of events that came after their lease had ended."""

    @property
    def is_open(self) -> bool:
        """Whether the daemon's leases hold."""
        return self.clock() < self._valid_until

    @property
    def seconds_left(self) -> float:
        """Until they end."""
        return self._valid_until - self.clock()

    def renew(self, valid_until: float) -> None:
        """All leases hold until then."""
        self._valid_until = max(self._valid_until, valid_until)

    def shut(self) -> None:
        """The leases hold no more."""
        self._valid_until = -1.0

    def set(self, stream: str, lease: int) -> None:
        """The daemon has a lease for a stream."""
        with self._lock:
            self._leases[stream] = lease

    def forget(self, stream: str) -> None:
        """It has none any more."""
        with self._lock:
            self._leases.pop(stream, None)

    def filter(self, events: list[Event]) -> list[Event]:
        """The events that may be said: after the end of the leases only the ends of what was."""
        if self.is_open and not self._unsaid:
            return events
        is_open = self.is_open
        allowed = [event for event in events if self._may_be_said(event, is_open)]
        self.dropped += len(events) - len(allowed)
        return allowed

    def _may_be_said(self, event: Event, is_open: bool) -> bool:
        """Whether an event may be said. A tag whose begin was not has no end."""
        if isinstance(event, TagStarted) and not is_open:
            self._unsaid.add((event.stream, event.tagger, event.tag))
        elif isinstance(event, TagEnded):
            key = event.stream, event.tagger, event.tag
            was_said = key not in self._unsaid
            self._unsaid.discard(key)
            return was_said
        return is_open or isinstance(event, _FRAME)

    def stamp(self, messages: Sequence[Message]) -> list[Message]:
        """The same messages, with the leases under which they are said."""
        with self._lock:
            leases = self._leases
            return [_stamped(one, leases.get(one.stream, 0)) for one in messages]


def _stamped(message: Message, lease: int) -> Message:
    return replace(message, lease=lease) if lease and not message.lease else message
