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

from streamtag.commands import Plain
from streamtag.config import Config
from streamtag.control import ControlServer, default_path
from streamtag.engine import Engine
from streamtag.errors import ControlError
from streamtag.events import Reason
from streamtag.lineup import Lineup
from streamtag.loading import load_taggers
from streamtag.operation import Operation
from streamtag.outlet import Outlet
from streamtag.publisher import READY
from streamtag.reshaping import Reshaping

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
"""How soon a signal is noticed."""


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
        self._outlet = Outlet(config.feed)
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
            )
            cards = {name: tagger.card for name, tagger in taggers.items()}
            self._lineup = Lineup(config, cards, self._engine, self._outlet)
            reshaping = Reshaping(self._lineup, self._engine, self._outlet, taggers)
            self._operation = Operation(path, self._lineup, self._engine, reshaping, self.counters)
            self._control = _listen(config, self._operation)
        except BaseException:
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
        worker = threading.Thread(target=self._work, name="engine")
        self._wait_for_subscriber(asked_to_stop)
        self._lineup.start()
        worker.start()
        while worker.is_alive() and not asked_to_stop():
            worker.join(LOOK_SECONDS)
            if asked_to_reload():
                self.reload()
        self._stopping = True
        self._lineup.intake.close()
        worker.join()
        self._lineup.stop()
        if self._control is not None:
            self._control.close()
        self._outlet.publisher.close()

    def reload(self) -> None:
        """Reads the configuration file again, soon; what is wrong with it goes to the log."""
        log.info("asked to read the configuration again")
        self._operation.ask(Plain(command="reload"), lambda _: None)

    def _wait_for_subscriber(self, asked_to_stop: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._lineup.config.feed.wait_for_subscriber_seconds
        while (left := deadline - time.monotonic()) > 0 and not asked_to_stop():
            if self._outlet.publisher.wait_for_subscriber(min(left, LOOK_SECONDS)):
                return

    def _work(self) -> None:
        """The engine's thread."""
        lineup, engine, outlet = self._lineup, self._engine, self._outlet
        try:
            while not self._stopping and not (lineup.over and lineup.config.exit_when_done):
                lineup.take(lineup.intake.take(self._patience()))
                outlet.publish(engine.step(time.monotonic()))
                self._operation.work()
                if outlet.until_stats <= 0:
                    outlet.publish_stats(self.counters())
        except Exception:
            self.failed = True
            log.critical("the engine failed; the daemon ends", exc_info=True)
        finally:
            self._operation.close()
            outlet.publish(engine.close_many(engine.streams, Reason.SHUTDOWN))

    def _patience(self) -> float:
        """Seconds until something other than new audio is to be done."""
        deadline, now = self._engine.next_deadline(), time.monotonic()
        until_due = 1.0 if deadline is None else deadline - now
        return max(0.0, min(1.0, self._outlet.until_stats, until_due))

    def counters(self) -> Mapping[str, float]:
        """Everything that is counted, by name."""
        lineup, outlet = self._lineup, self._outlet
        feed = {f"feed.{name}": count for name, count in outlet.publisher.counters.items()}
        lost = {"intake.dropped_blocks": lineup.intake.dropped_blocks, "streams.lost": self.lost}
        sources = {f"sources.lost.{cause}": count for cause, count in lineup.reconnects.items()}
        return self._engine.stats() | feed | lost | sources | outlet.agreement()


def _listen(config: Config, operation: Operation) -> ControlServer | None:
    """Where commands are taken; None where they are not wanted, or the usual place is taken.

    Raises:
        ControlError: the configured place cannot be used.
    """
    if not config.control.enabled:
        return None
    try:
        server = ControlServer(Path(config.control.socket or default_path()), operation.ask)
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
