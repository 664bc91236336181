"""What a daemon knows about itself: is it alive, is it ready, how are its streams, how late is it.

The engine's thread writes; any thread may read.
"""

import time
from collections import Counter
from collections.abc import Iterable

from streamtag.engine.counters import Histogram
from streamtag.engine.events import (
    ChannelsChanged,
    ClippingFound,
    Event,
    GapFound,
    MoodUpdated,
    Reason,
    SilenceEnded,
    SilenceStarted,
    SourceStatusChanged,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TaggersReplaced,
    TagStarted,
    TitleChanged,
    WindowScored,
    WindowsDropped,
)

ALIVE_SECONDS = 20.0
"""The engine's thread comes round at least once a second; after so long without it is stuck."""


class Monitor:
    """Progress, states and delays."""

    def __init__(self) -> None:
        self.rounds = 0
        """How often the engine's thread has come round; does not grow when it is stuck."""
        self.busy_seconds = 0.0
        """How long it worked; the rest of the time it waited for audio."""
        self.audio_seconds = 0.0
        """How much audio it took, of all streams together."""
        self.latency = Histogram()
        """Seconds from a live window's last sample to its result, ready to be published."""
        self.events: Counter[tuple[str, str]] = Counter()
        """By type and reason (or empty)."""
        self.states: dict[str, str] = {}
        """Of each stream: a `State`, or `down`."""
        self.silent: set[str] = set()
        """Streams in a silence."""
        self._last_round = time.monotonic()
        self._clocks: dict[str, tuple[int, int]] = {}  # live stream -> (rate, epoch_ns)

    @property
    def heard(self) -> bool:
        """Whether any audio has come."""
        return self.audio_seconds > 0

    def alive(self, now: float) -> bool:
        """Whether the engine's thread has come round lately; `now` is `time.monotonic`."""
        return now - self._last_round < ALIVE_SECONDS

    def round(self, began: float, ended: float) -> None:
        """The engine's thread has worked from `began` to `ended`, in `time.monotonic`."""
        self.rounds += 1
        self.busy_seconds += ended - began
        self._last_round = ended

    def live(self, stream: str, rate: int, epoch_ns: int) -> None:
        """A stream whose sample 0 was heard at `epoch_ns`: how late its results are counts."""
        self._clocks[stream] = (rate, epoch_ns)

    def reckon(self, stream: str, epoch_ns: int) -> None:
        """Another UTC of sample 0 of a live stream."""
        self._clocks[stream] = (self._clocks[stream][0], epoch_ns)

    def see(self, events: Iterable[Event], now_ns: int) -> None:
        """Takes note of what is published; `now_ns` is UTC, in nanoseconds since 1970."""
        for event in events:
            self.events[_kind(event)] += 1
            if isinstance(event, (TagStarted, TagEnded)):
                continue  # most of them
            if isinstance(event, WindowScored):
                self._late(event, now_ns)
            elif isinstance(event, StreamOpened):
                self.states[event.stream] = "up"
            elif isinstance(event, SourceStatusChanged):
                self.states[event.stream] = event.state.value
            elif isinstance(event, StreamClosed):
                if self.states.get(event.stream) != "failed":
                    self.states[event.stream] = "down"
                self._clocks.pop(event.stream, None)
            elif isinstance(event, SilenceStarted):
                self.silent.add(event.stream)
            elif isinstance(event, SilenceEnded):
                self.silent.discard(event.stream)

    def not_up(self, stream: str, reason: Reason) -> None:
        """The stream is down without having been up."""
        self.states[stream] = "down"
        self.events["stream_down", reason.value] += 1

    def forget(self, stream: str) -> None:
        """The stream is not in the configuration any more."""
        self.states.pop(stream, None)
        self._clocks.pop(stream, None)
        self.silent.discard(stream)

    def _late(self, event: WindowScored, now_ns: int) -> None:
        if event.stream in self._clocks:
            rate, epoch_ns = self._clocks[event.stream]
            self.latency.add(max(0.0, (now_ns - epoch_ns) / 1e9 - event.end / rate))


_NAMES: dict[type, str] = {
    ChannelsChanged: "channels",
    ClippingFound: "clipping",
    WindowsDropped: "dropped",
    GapFound: "gap",
    MoodUpdated: "mood",
    WindowScored: "scores",
    SilenceStarted: "silence_on",
    SilenceEnded: "silence_off",
    StreamClosed: "stream_down",
    SourceStatusChanged: "stream_status",
    StreamOpened: "stream_up",
    TaggersReplaced: "taggers_changed",
    TagEnded: "tag_off",
    TagStarted: "tag_on",
    TitleChanged: "title",
}


def _kind(event: Event) -> tuple[str, str]:
    return _NAMES[type(event)], event.reason.value if isinstance(
        event, (TagEnded, StreamClosed)
    ) else ""
