"""The daemon: sources, engine and publisher put together; threads, signals, and nothing else.

One thread per source reads blocks, one runs the engine, one publishes; bounded queues lie between
them. The main thread waits for a signal. Whatever ends, every tag that is on is switched off and
published before the socket closes.
"""

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from streamtag.audio import Block
from streamtag.config import Config
from streamtag.engine import Behind, Engine
from streamtag.errors import StreamError
from streamtag.events import (
    Event,
    Reason,
    Scores,
    State,
    StreamDown,
    StreamStatus,
    StreamUp,
    Title,
)
from streamtag.fitting import display_names
from streamtag.intake import Ended, Intake, Item, Opened, Reader, Status
from streamtag.loading import load_taggers
from streamtag.mood import MoodPlane
from streamtag.operation import Operation
from streamtag.publisher import READY, Publisher
from streamtag.reception import receive
from streamtag.sources import Titled
from streamtag.stats import Histogram
from streamtag.supervisor import Supervisor
from streamtag.tagger import Tagger
from streamtag.wire import Voice, Wire

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
"""How soon a signal is noticed."""
STOPPERS = 8
"""Threads that tell sources to stop."""
JOIN_SECONDS = 2.0
"""How long sources, all together, may take to let go before they are left behind."""
LAST_SECONDS = 1.0
"""How long the last windows may be scored at the end."""
LINGER_SECONDS = 0.5
"""How long subscribers may take at the end to fetch what is left."""
STUCK_SECONDS = 2.0
"""How long the engine may take to end before it is left behind."""


def moods_of(taggers: Mapping[str, Tagger]) -> dict[str, MoodPlane]:
    """The mood planes of those taggers whose tags say something of moods."""
    planes = {name: MoodPlane(tagger.card) for name, tagger in taggers.items()}
    return {name: plane for name, plane in planes.items() if plane.speaks}


