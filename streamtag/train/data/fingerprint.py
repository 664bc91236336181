"""The fingerprint of a training's data, by which a run knows whether it may go on.

Per recording it has four short checksums: of the audio, of the labels, of the places where windows
are cut, and of the side values. A message can thus say which recordings differ, and in what. It is
stored in the run folder as `data.json`. Only names below the data folder enter it, so that the data
may be moved, and the run may go on on another machine.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamtag.train.data.corpora.corpus import SPLITS
from streamtag.train.data.samples import Samples, Sets
from streamtag.train.data.windows import RecordingSamples

VERSION = 1
"""Must be raised when the same data would give another fingerprint."""
ASPECTS = ("audio", "labels", "windows", "side values")
"""What the checksums of a recording are of, in their order."""
WHOLE_FILE = 1 << 20
"""The most bytes of a file that is read whole."""
PIECE = 1 << 16
"""Number of bytes of a larger file that are read at its beginning, middle and end."""
LARGEST_TABLE = 100_000
"""Of sets with more recordings only a joint checksum is stored."""
TOGETHER = "(all)"
"""Stands for all recordings of a set whose table is not stored."""
PROBES = 16
"""Number of synthesised windows that are compared."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is known of the data of a run."""

    tags: tuple[str, ...]
    """In the order of the model's outputs."""
    parts: Mapping[str, Mapping[str, str]]
    """Per part (`train`, `validation`, tests) its recordings in order, and their checksums."""
    note: str = ""
    """A description for people."""
    pretrained: str = ""
    """Checksum of the weights that the net begins with; empty for random or unknown ones."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {
            "version": VERSION,
            "note": self.note,
            "tags": list(self.tags),
            "pretrained": self.pretrained,
            "aspects": list(ASPECTS),
            "parts": {part: dict(rows) for part, rows in self.parts.items()},
        }


@dataclass(frozen=True, slots=True)
class Differences:
    """How the data of now differ from those of a run."""

    training: tuple[str, ...] = ()
    """What would give other weights."""
    test: tuple[str, ...] = ()
    """What changes the scores alone."""


def fingerprint(sets: Sets) -> Fingerprint:
    """The fingerprint of a training's data. It reads at most a megabyte of each recording."""
    files: dict[Path, str] = {}
    judged = {} if sets.validation is None else {SPLITS[1]: sets.validation}
    parts = {SPLITS[0]: sets.train, **judged, **sets.tests}
    rows = {part: _rows(samples, files) for part, samples in parts.items()}
    return Fingerprint(sets.tags, rows, sets.note)


