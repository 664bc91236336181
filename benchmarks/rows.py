"""What every benchmark here shares: interleaved medians, and rows in a JSON file."""

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
    """One figure."""

    name: str
    value: float
    unit: str


def interleaved_medians(
    contenders: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Median seconds per call, everyone taking turns so that a slow minute hurts them all.

    Each round has another order, and a turn begins with a call that is not timed: what counts is
    a program at its work, not one that has just found its neighbour's data in the cache.
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
    """Arguments common to all: where to write the rows."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    return made


def write(rows: list[Row], path: Path | None) -> None:
    """Writes the rows as a list of {name, value, unit}."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
