"""The messages of the feed, contract version 1 (docs/protocol.md), and how they are encoded.

Every message begins with the fields `v`, `type`, `epoch`, `seq`, `stream`, `t` and `utc`, in this
order; the fields of its type follow. Readers ignore fields that they do not know and take types
that they do not know as `Other`, so both may be added without a new version.
"""

from typing import Annotated, Any, Final, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, field, structs

from streamtag.errors import FeedError
from streamtag.feed.codec import Encoding, decode, encode

VERSION: Final = 1
"""The version of the contract, field `v` of every message."""

Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = Annotated[float, Meta(ge=-(2.0**63), le=2.0**63)]
Sequence = Annotated[int, Meta(ge=0, le=2**63 - 1)]
H = TypeVar("H", bound="Wire")
DERIVED_TOPICS: Final = ("alert/", "clip/", "section/")
"""How the topics begin of messages that are derived from other messages, not from audio."""


class Wire(Struct, frozen=True, kw_only=True, gc=False, tag_field="v", tag=VERSION):
    """What goes over the sockets of a feed: the version comes first, then the type."""

    type: str = ""


class Message(Wire, frozen=True, kw_only=True):
    """What all messages have."""

    epoch: str
    """Start of the numbering, as a hexadecimal number; a larger one began later."""
    seq: Integer
    """Counts the messages of one topic without a hole, from 1."""
    stream: str
    """Name of the stream; empty where a message is about the whole daemon."""
    t: Number
    """Seconds since the stream began (since the daemon began, where there is no stream)."""
    utc: str
    """The same moment as RFC 3339 with microseconds, such as `2026-01-31T23:59:59.000000Z`."""
    lease: Sequence | UnsetType = UNSET
    """In a fleet: the lease under which it was published. Of two, the higher one counts."""

    @property
    def topic(self) -> str:
        """The first part of the multipart message."""
        return f"event/{self.stream}/"

    def details(self) -> str:
        """The contents beyond type, stream and time, for people."""
        return ""

    def __str__(self) -> str:
        head = f"{self.stream} {clock(self.t)} {self.type}".lstrip()
        text = f"{head} {self.details()}".rstrip()
        return "".join(c if c.isprintable() else " " for c in text)  # titles come from strangers


class StreamUp(Message, frozen=True, kw_only=True):
    """A stream was opened."""

    type: Literal["stream_up"] = "stream_up"
    rate: Integer
    """Hz, of the source."""
    taggers: tuple[str, ...]
    """Names of the taggers of this stream."""
    models: tuple[str, ...] = ()
    """Their models, in the same order."""
    checksums: tuple[str, ...] = ()
    """The first 12 hexadecimal digits of the SHA-256 of each model's bundle."""

    def details(self) -> str:
        return f"{self.rate} Hz, tagged by {', '.join(self.taggers)}"


class TaggersChanged(Message, frozen=True, kw_only=True):
    """The stream has other taggers from `t` on, or one has another model; the tags of those that
    left have been switched off before."""

    type: Literal["taggers_changed"] = "taggers_changed"
    taggers: tuple[str, ...]
    """Names of the taggers of this stream from now on."""
    models: tuple[str, ...]
    """Their models, in the same order."""
    checksums: tuple[str, ...]
    """The first 12 hexadecimal digits of the SHA-256 of each model's bundle."""
    reason: str
    """`model_swapped` or `configuration`."""

    def details(self) -> str:
        return f"{self.reason}: {', '.join(self.models)}"


class StreamDown(Message, frozen=True, kw_only=True):
    """A stream ended; all its tags have been switched off before."""

    type: Literal["stream_down"] = "stream_down"
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


class StreamStatus(Message, frozen=True, kw_only=True):
    """The state of a stream's source changed; may come before `stream_up`, with `t` 0 then."""

    type: Literal["stream_status"] = "stream_status"
    state: str
    """`connecting`, `up`, `stalled`, `retrying`, `failed` or `paused`."""
    cause: str
    """`dns`, `refused`, `unreachable`, `timeout`, `not_found`, `auth`, `tls`, `redirect`, `http`,
    `format`, `stalled`, `ended`, `device`, `memory`, `other`; empty where nothing failed."""
    detail: str
    """For people: the source's own words."""
    retry_seconds: Number
    """Until the source is opened again; 0 where that is not planned."""

    def details(self) -> str:
        why = f" ({self.cause}: {self.detail})" if self.cause else ""
        again = f", again in {self.retry_seconds:.1f} s" if self.retry_seconds else ""
        return f"{self.state}{why}{again}"


