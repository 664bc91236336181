"""Sizes that a net can work with, checked when it is made."""

from streamtag.errors import RecipeError


def check_at_least(net: str, key: str, got: int, smallest: int) -> None:
    """Refuses a size of which the net's layers would leave nothing.

    Args:
        net: its key in `nets.NETS`.
        key: what is too small: `window_frames`, `width` …
        got: the size asked for.
        smallest: that the net can work with.

    Raises:
        RecipeError: it is smaller.
    """
    if got < smallest:
        raise RecipeError(
            f"{key}: expected at least {smallest} for {net!r}, got {got}: "
            f"its layers would leave nothing; make it larger or take another net"
        )
