"""Side files: values per recording that a net gets beside the frames.

A side file is a table (`.csv`, or `.jsonl` with one object per line) with a column `file` or
`track` and one column per value. Or it is a folder of AcousticBrainz' JSON files as MTG-Jamendo has
them: `24/3524.json`. The answers of the high-level models are in the same file, or in one of the
same name in a second folder (`lowlevel/24/3524.json` and `highlevel/24/3524.json`).

The values' names are the paths into that JSON. The 22 of the Innsbruck CRNN come first, in the
order of its authors (Mayerl et al., MediaEval 2019, dbis-uibk/MediaEval2019). The 23rd, the tempo,
is listed in their paper but not used in their submitted runs. Nothing is scaled here.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import (
    Corpus,
    Item,
    TableRow,
    json_lines,
    read_rows,
    read_text,
)

NAMES = (
    "lowlevel.average_loudness",
    "highlevel.danceability.all.danceable",
    *(f"highlevel.genre_tzanetakis.all.{genre}" for genre in (
        "blu", "cla", "cou", "dis", "hip", "jaz", "met", "pop", "reg", "roc",
    )),
    "highlevel.mood_acoustic.all.acoustic",
    "highlevel.mood_aggressive.all.aggressive",
    "highlevel.mood_electronic.all.electronic",
    "highlevel.mood_happy.all.happy",
    "highlevel.mood_party.all.party",
    "highlevel.mood_relaxed.all.relaxed",
    "highlevel.mood_sad.all.sad",
    "highlevel.timbre.all.bright",
    "highlevel.timbre.all.dark",
    "highlevel.tonal_atonal.all.tonal",
    "rhythm.bpm",
)  # fmt: skip
"""The values in the order in which a net gets them."""
KEYS = ("file", "track")
"""Names of the column that identifies the recording."""
FOLDERS = (".", "lowlevel", "highlevel")
"""Where the JSON files are searched, below the side folder."""


@dataclass(frozen=True, slots=True)
class CorpusWithSide:
    """A corpus with its side values."""

    corpus: Corpus
    missing: tuple[str, ...]
    """Recordings without values; their `side` is empty."""

    def __str__(self) -> str:
        n, total = len(self.missing), len(self.corpus.items)
        some = f": {', '.join(self.missing[:5])}{', …' * (n > 5)}" if n else ""
        return f"{n} of {total} recordings have no side values{some}"


def with_side(corpus: Corpus, path: Path | str, count: int) -> CorpusWithSide:
    """A corpus whose items have `count` values from a side file.

    If a table lacks some of the columns `NAMES`, its first `count` columns are used in their order.

    Args:
        corpus: the recordings.
        path: a table, or a folder of JSON files.
        count: number of values.

    Raises:
        RecipeError: the file has a fault, named by line and column, or too few columns, or no
            recording has values.
    """
    path = Path(path)
    found = _folder(corpus, path, count) if path.is_dir() else _Table(path, count).of(corpus)
    items = tuple(dataclasses.replace(i, side=found.get(i.name, ())) for i in corpus.items)
    missing = tuple(item.name for item in items if not item.side)
    if len(missing) == len(items):
        raise RecipeError(
            f"{path}: expected side values for the recordings of {corpus.name}, got none for any "
            f"of the {len(items)}, such as {missing[0]!r}; name them as the corpus does"
        )
    return CorpusWithSide(dataclasses.replace(corpus, items=items), missing)


class _Table:
    """The rows of a .csv or .jsonl by the name of the recording."""

    def __init__(self, path: Path, count: int) -> None:
        rows = json_lines(path) if path.suffix.lower() == ".jsonl" else _csv(path)
        self._values: dict[str, tuple[float, ...]] = {}
        lines: dict[str, int] = {}
        for row, cells in rows:
            names = list(cells)
            key = next((name for name in KEYS if name in cells), None)
            if key is None or not str(cells[key]):
                raise row.fault(
                    len(names), "file", "a column file or track that names the recording"
                )
            called = str(cells[key])
            if called in lines:
                raise row.fault(
                    names.index(key),
                    key,
                    "every recording once",
                    f"line {lines[called]} has it too",
                )
            lines[called] = row.line
            self._values[called] = _values(row, cells, _wanted(row, names, count))

    def of(self, corpus: Corpus) -> dict[str, tuple[float, ...]]:
        """The values of each recording by its name."""
        named = ((item.name, self._find(item)) for item in corpus.items)
        return {name: values for name, values in named if values}

    def _find(self, item: Item) -> tuple[float, ...]:
        """The values of an item, found by name, path, name without ending, or MTG-Jamendo's track
        id."""
        stem = PurePosixPath(item.name).stem
        known = (item.name, str(item.path), str(PurePosixPath(item.name).with_suffix("")),
                 f"{item.name}.mp3", item.path.name, stem, f"track_{stem.zfill(7)}")  # fmt: skip
        return next((self._values[name] for name in known if name in self._values), ())


def _csv(path: Path) -> Iterator[tuple[TableRow, Mapping[str, Any]]]:
    rows = read_rows(path, ",")
    header = next(rows, None)
    names = header.cells if header else ()
    for i, name in enumerate(names):
        if header and name in names[:i]:
            raise header.fault(i, name, "every column once")
    for row in rows:
        if len(row.cells) != len(names):
            raise row.fault(len(names), "the row", f"{len(names)} columns, not {len(row.cells)}")
        yield row, dict(zip(names, row.cells, strict=True))


def _wanted(row: TableRow, names: Sequence[str], count: int) -> list[str]:
    """The columns to read."""
    known = list(NAMES[:count])
    if set(known) <= set(names) and len(known) == count:
        return known
    others = [name for name in names if name not in KEYS]
    if len(others) < count:
        raise row.fault(len(names), "value", f"{count} values, not {len(others)}")
    return others[:count]


def _values(row: TableRow, cells: Mapping[str, Any], wanted: Sequence[str]) -> tuple[float, ...]:
    names = list(cells)
    out = []
    for name in wanted:
        value = _number(cells[name])
        if value is None:
            raise row.fault(names.index(name), name, "a finite number")
        out.append(value)
    return tuple(out)


def _folder(corpus: Corpus, folder: Path, count: int) -> dict[str, tuple[float, ...]]:
    """The values of every recording that has all of them in its JSON files."""
    if count > len(NAMES):
        raise RecipeError(
            f"{folder}: recordings.side: expected at most {len(NAMES)} for a folder of JSON files, "
            f"got {count}"
        )
    found = {}
    for item in corpus.items:
        stem = PurePosixPath(item.name).with_suffix("")
        tables = [
            _json(file) for name in FOLDERS if (file := folder / name / f"{stem}.json").exists()
        ]
        values = [_first(tables, name) for name in NAMES[:count]]
        complete = tuple(value for value in values if value is not None)
        if len(complete) == count:
            found[item.name] = complete
    return found


def _json(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise RecipeError(
            f"{path}: line {line}, column {column}: expected JSON, got: "
            f"{getattr(error, 'msg', error)}; fetch it again"
        ) from error


def _first(tables: Sequence[Any], name: str) -> float | None:
    """The number at a path such as `rhythm.bpm`, in the first table that has it."""
    for table in tables:
        value = table
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if (number := _number(value)) is not None:
            return number
    return None


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
