"""Bridges that keep a receiver up to date: the state that it should hold, tags, base class."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from streamtag.bridges.bridge import (
    DaemonLiveness,
    Shutdown,
    feed_access,
    load_running_config,
)
from streamtag.config.config import Config, load_config
from streamtag.config.model_fit import bundle_of, display_names
from streamtag.config.tuning import Tuning
from streamtag.engine.mood import position_of
from streamtag.engine.settings import TaggerSettings
from streamtag.engine.smoothing import Settled, SwitchSettings
from streamtag.errors import BundleError, StreamtagError
from streamtag.feed.client.stream_state import StreamStates
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.client.tracker import FeedItem
from streamtag.feed.messages import Mood, Scores, StreamDown, StreamUp, TaggersChanged
from streamtag.feed.rights import matches
from streamtag.model.bundle import read_card
from streamtag.model.card import Card
from streamtag.model.shipped import default_bundle

log = logging.getLogger(__name__)


class DesiredState:
    """What a receiver should hold, and what was published to it. Only differences are sent.

    Topics come in groups. However slow the receiver is, at most one payload per topic waits.
    """

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, bytes]] = {}
        self.desired: dict[str, bytes] = {}
        """All topics that the receiver should hold."""
        self._published: dict[str, bytes] = {}
        self.changed: dict[str, None] = {}
        """Topics that may be due, in the order in which they changed."""

    def set_group(self, group: str, topics: Mapping[str, bytes]) -> None:
        """Replaces the topics of a group and their payloads."""
        before = self.groups.pop(group, {})
        for topic in before.keys() - topics.keys():
            self.desired.pop(topic, None)
            self.changed[topic] = None
        for topic, payload in topics.items():
            if self.desired.get(topic) != payload:
                self.desired[topic] = payload
                self.changed[topic] = None
        if topics:
            self.groups[group] = dict(topics)

    def reset_published(self, published: Mapping[str, bytes]) -> None:
        """Starts a new connection: the receiver holds `published`, everything else is due."""
        self._published = dict(published)
        self.changed = dict.fromkeys(self.desired)

    def leftovers(self) -> dict[str, bytes]:
        """Topics with payloads that the receiver holds and should not."""
        return {t: payload for t, payload in self._published.items() if t not in self.desired}

    def remove_leftovers(self) -> None:
        """Makes the removal of all leftovers due."""
        self.changed |= dict.fromkeys(self.leftovers())

    def mark_published(self, topic: str, payload: bytes) -> None:
        """Notes that a payload was published; an empty one removes the topic."""
        if payload:
            self._published[topic] = payload
        else:
            self._published.pop(topic, None)

    def changes(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Removes and yields what is due: topic, published and desired payload; empty for none."""
        while self.changed:
            topic = next(iter(self.changed))
            del self.changed[topic]
            published, desired = self._published.get(topic, b""), self.desired.get(topic, b"")
            if published != desired:
                yield topic, published, desired


