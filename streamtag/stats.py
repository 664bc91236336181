"""Counters for everything that repeats."""


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
