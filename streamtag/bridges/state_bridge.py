"""The base class of bridges that keep a receiver up to date with the state of streams."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from streamtag.bridges.bridge import DaemonLiveness, Shutdown, feed_access
from streamtag.bridges.vocabulary import TagVocabulary
from streamtag.feed.client.stream_state import StreamStates
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.client.tracker import FeedItem
from streamtag.feed.messages import Mood, Scores, StreamDown, StreamUp, TaggersChanged

log = logging.getLogger(__name__)


class DesiredState:
    """What a receiver should hold, and what was published to it. Only differences are sent.

    Topics come in groups. However slow the receiver is, at most one payload per topic waits.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, bytes]] = {}
        self._desired: dict[str, bytes] = {}
        self._published: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}  # topics, in the order in which they changed

    def set_group(self, group: str, topics: Mapping[str, bytes]) -> None:
        """Replaces the topics of a group and their payloads."""
        before = self._groups.get(group, {})
        for topic in before.keys() - topics.keys():
            self._desired.pop(topic, None)
            self._changed[topic] = None
        for topic, payload in topics.items():
            if self._desired.get(topic) != payload:
                self._desired[topic] = payload
                self._changed[topic] = None
        if topics:
            self._groups[group] = dict(topics)
        else:
            self._groups.pop(group, None)

    def reset_published(self, published: Mapping[str, bytes]) -> None:
        """Starts a new connection: the receiver holds `published`, everything else is due."""
        self._published = dict(published)
        self._changed = dict.fromkeys(self._desired)

    def leftovers(self) -> dict[str, bytes]:
        """Topics with payloads that the receiver holds and should not."""
        return {t: payload for t, payload in self._published.items() if t not in self._desired}

    def remove_leftovers(self) -> None:
        """Makes the removal of all leftovers due."""
        self._changed |= dict.fromkeys(self.leftovers())

    def mark_published(self, topic: str, payload: bytes) -> None:
        """Notes that a payload was published; an empty one removes the topic."""
        if payload:
            self._published[topic] = payload
        else:
            self._published.pop(topic, None)

    def changes(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Removes and yields what is due: topic, published and desired payload; empty for none."""
        while self._changed:
            topic = next(iter(self._changed))
            del self._changed[topic]
            published, desired = self._published.get(topic, b""), self._desired.get(topic, b"")
            if published != desired:
                yield topic, published, desired

    @property
    def desired(self) -> Mapping[str, bytes]:
        """All topics that the receiver should hold."""
        return self._desired

    def __contains__(self, group: str) -> bool:
        return group in self._groups

    def __len__(self) -> int:
        return len(self._desired)

    @property
    def n_changed(self) -> int:
        """Number of topics that may be due."""
        return len(self._changed)


class StateBridge(ABC):
    """Follows the feed and keeps a receiver's state up to date.

    `name` is for the log. Only the `streams` are published; None for all.
    """

    def __init__(
        self, name: str, streams: tuple[str, ...] | None, vocabulary: TagVocabulary
    ) -> None:
        self._name, self._streams, self._vocabulary = name, streams, vocabulary
        self._states, self._state = StreamStates(), DesiredState()
        self._daemon_alive = False

    @abstractmethod
    def set_daemon(self) -> None:
        """Sets the desired state of the topics about the daemon."""

    @abstractmethod
    def set_stream(self, stream: str) -> None:
        """Sets the desired state of a stream's topics."""

    @abstractmethod
    def set_measurement(self, stream: str, message: Scores | Mood) -> None:
        """Sets the desired state of scores or mood, now or when they are due."""

    @abstractmethod
    def publish(self) -> None:
        """Publishes what is due."""

    @abstractmethod
    def close(self) -> None:
        """Publishes that nothing is on, and ends the connection."""

    def run(self, shutdown: Shutdown, wait_seconds: float, *, scores: bool, mood: bool) -> None:
        """Publishes what the daemon publishes until the shutdown.

        `wait_seconds` is the longest time between two calls of `tick`.
        """
        config = self._vocabulary.config
        with Subscriber(
            **feed_access(config), streams=self._streams, scores=scores, mood=mood
        ) as feed:
            liveness = DaemonLiveness(feed, config.feed.beat_seconds)
            while not shutdown:
                message = feed.receive(wait_seconds)
                if message is not None:
                    liveness.update(message)
                    self.update(message)
                self.tick(daemon_alive=liveness.alive)
        self.close()

    def update(self, message: FeedItem) -> None:
        """Updates the desired state from one message of the feed."""
        stream = self._states.update(message)
        if not stream or not self.is_wanted(stream):
            return
        if isinstance(message, Scores | Mood):
            self.set_measurement(stream, message)
            return
        if isinstance(message, StreamUp | TaggersChanged | StreamDown):
            self._vocabulary.refresh()
        if isinstance(message, StreamDown) and message.removed:
            self.remove_stream(stream)
        else:
            self.set_stream(stream)

    def tick(self, *, daemon_alive: bool) -> None:
        """Publishes what is due now. Nothing is on where the daemon is not alive."""
        if daemon_alive != self._daemon_alive:
            self._daemon_alive = daemon_alive
            log.info("%s: the daemon is %s", self._name, "up" if daemon_alive else "gone")
            self.set_daemon()
            for stream in self._states:
                self.set_stream(stream)
        self.publish()

    def is_wanted(self, stream: str) -> bool:
        """Whether the configuration chooses a stream."""
        return self._streams is None or stream in self._streams

    def remove_stream(self, stream: str) -> None:
        """Removes all topics of a stream."""
        self._states.remove(stream)
        for group in ("state", "device", "scores", "mood"):
            self._state.set_group(f"{group} {stream}", {})

    def smoothed_scores(self, stream: str, tags: Mapping[str, str]) -> dict[str, float]:
        """The last smoothed probabilities of some tags, of all taggers together."""
        found: dict[str, float] = {}
        for message in self._states[stream].scores.values():
            pairs = zip(message.tags, message.smoothed, strict=True)
            found |= {tag: value for tag, value in pairs if tag in tags}
        return found
