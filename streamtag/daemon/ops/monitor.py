"""The state of a daemon: whether it is alive and ready, its streams' states, how late results are.

The engine's thread writes. Any thread may read.
"""

import time
from collections import Counter
from collections.abc import Sequence

from streamtag.engine.counters import Histogram, Series, series
from streamtag.engine.events import (
    Event,
    LevelMeasured,
    Reason,
    SilenceEnded,
    SilenceStarted,
    SourceStatusChanged,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
    type_of,
)

ALIVE_SECONDS = 20.0
"""The engine's thread completes a round at least once a second. After so long without one it is
stuck."""


class Monitor:
    """Progress of the engine's thread, states of streams, and delays."""

    def __init__(self) -> None:
        self.busy_seconds = 0.0
        """How long the engine's thread worked. The rest of the time it waited for audio."""
        self.audio_seconds = 0.0
        """How much audio the engine has taken, of all streams together."""
        self.latency = Histogram()
        """Seconds from a live window's last sample to its result, ready to be published."""
        self.events: Counter[tuple[str, str]] = Counter()
        """Number of events by type and reason. The reason is empty for most types."""
        self.states: dict[str, str] = {}
        """State of each stream: a `SourceState`, or `down`."""
        self.silent: set[str] = set()
        """Streams in a silence."""
        self.loudness: dict[str, float] = {}
        """The newest momentary loudness of each stream that is up, in LUFS, if it is measured."""
        self.last_round = time.monotonic()
        """When the engine's thread last completed a round. It stays when the thread is stuck."""
        self._clocks: dict[str, tuple[int, int]] = {}  # live stream -> (rate, epoch_ns)

    @property
    def has_audio(self) -> bool:
        """Whether any audio has arrived."""
        return self.audio_seconds > 0

    def alive(self, now: float) -> bool:
        """Whether the engine's thread makes progress. `now` is `time.monotonic`."""
        return now - self.last_round < ALIVE_SECONDS

    def record_round(self, began: float, ended: float) -> None:
        """The engine's thread has worked from `began` to `ended`, in `time.monotonic`."""
        self.busy_seconds += ended - began
        self.last_round = ended

    def set_clock(self, stream: str, rate: int, epoch_ns: int) -> None:
        """Measures the latency of a live stream whose sample 0 was recorded at `epoch_ns`."""
        self._clocks[stream] = (rate, epoch_ns)

    def correct_clock(self, stream: str, epoch_ns: int) -> None:
        """Corrects the UTC of sample 0 of a live stream."""
        self._clocks[stream] = (self._clocks[stream][0], epoch_ns)

    def observe(self, events: Sequence[Event], now_ns: int) -> None:
        """Updates the state by published events. `now_ns` is UTC, in nanoseconds since 1970."""
        kinds = Counter(map(type, events))
        for kind in kinds.keys() - _WITH_REASONS:
            self.events[type_of(kind), ""] += kinds[kind]
        for kind in kinds.keys() & _WITH_REASONS:
            reasons = [event.reason for event in events if type(event) is kind]  # type: ignore[attr-defined]
            for reason, n in Counter(reasons).items():
                self.events[type_of(kind), reason] += n
        if kinds.keys() <= {TagStarted, TagEnded}:
            return
        for event in events:
            if isinstance(event, WindowScored):
                self._measure_latency(event, now_ns)
            elif isinstance(event, LevelMeasured):
                if event.lufs is not None:
                    self.loudness[event.stream] = event.lufs
            elif isinstance(event, StreamOpened):
                self.states[event.stream] = "up"
            elif isinstance(event, SourceStatusChanged):
                self.states[event.stream] = event.state.value
            elif isinstance(event, StreamClosed):
                if self.states.get(event.stream) != "failed":
                    self.states[event.stream] = "down"
                self._clocks.pop(event.stream, None)
                self.loudness.pop(event.stream, None)
            elif isinstance(event, SilenceStarted):
                self.silent.add(event.stream)
            elif isinstance(event, SilenceEnded):
                self.silent.discard(event.stream)

    def record_unopened(self, stream: str, reason: Reason) -> None:
        """A stream is down that was never up."""
        self.states[stream] = "down"
        self.events["stream_down", reason.value] += 1

    def remove_stream(self, stream: str) -> None:
        """Forgets a stream that is no longer in the configuration."""
        self.states.pop(stream, None)
        self._clocks.pop(stream, None)
        self.loudness.pop(stream, None)
        self.silent.discard(stream)

    def series(self) -> dict[Series, float]:
        """The numbers of streams by state and of events, and the load since the start."""
        states, busy, audio = list(self.states.values()), self.busy_seconds, self.audio_seconds
        return {
            Series("streams_silent"): len(self.silent),
            Series("busy_seconds"): busy,
            Series("audio_seconds"): audio,
            Series("real_time_factor"): busy / audio if audio else 0.0,
            **{series("states", state=s): states.count(s) for s in {"up", "down", *states}},
            **{series("loudness_lufs", stream=s): n for s, n in self.loudness.copy().items()},
            **{series("events", type=t, reason=r): n for (t, r), n in self.events.copy().items()},
        }

    def _measure_latency(self, event: WindowScored, now_ns: int) -> None:
        if event.stream in self._clocks:
            rate, epoch_ns = self._clocks[event.stream]
            self.latency.add(max(0.0, (now_ns - epoch_ns) / 1e9 - event.end / rate))


_WITH_REASONS = frozenset({TagEnded, StreamClosed})
"""The events that are counted by reason."""
