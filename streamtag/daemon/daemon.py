"""The daemon: sources, engine, publisher and control put together; threads and signals.

One thread per source reads blocks, one runs the engine, one publishes, one takes commands; bounded
queues lie between them. The main thread waits for a signal. Whatever ends, every tag that is on is
switched off and published before the socket closes.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from streamtag.bridges.supervision import BridgeSupervisor
from streamtag.config.config import Config
from streamtag.daemon.command_executor import CommandExecutor
from streamtag.daemon.commands import PlainCommand
from streamtag.daemon.control import ControlServer, default_path
from streamtag.daemon.models import load_taggers, use_threads, windows_at_once
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.ops.operation import Operation
from streamtag.daemon.output import EventOutput
from streamtag.daemon.reload import Reshaping
from streamtag.daemon.streams import JOIN_SECONDS, StreamRegistry
from streamtag.engine.counters import Histogram
from streamtag.engine.engine import Engine
from streamtag.engine.events import Reason, SourceState
from streamtag.errors import ControlError
from streamtag.feed.publisher import READY

__all__ = ["JOIN_SECONDS", "Daemon", "serve"]

log = logging.getLogger(__name__)

SCORE_SECONDS = 0.02
"""After which new audio is taken, though more windows are due."""
LOOK_SECONDS = 0.1
"""How soon a signal is noticed."""
LAST_SECONDS = 1.0
"""How long the last windows may be scored at the end."""
LINGER_SECONDS = 0.5
"""How long subscribers may take at the end to fetch what is left."""
STUCK_SECONDS = 2.0
"""How long the engine may take to end before it is left behind."""
BRIDGE_SECONDS = 0.3
"""How long bridges may take to end after the last message, at least; longer where the others took
less than they may."""


class Daemon:
    """Everything that runs, from the start to the end of one process.

    Ready when constructed: models are warm, the feed is bound and commands are taken.

    Args:
        config: checked.
        path: of its file, for `reload`; None where there is none.

    Raises:
        StreamtagError: a model or an address cannot be used.
    """

    def __init__(self, config: Config, path: Path | None = None) -> None:
        self._monitor = Monitor()
        self._outlet = EventOutput(config.feed, self._monitor)
        self.address = self._outlet.publisher.address
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
            )
            cards = {name: tagger.card for name, tagger in taggers.items()}
            self._lineup = StreamRegistry(config, cards, self._engine, self._outlet)
            reshaping = Reshaping(self._lineup, self._engine, self._outlet, taggers)
            self._bridges = BridgeSupervisor(
                config, path, self.address, self._outlet.publisher.journal_path
            )
            self._orders = CommandExecutor(
                path, self._lineup, self._engine, reshaping, self.counters
            )
            self._control = _listen(config, self._orders)
            self.operation = Operation(
                config.metrics.bind, self.counters, self.histograms, self._monitor
            )
        except BaseException:
            if self._control is not None:
                self._control.close()
            self._outlet.publisher.close()
            raise
        for name, tagger in taggers.items():
            self._outlet.introduce(name, tagger)
        self._stopping = False
        self.failed = False
        """Whether the engine itself failed."""

    @property
    def lost(self) -> int:
        """Streams whose source failed."""
        return self._lineup.lost

    def run(
        self,
        asked_to_stop: Callable[[], bool],
        asked_to_reload: Callable[[], bool] = lambda: False,
    ) -> None:
        """Runs until it is asked to stop, or all streams have ended and the configuration says so.

        Args:
            asked_to_stop: looked at ten times a second.
            asked_to_reload: the same; True once for each time.
        """
        worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._wait_for_subscriber(asked_to_stop)
        self._lineup.start()
        worker.start()
        while worker.is_alive() and not asked_to_stop():
            worker.join(LOOK_SECONDS)
            if asked_to_reload():
                self.reload()
            self._look_after()
        self.operation.service.stopping()
        self._stopping, began = True, time.monotonic()
        self._lineup.stop()
        worker.join(STUCK_SECONDS)
        if worker.is_alive():
            self.failed = True
            log.critical("the engine does not end; left behind, its last events are lost")
        if self._control is not None:
            self._control.close()
        self._outlet.publisher.close(LINGER_SECONDS)
        spent = time.monotonic() - began
        self._bridges.close(BRIDGE_SECONDS + max(0.0, STUCK_SECONDS - spent))
        self.operation.close()

    def reload(self) -> None:
        """Reads the configuration file again, soon; what is wrong with it goes to the log."""
        log.info("asked to read the configuration again")
        service = self.operation.service
        service.reloading(time.monotonic_ns() // 1000)
        self._orders.ask(
            PlainCommand(command="reload"),
            lambda result: service.reloaded(str(result) if isinstance(result, Exception) else ""),
        )

    def _look_after(self) -> None:
        """What is done ten times a second beside everything else."""
        self.operation.tick()
        self._bridges.tick(self._lineup.config)

    def _wait_for_subscriber(self, asked_to_stop: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._lineup.config.feed.wait_for_subscriber_seconds
        while (left := deadline - time.monotonic()) > 0 and not asked_to_stop():
            self._look_after()
            if self._outlet.publisher.wait_for_subscriber(min(left, LOOK_SECONDS)):
                return

    def _work(self) -> None:
        """The engine's thread."""
        lineup, engine, outlet = self._lineup, self._engine, self._outlet
        use_threads(lineup.config.engine)
        try:
            while not self._stopping and not (lineup.over and lineup.config.exit_when_done):
                items = lineup.queue.get(self._patience())
                began = time.monotonic()
                lineup.take(items)
                self._score()
                self._orders.work()
                for text in engine.notices():
                    outlet.notice(text)
                if outlet.until_stats <= 0:
                    outlet.publish_stats(self.counters())
                self._monitor.round(began, time.monotonic())
        except Exception:
            self.failed = True
            log.critical("the engine failed; the daemon ends", exc_info=True)
        finally:
            self._orders.close()
            self._close_all()

    def _score(self) -> None:
        """Runs the windows that are due, for as long as new audio can be kept waiting."""
        engine, until = self._engine, time.monotonic() + SCORE_SECONDS
        self._outlet.publish(engine.step(now := time.monotonic()))
        while (due := engine.next_deadline()) is not None and due <= now < until:
            self._outlet.publish(engine.step(now := time.monotonic()))

    def _close_all(self) -> None:
        """Ends every stream; what cannot be scored soon is not, but every tag goes off."""
        deadline, opened = time.monotonic() + LAST_SECONDS, tuple(self._engine.streams)
        for name in opened:
            score = not self.failed and time.monotonic() < deadline
            events = self._engine.close_many([name], Reason.SHUTDOWN, score=score)
            self._outlet.publish(events)
        for seat in self._lineup.seats:
            if isinstance(seat.state, SourceState) and seat.name not in opened:
                self._outlet.not_up(seat.name, Reason.SHUTDOWN)

    def _patience(self) -> float:
        """Seconds until something other than new audio is to be done."""
        deadline, now = self._engine.next_deadline(), time.monotonic()
        until_due = 1.0 if deadline is None else deadline - now
        return max(0.0, min(1.0, self._outlet.until_stats, until_due))

    def histograms(self) -> Mapping[str, Histogram]:
        """Sizes and times, by name."""
        return self._engine.histograms() | {"publish_seconds": self._outlet.publisher.delays}

    def counters(self) -> Mapping[str, float]:
        """Everything that is counted, by name."""
        lineup, outlet = self._lineup, self._outlet
        feed = {f"feed.{name}": count for name, count in outlet.publisher.counters.items()}
        lost = {"intake.dropped_blocks": lineup.queue.dropped_blocks, "streams.lost": self.lost}
        sources = {f"sources.lost.{cause}": count for cause, count in lineup.reconnects.items()}
        counted = feed | lost | sources | self._bridges.counters()
        return self._engine.stats() | counted | outlet.agreement()