class Title(Message, frozen=True, kw_only=True):
    """What is playing from `t` on, in the source's own words."""

    type: Literal["title"] = "title"
    title: str

    def details(self) -> str:
        return self.title


class TagOn(Message, frozen=True, kw_only=True):
    """A tag became active at `t`."""

    type: Literal["tag_on"] = "tag_on"
    tagger: str
    tag: str
    decided: Number
    """Stream time up to which audio was needed to know it; at least `t`."""
    probability: Number
    """Smoothed, when decided."""
    provisional: bool
    """Decided on a window that was not full yet."""
    title: str = ""
    """What the source said was playing; empty where it said nothing."""
    display: str = ""
    """The tag's name for people, in the language configured; empty where none is."""
    model: str = ""
    checksum: str = ""
    """The first 12 hexadecimal digits of the SHA-256 of the model's bundle."""

    def details(self) -> str:
        return f"{self.display or self.tag} {self.probability:.2f}"


class TagOff(Message, frozen=True, kw_only=True):
    """An active tag ended at `t`. Every tag_on gets exactly one."""

    type: Literal["tag_off"] = "tag_off"
    tagger: str
    tag: str
    decided: Number
    """Stream time up to which audio was needed to know it; at least `t`."""
    since: Number
    """`t` of the matching tag_on."""
    since_utc: str
    """`utc` of the matching tag_on."""
    peak: Number
    """Largest smoothed probability in between."""
    reason: str
    """`below_threshold`, `stream_closed`, `stream_lost`, `shutdown`, …"""
    title: str = ""
    """What the source said was playing; empty where it said nothing."""

    def details(self) -> str:
        return f"{self.tag} after {self.t - self.since:.1f} s, peak {self.peak:.2f}, {self.reason}"


class Gap(Message, frozen=True, kw_only=True):
    """Audio is missing from `t` to `end`; analysis began anew at `end`."""

    type: Literal["gap"] = "gap"
    end: Number
    """Stream time."""

    def details(self) -> str:
        return f"{self.end - self.t:.3f} s of audio are missing"


class Dropped(Message, frozen=True, kw_only=True):
    """Windows that were not scored: the model is slower than the audio, or it failed."""

    type: Literal["dropped"] = "dropped"
    tagger: str
    windows: Integer
    """How many since the last such message; `t` is the end of the newest one."""
    detail: str
    """For people: why."""

    def details(self) -> str:
        return f"{self.windows} windows of {self.tagger}: {self.detail}"


class SilenceOn(Message, frozen=True, kw_only=True):
    """The stream has been silent since `t`; its tags go off, and none goes on before it ends."""

    type: Literal["silence_on"] = "silence_on"
    decided: Number
    """Stream time up to which audio was needed to know it."""

    def details(self) -> str:
        return f"for {self.decided - self.t:.1f} s"


class SilenceOff(Message, frozen=True, kw_only=True):
    """Sound is back since `t`, or the stream ends. Every silence_on gets exactly one."""

    type: Literal["silence_off"] = "silence_off"
    decided: Number
    """Stream time up to which audio was needed to know it; at least `t`."""
    since: Number
    """`t` of the matching silence_on."""
    since_utc: str
    """`utc` of the matching silence_on."""

    def details(self) -> str:
        return f"after {self.t - self.since:.1f} s"


class Clipping(Message, frozen=True, kw_only=True):
    """Audio runs into full scale; sent once in a while only."""

    type: Literal["clipping"] = "clipping"
    samples: Integer
    """Clipped samples from `t` on, since the last such message."""

    def details(self) -> str:
        return f"{self.samples} samples"


class Channels(Message, frozen=True, kw_only=True):
    """What the two channels are like since `t`; holds until the next one, or `stream_down`."""

    type: Literal["channels"] = "channels"
    balance: str
    """`left_silent`, `right_silent`, `mono` (both the same) or `stereo` (all is well)."""
    decided: Number
    """Stream time up to which audio was needed to know it."""

    def details(self) -> str:
        return self.balance


