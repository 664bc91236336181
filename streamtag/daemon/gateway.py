"""The gateway: publishes the messages of all daemons in NATS JetStream as one ZeroMQ feed.

It has a journal of its own. Whatever follows a daemon (the pages, history, reports, other bridges,
subscribers over ZeroMQ) follows a gateway in the same way, and so sees the whole fleet. A gateway
tags nothing.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec.structs import replace

from streamtag.bridges.supervision import BridgeSupervisor
from streamtag.config.bridge_kinds import KINDS
from streamtag.config.config import Config
from streamtag.config.nats import NatsConfig
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput
from streamtag.engine.counters import Series, series
from streamtag.errors import ConfigError, FeedError
from streamtag.feed.atomic_file import atomic_file
from streamtag.feed.client.stream_state import StreamStates
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.client.tracker import FeedItem, MissedMessages, Positions, positions_in
from streamtag.feed.messages import Message, StreamDown, TagOff, dump
from streamtag.feed.publisher import READY
from streamtag.feed.timestamps import rfc3339
from streamtag.history.history import History

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
"""How often dead bridges are restarted."""
SAVE_SECONDS = 1.0
"""How long after it was reached a position is written: the journal has its messages by then."""
MOST_WAITING = 5000
"""The most messages that wait for the journal before no more are received."""
BATCH = 500
"""The most messages that are published at a time."""
REPEATS = 20_000
"""How many messages of the journal are compared after a crash, because they may come again."""
LINGER_SECONDS = 0.5
"""How long subscribers may take to receive the last messages."""
BRIDGE_SECONDS = 2.0
"""How long bridges may take to end."""
HEARD_SECONDS = 30.0
"""A gateway is ready while a message or a heartbeat of any daemon is not older."""


class Gateway:
    """Publishes the messages of all daemons that publish to one NATS cluster.

    Args:
        config: checked; has a table `[nats]`.
        path: of the configuration file.

    Raises:
        StreamtagError: an address or the journal cannot be used.
    """

    def __init__(self, config: Config, path: Path) -> None:
        self._config, self._nats = config, _nats_of(config, path)
        self._options = self._nats.options()
        self._position = Path(f"{config.feed.journal}.nats") if config.feed.journal else None
        self._taken = load_positions(self._position)
        self._monitor = Monitor()
        self._output = EventOutput(  # without positions everything is published again
            config.feed, self._monitor, log_style=config.log.style, recovers=not self._taken
        )
        publisher = self._output.publisher
        self.address = self._output.address
        """Address of the feed."""
        kinds = [kind for kind in KINDS if kind.name != "nats"]
        self._bridges = BridgeSupervisor(
            config, path, publisher.address, publisher.journal_path, kinds
        )
        self._states = StreamStates()
        self._heard_at = -HEARD_SECONDS
        self._due: tuple[float, Positions] = (0.0, dict(self._taken))
        self._repeats = self._newest_messages()

    def run(self, is_stop_requested: Callable[[], bool]) -> None:
        """Runs until a stop is requested."""
        with self._metrics_server(), self._subscriber() as feed:
            while not is_stop_requested():
                self._bridges.tick(self._config)
                if self._output.publisher.waiting < MOST_WAITING:
                    self._take(feed)
                else:
                    time.sleep(TICK_SECONDS)
                self._save_when_due()
                self._monitor.last_round = time.monotonic()
        self._output.close(LINGER_SECONDS)
        self._save(self._taken)
        self._bridges.close(BRIDGE_SECONDS)

    def series(self) -> dict[Series, float]:
        """What the feed has sent and how the bridges are. Any thread may call it."""
        counts = self._output.counters()
        feed = {series(f"feed.{name}"): float(count) for name, count in counts.items()}
        return feed | self._bridges.series()

    def obstacle(self) -> str:
        """Why it is not ready; empty if it is."""
        is_heard = time.monotonic() < self._heard_at + HEARD_SECONDS
        return "" if is_heard else f"no daemon was heard on NATS for {HEARD_SECONDS:.0f} s"

    @contextmanager
    def _metrics_server(self) -> Iterator[None]:
        """The server of `/metrics`, if it is wanted."""
        if not self._config.metrics.bind:
            yield
            return
        from streamtag.daemon.ops.metrics import Metrics, MetricsServer

        delays = {Series("publish_seconds"): self._output.publisher.delays}
        metrics = Metrics(self._monitor, self.series, lambda: delays)
        bind = self._config.metrics.bind
        with closing(MetricsServer(bind, metrics, self._monitor, self.obstacle)):
            yield

    def _subscriber(self) -> Subscriber:
        chosen = self._nats.topics
        return Subscriber(
            ",".join(self._options.servers),
            streams=self._nats.streams,
            scores="scores" in chosen,
            mood="mood" in chosen,
            levels="level" in chosen,
            derived=tuple(kind for kind in ("alert", "clip", "section") if kind in chosen),
            since=self._taken,
            nats=self._options,
        )

    def _take(self, feed: Subscriber) -> None:
        """Receives messages, and publishes those together that have arrived together."""
        batch: list[Message] = []
        seconds = TICK_SECONDS
        while len(batch) < BATCH:
            try:
                item = feed.receive(seconds)
            except FeedError as error:
                log.warning("%s", error)
                self._output.publish_notice(str(error))
                break
            if item is None:
                break
            batch += self._renewed(item)
            seconds = 0.0
        self._heard_at = feed.received_at or self._heard_at
        if batch:
            self._output.publish_derived(*batch)
        self._taken |= getattr(feed, "marks", {})

    def _renewed(self, item: FeedItem) -> Iterator[Message]:
        """The messages to publish for a received item."""
        if isinstance(item, MissedMessages):
            log.warning("%s", item)
            if item.topic.startswith("event/"):
                yield from self._endings(item.topic.split("/")[1])
            return
        self._taken[item.topic] = (item.epoch, item.seq)
        self._note(item)
        if self._repeats and (same := _contents(item)) in self._repeats:
            self._repeats.discard(same)
            return
        reason = item.reason if isinstance(item, StreamDown | TagOff) else ""
        self._monitor.events[item.type, reason] += 1
        yield item

    def _note(self, message: Message) -> None:
        """Notes what a message says of the state of its stream."""
        name = self._states.update(message)
        if message.topic.startswith("event/"):
            self._monitor.states[name] = self._states[name].status

    def _endings(self, stream: str) -> Iterator[Message]:
        """The ends of the tags that were on in a stream whose messages were lost."""
        state = self._states[stream]
        newest = state.newest
        if newest is None:
            return
        head = {"epoch": "", "seq": 0, "stream": stream, "t": newest.t}
        head["utc"] = rfc3339(time.time_ns())
        for by_tagger in [dict(one) for one in state.on.values()]:
            for on in by_tagger.values():
                ending = TagOff(
                    **head,  # type: ignore[arg-type]
                    tagger=on.tagger,
                    tag=on.tag,
                    decided=max(newest.t, on.decided),
                    since=on.t,
                    since_utc=on.utc,
                    peak=on.probability,
                    reason="recovered",
                    title=state.title,
                )
                self._note(ending)
                yield ending

    def _newest_messages(self) -> set[bytes]:
        """Reads the states of streams, and the contents of the newest messages, from the journal.
        The positions may be older than these messages, which are then received again."""
        path = self._output.publisher.journal_path
        if path is None or not self._taken:
            return set()
        history = History(path)
        try:
            for message in history.current_state()[0]:
                self._note(message)
            page = history.after(max(0, history.newest() - REPEATS), REPEATS)
            return {_contents(entry.message) for entry in page.entries}
        finally:
            history.close()

    def _save_when_due(self) -> None:
        when, positions = self._due
        if time.monotonic() >= when:
            self._save(positions)
            self._due = (time.monotonic() + SAVE_SECONDS, dict(self._taken))

    def _save(self, positions: Positions) -> None:
        if self._position is None:
            return
        try:
            with atomic_file(self._position) as partial:
                partial.write_text(json.dumps({"v": 1, "topics": positions}))
        except OSError as error:
            log.error("%s: cannot be written: %s", self._position, error.strerror)


def load_positions(path: Path | None) -> Positions:
    """Reads positions from a file; none if there is no file, or if it is damaged."""
    if path is None:
        return {}
    try:
        return positions_in(json.loads(path.read_bytes())["topics"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("%s: expected positions, got %r; beginning with the present state", path, error)
        return {}


def _contents(message: Message) -> bytes:
    """A message without its epoch and number."""
    return dump(replace(message, epoch="", seq=0))


def _nats_of(config: Config, path: Path) -> NatsConfig:
    if config.nats is None:
        raise ConfigError(f"{path}: expected a table [nats], got none; see docs/nats.md")
    if config.streams:
        raise ConfigError(
            f"{path}: expected no streams, since a gateway tags nothing, got "
            f"{next(iter(config.streams))!r}; streamtag run tags them"
        )
    return config.nats


def serve_gateway(config: Config, path: Path, is_stop_requested: Callable[[], bool]) -> None:
    """Runs a gateway until a stop is requested.

    Raises:
        StreamtagError: an address, the journal or a secret cannot be used.
    """
    gateway = Gateway(config, path)
    log.info("%s%s", READY, gateway.address)
    gateway.run(is_stop_requested)
    log.info("ended")
