"""The streams of a running daemon: which there are, what state each is in, and their sources.

All of it belongs to the engine's thread; sources only reach the queue, each under a key of its
own, so that what is left of a stream that was removed never reaches one of the same name.
"""

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamtag.audio.block import Block
from streamtag.config.config import Config, StreamConfig
from streamtag.config.model_fit import display_names
from streamtag.daemon.output import EventOutput
from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import (
    Event,
    Reason,
    SourceState,
    SourceStatusChanged,
    TitleChanged,
)
from streamtag.errors import StreamError
from streamtag.model.card import Card
from streamtag.sources.factory import create_reader
from streamtag.sources.queue import (
    BlockQueue,
    ClockCorrection,
    QueueItem,
    SourceEnded,
    SourceOpened,
    SourceReader,
    SourceStatus,
)
from streamtag.sources.source import SourceTitle

log = logging.getLogger(__name__)

STOPPERS = 8
"""Threads that tell sources to stop."""
JOIN_SECONDS = 2.0
"""How long sources, all together, may take to let go before they are left behind."""


@dataclass(slots=True)
class Seat:
    """One stream of the configuration."""

    name: str
    stream: StreamConfig
    key: str = ""
    """Of its source in the queue; empty while it is paused."""
    reader: SourceReader | None = None
    state: str = "opening"
    """`opening`, a `State`, or `ended`."""
    detail: str = ""
    over: bool = False
    """It has ended by itself."""


