"""Events: what can happen to a stream. The engine returns them, the feed publishes them.

Positions are 64-bit sample indices at the stream's own rate, counted from its start. They are the
only clock inside; seconds and UTC appear first in messages. An event's tag (`type_of`) is the type
of its message. Events can be pickled: processes send each other batches of them.
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct


class Reason(StrEnum):
    """Why a tag or a stream ended."""

    BELOW_THRESHOLD = "below_threshold"
    """The tag's smoothed probability stayed below its off threshold."""
    SILENCE = "silence"
    """The stream fell silent."""
    STREAM_LOST = "stream_lost"
    """The source failed."""
    STREAM_CLOSED = "stream_closed"
    """The audio ended, or the stream was removed."""
    MODEL_SWAPPED = "model_swapped"
    """Another model took the tagger's place."""
    CONFIGURATION = "configuration"
    """The configuration changed: the tag is disabled, or its tagger was removed."""
    SHUTDOWN = "shutdown"
    """The daemon stops."""
    WORKER_LOST = "worker_lost"
    """The process of its engine ended. The stream begins anew in another one."""
    RECOVERED = "recovered"
    """A crash left it on. The next start closes it from the journal."""


class SourceState(StrEnum):
    """The state of a stream's source."""

    CONNECTING = "connecting"
    """It is being opened."""
    UP = "up"
    """It delivers audio."""
    STALLED = "stalled"
    """It delivers nothing though it is connected. It is opened again soon."""
    RETRYING = "retrying"
    """It failed or ended. It is opened again soon."""
    FAILED = "failed"
    """It failed in a way that waiting seldom cures. It is tried again, but rarely."""
    PAUSED = "paused"
    """A command paused it."""


class Cause(StrEnum):
    """Why a source failed; empty where it did not."""

    NONE = ""
    DNS = "dns"
    """The name of the host cannot be resolved."""
    REFUSED = "refused"
    """The host refuses the connection."""
    UNREACHABLE = "unreachable"
    """There is no route to the host, or the connection was cut."""
    TIMEOUT = "timeout"
    """No audio within the time allowed for a new connection."""
    NOT_FOUND = "not_found"
    AUTH = "auth"
    """The server asks for other credentials."""
    TLS = "tls"
    REDIRECT = "redirect"
    """Too many redirects."""
    HTTP = "http"
    """Another HTTP error."""
    FORMAT = "format"
    """The data is not audio that can be decoded."""
    STALLED = "stalled"
    """The source delivered nothing any more."""
    ENDED = "ended"
    """The other side ended the stream."""
    DEVICE = "device"
    """The sound card failed."""
    MEMORY = "memory"
    """The decoder needed more memory than it may use."""
    OTHER = "other"


class Event(Struct, frozen=True, gc=False):
    """What happened to a stream: one of the classes below."""

    stream: str
    """Its name."""


class SourceStatusChanged(Event, frozen=True, tag="stream_status"):
    """A stream's source is in another state."""

    at: int
    """One past the stream's last sample so far; 0 before the first."""
    state: SourceState
    cause: Cause = Cause.NONE
    detail: str = ""
    """For people: the source's own words."""
    retry_seconds: float = 0.0
    """Until it is opened again; 0 where that is not planned."""


class TitleChanged(Event, frozen=True, tag="title"):
    """The source has sent a new title."""

    at: int
    """The first sample after the title came."""
    title: str


class StreamOpened(Event, frozen=True, tag="stream_up"):
    """A stream was opened."""

    at: int
    """Sample at which it begins."""
    rate: int
    """Hz."""
    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970."""
    taggers: tuple[str, ...]
    """Names of its taggers."""


class TaggersReplaced(Event, frozen=True, tag="taggers_changed"):
    """A stream has other taggers from here on, or one of them has another model."""

    at: int
    taggers: tuple[str, ...]
    """Names of its taggers now."""
    reason: Reason


class StreamClosed(Event, frozen=True, tag="stream_down"):
    """A stream ended. Its tags have ended before."""

    at: int
    """One past its last sample."""
    reason: Reason
    detail: str = ""
    """For people: the source's own words."""


