"""The engine of a daemon in a thread of its own, for daemons of one process."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from streamtag.config.config import Config
from streamtag.daemon.engine_commands import EngineCommand
from streamtag.daemon.engine_loop import EngineLoop
from streamtag.daemon.output import EventOutput
from streamtag.engine.counters import Histogram, Series

log = logging.getLogger(__name__)

STUCK_SECONDS = 2.0
"""How long to wait for the engine's thread to end."""


class EngineThread:
    """An engine with all streams; it publishes their events itself.

    Args:
        config: of the daemon.
        output: publishes.
        counters: gives all counters of the daemon by dotted name.

    Raises:
        StreamtagError: a model cannot be used.
    """

    def __init__(
        self, config: Config, output: EventOutput, counters: Callable[[], Mapping[str, float]]
    ) -> None:
        self._loop, self._output, self._counters = EngineLoop(config, output), output, counters
        self._left_behind = False
        self._thread = threading.Thread(
            target=self._loop.run, args=(self,), name="engine", daemon=True
        )

    @property
    def failed(self) -> bool:
        """Whether the engine failed, and its events were lost."""
        return self._loop.failed or self._left_behind

    @property
    def lost(self) -> int:
        """Number of streams whose source failed."""
        return self._loop.streams.lost

    def start(self) -> None:
        """Opens the sources and begins to work."""
        self._loop.streams.start()
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Waits a while; False once the engine has ended."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def stop(self) -> None:
        """Closes every source and stream."""
        self._loop.stop()
        if self._thread.ident is None:
            return  # it was never started
        self._thread.join(STUCK_SECONDS)
        if self._thread.is_alive():
            self._left_behind = True
            log.critical("the engine does not end; left behind, its last events are lost")
        self._loop.streams.finish_clips()

    def ask(self, command: EngineCommand) -> list[Any]:
        """The engine's answer; see `Engines`."""
        return [self._loop.submit(command).result()]

    def ask_owner(self, stream: str, command: EngineCommand) -> Any:
        """The engine's answer; see `Engines`."""
        return self._loop.submit(command).result()

    def series(self) -> Mapping[Series, float]:
        """All counters of the streams and the engine."""
        return {**self._loop.series(), **self._output.shadows.series()}

    def histograms(self) -> Mapping[Series, Histogram]:
        """Sizes of batches and waits of windows."""
        return self._loop.engine.histograms()

    def until_task(self) -> float:
        """Seconds until counters are to be published."""
        return self._output.until_stats

    def end_round(self, began: float, ended: float) -> None:
        """Publishes counters, if it is time."""
        if self._output.until_stats <= 0:
            self._output.publish_stats(self._counters())
        self._output.monitor.audio_seconds = self._loop.streams.audio_seconds
        self._output.monitor.record_round(began, ended)
