"""A process whose log contains a line with its address when it is ready."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from support.forked import Forked

SECONDS = 60
"""A time limit that is long enough for a busy machine."""


class LoggedProcess:
    """A Python process, its address and its log.

    Args:
        arguments: of the interpreter.
        ready: the text before the address in the log line of a process that is ready.
        fresh: starts the interpreter anew, as users do. Otherwise the process is forked from one
            that has imported torch, which saves 2 s of CPU (see `support.forked`).
        options: further ones of `subprocess.Popen`.
    """

    def __init__(
        self, *arguments: str | Path, ready: str, fresh: bool = False, **options: Any
    ) -> None:
        options |= {"stderr": subprocess.PIPE, "text": True}
        self.popen: subprocess.Popen[str] | Forked
        if fresh:
            self.popen = subprocess.Popen([sys.executable, *map(str, arguments)], **options)
        else:
            self.popen = Forked(*arguments, **options)
        self.log: list[str] = []
        self.address = ""
        self._mark, self._ready = ready, threading.Event()
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()

    def wait_until_ready(self) -> None:
        assert self._ready.wait(SECONDS)
        assert self.address, self.log

    def end(self, number: int = 0) -> int:
        """Sends a signal, if one is given, and waits; returns the exit code."""
        if number:
            self.popen.send_signal(number)
        code = self.popen.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def _read_log(self) -> None:
        assert self.popen.stderr is not None
        with self.popen.stderr as lines:
            for line in lines:
                self.log.append(line)
                if self._mark in line:
                    self.address = line.rpartition(self._mark)[2].strip()
                    self._ready.set()
        self._ready.set()
