"""The daemon: sources, engine, publisher and commands, with their threads and signals.

Each source has a thread that reads blocks. One thread runs the engine, one publishes, one serves
the control socket. Bounded queues lie between them. The main thread waits for a signal. Whatever
ends the daemon, every tag that is on is switched off and published before the socket closes.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from streamtag.bridges.supervision import BridgeSupervisor
from streamtag.config.config import Config
from streamtag.daemon.command_executor import CommandExecutor
from streamtag.daemon.control import ControlServer, PlainCommand, default_path
from streamtag.daemon.model_registry import (
    ModelRegistry,
    load_taggers,
    use_threads,
    windows_at_once,
)
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.ops.systemd import SystemdNotifier
from streamtag.daemon.output import EventOutput
from streamtag.daemon.streams import StreamRegistry
from streamtag.engine.counters import Histogram, Series, dotted, series
from streamtag.engine.engine import Engine
from streamtag.engine.events import Reason, SourceState
from streamtag.errors import ControlError
from streamtag.feed.publisher import READY

if TYPE_CHECKING:
    from streamtag.daemon.ops.metrics import MetricsServer

log = logging.getLogger(__name__)

SCORING_SECONDS = 0.02
"""The engine's thread takes new audio after so long, though more windows are due."""
TICK_SECONDS = 0.1
"""The main thread looks for signals and runs its periodic tasks so often."""
LAST_SECONDS = 1.0
"""The last windows are scored for so long at the end."""
LINGER_SECONDS = 0.5
"""Subscribers have so long at the end to fetch what is left."""
STUCK_SECONDS = 2.0
"""The engine's thread may take so long to end before it is left behind."""
BRIDGE_SECONDS = 0.3
"""Bridges have at least so long to end after the last message. They get what the other steps did
not use of their time, too."""