class Scores(Message, frozen=True, kw_only=True):
    """The probabilities of one window; `t` is its end."""

    type: Literal["scores"] = "scores"
    tagger: str
    start: Number
    """Stream time at which the window's audio begins."""
    provisional: bool
    """The window was not full: its past is padding."""
    tags: tuple[str, ...]
    values: tuple[Number, ...]
    """Probabilities in the order of `tags`, before smoothing."""
    smoothed: tuple[Number, ...]
    """The same after smoothing: what the thresholds are compared with."""
    title: str = ""
    """What the source said was playing; empty where it said nothing."""

    @property
    def topic(self) -> str:
        return f"scores/{self.stream}/"

    def details(self) -> str:
        best = sorted(zip(self.smoothed, self.tags, strict=True), reverse=True)[:5]
        return ", ".join(f"{tag} {value:.2f}" for value, tag in best)


class Mood(Message, frozen=True, kw_only=True):
    """Where the stream is on the mood plane, once a second; slow, for displays."""

    type: Literal["mood"] = "mood"
    tagger: str
    valence: Number
    """From -1, unpleasant, to 1, pleasant."""
    arousal: Number
    """From -1, at rest, to 1, excited."""
    certainty: Number
    """From 0 (the model does not know the mood) to 1."""

    @property
    def topic(self) -> str:
        return f"mood/{self.stream}/"

    def details(self) -> str:
        return f"valence {self.valence:+.2f}, arousal {self.arousal:+.2f}"


class Level(Message, frozen=True, kw_only=True):
    """The level of the half second before `t`, of the mono mix; for displays."""

    type: Literal["level"] = "level"
    peak_dbfs: Number
    """The largest sample, in dB of full scale; at least -120."""
    rms_dbfs: Number
    """Root mean square without DC, in dB of full scale; -3 for a full-scale sine."""
    lufs: Number | None = None
    """Momentary loudness by EBU R 128, of the last 400 ms, in LUFS; at least -120. None where it is
    not measured."""

    @property
    def topic(self) -> str:
        return f"level/{self.stream}/"

    def details(self) -> str:
        loudness = "" if self.lufs is None else f"{self.lufs:.1f} LUFS, "
        return f"{loudness}peak {self.peak_dbfs:.1f} dBFS, RMS {self.rms_dbfs:.1f} dBFS"


class Section(Message, frozen=True, kw_only=True):
    """A section of the programme from `t` to `end`, published a minute after its end."""

    type: Literal["section"] = "section"
    end: Number
    """Stream time."""
    end_utc: str
    """The same as `utc`."""
    kind: str
    """`speech`, `music`, `silence`, `other` (sound that is neither) or `lost` (nothing came)."""
    certainty: Number
    """Share of the section, 0 to 1, in which the tags or the source agree with its kind."""
    title: str
    """The title that lasted longest; empty if the source gave none."""
    genre: str
    """The genre that was on longest; empty for none."""
    moods: tuple[str, ...]
    """The moods that were on for the greatest shares of it, the greatest first."""
    instruments: tuple[str, ...]

    @property
    def topic(self) -> str:
        return f"section/{self.stream}/"

    def details(self) -> str:
        words = [self.kind, self.title, self.genre, *self.moods, *self.instruments]
        return f"{self.end - self.t:.0f} s, {', '.join(word for word in words if word)}"


class Clip(Message, frozen=True, kw_only=True):
    """Audio that is kept as evidence: first `begun`, then `ready` or `missing`."""

    type: Literal["clip"] = "clip"
    id: str
    """The clip's name, the same in all messages about it."""
    stage: str
    """`begun`, `ready` or `missing`."""
    event: str
    """The type of the event that it shows, and what that is about."""
    end: Number
    """Stream time of its end; in `begun` the end that is known so far, at least `t`."""
    file: str
    """Path of its file in the folder of clips; empty where there is none."""
    url: str
    """Its address; empty where there is no file."""
    bytes: Integer
    """Size of the file."""
    sha256: str
    """SHA-256 of the file, in hexadecimal."""
    complete: bool
    """Whether the file has all the audio that was wanted."""
    detail: str
    """For people: why it is missing, or not complete."""

    @property
    def topic(self) -> str:
        return f"clip/{self.stream}/"

    def details(self) -> str:
        why = f": {self.detail}" if self.detail else ""
        return f"{self.stage}, {self.event}, {self.end - self.t:.1f} s {self.file}{why}"


