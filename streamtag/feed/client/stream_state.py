"""What a feed says is so now, stream by stream: for programs that show states, not events."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.messages import (
    Message,
    Mood,
    Scores,
    SilenceOff,
    SilenceOn,
    StreamDown,
    StreamStatus,
    StreamUp,
    TaggersChanged,
    TagOff,
    TagOn,
    Title,
)

LASTING = ("failed", "paused")
"""States of a source that outlive its stream."""


@dataclass(slots=True)
class StreamState:
    """What is known of one stream."""

    status: str = "unknown"
    """As in `stream_status`; `down` after `stream_down`, `unknown` before anything was said."""
    cause: str = ""
    detail: str = ""
    """For people: why."""
    title: str = ""
    silent: bool = False
    taggers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    on: dict[str, dict[str, TagOn]] = field(default_factory=dict)
    """What is on: tag -> tagger -> since when."""
    last: dict[str, TagOn | TagOff] = field(default_factory=dict)
    """The newest news of each tag."""
    scores: dict[str, Scores] = field(default_factory=dict)
    """The newest of each tagger."""
    mood: Mood | None = None

    @property
    def up(self) -> bool:
        """Whether audio comes."""
        return self.status == "up"

    def update(self, message: Message) -> None:
        """Learns from one message about this stream."""
        match message:
            case StreamUp() | TaggersChanged():
                self.taggers, self.models = message.taggers, message.models
                if isinstance(message, StreamUp):
                    self.status, self.cause, self.detail = "up", "", ""
            case StreamStatus():
                self.status, self.cause, self.detail = message.state, message.cause, message.detail
            case StreamDown():
                self._down(message)
            case Title():
                self.title = message.title
            case SilenceOn() | SilenceOff():
                self.silent = isinstance(message, SilenceOn)
            case TagOn():
                self.on.setdefault(message.tag, {})[message.tagger] = message
                self.last[message.tag] = message
            case TagOff():
                self._off(message)
            case Scores():
                self.scores[message.tagger] = message
            case Mood():
                self.mood = message

    def clear_active(self) -> None:
        """What was on is not known any more."""
        self.on.clear()
        self.silent = False

    def _off(self, message: TagOff) -> None:
        by_tagger = self.on.get(message.tag, {})
        by_tagger.pop(message.tagger, None)
        if not by_tagger:
            self.on.pop(message.tag, None)
        self.last[message.tag] = message

    def _down(self, message: StreamDown) -> None:
        self.clear_active()
        self.title, self.mood = "", None
        self.scores.clear()
        if message.final or self.status not in LASTING:
            self.status, self.cause, self.detail = "down", "", message.detail


class StreamStates:
    """All streams of a feed, as its messages tell them."""

    def __init__(self) -> None:
        self._streams: dict[str, StreamState] = {}

    def update(self, message: Message | MissedMessages) -> str:
        """Learns from one message.

        Returns:
            The stream that it is about; empty for none.
        """
        if isinstance(message, MissedMessages):
            return self._missed(message)
        if isinstance(message, Scores | Mood) and message.stream not in self._streams:
            return message.stream  # late: it was removed
        if message.stream:
            self[message.stream].update(message)
        return message.stream

    def __getitem__(self, name: str) -> StreamState:
        return self._streams.setdefault(name, StreamState())

    def __iter__(self) -> Iterator[str]:
        yield from list(self._streams)

    def remove(self, name: str) -> None:
        """Forgets a stream that was removed."""
        self._streams.pop(name, None)

    def _missed(self, missed: MissedMessages) -> str:
        """What was on is forgotten; what is in force follows, if the journal knows it."""
        kind, _, rest = missed.topic.partition("/")
        name = rest.rstrip("/")
        if kind != "event" or not name:
            return ""
        if missed.restarted or missed.reason == "retention":
            self._streams[name] = StreamState()
        else:
            self[name].clear_active()
        return name
