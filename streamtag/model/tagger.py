"""Taggers: a tagger is a loaded bundle that computes the probabilities of tags for windows.

This is the only module that loads TorchScript.
"""

import logging
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from streamtag.errors import BundleError
from streamtag.model.bundle import checksum, golden_window, read_card
from streamtag.model.card import Card
from streamtag.model.optimise import fuse, optimisations

logger = logging.getLogger(__name__)

SMALLEST_WEIGHT = 1e-20
"""Smaller weights change no output, but denormal numbers slow a CPU down 70 times."""


_CALLS = 5
"""A part of a model is called so often to measure it."""


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
        self._buffers = threading.local()
        self._warm: set[int] = set()

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> "Tagger":
        """Reads a bundle and replays its golden answer.

        Args:
            path: the bundle.
            device: `cpu`, `cuda`, `cuda:1` …; `auto` is `cuda` if there is one, else `cpu`.

        Raises:
            BundleError: no bundle, damaged, for another front end, or its golden answer differs.
        """
        path = Path(path)
        card = read_card(path)
        place = _device(path, device)
        if place.type == "cuda":  # TF32 rounds to 10 bits, which misses the golden answer
            torch.backends.cudnn.allow_tf32 = False
        module = read_module(path, place)
        if flushed := flush_denormal_weights(module):
            logger.warning("%s: %d weights below %g set to zero", path, flushed, SMALLEST_WEIGHT)
        tagger = cls(module, card, checksum(path), place)
        tagger.path = path
        tagger._module_for(1)
        if card.trunk is not None:
            tagger._load_parts()
        return tagger

    def on_cpu(self) -> "Tagger":
        """The same model on the CPU.

        It is read from its file again, because a GPU that has failed cannot return the weights.

        Raises:
            BundleError: the file is gone, or is another one now.
        """
        if self.path is None:
            raise BundleError(f"model {self.card.name}: expected a file to read it from, got none")
        if (found := checksum(self.path)) != self.checksum:
            raise BundleError(
                f"{self.path}: expected the bundle that runs, {self.checksum:.12}, "
                f"got {found:.12}; it was replaced"
            )
        return Tagger.load(self.path, "cpu")

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
        return self._run(self._module_for(len(windows)), windows)

    def trunk(self, frames: np.ndarray) -> np.ndarray:
        """Embeddings, (n, m - short, size) float32; only of a bundle whose card has a trunk.

        Args:
            frames: (n, m * stride, width) float32, C-contiguous.
        """
        return self._run_part("trunk", frames)

    def head(self, embeddings: np.ndarray) -> np.ndarray:
        """Probabilities, (n, n_tags) float32; only of a bundle whose card has a trunk.

        Args:
            embeddings: (n, columns, size) float32, C-contiguous.
        """
        return self._run_part("head", embeddings)

    def compile_part(self, part: str, shape: tuple[int, ...]) -> float:
        """Compiles the trunk or the head for inputs of one shape, if that is faster on a CPU.

        Args:
            part: `trunk` or `head`.
            shape: of its input.

        Returns:
            Seconds of a call.
        """
        example = torch.zeros(shape, device=self._device)
        general = _seconds(self._parts[part], example)
        if self._device.type != "cpu":
            return general
        try:
            module = fuse(self._scripted_part(part), example)
        except Exception as error:  # it works without
            logger.info("%s: %s is not compiled for %s: %s", self.path, part, shape, error)
            return general
        if (seconds := _seconds(module, example)) < general:
            self._compiled[part, shape] = module
        return min(seconds, general)

    def warm_up(self, sizes: Sequence[int]) -> None:
        """Runs each batch size three times, so that the first real batch is as fast as all others.

        TorchScript profiles the first run and specialises in the second.
        """
        for n in sorted(set(sizes) - self._warm, reverse=True):
            for _ in range(3):
                self(self.staging(n))
            self._warm.add(n)

    def _module_for(self, n: int) -> torch.jit.ScriptModule:
        """The module for batches of `n`, optimised and checked when it is first needed."""
        single = n == 1 and self._device.type == "cpu"
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
                logger.info("%s: optimisation %s is not possible: %s", self.path, name, error)
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
        (_, quick), *_ = list(optimisations(self._device, 2))
        try:
            for part in _PARTS:
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

    def _run_part(self, part: str, inputs: np.ndarray) -> np.ndarray:
        return self._run(self._compiled.get((part, inputs.shape), self._parts[part]), inputs)

    def _run(self, module: torch.jit.ScriptModule, windows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            inputs = torch.from_numpy(windows).to(self._device, non_blocking=True)
            out: np.ndarray = module(inputs).contiguous().cpu().numpy()
            return out

    def _replay(self, module: torch.jit.ScriptModule) -> None:
        path, golden = self.path, self.card.golden
        if golden is None:
            raise BundleError(f"{path}: expected a golden answer in its card; export it again")
        try:
            answer = self._run(module, golden_window(self.card))
        except Exception as error:  # the model is foreign code
            raise BundleError(
                f"{path}: its model fails on the golden window: {error}; export it again"
            ) from error
        self._check_golden(answer)

    def _check_golden(self, answer: np.ndarray) -> None:
        path, golden = self.path, self.card.golden
        assert golden is not None
        if answer.shape != (1, len(self.card.tags)):
            raise BundleError(
                f"{path}: expected {len(self.card.tags)} probabilities, got shape {answer.shape}"
            )
        difference = np.abs(answer[0] - np.asarray(golden.probabilities))
        worst = int(np.argmax(difference))  # NaN counts as the largest
        if not difference[worst] <= golden.tolerance:
            raise BundleError(
                f"{path}: golden answer differs by {difference[worst]:.2g} for tag "
                f"{self.card.tags[worst]!r}, expected at most {golden.tolerance:g}: this machine "
                "computes something else than the exporting one; export it again with this version"
            )


class _Trunk(torch.nn.Module):
    """A module whose `forward` is a bundle's `trunk`, so that it can be optimised alone."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.module.trunk(frames)  # type: ignore[no-any-return]


class _Head(torch.nn.Module):
    """A module whose `forward` is a bundle's `head`."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.module.head(embeddings)  # type: ignore[no-any-return]


_PARTS = {"trunk": _Trunk, "head": _Head}


def _seconds(module: torch.jit.ScriptModule, example: torch.Tensor) -> float:
    """The shortest of a few calls; the first two are slow, because torch optimises the module."""
    best = math.inf
    with torch.inference_mode():
        for _ in range(_CALLS):
            began = time.perf_counter()
            module(example)
            best = min(best, time.perf_counter() - began)
    return best


def is_fatal_gpu_error(error: Exception) -> bool:
    """Whether an error of a model call means that this process cannot use the GPU any more.

    CUDA's errors are RuntimeErrors that only their text tells apart. Most of them last until the
    process ends. A full GPU counts too: other programs fill it, and may do so for long.
    """
    marks = ("CUDA error", "CUDA out of memory", "cuDNN error", "CUBLAS_")
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in marks)


def read_module(path: Path, place: torch.device) -> torch.jit.ScriptModule:
    """The scripted module of a bundle as it was saved, in evaluation mode.

    Its golden answer is not replayed.

    Raises:
        BundleError: torch cannot read it.
    """
    try:
        module = torch.jit.load(str(path), map_location=place)  # type: ignore[no-untyped-call]
        return cast(torch.jit.ScriptModule, module.eval())
    except Exception as error:  # torch raises whatever its parsers raise
        raise BundleError(f"{path}: torch {torch.__version__} cannot load it: {error}") from error


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
