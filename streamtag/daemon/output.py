"""What leaves the engine, step by step: shadow filter, monitor, mood, encoder, derivation,
publisher, relay."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamtag.config.feed import FeedConfig
from streamtag.daemon.fleet.gate import LeaseGate
from streamtag.daemon.ops.logs import LogStyle
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.relay_process import RelayProcess
from streamtag.engine.counters import Series, series
from streamtag.engine.events import (
    Event,
    LevelMeasured,
    MoodUpdated,
    Reason,
    StreamClosed,
    StreamOpened,
    WindowScored,
)
from streamtag.engine.mood import MoodPlane
from streamtag.engine.shadow import ShadowComparison, shadowed_tagger
from streamtag.feed.authentication import CurveKeys
from streamtag.feed.event_encoder import EventEncoder, SequenceNumbers, TaggerInfo
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.lock_file import acquire, temporary_folder
from streamtag.feed.journal.recovery import recover
from streamtag.feed.journal.retention import Retention
from streamtag.feed.keys import read_pair
from streamtag.feed.messages import DERIVED_TOPICS, Message
from streamtag.feed.publisher import Publisher
from streamtag.feed.relay import INWARD_HIGH_WATER, RelayPlan
from streamtag.model.card import Card
from streamtag.monitoring.derivation import Derivation, Observer

log = logging.getLogger(__name__)

_PRIVATE_PREFIX, _PRIVATE_NAME = "streamtag-feed-", "feed"
SCORES = ("scores/", "mood/")
"""Prefixes of the topics that the journal keeps only with `journal_scores`."""


class EventOutput:
    """Publishes the engine's events, and what else the daemon has to report.

    The configuration may be replaced later, except for addresses, keys and rights.

    Args:
        config: of the feed.
        monitor: is updated.
        observers: make further messages of those that are published.
        log_style: of the process of the public sockets.
        recovers: whether what an earlier process has left open is closed.
        gate: which events may be published, in a fleet.

    Raises:
        FeedError: an address or the keys cannot be used.
    """

    def __init__(
        self,
        config: FeedConfig,
        monitor: Monitor,
        observers: Sequence[Observer] = (),
        log_style: LogStyle = "text",
        *,
        recovers: bool = True,
        gate: LeaseGate | None = None,
    ) -> None:
        self.config, self.monitor, self._gate = config, monitor, gate
        self._publishing = threading.RLock()  # of encoder and derivation: a number must be sent
        self._derivation = Derivation(observers)
        self.relay: RelayProcess | None = None
        """Owns the public sockets; None for a feed that only this user can reach."""
        with ExitStack() as resources:
            inward = _private_address(resources) if is_relayed(config) else ""
            self.publisher, self._encoder = open_feed(
                config, self._derivation, inward, recovers=recovers
            )
            resources.push(lambda *error: self.publisher.close(0) if any(error) else None)
            if inward:
                self.relay = _start_relay(config, self.publisher, log_style)
            self._resources = resources.pop_all()
        self.shadows = ShadowFilter()
        self.moods = MoodStep()
        self._next_stats = time.monotonic()

    @property
    def address(self) -> str:
        """Where the feed is."""
        return self.relay.address if self.relay else self.publisher.address

    def counters(self) -> dict[str, int]:
        """What the feed has sent, lost and refused. Any thread may call it."""
        relay = self.relay
        public = {"refused": relay.refused, "relay_restarts": relay.restarts} if relay else {}
        return {**self.publisher.counters.copy(), **public}

    def reload_keys(self) -> dict[str, list[str]]:
        """Reads the folder of authorised keys again, from any thread; returns what changed.

        Raises:
            FeedError: it cannot be read; then nothing changes.
        """
        return self.relay.reload_keys() if self.relay else {}

    def publish(self, events: list[Event]) -> None:
        """Publishes events that the engine returned."""
        if self._gate is not None:
            events = self._gate.filter(events)
        visible = self.shadows.filter(events)
        self.monitor.observe(visible, time.time_ns())
        wanted = self._select(self.moods.add(visible))
        messages: list[Message] = []
        with self._publishing:
            try:
                self._encoder.encode(wanted, messages)
            finally:  # a message that has its number must be sent
                self._send(messages)

    def _send(self, messages: Sequence[Message]) -> None:
        """Publishes messages that have their numbers, and what is derived from them."""
        self._put(self._derivation.extend(messages, time.time_ns()))

    def _put(self, messages: Sequence[Message]) -> None:
        """Publishes messages, in a fleet with their leases."""
        self.publisher.publish(*(self._gate.stamp(messages) if self._gate else messages))

    def numbering(self, topic: str) -> tuple[str, int]:
        """Epoch and newest number of a topic. Any thread may call it."""
        with self._publishing:
            return self._encoder.numbering(topic)

    def publish_derived(self, *messages: Message) -> None:
        """Publishes messages that an observer's own process has made, and that have no numbers
        yet. Any thread may call it."""
        with self._publishing:
            self._send([self._encoder.number(message) for message in messages])

    def derive(self, make: Callable[[int], Sequence[Message]]) -> list[Message]:
        """Publishes what a function makes of the time, while no observer works. Any thread may
        call it."""
        with self._publishing:
            made = [self._encoder.number(message) for message in make(time.time_ns())]
            self._send(made)
        return made

    def tick(self) -> None:
        """Publishes what the observers derive from the time. Any thread may call it."""
        if self._derivation.observers:
            with self._publishing:
                self._put(self._derivation.tick(time.time_ns()))

    def close(self, linger: float) -> None:
        """Publishes what is left, gives subscribers `linger` seconds to fetch it, and ends."""
        with self._publishing:
            self._put(self._derivation.close(time.time_ns()))
        self.publisher.close(linger)
        if self.relay:
            self.relay.close()
        self._resources.close()

    def _select(self, events: list[Event]) -> list[Event]:
        """Leaves out what the configuration does not want."""
        unwanted: list[type] = [] if self.config.scores else [WindowScored]
        unwanted += [] if self.config.mood else [MoodUpdated]
        unwanted += [] if self.config.measures_levels else [LevelMeasured]
        return [event for event in events if type(event) not in unwanted] if unwanted else events

    def publish_notice(self, text: str) -> None:
        """Publishes a notice that is not about one stream."""
        with self._publishing:
            self._send([self._encoder.notice(text, time.time_ns())])

    def publish_unopened(self, stream: str, reason: Reason, detail: str = "") -> None:
        """Publishes that a stream which is not open is down."""
        self.monitor.record_unopened(stream, reason)
        with self._publishing:
            self._send([self._encoder.stream_down(stream, reason, detail, time.time_ns())])

    def publish_stats(self, counters: Mapping[str, float]) -> None:
        """Publishes counters, by dotted name."""
        self._next_stats = time.monotonic() + self.config.stats_seconds
        with self._publishing:
            self._send([self._encoder.stats(counters, time.time_ns())])

    @property
    def until_stats(self) -> float:
        """Seconds until counters are to be published; infinite for never."""
        if not self.config.stats_seconds:
            return float("inf")
        return self._next_stats - time.monotonic()

    def set_tagger(self, name: str, card: Card, checksum: str) -> None:
        """Sets the model that the events of a tagger are from."""
        self._encoder.taggers[name] = TaggerInfo(card.tags, card.name, checksum)
        self.moods.set_tagger(name, card)

    def use(self, models: "EngineModels") -> None:
        """Takes the next events from an engine that has these models."""
        self.moods, self._encoder.taggers = models.moods, models.taggers

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

    def set_clock(self, stream: str, rate: int, epoch_ns: int) -> None:
        """Sets the rate, in Hz, and the UTC of sample 0 of a live stream."""
        self.monitor.set_clock(stream, rate, epoch_ns)

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
        if not self.comparisons:
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
        comparisons = self.comparisons.copy().items()
        return shadow_series({name: comparison.report() for name, comparison in comparisons})


def shadow_series(reports: Mapping[str, Mapping[str, Any]]) -> dict[Series, float]:
    """The reports of comparisons, by tagger, as numbers."""
    found: dict[Series, float] = {}
    for name, report in reports.items():
        found[series("shadow_windows", tagger=name)] = report["windows"]
        found[series("shadow_equal_decisions", tagger=name)] = report["equal_decisions"]
        for tag, difference in report["mean_differences"].items():
            found[series("shadow_difference", tag=tag, tagger=name)] = difference
    return found


class MoodStep:
    """Adds the mood to the scores of each tagger that knows moods."""

    def __init__(self) -> None:
        self._planes: dict[str, MoodPlane] = {}  # by tagger
        self._rates: dict[str, int] = {}  # of open streams, Hz

    def set_tagger(self, name: str, card: Card) -> None:
        """Sets the model of a tagger."""
        self.remove_tagger(name)
        if (plane := MoodPlane(card)).is_known:
            self._planes[name] = plane

    def remove_tagger(self, name: str) -> None:
        """Forgets a tagger."""
        self._planes.pop(name, None)

    def add(self, events: list[Event]) -> list[Event]:
        """The events, with a `MoodUpdated` after the scores where one is due."""
        if _OF_MOODS.isdisjoint(map(type, events)):
            return events
        moods = {name: self._moods(name, events) for name in self._planes}
        out: list[Event] = []
        for event in events:
            out.append(event)
            if type(event) is WindowScored and event.tagger in self._planes:
                plane, mood = self._planes[event.tagger], next(moods[event.tagger])
                if (moved := plane.update(event, mood, self._rates[event.stream])) is not None:
                    out.append(moved)
            elif type(event) is StreamOpened:
                self._rates[event.stream] = event.rate
            elif type(event) is StreamClosed:
                self._rates.pop(event.stream, None)
                for plane in self._planes.values():
                    plane.end_stream(event)
        return out

    def _moods(self, tagger: str, events: list[Event]) -> Iterator[list[float]]:
        """The moods of all windows that a tagger scored."""
        scored = [e for e in events if type(e) is WindowScored and e.tagger == tagger]
        return iter(self._planes[tagger].moods(scored) if scored else [])


_OF_MOODS = {WindowScored, StreamOpened, StreamClosed}
"""The events that matter to moods."""


@dataclass(frozen=True, slots=True)
class EngineModels:
    """What the output knows of the models of one engine, where several share the feed.

    In a swap each changes them at a moment of its own.
    """

    taggers: dict[str, TaggerInfo] = field(default_factory=dict)
    moods: MoodStep = field(default_factory=MoodStep)


def is_relayed(config: FeedConfig) -> bool:
    """Whether a feed's sockets are in a process of their own: if others than this user's programs
    may reach them."""
    addresses = (config.bind, config.replay or config.bind)
    return bool(config.secret_key) or not all(one.startswith("ipc://") for one in addresses)


def _private_address(resources: ExitStack) -> str:
    """An address that only this user's processes can reach, as long as the resources are open."""
    folder = resources.enter_context(temporary_folder(_PRIVATE_PREFIX, _PRIVATE_NAME))
    resources.callback(os.close, acquire(Path(folder) / _PRIVATE_NAME))
    return f"ipc://{folder}/{_PRIVATE_NAME}"