class TagVocabulary:
    """The tags of each stream. It follows the daemon's configuration file when that changes.

    Raises:
        StreamtagError: the configuration is not valid, or a model in it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._modified = _modification_time(path)
        self._use(load_running_config(path))

    def refresh(self) -> None:
        """Reads the file again if it has changed; a file with errors is ignored and logged."""
        modified = _modification_time(self._path)
        if modified == self._modified:
            return
        self._modified = modified
        try:
            self._use(load_config(self._path))
        except StreamtagError as error:
            log.warning("%s: keeping the configuration before this change: %s", self._path, error)

    def follow(self, config: Config) -> None:
        """Uses another configuration, which a daemon says it runs with, until the file changes.

        Raises:
            BundleError: a model in it cannot be read.
        """
        if config != self.config:
            self._use(config)

    def tags_of(self, stream: str, taggers: Iterable[str] = ()) -> dict[str, str]:
        """The tags of a stream that may switch on, with their display names.

        The taggers are those that the feed has named, if any; otherwise those of the file.
        """
        table = self.config.streams.get(stream)
        keys = self.config.stream(stream) if table else None
        names = [*taggers] or [*((keys and keys.taggers) or self.config.taggers)]
        language = keys.language if keys else self.config.defaults.language
        found: dict[str, str] = {}
        for tagger in names:
            if (card := self._cards.get(tagger)) is None:
                continue
            own = keys.tuning.get(tagger, Tuning()) if keys else Tuning()
            display = display_names(self.config, language, card)
            found |= {tag: display.get(tag, tag) for tag in self._enabled(tagger, own, card)}
        return found

    def descriptions(
        self, stream: str, taggers: Iterable[str] = (), language: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """What is known of each tag of a stream that may switch on, for JSON.

        That is its category, its on threshold, its position on the mood plane (None for tags
        without one) and its name in the language, if the configuration has that. Taggers as in
        `tags_of`.
        """
        table = self.config.streams.get(stream)
        keys = self.config.stream(stream) if table else None
        names = self.config.languages.get(language or "", {})
        found: dict[str, dict[str, Any]] = {}
        for tagger in [*taggers] or [*((keys and keys.taggers) or self.config.taggers)]:
            if (card := self._cards.get(tagger)) is None:
                continue
            own = keys.tuning.get(tagger, Tuning()) if keys else Tuning()
            for tag, on in self._enabled(tagger, own, card).items():
                found[tag] = {
                    "category": category_of(tag, card),
                    "threshold": round(on, 6),
                    "position": position_of(tag),
                    "name": names.get(tag, ""),
                }
        return found

    def switch_of(
        self, stream: str, tagger: str, tag: str, on: float | None = None
    ) -> tuple[Card, SwitchSettings]:
        """A tagger, and how one of its tags is switched on a stream, as if others never were.

        Times are in nanoseconds, and nothing is smoothed. `on` replaces the tag's on threshold.

        Raises:
            ValueError: there is no such tagger or tag.
            ConfigError: the thresholds do not fit together.
        """
        card = self._cards.get(tagger)
        if card is None or tag not in card.tags:
            raise ValueError(f"expected a tagger and one of its tags, got {tagger!r}, {tag!r}")
        table = self.config.streams.get(stream)
        own = self.config.stream(stream).tuning.get(tagger, Tuning()) if table else Tuning()
        if on is not None:
            own = Tuning(on_thresholds={tag: on}).over(own)
        settings = replace(self._settings(tagger, own, card), tags=(tag,))
        _, on_times, off_times = settings.times(card)
        settled = Settled.of(settings, card, 1e9)
        thresholds = settings.thresholds(card)
        return card, SwitchSettings(*thresholds, on_times * 1e9, off_times * 1e9, settled=settled)

    def _settings(self, tagger: str, own: Tuning, card: Card) -> TaggerSettings:
        tuning = own.over(self.config.taggers[tagger].tuning)
        return tuning.over(self.config.defaults.tuning.known(card.tags)).settings()

    def _enabled(self, tagger: str, own: Tuning, card: Card) -> dict[str, float]:
        """The tags that may switch on, with their on thresholds."""
        high, _ = self._settings(tagger, own, card).thresholds(card)
        return {tag: float(on) for tag, on in zip(card.tags, high, strict=True) if np.isfinite(on)}

    def _use(self, config: Config) -> None:
        self._cards: dict[str, Card] = {
            name: read_card(bundle_of(tagger)) for name, tagger in config.taggers.items()
        }
        self.config = config


def category_of(tag: str, card: Card) -> str:
    """A tag's category: by its card, by what stands before dashes (`genre---rock`), or by the
    default model's card. Empty if nobody knows."""
    if known := card.categories.get(tag) or tag.rpartition("---")[0]:
        return known
    return _default_categories().get(tag.lower(), "")


def known_categories(tags: Iterable[str]) -> dict[str, str]:
    """The categories of tags without their cards."""
    found = {tag: tag.rpartition("---")[0] for tag in tags}
    return {tag: name or _default_categories().get(tag.lower(), "") for tag, name in found.items()}


@cache
def _default_categories() -> dict[str, str]:
    try:
        return read_card(default_bundle()).categories
    except BundleError:
        return {}


def _modification_time(path: Path) -> int:
    """In nanoseconds; 0 if there is no file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


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
        return self._streams is None or matches(self._streams, stream)

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
