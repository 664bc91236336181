"""The streams of a running daemon: their sources, their states, and what the sources deliver.

All of it belongs to the engine's thread. Sources reach only the queue, each under a key of its
own, so that what is left of a removed stream never reaches a new one of the same name.
"""

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from streamtag._core import AudioRing
from streamtag.audio.block import Block
from streamtag.config.config import Config
from streamtag.config.model_fit import display_names
from streamtag.config.stream import StreamConfig
from streamtag.daemon.engine_output import EngineOutput
from streamtag.engine.engine import Engine
from streamtag.engine.events import (
    Event,
    Reason,
    SourceState,
    SourceStatusChanged,
    TitleChanged,
)
from streamtag.engine.settings import LagPolicy
from streamtag.errors import StreamError
from streamtag.model.card import Card
from streamtag.monitoring.clip_recorder import ClipRecorder
from streamtag.sources.factory import create_reader
from streamtag.sources.queue import (
    JOINED_SECONDS,
    BlockQueue,
    ClockCorrection,
    QueueItem,
    SourceConnected,
    SourceEnded,
    SourceOpened,
    SourceReader,
)
from streamtag.sources.source import SourceTitle

log = logging.getLogger(__name__)

STOPPERS = 8
"""Number of threads that stop sources at the end of the daemon."""
JOIN_SECONDS = 2.0
"""How long sources, all together, may take to stop before they are left behind."""


@dataclass(slots=True)
class RunningStream:
    """One stream of the configuration, and its source."""

    name: str
    config: StreamConfig
    key: str = ""
    """The source's key in the queue. Empty while the stream is paused."""
    reader: SourceReader | None = None
    state: str = "opening"
    """`opening`, a `SourceState`, or `ended`."""
    detail: str = ""
    ended: bool = False
    """Whether it has ended by itself."""


