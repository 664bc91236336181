"""The daemon's supervision of its bridges, each of which is a process and a subscriber.

The daemon starts one process per kind of bridge that is configured, restarts it when it dies, and
ends it at its own end. It never waits for one, so a bridge that hangs or dies costs it nothing.
"""

import logging
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from streamtag.bridges.bridge import (
    ENV_CONFIG,
    ENV_FEED,
    ENV_JOURNAL,
    ENV_PARENT,
    config_as_file,
    local_address,
)
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.bridge_kinds import KINDS, BridgeKind
from streamtag.config.bridges import WebhookConfig
from streamtag.config.config import Config
from streamtag.engine.counters import Series, series
from streamtag.errors import ConfigError

log = logging.getLogger(__name__)

DEFAULT_BACKOFF = BackoffPolicy()
TERMINATE_SECONDS = 3.0
"""How long a bridge whose table has changed may take to end before it is killed."""
KILL_SECONDS = 0.1
"""How long the daemon waits for a killed process."""


def missing_libraries(config: Config, kinds: Sequence[BridgeKind] | None = None) -> Iterator[str]:
    """An error for each bridge that is configured and whose libraries are not installed."""
    for kind in KINDS if kinds is None else kinds:
        if kind.configured(config) and (fault := kind.missing()):
            yield fault


def faults_of_changed_tables(old: Config, new: Config, *, from_file: bool) -> Iterator[str]:
    """An error for each bridge whose table has changed and that could not be started.

    A daemon that was not started `from_file` has no bridges.
    """
    for kind in KINDS:
        table = getattr(new, kind.name)
        if not table or table == getattr(old, kind.name):
            continue
        if not from_file:
            yield (
                f"{kind.name}: expected a daemon that was started from a file, got one without: "
                "it starts no other processes; run it by streamtag run CONFIG.toml"
            )
        yield from missing_libraries(new, [kind])
        for one in table if isinstance(table, tuple) else (table,):
            name = f" {one.name!r}" if isinstance(one, WebhookConfig) else ""
            yield from one.missing_files(kind.name + name)


class BridgeSupervisor:
    """The bridges of a daemon. `tick` and `close` are for one thread.

    Args:
        config: of the daemon, checked.
        path: of its file; without one there are no bridges.
        feed: address that the feed is bound to.
        journal: its path.
        kinds: of bridges; None for all.
        backoff: before a bridge that died is restarted.
        clock: seconds.

    Raises:
        ConfigError: a bridge is configured whose libraries are not installed.
    """

    def __init__(
        self,
        config: Config,
        path: Path | None,
        feed: str,
        journal: Path | None,
        kinds: Sequence[BridgeKind] | None = None,
        backoff: BackoffPolicy = DEFAULT_BACKOFF,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        kinds = (KINDS if kinds is None else kinds) if path else ()
        if faults := list(missing_libraries(config, kinds)):
            raise ConfigError("\n".join(faults))
        self._clock = clock
        environment = {
            ENV_FEED: local_address(feed),
            ENV_JOURNAL: str(journal or ""),
            ENV_CONFIG: "stdin",
            ENV_PARENT: str(os.getpid()),
        }
        self._bridges = [
            _Bridge(
                kind.name,
                [sys.executable, *kind.program, kind.name, str(path)],
                environment,
                backoff,
            )
            for kind in kinds
        ]

    def tick(self, config: Config) -> None:
        """Starts, restarts and ends bridges by the running configuration, about ten times a second.

        A bridge whose table has changed is started anew.
        """
        now = self._clock()
        for bridge in self._bridges:
            bridge.tick(config, now)

    def series(self) -> dict[Series, float]:
        """How often each bridge was restarted, whether it runs, and for how many seconds."""
        found: dict[Series, float] = {}
        for bridge in self._bridges:
            if bridge.table:
                seconds = bridge.seconds(self._clock())
                found[series("restarts", bridge=bridge.name)] = bridge.restarts
                found[series("running", bridge=bridge.name)] = float(seconds is not None)
                found[series("running_seconds", bridge=bridge.name)] = seconds or 0.0
        return found

    def close(self, seconds: float) -> None:
        """Ends all bridges; kills those that take longer than some seconds."""
        deadline = time.monotonic() + seconds
        for bridge in self._bridges:
            bridge.terminate()
        for bridge in self._bridges:
            bridge.end(max(0.0, deadline - time.monotonic()))


class _Bridge:
    """One kind of bridge, and its process if it has a table in the configuration."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], policy: BackoffPolicy
    ) -> None:
        self.name, self.restarts = name, 0
        self.table: object = None
        """The table that its process runs with."""
        self._command, self._environment, self._policy = command, environment, policy
        self._process: subprocess.Popen[bytes] | None = None
        self._begin_with(None)

    def seconds(self, now: float) -> float | None:
        """How long the process has run; None while there is none."""
        return None if self._process is None else max(0.0, now - self._started_at)

    def tick(self, config: Config, now: float) -> None:
        """Ends the process if its table has changed; starts it if there is none and it is due."""
        table = getattr(config, self.name, None)
        if self._kill_at < math.inf or table != self.table:
            if self._is_still_ending(now):
                return
            self._begin_with(table)
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            self._backoff.worked(now - self._started_at)
            self._failed(f"ended with {code}" if code >= 0 else f"ended by signal {-code}", now)
        if table and self._process is None and now >= self._due:
            self._start(config, now)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def end(self, seconds: float = 0.0) -> None:
        """Ends the process for good; kills it if it takes longer than some seconds."""
        process, self._process = self._process, None
        self.table = None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        if process.poll() is None:
            log.warning("bridge %s: did not end after SIGTERM; killed", self.name)
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_SECONDS)

    def _begin_with(self, table: object) -> None:
        """Forgets what happened with another table."""
        self.table, self._backoff = table, Backoff(self._policy, random.random)
        self._started_at = self._due = -math.inf
        self._kill_at = math.inf

    def _start(self, config: Config, now: float) -> None:
        try:
            with config_as_file(config) as file:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=file,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | self._environment,
                    start_new_session=True,  # Ctrl-C reaches only the daemon, which ends bridges
                )
        except OSError as error:
            self._failed(f"not started: {error}", now)
            return
        self.restarts += self._started_at > -math.inf
        self._started_at = now
        log.info("bridge %s: started, process %d", self.name, self._process.pid)

    def _is_still_ending(self, now: float) -> bool:
        """Ends the process without waiting: asks it the first time, kills it if it takes long."""
        if self._process is None or self._process.poll() is not None:
            self._process = None
            return False
        if self._kill_at == math.inf:
            log.info("bridge %s: its table has changed; ending it", self.name)
            self._process.terminate()
            self._kill_at = now + TERMINATE_SECONDS
        elif now >= self._kill_at:
            self._process.kill()
        return True

    def _failed(self, why: str, now: float) -> None:
        wait = self._backoff.failed()
        self._due = now + wait
        log.error("bridge %s: %s; restart in %.1f s", self.name, why, wait)
