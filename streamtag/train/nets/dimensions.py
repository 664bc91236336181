"""Dimensions of the mood plane as outputs of a net: what its raw outputs mean, and their loss.

A net with dimensions has outputs after the logits of its tags: one for the value of each dimension,
then one for the deviation of each. Both are learned together from the likelihood of a normal
distribution (Nix and Weigend, "Estimating the mean and variance of the target probability
distribution", 1994). Targets have columns after those of the tags: the value of each dimension in
[-1, 1], NaN where it is unknown, and the weight of the window, 0 or NaN for none.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_DEVIATION = 0.05
"""No deviation is smaller, so that one exact answer does not outweigh all others."""
SHARE = 0.2
"""Weight of the dimensions' loss beside that of the tags."""
Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps outputs and targets to a loss."""


def values_and_deviations(
    raw: Tensor, smallest: float = SMALLEST_DEVIATION
) -> tuple[Tensor, Tensor]:
    """(n, 2 * n_dimensions) raw outputs to values in [-1, 1] and deviations, (n, n_dimensions)."""
    values, deviations = raw.chunk(2, dim=1)
    return torch.tanh(values), functional.softplus(deviations) + smallest


def likelihood_loss(raw: Tensor, targets: Tensor) -> Tensor:
    """The weighted mean of the negative log likelihoods of the known values, without constant.

    Args:
        raw: (n, 2 * n_dimensions).
        targets: (n, n_dimensions + 1) values, NaN where unknown, and weights.
    """
    values, deviations = values_and_deviations(raw.float())
    wanted, weights = targets[:, :-1], targets[:, -1:].nan_to_num(0.0)
    weights = torch.where(wanted.isnan(), 0.0, weights)
    errors = (wanted.nan_to_num(0.0) - values) / deviations
    losses = 0.5 * errors.square() + deviations.log()
    return (weights * losses).sum() / weights.sum().clamp(min=1.0)


def with_dimensions(criterion: Criterion, n_tags: int) -> Criterion:
    """A criterion of outputs and targets that have columns of dimensions after those of the tags.

    Args:
        criterion: of the tags' logits and targets, (n, n_tags) each.
        n_tags: how many columns are tags.
    """

    def both(outputs: Tensor, targets: Tensor) -> Tensor:
        tags = criterion(outputs[:, :n_tags], targets[:, :n_tags])
        return tags + SHARE * likelihood_loss(outputs[:, n_tags:], targets[:, n_tags:])

    return both


def deviation_factors(values: Tensor, deviations: Tensor, targets: Tensor) -> Tensor:
    """What deviations must be multiplied by to be as large as the errors, (n_dimensions,).

    It is the root mean square of the errors in deviations, 1 where no value is known (Levi et al.,
    "Evaluating and calibrating uncertainty prediction in regression tasks", 2022).

    Args:
        values: (n, n_dimensions).
        deviations: (n, n_dimensions).
        targets: (n, n_dimensions + 1), as for `likelihood_loss`.
    """
    wanted, weights = targets[:, :-1], targets[:, -1:].nan_to_num(0.0)
    weights = torch.where(wanted.isnan(), 0.0, weights)
    squares = ((wanted.nan_to_num(0.0) - values) / deviations).square()
    sums = weights.sum(dim=0)
    means = (weights * squares).sum(dim=0) / sums.clamp(min=math.ulp(1.0))
    return torch.where(sums > 0, means.sqrt(), 1.0)
