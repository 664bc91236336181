"""Events as messages: sequence numbers, stream time and UTC, as they go out on the feed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamtag.engine import events
from streamtag.errors import FeedError
from streamtag.feed import messages
from streamtag.feed.codec import Encoding
from streamtag.feed.json_writer import Line, Spelt, spell
from streamtag.feed.timestamps import rfc3339, utc


@dataclass(frozen=True, slots=True)
class Voice:
    """What the messages of a tagger say of it."""

    tags: tuple[str, ...]
    """In the order of its scores."""
    model: str = ""
    checksum: str = ""
    """SHA-256 of its bundle, in hexadecimal."""

    @property
    def short(self) -> str:
        """What messages say of the checksum."""
        return self.checksum[:12]


_NOBODY = Voice(())


@dataclass(frozen=True, slots=True)
class Numbering:
    """Where a journal's numbers go on."""

    epoch: str
    """Of the journal's topics, and of new ones."""
    last: Mapping[str, int] = field(default_factory=dict)
    """The newest number of each topic."""
    prefixes: tuple[str, ...] = ("event/",)
    """How the topics begin that it keeps."""
    epochs: Mapping[str, str] = field(default_factory=dict)
    """Of topics that have another."""


class EventEncoder:
    """Turns events into numbered messages.

    Args:
        tags: per tagger, its tags in the order of its scores.
        start_ns: UTC at which the publisher began, in nanoseconds since 1970; its epoch.
        numbering: where a journal's numbers go on, if there is one.
        encoding: what the publisher writes.
    """

    def __init__(
        self,
        tags: Mapping[str, tuple[str, ...]],
        start_ns: int | None = None,
        numbering: Numbering | None = None,
        encoding: Encoding = "json",
    ) -> None:
        self._encoding = encoding
        self.voices = {name: Voice(known) for name, known in tags.items()}
        """By tagger; may be exchanged between two messages."""
        self.display: dict[tuple[str, str], Mapping[str, str]] = {}
        """Names of tags for people, by stream and tagger, where there are any."""
        self._start_ns = time.time_ns() if start_ns is None else start_ns
        self._run = f"{self._start_ns:016x}"
        kept = numbering or Numbering(self._run)
        self._kept = kept
        self._epochs: dict[str, str] = {}  # by topic, as far as needed
        self._seq = dict(kept.last)
        self._lines: dict[str, Line] = {}  # of streams that are up

    def reckon(self, stream: str, epoch_ns: int) -> None:
        """Another UTC of sample 0, in nanoseconds since 1970, for what comes from now on."""
        self._lines[stream].epoch_ns = epoch_ns

    def spelt(self, event: events.TagStarted | events.TagEnded) -> Spelt | messages.Message:
        """`message`, or the JSON of it where that is quick and wanted."""
        line = self._lines.get(event.stream)
        if line is None or self._encoding != "json":
            return self.message(event)
        line.seq = self._seq[line.topic] + 1
        if isinstance(event, events.TagStarted):
            self._present(event, line)
        said = spell(event, line)
        if said is None:
            return self.message(event)
        self._seq[line.topic] = line.seq
        return said

    def _present(self, event: events.TagStarted, line: Line) -> None:
        """Has the line tell who speaks, and how the tag is called."""
        voice = self.voices.get(event.tagger, _NOBODY)
        names = self.display.get((event.stream, event.tagger)) if self.display else None
        line.display = names.get(event.tag, "") if names else ""
        line.model, line.checksum = voice.model, voice.short

    def message(self, event: events.Event) -> messages.Message:
        """The next message on the event's topic.

        Raises:
            FeedError: an event of a stream that has sent no StreamUp.
        """
        if isinstance(event, events.SourceStatusChanged):
            return self._status(event)
        if isinstance(event, events.StreamOpened):
            self._lines[event.stream] = self._line(event)
        if event.stream not in self._lines:
            raise FeedError(f"stream {event.stream!r}: expected StreamUp before {event}")
        match event:
            case (
                events.StreamOpened()
                | events.StreamClosed()
                | events.GapFound()
                | events.WindowsDropped()
            ):
                message = self._about_stream(event)
            case events.TaggersReplaced(stream, at, taggers, reason):
                head = self._head(stream, at) | self._models(taggers)
                message = messages.TaggersChanged(**head, reason=reason.value)
            case events.ChannelsChanged(stream, at, decided, balance):
                head = self._head(stream, at) | {"decided": self._seconds(stream, decided)}
                message = messages.Channels(**head, balance=balance)
            case events.SilenceStarted() | events.SilenceEnded() | events.ClippingFound():
                message = self._about_level(event)
            case events.WindowScored():
                message = self._scores(event)
            case events.TitleChanged():
                self._lines[event.stream].title = event.title
                message = messages.Title(**self._head(event.stream, event.at), title=event.title)
            case events.MoodUpdated():
                message = self._mood(event)
            case _:
                message = self._about_tag(event)
        if isinstance(event, events.StreamClosed):
            del self._lines[event.stream]
        return message

    def _line(self, event: events.StreamOpened) -> Line:
        topic = f"event/{event.stream}/"
        return Line(event.stream, topic, self._epoch(topic), event.rate, event.epoch_ns)

    def _about_stream(
        self,
        event: events.StreamOpened | events.StreamClosed | events.GapFound | events.WindowsDropped,
    ) -> messages.Message:
        match event:
            case events.StreamOpened(stream, at, rate, _, taggers):
                return messages.StreamUp(
                    **self._head(stream, at), rate=rate, **self._models(taggers)
                )
            case events.StreamClosed(stream, at, reason, detail):
                head = self._head(stream, at)
                return messages.StreamDown(**head, reason=reason.value, detail=detail)
            case events.GapFound(stream, start, end):
                return messages.Gap(**self._head(stream, start), end=self._seconds(stream, end))
            case events.WindowsDropped(stream, tagger, at, windows, detail):
                head = self._head(stream, at)
                return messages.Dropped(**head, tagger=tagger, windows=windows, detail=detail)

    def _about_level(
        self, event: events.SilenceStarted | events.SilenceEnded | events.ClippingFound
    ) -> messages.Message:
        head = self._head(event.stream, event.at)
        if isinstance(event, events.ClippingFound):
            return messages.Clipping(**head, samples=event.samples)
        head["decided"] = self._seconds(event.stream, event.decided)
        if isinstance(event, events.SilenceStarted):
            return messages.SilenceOn(**head)
        return messages.SilenceOff(
            **head,
            since=self._seconds(event.stream, event.since),
            since_utc=self._utc(event.stream, event.since),
        )

    def _status(self, event: events.SourceStatusChanged) -> messages.StreamStatus:
        """About the source, not its audio: the moment is now, and `t` where the audio stands."""
        line = self._lines.get(event.stream)
        if line and event.state is not events.SourceState.UP:
            line.title = ""
        return messages.StreamStatus(
            **self._count(f"event/{event.stream}/"),
            stream=event.stream,
            t=event.at / line.rate if line else 0.0,
            utc=rfc3339(time.time_ns()),
            state=event.state.value,
            cause=event.cause.value,
            detail=event.detail,
            retry_seconds=event.retry_seconds,
        )

    def _models(self, taggers: tuple[str, ...]) -> dict[str, Any]:
        voices = [self.voices.get(name, _NOBODY) for name in taggers]
        return {
            "taggers": taggers,
            "models": tuple(voice.model for voice in voices),
            "checksums": tuple(voice.short for voice in voices),
        }

    def _about_tag(self, event: events.TagStarted | events.TagEnded) -> messages.Message:
        line = self._lines[event.stream]
        head = self._head(event.stream, event.at)
        head["tagger"], head["tag"], head["title"] = event.tagger, event.tag, line.title
        head["decided"] = event.decided / line.rate
        if isinstance(event, events.TagStarted):
            self._present(event, line)
            return messages.TagOn(
                **head,
                probability=event.probability,
                provisional=event.provisional,
                display=line.display,
                model=line.model,
                checksum=line.checksum,
            )
        return messages.TagOff(
            **head,
            since=event.since / line.rate,
            since_utc=self._utc(event.stream, event.since),
            peak=event.peak,
            reason=event.reason.value,
        )

    def _scores(self, event: events.WindowScored) -> messages.Message:
        return messages.Scores(
            **self._head(event.stream, event.end, topic="scores"),
            tagger=event.tagger,
            start=self._seconds(event.stream, event.start),
            provisional=event.provisional,
            tags=self.voices[event.tagger].tags,
            values=event.values,
            smoothed=event.smoothed,
            title=self._lines[event.stream].title,
        )

    def _mood(self, event: events.MoodUpdated) -> messages.Message:
        return messages.Mood(
            **self._head(event.stream, event.at, topic="mood"),
            tagger=event.tagger,
            valence=event.valence,
            arousal=event.arousal,
            certainty=event.certainty,
        )

    def _head(self, stream: str, at: int, topic: str = "event") -> dict[str, Any]:
        """The common fields of the next message on `topic`."""
        head = self._count(f"{topic}/{stream}/")
        head |= {"stream": stream, "t": self._seconds(stream, at), "utc": self._utc(stream, at)}
        return head

    def not_up(
        self, stream: str, reason: events.Reason, detail: str, now_ns: int
    ) -> messages.StreamDown:
        """The next message on the stream's topic: it is down without having been up.

        Args:
            stream: its name.
            reason: why.
            detail: why, for people.
            now_ns: UTC in nanoseconds since 1970.
        """
        return messages.StreamDown(
            **self._count(f"event/{stream}/"),
            stream=stream,
            t=0.0,
            utc=rfc3339(now_ns),
            reason=reason.value,
            detail=detail,
        )

    def stats(self, counters: Mapping[str, float], now_ns: int) -> messages.Stats:
        """The next message on topic `stats/`; `now_ns` is UTC in nanoseconds since 1970."""
        return messages.Stats(**self._own_head(now_ns), counters=dict(counters))

    def notice(self, text: str, now_ns: int) -> messages.Notice:
        """The next message on topic `stats/`, for people; `now_ns` as in `stats`."""
        return messages.Notice(**self._own_head(now_ns), text=text)

    def _own_head(self, now_ns: int) -> dict[str, Any]:
        """The common fields of the next message that is about no stream."""
        since = (now_ns - self._start_ns) / 1e9
        return self._count("stats/") | {"stream": "", "t": since, "utc": rfc3339(now_ns)}

    def _count(self, topic: str) -> dict[str, Any]:
        """Epoch and number of the next message on a topic."""
        self._seq[topic] = seq = self._seq.get(topic, 0) + 1
        return {"epoch": self._epoch(topic), "seq": seq}

    def _epoch(self, topic: str) -> str:
        """Of the numbers of a topic."""
        if (epoch := self._epochs.get(topic)) is None:
            kept = topic.startswith(self._kept.prefixes)
            epoch = self._kept.epochs.get(topic, self._kept.epoch) if kept else self._run
            self._epochs[topic] = epoch
        return epoch

    def _seconds(self, stream: str, at: int) -> float:
        return at / self._lines[stream].rate

    def _utc(self, stream: str, at: int) -> str:
        line = self._lines[stream]
        return utc(line.epoch_ns, at, line.rate)
