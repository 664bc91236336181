"""Events as messages: sequence numbers, stream time, UTC, and the names of tags and models."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from msgspec.structs import replace

from streamtag.engine import events
from streamtag.errors import FeedError
from streamtag.feed import messages
from streamtag.feed.codec import FEW_MILLIONTHS
from streamtag.feed.messages import TYPES, Message
from streamtag.feed.timestamps import ns_of, rfc3339

TIE = 1e-9
"""The product of a probability and 10⁶ is off by less than this. Nearer to a half it does not say
which way to round."""
_COMMON = len(Message.__struct_fields__)
"""Number of fields that every message begins with."""
_POSITIONS = ("decided", "since", "start", "end")
"""Fields that are samples in an event, and seconds in its message."""


@dataclass(frozen=True, slots=True)
class TaggerInfo:
    """The fields about a tagger in messages."""

    tags: tuple[str, ...]
    """In the order of its scores."""
    model: str = ""
    checksum: str = ""
    """SHA-256 of its bundle, in hexadecimal: the first 12 digits, as messages have them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "checksum", self.checksum[:12])


@dataclass(frozen=True, slots=True)
class SequenceNumbers:
    """The sequence numbers that a journal has reached."""

    epoch: str
    """Of the journal's topics, and of new ones."""
    last: Mapping[str, int] = field(default_factory=dict)
    """The newest number of each topic."""
    prefixes: tuple[str, ...] = ("event/",)
    """How the topics begin that the journal keeps."""
    epochs: Mapping[str, str] = field(default_factory=dict)
    """Of topics that have another."""


@dataclass(slots=True)
class TopicNumbers:
    """The numbering of one topic."""

    epoch: str
    last: int
    """The newest number."""