def _listen(config: Config, orders: CommandExecutor) -> ControlServer | None:
    """Where commands are taken; None where they are not wanted, or the usual place is taken.

    Raises:
        ControlError: the configured place cannot be used.
    """
    if not config.control.enabled:
        return None
    try:
        server = ControlServer(Path(config.control.socket or default_path()), orders.ask)
    except ControlError as error:
        if config.control.socket:
            raise
        log.warning("%s; this daemon takes no commands", error)
        return None
    log.info("commands are taken at %s", server.path)
    return server


def serve(config: Config, path: Path | None = None) -> int:
    """Runs a daemon in the main thread until a signal or the end of its streams.

    Args:
        config: checked.
        path: of its file; SIGHUP reads it again.

    Returns:
        The exit code: 0; 1 where a stream was lost or the engine failed; 130 after Ctrl-C.
    """
    caught, hangups = list[int](), list[int]()

    def asked_to_reload() -> bool:
        asked = bool(hangups)
        hangups.clear()
        return asked

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one means it

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: catch,
        signal.SIGTERM: catch,
        signal.SIGHUP: lambda number, _: hangups.append(number),
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        daemon = Daemon(config, path)
        log.info("%s%s", READY, daemon.address)
        daemon.run(lambda: bool(caught), asked_to_reload)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    log.info("ended%s", f" by {signal.Signals(caught[0]).name}" if caught else "")
    if signal.SIGINT in caught:
        return 130
    return 1 if daemon.failed or (daemon.lost and not caught) else 0
