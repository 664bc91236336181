"""The base class of the nets, and the checks of their arguments."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


class Reach(NamedTuple):
    """Which frames an embedding depends on; see `model.card.Trunk`."""

    stride: int
    left: int
    right: int
    short: int


def reach_of(layers: Iterable[tuple[int, int, int]]) -> Reach:
    """The reach of layers one after the other.

    Args:
        layers: (kernel, stride, padding) in time, of convolutions and poolings.
    """
    layers = list(layers)
    stride, field, padding = 1, 1, 0
    for kernel, step, pad in layers:
        field += (kernel - 1) * stride
        padding += pad * stride
        stride *= step
    many = field + stride
    size = many * stride
    for kernel, step, pad in layers:
        size = (size + 2 * pad - kernel) // step + 1
    return Reach(stride, padding, max(0, field - padding - stride), many - size)


class StreamingNet(TaggingNet):
    """The base of nets whose first layers, the trunk, can run over a stream once.

    A net has `embed` and `logits_of`, one after the other its `logits`.
    """

    reach: Reach | None
    """None if the net sees whole windows only, because of its arguments."""

    def embed(self, frames: Tensor) -> Tensor:
        """(n, frames, width) to (n, columns, size) embeddings."""
        raise NotImplementedError

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """(n, columns, size) embeddings of a window to (n, n_tags) logits."""
        raise NotImplementedError

    def logits(self, frames: Tensor) -> Tensor:
        """(n, window_frames, width) to (n, n_tags) logits."""
        return self.logits_of(self.embed(frames))


class StatefulNet(StreamingNet):
    """The base of causal nets whose trunk carries a state from one call to the next.

    The state is what its layers remember, one after the other in one row per stream; 0 is that of
    a new stream. A net has `advance` and `logits_of`, and calls `remember`.
    """

    def remember(self, stride: int, pasts: Sequence[tuple[int, int, int]]) -> None:
        """Sets the shape of the state.

        Args:
            stride: frames from one embedding to the next.
            pasts: (channels, columns, bands) that each layer remembers.
        """
        self.reach, self.stride = Reach(stride, 0, 0, 0), stride
        self.shapes = list(pasts)
        self.sizes = [math.prod(shape) for shape in pasts]
        self.state_size = sum(self.sizes)

    def pasts(self, state: Tensor) -> list[Tensor]:
        """(n, state_size) to what each layer remembers, (n, channels, columns, bands)."""
        parts = torch.split(state, self.sizes, dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes)]  # noqa: B905

    def advance(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of new frames, and the state after them.

        Args:
            frames: (n, m * stride, width).
            state: (n, state_size).
        """
        raise NotImplementedError

    def embed(self, frames: Tensor) -> Tensor:
        """(n, m * stride, width) frames of new streams to (n, m, size) embeddings."""
        strides = frames.shape[1] // self.stride
        new = frames.new_zeros(frames.shape[0], self.state_size)
        return self.advance(frames[:, : strides * self.stride], new)[0]


SHORTENED = 0.25
"""So many windows of the training are as short as at the beginning of a stream."""


def shortened(embeddings: Tensor, first: int) -> Tensor:
    """Replaces the past of some windows by what is left of them, repeated.

    The engine does the same with the first windows of a stream (`PastPadding.WRAP`).

    Args:
        embeddings: (n, columns, size) of windows of the training.
        first: columns of the shortest window.
    """
    n, columns, size = embeddings.shape
    count = torch.randint(first, columns + 1, (n, 1), device=embeddings.device)
    whole = torch.rand(n, 1, device=embeddings.device) >= SHORTENED
    count = count.masked_fill(whole, columns)
    missing = columns - count
    column = torch.arange(columns, device=embeddings.device)
    kept = missing + torch.remainder(column - missing, count)
    return embeddings.gather(1, kept.unsqueeze(2).expand(-1, -1, size))


def past_windows(embeddings: Tensor, columns: int) -> Tensor:
    """The window that ends with each embedding; before the first embedding the past is wrapped, as
    in `shortened`.

    Args:
        embeddings: (n, m, size) of programmes.
        columns: of a window.

    Returns:
        (n, m, columns, size).
    """
    m, device = embeddings.shape[1], embeddings.device
    newest = torch.arange(m, device=device)[:, None]
    count = (newest + 1).clamp(max=columns)
    missing = columns - count
    kept = missing + torch.remainder(torch.arange(columns, device=device) - missing, count)
    return embeddings[:, newest - columns + 1 + kept]


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
