"""`streamtag mqtt`: the feed as retained state at an MQTT broker, for home automation."""

import logging
import secrets
import time
from pathlib import Path

from streamtag.bridges.bridge import carry, configured, ending
from streamtag.bridges.mqtt.connection import Link
from streamtag.bridges.mqtt.discovery import config_topic, device, node, steps
from streamtag.bridges.mqtt.topics import (
    OFF,
    OFFLINE,
    ON,
    ONLINE,
    bridge_topic,
    daemon_topic,
    measured_topics,
    stream_topics,
)
from streamtag.bridges.retained import Retained
from streamtag.bridges.vocabulary import TagVocabulary
from streamtag.config.bridges import MqttConfig
from streamtag.config.fields import read_secret
from streamtag.feed.client.stream_state import StreamStates
from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.messages import (
    Message,
    Mood,
    Scores,
    StreamDown,
    StreamUp,
    TaggersChanged,
    TagOn,
)

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How long a broker may take to tell what it holds; one that never tells is not asked for more."""
FILE_SECONDS = 2.0
"""How soon another configuration file is noticed."""
FAREWELL_SECONDS = 2.0
SWEEP_SECONDS = 1.0
"""How long after the daemon's first word what it did not speak of is taken away."""
WAIT_SECONDS = 0.1


