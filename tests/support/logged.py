"""A process that says in its log when it is ready, and where."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SECONDS = 60
"""How long anything may take on a busy machine."""


class Logged:
    """A Python process, the address that it says, and what it logs.

    Args:
        arguments: of the interpreter.
        ready: what a line of the log says before the address, when the process is ready.
        options: further ones of `subprocess.Popen`.
    """

    def __init__(self, *arguments: str | Path, ready: str, **options: Any) -> None:
        command = [sys.executable, *map(str, arguments)]
        self.popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
        self.log: list[str] = []
        self.address = ""
        self._mark, self._ready = ready, threading.Event()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def wait_until_ready(self) -> None:
        assert self._ready.wait(SECONDS)
        assert self.address, self.log

    def end(self, number: int = 0) -> int:
        """Its exit code, once it has ended; after a signal, if one is given."""
        if number:
            self.popen.send_signal(number)
        code = self.popen.wait(SECONDS)
        self._listener.join(SECONDS)
        return code

    def _listen(self) -> None:
        assert self.popen.stderr is not None
        with self.popen.stderr as lines:
            for line in lines:
                self.log.append(line)
                if self._mark in line:
                    self.address = line.rpartition(self._mark)[2].strip()
                    self._ready.set()
        self._ready.set()
