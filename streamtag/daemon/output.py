"""What leaves the engine, step by step: shadow filter, monitor, mood, encoder, publisher."""

import time
from collections.abc import Mapping
from pathlib import Path

from streamtag.config.feed import FeedConfig
from streamtag.daemon.ops.monitor import Monitor
from streamtag.engine.counters import Series, series
from streamtag.engine.events import (
    Event,
    MoodUpdated,
    Reason,
    StreamClosed,
    StreamOpened,
    WindowScored,
)
from streamtag.engine.mood import MoodPlane
from streamtag.engine.shadow import ShadowComparison, is_shadow, shadowed_tagger
from streamtag.feed.authentication import CurveKeys
from streamtag.feed.event_encoder import EventEncoder, SequenceNumbers, TaggerInfo
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.recovery import recover
from streamtag.feed.journal.retention import Retention
from streamtag.feed.keys import read_pair
from streamtag.feed.messages import Message
from streamtag.feed.publisher import Publisher
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger

SCORES = ("scores/", "mood/")
"""Prefixes of the topics that the journal keeps only with `journal_scores`."""


class EventOutput:
    """Publishes the engine's events, and what else the daemon has to report.

    The configuration may be replaced later, except for the address.

    Raises:
        FeedError: the address cannot be used.
    """

    def __init__(self, config: FeedConfig, monitor: Monitor) -> None:
        self.config, self.monitor = config, monitor
        self.publisher, self._encoder = open_feed(config)
        self.shadows = ShadowFilter()
        self.moods = MoodStep()
        self._next_stats = time.monotonic()

    def publish(self, events: list[Event]) -> None:
        """Publishes events that the engine returned."""
        visible = self.shadows.filter(events)
        self.monitor.observe(visible, time.time_ns())
        wanted = self._select(self.moods.add(visible))
        messages: list[Message] = []
        try:
            for event in wanted:
                messages.append(self._encoder.message(event))
        finally:  # a message that has its number must be sent
            self.publisher.publish(*messages)

    def _select(self, events: list[Event]) -> list[Event]:
        """Leaves out what the configuration does not want."""
        unwanted = (
            *(() if self.config.scores else (WindowScored,)),
            *(() if self.config.mood else (MoodUpdated,)),
        )
        return [event for event in events if not isinstance(event, unwanted)]

    def publish_notice(self, text: str) -> None:
        """Publishes a notice that is not about one stream."""
        self.publisher.publish(self._encoder.notice(text, time.time_ns()))

    def publish_unopened(self, stream: str, reason: Reason, detail: str = "") -> None:
        """Publishes that a stream which is not open is down."""
        self.monitor.record_unopened(stream, reason)
        self.publisher.publish(self._encoder.stream_down(stream, reason, detail, time.time_ns()))

    def publish_stats(self, counters: Mapping[str, float]) -> None:
        """Publishes counters, by dotted name."""
        self._next_stats = time.monotonic() + self.config.stats_seconds
        self.publisher.publish(self._encoder.stats(counters, time.time_ns()))

    @property
    def until_stats(self) -> float:
        """Seconds until counters are to be published; infinite for never."""
        if not self.config.stats_seconds:
            return float("inf")
        return self._next_stats - time.monotonic()

    def set_tagger(self, name: str, tagger: Tagger) -> None:
        """Sets the model that the events of a tagger are from."""
        card = tagger.card
        self._encoder.taggers[name] = TaggerInfo(card.tags, card.name, tagger.checksum)
        self.moods.set_tagger(name, card)

    def remove_tagger(self, name: str) -> None:
        """Forgets a tagger."""
        self._encoder.taggers.pop(name, None)
        self.moods.remove_tagger(name)

    def remove_stream(self, name: str) -> None:
        """Forgets a stream that is no longer in the configuration."""
        self.monitor.remove_stream(name)
        for key in [key for key in self._encoder.display if key[0] == name]:
            del self._encoder.display[key]

    def set_display_names(self, stream: str, names: Mapping[str, Mapping[str, str]]) -> None:
        """Sets the names for people of a stream's tags, by tagger and tag."""
        for tagger, display in names.items():
            self._encoder.display[stream, tagger] = display

    def correct_clock(self, stream: str, epoch_ns: int) -> None:
        """Corrects the UTC of a stream's sample 0 for all messages that follow."""
        self._encoder.correct_clock(stream, epoch_ns)
        self.monitor.correct_clock(stream, epoch_ns)


