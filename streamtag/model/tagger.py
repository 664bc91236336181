"""A loaded bundle: windows in, probabilities out. The only place that loads TorchScript."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from streamtag.errors import BundleError
from streamtag.model.bundle import checksum, golden_window, read_card
from streamtag.model.card import Card
from streamtag.model.optimise import ways

logger = logging.getLogger(__name__)

TINY = 1e-20
"""Smaller weights change no output, but subnormal ones slow a CPU down 70 times."""


class Tagger:
    """A model that is ready to tag; make one with `Tagger.load`.

    On a GPU one thread at a time; on a CPU several may call it, each with its own `staging`.
    """

    def __init__(
        self, module: torch.jit.ScriptModule, card: Card, checksum: str, device: torch.device
    ) -> None:
        self.card, self.checksum, self.device = card, checksum, str(device)
        self.path: Path | None = None
        """Where it was loaded from."""
        self._module, self._device = module, device
        self._made: dict[bool, torch.jit.ScriptModule] = {}
        """What runs: for windows alone on a CPU (True), for all else (False)."""
        self.ways: set[str] = set()
        """How it was made fast, as `fusing.ways` calls it."""
        self._rooms = threading.local()
        self._warm: set[int] = set()

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> "Tagger":
        """Reads a bundle and replays its golden answer.

        Args:
            path: the bundle.
            device: `cpu`, `cuda`, `cuda:1` …; `auto` is `cuda` if there is one, else `cpu`.

        Raises:
            BundleError: no bundle, damaged, made for another front end, or it answers differently.
        """
        path = Path(path)
        card = read_card(path)
        place = _device(path, device)
        if place.type == "cuda":  # else convolutions round to 10 bits and miss the golden answer
            torch.backends.cudnn.allow_tf32 = False
        module = read_module(path, place)
        if cleared := clear_tiny_weights(module):
            logger.warning("%s: %d weights below %g set to zero", path, cleared, TINY)
        tagger = cls(module, card, checksum(path), place)
        tagger.path = path
        tagger._runner(1)
        return tagger

    def on_cpu(self) -> "Tagger":
        """The same model on the CPU, read from its file anew: a lost GPU gives nothing back.

        Raises:
            BundleError: the file is gone, or another one now.
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
        """Memory for `n` windows, (n, window_frames, width) float32: fill it, then call with it.

        Pinned if the model is on a GPU. The thread's next call of
        `staging` gives the same memory again.
        """
        room = getattr(self._rooms, "room", None)
        if room is None or len(room) < n:
            shape = (n, self.card.window_frames, self.card.features.width)
            room = torch.zeros(shape, pin_memory=self._device.type == "cuda")
            self._rooms.room = room
        found: np.ndarray = room[:n].numpy()
        return found

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Probabilities, (n, n_tags) float32.

        Args:
            windows: (n, window_frames, width) float32, C-contiguous; copied to a GPU without
                waiting if it is `staging` memory.
        """
        return self._run(self._runner(len(windows)), windows)

    def warm_up(self, sizes: Sequence[int]) -> None:
        """Runs each batch size a few times, so that the first real one is as fast as all others.

        Three times: TorchScript profiles a first run, specialises in a second.
        """
        for n in sorted(set(sizes) - self._warm, reverse=True):
            for _ in range(3):
                self(self.staging(n))
            self._warm.add(n)

    def _runner(self, n: int) -> torch.jit.ScriptModule:
        """The module for batches of `n`; the first call of a kind makes and tries it."""
        kind = n == 1 and self._device.type == "cpu"
        if kind not in self._made:
            self._made[kind] = self._prepared(n)
        return self._made[kind]

    def _prepared(self, n: int) -> torch.jit.ScriptModule:
        """The fastest way to run batches of `n` that gives the golden answer.

        Raises:
            BundleError: not even the module as it is gives it.
        """
        *faster, (plain, last) = ways(self._device, n)
        example = torch.from_numpy(golden_window(self.card)).to(self._device)
        for name, way in faster:
            try:
                made = way(self._module, example)
                self._replay(made)
            except Exception as error:  # speed is a favour: without it, it must work
                logger.info("%s: not %s: %s", self.path, name, error)
            else:
                self.ways.add(name)
                return made
        self.ways.add(plain)
        made = last(self._module, example)
        self._replay(made)
        return made

    def _run(self, module: torch.jit.ScriptModule, windows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            inputs = torch.from_numpy(windows).to(self._device, non_blocking=True)
            out: np.ndarray = module(inputs).cpu().numpy()
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


def lost_device(error: Exception) -> bool:
    """Whether an error of a model call means that the GPU will do nothing more.

    CUDA's errors are RuntimeErrors that are known by their words; most of them are for good in a
    process. A GPU that is full counts: others fill it, and nobody knows when it will be free.
    """
    words = str(error)
    return isinstance(error, RuntimeError) and any(
        mark in words for mark in ("CUDA error", "CUDA out of memory", "cuDNN error", "CUBLAS_")
    )


def read_module(path: Path, place: torch.device) -> torch.jit.ScriptModule:
    """The scripted module of a bundle as it was saved, in evaluation, its golden answer untried.

    Raises:
        BundleError: torch cannot read it.
    """
    try:
        module = torch.jit.load(str(path), map_location=place)  # type: ignore[no-untyped-call]
        return cast(torch.jit.ScriptModule, module.eval())
    except Exception as error:  # torch raises whatever its parsers raise
        raise BundleError(f"{path}: torch {torch.__version__} cannot load it: {error}") from error


def clear_tiny_weights(module: torch.nn.Module) -> int:
    """Sets weights below `TINY` to zero, in place; returns how many were not zero before."""
    cleared = 0
    with torch.no_grad():
        for weights in (*module.parameters(), *module.buffers()):
            if weights.is_floating_point():
                tiny = (weights.abs() < TINY) & (weights != 0)
                if count := int(tiny.sum()):
                    weights[tiny] = 0
                    cleared += count
    return cleared


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