class StreamRegistry:
    """All streams, and what happens to the items that their sources deliver.

    `config`, and `cards` by tagger, are those that run. They are replaced when they change.
    """

    def __init__(
        self, config: Config, cards: dict[str, Card], engine: Engine, output: EngineOutput
    ) -> None:
        self.config, self.cards = config, cards
        self.queue = BlockQueue()
        self.on_opened: list[Callable[[str], None]] = []
        """Called with the name of each stream that was opened."""
        self.lost = 0
        """Number of streams whose source failed."""
        self.reconnects: Counter[str] = Counter()
        """Number of lost connections by cause."""
        self.idle: Mapping[str, str] = {}
        """State of each stream whose source is not opened when it is added: it was paused, or had
        ended, in another process."""
        self.output = output
        self._engine = engine
        self._streams: dict[str, RunningStream] = {}
        self._by_key: dict[str, RunningStream] = {}
        self._numbers = itertools.count(1)
        self._stopping: list[threading.Thread] = []
        self._recorder: ClipRecorder | None = None
        if (clips := config.clips) is not None:
            self._recorder = ClipRecorder(
                Path(clips.folder), clips.seconds, clips.rate, lambda name: name in engine.streams
            )
        for name in config.streams:
            self.add(name, start=False)

    @property
    def streams(self) -> tuple[RunningStream, ...]:
        """All streams, in the order of the configuration."""
        return tuple(self._streams.values())

    @property
    def audio_seconds(self) -> float:
        """How much audio the engine has taken, of all streams together."""
        return self._engine.audio_seconds

    def __getitem__(self, name: str) -> RunningStream:
        return self._streams[name]

    def start(self) -> None:
        """Starts the sources of all streams that were there from the beginning."""
        for stream in self._streams.values():
            if stream.reader is not None:
                stream.reader.start()

    def add(self, name: str, *, start: bool = True) -> None:
        """Adds a stream of the configuration."""
        stream = self._streams[name] = RunningStream(name, self.config.stream(name))
        if name in self.idle:
            stream.state = self.idle[name]
            stream.ended = stream.state == "ended"
            return
        reader = self._new_reader(stream)
        if start:
            reader.start()

    def remove(self, name: str, detail: str) -> None:
        """Removes a stream and stops its source."""
        if name not in self._engine.streams:
            self.output.publish_unopened(name, Reason.STREAM_CLOSED, detail)
        self._stop_reader(self._streams.pop(name), detail)
        self.output.remove_stream(name)

    def restart(self, name: str, detail: str) -> None:
        """Opens a stream again with its present configuration. A paused one stays paused."""
        stream = self._streams[name]
        stream.config = self.config.stream(name)
        if stream.state == SourceState.PAUSED:
            return
        stopping = self._stop_reader(stream, detail)
        self._in_background(stopping, start=self._new_reader(stream))

    def update(self, name: str) -> None:
        """Adopts a stream's configuration where its source is not affected."""
        self._streams[name].config = self.config.stream(name)
        if name in self._engine.streams:
            self._set_display_names(name)

    def pause(self, name: str) -> None:
        """Stops the source and closes the stream until `resume`."""
        stream = self._streams[name]
        self._stop_reader(stream, "paused")
        stream.state, stream.detail = SourceState.PAUSED, ""
        self.output.publish([SourceStatusChanged(name, 0, SourceState.PAUSED)])

    def resume(self, name: str) -> None:
        """Opens the source of a paused stream again."""
        self._new_reader(self._streams[name]).start()

    def handle(self, items: list[tuple[str, QueueItem]]) -> None:
        """Handles what the sources have delivered."""
        known = [(self._by_key[key], item) for key, item in items if key in self._by_key]
        for stream, item in known:
            if isinstance(item, SourceOpened):
                self._open(stream, item)
            elif isinstance(item, SourceConnected) and stream.name in self._engine.streams:
                events = self._engine.read_from(stream.name, item.port, time.monotonic())
                self.output.publish(events)
        self._feed([(stream.name, item) for stream, item in known if isinstance(item, Block)])
        came = time.monotonic() - self.queue.signal.gathered  # its windows have waited since then
        self.output.publish(self._engine.advance(came, JOINED_SECONDS))
        if self._engine.behind:
            self.queue.wake()
        for stream, item in known:
            if isinstance(item, SourceStatusChanged):
                self._publish_status(stream, item)
            elif isinstance(item, SourceTitle) and stream.name in self._engine.streams:
                title = TitleChanged(stream.name, self._engine.end_of(stream.name), item.title)
                self.output.publish([title])
            elif isinstance(item, ClockCorrection) and stream.name in self._engine.streams:
                self.output.correct_clock(stream.name, item.epoch_ns)
            elif isinstance(item, SourceEnded):
                self._end(stream, item)

    def stop(self) -> None:
        """Stops all sources at the end of the daemon. The main thread calls it."""
        self.queue.close()
        readers = [s.reader for s in self.streams if s.reader is not None and s.reader.is_alive()]
        remaining = iter(readers)
        stoppers = [
            threading.Thread(target=_stop_each, args=(remaining,), name=f"stopper {i}", daemon=True)
            for i in range(min(STOPPERS, len(readers)))
        ]
        for thread in stoppers:
            thread.start()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in (*stoppers, *readers, *self._stopping):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("%s does not stop; left behind", thread.name)

    def finish_clips(self) -> None:
        """Writes the audio of clips to its end; after the last event was published."""
        if self._recorder is not None:
            self._recorder.stop(JOIN_SECONDS)

    def _set_display_names(self, name: str) -> None:
        language = self.config.stream(name).language
        names = {t: display_names(self.config, language, card) for t, card in self.cards.items()}
        self.output.set_display_names(name, names)

    def _new_reader(self, stream: RunningStream) -> SourceReader:
        """A source for the stream, not started yet."""
        stream.key = f"{stream.name}#{next(self._numbers)}"
        self._by_key[stream.key] = stream
        watch = stream.config.level.over(self.config.level).channels_seconds > 0
        stream.reader = reader = create_reader(
            stream.name, stream.config, self.queue, stream.key, watch=watch
        )
        stream.state, stream.detail, stream.ended = "opening", "", False
        return reader

    def _stop_reader(self, stream: RunningStream, detail: str) -> threading.Thread | None:
        """Closes the stream. A thread of its own stops the source, which may take its time."""
        self._by_key.pop(stream.key, None)
        reader, stream.reader = stream.reader, None
        if stream.name in self._engine.streams:
            self.output.publish(self._engine.close(stream.name, Reason.STREAM_CLOSED, detail))
        if reader is None or not reader.is_alive():
            return None
        self.queue.discard(stream.key)
        return self._in_background(None, stop=reader)

    def _in_background(
        self,
        after: threading.Thread | None,
        *,
        start: SourceReader | None = None,
        stop: SourceReader | None = None,
    ) -> threading.Thread:
        """Waits for another such thread, then stops one source or starts another."""

        def work() -> None:
            if after is not None:
                after.join(JOIN_SECONDS)
            if stop is not None:
                stop.stop()
                stop.join(JOIN_SECONDS)
            if start is not None:
                start.start()

        thread = threading.Thread(target=work, name="start and stop of sources", daemon=True)
        self._stopping = [other for other in self._stopping if other.is_alive()] + [thread]
        thread.start()
        return thread

    def _open(self, stream: RunningStream, source: SourceOpened) -> None:
        name, stream.state = stream.name, SourceState.UP
        level = stream.config.level.over(self.config.level)
        self._set_display_names(name)
        opened = self._engine.open(
            name,
            source.rate,
            source.epoch_ns,
            self.config.settings(name, self.cards),
            lag_policy=LagPolicy.DROP if source.live else LagPolicy.WAIT,
            level=level,
            ring=self._ring(stream, source.rate),
        )
        self.output.publish(opened)
        if source.live:
            self.output.set_clock(name, source.rate, source.epoch_ns)
        for callback in self.on_opened:
            callback(name)

    def _ring(self, stream: RunningStream, rate: int) -> AudioRing | None:
        """Where the last of its audio is kept; None if it is not."""
        if self._recorder is None or not stream.config.clips:
            return None
        return self._recorder.open(stream.name, rate, 0)

    def _feed(self, blocks: list[tuple[str, Block]]) -> None:
        """Gives blocks to the engine. A stream whose block does not fit is lost, no other one."""
        blocks = [(name, block) for name, block in blocks if name in self._engine.streams]
        while blocks:
            try:
                self.output.publish(self._engine.feed_many(blocks, time.monotonic()))
            except StreamError as error:
                self._end(self._streams[error.stream], SourceEnded(Reason.STREAM_LOST, str(error)))
                blocks = [(name, block) for name, block in blocks if name != error.stream]
            else:
                return

    def _publish_status(self, stream: RunningStream, status: SourceStatusChanged) -> None:
        """A source lost its connection or is back. Its stream stays open meanwhile."""
        name, events = stream.name, list[Event]()
        stream.state, stream.detail = status.state, status.detail
        is_lost = status.state not in (SourceState.CONNECTING, SourceState.UP)
        if is_lost and name in self._engine.streams:
            events += self._engine.mark_lost(name)
        if status.cause:
            self.reconnects[status.cause.value] += 1
            log.warning("stream %s: %s (%s): %s", name, status.state, status.cause, status.detail)
        events.append(replace(status, at=self._engine.end_of(name)))
        if status.state is SourceState.FAILED and name in self._engine.streams:
            events += self._engine.close(name, Reason.STREAM_LOST, status.detail)
        self.output.publish(events)

    def _end(self, stream: RunningStream, end: SourceEnded) -> None:
        stream.state, stream.detail = "ended", end.detail
        if end.reason is Reason.STREAM_LOST:
            self.lost += 1
            log.error("stream %s: lost: %s", stream.name, end.detail)
        if stream.name in self._engine.streams:
            self.output.publish(self._engine.close(stream.name, end.reason, end.detail))
        elif end.reason is Reason.STREAM_LOST:
            self.output.publish_unopened(stream.name, Reason.STREAM_LOST, end.detail)
        stream.ended = True


def _stop_each(readers: Iterator[SourceReader]) -> None:
    """Stops readers that several threads share: one thread may hang in a source that is stuck."""
    while (reader := next(readers, None)) is not None:
        reader.stop()
