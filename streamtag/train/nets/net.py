"""The base class of the nets, and the checks of their arguments."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from streamtag.errors import RecipeError


class TaggingNet(nn.Module):
    """The base of all nets that tag: probabilities are the sigmoid of the logits."""

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags) logits."""
        raise NotImplementedError

    def forward(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags) probabilities."""
        return torch.sigmoid(self.logits(frames))


def refusal(net: str, key: str, expected: str, got: object, todo: str = "") -> RecipeError:
    """An error about an argument of a net, for the caller to raise.

    Args:
        net: its key in `nets.NETS`.
        key: the argument: `window_frames`, `width` or an option.
        expected: what would work.
        got: the value.
        todo: advice, if there is any.
    """
    end = f"; {todo}" if todo else ""
    return RecipeError(f"{key}: expected {expected} for {net!r}, got {got!r}{end}")


def check_at_least(net: str, key: str, got: int, smallest: int) -> None:
    """Refuses a size that the net's layers would reduce to nothing.

    Args:
        net: its key in `nets.NETS`, for the message.
        key: what is too small: `window_frames`, `width` …
        got: frames or bands.
        smallest: that the net can work with.

    Raises:
        RecipeError: it is smaller.
    """
    if got < smallest:
        raise refusal(net, key, f"at least {smallest}", got, "use more, or another net")


def pooled_size(net: str, key: str, size: int, factors: Iterable[int]) -> int:
    """What is left of `size` after pooling by `factors`; remainders are dropped.

    Args:
        net: its key in `nets.NETS`, for the message.
        key: what is pooled: `window_frames`, `width` …
        size: frames or bands.
        factors: of the poolings.

    Raises:
        RecipeError: nothing is left.
    """
    product = math.prod(factors)
    if size < product:
        expected = f"at least {product}, of which its poolings leave 1,"
        raise refusal(net, key, expected, size, "use more, or another net")
    return size // product  # floor(floor(a / b) / c) = floor(a / bc)
