"""Optimises a scripted module for its device; only the last bits of its output may change."""

from collections.abc import Callable, Iterator
from typing import cast

import torch

Optimisation = Callable[[torch.jit.ScriptModule, torch.Tensor], torch.jit.ScriptModule]

_RUNS = 4
"""TorchScript profiles the first run and specialises in the second. Two more confirm the result."""


def optimisations(device: torch.device, size: int) -> Iterator[tuple[str, Optimisation]]:
    """The optimisations for batches of a size, by name, the fastest first; the last does nothing.

    oneDNN's graph compiler fuses convolutions with the operations after them, for one shape of
    input. For single windows this is one to three times as fast as `optimize_for_inference`, for
    batches it is slower.
    """
    if device.type == "cpu" and size == 1:
        yield "onednn", fuse
    if device.type == "cpu":
        yield "inference", optimise
    else:
        yield "frozen", freeze
    yield "none", lambda module, _: module


def fuse(module: torch.jit.ScriptModule, *example: torch.Tensor) -> torch.jit.ScriptModule:
    """Freezes a module and compiles it with oneDNN for inputs of the example's shapes.

    Torch's switch for oneDNN belongs to the process. It is on only while this module is compiled.

    Raises:
        RuntimeError: this torch fuses nothing in the module.
    """
    frozen = freeze(module, *example)
    before = torch.jit.onednn_fusion_enabled()  # type: ignore[no-untyped-call]
    torch.jit.enable_onednn_fusion(True)
    try:
        with torch.inference_mode():
            for _ in range(_RUNS):
                frozen(*example)
            graph = str(torch.jit.last_executed_optimized_graph())  # type: ignore[attr-defined]
    finally:
        torch.jit.enable_onednn_fusion(before)
    if "oneDNNFusionGroup" not in graph:
        raise RuntimeError("nothing was fused")
    return frozen


def optimise(module: torch.jit.ScriptModule, _: torch.Tensor) -> torch.jit.ScriptModule:
    """Freezes a module, folds batch norms and brings convolutions into oneDNN's layout."""
    return torch.jit.optimize_for_inference(torch.jit.freeze(module))


def freeze(module: torch.jit.ScriptModule, *_: torch.Tensor) -> torch.jit.ScriptModule:
    """Turns weights into constants and folds batch norms."""
    return cast(torch.jit.ScriptModule, torch.jit.freeze(module))