def _start_relay(config: FeedConfig, publisher: Publisher, style: LogStyle) -> RelayProcess:
    assert publisher.journal_path is not None
    curve = None
    if config.secret_key:
        curve = CurveKeys(read_pair(Path(config.secret_key)), Path(config.authorised_keys))
    plan = RelayPlan(
        inward=publisher.address,
        journal=publisher.journal_path,
        views=config.views,
        replay=config.replay,
        high_water=config.high_water,
        curve=curve,
    )
    return RelayProcess(plan, style, verbose=log.isEnabledFor(logging.DEBUG))


def open_feed(
    config: FeedConfig,
    derivation: Derivation | None = None,
    inward: str = "",
    *,
    recovers: bool = True,
) -> tuple[Publisher, EventEncoder]:
    """A publisher that is bound, and an encoder whose numbers continue those of the journal.

    The observers get their state back. Tags and streams that a crash left open are closed and
    published first, unless `recovers` is false. With `inward` it is bound there, for a relay, and
    not where the configuration says.

    Raises:
        FeedError: the address or the journal cannot be used.
    """
    derivation = derivation or Derivation()
    start_ns = time.time_ns()
    retention = Retention(config.journal_days * 86400, int(config.journal_megabytes * 1e6))
    path = Path(config.journal) if config.journal else None
    journal = Journal(path, retention, now_ns=start_ns, durable=config.journal_durable)
    keeps = ("event/", *DERIVED_TOPICS, *(SCORES if config.journal_scores else ()))
    try:
        derivation.restore(journal)
        endings, last = recover(journal) if recovers else ([], journal.last())
        kept = {topic: n for topic, n in last.items() if topic.startswith(keeps)}
        numbering = SequenceNumbers(journal.epoch, kept, keeps, journal.epochs())
        publisher = Publisher(
            inward or config.bind,
            high_water=max(config.high_water, INWARD_HIGH_WATER) if inward else config.high_water,
            journal=journal,
            kept=keeps,
            replay="" if inward else config.replay,
            beat_seconds=config.beat_seconds,
            run_epoch=f"{journal.run_ns:016x}",
            encoding=config.encoding,
        )
    except BaseException:
        journal.close()
        raise
    encoder = EventEncoder({}, journal.run_ns, numbering)
    derivation.number = encoder.number
    publisher.publish(*derivation.extend(endings, start_ns))
    return publisher, encoder
