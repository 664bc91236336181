"""Counters for everything that repeats, and histograms for everything that takes time."""

from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds for times."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
"""Bounds for batches."""


class Counters:
    """Numbers that only grow, by name; what was never counted is 0.

    One thread counts; any thread may take a `snapshot`.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, name: str, count: int = 1) -> None:
        """Counts `count` more of `name`."""
        self._counts[name] = self._counts.get(name, 0) + count

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def snapshot(self) -> dict[str, int]:
        """All of them as they stand, sorted by name."""
        return dict(sorted(self._counts.copy().items()))


class Histogram:
    """How many values lay below each bound, and their sum.

    One thread adds; any thread may look.

    Args:
        bounds: growing; a value equal to one counts as below it.
    """

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Takes one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Per bound, how many values were not above it; infinity comes last."""
        total, out = 0, []
        for bound, count in zip((*self._bounds, float("inf")), self._counts.copy(), strict=True):
            total += count
            out.append((bound, total))
        return out

    def quantile(self, q: float) -> float:
        """The bound below which at least the share `q` of the values lay; 0 without values."""
        steps = self.cumulative()
        wanted = q * steps[-1][1]
        return next((bound for bound, below in steps if below >= wanted and below), 0.0)
