"""The C library's heap and Python's garbage collector, told what a tagger needs."""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt's names for them, from malloc.h
_KEPT = 1 << 30
"""Bytes. Activations of a 29 s window take up to some hundred megabytes."""


def keep_freed_memory() -> bool:
    """Lets the heap keep what is freed, up to 1 GiB, for the next model call.

    glibc gives blocks of over 32 MB back at once and asks for them anew, all pages cleared, at each
    layer of each call: half the time of a net with long windows. The process stays as large as its
    largest call made it. All threads share one heap, since those of single threads hold blocks of
    64 MB at most. It is a setting of the whole process: for commands, never for a mere import.

    Returns:
        Whether the C library took it; False, and nothing changed, on others than glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    wanted = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _KEPT), (_TRIM_THRESHOLD, _KEPT))
    return all([mallopt(name, value) for name, value in wanted])


def spare_what_lasts() -> None:
    """Has the garbage collector pass over what is there now.

    To be called when everything is imported and before models are loaded: each full search goes
    through the 200,000 objects of the libraries, and for a tenth of a second nothing else runs. A
    setting of the whole process, like the above.
    """
    gc.collect()
    gc.freeze()
