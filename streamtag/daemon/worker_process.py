"""The daemon's end of a worker: its process, what it was asked, and what it has reported."""

import itertools
import os
import signal
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from streamtag.daemon.engine_commands import ApplyChange, EngineCommand, TaggerCost
from streamtag.daemon.open_streams import OpenStreams
from streamtag.daemon.output import EngineModels
from streamtag.daemon.worker_channel import Answer, Begin, Channel, Report, Request, Stop
from streamtag.errors import ControlError
from streamtag.model.card import Card


class WorkerLostError(ControlError):
    """A worker ended before it answered."""


class WorkerProcess:
    """One process of a worker. Its `slot` outlives it.

    Args:
        slot: number of the worker.
        connection: to the process.
        begin: what it is to begin with.
    """

    def __init__(self, slot: int, connection: socket.socket, begin: Begin) -> None:
        self.slot, self.pid = slot, 0
        self.ready, self.error = threading.Event(), ""
        """Whether its models are warm, or why they never will be."""
        self.models, self.open = EngineModels(), OpenStreams()
        self.cards: dict[str, Card] = {}
        self.costs: dict[str, TaggerCost] = {}
        self.report = Report()
        self.generation = self.applied = 0
        """The generation of shares that it has, and how many changes it has made."""
        self.handing_over = threading.Lock()
        """Held while it is given its share."""
        self.began = self.seen = time.monotonic()
        """When it was started, and when it last sent something."""
        self._channel, self._lock, self._gone = Channel(connection), threading.Lock(), False
        self._numbers, self._asked = (
            itertools.count(1),
            dict[int, tuple[EngineCommand, Future[Any]]](),
        )
        with suppress(OSError):  # `receive` will say that it is gone
            self._channel.send(begin)

    def receive(self) -> Any:
        """The next message; None once the process has ended."""
        message = self._channel.receive()
        self.seen = time.monotonic()
        return message

    def ask(self, command: EngineCommand) -> Future[Any]:
        """Sends a command. Its future raises WorkerLostError if the process ends first."""
        answer = Future[Any]()
        with self._lock:
            number = next(self._numbers)
            self._asked[number] = command, answer
            gone = self._gone
        try:
            if gone:
                raise OSError
            self._channel.send(Request(number, command))
        except OSError:
            self.end()
        return answer

    def answered(self, answer: Answer) -> None:
        """Hands an answer to who waits for it."""
        with self._lock:
            command, future = self._asked.pop(answer.number)
        self.applied += isinstance(command, ApplyChange)
        if answer.error:
            future.set_exception(ControlError(answer.error))
        else:
            future.set_result(answer.result)

    def stop(self) -> None:
        """Requests its end; kills it if it has not begun to work."""
        if not self.ready.is_set():
            self.kill()
        with suppress(OSError):
            self._channel.send(Stop())

    def kill(self) -> None:
        """Kills it. While its end of the socket is open, its number is no other process's."""
        with self._lock, suppress(ProcessLookupError):
            if self.pid and not self._gone:
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Refuses all commands, when the process is gone."""
        with self._lock:
            self._gone = True
            asked, self._asked = self._asked, {}
        for _, future in asked.values():
            future.set_exception(WorkerLostError(f"worker {self.slot} ended before it answered"))

    def close(self) -> None:
        """Closes the socket."""
        self.end()
        self._channel.close()
