"""`streamtag mqtt`: publishes the state of all streams at an MQTT broker, for home automation."""

import logging
import secrets
import time
from pathlib import Path

from streamtag.bridges.bridge import required_table, shutdown_on_signals
from streamtag.bridges.mqtt.connection import BrokerConnection
from streamtag.bridges.mqtt.topics import (
    OFF,
    OFFLINE,
    ON,
    ONLINE,
    bridge_topic,
    daemon_topic,
    device_payload,
    device_updates,
    discovery_topic,
    mood_topic,
    scores_topic,
    stream_topics,
)
from streamtag.bridges.state_bridge import StateBridge, TagVocabulary
from streamtag.config.bridges import MqttConfig
from streamtag.config.fields import read_secret
from streamtag.feed.messages import Mood, Scores, TagOn

log = logging.getLogger(__name__)

READ_BACK_SECONDS = 2.0
"""How long a broker may take to send its retained messages. A broker that does not allow
reading them never sends them."""
FILE_SECONDS = 2.0
"""How often the configuration file is checked for changes."""
CLOSE_SECONDS = 2.0
"""How long the last messages may take at the end."""
CLEAN_UP_SECONDS = 1.0
"""How long after the daemon's state has arrived unknown retained messages are removed."""
WAIT_SECONDS = 0.1
"""Longest time between two checks of what is due."""


