"""The memory of a training step: estimated before the first one, and kept within what is free.

A step on a few windows is tried on a copy of the net, and its largest memory is extrapolated to the
whole batch. Where that is more than the machine has, the batch is cut into parts, and the gradients
of the parts are added up: the loss and the effective batch stay those of the recipe. Batch
normalisation then sees a part at a time.
"""

import contextlib
import copy
import ctypes
import math
import os
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from streamtag.train.data.loader import Batch
from streamtag.train.data.samples import Samples
from streamtag.train.recipes.recipe import Recipe, Stage

TRIED = (2, 4)
"""Windows of the two steps that are tried."""
USABLE = 0.8
"""Share of the free memory that an estimate may fill."""
SLACK = 1.2
"""Factor for what a heap loses in pieces: steps grew by up to 1.35 from the first to the fourth."""
UNSEEN = 1.6
"""Bytes that are used per byte of tensors where they cannot be measured; convolutions had 1.4 to
1.8."""
OPTIMIZER_COPIES = {"sgd": 1, "amsgrad": 3}
"""Values that an optimiser keeps per weight; the others keep two."""


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What a training step needs besides the weights, in bytes."""

    fixed: int
    """Gradients, optimiser, copies of the weights, batches that are being read."""
    per_window: int
    """Activations and gradients of one window."""

    def of(self, windows: int) -> int:
        """Bytes of a step on a number of windows."""
        return self.fixed + windows * self.per_window


@dataclass(frozen=True, slots=True)
class Accumulation:
    """In how many parts a batch is computed, and why."""

    batch: int
    """Windows of a batch in this process."""
    parts: int
    needed: int = 0
    """Estimated bytes of a step on a part; 0 if the recipe sets `accumulate`."""
    whole: int = 0
    """The same of a step on the whole batch."""
    free: int = 0
    """Bytes that were free; 0 if that is unknown."""

    @property
    def windows(self) -> int:
        """Windows of a part."""
        return math.ceil(self.batch / self.parts)

    @property
    def fits(self) -> bool:
        """Whether a part fits into what is free."""
        return not self.free or self.needed <= self.free

    def __str__(self) -> str:
        cut = f"{self.parts} parts of {self.windows} windows, gradients added up: the batch stays "
        cut += f"{self.batch}, batch normalisation sees {self.windows}"
        if not self.whole:
            return f"memory: {cut if self.parts > 1 else 'not estimated: fit.accumulate is 1'}"
        free = f"of {_gb(self.free)} free" if self.free else "(free memory unknown)"
        whole = f"memory: about {_gb(self.whole)} {free} for a batch of {self.batch}"
        return whole if self.parts == 1 else f"{whole}; {cut}, about {_gb(self.needed)}"

    def to_dict(self) -> dict[str, Any]:
        """For `about.json`."""
        return {
            "batch": self.batch,
            "parts": self.parts,
            "windows_per_part": self.windows,
            "estimated_bytes": self.needed,
            "estimated_bytes_of_whole_batch": self.whole,
            "free_bytes": self.free,
        }


def choose_accumulation(step: StepMemory, batch: int, free: int, present: int = 0) -> Accumulation:
    """The smallest number of parts with which a step fits.

    Args:
        step: the estimate.
        batch: windows of a batch in this process.
        free: bytes; 0 if unknown.
        present: the number of parts of a run that goes on. It is kept as long as the estimate is
            not more than what is free, because another number gives other weights.
    """
    most = max(1, batch // 2)  # a part of one window has no batch statistics

    def made(parts: int) -> Accumulation:
        windows = math.ceil(batch / parts)
        return Accumulation(batch, parts, step.of(windows), step.of(batch), free)

    if present and made(min(present, most)).fits:
        return made(min(present, most))
    some = (made(parts) for parts in range(1, most + 1))
    fitting = (one for one in some if not free or one.needed <= USABLE * free)
    return next(fitting, made(most))


def split_batch(batch: Batch, windows: int) -> list[tuple[Batch, float]]:
    """Parts of at most about `windows` windows, each with its share of the batch's mean loss.

    The loss is a mean over known targets, so a part's share is that of its known targets. A part
    without any is left out.
    """
    n = len(batch.frames)
    count = max(1, min(math.ceil(n / windows), n // 2))
    if count == 1:
        return [(batch, 1.0)]
    parts = []
    for rows in torch.arange(n).tensor_split(count):
        side = None if batch.side is None else batch.side[rows]
        parts.append(Batch(batch.frames[rows], batch.targets[rows], side))
    known = [int((~torch.isnan(part.targets)).sum()) for part in parts]
    if not any(known):
        known = [len(part.frames) for part in parts]
    total = sum(known)
    return [(part, own / total) for part, own in zip(parts, known, strict=True) if own]


def step_memory(
    recipe: Recipe, module: nn.Module, samples: Samples, device: torch.device, workers: int = 0
) -> StepMemory:
    """Estimates the memory of a training step, from two steps on a copy of the net.

    Args:
        recipe: batch size, optimisers, precision.
        module: maps frames, targets and side values to the loss; on its device, unchanged.
        samples: the training windows; one is read.
        device: where the steps run.
        workers: processes that read batches ahead.
    """
    sample = samples.sample(0, 0, np.random.default_rng([0, 9]))
    frames, targets, side = (_repeated(a) for a in (sample.frames, sample.targets, sample.side))
    assert frames is not None
    assert targets is not None
    tried = []
    for n in TRIED:
        rows = [None if a is None else a[:n].to(device) for a in (frames, targets, side)]
        tried.append(_tried(recipe, module, rows, device))
    (first, _), (second, used) = tried  # the first step also loads libraries
    inside = max(1.0, used / max(1, second)) * SLACK
    per_window = (second - first) / (TRIED[1] - TRIED[0])
    own = max(0.0, first - TRIED[0] * per_window)
    weights = sum(w.numel() * w.element_size() for w in module.parameters())
    kept = max(_optimizer_copies(stage) for stage in recipe.fit.stages) + 1  # and the gradients
    on_cpu = device.type == "cpu"
    kept += _weight_copies(recipe, targets.shape[-1]) if on_cpu else 1
    read = frames[0].nbytes * recipe.fit.batch_size * (3 + 2 * workers) if on_cpu else 0
    return StepMemory(round(inside * own + kept * weights + read), round(inside * per_window))


def free_memory(device: torch.device) -> int:
    """Bytes that a process may still use on a device; 0 if that is unknown.

    On a CPU that is what the system, each control group above this process and the heap of this
    process have left, shared by the processes that `torchrun` started here.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limits = [*_system_free(), *_control_group_free(Path("/proc/self/cgroup"), CONTROL_GROUPS)]
    if not limits:
        return 0
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(limits)) // processes + _heap_free()


