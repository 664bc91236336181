"""The process that owns the feed's public sockets, started by the daemon and again if it ends.

    python -m streamtag.daemon.relay_process SOCKET STYLE VERBOSE

It imports little, so that another one is there within a fraction of a second.
"""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any, cast

from streamtag.daemon.ops.logs import LogStyle, configure_logging
from streamtag.errors import FeedError
from streamtag.feed.relay import Relay, RelayPlan

log = logging.getLogger(__name__)

BIND_SECONDS = 60.0
"""How long the first relay of a daemon may take to be ready."""
ANSWER_SECONDS = 10.0
"""How long the relay may take to read the keys again."""
SHORT_SECONDS, PAUSE_SECONDS = 1.0, 0.25
"""After a relay that lived for less than the first time, the next one waits for the second."""
DRAIN_SECONDS, LINGER_SECONDS = 1.0, 0.5
"""At the end the daemon's last messages have so long to come, and subscribers to fetch them."""
END_SECONDS = 2.5
"""How long the process may take to end before it is killed."""
REPORT_SECONDS = 0.5
"""How often the relay reports how much it has refused, if that has changed."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MODULE = "streamtag.daemon.relay_process"


class RelayProcess:
    """The daemon's end. Any thread may use it.

    Args:
        plan: what the relay is to do.
        style: of its log lines.
        verbose: whether it logs details.

    Raises:
        FeedError: an address or the keys cannot be used.
    """

    def __init__(self, plan: RelayPlan, style: LogStyle = "text", *, verbose: bool = False) -> None:
        self._plan, self._arguments = plan, (style, str(int(verbose)))
        self.addresses: list[str] = []
        """Where the views are, the feed's own first."""
        self.replay_address = ""
        """Where requests are answered."""
        self.restarts = 0
        """How often the process was started again."""
        self.pid = 0
        """Of the process that runs, or ran last."""
        self._refused = self._refused_before = 0
        self._answers: SimpleQueue[dict[str, list[str]] | str] = SimpleQueue()
        self._asking, self._sending = threading.Lock(), threading.Lock()
        self._bound, self._fault = threading.Event(), ""
        self._closing = threading.Event()
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()
        if not self._bound.wait(BIND_SECONDS) or self._fault:
            self.close()
            raise FeedError(self._fault or "feed: expected the public sockets, got none in time")

    @property
    def address(self) -> str:
        """Where the feed is."""
        return self.addresses[0]

    @property
    def refused(self) -> int:
        """Connections, subscriptions and requests that were refused."""
        return self._refused_before + self._refused

    def reload_keys(self) -> dict[str, list[str]]:
        """Has the folder of authorised keys read again; returns what changed.

        Raises:
            FeedError: it cannot be read; then nothing changes.
        """
        with self._asking:
            with suppress(Empty):
                while True:
                    self._answers.get_nowait()  # too late for whoever asked
            try:
                self._send("reload")
                answer = self._answers.get(timeout=ANSWER_SECONDS)
            except (OSError, Empty):
                answer = "feed: expected the keys to be read again, got no answer; try again"
        if isinstance(answer, str):
            raise FeedError(answer)
        return answer

    def close(self) -> None:
        """Ends the process when it has passed on what is left."""
        self._closing.set()
        with suppress(OSError):
            self._send("close")
        self._thread.join(END_SECONDS)
        if self._thread.is_alive() and self._process is not None:
            log.warning("feed: the process of the public sockets did not end; killed")
            self._process.kill()
        self._thread.join()

    def _send(self, command: str) -> None:
        with self._sending:
            if self._connection is None:
                raise OSError
            self._connection.send(command)

    def _run(self) -> None:
        """Starts the process, and again whenever it ends."""
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                process = self._start()
            except OSError as error:
                log.error("feed: the public sockets cannot be opened: %s", error)
                self._closing.wait(SHORT_SECONDS)
                continue
            self._follow()
            code = self._end(process)
            if self._fault or self._closing.is_set():
                return
            self.restarts += 1
            self._refused_before, self._refused = self.refused, 0
            why = signal.Signals(-code).name if code < 0 else f"code {code}"
            log.error("feed: the process of the public sockets ended by %s; starting it again", why)
            if time.monotonic() - began < SHORT_SECONDS:
                self._closing.wait(PAUSE_SECONDS)

    def _start(self) -> "subprocess.Popen[bytes]":
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", _MODULE, str(number), *self._arguments],
                    pass_fds=[number],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C reaches only the daemon
                )
            except OSError:
                ours.close()
                raise
        self._process, self.pid = process, process.pid
        with self._sending:
            self._connection = Connection(ours.detach())
            with suppress(OSError):
                self._connection.send(self._plan)
                if self._closing.is_set():  # `close` found no connection
                    self._connection.send("close")
        return process

    def _follow(self) -> None:
        """Takes what the process reports until it ends."""
        assert self._connection is not None
        with suppress(EOFError, OSError):
            while True:
                kind, value = self._connection.recv()
                if kind == "bound":
                    self._is_bound(*value)
                elif kind == "refused":
                    self._refused = value
                elif kind == "reloaded":
                    self._answers.put(value)
                elif not self._bound.is_set():  # another one may have the address for a while
                    self._fault = value
                    self._bound.set()

    def _is_bound(self, addresses: list[str], replay: str) -> None:
        self.addresses, self.replay_address = addresses, replay
        views = tuple(
            replace(view, bind=bound)
            for view, bound in zip(self._plan.views, addresses, strict=True)
        )
        self._plan = replace(self._plan, views=views, replay=replay)
        self._bound.set()

    def _end(self, process: "subprocess.Popen[bytes]") -> int:
        """The exit code of a process that has closed its end, or is to be gone soon."""
        with self._sending:
            assert self._connection is not None
            self._connection.close()
            self._connection = None
        try:
            return process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def main(number: str, style: str, verbose: str) -> int:
    """Relays until the daemon's goodbye, or until it is gone; returns the exit code."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # they are for the daemon; the goodbye is still to come
    with suppress(AttributeError, OSError):  # Linux alone can do it; others rely on the socket
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    configure_logging(cast(LogStyle, style), verbose=verbose == "1")
    with Connection(int(number)) as connection, suppress(EOFError, OSError):
        plan: RelayPlan = connection.recv()
        try:
            relay = Relay(plan)
        except FeedError as error:
            log.error("%s", error)
            connection.send(("failed", str(error)))
            return 1
        try:
            _relay(relay, connection)
        finally:
            relay.close(LINGER_SECONDS)
    return 0


def _relay(relay: Relay, connection: Connection) -> None:
    """Runs a relay until the daemon closes it."""
    connection.send(("bound", (relay.addresses, relay.replay_address)))
    commands: dict[str, Callable[[], Any]] = {"reload": lambda: _reload(relay, connection)}
    reported, due = 0, 0.0
    while True:
        if relay.wait(connection.fileno()):
            command = connection.recv()
            if command == "close":
                relay.drain(DRAIN_SECONDS)  # the goodbye included
                return
            commands[command]()
        relay.step()
        if relay.refused != reported and time.monotonic() >= due:
            reported, due = relay.refused, time.monotonic() + REPORT_SECONDS
            connection.send(("refused", reported))


def _reload(relay: Relay, connection: Connection) -> None:
    try:
        connection.send(("reloaded", relay.reload_keys()))
    except FeedError as error:
        connection.send(("reloaded", str(error)))


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
