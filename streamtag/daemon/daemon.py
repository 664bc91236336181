"""The daemon: engines, publisher, commands, bridges, with their threads and signals.

A C++ thread reads pipes and sockets, and each source has a thread that watches it. One thread runs
the engine, one publishes, one serves the control socket. Bounded queues lie between them. The main
thread waits for a signal. Whatever ends the daemon, every tag that is on is switched off and
published before the socket closes.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from streamtag.bridges.supervision import BridgeSupervisor
from streamtag.config.config import Config
from streamtag.config.control_socket import default_path
from streamtag.config.model_fit import bundle_of
from streamtag.daemon.admission import admit_all
from streamtag.daemon.alerting import open_alerts
from streamtag.daemon.command_executor import CommandExecutor
from streamtag.daemon.control import ControlServer, PlainCommand
from streamtag.daemon.engine_commands import Engines
from streamtag.daemon.fleet.agent import FleetAgent
from streamtag.daemon.fleet.gate import LeaseGate
from streamtag.daemon.fleet_host import open_fleet
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.ops.systemd import SystemdNotifier
from streamtag.daemon.output import EventOutput
from streamtag.daemon.worker_launcher import Launcher
from streamtag.daemon.worker_pool import WorkerPool, number_of_workers
from streamtag.engine.counters import Histogram, Series, dotted, series
from streamtag.errors import ControlError
from streamtag.feed.publisher import READY
from streamtag.model.bundle import read_card
from streamtag.monitoring.clip_maker import ClipMaker
from streamtag.monitoring.clips import ClipObserver
from streamtag.monitoring.derivation import Observer
from streamtag.monitoring.section_observer import SectionObserver

if TYPE_CHECKING:
    from streamtag.daemon.ops.metrics import MetricsServer

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
"""How often the main thread checks for signals and runs its periodic tasks."""
LINGER_SECONDS = 0.5
"""How long subscribers may take at the end to receive the last messages."""
STOP_SECONDS = 2.0
"""What engines and feed need less than this to end is left to the bridges."""
CLIPS_SECONDS = 60.0
"""Clips have so long to be finished where all streams have ended by themselves. Otherwise what is
not finished soon is finished after the next start."""
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
        self._fleet: FleetAgent | None = None
        gate, whole = (LeaseGate() if config.fleet else None), config
        if config.fleet:  # the fleet decides which streams run here
            config = config.model_copy(update={"streams": {}, "exit_when_done": False})
        self._monitor = Monitor()
        self._alerts = open_alerts(config)
        self._clips = ClipMaker(config.clips) if config.clips else None
        observers, style = self._observers(config), config.log.style
        self._output = EventOutput(config.feed, self._monitor, observers, style, gate=gate)
        self.address = self._output.address
        """Where the feed is."""
        self._control: ControlServer | None = None
        engines: Engines | None = None
        try:
            self._engines = engines = _start_engines(config, self._output, self.counters)
            publisher = self._output.publisher
            self._bridges = BridgeSupervisor(
                config, path, publisher.address, publisher.journal_path
            )
            self._executor = CommandExecutor(
                config, path, self._engines, self._output, self.counters, self._alerts
            )
            if gate is not None:
                self._fleet = open_fleet(whole, self._executor, self._output, gate)
            self._control = _open_control_server(config, self._executor)
            self._metrics = self._open_metrics_server(config.metrics.bind)
        except BaseException:
            if self._fleet is not None:
                self._fleet.close()
            if engines is not None:
                engines.stop()
            if self._control is not None:
                self._control.close()
            self._output.close(LINGER_SECONDS)
            raise
        self._systemd = SystemdNotifier(self._monitor, time.monotonic())
        if self._clips is not None:
            self._clips.start(self._output.publish_derived, self._output.publish_notice)

    def _observers(self, config: Config) -> list[Observer]:
        """What derives messages from those that are published."""
        found: list[Observer] = [self._alerts] if config.alert else []
        if config.clips is not None and self._clips is not None:
            found.append(ClipObserver(config.clips, self._clips, self._may_keep))
        if config.feed.sections:
            cards = {name: read_card(bundle_of(one)) for name, one in config.taggers.items()}
            found.append(SectionObserver(cards))
        return found

    def _may_keep(self, stream: str) -> bool:
        """Whether the audio of a stream may be kept."""
        config = self._executor.config
        return stream in config.streams and config.stream(stream).clips

    @property
    def failed(self) -> bool:
        """Whether an engine failed, and its events were lost."""
        return self._engines.failed

    @property
    def lost(self) -> int:
        """Number of streams whose source failed."""
        return self._engines.lost

    def run(
        self,
        is_stop_requested: Callable[[], bool],
        is_reload_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        """Runs until a stop is requested, or all streams have ended and `exit_when_done` is set.

        Both functions are called ten times a second; the second is True once for each request.
        """
        self._wait_for_subscriber(is_stop_requested)
        self._engines.start()
        if self._fleet is not None:
            self._fleet.begin()
        while self._engines.wait(TICK_SECONDS) and not is_stop_requested():
            if is_reload_requested():
                self.reload()
            self._tick()
        self._stop(done=not is_stop_requested())

    def _stop(self, *, done: bool) -> None:
        """Ends the engines, then everything else, each step within its time.

        With `done` all streams have ended, and nobody waits for an end at once.
        """
        self._systemd.stopping()
        if self._fleet is not None:
            self._fleet.close()
        began = time.monotonic()
        self._executor.close()
        self._engines.stop()
        if self._control is not None:
            self._control.close()
        if self._clips is not None:
            self._clips.close(CLIPS_SECONDS if done else STOP_SECONDS / 2)
        self._output.close(LINGER_SECONDS)
        if self._clips is not None:
            self._clips.clean()
        spent = time.monotonic() - began
        self._bridges.close(BRIDGE_SECONDS + max(0.0, STOP_SECONDS - spent))
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
        self._bridges.tick(self._executor.config)
        self._output.tick()

    def _wait_for_subscriber(self, is_stop_requested: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._executor.config.feed.wait_for_subscriber_seconds
        while (left := deadline - time.monotonic()) > 0 and not is_stop_requested():
            self._tick()
            if self._output.publisher.wait_for_subscriber(min(left, TICK_SECONDS)):
                return

    def histograms(self) -> Mapping[Series, Histogram]:
        """Batch sizes and delays."""
        published = {Series("publish_seconds"): self._output.publisher.delays}
        return {**self._engines.histograms(), **published}

    def series(self) -> Mapping[Series, float]:
        """All counters, with their labels. Any thread may call it."""
        counts = self._output.counters()
        feed = {series(f"feed.{name}"): count for name, count in counts.items()}
        return {**self._engines.series(), **feed, **self._bridges.series()}

    def counters(self) -> dict[str, float]:
        """All counters by dotted name, as `stats` messages and `streamtag ctl status` have them."""
        return dotted(self.series())

    def _open_metrics_server(self, bind: str) -> "MetricsServer | None":
        """The server of `/metrics`; None where it is not wanted. The exporter is imported then."""
        if not bind:
            return None
        from streamtag.daemon.ops.metrics import Metrics, MetricsServer

        metrics = Metrics(self._monitor, self.series, self.histograms)
        obstacle = self._fleet.obstacle if self._fleet is not None else None
        return MetricsServer(bind, metrics, self._monitor, obstacle)


def _start_engines(
    config: Config, output: EventOutput, counters: Callable[[], Mapping[str, float]]
) -> Engines:
    """The engine in this process, or workers. On a GPU one process owns it.

    Torch is imported only where it is used. It is large.
    """
    admit_all(config)  # here, not in each worker at the same time
    workers = number_of_workers(config.engine, len(os.sched_getaffinity(0)))
    if workers > 1 and config.engine.device == "cuda":
        workers = 1
    if workers > 1:
        launcher = Launcher(config.log.style, verbose=log.isEnabledFor(logging.DEBUG))
        if config.engine.device == "cpu" or not launcher.has_gpu():
            return WorkerPool(config, output, counters, launcher, workers)
        launcher.close()
    if config.engine.workers not in (1, "auto"):
        log.warning("engine.workers: a GPU belongs to one process, so there is one")
    from streamtag.daemon.engine_thread import EngineThread

    return EngineThread(config, output, counters)


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