@dataclass(slots=True)
class OpenStream:
    """A stream that is up."""

    rate: int
    """Hz."""
    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970."""
    events: TopicNumbers
    """Numbers of its events."""
    scores: TopicNumbers
    """Numbers of its scores."""
    title: str = ""
    """The title that the source gives."""
    begun: dict[int, tuple[float, str]] = field(default_factory=dict)
    """Stream time and UTC of the samples at which tags began that are on."""

    def moment(self, at: int) -> tuple[float, str]:
        """Stream time of a sample, to the microsecond, and its UTC."""
        rate = self.rate
        return to_millionth(at / rate), rfc3339(self.epoch_ns + at * 1_000_000_000 // rate)


class EventEncoder:
    """Makes numbered messages of events.

    Args:
        tags: per tagger, its tags in the order of its scores.
        start_ns: UTC at which the publisher began, in nanoseconds since 1970; its epoch.
        sequences: the numbers that a journal has reached, if there is one.
    """

    def __init__(
        self,
        tags: Mapping[str, tuple[str, ...]],
        start_ns: int | None = None,
        sequences: SequenceNumbers | None = None,
    ) -> None:
        self.taggers = {name: TaggerInfo(known) for name, known in tags.items()}
        """By name; may be exchanged between two messages."""
        self.display: dict[tuple[str, str], Mapping[str, str]] = {}
        """Names of tags for people, by stream and tagger, where there are any."""
        self._start_ns = time.time_ns() if start_ns is None else start_ns
        self._run_epoch = f"{self._start_ns:016x}"
        self._sequences = sequences or SequenceNumbers(self._run_epoch)
        self._topics: dict[str, TopicNumbers] = {}
        self._streams: dict[str, OpenStream] = {}
        self._encoders: dict[type[events.Event], Callable[[Any, Any], Message]] = {
            events.TagStarted: self._tag_on,
            events.TagEnded: self._tag_off,
            events.SourceStatusChanged: self._status,
            events.StreamOpened: self._stream_up,
            events.StreamClosed: self._stream_down,
            events.TitleChanged: self._title,
        }

    def correct_clock(self, stream: str, epoch_ns: int) -> None:
        """Corrects the UTC of sample 0, in nanoseconds since 1970, for all later messages."""
        self._streams[stream].epoch_ns = epoch_ns
        self._streams[stream].begun.clear()

    def message(self, event: events.Event) -> Message:
        """`encode` for one event."""
        made: list[Message] = []
        self.encode([event], made)
        return made[0]

    def encode(self, batch: Sequence[events.Event], made: list[Message]) -> None:
        """Appends the next message on the topic of each event to `made`.

        Raises:
            FeedError: an event of a stream that has sent no StreamOpened. The messages of those
                before it are in `made`.
        """
        scores = _rounded([event for event in batch if type(event) is events.WindowScored])
        open_stream, encoder, plain = self._streams.get, self._encoders.get, self._plain
        for event in batch:
            kind, stream = type(event), open_stream(event.stream)
            if stream is None and kind not in _BEFORE_OPENED:
                text = f"expected StreamOpened before {event}"
                raise FeedError(f"stream {event.stream!r}: {text}")
            if kind is events.WindowScored:
                made.append(self._scores(event, stream, *next(scores)))
            else:
                made.append(encoder(kind, plain)(event, stream))

    def stream_down(
        self, stream: str, reason: events.Reason, detail: str, now_ns: int
    ) -> messages.StreamDown:
        """The next message on the topic of a stream that ends without having been up.

        Args:
            stream: its name.
            reason: why.
            detail: why, for people.
            now_ns: UTC in nanoseconds since 1970.
        """
        head = self._head(f"event/{stream}/", stream, 0.0, rfc3339(now_ns))
        return messages.StreamDown(**head, reason=reason, detail=detail)

    def stats(self, counters: Mapping[str, float], now_ns: int) -> messages.Stats:
        """The next message on topic `stats/`; `now_ns` is UTC in nanoseconds since 1970."""
        rounded = {name: round(value, 6) for name, value in counters.items()}
        return messages.Stats(**self._daemon_head(now_ns), counters=rounded)

    def notice(self, text: str, now_ns: int) -> messages.Notice:
        """The next message on topic `stats/`, for people; `now_ns` as in `stats`."""
        return messages.Notice(**self._daemon_head(now_ns), text=text)

    def numbering(self, topic: str) -> tuple[str, int]:
        """Epoch and newest number of a topic."""
        numbers = self._numbers(topic)
        return numbers.epoch, numbers.last

    def number(self, message: Message) -> Message:
        """A message that was derived from others, as the next one on its topic.

        Where it is about no stream, its `t` counts from the beginning of the publisher.
        """
        numbers = self._numbers(message.topic)
        numbers.last += 1
        since = (ns_of(message.utc) - self._start_ns) / 1e9
        t = message.t if message.stream else max(0.0, round(since, 6))
        return replace(message, epoch=numbers.epoch, seq=numbers.last, t=t)

    def _plain(self, event: Any, stream: Any) -> Message:
        """A message whose fields are those of its event: samples become seconds."""
        kind, family, names = _shape(type(event))  # type: ignore[arg-type]
        known = self.taggers.get
        fields = self._head(f"{family}/{event.stream}/", event.stream, *stream.moment(event.at))
        for name in names:
            if name == "since_utc":
                fields[name] = stream.moment(event.since)[1]
            elif name == "models":
                fields[name] = tuple(known(t, _UNKNOWN).model for t in event.taggers)
            elif name == "checksums":
                fields[name] = tuple(known(t, _UNKNOWN).checksum for t in event.taggers)
            elif name in _POSITIONS:
                fields[name] = to_millionth(getattr(event, name) / stream.rate)
            else:
                value = getattr(event, name)
                fields[name] = to_millionth(value) if isinstance(value, float) else value
        return kind(**fields)

    def _stream_up(self, event: events.StreamOpened, _: OpenStream | None) -> Message:
        name = event.stream
        numbers = self._numbers(f"event/{name}/"), self._numbers(f"scores/{name}/")
        stream = self._streams[name] = OpenStream(event.rate, event.epoch_ns, *numbers)
        return self._plain(event, stream)

    def _stream_down(self, event: events.StreamClosed, stream: OpenStream) -> Message:
        del self._streams[event.stream]
        return self._plain(event, stream)

    def _title(self, event: events.TitleChanged, stream: OpenStream) -> Message:
        stream.title = event.title
        return self._plain(event, stream)

    def _status(self, event: events.SourceStatusChanged, stream: OpenStream | None) -> Message:
        """About the source, not its audio: `utc` is now, and `t` where the audio stands."""
        if stream and event.state is not events.SourceState.UP:
            stream.title = ""
        t = stream.moment(event.at)[0] if stream else 0.0
        head = self._head(f"event/{event.stream}/", event.stream, t, rfc3339(time.time_ns()))
        return messages.StreamStatus(
            **head,
            state=event.state,
            cause=event.cause,
            detail=event.detail,
            retry_seconds=round(event.retry_seconds, 6),
        )

    def _tag_on(self, event: events.TagStarted, stream: OpenStream) -> Message:
        numbers, tagger = stream.events, self.taggers.get(event.tagger, _UNKNOWN)
        numbers.last += 1
        t, utc = stream.begun[event.at] = stream.moment(event.at)
        names = self.display.get((event.stream, event.tagger)) if self.display else None
        return messages.TagOn(
            epoch=numbers.epoch,
            seq=numbers.last,
            stream=event.stream,
            t=t,
            utc=utc,
            tagger=event.tagger,
            tag=event.tag,
            decided=to_millionth(event.decided / stream.rate),
            probability=to_millionth(event.probability),
            provisional=event.provisional,
            title=stream.title,
            display=names.get(event.tag, "") if names else "",
            model=tagger.model,
            checksum=tagger.checksum,
        )

    def _tag_off(self, event: events.TagEnded, stream: OpenStream) -> Message:
        numbers, since = stream.events, event.since
        numbers.last += 1
        t, utc = stream.moment(event.at)
        begun = stream.begun.pop(since, None) or stream.moment(since)
        return messages.TagOff(
            epoch=numbers.epoch,
            seq=numbers.last,
            stream=event.stream,
            t=t,
            utc=utc,
            tagger=event.tagger,
            tag=event.tag,
            decided=to_millionth(event.decided / stream.rate),
            since=begun[0],
            since_utc=begun[1],
            peak=to_millionth(event.peak),
            reason=event.reason,
            title=stream.title,
        )

    def _scores(
        self,
        event: Any,
        stream: Any,
        values: tuple[float, ...],
        smoothed: tuple[float, ...],
    ) -> Message:
        numbers = stream.scores
        numbers.last += 1
        t, utc = stream.moment(event.end)
        return messages.Scores(
            epoch=numbers.epoch,
            seq=numbers.last,
            stream=event.stream,
            t=t,
            utc=utc,
            tagger=event.tagger,
            start=to_millionth(event.start / stream.rate),
            provisional=event.provisional,
            tags=self.taggers[event.tagger].tags,
            values=values,
            smoothed=smoothed,
            title=stream.title,
        )

    def _head(self, topic: str, stream: str, t: float, when: str) -> dict[str, Any]:
        """The common fields of the next message on a topic."""
        numbers = self._numbers(topic)
        numbers.last += 1
        head = {"epoch": numbers.epoch, "seq": numbers.last, "stream": stream}
        return head | {"t": t, "utc": when}

    def _daemon_head(self, now_ns: int) -> dict[str, Any]:
        """The common fields of the next message that is about no stream."""
        t = round((now_ns - self._start_ns) / 1e9, 6)
        return self._head("stats/", "", t, rfc3339(now_ns))

    def _numbers(self, topic: str) -> TopicNumbers:
        """The numbering of a topic, which goes on where the journal's ended."""
        if topic not in self._topics:
            known = self._sequences
            kept = topic.startswith(known.prefixes)
            epoch = known.epochs.get(topic, known.epoch) if kept else self._run_epoch
            self._topics[topic] = TopicNumbers(epoch, known.last.get(topic, 0))
        return self._topics[topic]


