"""Means of weights over epochs, and the batch statistics that go with them."""

import copy
from collections.abc import Iterable

import torch
from torch import nn

from streamtag.train.data.loader import Batch
from streamtag.train.nets.model import Model
from streamtag.train.run_folder import Weights

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def weights_of(model: nn.Module) -> Weights:
    """A copy of the state on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def mean_with(mean: Weights, averaged: int, new: Weights) -> Weights:
    """The mean of `averaged + 1` states (Izmailov et al. 2018, algorithm 1)."""
    if averaged == 0:
        return dict(new)
    return {
        name: old + (new[name] - old) / (averaged + 1) if old.is_floating_point() else new[name]
        for name, old in mean.items()
    }


def with_statistics(model: Model, weights: Weights, batches: Iterable[Batch]) -> Model:
    """A copy of the model with other weights, and batch statistics measured with them.

    Statistics are the cumulative average over all batches (Izmailov et al. 2018, section 3.2).
    """
    twin = copy.deepcopy(model)
    twin.load_state_dict(weights)
    norms = [module for module in twin.modules() if isinstance(module, NORMS)]
    if not norms:
        return twin.eval()
    momenta = [norm.momentum for norm in norms]
    twin.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in batches:
            twin.logits(batch.frames.to(twin.temperature.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return twin.eval()