class Daemon:
    """Everything that runs, from the start to the end of one process.

    Ready when constructed: models are warm and the feed is bound.

    Args:
        config: checked.

    Raises:
        StreamtagError: a model or the feed's address cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._publisher = Publisher(config.feed.bind, high_water=config.feed.high_water)
        self.address = self._publisher.address
        """Where the feed is."""
        try:
            taggers = load_taggers(config)
        except BaseException:
            self._publisher.close()
            raise
        self._engine = Engine(
            taggers,
            max_batch=config.engine.max_batch,
            max_wait=config.engine.max_wait_ms / 1000,
            sizes=config.engine.batch_sizes,
            slack=config.engine.slack_seconds,
        )
        self._cards = {name: tagger.card for name, tagger in taggers.items()}
        self._wire = Wire({})
        for name, tagger in taggers.items():
            self._wire.voices[name] = Voice(tagger.card.tags, tagger.card.name, tagger.checksum)
        self._moods = moods_of(taggers) if config.feed.mood else {}
        self._rates: dict[str, int] = {}
        self._intake = Intake()
        self._readers = [
            receive(name, config.stream(name), self._intake) for name in config.streams
        ]
        self._left = len(self._readers)
        self._next_stats = time.monotonic()
        self._stopping = False
        self._reconnects: Counter[str] = Counter()
        self.lost = 0
        """Streams whose source failed."""
        self.failed = False
        """Whether the engine itself failed."""
        try:
            self.operation = Operation(config.metrics.bind, self.counters, self.histograms)
        except BaseException:
            self._publisher.close()
            raise
        self._monitor = self.operation.monitor

    def run(self, asked_to_stop: Callable[[], bool]) -> None:
        """Runs until it is asked to stop, or all streams have ended and the configuration says so.

        Args:
            asked_to_stop: looked at ten times a second.
        """
        worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._wait_for_subscriber(asked_to_stop)
        for reader in self._readers:
            reader.start()
        worker.start()
        while worker.is_alive() and not asked_to_stop():
            worker.join(LOOK_SECONDS)
            self.operation.tick()
        self.operation.service.stopping()
        self._stop()
        worker.join(STUCK_SECONDS)
        if worker.is_alive():
            self.failed = True
            log.critical("the engine does not end; left behind, its last events are lost")
        self._publisher.close(LINGER_SECONDS)
        self.operation.close()

    def _wait_for_subscriber(self, asked_to_stop: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._config.feed.wait_for_subscriber_seconds
        while (left := deadline - time.monotonic()) > 0 and not asked_to_stop():
            self.operation.tick()
            if self._publisher.wait_for_subscriber(min(left, LOOK_SECONDS)):
                return

    def _stop(self) -> None:
        self._stopping = True
        self._intake.close()
        left = iter(self._readers)
        stoppers = [
            threading.Thread(target=self._stop_some, args=(left,), name=f"stopper {i}", daemon=True)
            for i in range(min(STOPPERS, len(self._readers)))
        ]
        for thread in stoppers:
            thread.start()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in [*stoppers, *self._readers]:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("%s does not let go; left behind", thread.name)

    def _stop_some(self, readers: Iterator[Reader | Supervisor]) -> None:
        """Runs in several threads that share the readers: one may hang in one that is stuck."""
        while (reader := next(readers, None)) is not None:
            reader.stop()

    def _work(self) -> None:
        """The engine's thread."""
        try:
            while not self._stopping and not (self._left == 0 and self._config.exit_when_done):
                items = self._intake.take(self._patience())
                began = time.monotonic()
                self._handle(items)
                self._publish(self._engine.step(time.monotonic()))
                for text in self._engine.notices():
                    self._publisher.publish(self._wire.notice(text, time.time_ns()))
                self._publish_stats()
                self._monitor.round(began, time.monotonic())
        except Exception:
            self.failed = True
            log.critical("the engine failed; the daemon ends", exc_info=True)
        finally:
            self._close_all()

    def _close_all(self) -> None:
        """Ends every stream; what cannot be scored soon is not, but every tag goes off."""
        deadline = time.monotonic() + LAST_SECONDS
        for name in self._engine.streams:
            score = not self.failed and time.monotonic() < deadline
            self._publish(self._engine.close_many([name], Reason.SHUTDOWN, score=score))

    def _patience(self) -> float:
        """Seconds until something other than new audio is to be done."""
        deadline, now = self._engine.next_deadline(), time.monotonic()
        until_stats = self._next_stats - now if self._config.feed.stats_seconds else 1.0
        return max(0.0, min(1.0, until_stats, 1.0 if deadline is None else deadline - now))

    def _handle(self, items: list[tuple[str, Item]]) -> None:
        for name, item in items:
            if isinstance(item, Opened):
                self._open(name, item)
        self._feed([(name, item) for name, item in items if isinstance(item, Block)])
        for name, item in items:
            if isinstance(item, Status):
                self._status(name, item)
            elif isinstance(item, Titled) and name in self._engine.streams:
                self._publish([Title(name, self._engine.end_of(name), item.title)])
            elif isinstance(item, Ended):
                self._end(name, item)

    def _open(self, name: str, source: Opened) -> None:
        for tagger, card in self._cards.items():
            language = self._config.stream(name).language
            self._wire.display[name, tagger] = display_names(self._config, language, card)
        opened = self._engine.open(
            name,
            source.rate,
            source.epoch_ns,
            self._config.settings(name, self._cards),
            behind=Behind.DROP if source.live else Behind.WAIT,
            level=self._config.streams[name].level.over(self._config.level),
        )
        self._publish(opened)
        if source.live:
            self._monitor.live(name, source.rate, source.epoch_ns)

    def _feed(self, blocks: list[tuple[str, Block]]) -> None:
        """Gives blocks to the engine; a stream whose block does not fit is lost, the others not."""
        blocks = [(name, block) for name, block in blocks if name in self._engine.streams]
        while blocks:
            try:
                self._publish(self._engine.feed_many(blocks, time.monotonic()))
                self._monitor.audio_seconds += sum(len(b.samples) / b.rate for _, b in blocks)
                break
            except StreamError as error:
                self._end(error.stream, Ended(Reason.STREAM_LOST, str(error)))
                blocks = [(name, block) for name, block in blocks if name != error.stream]

    def _status(self, name: str, status: Status) -> None:
        """A source that comes back was lost or is back; its stream stays open meanwhile."""
        if status.lost and name in self._engine.streams:
            self._publish(self._engine.lose(name))
        at = self._engine.end_of(name)
        if status.cause:
            self._reconnects[status.cause.value] += 1
            log.warning("stream %s: %s (%s): %s", name, status.state, status.cause, status.detail)
        self._publish(
            [
                StreamStatus(
                    name, at, status.state, status.cause, status.detail, status.retry_seconds
                )
            ]
        )
        if status.state is State.FAILED and name in self._engine.streams:
            self._publish(self._engine.close(name, Reason.STREAM_LOST, status.detail))

    def _end(self, name: str, ended: Ended) -> None:
        if ended.reason is Reason.STREAM_LOST:
            self.lost += 1
            log.error("stream %s: lost: %s", name, ended.detail)
        if name in self._engine.streams:
            self._publish(self._engine.close(name, ended.reason, ended.detail))
        elif ended.reason is Reason.STREAM_LOST:
            self._publisher.publish(self._wire.never_up(name, ended.detail, time.time_ns()))
        self._left -= 1

    def _publish(self, events: list[Event]) -> None:
        self._monitor.see(events, time.time_ns())
        for event in events:
            if self._config.feed.scores or not isinstance(event, Scores):
                self._publisher.publish(self._wire.message(event))
            self._publish_mood(event)

    def _publish_mood(self, event: Event) -> None:
        """What follows from an event for the mood plane."""
        if isinstance(event, StreamUp):
            self._rates[event.stream] = event.rate
        elif isinstance(event, Scores) and event.tagger in self._moods:
            mood = self._moods[event.tagger].see(event, self._rates[event.stream])
            if mood is not None:
                self._publisher.publish(self._wire.message(mood))
        elif isinstance(event, StreamDown):
            self._rates.pop(event.stream, None)
            for plane in self._moods.values():
                plane.forget(event)

    def _publish_stats(self) -> None:
        if self._config.feed.stats_seconds and time.monotonic() >= self._next_stats:
            self._next_stats = time.monotonic() + self._config.feed.stats_seconds
            self._publisher.publish(self._wire.stats(self.counters(), time.time_ns()))

    def histograms(self) -> Mapping[str, Histogram]:
        """Sizes and times, by name."""
        return self._engine.histograms() | {"publish_seconds": self._publisher.delays}

    def counters(self) -> Mapping[str, float]:
        """Everything that is counted, by name."""
        feed = {f"feed.{name}": count for name, count in self._publisher.counters.items()}
        lost = {"intake.dropped_blocks": self._intake.dropped_blocks, "streams.lost": self.lost}
        sources = {f"sources.lost.{cause}": count for cause, count in self._reconnects.items()}
        return self._engine.stats() | feed | lost | sources


def serve(config: Config) -> int:
    """Runs a daemon in the main thread until a signal or the end of its streams.

    Returns:
        The exit code: 0; 1 where a stream was lost or the engine failed; 130 after Ctrl-C.
    """
    caught: list[int] = []

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one means it

    previous = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        daemon = Daemon(config)
        log.info("%s%s", READY, daemon.address)
        daemon.run(lambda: bool(caught))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    log.info("ended%s", f" by {signal.Signals(caught[0]).name}" if caught else "")
    if signal.SIGINT in caught:
        return 130
    return 1 if daemon.failed or (daemon.lost and not caught) else 0