@cache
def _shape(kind: type[events.Event]) -> tuple[type[Message], str, tuple[str, ...]]:
    """The messages of events of a kind, how their topic begins, and their own fields."""
    made = TYPES[events.type_of(kind)]
    family = _FAMILIES.get(made, "event")
    return made, family, made.__struct_fields__[_COMMON:]


_FAMILIES: dict[type[Message], str] = {messages.Mood: "mood", messages.Level: "level"}
"""How topics begin that are not those of events, by message."""
_UNKNOWN = TaggerInfo(())
_BEFORE_OPENED = (events.StreamOpened, events.SourceStatusChanged)
"""What may be said of a stream that is not open."""


def to_millionth(x: float) -> float:
    """`round(x, 6)`, twice as fast."""
    millionths = x * 1e6
    nearest = round(millionths)
    if -0.499 < millionths - nearest < 0.499 and millionths < 1e12:  # else the error may count
        return nearest / 1e6
    return round(x, 6)


def _rounded(
    scored: Sequence[events.WindowScored],
) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """`values` and `smoothed` of each window, rounded to the millionth, all of them at once."""
    if not scored:
        return
    values = np.concatenate([part for one in scored for part in (one.values, one.smoothed)])
    rounded, first = tuple(_to_millionths(values)), 0
    for one in scored:
        middle = first + len(one.values)
        yield rounded[first:middle], rounded[middle : (end := middle + len(one.smoothed))]
        first = end


def _to_millionths(values: np.ndarray) -> list[float]:
    """`round(value, 6)` of each; the values are not negative."""
    millionths = values * 1e6
    nearest = np.rint(millionths)
    for i in np.flatnonzero(np.abs(millionths - nearest) > 0.5 - TIE).tolist():
        nearest[i] = round(round(float(values[i]), 6) * 1e6)
    rounded: list[float] = (nearest / 1e6).tolist()
    for i in np.flatnonzero((nearest > 0) & (nearest < len(FEW_MILLIONTHS))).tolist():
        rounded[i] = FEW_MILLIONTHS[int(nearest[i])]
    return rounded
