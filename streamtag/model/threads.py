"""Threads of model calls on a CPU: one for each call, and calls side by side.

A call of a small model gains next to nothing from several threads of torch. They wait for each
other at every layer, and where the machine has other work to do, most of the time.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

_MOST = 16
"""More threads than this were never tried."""
ItemT = TypeVar("ItemT")
Result = TypeVar("Result")


def usable_threads() -> int:
    """Threads for calls side by side: `OMP_NUM_THREADS`, else one for each CPU, at most 16."""
    variable = os.environ.get("OMP_NUM_THREADS", "")
    if variable.isdecimal() and int(variable):
        return int(variable)
    return min(_MOST, len(os.sched_getaffinity(0)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Model calls that this thread makes within it use no other thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(
    function: Callable[[ItemT], Result], items: Iterable[ItemT], threads: int
) -> Iterator[Result]:
    """The results for the items, in their order; `threads` of them are computed at a time.

    Model calls in the function use one thread each. What has not begun is given up when the caller
    stops early.
    """
    pool = ThreadPoolExecutor(threads, "side", torch.set_num_threads, (1,))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