class ShadowFilter:
    """Holds back the events of shadow models, and compares them with those of their taggers."""

    def __init__(self) -> None:
        self.comparisons: dict[str, ShadowComparison] = {}
        """By tagger, of those that have a shadow."""

    def filter(self, events: list[Event]) -> list[Event]:
        """The events that are to be published."""
        if not self.comparisons and not any(is_shadow(event) for event in events):
            return events
        return [event for event in events if self._is_visible(event)]

    def _is_visible(self, event: Event) -> bool:
        tagger = getattr(event, "tagger", "")
        principal = shadowed_tagger(tagger)
        if self.comparisons:
            comparison = self.comparisons.get(tagger if principal is None else principal)
            if comparison:
                comparison.update(event, new=principal is not None)
            elif isinstance(event, StreamClosed):
                for comparison in self.comparisons.values():
                    comparison.end_stream(event)
        return principal is None

    def series(self) -> dict[Series, float]:
        """How far each shadow agrees with its tagger. Any thread may call it."""
        found: dict[Series, float] = {}
        for name, comparison in self.comparisons.copy().items():
            found[series("shadow_windows", tagger=name)] = comparison.windows
            found[series("shadow_equal_decisions", tagger=name)] = comparison.share_equal
            for tag, difference in comparison.mean_differences.items():
                found[series("shadow_difference", tag=tag, tagger=name)] = difference
        return found


class MoodStep:
    """Adds the mood to the scores of each tagger whose tags say anything of moods."""

    def __init__(self) -> None:
        self._planes: dict[str, MoodPlane] = {}  # by tagger
        self._rates: dict[str, int] = {}  # of open streams, Hz

    def set_tagger(self, name: str, card: Card) -> None:
        """Sets the model of a tagger."""
        self.remove_tagger(name)
        if (plane := MoodPlane(card)).has_tags:
            self._planes[name] = plane

    def remove_tagger(self, name: str) -> None:
        """Forgets a tagger."""
        self._planes.pop(name, None)

    def add(self, events: list[Event]) -> list[Event]:
        """The events, with a `MoodUpdated` after the scores where one is due."""
        out: list[Event] = []
        for event in events:
            out.append(event)
            if isinstance(event, WindowScored) and event.tagger in self._planes:
                rate = self._rates[event.stream]
                if (mood := self._planes[event.tagger].update(event, rate)) is not None:
                    out.append(mood)
            elif isinstance(event, StreamOpened):
                self._rates[event.stream] = event.rate
            elif isinstance(event, StreamClosed):
                self._rates.pop(event.stream, None)
                for plane in self._planes.values():
                    plane.end_stream(event)
        return out


def open_feed(config: FeedConfig) -> tuple[Publisher, EventEncoder]:
    """A publisher that is bound, and an encoder whose numbers continue those of the journal.

    Tags and streams that a crash left open are closed and published first.

    Raises:
        FeedError: the address, the keys or the journal cannot be used.
    """
    start_ns = time.time_ns()
    curve = None
    if config.secret_key:
        curve = CurveKeys(read_pair(Path(config.secret_key)), Path(config.authorised_keys))
    retention = Retention(config.journal_days * 86400, int(config.journal_megabytes * 1e6))
    path = Path(config.journal) if config.journal else None
    journal = Journal(path, retention, now_ns=start_ns, durable=config.journal_durable)
    keeps = ("event/", *(SCORES if config.journal_scores else ()))
    try:
        endings, last = recover(journal)
        kept = {topic: n for topic, n in last.items() if topic.startswith(keeps)}
        numbering = SequenceNumbers(journal.epoch, kept, keeps, journal.epochs())
        publisher = Publisher(
            config.bind,
            high_water=config.high_water,
            journal=journal,
            kept=keeps,
            replay=config.replay,
            beat_seconds=config.beat_seconds,
            run_epoch=f"{journal.run_ns:016x}",
            curve=curve,
            encoding=config.encoding,
        )
    except BaseException:
        journal.close()
        raise
    for message in endings:
        publisher.publish(message)
    return publisher, EventEncoder({}, journal.run_ns, numbering)
