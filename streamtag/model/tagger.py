"""Taggers: a tagger is a loaded bundle that computes the probabilities of tags for windows.

This is the only module that loads TorchScript.
"""

import io
import logging
import math
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from streamtag.errors import BundleError
from streamtag.model.bundle import BundleFile, golden_window
from streamtag.model.card import Card
from streamtag.model.optimise import fuse, optimisations
from streamtag.model.threads import one_thread
from streamtag.model.watchdog import CallLimits, Watchdog

logger = logging.getLogger(__name__)

SMALLEST_WEIGHT = 1e-20
"""Smaller weights change no output, but denormal numbers slow a CPU down 70 times."""


_CALLS = 5
"""The least number of calls that measure a part of a model."""
_MEASURED = 0.005
"""Seconds that these calls take together, at least."""


class Tagger:
    """A model that is ready to tag. `Tagger.load` makes one.

    On a GPU only one thread at a time may call it. On a CPU several may, each with its own staging
    buffer.
    """

    def __init__(
        self, module: torch.jit.ScriptModule, card: Card, checksum: str, device: torch.device
    ) -> None:
        self.card, self.checksum, self.device = card, checksum, str(device)
        self.path: Path | None = None
        """The file that it was loaded from."""
        self._module, self._device = module, device
        self.optimisations: set[str] = set()
        """Those in use, by the names of `optimise.optimisations`."""
        self._optimised: dict[bool, torch.jit.ScriptModule] = {}
        """The modules that run: for single windows on a CPU (True), for everything else (False)."""
        self._parts: dict[str, torch.jit.ScriptModule] = {}
        self._compiled: dict[tuple[str, tuple[int, ...]], torch.jit.ScriptModule] = {}
        """Trunk and head for inputs of one shape, where that is faster."""
        self.cpu_seconds = 0.0
        """CPU time of all calls of the model so far, of the threads that made them."""
        self._counting = threading.Lock()
        self._buffers = threading.local()
        self.watchdog: Watchdog | None = None
        """Makes the calls, if they are watched."""
        self._warm: set[int] = set()
        self._is_warming = False
        """Whether calls compile, and so take longer than they will."""
        self._preparing = threading.RLock()
        """Held while a module is compiled: torch cannot compile in two threads at a time."""
        self._part_seconds: dict[tuple[str, tuple[tuple[int, ...], ...]], float] = {}
        """Of a call of each part that was compiled, by the shapes of its inputs."""

    def watch(self, limits: CallLimits) -> None:
        """From now on calls that do not return in time raise ModelStuckError; see `Watchdog`."""
        if self.watchdog is None:
            self.watchdog = Watchdog(limits)

    @classmethod
    def load(cls, bundle: Path | BundleFile, device: str = "auto") -> "Tagger":
        """Reads a bundle and replays its golden answer. This runs the bundle's code in this
        process: `trial.try_bundle` runs it in a confined one before.

        Args:
            bundle: the bundle, or its path.
            device: `cpu`, `cuda`, `cuda:1` …; `auto` is `cuda` if there is one, else `cpu`.

        Raises:
            BundleError: no bundle, damaged, for another front end, or its golden answer differs.
        """
        file = bundle if isinstance(bundle, BundleFile) else BundleFile.read(Path(bundle))
        place = _device(file.path, device)
        if place.type == "cuda":  # TF32 rounds to 10 bits, which misses the golden answer
            torch.backends.cudnn.allow_tf32 = False
        with one_thread():
            return cls._prepared(file, place)

    @classmethod
    def _prepared(cls, file: BundleFile, place: torch.device) -> "Tagger":
        """The tagger of a bundle, optimised and checked."""
        path, card = file.path, file.card
        module = read_module(file, place)
        if flushed := flush_denormal_weights(module):
            logger.warning("%s: %d weights below %g set to zero", path, flushed, SMALLEST_WEIGHT)
        tagger = cls(module, card, file.checksum, place)
        tagger.path = path
        if card.trunk is None:
            tagger._module_for(1)
        else:  # what sees whole windows is optimised when one comes
            tagger._replay(module)
            tagger._load_parts()
        return tagger

    def again(self) -> "Tagger":
        """The same model on the same device, loaded anew. For errors see `on_cpu`."""
        return self._again(self.device)

    def on_cpu(self) -> "Tagger":
        """The same model on the CPU.

        It is read from its file again, because a GPU that has failed cannot return the weights.

        Raises:
            BundleError: the file is gone, or is another one now.
        """
        return self._again("cpu")

    def _again(self, device: str) -> "Tagger":
        """The same model, from its file."""
        if self.path is None:
            raise BundleError(f"model {self.card.name}: expected a file to read it from, got none")
        file = BundleFile.read(self.path)
        if file.checksum != self.checksum:
            raise BundleError(
                f"{self.path}: expected the bundle that runs, {self.checksum:.12}, "
                f"got {file.checksum:.12}; it was replaced"
            )
        return Tagger.load(file, device)

    def staging(self, n: int) -> np.ndarray:
        """A staging buffer for `n` windows, (n, window_frames, width) float32.

        Fill it, then call the tagger with it. It is pinned if the model is on a GPU. Each thread
        has one buffer: its next call of `staging` returns the same memory.
        """
        buffer = getattr(self._buffers, "buffer", None)
        if buffer is None or len(buffer) < n:
            shape = (n, self.card.window_frames, self.card.features.width)
            buffer = torch.zeros(shape, pin_memory=self._device.type == "cuda")
            self._buffers.buffer = buffer
        windows: np.ndarray = buffer[:n].numpy()
        return windows

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Probabilities, (n, n_tags) float32.

        Args:
            windows: (n, window_frames, width) float32, C-contiguous. A `staging` buffer is copied
                to a GPU asynchronously.
        """
        return self.outputs(windows)[:, : len(self.card.tags)]

    def outputs(self, windows: np.ndarray) -> np.ndarray:
        """Everything that the net gives, (n, n_outputs) float32: the probabilities, and the card's
        further `dimensions`."""
        return self._run(self._module_for(len(windows)), windows)[0]

    def trunk(self, frames: np.ndarray) -> np.ndarray:
        """Embeddings, (n, m - short, size) float32; only of a bundle whose card has a trunk.

        Args:
            frames: (n, m * stride, width) float32, C-contiguous.
        """
        return self._run_part("trunk", frames)[0]

    def advance(self, frames: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings, (n, m, size), and the next state; only of a bundle whose trunk has one.

        Args:
            frames: (n, m * stride, width) float32, C-contiguous.
            state: (n, state) float32, C-contiguous; zeros at the beginning of a stream.
        """
        embeddings, after = self._run_part("advance", frames, state)
        return embeddings, after

    def head(self, embeddings: np.ndarray) -> np.ndarray:
        """`outputs` by embeddings, (n, n_outputs); only of a bundle whose card has a trunk.

        Args:
            embeddings: (n, columns, size) float32, C-contiguous.
        """
        return self._run_part("head", embeddings)[0]

    def compile_part(self, part: str, *shapes: tuple[int, ...]) -> float:
        """Warms a part up for inputs of some shapes; compiles it for them if that is faster.

        Args:
            part: `trunk`, `advance` or `head`.
            shapes: of its inputs.

        Returns:
            Seconds of a call.
        """
        with self._preparing:
            if (part, shapes) not in self._part_seconds:
                self._part_seconds[part, shapes] = self._compile_part(part, shapes)
            return self._part_seconds[part, shapes]

    def _compile_part(self, part: str, shapes: tuple[tuple[int, ...], ...]) -> float:
        example = tuple(torch.zeros(shape, device=self._device) for shape in shapes)
        if self.watchdog is not None:
            return self.watchdog.call(partial(self._compile, part, shapes, example), slow=True)
        return self._compile(part, shapes, example)

    def _compile(
        self, part: str, shapes: tuple[tuple[int, ...], ...], example: tuple[torch.Tensor, ...]
    ) -> float:
        general = _seconds(self._parts[part], example)
        if self._device.type != "cpu":
            return general
        try:
            module = fuse(self._scripted_part(part), *example)
        except Exception as error:  # it works without
            logger.debug("%s: %s is not compiled for %s: %s", self.path, part, shapes, error)
            return general
        if (seconds := _seconds(module, example)) < general:
            self._compiled[part, shapes[0]] = module
        return min(seconds, general)

    def warm_up(self, sizes: Sequence[int]) -> None:
        """Runs each batch size three times, so that the first real batch is as fast as all others.

        TorchScript profiles the first run and specialises in the second.
        """
        with self._preparing:
            for n in sorted(set(sizes) - self._warm, reverse=True):
                for self._is_warming in (True, True, False):
                    self(self.staging(n))
                self._warm.add(n)

    def _module_for(self, n: int) -> torch.jit.ScriptModule:
        """The module for batches of `n`, optimised and checked when it is first needed."""
        single = n == 1 and self._device.type == "cpu"
        if single not in self._optimised:
            with self._preparing:
                if single not in self._optimised:
                    self._optimised[single] = self._optimise(n)
        return self._optimised[single]

    def _optimise(self, n: int) -> torch.jit.ScriptModule:
        """The module with the fastest optimisation that gives the golden answer.

        Raises:
            BundleError: not even the module without optimisation gives it.
        """
        *faster, (none, last) = optimisations(self._device, n)
        example = torch.from_numpy(golden_window(self.card)).to(self._device)
        for name, optimise in faster:
            try:
                module = optimise(self._module, example)
                self._replay(module)
            except Exception as error:  # the model works without optimisation too
                logger.debug("%s: optimisation %s is not possible: %s", self.path, name, error)
            else:
                self.optimisations.add(name)
                return module
        self.optimisations.add(none)
        module = last(self._module, example)
        self._replay(module)
        return module

    def _load_parts(self) -> None:
        """Optimises the bundle's trunk and head.

        Raises:
            BundleError: they are missing, or together they do not give the golden answer.
        """
        assert self.card.trunk is not None
        names = [part for part in _PARTS if part != "advance" or self.card.trunk.state]
        (_, quick), *_ = list(optimisations(self._device, 2))
        try:
            for part in names:
                self._parts[part] = quick(self._scripted_part(part), torch.empty(0))
            answer = self.head(self.trunk(golden_window(self.card)))
        except Exception as error:  # the model is foreign code
            raise BundleError(
                f"{self.path}: its trunk and head fail on the golden window: {error}; "
                "export it again"
            ) from error
        self._check_golden(answer)

    def _scripted_part(self, part: str) -> torch.jit.ScriptModule:
        module: torch.jit.ScriptModule = torch.jit.script(_PARTS[part](self._module))
        return module.eval()

    def _run_part(self, part: str, *inputs: np.ndarray) -> list[np.ndarray]:
        module = self._compiled.get((part, inputs[0].shape), self._parts[part])
        return self._run(module, *inputs)

    def _run(self, module: torch.jit.ScriptModule, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs of a module."""
        if self.watchdog is not None:
            return self.watchdog.call(
                partial(self._compute, module, *inputs), slow=self._is_warming
            )
        return self._compute(module, *inputs)

    def _compute(self, module: torch.jit.ScriptModule, *inputs: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            began = time.thread_time()
            out = module(*(torch.from_numpy(x).to(self._device, non_blocking=True) for x in inputs))
            found = (out,) if torch.is_tensor(out) else out
            arrays: list[np.ndarray] = [x.contiguous().cpu().numpy() for x in found]
        with self._counting:
            self.cpu_seconds += time.thread_time() - began
        return arrays

    def _replay(self, module: torch.jit.ScriptModule) -> None:
        path, golden = self.path, self.card.golden
        if golden is None:
            raise BundleError(f"{path}: expected a golden answer in its card; export it again")
        try:
            (answer,) = self._run(module, golden_window(self.card))
        except Exception as error:  # the model is foreign code
            raise BundleError(
                f"{path}: its model fails on the golden window: {error}; export it again"
            ) from error
        self._check_golden(answer)

    def _check_golden(self, answer: np.ndarray) -> None:
        path, golden = self.path, self.card.golden
        assert golden is not None
        outputs = self.card.outputs
        if answer.shape != (1, len(outputs)):
            raise BundleError(
                f"{path}: expected {self.card.counted_outputs}, got shape {answer.shape}"
            )
        expected = [*golden.probabilities, *golden.dimensions]
        difference = np.abs(answer[0] - np.asarray(expected))
        worst = int(np.argmax(difference))  # NaN counts as the largest
        if not difference[worst] <= golden.tolerance:
            kind = "tag" if worst < len(self.card.tags) else "output"
            raise BundleError(
                f"{path}: golden answer differs by {difference[worst]:.2g} for {kind} "
                f"{outputs[worst]!r}, expected at most {golden.tolerance:g}: this machine "
                "computes something else than the exporting one; export it again with this version"
            )


class _Trunk(torch.nn.Module):
    """A module whose `forward` is a bundle's `trunk`, so that it can be optimised alone."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.module.trunk(frames)  # type: ignore[no-any-return]


class _Advance(torch.nn.Module):
    """A module whose `forward` is a bundle's `advance`."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, frames: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.module.advance(frames, state)  # type: ignore[no-any-return]


class _Head(torch.nn.Module):
    """A module whose `forward` is a bundle's `head`."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.module.head(embeddings)  # type: ignore[no-any-return]


_PARTS = {"trunk": _Trunk, "advance": _Advance, "head": _Head}


def _seconds(module: torch.jit.ScriptModule, example: tuple[torch.Tensor, ...]) -> float:
    """The shortest of a few calls; the first two are slow, because torch optimises the module.

    With one thread it is CPU time, so that other load on the machine counts little.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best, spent, calls = math.inf, 0.0, 0
    with torch.inference_mode():
        while calls < _CALLS or spent < _MEASURED:
            began = clock()
            module(*example)
            seconds = clock() - began
            best, spent, calls = min(best, seconds), spent + seconds, calls + 1
    return best


def is_fatal_gpu_error(error: Exception) -> bool:
    """Whether an error of a model call means that this process cannot use the GPU any more.

    CUDA's errors are RuntimeErrors that only their text tells apart. Most of them last until the
    process ends. A full GPU counts too: other programs fill it, and may do so for long.
    """
    marks = ("CUDA error", "CUDA out of memory", "cuDNN error", "CUBLAS_")
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in marks)


def read_module(bundle: Path | BundleFile, place: torch.device) -> torch.jit.ScriptModule:
    """The scripted module of a bundle as it was saved, in evaluation mode.

    Its golden answer is not replayed.

    Raises:
        BundleError: torch cannot read it, or must not.
    """
    file = bundle if isinstance(bundle, BundleFile) else BundleFile.read(bundle)
    file.check_code()
    try:
        module = torch.jit.load(io.BytesIO(file.data), map_location=place)  # type: ignore[no-untyped-call]
        return cast(torch.jit.ScriptModule, module.eval())
    except Exception as error:  # torch raises whatever its parsers raise
        raise BundleError(
            f"{file.path}: torch {torch.__version__} cannot load it: {error}"
        ) from error


def flush_denormal_weights(module: torch.nn.Module) -> int:
    """Sets weights below `SMALLEST_WEIGHT` to zero, in place; returns how many it changed."""
    flushed = 0
    with torch.no_grad():
        for weights in (*module.parameters(), *module.buffers()):
            if weights.is_floating_point():
                tiny = (weights.abs() < SMALLEST_WEIGHT) & (weights != 0)
                if count := int(tiny.sum()):
                    weights[tiny] = 0
                    flushed += count
    return flushed


def _device(path: Path, name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BundleError(f"{path}: expected device auto, cpu or cuda, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BundleError(f"{path}: device {name!r} asked for, but torch finds no GPU; use cpu")
    return device
