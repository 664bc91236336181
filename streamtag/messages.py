"""The messages of the feed, contract version 1: what they hold and how they are spelt in JSON.

Every message is one compact UTF-8 JSON object. The fields `v`, `type`, `epoch`, `seq`, `stream`,
`t` and `utc` come first, in this order; the fields of its type follow. Readers ignore fields that
they do not know and take types that they do not know as `Other`, so both may be added without a
new version. Needs nothing but the standard library: clients import it.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

from streamtag.errors import FeedError

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What all messages have."""

    type: ClassVar[str] = ""
    epoch: str
    """Start of the publisher, as a hexadecimal number; a larger one began later."""
    seq: int
    """Counts the messages of one topic without a hole, from 1."""
    stream: str
    """Name of the stream; empty where a message is about the whole daemon."""
    t: float
    """Seconds since the stream began (since the daemon began, where there is no stream)."""
    utc: str
    """The same moment as RFC 3339 with microseconds, such as `2026-01-31T23:59:59.000000Z`."""

    @property
    def topic(self) -> str:
        """The first part of the multipart message."""
        return f"event/{self.stream}/"

    def details(self) -> str:
        """What there is to say beyond type, stream and time, for people."""
        return ""

    def __str__(self) -> str:
        head = f"{self.stream} {clock(self.t)} {self.type}".lstrip()
        text = f"{head} {self.details()}".rstrip()
        return "".join(c if c.isprintable() else " " for c in text)  # titles come from strangers


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
    """`stream_closed`, `stream_lost` or `shutdown`."""
    detail: str
    """For people: the source's own words."""

    def details(self) -> str:
        return f"{self.reason}{': ' if self.detail else ''}{self.detail}"


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
class TagOn(Message):
    """A tag became active at `t`."""

    type = "tag_on"
    tagger: str
    tag: str
    decided: float
    """Stream time up to which audio was needed to know it; at least `t`."""
    probability: float
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOff(Message):
    """An active tag ended at `t`. Every tag_on gets exactly one."""

    type = "tag_off"
    tagger: str
    tag: str
    decided: float
    """Stream time up to which audio was needed to know it; at least `t`."""
    since: float
    """`t` of the matching tag_on."""
    since_utc: str
    peak: float
    """Largest smoothed probability in between."""
    reason: str
    """`below_threshold`, `stream_closed`, `stream_lost`, `shutdown`, …"""
    title: str = ""
    """What the source said was playing; empty where it said nothing."""

    def details(self) -> str:
        return f"{self.tag} after {self.t - self.since:.1f} s, peak {self.peak:.2f}, {self.reason}"


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
class Scores(Message):
    """What one window got; `t` is its end."""

    type = "scores"
    tagger: str
    start: float
    """Stream time at which the window's audio begins."""
    provisional: bool
    """The window was not full: its past is padding."""
    tags: tuple[str, ...]
    values: tuple[float, ...]
    """Probabilities in the order of `tags`, before smoothing."""
    smoothed: tuple[float, ...]
    """The same after smoothing: what the thresholds are compared with."""
    title: str = ""
    """What the source said was playing; empty where it said nothing."""

    @property
    def topic(self) -> str:
        return f"scores/{self.stream}/"

    def details(self) -> str:
        best = sorted(zip(self.smoothed, self.tags, strict=True), reverse=True)[:5]
        return ", ".join(f"{tag} {value:.2f}" for value, tag in best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mood(Message):
    """Where the stream stands on the mood plane, once a second; slow, for displays."""

    type = "mood"
    tagger: str
    valence: float
    """From -1, unpleasant, to 1, pleasant."""
    arousal: float
    """From -1, at rest, to 1, excited."""
    certainty: float
    """From 0, the tags say nothing, to 1."""

    @property
    def topic(self) -> str:
        return f"mood/{self.stream}/"

    def details(self) -> str:
        return f"valence {self.valence:+.2f}, arousal {self.arousal:+.2f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(Message):
    """Counters since the daemon began; `stream` is empty."""

    type = "stats"
    counters: dict[str, float]
    """New names may appear at any time."""

    @property
    def topic(self) -> str:
        return "stats/"

    def details(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self.counters.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Message):
    """The publisher lives; so often that its absence says that something is wrong."""

    type = "beat"
    last: dict[str, float]
    """The newest numbers of the topics that said something since the last beat."""

    @property
    def topic(self) -> str:
        return "beat/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye(Message):
    """The publisher ends on purpose; nothing follows."""

    type = "goodbye"

    def __str__(self) -> str:
        return self.type

    @property
    def topic(self) -> str:
        return "goodbye/"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStatus(Message):
    """Messages cannot be written to the journal, or can again; they are published all the same."""

    type = "journal"
    working: bool
    detail: str
    """For people: why not."""
    unkept: int
    """Messages that were published and not written, since the publisher began."""

    @property
    def topic(self) -> str:
        return "journal/"

    def details(self) -> str:
        return f"{'works again' if self.working else self.detail}, {self.unkept} not kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Message):
    """A warning that is not about one stream; `stream` is empty."""

    type = "notice"
    text: str
    """For people."""

    @property
    def topic(self) -> str:
        return "stats/"

    def details(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Message):
    """A type that this version does not know, from a newer daemon."""

    kind: str
    """Its `type`."""
    fields: dict[str, Any]
    """What it holds beyond the common fields."""

    def details(self) -> str:
        return f"({self.kind})"


_KINDS: list[type[Message]] = [
    StreamUp,
    TaggersChanged,
    StreamDown,
    StreamStatus,
    Title,
    TagOn,
    TagOff,
    Gap,
    Dropped,
    SilenceOn,
    SilenceOff,
    Clipping,
    Scores,
    Mood,
    Stats,
    Beat,
    Goodbye,
    JournalStatus,
    Notice,
]
TYPES = {kind.type: kind for kind in _KINDS}


def _hints(kind: type[Message]) -> dict[str, Any]:
    """Types of a message's fields, by name."""
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


_HINTS = {kind: _hints(kind) for kind in _KINDS}
_HINTS[Message] = _hints(Message)
_LATER = {
    kind: {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    for kind in _KINDS
}
"""Fields that an older daemon of the same contract does not send; they have defaults."""
_LARGEST = 2**63
"""No number of a message is further from 0."""


def clock(seconds: float) -> str:
    """Stream time for people: `1:02:03.4` or `2:03.4`."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{tenths // 10:02}.{tenths % 10}"


def dump(message: Message) -> bytes:
    """The payload of a message."""
    body: dict[str, Any] = {"v": VERSION, "type": message.type}
    body |= {f.name: _rounded(getattr(message, f.name)) for f in dataclasses.fields(message)}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")  # names of files need not be text


def _rounded(value: Any) -> Any:
    """Seconds to the microsecond and probabilities to the millionth, so that lines stay short."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, tuple):
        return [_rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value


def parse(payload: bytes) -> Message:
    """A message from its payload.

    Raises:
        FeedError: it is not JSON, of another version, or a field is missing or of a wrong type.
    """
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"message: expected a JSON object, got {payload[:60]!r}: {error}") from None
    if not isinstance(body, dict):
        raise FeedError(f"message: expected a JSON object, got {payload[:60]!r}")
    if (version := body.get("v")) != VERSION:
        raise FeedError(
            f"message: expected contract version {VERSION}, got {version!r:.60}; "
            "use the same version of streamtag on both sides"
        )
    name = body.get("type")
    if not isinstance(name, str):
        raise FeedError(f"message: expected a string in field 'type', got {name!r:.60}")
    kind = TYPES.get(name)
    if kind is None:
        common = {field: _take(body, Message, field, name) for field in _HINTS[Message]}
        known = {"v", "type", *common}
        rest = {key: value for key, value in body.items() if key not in known}
        return Other(kind=name, fields=rest, **common)
    wanted = (field for field in _HINTS[kind] if field in body or field not in _LATER[kind])
    message = kind(**{field: _take(body, kind, field, name) for field in wanted})
    if isinstance(message, Scores):
        _check_lengths(message)
    return message


def _check_lengths(scores: Scores) -> None:
    n = len(scores.tags)
    for field in ("values", "smoothed"):
        if (got := len(getattr(scores, field))) != n:
            raise FeedError(
                f"message of type 'scores': expected {n} numbers in field {field!r}, one per tag, "
                f"got {got}"
            )


def _take(body: dict[str, Any], kind: type[Message], field: str, name: str) -> Any:
    """One field, checked."""
    if field not in body:
        raise FeedError(f"message of type {name!r:.60}: field {field!r} is missing")
    hint, value = _HINTS[kind][field], body[field]
    if hint in (tuple[str, ...], tuple[float, ...]):
        item = str if hint == tuple[str, ...] else float
        if isinstance(value, list) and all(_is(item, v) for v in value):
            return tuple(value)
    elif hint == dict[str, float]:
        if isinstance(value, dict) and all(_is(float, v) for v in value.values()):
            return value
    elif _is(hint, value):
        return value
    expected = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
    raise FeedError(
        f"message of type {name!r:.60}: expected {expected} in field {field!r}, got {value!r:.60}"
    )


def _is(kind: type, value: object) -> bool:
    if kind in (float, int):
        number = isinstance(value, kind | int) and not isinstance(value, bool)
        return number and abs(value) <= _LARGEST  # type: ignore[arg-type]
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
