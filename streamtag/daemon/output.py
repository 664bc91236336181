"""From events to the feed: messages, the mood plane that follows from them, what is left out."""

import time
from collections.abc import Mapping

from streamtag.config.config import FeedConfig
from streamtag.daemon.feed import open_feed
from streamtag.daemon.ops.monitor import Monitor
from streamtag.engine.events import (
    Event,
    Reason,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
)
from streamtag.engine.mood import MoodPlane
from streamtag.engine.shadow import ShadowComparison, shadowed_tagger
from streamtag.feed.event_encoder import Voice
from streamtag.feed.json_writer import Spelt
from streamtag.feed.message import Message
from streamtag.model.tagger import Tagger


class EventOutput:
    """What the engine's thread tells the world.

    Args:
        feed: where and what to publish; `feed` may be exchanged later, but for the address.
        monitor: takes note of what is published.

    Raises:
        FeedError: the address cannot be used.
    """

    def __init__(self, feed: FeedConfig, monitor: Monitor) -> None:
        self.monitor = monitor
        self.feed = feed
        self.publisher, self._wire = open_feed(feed)
        self.comparisons: dict[str, ShadowComparison] = {}
        """Of taggers beside which another model listens."""
        self._moods: dict[str, MoodPlane] = {}
        self._rates: dict[str, int] = {}
        self._next_stats = time.monotonic()

    def introduce(self, name: str, tagger: Tagger) -> None:
        """From now on this is who speaks under a tagger's name."""
        card = tagger.card
        self._wire.voices[name] = Voice(card.tags, card.name, tagger.checksum)
        self._moods.pop(name, None)
        if (plane := MoodPlane(card)).has_tags:
            self._moods[name] = plane

    def forget(self, name: str) -> None:
        """Nobody speaks under a tagger's name any more."""
        self._wire.voices.pop(name, None)
        self._moods.pop(name, None)

    def forget_stream(self, name: str) -> None:
        """A stream is not in the configuration any more."""
        self.monitor.forget(name)
        for key in [key for key in self._wire.display if key[0] == name]:
            del self._wire.display[key]

    def name_tags(self, stream: str, names: Mapping[str, Mapping[str, str]]) -> None:
        """What people are to read for the tags of a stream, by tagger and tag."""
        for tagger, display in names.items():
            self._wire.display[stream, tagger] = display

    def reckon(self, stream: str, epoch_ns: int) -> None:
        """Another UTC of sample 0 for what a stream says from now on."""
        self._wire.reckon(stream, epoch_ns)
        self.monitor.reckon(stream, epoch_ns)

    def publish(self, events: list[Event]) -> None:
        """Events as messages; those of a model that only rehearses are compared instead."""
        said: list[Message | Spelt] = []
        try:
            for event in self._heard(events):
                if isinstance(event, (TagStarted, TagEnded)):
                    said.append(self._wire.spelt(event))
                    continue
                if self.feed.scores or not isinstance(event, WindowScored):
                    said.append(self._wire.message(event))
                self._take_mood(event, said)
        finally:  # what has a number must go out
            self.publisher.publish(*said)

    def _heard(self, events: list[Event]) -> list[Event]:
        """Those of models that are on air."""
        heard = [event for event in events if not self._compared(event)]
        self.monitor.see(heard, time.time_ns())
        return heard

    def _compared(self, event: Event) -> bool:
        """Has models compared; whether the event is only for that."""
        tagger = getattr(event, "tagger", "")
        principal = shadowed_tagger(tagger)
        if self.comparisons:
            comparison = self.comparisons.get(tagger if principal is None else principal)
            if comparison:
                comparison.update(event, new=principal is not None)
        return principal is not None

    def agreement(self) -> dict[str, float]:
        """How far models that listen beside others agree with them, as counters."""
        counters: dict[str, float] = {}
        for name, comparison in self.comparisons.items():
            counters[f"{name}.shadow_windows"] = comparison.windows
            counters[f"{name}.shadow_equal_decisions"] = comparison.share_equal
            for tag, difference in comparison.mean_differences.items():
                counters[f"{name}.shadow_difference.{tag}"] = difference
        return counters

    def notice(self, text: str) -> None:
        """Something that is not about one stream."""
        self.publisher.publish(self._wire.notice(text, time.time_ns()))

    def not_up(self, stream: str, reason: Reason, detail: str = "") -> None:
        """A stream that is not open could not be opened, was removed, or the end came."""
        self.monitor.not_up(stream, reason)
        self.publisher.publish(self._wire.not_up(stream, reason, detail, time.time_ns()))

    def publish_stats(self, counters: Mapping[str, float]) -> None:
        """Counters."""
        self._next_stats = time.monotonic() + self.feed.stats_seconds
        self.publisher.publish(self._wire.stats(counters, time.time_ns()))

    @property
    def until_stats(self) -> float:
        """Seconds until counters are to be published; infinite for never."""
        if not self.feed.stats_seconds:
            return float("inf")
        return self._next_stats - time.monotonic()

    def _take_mood(self, event: Event, said: list[Message | Spelt]) -> None:
        """Adds what follows from an event for the mood plane."""
        if isinstance(event, StreamOpened):
            self._rates[event.stream] = event.rate
        elif isinstance(event, WindowScored) and self.feed.mood and event.tagger in self._moods:
            mood = self._moods[event.tagger].update(event, self._rates[event.stream])
            if mood is not None:
                said.append(self._wire.message(mood))
        elif isinstance(event, StreamClosed):
            self._rates.pop(event.stream, None)
            for plane in self._moods.values():
                plane.end_stream(event)
            for comparison in self.comparisons.values():
                comparison.end_stream(event)
