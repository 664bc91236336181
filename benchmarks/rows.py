"""Shared by all benchmarks: interleaved medians, and rows in a JSON file."""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value."""

    name: str
    value: float
    unit: str


def interleaved_medians(
    contenders: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Median seconds per call; contenders alternate, so that a slow period affects all of them.

    Each round has another random order. Each measurement follows an untimed call, which fills
    the cache with the contender's own data.
    """
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        shuffle(order)
        for name in order:
            contenders[name]()
            start = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the argument that all benchmarks have: where to write the rows."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    return made


def write(rows: list[Row], path: Path | None) -> None:
    """Writes the rows as a list of {name, value, unit}."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
