import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from streamtag.daemon.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(30):  # until the heap is as large as it becomes
    torch.ones(2**24)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of ten large tensors, one after the other."""
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc only")
def test_freed_memory_is_reused_without_page_faults() -> None:
    assert faults("kept") < 1000
    assert faults("given back") > 10 * 1000  # else nobody needs this any more


SPARED = """
import gc, weakref
from streamtag.daemon.memory import freeze_garbage_collector
class Ring:
    def __init__(self): self.me = self
freeze_garbage_collector()
assert gc.get_freeze_count() > 1000  # what was imported
later = weakref.ref(Ring())
gc.collect()
print(later())
"""


def test_the_garbage_collector_ignores_imports_and_frees_later_objects() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPARED], capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"
