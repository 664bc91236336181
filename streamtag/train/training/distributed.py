"""Several processes that train one net, started by `torchrun`; device and memory of a process."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from streamtag.train.data.loader import BatchShare

TIMEOUT = timedelta(hours=24)
"""How long the other processes wait while one prepares data."""


@contextmanager
def process_group() -> Iterator[BatchShare]:
    """This process' share of the work: everything, unless `torchrun` started several processes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield BatchShare()
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield BatchShare(distributed.get_rank(), world)
    finally:
        distributed.destroy_process_group()


def resolve_device(wanted: str) -> torch.device:
    """The device of this process; `auto` means a GPU if there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and "LOCAL_RANK" in os.environ:
        wanted = f"cuda:{os.environ['LOCAL_RANK']}"
    return torch.device(wanted)


def distributed_module(module: nn.Module, share: BatchShare, device: torch.device) -> nn.Module:
    """The module with its gradients averaged over all processes."""
    if share.world == 1:
        return module
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)


def keep_freed_memory() -> bool:
    """Lets this process reuse freed memory instead of returning it to the system.

    Training on a CPU frees and allocates the same large blocks in every step. glibc maps each block
    anew, and clearing their pages took up to half of the time of the larger nets here.

    Returns:
        Whether the C library supports that.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    trim_threshold, mmap_max = -1, -4  # malloc.h
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1))


def barrier(share: BatchShare) -> None:
    """Waits until all processes are here."""
    if share.world > 1:
        distributed.barrier()


def broadcast_from_first(work: Callable[[], dict[str, Any]], share: BatchShare) -> dict[str, Any]:
    """The result of the first process, sent to the others."""
    if share.world == 1:
        return work()
    results: list[Any] = [work() if share.rank == 0 else None]
    distributed.broadcast_object_list(results, 0)
    found: dict[str, Any] = results[0]
    return found


def largest_of_all(value: int, share: BatchShare) -> int:
    """The largest of the values of all processes."""
    if share.world == 1:
        return value
    values: list[Any] = [None] * share.world
    distributed.all_gather_object(values, value)
    return int(max(values))
