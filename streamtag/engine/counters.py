"""Counters with labels for what repeats, and histograms for what takes time."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds for times."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
"""Bounds for batches."""


_DOTTED = {
    "tagger": "{value}.{name}",
    "bridge": "bridges.{value}.{name}",
    "worker": "workers.{value}.{name}",
}
"""How a label appears in the dotted name of a series. Other labels follow the name."""


class Series(NamedTuple):
    """What one number is about: a name and labels, as Prometheus has them."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    """Pairs of label and value."""

    def label(self, key: str) -> str:
        """The value of a label; empty where the series has no such label."""
        return dict(self.labels).get(key, "")

    @property
    def dotted(self) -> str:
        """The name in `stats` messages, such as `toy.windows` for the windows of tagger `toy`."""
        name = self.name
        for key, value in self.labels:
            name = _DOTTED.get(key, "{name}.{value}").format(name=name, value=value)
        return name


def series(name: str, **labels: str) -> Series:
    """The series of a name and its labels."""
    return Series(name, tuple(labels.items()))


def dotted(values: Mapping[Series, float]) -> dict[str, float]:
    """The same values by dotted name, in alphabetical order."""
    return dict(sorted((key.dotted, value) for key, value in values.items()))


class Counters:
    """Numbers that only grow, by name and labels. A series that was never counted is 0.

    One thread counts. Any thread may take a `snapshot`.
    """

    def __init__(self) -> None:
        self._counts: dict[Series, float] = {}

    def add(self, name: str, count: float = 1, **labels: str) -> None:
        """Counts `count` more of the series."""
        key = Series(name, tuple(labels.items()))
        self._counts[key] = self._counts.get(key, 0) + count

    def get(self, name: str, **labels: str) -> float:
        """The present value of a series."""
        return self._counts.get(series(name, **labels), 0)

    def snapshot(self) -> dict[Series, float]:
        """The present values of all series."""
        return self._counts.copy()


class Histogram:
    """How many values lay below each bound, and their sum.

    One thread adds; any thread may look.

    Args:
        bounds: growing; a value equal to one counts as below it.
    """

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Takes one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def take(self, other: "Histogram") -> None:
        """Takes the values of another one with the same bounds."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self.sum += other.sum

    def cumulative(self) -> list[tuple[float, int]]:
        """Per bound, how many values were not above it; infinity comes last."""
        total, out = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self._counts.copy(), strict=True):
            total += count
            out.append((bound, total))
        return out

    def quantile(self, q: float) -> float:
        """The bound below which at least the share `q` of the values lay; 0 without values."""
        steps = self.cumulative()
        wanted = q * steps[-1][1]
        return next((bound for bound, below in steps if below >= wanted and below), 0.0)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The values of several histograms, at least one, with the same bounds."""
    total: Histogram | None = None
    for one in histograms:
        if total is None:
            total = Histogram(one.bounds)
        total.take(one)
    assert total is not None
    return total
