"""What can happen to a stream; the engine returns these, the wire publishes them.

Positions are 64-bit sample indices at the stream's own rate, counted from its start: the only
clock inside. Seconds and UTC appear first on the wire.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a tag ended, or a stream."""

    BELOW_THRESHOLD = "below_threshold"
    """The tag's smoothed probability stayed below its off threshold."""
    SILENCE = "silence"
    """The stream fell silent."""
    STREAM_LOST = "stream_lost"
    """The source failed."""
    STREAM_CLOSED = "stream_closed"
    """The audio ended, or the stream was removed."""
    MODEL_SWAPPED = "model_swapped"
    """Another model took over."""
    CONFIGURATION = "configuration"
    """The configuration changed: the tag may not be on any more, or its tagger left."""
    SHUTDOWN = "shutdown"
    """The daemon stops."""
    RECOVERED = "recovered"
    """Left on by a crash; closed from the journal at the next start."""


class SourceState(StrEnum):
    """How a stream's source is."""

    CONNECTING = "connecting"
    """It is being opened."""
    UP = "up"
    """Audio comes."""
    STALLED = "stalled"
    """Nothing came any more though the connection stood; it is opened anew soon."""
    RETRYING = "retrying"
    """It failed or ended; it is opened anew soon."""
    FAILED = "failed"
    """It failed in a way that waiting seldom cures; it is tried again, but rarely."""
    PAUSED = "paused"
    """Somebody asked for silence."""


class Cause(StrEnum):
    """Why a source failed; empty where it did not."""

    NONE = ""
    DNS = "dns"
    """The host's name is not known."""
    REFUSED = "refused"
    """Nobody listens there."""
    UNREACHABLE = "unreachable"
    """No way to the host, or the connection was cut."""
    TIMEOUT = "timeout"
    """No audio within the time allowed for a new connection."""
    NOT_FOUND = "not_found"
    AUTH = "auth"
    """The server wants other credentials."""
    TLS = "tls"
    REDIRECT = "redirect"
    """The server sends us round in circles."""
    HTTP = "http"
    """Another error of the server's."""
    FORMAT = "format"
    """What came is not audio that can be decoded."""
    STALLED = "stalled"
    """Nothing came any more."""
    ENDED = "ended"
    """The other side ended it."""
    DEVICE = "device"
    """The sound card."""
    MEMORY = "memory"
    """The decoder wanted more memory than it may have."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SourceStatusChanged:
    """A stream's source is in another state."""

    stream: str
    at: int
    """One past the stream's last sample so far; 0 where it was not up yet."""
    state: SourceState
    cause: Cause = Cause.NONE
    detail: str = ""
    """For people: the source's own words."""
    retry_seconds: float = 0.0
    """Until it is opened anew; 0 where that is not planned."""


@dataclass(frozen=True, slots=True)
class TitleChanged:
    """The source says what is playing now."""

    stream: str
    at: int
    """The first sample after the news."""
    title: str


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A stream was opened."""

    stream: str
    at: int
    """Sample at which it begins."""
    rate: int
    """Hz."""
    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970."""
    taggers: tuple[str, ...]
    """Names of the taggers that listen to it."""


@dataclass(frozen=True, slots=True)
class TaggersReplaced:
    """Other taggers listen from here on, or one has another model."""

    stream: str
    at: int
    taggers: tuple[str, ...]
    """Names of the taggers that listen now."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """A stream ended; its tags have been switched off before."""

    stream: str
    at: int
    """One past its last sample."""
    reason: Reason
    detail: str = ""
    """For people: the source's own words."""


@dataclass(frozen=True, slots=True)
class GapFound:
    """Audio is missing: [start, end) never arrived. The front ends began anew at `end`."""

    stream: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TagStarted:
    """A tag became active."""

    stream: str
    tagger: str
    tag: str
    at: int
    """Middle of the audio heard by the first window that reached the on threshold."""
    decided: int
    """One past the last sample that the decision needed; at least `at`."""
    probability: float
    """Smoothed, when decided."""
    provisional: bool
    """The window was not full yet when the decision fell."""


@dataclass(frozen=True, slots=True)
class TagEnded:
    """An active tag ended. Every TagOn gets exactly one."""

    stream: str
    tagger: str
    tag: str
    at: int
    """Middle of what the first window below the off threshold heard, or the stream's end."""
    decided: int
    """One past the last sample that the decision needed; at least `at`."""
    since: int
    """`at` of the matching TagOn."""
    peak: float
    """Largest smoothed probability in between."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class WindowScored:
    """What one window got."""

    stream: str
    tagger: str
    start: int
    """First sample the window heard."""
    end: int
    """One past the last sample it heard."""
    values: tuple[float, ...]
    """Probabilities in the order of the tagger's tags, before smoothing."""
    smoothed: tuple[float, ...]
    """The same after smoothing: what the thresholds are compared with."""
    provisional: bool
    """The window was not full: its past is padding."""


@dataclass(frozen=True, slots=True)
class WindowsDropped:
    """Windows that were not scored: the model is slower than the audio, or it failed."""

    stream: str
    tagger: str
    at: int
    """End of the newest dropped window."""
    windows: int
    """How many since the last such event."""
    detail: str = ""
    """For people: why; a failing model's own words."""


@dataclass(frozen=True, slots=True)
class SilenceStarted:
    """The stream has fallen silent: its tags go off, just before or just after, and none goes on
    before it ends."""

    stream: str
    at: int
    """First silent sample."""
    decided: int
    """One past the last sample that the decision needed."""


@dataclass(frozen=True, slots=True)
class SilenceEnded:
    """Sound is back, or the stream ends. Every Silence gets exactly one."""

    stream: str
    at: int
    """First sample that is not silent, or the stream's end."""
    decided: int
    """One past the last sample that the decision needed."""
    since: int
    """`at` of the matching Silence."""


@dataclass(frozen=True, slots=True)
class ClippingFound:
    """Samples ran into full scale; told once in a while only."""

    stream: str
    at: int
    """First clipped sample since the last such event."""
    samples: int
    """How many since then."""


@dataclass(frozen=True, slots=True)
class MoodUpdated:
    """Where a stream stands on the mood plane (`mood`)."""

    stream: str
    tagger: str
    at: int
    """One past the last sample that it takes into account."""
    valence: float
    """From -1, unpleasant, to 1, pleasant."""
    arousal: float
    """From -1, at rest, to 1, excited."""
    certainty: float
    """From 0, the tags say nothing, to 1."""


@dataclass(frozen=True, slots=True)
class ChannelsChanged:
    """One channel of a stereo stream has fallen silent, or both are the same, or all is well."""

    stream: str
    at: int
    """First sample at which it is so."""
    decided: int
    """One past the last sample that the decision needed."""
    balance: str
    """`left_silent`, `right_silent`, `mono` or `stereo`."""


Level = SilenceStarted | SilenceEnded | ClippingFound | ChannelsChanged

Event = (
    StreamOpened
    | TaggersReplaced
    | StreamClosed
    | SourceStatusChanged
    | TitleChanged
    | GapFound
    | TagStarted
    | TagEnded
    | WindowScored
    | WindowsDropped
    | MoodUpdated
    | Level
)
