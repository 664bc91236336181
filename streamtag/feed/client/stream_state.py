"""The current state of every stream, for programs that show states instead of events."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.messages import (
    DERIVED_TOPICS,
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
"""A source keeps these states after its stream has ended."""


@dataclass(slots=True)
class StreamState:
    """The state of one stream."""

    status: str = "unknown"
    """As in `stream_status`; `down` after `stream_down`, `unknown` before the first message."""
    cause: str = ""
    detail: str = ""
    """The cause in words."""
    since: str = ""
    """`utc` of the message since which it is so: of the silence, if there is one."""
    title: str = ""
    silent: bool = False
    taggers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    on: dict[str, dict[str, TagOn]] = field(default_factory=dict)
    """The tags that are on: tag -> tagger -> its `tag_on`."""
    last: dict[str, TagOn | TagOff] = field(default_factory=dict)
    """The newest event of each tag."""
    scores: dict[str, Scores] = field(default_factory=dict)
    """The newest scores of each tagger."""
    mood: Mood | None = None
    newest: Message | None = None
    """The newest message that is neither scores nor a mood."""

    @property
    def up(self) -> bool:
        """Whether audio is received."""
        return self.status == "up"

    def update(self, message: Message) -> None:
        """Applies a message about this stream."""
        if isinstance(message, StreamStatus | StreamUp | StreamDown | SilenceOn | SilenceOff):
            self.since = message.utc
        if not isinstance(message, Scores | Mood):
            self.newest = message
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
        """Forgets which tags are on."""
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
    """The states of all streams of a feed."""

    def __init__(self) -> None:
        self._streams: dict[str, StreamState] = {}

    def update(self, message: Message | MissedMessages) -> str:
        """Applies a message.

        Returns:
            The name of its stream; empty if it is about none.
        """
        if isinstance(message, MissedMessages):
            return self._missed(message)
        if message.topic.startswith(DERIVED_TOPICS):
            return ""  # it says nothing new of the stream
        if isinstance(message, Scores | Mood) and message.stream not in self._streams:
            return message.stream  # the stream was removed before
        if message.stream:
            self[message.stream].update(message)
        return message.stream

    def __getitem__(self, name: str) -> StreamState:
        return self._streams.setdefault(name, StreamState())

    def __iter__(self) -> Iterator[str]:
        yield from list(self._streams)

    def remove(self, name: str) -> None:
        """Removes a stream."""
        self._streams.pop(name, None)

    def _missed(self, missed: MissedMessages) -> str:
        """Clears what was on; the messages in force follow, if the journal has them."""
        kind, _, rest = missed.topic.partition("/")
        name = rest.rstrip("/")
        if kind != "event" or not name:
            return ""
        if missed.restarted or missed.reason == "retention":
            self._streams[name] = StreamState()
        else:
            self[name].clear_active()
        return name
