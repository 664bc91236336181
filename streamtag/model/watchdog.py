"""Calls of a model that may never return.

A model is foreign code, and Python cannot end a thread. So each thread that calls a model has
another one here that makes the call. When the call does not return in time, the caller goes on
without an answer. TorchScript runs without the GIL, so that nobody else is kept.
"""

import contextlib
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from streamtag.errors import StreamtagError

logger = logging.getLogger(__name__)

T = TypeVar("T")
_SLOW = 10.0
"""A call may take this multiple of the longest call that has returned."""
_WAITS = 3
"""A call that gets little CPU time is waited for so often: the machine is busy, or this process was
stopped for a while."""


class ModelStuckError(StreamtagError):
    """A call of a model has not returned."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long the calls of a model may take."""

    patience: float
    """Seconds of CPU time before the caller goes on; more for a model that is slow by nature."""
    limit: float
    """Seconds after which the model is given up."""


class Watchdog:
    """Makes the calls of one model."""

    def __init__(self, limits: CallLimits) -> None:
        self.patience, self.limit = limits.patience, limits.limit
        self._local = threading.local()
        self._runners: list[_Runner] = []

    @property
    def stuck_seconds(self) -> float:
        """For how long the oldest call that was not waited for has been running; 0 for none."""
        began = [runner.began for runner in self._runners if not runner.is_free()]
        return time.monotonic() - min(began) if began else 0.0

    def call(self, function: Callable[[], T], *, slow: bool = False) -> T:
        """What the function returns or raises. Of one thread, one call at a time is running.

        Args:
            function: what to do.
            slow: it may take until the limit.

        Raises:
            ModelStuckError: it does not return in time, or the one before it still has not.
        """
        runner: _Runner | None = getattr(self._local, "runner", None)
        if runner is None:
            self._local.runner = runner = _Runner(torch.get_num_threads())
            self._runners.append(runner)
        if not runner.is_free():
            raise ModelStuckError("its model hangs: a call before has not returned")
        seconds = self.limit if slow else self._seconds
        try:
            return runner.run(function, seconds, slow=slow)
        except queue.Empty:
            raise ModelStuckError(
                f"its model hangs: a call has not returned in {seconds:g} s"
            ) from None

    def abandon(self) -> None:
        """Leaves the threads of calls that have not returned behind, with the lowest priority.

        The model is not to be called again.
        """
        for runner in self._runners:
            runner.abandon()

    def __del__(self) -> None:
        for runner in self._runners:
            runner.end()

    @property
    def _seconds(self) -> float:
        longest = max(runner.longest for runner in self._runners)
        return min(self.limit, max(self.patience, round(_SLOW * longest, 1)))


class _Runner:
    """A thread that makes the calls of another one."""

    def __init__(self, threads: int) -> None:
        self.began, self.longest = 0.0, 0.0
        """When the last call began, and the most CPU time of a call that returned, though late."""
        self._slow = False
        self._threads = threads
        self.given_up = False
        """Whether its last call had not returned in time."""
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model call", daemon=True)
        self._thread.start()

    def is_free(self) -> bool:
        """Whether no call is running that nobody waits for. A late answer is thrown away."""
        if self.given_up:
            with contextlib.suppress(queue.Empty):
                self._answers.get_nowait()
                self.given_up = False
        return not self.given_up

    def run(self, function: Callable[[], T], seconds: float, *, slow: bool) -> T:
        """Makes a call.

        Raises:
            Empty: it has not returned after so much CPU time, or three times as long.
        """
        self.began, self._slow = time.monotonic(), slow
        self._work.put(function)
        before = self._cpu()
        for left in reversed(range(_WAITS)):
            try:
                result, error = self._answers.get(timeout=seconds)
                break
            except queue.Empty:
                if not left or self._cpu() - before >= seconds:
                    self.given_up = True
                    raise
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def end(self) -> None:
        """Ends the thread once its call has returned."""
        self._work.put(None)

    def abandon(self) -> None:
        """Ends the thread, or gives it the lowest priority, if it is in a call."""
        self.end()
        if not self.is_free() and (number := self._thread.native_id) is not None:
            with contextlib.suppress(AttributeError, OSError):  # Linux alone can do it
                os.sched_setscheduler(number, os.SCHED_IDLE, os.sched_param(0))

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while (function := self._work.get()) is not None:
            before = time.thread_time()
            try:
                answer: tuple[object, BaseException | None] = function(), None
            except BaseException as error:  # it is raised where the call was made
                answer = None, error
            if not self._slow:
                self.longest = max(self.longest, time.thread_time() - before)
            del function
            self._answers.put(answer)
            # If this thread kept it, it would free it when Python ends. There a destructor that
            # takes the GIL again, as those of torch do, ends the process with SIGABRT.
            del answer

    def _cpu(self) -> float:
        """CPU time of the thread; endless where the system does not say."""
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident or 0))
        except (AttributeError, OSError):
            return math.inf
