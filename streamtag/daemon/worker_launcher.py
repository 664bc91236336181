"""The launcher of workers: a process that has imported everything and forks when it is asked to.

    python -m streamtag.daemon.worker_launcher SOCKET STYLE VERBOSE

Importing torch takes seconds and 150 MB. A worker that is forked here begins at once and shares
that memory. The launcher starts no threads, loads no models and touches no GPU, so that a fork is
safe. It ends with the daemon, and its workers end with it.
"""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Never, cast

from streamtag.daemon.ops.logs import LogStyle, configure_logging

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
REAP_SECONDS = 1.0
"""How often the launcher looks for workers that have ended."""
END_SECONDS = 1.0
"""How long the launcher may take to end before it is killed."""
_MODULE = "streamtag.daemon.worker_launcher"
_WORKER, _HAS_GPU = b"w", b"g"


class Launcher:
    """The daemon's end: starts the launcher, and again if it dies. Any thread may use it.

    Args:
        style: of log lines.
        verbose: whether to log details.
        program: arguments of Python before those of `main`.
    """

    def __init__(
        self,
        style: LogStyle = "text",
        *,
        verbose: bool = False,
        program: Sequence[str] = ("-m", _MODULE),
    ) -> None:
        self._command = [sys.executable, *program]
        self._arguments = [style, str(int(verbose))]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        with self._lock:
            self._ensure_running()

    def start(self) -> socket.socket:
        """Starts a worker; returns the daemon's end of its socket.

        Raises:
            OSError: the launcher cannot be reached. The next call starts another.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._ensure_running(), [_WORKER], [theirs.fileno()])
            except OSError:
                ours.close()
                self._end()
                raise
        return ours

    def has_gpu(self) -> bool:
        """Whether torch finds a GPU. A process that is forked for it looks, and ends."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                socket.send_fds(self._ensure_running(), [_HAS_GPU], [theirs.fileno()])
            return ours.recv(1) == b"1"

    def close(self) -> None:
        """Ends the launcher. Workers that still run end with it."""
        with self._lock:
            self._end()

    def _ensure_running(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            log.error("the launcher of workers ended with %d", self._process.returncode)
            self._end()
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                number = theirs.fileno()
                self._process = subprocess.Popen(
                    [*self._command, str(number), *self._arguments],
                    pass_fds=[number],
                    start_new_session=True,  # Ctrl-C reaches only the daemon
                )
        return self._socket

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._socket = self._process = None


def main(number: str, style: str, verbose: str) -> None:
    """Forks a worker for each socket that the daemon sends, until the daemon is gone."""
    from streamtag.daemon.memory import freeze_garbage_collector, keep_freed_memory
    from streamtag.daemon.worker import run_worker

    configure_logging(cast(LogStyle, style), verbose=verbose == "1")
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            one, lambda *_: None
        )  # they are for the daemon; a decoder does not inherit it
    keep_freed_memory()
    freeze_garbage_collector()
    launcher = os.getpid()
    with socket.socket(fileno=int(number)) as connection:
        connection.settimeout(REAP_SECONDS)
        while True:
            _reap()
            with suppress(TimeoutError):
                kind, handles, _, _ = socket.recv_fds(connection, 1, 1)
                if not kind:
                    return
                with socket.socket(fileno=handles[0]) as worker:
                    if os.fork() == 0:
                        connection.close()
                        _die_with(launcher)
                        _be_child(_look_for_gpu if kind == _HAS_GPU else run_worker, worker)


def _be_child(work: Callable[[socket.socket], int], connection: socket.socket) -> Never:
    """Does the work of a process that was just forked, and ends it."""
    code = 1
    try:
        code = work(connection)
    except BaseException:
        log.critical("a worker failed in an unexpected way", exc_info=True)
    finally:
        os._exit(code)


def _look_for_gpu(connection: socket.socket) -> int:
    import torch

    connection.sendall(b"1" if torch.cuda.is_available() else b"0")
    return 0


def _die_with(parent: int) -> None:
    """Makes the kernel kill this process when its parent ends."""
    with suppress(AttributeError, OSError):  # Linux alone can do it; others rely on the socket
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _reap() -> None:
    """Buries the workers that have ended, with a line in the log about those that were killed."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if (code := os.waitstatus_to_exitcode(ended[1])) < 0:
                log.error("worker process %d ended by %s", ended[0], signal.Signals(-code).name)


if __name__ == "__main__":
    main(*sys.argv[1:])
