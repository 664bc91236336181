"""What poolings leave of a window, and how a net refuses an argument that cannot work."""

import math
from collections.abc import Iterable

from streamtag.errors import RecipeError


def refusal(net: str, key: str, expected: str, got: object, todo: str = "") -> RecipeError:
    """An error about an argument of a net, to be raised.

    Args:
        net: its key in `nets.NETS`.
        key: the argument: `window_frames`, `width` or an option.
        expected: what would work.
        got: what was asked for.
        todo: what to do, if that is known.
    """
    end = f"; {todo}" if todo else ""
    return RecipeError(f"{key}: expected {expected} for {net!r}, got {got!r}{end}")


def check_at_least(net: str, key: str, got: int, smallest: int) -> None:
    """Refuses a size of which the net's layers would leave nothing.

    Args:
        net: its key in `nets.NETS`, for the message.
        key: what is too small: `window_frames`, `width` …
        got: frames or bands.
        smallest: that the net can work with.

    Raises:
        RecipeError: it is smaller.
    """
    if got < smallest:
        raise refusal(net, key, f"at least {smallest}", got, "take more, or another net")


def pooled_size(net: str, key: str, size: int, factors: Iterable[int]) -> int:
    """What is left of `size` after pooling by `factors`, remainders dropped.

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
        raise refusal(net, key, expected, size, "take more, or another net")
    return size // product  # floor(floor(a / b) / c) = floor(a / bc)
