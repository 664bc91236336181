"""The newest scores and moods of every tagger, for those who come late."""

from collections.abc import Iterator

from streamtag.feed.messages import Message, Mood, Scores, StreamDown


class Newest:
    """Payloads, word for word as they were published."""

    def __init__(self) -> None:
        self._bodies: dict[str, dict[str, bytes]] = {}  # topic -> tagger -> payload

    def take(self, message: Message, body: bytes) -> None:
        """Learns from the next message."""
        if isinstance(message, (Scores, Mood)):
            self._bodies.setdefault(message.topic, {})[message.tagger] = body
        elif isinstance(message, StreamDown):
            for name in ("scores", "mood"):
                self._bodies.pop(f"{name}/{message.stream}/", None)

    def __iter__(self) -> Iterator[bytes]:
        for by_tagger in self._bodies.values():
            yield from by_tagger.values()