CONTROL_GROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the control groups."""


class AllocationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made while it is active, and their largest sum."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.largest = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return out

    def _see(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return

        def freed(_: Any) -> None:
            self.now -= size
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(storage, freed)
        self.now += size
        self.largest = max(self.largest, self.now)


def _tried(
    recipe: Recipe, module: nn.Module, rows: list[Any], device: torch.device
) -> tuple[int, int]:
    """Forward and backward passes of a copy: bytes of its tensors, and bytes that were used."""
    twin = copy.deepcopy(module).train()

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.fit.amp):
            loss = twin(*rows)
        loss.backward()

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        return _on_cuda(run, device) if devices else _on_cpu(run)


def _on_cpu(run: Callable[[], None]) -> tuple[int, int]:
    """Convolutions use further blocks inside, nearly as large as the tensors. The growth of the
    process shows them, where the kernel can measure it."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # so that no free block of the heap hides what is used
    before, restarted = _resident("VmRSS"), _restart_peak()
    with AllocationCounter() as counter:
        run()
    used = _resident("VmHWM") - before if restarted else UNSEEN * counter.largest
    return counter.largest, round(used)


def _on_cuda(run: Callable[[], None], device: torch.device) -> tuple[int, int]:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    largest = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return largest, largest


def _restart_peak() -> bool:
    """Lets the kernel measure the largest size of this process anew; only Linux can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5)
    except OSError:
        return False
    return True


def _resident(key: str) -> int:
    """`VmRSS` or `VmHWM` of this process in bytes; 0 if unknown."""
    try:
        found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _repeated(values: np.ndarray | None) -> Tensor | None:
    """The same window several times, (n, …) float32."""
    if values is None:
        return None
    return torch.from_numpy(np.stack([values] * max(TRIED)).astype(np.float32))


def _optimizer_copies(stage: Stage) -> int:
    return OPTIMIZER_COPIES.get(stage.optimizer, 2)


def _weight_copies(recipe: Recipe, n_tags: int) -> int:
    """How many copies of the weights selection and averaging keep."""
    fit = recipe.fit
    per_tag = (fit.per_tag_members or n_tags) if fit.per_tag else 0
    return 2 + per_tag + (2 + fit.snapshots if fit.swa_start else 0)


def _system_free() -> Iterator[int]:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        if found := re.search(r"MemAvailable:\s+(\d+) kB", text):
            yield int(found[1]) * 1024
    except OSError:
        if "SC_AVPHYS_PAGES" in os.sysconf_names:
            yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_group_free(own: Path, root: Path) -> Iterator[int]:
    """What each control group above this process has left, of version 1 or 2."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            names, top = ("memory.limit_in_bytes", "memory.usage_in_bytes"), root / "memory"
        elif not controllers:
            names, top = ("memory.max", "memory.current"), root
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in [top / inside, *(top / parent for parent in inside.parents), top]:
            values = [_number(folder / name) for name in names]
            if None not in values:
                yield values[0] - values[1] + _file_cache(folder / "memory.stat")  # type: ignore[operator]


def _file_cache(stat: Path) -> int:
    """Bytes of a control group that the kernel gives back: pages of files not used of late."""
    try:
        found = dict(line.split() for line in stat.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return 0
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # "max" is no limit
        return None


class _HeapState(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


def _heap_free() -> int:
    """Bytes of the process' heap that are free; see `distributed.keep_freed_memory`."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return 0
    mallinfo.restype = _HeapState
    return int(mallinfo().fordblks)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e9:.2f} GB"
