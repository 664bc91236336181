"""Settings of the C library's heap and of Python's garbage collector, for the whole process."""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # parameters of mallopt, from malloc.h
_KEPT = 1 << 30
"""Bytes that the heap keeps. Activations of a 29 s window take up to some hundred megabytes."""


def keep_freed_memory() -> bool:
    """Lets the heap keep what is freed, up to 1 GiB, for the next model call.

    By default glibc returns blocks of over 32 MB to the kernel at once and requests them again,
    all pages cleared, at each layer of each call. That takes half the time of a net with long
    windows. With this setting the process stays as large as its largest call made it. All threads
    share one heap, since heaps of single threads hold blocks of at most 64 MB.

    Commands call it, never an import: it is a setting of the whole process.

    Returns:
        Whether the C library accepted it. Others than glibc do not, and nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    wanted = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _KEPT), (_TRIM_THRESHOLD, _KEPT))
    return all([mallopt(name, value) for name, value in wanted])


def freeze_garbage_collector() -> None:
    """Excludes all present objects from garbage collection.

    Call it when everything is imported and before models are loaded. Otherwise each full
    collection visits the 200,000 objects of the libraries, and nothing else runs for a tenth of a
    second. It is a setting of the whole process, too.
    """
    gc.collect()
    gc.freeze()
