"""A worker: an engine in a process of its own, with its share of the daemon's streams.

It sends what happens to the daemon, which numbers, journals and publishes it. If it cannot be sent
at once, the worker waits: its sources' queues fill, and audio that does not fit is reported as a
gap.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from streamtag.daemon.engine_commands import ApplyChange
from streamtag.daemon.engine_loop import EngineLoop
from streamtag.daemon.output import ShadowFilter
from streamtag.daemon.worker_channel import (
    Answer,
    Begin,
    Channel,
    Failed,
    Output,
    OutputCall,
    Ready,
    Report,
    Request,
    Started,
    Stop,
)
from streamtag.engine.events import Event, Reason
from streamtag.errors import StreamtagError
from streamtag.model.card import Card

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
"""How often a worker reports its counters."""


class WorkerOutput:
    """Collects the output of an engine until it is sent. Only the engine's thread uses it."""

    def __init__(self) -> None:
        self.shadows = ShadowFilter()
        self._calls: list[OutputCall] = []

    def take(self) -> list[OutputCall]:
        """What was collected, as calls of the daemon's output."""
        calls, self._calls = self._calls, []
        return calls

    def publish(self, events: list[Event]) -> None:
        """Takes events that the engine returned. Those of shadows are only compared."""
        if not (visible := self.shadows.filter(events)):
            return
        if self._calls and self._calls[-1][0] == "publish":
            self._calls[-1][1][0].extend(visible)
        else:
            self._calls.append(("publish", ([*visible],)))

    def publish_notice(self, text: str) -> None:
        """Takes a notice that is not about one stream."""
        self._calls.append(("publish_notice", (text,)))

    def publish_unopened(self, stream: str, reason: Reason, detail: str = "") -> None:
        """A stream which is not open is down."""
        self._calls.append(("publish_unopened", (stream, reason, detail)))

    def set_tagger(self, name: str, card: Card, checksum: str) -> None:
        """Sets the model that the events of a tagger are from."""
        self._calls.append(("set_tagger", (name, card, checksum)))

    def remove_tagger(self, name: str) -> None:
        """Forgets a tagger."""
        self._calls.append(("remove_tagger", (name,)))

    def remove_stream(self, name: str) -> None:
        """Forgets a stream that is no longer in the configuration."""
        self._calls.append(("remove_stream", (name,)))

    def set_display_names(self, stream: str, names: Mapping[str, Mapping[str, str]]) -> None:
        """Sets the names for people of a stream's tags, by tagger and tag."""
        self._calls.append(("set_display_names", (stream, names)))

    def set_clock(self, stream: str, rate: int, epoch_ns: int) -> None:
        """Sets the rate, in Hz, and the UTC of sample 0 of a live stream."""
        self._calls.append(("set_clock", (stream, rate, epoch_ns)))

    def correct_clock(self, stream: str, epoch_ns: int) -> None:
        """Corrects the UTC of a live stream's sample 0."""
        self._calls.append(("correct_clock", (stream, epoch_ns)))


class Worker:
    """One worker, from its models to its last event.

    Args:
        channel: to the daemon.
        loop: its engine.
        output: where the engine puts what happens.
    """

    def __init__(self, channel: Channel, loop: EngineLoop, output: WorkerOutput) -> None:
        self._channel, self._loop, self._output = channel, loop, output
        self._answers: deque[Answer] = deque()
        self._applied, self._ended = 0, frozenset[str]()
        self._busy_seconds, self._reported_at = 0.0, 0.0

    def run(self) -> bool:
        """Works until the daemon ends it. False if the engine failed."""
        self._channel.send(Output(self._output.take()), Ready(self._loop.costs()))
        threading.Thread(target=self._receive, name="commands", daemon=True).start()
        self._loop.run(self)
        self._send(report=True)
        self._loop.streams.finish_clips()
        return not self._loop.failed

    def until_task(self) -> float:
        """Seconds until it is time to report."""
        return self._reported_at + REPORT_SECONDS - time.monotonic()

    def end_round(self, began: float, ended: float) -> None:
        """Sends what the round brought, and now and then a report."""
        self._busy_seconds += ended - began
        now_ended = frozenset(s.name for s in self._loop.streams.streams if s.ended)
        due = now_ended != self._ended or self.until_task() <= 0
        self._ended = now_ended
        self._send(report=due)
        if self._loop.engine.worn_out:
            log.critical("a model hangs again and again: this worker ends, and another begins")
            os._exit(1)

    def _send(self, *, report: bool) -> None:
        messages: list[object] = []
        answers = [self._answers.popleft() for _ in range(len(self._answers))]
        if calls := self._output.take():
            messages.append(Output(calls))
        messages += answers
        if report:
            self._reported_at = time.monotonic()
            messages.append(self._report())
        if messages:
            try:
                self._channel.send(*messages)
            except OSError:
                os._exit(1)  # the daemon is gone, and with it whoever takes events

    def _report(self) -> Report:
        comparisons = self._output.shadows.comparisons
        return Report(
            applied=self._applied,
            ended=self._ended,
            audio_seconds=self._loop.streams.audio_seconds,
            busy_seconds=self._busy_seconds,
            memory_bytes=private_bytes(),
            series=self._loop.series(),
            histograms=self._loop.engine.histograms(),
            shadows={name: one.report() for name, one in comparisons.items()},
        )

    def _receive(self) -> None:
        """Takes commands, in a thread of its own, until the daemon says stop or is gone."""
        while isinstance(message := self._channel.receive(), Request):
            self._loop.submit(message.command).add_done_callback(partial(self._answer, message))
        if not isinstance(message, Stop):
            os._exit(1)  # the daemon is gone
        self._loop.stop()

    def _answer(self, request: Request, done: Future[Any]) -> None:
        """Sends an answer with the next round, after the events of its command."""
        if (error := done.exception()) is not None:
            if not isinstance(error, StreamtagError):
                log.error("a command failed in an unexpected way", exc_info=error)
            text = str(error) if isinstance(error, StreamtagError) else repr(error)
            self._answers.append(Answer(request.number, None, text or repr(error)))
        else:
            self._applied += isinstance(request.command, ApplyChange)
            self._answers.append(Answer(request.number, done.result()))
        self._loop.streams.queue.wake()


def run_worker(connection: socket.socket) -> int:
    """Runs a worker at its end of the socket. Returns the exit code of its process."""
    channel = Channel(connection)
    channel.send(Started(os.getpid()))
    if not isinstance(begin := channel.receive(), Begin):
        return 1
    output = WorkerOutput()
    try:
        loop = EngineLoop(begin.config, output)
    except StreamtagError as error:
        channel.send(Failed(str(error)))
        return 1
    return 0 if Worker(channel, loop, output).run() else 1


def private_bytes() -> int:
    """The memory that this process has for itself; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))
