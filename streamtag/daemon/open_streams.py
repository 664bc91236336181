"""What is on in each open stream, so that somebody else can end it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamtag.engine.events import (
    Event,
    GapFound,
    Reason,
    SilenceEnded,
    SilenceStarted,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
)


@dataclass(slots=True)
class _OpenStream:
    at: int
    """One past the last sample that any event was about."""
    tags: dict[tuple[str, str], TagStarted] = field(default_factory=dict)
    """The active tags, by tagger and tag."""
    silence: SilenceStarted | None = None


class OpenStreams:
    """The open streams of a worker, according to its events."""

    def __init__(self) -> None:
        self._streams: dict[str, _OpenStream] = {}

    def observe(self, events: Iterable[Event]) -> None:
        """Takes the worker's next events."""
        for event in events:
            if isinstance(event, StreamOpened):
                self._streams[event.stream] = _OpenStream(event.at)
            elif isinstance(event, StreamClosed):
                self._streams.pop(event.stream, None)
            elif (stream := self._streams.get(event.stream)) is not None:
                _observe(stream, event)

    def end(self, reason: Reason, detail: str) -> list[Event]:
        """Events that end all tags, silences and streams, each where its last event was.

        The peak of a tag is what it had when it began, since nobody knows the later ones.
        """
        events: list[Event] = []
        for name, stream in self._streams.items():
            at = stream.at
            for tag in stream.tags.values():
                events.append(
                    TagEnded(name, tag.tagger, tag.tag, at, at, tag.at, tag.probability, reason)
                )
            if (silence := stream.silence) is not None:
                events.append(SilenceEnded(name, at, at, silence.at))
            events.append(StreamClosed(name, at, reason, detail))
        self._streams.clear()
        return events


def _observe(stream: _OpenStream, event: Event) -> None:
    if isinstance(event, (WindowScored, GapFound)):
        stream.at = max(stream.at, event.end)
    elif isinstance(event, TagStarted):
        stream.at = max(stream.at, event.decided)
        stream.tags[event.tagger, event.tag] = event
    elif isinstance(event, TagEnded):
        stream.tags.pop((event.tagger, event.tag), None)
    elif isinstance(event, SilenceStarted):
        stream.at = max(stream.at, event.decided)
        stream.silence = event
    elif isinstance(event, SilenceEnded):
        stream.silence = None
