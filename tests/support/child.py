"""Runs a function in a process of its own, where it can set resource limits."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
SECONDS = 120


def in_child(function: Callable[..., T], *arguments: object) -> T:
    """Returns the function's result or raises its exception; everything must be picklable."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result(SECONDS)
