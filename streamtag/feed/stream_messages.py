"""Messages about a stream: its source, its audio, who listens."""

from dataclasses import dataclass

from streamtag.feed.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamUp(Message):
    """A stream was opened."""

    type = "stream_up"
    rate: int
    """Hz, of the source."""
    taggers: tuple[str, ...]
    """Names of the taggers that listen to it."""
    models: tuple[str, ...] = ()
    """Their models, in the same order."""
    checksums: tuple[str, ...] = ()
    """The first 12 hexadecimal digits of the SHA-256 of each model's bundle."""

    def details(self) -> str:
        return f"{self.rate} Hz, tagged by {', '.join(self.taggers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggersChanged(Message):
    """Other taggers listen from `t` on, or one has another model; the tags of those that left have
    been switched off before."""

    type = "taggers_changed"
    taggers: tuple[str, ...]
    """Names of the taggers that listen now."""
    models: tuple[str, ...]
    """Their models, in the same order."""
    checksums: tuple[str, ...]
    """The first 12 hexadecimal digits of the SHA-256 of each model's bundle."""
    reason: str
    """`model_swapped` or `configuration`."""

    def details(self) -> str:
        return f"{self.reason}: {', '.join(self.models)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDown(Message):
    """A stream ended; all its tags have been switched off before."""

    type = "stream_down"
    reason: str
    """`stream_closed`, `stream_lost`, `shutdown` or `recovered`."""
    detail: str
    """For people: the source's own words."""

    def details(self) -> str:
        return f"{self.reason}{': ' if self.detail else ''}{self.detail}"

    @property
    def removed(self) -> bool:
        """Whether the stream is not in the configuration any more."""
        return self.reason == "stream_closed" and self.detail == "removed"

    @property
    def final(self) -> bool:
        """Whether `failed` and `paused` end with it, too: the stream was removed, or its daemon
        ended."""
        return self.removed or self.reason in ("shutdown", "recovered")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus(Message):
    """The state of a stream's source changed; may come before `stream_up`, with `t` 0 then."""

    type = "stream_status"
    state: str
    """`connecting`, `up`, `stalled`, `retrying`, `failed` or `paused`."""
    cause: str
    """`dns`, `refused`, `unreachable`, `timeout`, `not_found`, `auth`, `tls`, `redirect`, `http`,
    `format`, `stalled`, `ended`, `device`, `memory`, `other`; empty where nothing failed."""
    detail: str
    """For people: the source's own words."""
    retry_seconds: float
    """Until the source is opened anew; 0 where that is not planned."""

    def details(self) -> str:
        why = f" ({self.cause}: {self.detail})" if self.cause else ""
        again = f", again in {self.retry_seconds:.1f} s" if self.retry_seconds else ""
        return f"{self.state}{why}{again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Title(Message):
    """What is playing from `t` on, in the source's own words."""

    type = "title"
    title: str

    def details(self) -> str:
        return self.title


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Message):
    """Audio is missing from `t` to `end`; analysis began anew at `end`."""

    type = "gap"
    end: float
    """Stream time."""

    def details(self) -> str:
        return f"{self.end - self.t:.3f} s of audio are missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Message):
    """Windows that were not scored: the model is slower than the audio, or it failed."""

    type = "dropped"
    tagger: str
    windows: int
    """How many since the last such message; `t` is the end of the newest one."""
    detail: str
    """For people: why."""

    def details(self) -> str:
        return f"{self.windows} windows of {self.tagger}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceOn(Message):
    """The stream has been silent since `t`; its tags go off, and none goes on before it ends."""

    type = "silence_on"
    decided: float
    """Stream time up to which audio was needed to know it."""

    def details(self) -> str:
        return f"for {self.decided - self.t:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceOff(Message):
    """Sound is back since `t`, or the stream ends. Every silence_on gets exactly one."""

    type = "silence_off"
    decided: float
    """Stream time up to which audio was needed to know it; at least `t`."""
    since: float
    """`t` of the matching silence_on."""
    since_utc: str

    def details(self) -> str:
        return f"after {self.t - self.since:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipping(Message):
    """Audio runs into full scale; told once in a while only."""

    type = "clipping"
    samples: int
    """Clipped samples from `t` on, since the last such message."""

    def details(self) -> str:
        return f"{self.samples} samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels(Message):
    """What the two channels are like since `t`; holds until the next one, or `stream_down`."""

    type = "channels"
    balance: str
    """`left_silent`, `right_silent`, `mono` (both the same) or `stereo` (all is well)."""
    decided: float
    """Stream time up to which audio was needed to know it."""

    def details(self) -> str:
        return self.balance