class StreamRegistry:
    """Who is there, and what becomes of what their sources deliver.

    Args:
        config: what runs; exchanged when it changes.
        cards: of the taggers, by name; the same.
        engine: where streams are opened.
        outlet: where events go.
    """

    def __init__(
        self, config: Config, cards: dict[str, Card], engine: Engine, outlet: EventOutput
    ) -> None:
        self.config, self.cards = config, cards
        self.queue = BlockQueue()
        self.opened: list[Callable[[str], None]] = []
        """Called with the name of each stream that was opened."""
        self.lost = 0
        """Streams whose source failed."""
        self.reconnects: Counter[str] = Counter()
        self.outlet = outlet
        self._engine = engine
        self._seats: dict[str, Seat] = {}
        self._keys: dict[str, Seat] = {}
        self._numbers = itertools.count(1)
        self._leaving: list[threading.Thread] = []
        for name in config.streams:
            self.add(name, start=False)

    @property
    def over(self) -> bool:
        """Whether every stream has ended by itself."""
        return all(seat.over for seat in self._seats.values())

    @property
    def seats(self) -> tuple[Seat, ...]:
        """All streams, in the order of the configuration."""
        return tuple(self._seats.values())

    def start(self) -> None:
        """Starts the sources of all streams that were there from the beginning."""
        for seat in self._seats.values():
            if seat.reader is not None:
                seat.reader.start()

    def add(self, name: str, *, start: bool = True) -> None:
        """A stream of the configuration gets its source."""
        seat = self._seats[name] = Seat(name, self.config.stream(name))
        reader = self._sit(seat)
        if start:
            reader.start()

    def remove(self, name: str, detail: str) -> None:
        """A stream and its source go."""
        if name not in self._engine.streams:
            self.outlet.not_up(name, Reason.STREAM_CLOSED, detail)
        self._leave(self._seats.pop(name), detail)
        self.outlet.forget_stream(name)

    def restart(self, name: str, detail: str) -> None:
        """A stream goes and comes back as the configuration has it now; a paused one stays so."""
        seat = self._seats[name]
        seat.stream = self.config.stream(name)
        if seat.state == SourceState.PAUSED:
            return
        leaving = self._leave(seat, detail)
        self._later(leaving, self._sit(seat))

    def refresh(self, name: str) -> None:
        """A stream's configuration changed in what its source does not notice."""
        self._seats[name].stream = self.config.stream(name)
        if name in self._engine.streams:
            self.name_tags(name)

    def pause(self, name: str) -> None:
        """The source is let go, the stream is down, until `resume`."""
        seat = self._seats[name]
        self._leave(seat, "paused")
        seat.state, seat.detail = SourceState.PAUSED, ""
        self.outlet.publish([SourceStatusChanged(name, 0, SourceState.PAUSED)])

    def resume(self, name: str) -> None:
        """The source of a paused stream is opened anew."""
        self._sit(self._seats[name]).start()

    def take(self, items: list[tuple[str, QueueItem]]) -> None:
        """What the sources have delivered."""
        known = [(self._keys[key], item) for key, item in items if key in self._keys]
        for seat, item in known:
            if isinstance(item, SourceOpened):
                self._open(seat, item)
        self._feed([(seat.name, item) for seat, item in known if isinstance(item, Block)])
        for seat, item in known:
            if isinstance(item, SourceStatus):
                self._status(seat, item)
            elif isinstance(item, SourceTitle) and seat.name in self._engine.streams:
                title = TitleChanged(seat.name, self._engine.end_of(seat.name), item.title)
                self.outlet.publish([title])
            elif isinstance(item, ClockCorrection) and seat.name in self._engine.streams:
                self.outlet.reckon(seat.name, item.epoch_ns)
            elif isinstance(item, SourceEnded):
                self._end(seat, item)

    def stop(self) -> None:
        """Ends all sources; from the main thread, when nothing else is to come."""
        self.queue.close()
        readers = [s.reader for s in self.seats if s.reader is not None and s.reader.is_alive()]
        left = iter(readers)
        stoppers = [
            threading.Thread(target=_stop_some, args=(left,), name=f"stopper {i}", daemon=True)
            for i in range(min(STOPPERS, len(readers)))
        ]
        for thread in stoppers:
            thread.start()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in (*stoppers, *readers, *self._leaving):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("%s does not let go; left behind", thread.name)

    def name_tags(self, name: str) -> None:
        """What people are to read for the tags of a stream."""
        language = self.config.stream(name).language
        names = {t: display_names(self.config, language, card) for t, card in self.cards.items()}
        self.outlet.name_tags(name, names)

    def _sit(self, seat: Seat) -> SourceReader:
        """A new source, not started yet."""
        seat.key = f"{seat.name}#{next(self._numbers)}"
        self._keys[seat.key] = seat
        watch = seat.stream.level.over(self.config.level).channels_seconds > 0
        seat.reader = reader = create_reader(
            seat.name, seat.stream, self.queue, seat.key, watch=watch
        )
        seat.state, seat.detail, seat.over = "opening", "", False
        return reader

    def _leave(self, seat: Seat, detail: str) -> threading.Thread | None:
        """The source is told to go, in a thread of its own: that may take its time."""
        self._keys.pop(seat.key, None)
        reader, seat.reader = seat.reader, None
        if seat.name in self._engine.streams:
            self.outlet.publish(self._engine.close(seat.name, Reason.STREAM_CLOSED, detail))
        if reader is None or not reader.is_alive():
            return None
        self.queue.discard(seat.key)
        return self._later(None, None, reader)

    def _later(
        self,
        after: threading.Thread | None,
        start: SourceReader | None,
        stop: SourceReader | None = None,
    ) -> threading.Thread:
        """Stops one source, starts another when what was before has let go."""

        def work() -> None:
            if after is not None:
                after.join(JOIN_SECONDS)
            if stop is not None:
                stop.stop()
                stop.join(JOIN_SECONDS)
            if start is not None:
                start.start()

        thread = threading.Thread(target=work, name="sources that come and go", daemon=True)
        self._leaving = [leaving for leaving in self._leaving if leaving.is_alive()] + [thread]
        thread.start()
        return thread

    def _open(self, seat: Seat, source: SourceOpened) -> None:
        name, seat.state = seat.name, SourceState.UP
        level = seat.stream.level.over(self.config.level)
        self.name_tags(name)
        opened = self._engine.open(
            name,
            source.rate,
            source.epoch_ns,
            self.config.settings(name, self.cards),
            lag_policy=LagPolicy.DROP if source.live else LagPolicy.WAIT,
            level=level,
        )
        self.outlet.publish(opened)
        if source.live:
            self.outlet.monitor.live(name, source.rate, source.epoch_ns)
        for tell in self.opened:
            tell(name)

    def _feed(self, blocks: list[tuple[str, Block]]) -> None:
        """Gives blocks to the engine; a stream whose block does not fit is lost, the others not."""
        blocks = [(name, block) for name, block in blocks if name in self._engine.streams]
        while blocks:
            try:
                self.outlet.publish(self._engine.feed_many(blocks, time.monotonic()))
                seconds = sum(len(block.samples) / block.rate for _, block in blocks)
                self.outlet.monitor.audio_seconds += seconds
                break
            except StreamError as error:
                self._end(self._seats[error.stream], SourceEnded(Reason.STREAM_LOST, str(error)))
                blocks = [(name, block) for name, block in blocks if name != error.stream]

    def _status(self, seat: Seat, status: SourceStatus) -> None:
        """A source that comes back was lost or is back; its stream stays open meanwhile."""
        name, events = seat.name, list[Event]()
        seat.state, seat.detail = status.state, status.detail
        if status.lost and name in self._engine.streams:
            events += self._engine.mark_lost(name)
        at = self._engine.end_of(name)
        if status.cause:
            self.reconnects[status.cause.value] += 1
            log.warning("stream %s: %s (%s): %s", name, status.state, status.cause, status.detail)
        events.append(
            SourceStatusChanged(
                name, at, status.state, status.cause, status.detail, status.retry_seconds
            )
        )
        if status.state is SourceState.FAILED and name in self._engine.streams:
            events += self._engine.close(name, Reason.STREAM_LOST, status.detail)
        self.outlet.publish(events)

    def _end(self, seat: Seat, ended: SourceEnded) -> None:
        seat.state, seat.detail = "ended", ended.detail
        if ended.reason is Reason.STREAM_LOST:
            self.lost += 1
            log.error("stream %s: lost: %s", seat.name, ended.detail)
        if seat.name in self._engine.streams:
            self.outlet.publish(self._engine.close(seat.name, ended.reason, ended.detail))
        elif ended.reason is Reason.STREAM_LOST:
            self.outlet.not_up(seat.name, Reason.STREAM_LOST, ended.detail)
        seat.over = True


def _stop_some(readers: Iterator[SourceReader]) -> None:
    """Runs in several threads that share the readers: one may hang in one that is stuck."""
    while (reader := next(readers, None)) is not None:
        reader.stop()