class MqttBridge(StateBridge):
    """Keeps the broker's retained messages up to date with the feed."""

    def __init__(
        self, config: MqttConfig, vocabulary: TagVocabulary, connection: BrokerConnection
    ) -> None:
        super().__init__("mqtt", config.streams, vocabulary)
        self._config, self._connection = config, connection
        self._devices: dict[str, tuple[object, ...]] = {}
        self._listed: set[str] = set()
        self._measured: dict[str, dict[str, None]] = {"scores": {}, "mood": {}}
        self._next = {"scores": 0.0, "mood": 0.0, "file": 0.0}
        self._alive_since, self._cleaned_up = 0.0, False
        self._generation, self._read_back_until, self._marker = 0, 0.0, b""
        self._found: dict[str, bytes] = {}
        self.set_daemon()
        self._follow_file()

    def tick(self, *, daemon_alive: bool) -> None:
        """Publishes what is due now."""
        now = time.monotonic()
        if daemon_alive and not self._daemon_alive:
            self._alive_since = now
        if now >= self._next["file"]:
            self._next["file"] = now + FILE_SECONDS
            self._follow_file()
        self._set_measurements("scores", self._config.scores_seconds, now)
        self._set_measurements("mood", self._config.mood_seconds, now)
        super().tick(daemon_alive=daemon_alive)

    def close(self) -> None:
        """Publishes that nothing is on and nobody is there, and ends the connection."""
        self.tick(daemon_alive=False)
        prefix = self._config.prefix
        offline = {bridge_topic(prefix): OFFLINE, daemon_topic(prefix): OFFLINE}
        self._state.set_group("bridge", offline)
        deadline = time.monotonic() + CLOSE_SECONDS
        while time.monotonic() < deadline and self._connection.up:
            self.publish()
            if not self._state.changed and not self._connection.n_unacknowledged:
                break
            time.sleep(0.01)
        self._connection.close()

    def set_daemon(self) -> None:
        """Sets the topics about bridge and daemon."""
        prefix, daemon = self._config.prefix, ONLINE if self._daemon_alive else OFFLINE
        topics = {bridge_topic(prefix): ONLINE, daemon_topic(prefix): daemon}
        self._state.set_group("bridge", topics)

    def set_stream(self, stream: str) -> None:
        """Sets the topics of a stream and its description for Home Assistant."""
        config, state, tags = self._config, self._states[stream], self._tags(stream)
        topics = stream_topics(config.prefix, stream, state, tags, alive=self._daemon_alive)
        self._state.set_group(f"state {stream}", topics)
        description = (tags, state.models)
        if config.discovery and self._devices.get(stream) != description:
            self._devices[stream] = description
            topic = discovery_topic(config.discovery, config.prefix, stream)
            mood = config.mood_seconds > 0
            payload = device_payload(config.prefix, stream, tags, state.models, mood=mood)
            self._state.set_group(f"device {stream}", {topic: payload})
        if not state.up:
            for group in ("scores", "mood"):
                self._state.set_group(f"{group} {stream}", {})

    def set_measurement(self, stream: str, message: Scores | Mood) -> None:
        """Notes that there are new scores or a new mood, which are published when due."""
        self._measured["scores" if isinstance(message, Scores) else "mood"][stream] = None

    def remove_stream(self, stream: str) -> None:
        """Removes all topics of a stream."""
        self._devices.pop(stream, None)
        super().remove_stream(stream)

    def publish(self) -> None:
        """Publishes what is due, as fast as the broker acknowledges it."""
        if self._connection.generation != self._generation:
            self._generation = self._connection.generation
            self._start_reading_back()
        if self._read_back_until and not self._has_read_back():
            return
        self._clean_up()
        room = self._connection.room
        while room > 0:
            if (change := next(self._state.changes(), None)) is None:
                return
            topic, published, desired = change
            device = self._config.discovery and topic.startswith(f"{self._config.discovery}/device")
            for payload in device_updates(published, desired) if device else [desired]:
                if not self._connection.publish(topic, payload):
                    return  # the connection is lost; the next one publishes everything anew
                room -= 1
            self._state.mark_published(topic, desired)

    def _follow_file(self) -> None:
        """Adds and removes streams as the configuration file does."""
        self._vocabulary.refresh()
        listed = {name for name in self._vocabulary.config.streams if self.is_wanted(name)}
        for name in self._listed - listed:
            if not self._states[name].up:
                self.remove_stream(name)
        for name in sorted(listed - self._listed):
            self.set_stream(name)
        self._listed = listed

    def _tags(self, stream: str) -> dict[str, str]:
        """The tags of a stream to publish, with their display names."""
        state = self._states[stream]
        tags = self._vocabulary.tags_of(stream, state.taggers)
        for tag, message in state.last.items():  # a daemon may have been given tags by commands
            if isinstance(message, TagOn):
                tags.setdefault(tag, message.display or tag)
            elif message.reason not in ("configuration", "model_swapped"):
                tags.setdefault(tag, tag)
        chosen = self._config.tags
        return {t: display for t, display in tags.items() if chosen is None or t in chosen}

    def _set_measurements(self, kind: str, seconds: float, now: float) -> None:
        """Sets the topics of new `scores` or `mood` if the last ones are `seconds` old."""
        streams = self._measured[kind]
        if not streams or now < self._next[kind]:
            return
        self._next[kind] = now + seconds
        prefix = self._config.prefix
        for stream in streams:
            state, topics = self._states[stream], {}
            if state.up and kind == "scores" and state.scores:
                scores = self.smoothed_scores(stream, self._tags(stream))
                topics = scores_topic(prefix, stream, scores)
            elif state.up and kind == "mood" and state.mood is not None:
                topics = mood_topic(prefix, stream, state.mood)
            self._state.set_group(f"{kind} {stream}", topics)
        streams.clear()

    def _start_reading_back(self) -> None:
        """After a new connection: finds out which messages the broker retains.

        They are complete when a message of our own, the marker, comes back.
        """
        self._found, self._marker = {}, secrets.token_hex(8).encode()
        self._read_back_until = time.monotonic() + READ_BACK_SECONDS
        self._connection.publish(f"{self._config.prefix}/looking", self._marker, retain=False)

    def _has_read_back(self) -> bool:
        for topic, payload, retained in self._connection.received():
            if retained:
                self._found[topic] = payload
            elif payload == self._marker:
                self._read_back_until = 0.0
        if self._read_back_until > time.monotonic():
            return False
        self._read_back_until, self._cleaned_up = 0.0, False
        self._connection.unsubscribe()
        self._state.reset_published(self._found)
        host, port = self._config.address
        log.info("mqtt %s:%d: connected, %d topics", host, port, len(self._state.desired))
        return True

    def _clean_up(self) -> None:
        """Removes retained messages of earlier bridges once the daemon has named its streams.

        Until then it switches off what is on among them.
        """
        if self._cleaned_up or not self._connection.up:
            return
        if self._daemon_alive and time.monotonic() >= self._alive_since + CLEAN_UP_SECONDS:
            self._cleaned_up = True
            self._state.remove_leftovers()
            return
        for topic, payload in self._state.leftovers().items():
            off = {"state": OFF, "silence": OFF, "availability": OFFLINE}.get(topic.split("/")[-1])
            if off and payload in (ON, ONLINE) and self._connection.publish(topic, off):
                self._state.mark_published(topic, off)


def run(path: Path) -> int:
    """Runs the bridge of a daemon's configuration until asked to end; returns the exit code.

    Raises:
        StreamtagError: the configuration, its password or the feed's keys cannot be used.
    """
    vocabulary = TagVocabulary(path)
    config = required_table(vocabulary.config.mqtt, path, "[mqtt]", "mqtt.md")
    password = read_secret(
        "mqtt.password", config.password, config.password_file, config.password_env
    )
    own = [f"{config.prefix}/#"]  # all that this bridge may have published earlier
    if config.discovery:
        own.append(discovery_topic(config.discovery, config.prefix, "+"))
    with shutdown_on_signals() as shutdown:
        bridge = MqttBridge(config, vocabulary, BrokerConnection(config, password, own))
        scores, mood = config.scores_seconds > 0, config.mood_seconds > 0
        bridge.run(shutdown, WAIT_SECONDS, scores=scores, mood=mood)
    return 0
