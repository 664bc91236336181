"""What every net is wrapped in: normalisation before it, temperature and sigmoid after it.

The contract of a net in `nets.NETS`: a constructor `Net(n_tags, *, width=…, window_frames=…,
**options)` whose defaults are the published sizes, a method `logits(frames)` from
(n, window_frames, width) to (n, n_tags), and a `forward` that is its sigmoid. Optional besides:

* `losses(frames, targets, criterion) -> Tensor` instead of `criterion(logits(frames), targets)`:
  several outputs, or further terms;
* `side_logits(frames, side)` for nets that take values beside the frames in training;
* `count(targets)` for nets that are counted rather than trained.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from streamtag.errors import RecipeError
from streamtag.train.nets import NETS
from streamtag.train.recipe import Recipe

Criterion = Callable[[Tensor, Tensor], Tensor]
"""From logits and targets, (n, n_tags) each, to a loss."""


class Model(nn.Module):
    """(n, window_frames, width) frames to (n, n_tags) calibrated probabilities.

    Args:
        net: fulfils the contract above.
        n_tags: outputs.
        width: values per frame.
    """

    def __init__(self, net: nn.Module, n_tags: int, width: int) -> None:
        super().__init__()
        self.net = net
        self.mean: Tensor
        self.scale: Tensor
        self.temperature: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("temperature", torch.ones(n_tags))

    def normalise(self, mean: Tensor, scale: Tensor) -> None:
        """Sets what is subtracted from each band and what it is divided by, (width,) each."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def calibrate(self, temperature: Tensor) -> None:
        """Sets by what each tag's logit is divided, (n_tags,) (Guo et al. 2017)."""
        self.temperature.copy_(temperature)

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags), before the temperature."""
        out: Tensor = self.net.logits((frames - self.mean) / self.scale)  # type: ignore[operator]
        return out

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags)."""
        return torch.sigmoid(self.logits(frames) / self.temperature)

    @torch.jit.unused
    def side_logits(self, frames: Tensor, side: Tensor) -> Tensor:
        """`logits` of a net that takes (n, n_side) values beside the frames."""
        scaled = (frames - self.mean) / self.scale
        return cast(Tensor, self.net.side_logits(scaled, side))  # type: ignore[operator]

    @torch.jit.unused
    def loss(
        self, frames: Tensor, targets: Tensor, side: Tensor | None, criterion: Criterion
    ) -> Tensor:
        """What the training makes small, for one batch.

        Args:
            frames: (n, window_frames, width).
            targets: (n, n_tags) in [0, 1], or NaN.
            side: (n, n_side) values beside the frames, or None.
            criterion: of logits and targets.
        """
        net: Any = self.net
        scaled = (frames - self.mean) / self.scale
        if hasattr(net, "losses"):
            return cast(Tensor, net.losses(scaled, targets, criterion))
        if side is not None and hasattr(net, "side_logits"):
            return criterion(net.side_logits(scaled, side), targets)
        return criterion(net.logits(scaled), targets)


def new_model(recipe: Recipe, n_tags: int) -> Model:
    """The recipe's net with fresh weights, wrapped.

    Raises:
        RecipeError: no such net, or options that it does not take.
    """
    if recipe.net.name not in NETS:
        raise RecipeError(f"net.name: expected one of {', '.join(NETS)}, got {recipe.net.name!r}")
    torch.manual_seed(recipe.seed)
    width = recipe.features.width
    try:
        net = NETS[recipe.net.name](
            n_tags, width=width, window_frames=recipe.window_frames, **recipe.net.options
        )
    except (TypeError, ValueError) as error:
        raise RecipeError(f"net {recipe.net.name!r}: {error}") from error
    return Model(net, n_tags, width)