class MqttBridge:
    """Holds what is to stand at the broker against what the feed says.

    Args:
        config: of the bridge.
        vocabulary: the tags of each stream.
        link: to the broker.
    """

    def __init__(self, config: MqttConfig, vocabulary: TagVocabulary, link: Link) -> None:
        self._config, self._vocabulary, self._link = config, vocabulary, link
        self._states, self._retained = StreamStates(), Retained()
        self._devices: dict[str, tuple[object, ...]] = {}
        self._listed: set[str] = set()
        self._measured: dict[str, dict[str, None]] = {"scores": {}, "mood": {}}
        self._next = {"scores": 0.0, "mood": 0.0}
        self._heard, self._heard_since, self._swept = False, 0.0, False
        self._generation, self._looking_until, self._word = 0, 0.0, b""
        self._found: dict[str, bytes] = {}
        self._next_file = 0.0
        self._say_whether_heard()
        self._follow_file()

    def take(self, message: Message | MissedMessages) -> None:
        """Learns from one message of the feed."""
        name = self._states.update(message)
        if not name or not self._is_wanted(name):
            return
        if isinstance(message, Scores | Mood):
            self._measured["scores" if isinstance(message, Scores) else "mood"][name] = None
            return
        if isinstance(message, StreamUp | TaggersChanged | StreamDown):
            self._vocabulary.refresh()
        if isinstance(message, StreamDown) and message.removed:
            self._drop(name)
        else:
            self._show(name)

    def tick(self, *, heard: bool) -> None:
        """What is due now.

        Args:
            heard: the daemon lives.
        """
        if heard != self._heard:
            self._heard, self._heard_since = heard, time.monotonic()
            log.info("mqtt: the daemon is %s", "there" if heard else "gone; nothing is on")
            self._say_whether_heard()
            for name in self._states:
                self._show(name)
        now = time.monotonic()
        if now >= self._next_file:
            self._next_file = now + FILE_SECONDS
            self._follow_file()
        for kind in ("scores", "mood"):
            self._measure(kind, now)
        self._flush()

    def close(self) -> None:
        """Leaves nothing on behind, and says that nobody is there."""
        self.tick(heard=False)
        gone = {topic(self._config.prefix): OFFLINE for topic in (bridge_topic, daemon_topic)}
        self._retained.want("bridge", gone)
        deadline = time.monotonic() + FAREWELL_SECONDS
        while time.monotonic() < deadline and self._link.up:
            self._flush()
            if not self._retained.waiting and not self._link.unacknowledged:
                break
            time.sleep(0.01)
        self._link.close()

    def _is_wanted(self, name: str) -> bool:
        return self._config.streams is None or name in self._config.streams

    def _say_whether_heard(self) -> None:
        prefix = self._config.prefix
        daemon = ONLINE if self._heard else OFFLINE
        self._retained.want("bridge", {bridge_topic(prefix): ONLINE, daemon_topic(prefix): daemon})

    def _follow_file(self) -> None:
        """Streams that the configuration file has or has no more."""
        self._vocabulary.refresh()
        listed = {name for name in self._vocabulary.config.streams if self._is_wanted(name)}
        for name in self._listed - listed:
            if not self._states[name].up:
                self._drop(name)
        for name in sorted(listed - self._listed):
            self._show(name)
        self._listed = listed

    def _tags(self, name: str) -> dict[str, str]:
        """Tags of a stream that are told, with their names for people."""
        now = self._states[name]
        tags = self._vocabulary.of(name, now.taggers)
        for tag, news in now.last.items():  # a daemon may have been told more than its file says
            if isinstance(news, TagOn):
                tags.setdefault(tag, news.display or tag)
            elif news.reason not in ("configuration", "model_swapped"):
                tags.setdefault(tag, tag)
        chosen = self._config.tags
        return {t: display for t, display in tags.items() if chosen is None or t in chosen}

    def _show(self, name: str) -> None:
        config, now, tags = self._config, self._states[name], self._tags(name)
        topics = stream_topics(config.prefix, name, now, tags, heard=self._heard)
        self._retained.want(f"state {name}", topics)
        about = (tags, now.models)
        if config.discovery and self._devices.get(name) != about:
            self._devices[name] = about
            topic = config_topic(config.discovery, config.prefix, name)
            body = device(config.prefix, name, tags, now.models, mood=config.mood_seconds > 0)
            self._retained.want(f"device {name}", {topic: body})
        if not now.up:
            for kind in ("scores", "mood"):
                self._retained.want(f"{kind} {name}", {})

    def _measure(self, kind: str, now: float) -> None:
        """Scores or moods that came since the last time, if it is time."""
        names = self._measured[kind]
        if not names or now < self._next[kind]:
            return
        seconds = self._config.scores_seconds if kind == "scores" else self._config.mood_seconds
        self._next[kind] = now + seconds
        scores, mood = kind == "scores", kind == "mood"
        for name in names:
            stream, tags = self._states[name], self._tags(name)
            prefix = self._config.prefix
            topics = measured_topics(prefix, name, stream, tags, scores=scores, mood=mood)
            self._retained.want(f"{kind} {name}", topics if stream.up else {})
        names.clear()

    def _drop(self, name: str) -> None:
        """A stream was removed: so is everything that stands for it."""
        self._states.remove(name)
        self._devices.pop(name, None)
        for kind in ("state", "device", "scores", "mood"):
            self._retained.want(f"{kind} {name}", {})

    def _flush(self) -> None:
        """Publishes what differs, as far as the broker keeps up."""
        if self._link.generation != self._generation:
            self._generation = self._link.generation
            self._look()
        if self._looking_until and not self._looked():
            return
        self._sweep()
        room = self._link.room
        while room > 0:
            if (change := next(self._retained.due(), None)) is None:
                return
            topic, stands, wanted = change
            for payload in steps(stands, wanted) if self._is_device(topic) else [wanted]:
                if not self._link.publish(topic, payload):
                    return  # the connection is gone: the next one begins anew
                room -= 1
            self._retained.put(topic, wanted)

    def _look(self) -> None:
        """A new connection: what does the broker hold already? Our own word says when that is all,
        since it comes back after everything retained."""
        self._found, self._word = {}, secrets.token_hex(8).encode()
        self._looking_until = time.monotonic() + LOOK_SECONDS
        self._link.publish(f"{self._config.prefix}/looking", self._word, retain=False)

    def _looked(self) -> bool:
        for topic, payload, retained in self._link.heard():
            if retained:
                self._found[topic] = payload
            elif payload == self._word:
                self._looking_until = 0.0
        if self._looking_until > time.monotonic():
            return False
        self._looking_until, self._swept = 0.0, False
        self._link.unsubscribe()
        self._retained.connected(self._found)
        host, port = self._config.address
        log.info("mqtt %s:%d: connected, %d topics", host, port, len(self._retained))
        return True

    def _sweep(self) -> None:
        """What others before us left at the broker goes, once the daemon has said what there is;
        until then it is at least not on."""
        if self._swept or not self._link.up:
            return
        if self._heard and time.monotonic() >= self._heard_since + SWEEP_SECONDS:
            self._swept = True
            self._retained.sweep()
            return
        for topic, payload in self._retained.strangers().items():
            kind = topic.rpartition("/")[2]
            quiet = {"state": OFF, "silence": OFF, "availability": OFFLINE}.get(kind)
            if quiet and payload in (ON, ONLINE) and self._link.publish(topic, quiet):
                self._retained.put(topic, quiet)

    def _is_device(self, topic: str) -> bool:
        return bool(self._config.discovery) and topic.startswith(f"{self._config.discovery}/device")


def listened(config: MqttConfig) -> tuple[str, ...]:
    """The topics under which what this bridge told before would stand."""
    devices = f"{config.discovery}/device/{node(config.prefix)}/+/config"
    return (f"{config.prefix}/#", *[devices] * bool(config.discovery))


def run(path: Path) -> int:
    """Runs the bridge until it is told to end; its exit code.

    Args:
        path: of the daemon's configuration.

    Raises:
        StreamtagError: the configuration, its password or the feed's keys cannot be used.
    """
    vocabulary = TagVocabulary(path)
    config = configured(vocabulary.config.mqtt, path, "[mqtt]", "mqtt.md")
    password = read_secret(
        "mqtt.password", config.password, config.password_file, config.password_env
    )
    link = Link(config, password, listened(config))
    with ending() as end:
        link.start()
        carry(
            MqttBridge(config, vocabulary, link),
            vocabulary.config,
            end,
            WAIT_SECONDS,
            streams=config.streams,
            scores=config.scores_seconds > 0,
            mood=config.mood_seconds > 0,
        )
    return 0
