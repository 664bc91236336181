"""For tests of single nets: parameter counts, weights as after training, and frozen models."""

import torch
from torch import Tensor, nn

from streamtag.train.nets.model import Model

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def count(module: nn.Module) -> int:
    """The number of parameters, without batch statistics."""
    return sum(p.numel() for p in module.parameters())


def statistics(module: nn.Module) -> int:
    """The number of values of batch statistics, which Keras counts too."""
    norms = [m for m in module.modules() if isinstance(m, NORMS)]
    return sum(norm.running_mean.numel() + norm.running_var.numel() for norm in norms)


def with_trained_statistics(net: nn.Module, frames: Tensor) -> nn.Module:
    """The net in evaluation mode, without all-zero weights, with batch statistics of `frames`."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, 0, 0.05)
    norms = [module for module in net.modules() if isinstance(module, NORMS)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches
    with torch.no_grad():
        net.train()(frames)
    return net.eval()


def assert_frozen_is_eager(net: nn.Module, frames: Tensor, n_tags: int) -> None:
    """The scripted and frozen model answers like the eager one, for one row and for many."""
    model = Model(net, n_tags, frames.shape[2]).eval()
    scripted = torch.jit.freeze(torch.jit.script(model))
    served = torch.jit.optimize_for_inference(scripted)
    with torch.inference_mode():
        expected = model(frames)
        assert (expected[0] - expected[-1]).abs().max() > 1e-5  # the frames make a difference
        for _ in range(3):  # TorchScript specialises itself in its first runs
            torch.testing.assert_close(served(frames), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(served(frames[:1]), expected[:1], rtol=0, atol=1e-5)