class Stats(Message, frozen=True, kw_only=True):
    """Counters since the daemon began; `stream` is empty."""

    type: Literal["stats"] = "stats"
    counters: dict[str, Integer | Number]
    """New names may appear at any time."""

    @property
    def topic(self) -> str:
        return "stats/"

    def details(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self.counters.items())


class Beat(Message, frozen=True, kw_only=True):
    """The publisher is alive. It comes so regularly that its absence means a failure."""

    type: Literal["beat"] = "beat"
    last: dict[str, Integer]
    """The newest sequence numbers of the topics that had messages since the last beat."""

    @property
    def topic(self) -> str:
        return "beat/"


class Goodbye(Message, frozen=True, kw_only=True):
    """The publisher ends on purpose; nothing follows."""

    type: Literal["goodbye"] = "goodbye"

    def __str__(self) -> str:
        return self.type

    @property
    def topic(self) -> str:
        return "goodbye/"


class JournalStatus(Message, frozen=True, kw_only=True):
    """Messages cannot be written to the journal, or can again; they are published all the same."""

    type: Literal["journal"] = "journal"
    working: bool
    detail: str
    """For people: why not."""
    unkept: Integer
    """Messages that were published and not written, since the publisher began."""

    @property
    def topic(self) -> str:
        return "journal/"

    def details(self) -> str:
        return f"{'works again' if self.working else self.detail}, {self.unkept} not kept"


class AlertMessage(Message, frozen=True, kw_only=True):
    """What the messages about an alert have."""

    alert: str
    """Name of the rule."""
    id: str
    """Id of this alert, the same in all messages about it."""

    @property
    def topic(self) -> str:
        return f"alert/{self.alert}/"


class AlertRaised(AlertMessage, frozen=True, kw_only=True):
    """The condition of a rule has been met; holds until its alert_cleared leaves no stream."""

    type: Literal["alert_raised"] = "alert_raised"
    streams: tuple[str, ...]
    """The streams that it is about; empty for the daemon itself."""
    severity: str
    """`info`, `warning` or `critical`."""
    since_utc: str
    """Since when the condition holds, for the first of the streams."""
    detail: str
    """For people: what is the matter."""
    notify: tuple[str, ...]
    """Names of the targets that are told."""
    quiet_until: str
    """When they are notified, as in `utc`; empty for at once."""
    remind_seconds: Number
    """How often they are notified again, until it is acknowledged or cleared; 0 for never."""

    def details(self) -> str:
        return f"{self.alert}: {self.detail}"


class AlertCleared(AlertMessage, frozen=True, kw_only=True):
    """An alert is over for some of its streams, or for all."""

    type: Literal["alert_cleared"] = "alert_cleared"
    streams: tuple[str, ...]
    """The streams for which it is over."""
    remaining: tuple[str, ...]
    """The streams for which it still holds; it is over if there are none."""
    since_utc: str
    """`utc` of its alert_raised."""
    why: str
    """`over`, `removed` (the stream) or `configuration` (the rule)."""
    detail: str
    """For people."""
    notify: tuple[str, ...]
    """Names of the targets that are told."""

    def details(self) -> str:
        return f"{self.alert}: {self.detail}"


class AlertAcknowledged(AlertMessage, frozen=True, kw_only=True):
    """Somebody has seen an alert; there are no more reminders of it."""

    type: Literal["alert_acknowledged"] = "alert_acknowledged"
    by: str
    """Who."""
    note: str
    """In the person's own words; may be empty."""

    def details(self) -> str:
        return f"{self.alert}: seen by {self.by}{': ' * bool(self.note)}{self.note}"


class Notice(Message, frozen=True, kw_only=True):
    """A warning that is not about one stream; `stream` is empty."""

    type: Literal["notice"] = "notice"
    text: str
    """For people."""

    @property
    def topic(self) -> str:
        return "stats/"

    def details(self) -> str:
        return self.text


class Other(Message, frozen=True, kw_only=True):
    """A type that this version does not know, from a newer daemon."""

    kind: str
    """Its `type`."""
    fields: dict[str, Any]
    """What it holds beyond the common fields."""

    def details(self) -> str:
        return f"({self.kind})"


