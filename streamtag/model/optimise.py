"""A scripted module made fast for its device; only the last bits of its answers may change."""

import logging
from collections.abc import Callable, Iterator
from typing import cast

import torch

logger = logging.getLogger(__name__)

Way = Callable[[torch.jit.ScriptModule, torch.Tensor], torch.jit.ScriptModule]

_RUNS = 4
"""TorchScript profiles a first run and specialises in the second; two more show that it holds."""


def ways(device: torch.device, size: int) -> Iterator[tuple[str, Way]]:
    """Ways to run batches of a size, by name, the fastest first; the last takes it as it is.

    oneDNN's graph compiler fuses convolutions with what follows them, for one shape of input: one
    to three times as fast as `optimize_for_inference` with single windows, slower with batches.
    """
    if device.type == "cpu" and size == 1:
        yield "fused", fused
    if device.type == "cpu":
        yield "optimised", optimised
    else:
        yield "frozen", frozen
    yield "as it is", lambda module, _: module


def fused(module: torch.jit.ScriptModule, example: torch.Tensor) -> torch.jit.ScriptModule:
    """Frozen, and compiled by oneDNN's graph compiler for inputs of the example's shape.

    Torch's switch for it is one of the process; it is on only while this module is specialised.

    Raises:
        RuntimeError: this torch fuses nothing of it.
    """
    made = frozen(module, example)
    before = torch.jit.onednn_fusion_enabled()  # type: ignore[no-untyped-call]
    torch.jit.enable_onednn_fusion(True)
    try:
        with torch.inference_mode():
            for _ in range(_RUNS):
                made(example)
            plan = str(torch.jit.last_executed_optimized_graph())  # type: ignore[attr-defined]
    finally:
        torch.jit.enable_onednn_fusion(before)
    if "oneDNNFusionGroup" not in plan:
        raise RuntimeError("nothing was fused")
    return made


def optimised(module: torch.jit.ScriptModule, _: torch.Tensor) -> torch.jit.ScriptModule:
    """Frozen, with batch norms folded and convolutions in oneDNN's layout."""
    return torch.jit.optimize_for_inference(torch.jit.freeze(module))


def frozen(module: torch.jit.ScriptModule, _: torch.Tensor) -> torch.jit.ScriptModule:
    """Weights as constants, batch norms folded."""
    return cast(torch.jit.ScriptModule, torch.jit.freeze(module))
