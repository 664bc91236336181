"""Runs a function in a process of its own, where it may set limits of resources."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
SECONDS = 120


def in_child(function: Callable[..., T], *arguments: object) -> T:
    """Its result; what it raises is raised here. All must be picklable."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result(SECONDS)
