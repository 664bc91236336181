"""Side files: values per recording that a net gets beside the frames.

A side file is a table (`.csv`, or `.jsonl` with one object per line) with a column `file` or
`track` and one column per value. Or it is a folder of AcousticBrainz' JSON files as MTG-Jamendo has
them: `24/3524.json`. The answers of the high-level models are in the same file, or in one of the
same name in a second folder (`lowlevel/24/3524.json` and `highlevel/24/3524.json`). Or it is a
folder of AcousticBrainz' own dumps (see `acousticbrainz`) with a table `recordings.csv`, whose
columns `file` or `track` and `mbid` say which recording of MusicBrainz each file is.

The values' names are the paths into that JSON. The 22 of the Innsbruck CRNN come first, in the
order of its authors (Mayerl et al., MediaEval 2019, dbis-uibk/MediaEval2019). The 23rd, the tempo,
is listed in their paper but not used in their submitted runs. Nothing is scaled here.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from streamtag.errors import RecipeError
from streamtag.train.data.acousticbrainz import LEVELS, Dump, check_ids, read_json
from streamtag.train.data.corpora.corpus import Corpus, Item, TableRow, json_lines, read_rows

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
ID, RECORDINGS = "mbid", "recordings.csv"
"""The column and the table that join recordings with AcousticBrainz' dumps."""
FOLDERS = (".", *LEVELS)
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
    found = _folder(corpus, path, count) if path.is_dir() else _Table(path).values(corpus, count)
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

    def __init__(self, path: Path) -> None:
        rows = json_lines(path) if path.suffix.lower() == ".jsonl" else _csv(path)
        self._rows: dict[str, tuple[TableRow, Mapping[str, Any]]] = {}
        for row, cells in rows:
            names = list(cells)
            key = next((name for name in KEYS if name in cells), None)
            if key is None or not str(cells[key]):
                raise row.fault(
                    len(names), "file", "a column file or track that names the recording"
                )
            called = str(cells[key])
            if called in self._rows:
                raise row.fault(
                    names.index(key),
                    key,
                    "every recording once",
                    f"line {self._rows[called][0].line} has it too",
                )
            self._rows[called] = row, cells

    def values(self, corpus: Corpus, count: int) -> dict[str, tuple[float, ...]]:
        """The values of each recording by its name."""
        read = {
            name: _values(row, cells, _wanted(row, list(cells), count))
            for name, (row, cells) in self._rows.items()
        }
        keys = ((item.name, _key(item, read)) for item in corpus.items)
        return {name: read[key] for name, key in keys if key is not None}

    def ids(self, corpus: Corpus) -> dict[str, str]:
        """The MusicBrainz id of each recording by its name."""
        for row, cells in self._rows.values():
            if ID not in cells:
                raise row.fault(len(cells), ID, "a column mbid with the MusicBrainz id")
        keys = ((item.name, _key(item, self._rows)) for item in corpus.items)
        return {n: str(self._rows[key][1][ID]).lower() for n, key in keys if key is not None}


def _key(item: Item, known: Mapping[str, Any]) -> str | None:
    """Under which of its names a recording is known: its name, path, name without ending, or
    MTG-Jamendo's track id."""
    stem = PurePosixPath(item.name).stem
    names = (item.name, str(item.path), str(PurePosixPath(item.name).with_suffix("")),
             f"{item.name}.mp3", item.path.name, stem, f"track_{stem.zfill(7)}")  # fmt: skip
    return next((name for name in names if name in known), None)


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
    for name, submissions in _tables(corpus, folder):
        for tables in submissions:
            values = [_first(tables, wanted) for wanted in NAMES[:count]]
            complete = tuple(value for value in values if value is not None)
            if len(complete) == count:
                found[name] = complete
                break
    return found


def _tables(corpus: Corpus, folder: Path) -> Iterator[tuple[str, Iterable[list[Any]]]]:
    """Per recording its tables, of each submission where there are several."""
    if (folder / RECORDINGS).exists():
        ids = _Table(folder / RECORDINGS).ids(corpus)
        check_ids(folder / RECORDINGS, ids)
        dump = Dump(folder, ids.values())
        yield from ((name, dump.submissions(mbid)) for name, mbid in ids.items())
        return
    for item in corpus.items:
        stem = PurePosixPath(item.name).with_suffix("")
        files = [folder / name / f"{stem}.json" for name in FOLDERS]
        yield item.name, [[read_json(file) for file in files if file.exists()]]


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
