"""A process that delivers audio on its standard output: a decoder, or a sound card.

It can hang, fail or be killed, and nothing but its own stream notices.
"""

import os
import select
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

MAX_LINE = 8192
"""Bytes of an unfinished line of standard error that are kept."""
LONGEST_POLL = 1e6
"""Seconds; the kernel takes no more than an int of milliseconds."""


def can_read(number: int, seconds: float) -> bool:
    """Whether a file descriptor of any number has bytes, or its end, within `seconds`."""
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(1000 * min(max(0.0, seconds), LONGEST_POLL)))


class ChildProcess:
    """Starts a process; every wait for it has a limit. `close` may be called from any thread.

    Args:
        command: program and arguments.
        env: its environment; None for ours.
        on_line: called, in a thread, with each line of its standard error, and with None at the
            end. Without it, standard error is ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str | None], None] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if on_line else None,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us; we end the process ourselves
        )
        self.pid = self._process.pid
        self._reading, self._closed = threading.Lock(), threading.Event()
        self._log_thread: threading.Thread | None = None
        if on_line:
            self._log_thread = threading.Thread(target=self._read_log, args=(on_line,), daemon=True)
            self._log_thread.start()

    @property
    def pipe(self) -> int:
        """The descriptor of its standard output, for others to read."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def read(self, n: int, seconds: float) -> bytes | None:
        """Up to `n` bytes, as soon as there are some; none at the end or once closed.

        Returns None if nothing came for `seconds`.
        """
        pipe = self._process.stdout
        assert pipe is not None
        with self._reading:
            if self.closed:
                return b""
            if not can_read(pipe.fileno(), seconds):
                return None
            data = os.read(pipe.fileno(), n)
            return b"" if self.closed else data

    def wait(self) -> int:
        """Waits for its end and the end of its log; returns the status, negative for a signal."""
        status = self._process.wait()
        if self._log_thread:
            self._log_thread.join()
        return status

    def close(self) -> None:
        """Kills it; a `read` that is waiting in another thread returns."""
        self._closed.set()
        self._process.kill()
        self.wait()
        with self._reading:
            if self._process.stdout:
                self._process.stdout.close()

    def _read_log(self, on_line: Callable[[str | None], None]) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            rest = b""
            while data := os.read(pipe.fileno(), 65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    on_line(line.decode(errors="replace").rstrip("\r"))
                rest = rest[-MAX_LINE:]
        on_line(None)