def from_json(text: str) -> Fingerprint | None:
    """Reads what `Fingerprint.to_dict` gave; None if it is not one of this version."""
    try:
        table = json.loads(text)
        if table["version"] != VERSION:
            return None
        parts = {str(part): dict(rows) for part, rows in table["parts"].items()}
        return Fingerprint(tuple(table["tags"]), parts, table["note"], table["pretrained"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def differences(run: Fingerprint, now: Fingerprint) -> Differences:
    """What differs between the data of a run and those of now, in words."""
    training = list(_tag_differences(run.tags, now.tags))
    if run.pretrained and now.pretrained and run.pretrained != now.pretrained:
        training.append("the weights that the net begins with differ")
    test: list[str] = []
    for part in dict.fromkeys([*run.parts, *now.parts]):
        found = _part_differences(part, run.parts.get(part, {}), now.parts.get(part, {}))
        (training if part in SPLITS[:2] else test).extend(found)
    return Differences(tuple(training), tuple(test))


def file_checksum(path: Path) -> str:
    """A checksum of a file's size and content; of large files, of three pieces of it."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(str(size).encode())
            if size <= WHOLE_FILE:
                digest.update(file.read())
            else:
                for place in (0, (size - PIECE) // 2, size - PIECE):
                    file.seek(place)
                    digest.update(file.read(PIECE))
    except OSError:
        return "missing"
    return digest.hexdigest()[:12]


def checksum(*parts: Any) -> str:
    """A short checksum of arrays, and of values by their JSON."""
    digest = hashlib.sha256()
    for part in parts:
        is_array = isinstance(part, np.ndarray)
        digest.update(part.tobytes() if is_array else json.dumps(part).encode())
    return digest.hexdigest()[:8]


def _read_files(paths: Iterable[Path], known: dict[Path, str]) -> None:
    """Adds the checksums of files, each read once and several at a time."""
    new = [path for path in dict.fromkeys(paths) if path not in known]
    with ThreadPoolExecutor(8) as pool:
        known.update(zip(new, pool.map(file_checksum, new), strict=True))


def _rows(samples: Samples, files: dict[Path, str]) -> dict[str, str]:
    """The checksums of each recording, in order."""
    if not isinstance(samples, RecordingSamples):
        return {TOGETHER: _synthesised(samples)}
    _read_files(samples.sources, files)
    starts = np.split(samples.starts, np.searchsorted(samples.owners, range(1, len(samples.items))))
    rows = {}
    for item, path, first in zip(samples.items, samples.sources, starts, strict=True):
        tags = sorted(samples.tags[i] for i in item.tags)
        cut = checksum([item.start, item.end], first)
        row = (files[path], checksum(tags), cut, checksum(item.side) if item.side else "-")
        rows[item.name] = " ".join(row)
    if len(rows) > LARGEST_TABLE:
        columns = zip(*(row.split() for row in rows.values()), strict=True)
        return {TOGETHER: " ".join(checksum(list(rows), column) for column in columns)}
    return rows


def _synthesised(samples: Samples) -> str:
    """The checksums of windows that belong to no recording.

    Of their frames, only rounded means are used: another machine computes other last digits.
    """
    rows = np.linspace(0, len(samples) - 1, PROBES).astype(int).tolist() if len(samples) else []
    drawn = [samples.sample(i, 0, np.random.default_rng([i, 8])).frames for i in rows]
    means = [round(float(frames.mean()), 2) for frames in drawn]
    return " ".join(
        (checksum(means), checksum(samples.truth()), checksum(len(samples), samples.owners), "-")
    )


def _tag_differences(run: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    gone = [tag for tag in run if tag not in now]
    new = [tag for tag in now if tag not in run]
    if gone or new:
        words = [f"without {', '.join(map(repr, gone[:3]))}"] if gone else []
        words += [f"with {', '.join(map(repr, new[:3]))}"] if new else []
        yield f"{len(run)} tags in the run, {len(now)} now, {' and '.join(words)}"
    elif run != now:
        yield "the tags are in another order"


def _part_differences(part: str, run: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What differs in one part of the data."""
    now = _with_old_names(run, now)
    both = [name for name in run if name in now]
    found = False
    for i, aspect in sorted(enumerate(ASPECTS), key=lambda pair: pair[1] != "labels"):
        if other := [name for name in both if _cell(run[name], i) != _cell(now[name], i)]:
            found = True
            if other == [TOGETHER]:
                yield f"{aspect} of the {part} recordings differ"
            else:
                which = f"{len(other)} of {len(both)} {part} recordings"
                yield f"{aspect} of {which} differ, first: {other[0]!r}"
    for few, many, words in ((now, run, "are gone"), (run, now, "are new")):
        if absent := [name for name in many if name not in few]:
            found = True
            yield f"{len(absent)} of {len(many)} {part} recordings {words}, first: {absent[0]!r}"
    if part == SPLITS[0] and not found and list(run) != list(now):
        yield f"the {part} recordings are in another order"


def _with_old_names(run: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The recordings of now, those that were only moved or renamed under their names in the run.

    Where the folder of a recording is its label, other labels are other names.
    """
    gone: dict[str, list[str]] = {}
    for name in reversed(list(run)):
        if name not in now:
            gone.setdefault(_cell(run[name], 0), []).append(name)
    old = {name: same.pop() for name, row in now.items()
           if name not in run and (same := gone.get(_cell(row, 0)))}  # fmt: skip
    return {old.get(name, name): row for name, row in now.items()}


def _cell(row: str, i: int) -> str:
    return row.split()[i]
