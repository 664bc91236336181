"""Bridges: processes beside the daemon that carry the feed elsewhere, each just a subscriber.

The daemon starts one per kind that is configured, starts it again when it dies, and ends it at its
own end; it never waits for one. A bridge that hangs or dies costs the daemon nothing.
"""

import logging
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from streamtag.bridges.bridge import ADDRESS, CONFIG, JOURNAL, PARENT, handed_over, reachable
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.bridge_kinds import KINDS, BridgeKind
from streamtag.config.bridges import WebhookConfig
from streamtag.config.config import Config
from streamtag.engine.counters import Series, series
from streamtag.errors import ConfigError

log = logging.getLogger(__name__)

DEFAULT_BACKOFF = BackoffPolicy()
LEAVE_SECONDS = 3.0
"""How long one whose table has changed may take to end before it is killed."""
KILLED_SECONDS = 0.1
"""How long a killed process may take to be gone; it is left behind then."""


def missing_libraries(config: Config, kinds: Sequence[BridgeKind] | None = None) -> Iterator[str]:
    """A line for each bridge that is configured, but cannot run here."""
    for kind in KINDS if kinds is None else kinds:
        if kind.configured(config) and (fault := kind.missing()):
            yield fault


def faults_of_changed(old: Config, new: Config, *, from_file: bool) -> Iterator[str]:
    """Why bridges whose tables differ could not be started, a line each.

    Args:
        old: what runs.
        new: what is to run.
        from_file: whether the daemon was started from a file: only then it has bridges.
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


class Bridges:
    """The bridges of a daemon. `tick` and `close` are for one thread.

    Args:
        config: checked.
        path: of its file; None: there are no bridges.
        feed: address that the feed is bound to.
        journal: where the journal's file is.
        kinds: those there are.
        backoff: how one that dies is started again.
        clock: seconds.

    Raises:
        ConfigError: one is configured whose libraries are not installed.
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
        self._kinds = (KINDS if kinds is None else tuple(kinds)) if path else ()
        if faults := list(missing_libraries(config, self._kinds)):
            raise ConfigError("\n".join(faults))
        self._path, self._policy, self._clock = path, backoff, clock
        self._told = {
            ADDRESS: reachable(feed),
            JOURNAL: str(journal or ""),
            CONFIG: "stdin",
            PARENT: str(os.getpid()),
        }
        self._running: dict[str, _Bridge] = {}
        self._restarts: Counter[str] = Counter()

    def tick(self, config: Config) -> None:
        """Looks after them, ten times a second or so.

        Args:
            config: what runs now; a bridge whose table has changed is started anew.
        """
        now = self._clock()
        for kind in self._kinds:
            bridge, table = self._running.get(kind.name), getattr(config, kind.name, None)
            other = bridge is not None and (bridge.leaving or bridge.table != table)
            if bridge is not None and other and not bridge.leaves(now):
                del self._running[kind.name]
                bridge = None
            if bridge is None and table:
                bridge = _Bridge(kind.name, table, self._command(kind), self._told, self._policy)
                self._running[kind.name] = bridge
            if bridge is not None and bridge.tick(now, config):
                self._restarts[kind.name] += 1

    def series(self) -> dict[Series, float]:
        """How often each bridge was restarted, whether it runs, and for how many seconds."""
        found: dict[Series, float] = {}
        for name, bridge in self._running.copy().items():  # any thread may ask
            seconds = bridge.seconds(self._clock())
            found[series("restarts", bridge=name)] = self._restarts[name]
            found[series("running", bridge=name)] = float(seconds is not None)
            found[series("running_seconds", bridge=name)] = seconds or 0.0
        return found

    def close(self, seconds: float) -> None:
        """Ends all, in so many seconds; who does not end by then is killed."""
        deadline = time.monotonic() + seconds
        for bridge in self._running.values():
            bridge.ask_to_end()
        for bridge in self._running.values():
            bridge.end(max(0.0, deadline - time.monotonic()))
        self._running.clear()

    def _command(self, kind: BridgeKind) -> list[str]:
        return [sys.executable, *kind.program, kind.name, str(self._path)]


class _Bridge:
    """One process, started when its time has come."""

    def __init__(
        self,
        name: str,
        table: object,
        command: list[str],
        told: dict[str, str],
        backoff: BackoffPolicy,
    ) -> None:
        self.table = table
        """With which it was started."""
        self._name, self._command, self._told = name, command, told
        self._backoff = Backoff(backoff, random.random)
        self._process: subprocess.Popen[bytes] | None = None
        self._since = self._due = float("-inf")
        self._kill_at = float("inf")
        self._begun = False

    def seconds(self, now: float) -> float | None:
        """For how long the process has run; None while there is none."""
        return None if self._process is None else max(0.0, now - self._since)

    @property
    def leaving(self) -> bool:
        """Whether it has been told to end."""
        return self._kill_at < float("inf")

    def tick(self, now: float, config: Config) -> bool:
        """Starts it, with a configuration, when it is due; whether that was once more."""
        if self.leaving:
            return False
        if self._process is not None and (code := self._process.poll()) is not None:
            self._died(code, now)
        if self._process is not None or now < self._due:
            return False
        try:
            with handed_over(config) as handed:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=handed,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | self._told,
                    start_new_session=True,  # Ctrl-C is the daemon's: bridges hear of it last
                )
        except OSError as error:
            self._failed(str(error), now)
            return False
        self._since = now
        again, self._begun = self._begun, True
        log.info("bridge %s: started, process %d", self._name, self._process.pid)
        return again

    def leaves(self, now: float) -> bool:
        """Ends it without waiting, called again and again; whether it is still there."""
        if self._process is None or self._process.poll() is not None:
            self.end()
            return False
        if not self.leaving:
            log.info("bridge %s: its table has changed", self._name)
            self._process.terminate()
            self._kill_at = now + LEAVE_SECONDS
        elif now >= self._kill_at:
            self._process.kill()
        return True

    def ask_to_end(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def end(self, seconds: float = 0.0) -> None:
        """Ends it: asked to, and killed if it takes longer than so many seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        if process.poll() is None:
            log.warning("bridge %s: did not end when asked to; killed", self._name)
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILLED_SECONDS)

    def _died(self, code: int, now: float) -> None:
        self._process = None
        self._backoff.worked(now - self._since)
        self._failed(f"it ended with {code}" if code >= 0 else f"signal {-code} ended it", now)

    def _failed(self, why: str, now: float) -> None:
        wait = self._backoff.failed()
        self._due = now + wait
        log.error("bridge %s: %s; started again in %.1f s", self._name, why, wait)
