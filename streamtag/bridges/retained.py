"""What is to stand at a broker, against what stands there: only the difference is published."""

from collections.abc import Iterator, Mapping


class Retained:
    """Topics and payloads in groups; a later wish for a topic takes the place of an earlier one.

    However slow the broker is, no more waits here than one payload per topic.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, bytes]] = {}
        self._wanted: dict[str, bytes] = {}
        self._stands: dict[str, bytes] = {}
        self._due: dict[str, None] = {}  # topics, in the order in which they changed

    def want(self, group: str, topics: Mapping[str, bytes]) -> None:
        """Everything of a group that is to stand; what stood before and is not named goes."""
        before = self._groups.get(group, {})
        for topic in before.keys() - topics.keys():
            self._wanted.pop(topic, None)
            self._due[topic] = None
        for topic, payload in topics.items():
            if self._wanted.get(topic) != payload:
                self._wanted[topic] = payload
                self._due[topic] = None
        if topics:
            self._groups[group] = dict(topics)
        else:
            self._groups.pop(group, None)

    def connected(self, stands: Mapping[str, bytes]) -> None:
        """A new connection: this is what stands there, everything else is due."""
        self._stands = dict(stands)
        self._due = dict.fromkeys(self._wanted)

    def strangers(self) -> dict[str, bytes]:
        """What stands there though nobody wants it."""
        return {t: payload for t, payload in self._stands.items() if t not in self._wanted}

    def sweep(self) -> None:
        """Has everything go that nobody wants."""
        self._due |= dict.fromkeys(self.strangers())

    def put(self, topic: str, payload: bytes) -> None:
        """This was published."""
        if payload:
            self._stands[topic] = payload
        else:
            self._stands.pop(topic, None)

    def due(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Topics that are to change, as far as they are taken: topic, what stands, what is to;
        empty payloads for nothing."""
        while self._due:
            topic = next(iter(self._due))
            del self._due[topic]
            stands, wanted = self._stands.get(topic, b""), self._wanted.get(topic, b"")
            if stands != wanted:
                yield topic, stands, wanted

    @property
    def wanted(self) -> Mapping[str, bytes]:
        """Everything that is to stand."""
        return self._wanted

    def __contains__(self, group: str) -> bool:
        return group in self._groups

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def waiting(self) -> int:
        """Topics that are due."""
        return len(self._due)
