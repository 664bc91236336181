"""Threads that call models side by side; torch lets the interpreter go during a call."""

import queue
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Job = Callable[[], None]


class ThreadPool:
    """So many threads, each with one thread of torch's own.

    They are daemons: a model that hangs holds up nobody's exit. They end with the crew.

    Args:
        size: threads, at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        for i in range(size):
            threading.Thread(
                target=_work, args=(self._jobs,), name=f"model {i}", daemon=True
            ).start()
        weakref.finalize(self, _dismiss, self._jobs, size)

    def map(self, call: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
        """What `call` gives for each item, in their order; waits for all.

        Raises:
            BaseException: what the first call that failed, in their order, has raised.
        """
        answers: queue.SimpleQueue[tuple[int, Answer | None, BaseException | None]]
        answers = queue.SimpleQueue()

        def job(i: int, item: Item) -> Job:
            def run() -> None:
                try:
                    answers.put((i, call(item), None))
                except BaseException as error:
                    answers.put((i, None, error))

            return run

        jobs = [job(i, item) for i, item in enumerate(items)]
        for one in jobs:
            self._jobs.put(one)
        found = sorted((answers.get() for _ in jobs), key=lambda answer: answer[0])
        for _, _, error in found:
            if error is not None:
                raise error
        return [answer for _, answer, _ in found]  # type: ignore[misc]


def _work(jobs: "queue.SimpleQueue[Job | None]") -> None:
    torch.set_num_threads(1)  # it counts for the thread that says it
    while (job := jobs.get()) is not None:
        job()
        del job  # it holds its crew


def _dismiss(jobs: "queue.SimpleQueue[Job | None]", size: int) -> None:
    for _ in range(size):
        jobs.put(None)