TYPES: dict[str, type[Message]] = {
    str(structs.fields(kind)[0].default): kind
    for kind in (
        StreamUp, TaggersChanged, StreamDown, StreamStatus, Title, TagOn, TagOff, Gap, Dropped,
        SilenceOn, SilenceOff, Clipping, Channels, Scores, Mood, Level, Clip, Section, Stats,
        Beat, Goodbye, JournalStatus, Notice, AlertRaised, AlertCleared, AlertAcknowledged,
    )
}  # fmt: skip
"""All messages that there are, by `type`."""


class FeedState(Wire, frozen=True, kw_only=True):
    """Head of the current state, the answer to `hello/WORD/`; the messages in force follow."""

    type: Literal["state"] = "state"
    epoch: str
    """Of the topics that the journal does not keep."""
    replay: str = ""
    """Address of the socket that answers requests; empty where nothing is kept."""
    last: dict[str, tuple[str, Sequence]]
    """Epoch and newest number of every topic."""


class ReplayRequest(Wire, frozen=True, kw_only=True):
    """Asks for the messages [from, to] of a topic; `id` comes back with the answer."""

    type: Literal["replay"] = "replay"
    id: Annotated[int, Meta(gt=-(2**53), lt=2**53)] = 0
    topic: str
    epoch: str
    first: Annotated[int, Meta(ge=1, lt=2**62)] = field(name="from")
    last: Annotated[int, Meta(ge=1, lt=2**62)] = field(name="to")


class ReplayAnswer(Wire, frozen=True, kw_only=True):
    """Head of an answer; the messages follow. `next`: where to ask on, or 0; `missed`: first, last
    and reason of what cannot be had."""

    type: Literal["replay"] = "replay"
    id: int
    topic: str
    epoch: str
    first: int = field(name="from")
    last: int = field(name="to")
    next: Sequence = 0
    missed: list[tuple[Sequence, Sequence, str]] = []


class Refusal(Wire, frozen=True, kw_only=True):
    """The answer to a request that was not understood."""

    type: Literal["error"] = "error"
    id: int = 0
    error: str
    """For people."""


class _Header(Struct):
    v: Any = None
    type: Any = None


def dump(message: Message, encoding: Encoding = "json") -> bytes:
    """The payload of a message."""
    return encode(message, encoding)


def parse(payload: bytes) -> Message:
    """A message from its payload, every field checked: it comes from strangers.

    Raises:
        FeedError: it is not JSON (or MessagePack), of another version, or a field is missing or of
            a wrong type.
    """
    name = _type_of(payload)
    kind = TYPES.get(name, Message)
    try:
        message = decode(payload, kind)
        if kind is Message:
            return _other(name, message, payload)
    except FeedError as error:
        raise FeedError(f"message of type {name!r:.60}: {error}") from None
    if isinstance(message, Scores):
        _check_lengths(message)
    return message


def parse_head(payload: bytes, kind: type[H]) -> H:
    """The head of a state, of a request or of an answer.

    Raises:
        FeedError: as `parse`.
    """
    name, expected = _type_of(payload), structs.fields(kind)[0].default
    if name != expected:
        raise FeedError(f"message: expected type {expected!r}, got {name!r:.60}")
    return decode(payload, kind)


def _type_of(payload: bytes) -> str:
    """The type of what came, after a look at its version."""
    try:
        header = decode(payload, _Header)
    except FeedError as error:
        raise FeedError(f"message: {error}") from None
    if header.v != VERSION:
        raise FeedError(
            f"message: expected contract version {VERSION}, got {header.v!r:.60}; "
            "use the same version of streamtag on both sides"
        )
    if not isinstance(header.type, str):
        raise FeedError(f"message: expected a string in field 'type', got {header.type!r:.60}")
    return header.type


def _other(name: str, common: Message, payload: bytes) -> Other:
    known = structs.asdict(common)
    table = decode(payload, dict[str, Any])
    fields = {key: value for key, value in table.items() if key not in {"v", *known}}
    return Other(**(known | {"type": "", "kind": name, "fields": fields}))


def _check_lengths(scores: Scores) -> None:
    n = len(scores.tags)
    for name in ("values", "smoothed"):
        if (got := len(getattr(scores, name))) != n:
            raise FeedError(
                f"message of type 'scores': expected {n} numbers in field {name!r}, one per tag, "
                f"got {got}"
            )


def clock(seconds: float) -> str:
    """Stream time for people: `1:02:03.4` or `2:03.4`."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{tenths // 10:02}.{tenths % 10}"