class Daemon:
    """Everything that runs, from the start to the end of one process.

    Ready when constructed: the models are warm, the feed is bound and commands are accepted. The
    configuration was checked. `path` is that of its file, for `reload`.

    Raises:
        StreamtagError: a model or an address cannot be used.
    """

    def __init__(self, config: Config, path: Path | None = None) -> None:
        self._monitor = Monitor()
        self._output = EventOutput(config.feed, self._monitor)
        self.address = self._output.publisher.address
        """Where the feed is."""
        self._control: ControlServer | None = None
        try:
            taggers = load_taggers(config)
            self._engine = Engine(
                taggers,
                max_batch=config.engine.max_batch,
                max_wait=config.engine.max_wait_ms / 1000,
                sizes=config.engine.batch_sizes,
                slack=config.engine.slack_seconds,
                threads=windows_at_once(config.engine),
                exact=config.engine.exact,
            )
            cards = {name: tagger.card for name, tagger in taggers.items()}
            self._streams = StreamRegistry(config, cards, self._engine, self._output)
            models = ModelRegistry(self._streams, self._engine, self._output, taggers)
            self._bridges = BridgeSupervisor(
                config, path, self.address, self._output.publisher.journal_path
            )
            self._executor = CommandExecutor(
                path, self._streams, self._engine, models, self.counters
            )
            self._control = _open_control_server(config, self._executor)
            self._metrics = self._open_metrics_server(config.metrics.bind)
        except BaseException:
            if self._control is not None:
                self._control.close()
            self._output.publisher.close()
            raise
        self._systemd = SystemdNotifier(self._monitor, time.monotonic())
        self._stopping = False
        self.failed = False
        """Whether the engine itself failed."""

    @property
    def lost(self) -> int:
        """Number of streams whose source failed."""
        return self._streams.lost

    def run(
        self,
        is_stop_requested: Callable[[], bool],
        is_reload_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        """Runs until a stop is requested, or all streams have ended and `exit_when_done` is set.

        Both functions are called ten times a second; the second is True once for each request.
        """
        worker = threading.Thread(target=self._run_engine, name="engine", daemon=True)
        self._wait_for_subscriber(is_stop_requested)
        self._streams.start()
        worker.start()
        while worker.is_alive() and not is_stop_requested():
            worker.join(TICK_SECONDS)
            if is_reload_requested():
                self.reload()
            self._tick()
        self._stop(worker)

    def _stop(self, worker: threading.Thread) -> None:
        """Ends the engine's thread, then everything else, each step within its time."""
        self._systemd.stopping()
        self._stopping, began = True, time.monotonic()
        self._streams.stop()
        worker.join(STUCK_SECONDS)
        if worker.is_alive():
            self.failed = True
            log.critical("the engine does not end; left behind, its last events are lost")
        if self._control is not None:
            self._control.close()
        self._output.publisher.close(LINGER_SECONDS)
        spent = time.monotonic() - began
        self._bridges.close(BRIDGE_SECONDS + max(0.0, STUCK_SECONDS - spent))
        if self._metrics is not None:
            self._metrics.close()

    def reload(self) -> None:
        """Requests that the configuration file is read again. Its mistakes go to the log."""
        log.info("reload of the configuration requested")
        systemd = self._systemd
        systemd.reloading(time.monotonic_ns() // 1000)
        done = self._executor.submit(PlainCommand(command="reload"))
        done.add_done_callback(lambda result: systemd.reloaded(str(result.exception() or "")))

    def _tick(self) -> None:
        """Periodic tasks of the main thread."""
        self._systemd.tick(time.monotonic())
        self._bridges.tick(self._streams.config)

    def _wait_for_subscriber(self, is_stop_requested: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._streams.config.feed.wait_for_subscriber_seconds
        while (left := deadline - time.monotonic()) > 0 and not is_stop_requested():
            self._tick()
            if self._output.publisher.wait_for_subscriber(min(left, TICK_SECONDS)):
                return

    def _run_engine(self) -> None:
        """The engine's thread: audio in, events out, round by round."""
        streams = self._streams
        use_threads(streams.config.engine)
        try:
            while not self._stopping:
                if streams.config.exit_when_done and all(s.ended for s in streams.streams):
                    break
                items = streams.queue.get(self._seconds_until_next_task())
                began = time.monotonic()
                streams.handle(items)
                self._score()
                self._executor.work()
                self._publish_notices_and_stats()
                self._monitor.record_round(began, time.monotonic())
        except Exception:
            self.failed = True
            log.critical("the engine failed; the daemon ends", exc_info=True)
        finally:
            self._executor.close()
            self._close_streams()

    def _score(self) -> None:
        """Scores the windows that are due, for as long as new audio can be kept waiting."""
        engine, until = self._engine, time.monotonic() + SCORING_SECONDS
        self._output.publish(engine.step(now := time.monotonic()))
        while (due := engine.next_deadline()) is not None and due <= now < until:
            self._output.publish(engine.step(now := time.monotonic()))

    def _publish_notices_and_stats(self) -> None:
        for text in self._engine.notices():
            self._output.publish_notice(text)
        if self._output.until_stats <= 0:
            self._output.publish_stats(self.counters())

    def _close_streams(self) -> None:
        """Closes every stream. Every tag goes off, though the last windows may stay unscored."""
        deadline, opened = time.monotonic() + LAST_SECONDS, tuple(self._engine.streams)
        for name in opened:
            score = not self.failed and time.monotonic() < deadline
            events = self._engine.close_many([name], Reason.SHUTDOWN, score=score)
            self._output.publish(events)
        for stream in self._streams.streams:
            if isinstance(stream.state, SourceState) and stream.name not in opened:
                self._output.publish_unopened(stream.name, Reason.SHUTDOWN)

    def _seconds_until_next_task(self) -> float:
        """How long the engine's thread may wait for new audio."""
        deadline, now = self._engine.next_deadline(), time.monotonic()
        until_due = 1.0 if deadline is None else deadline - now
        return max(0.0, min(1.0, self._output.until_stats, until_due))

    def histograms(self) -> Mapping[Series, Histogram]:
        """Batch sizes and delays."""
        published = {Series("publish_seconds"): self._output.publisher.delays}
        return self._engine.histograms() | published

    def series(self) -> Mapping[Series, float]:
        """All counters, with their labels. Any thread may call it."""
        streams, publisher = self._streams, self._output.publisher
        feed = {series(f"feed.{name}"): count for name, count in publisher.counters.copy().items()}
        lost = {
            Series("intake.dropped_blocks"): streams.queue.dropped_blocks,
            Series("streams.lost"): streams.lost,
        }
        causes = {series("sources.lost", cause=c): n for c, n in streams.reconnects.copy().items()}
        shadows = self._output.shadows.series()
        return self._engine.series() | feed | lost | causes | self._bridges.series() | shadows

    def counters(self) -> dict[str, float]:
        """All counters by dotted name, as `stats` messages and `streamtag ctl status` have them."""
        return dotted(self.series())

    def _open_metrics_server(self, bind: str) -> "MetricsServer | None":
        """The server of `/metrics`; None where it is not wanted. The exporter is imported then."""
        if not bind:
            return None
        from streamtag.daemon.ops.metrics import Metrics, MetricsServer

        metrics = Metrics(self._monitor, self.series, self.histograms)
        return MetricsServer(bind, metrics, self._monitor)


def _open_control_server(config: Config, executor: CommandExecutor) -> ControlServer | None:
    """The control socket; None where it is not wanted, or another daemon has the usual path."""
    if not config.control.enabled:
        return None
    try:
        server = ControlServer(Path(config.control.socket or default_path()), executor.submit)
    except ControlError as error:
        if config.control.socket:
            raise
        log.warning("%s; this daemon takes no commands", error)
        return None
    log.info("commands are taken at %s", server.path)
    return server


def serve(config: Config, path: Path | None = None) -> int:
    """Runs a daemon in the main thread until a signal or the end of its streams.

    SIGHUP reads the file at `path` again. Returns the exit code: 0, or 1 where a stream was lost
    or the engine failed, or 130 after Ctrl-C.
    """
    caught, hangups = list[int](), list[int]()

    def is_reload_requested() -> bool:
        requested = bool(hangups)
        hangups.clear()
        return requested

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: catch,
        signal.SIGTERM: catch,
        signal.SIGHUP: lambda number, _: hangups.append(number),
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        daemon = Daemon(config, path)
        log.info("%s%s", READY, daemon.address)
        daemon.run(lambda: bool(caught), is_reload_requested)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    log.info("ended%s", f" by {signal.Signals(caught[0]).name}" if caught else "")
    if signal.SIGINT in caught:
        return 130
    return 1 if daemon.failed or (daemon.lost and not caught) else 0