class GapFound(Event, frozen=True, tag="gap"):
    """Audio is missing: [at, end) never arrived. The front ends started anew at `end`."""

    at: int
    end: int


class TagStarted(Event, frozen=True, tag="tag_on"):
    """A tag became active."""

    tagger: str
    tag: str
    at: int
    """Middle of the first window that reached the on threshold."""
    decided: int
    """One past the last sample that the decision needed; at least `at`."""
    probability: float
    """Smoothed, at the time of the decision."""
    provisional: bool
    """The window of the decision was not full."""


class TagEnded(Event, frozen=True, tag="tag_off"):
    """An active tag ended. Every TagStarted gets exactly one."""

    tagger: str
    tag: str
    at: int
    """Middle of the first window below the off threshold, or the stream's end."""
    decided: int
    """One past the last sample that the decision needed; at least `at`."""
    since: int
    """`at` of the matching TagStarted."""
    peak: float
    """Largest smoothed probability while it was on."""
    reason: Reason


class WindowScored(Event, frozen=True, tag="scores"):
    """The scores of one window."""

    tagger: str
    start: int
    """First sample of the window."""
    end: int
    """One past its last sample."""
    values: Sequence[float]
    """Probabilities in the order of the tagger's tags, before smoothing. From the engine it is an
    `array.array` of float64, which NumPy reads without a copy; so is `smoothed`."""
    smoothed: Sequence[float]
    """The same after smoothing: what the thresholds are compared with."""
    provisional: bool
    """The window was not full: its past is padding."""
    dimensions: Sequence[float] = ()
    """The model's outputs besides, where its card has `dimensions`: valence and arousal, and the
    standard deviation of each."""


class WindowsDropped(Event, frozen=True, tag="dropped"):
    """Windows were not scored: the model is slower than the audio, or it failed."""

    tagger: str
    at: int
    """End of the newest dropped window."""
    windows: int
    """How many since the last such event."""
    detail: str = ""
    """For people: why. For a model that failed, its own words."""


class SilenceStarted(Event, frozen=True, tag="silence_on"):
    """The stream has fallen silent. Its tags end just before or just after this event, and none
    starts before the silence ends."""

    at: int
    """First silent sample."""
    decided: int
    """One past the last sample that the decision needed."""


class SilenceEnded(Event, frozen=True, tag="silence_off"):
    """Sound is back, or the stream ends. Every SilenceStarted gets exactly one."""

    at: int
    """First sample that is not silent, or the stream's end."""
    decided: int
    """One past the last sample that the decision needed."""
    since: int
    """`at` of the matching SilenceStarted."""


class ClippingFound(Event, frozen=True, tag="clipping"):
    """Samples ran into full scale. At most one such event comes per interval."""

    at: int
    """First clipped sample since the last such event."""
    samples: int
    """How many since then."""


class MoodUpdated(Event, frozen=True, tag="mood"):
    """The position of a stream on the mood plane (see `mood`)."""

    tagger: str
    at: int
    """One past the last sample that counts."""
    valence: float
    """From -1, unpleasant, to 1, pleasant."""
    arousal: float
    """From -1, at rest, to 1, excited."""
    certainty: float
    """From 0 (the model does not know the mood) to 1."""


class LevelMeasured(Event, frozen=True, tag="level"):
    """The level of the last half second, for displays."""

    at: int
    """One past the last sample that counts."""
    peak_dbfs: float
    """The largest sample, in dB of full scale."""
    rms_dbfs: float
    """Root mean square without DC, in dB of full scale."""
    lufs: float | None = None
    """Momentary loudness by EBU R 128. None if it is not measured."""


class ChannelsChanged(Event, frozen=True, tag="channels"):
    """One channel of a stereo stream has fallen silent, both are the same, or neither any more."""

    at: int
    """First sample at which it is so."""
    decided: int
    """One past the last sample that the decision needed."""
    balance: str
    """`left_silent`, `right_silent`, `mono` or `stereo`."""


def type_of(event: Event | type[Event]) -> str:
    """The type of an event's message, such as `tag_on`."""
    return str(event.__struct_config__.tag)
