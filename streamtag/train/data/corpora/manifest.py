"""Manifests: a table of recordings, `.csv`, `.tsv` or `.jsonl` (one JSON object per line).

Columns or keys: `file` (relative to the manifest), `tags` (separated by `;` or `|`; in JSON also a
list), `split` (`train`, `validation`, `test`), and optionally `start` and `end` (seconds; an empty
end is the recording's) and `group` (artist or song, which must not be in two splits). Without a
column `split` the checksum of the group, or of the file if it has none, decides: 8 to 1 to 1. Tags
are sorted by name.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import (
    SPLITS,
    Corpus,
    Item,
    TableRow,
    clean_name,
    hashed_split,
    json_lines,
    make_corpus,
    read_rows,
)

ENDINGS = (".csv", ".tsv", ".jsonl")
KEYS = ("file", "tags", "split", "start", "end", "group")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a manifest."""

    row: TableRow
    """The row for error messages, with cells in the order of `names`."""
    names: tuple[str, ...]
    file: str
    tags: tuple[str, ...]
    split: str
    start: float
    end: float
    group: str

    def fault(self, key: str, expected: str, todo: str = "correct it") -> RecipeError:
        """An error about one of the values."""
        column = self.names.index(key) if key in self.names else len(self.names)
        return self.row.fault(column, key, expected, todo)


def read(path: Path, *, subset: str = "", split: str = "") -> Corpus:
    """The recordings of a manifest.

    Raises:
        RecipeError: the manifest has a fault, named by line and column, a recording is listed
            twice, a group is in two splits, or none of the files exists.
    """
    for key, text in (("subset", subset), ("split", split)):
        if text:
            raise RecipeError(
                f"{path}: {key}: expected nothing for a manifest, got {text!r}; "
                f"use --set recordings.{key}="
            )
    entries = list(_jsonl(path) if path.suffix.lower() == ".jsonl" else _table(path))
    _refuse_doubles(entries)
    _refuse_torn_groups(entries)
    if entries and not any(os.path.exists(path.parent / entry.file) for entry in entries):
        raise entries[0].fault(
            "file", "a file", f"none of the {len(entries)} files is there: paths are relative to "
            f"{path.parent}"
        )  # fmt: skip
    tags = sorted({tag for entry in entries for tag in entry.tags})
    column = {tag: i for i, tag in enumerate(tags)}
    items = [_item(path.parent, entry, column) for entry in entries]
    way = "as it says" if entries and entries[0].split else "split by checksum"
    return make_corpus(path.name, tags, items, f"{path.name}, {way}")


def _item(folder: Path, entry: _Entry, column: dict[str, int]) -> Item:
    part = f"{entry.start:g}-{entry.end:g}" if entry.start or entry.end else ""
    return Item(
        name=clean_name(f"{entry.file}/{part}" if part else entry.file),
        path=folder / entry.file,
        tags=tuple(sorted(column[tag] for tag in entry.tags)),
        split=entry.split or hashed_split(entry.group or entry.file),
        group=entry.group,
        start=entry.start,
        end=entry.end,
    )


def _table(path: Path) -> Iterator[_Entry]:
    """The lines of a .csv or .tsv."""
    rows = read_rows(path, "\t" if path.suffix.lower() == ".tsv" else ",")
    header = next(rows, None)
    names = header.cells if header else ()
    for i, name in enumerate(names):
        if header and (name not in KEYS or name in names[:i]):
            raise header.fault(i, name, f"each of {', '.join(KEYS)} at most once")
    for name in KEYS[:2]:
        if name not in names:
            raise RecipeError(
                f"{path}: line 1, column {len(names) + 1}: expected a header with file,tags, got "
                f"{','.join(names)!r}; add the column {name!r}"
            )
    for row in rows:
        if len(row.cells) != len(names):
            column = min(len(row.cells), len(names))
            name = names[column] if column < len(names) else "one too many"
            raise row.fault(column, name, f"{len(names)} columns, not {len(row.cells)}")
        yield _entry(row, names, dict(zip(names, row.cells, strict=True)))


def _jsonl(path: Path) -> Iterator[_Entry]:
    """The lines of a .jsonl."""
    for row, table in json_lines(path):
        names = tuple(table)
        for i, name in enumerate(names):
            if name not in KEYS:
                raise row.fault(i, name, f"keys among {', '.join(KEYS)}")
        yield _entry(row, names, {k: v for k, v in table.items() if v is not None})


def _entry(row: TableRow, names: tuple[str, ...], table: dict[str, Any]) -> _Entry:
    """The values of a line, checked one by one."""
    entry = _Entry(
        row=row,
        names=names,
        file=str(table.get("file", "")),
        tags=_tags(table.get("tags", "")),
        split=str(table.get("split", "")),
        start=_seconds(table.get("start", "")),
        end=_seconds(table.get("end", "")),
        group=str(table.get("group", "")),
    )
    strange = next((tag for tag in entry.tags if not tag.isprintable()), None)
    checks = (
        ("file", bool(entry.file), "a file"),
        ("tags", isinstance(table.get("tags", ""), str | list), "tags separated by ';'"),
        ("tags", strange is None, "printable tags"),
        ("split", entry.split in SPLITS or "split" not in names, f"one of {', '.join(SPLITS)}"),
        ("start", entry.start >= 0, "seconds, at least 0"),
        ("end", entry.end >= 0, "seconds, or nothing for the recording's end"),
        ("end", entry.end == 0 or entry.end > entry.start, f"more than {entry.start:g} s"),
    )
    for key, fine, expected in checks:
        if not fine:
            raise entry.fault(key, expected)
    return entry


def _tags(value: Any) -> tuple[str, ...]:
    parts = re.split(r"[;|]", value) if isinstance(value, str) else value
    listed = [str(part).strip() for part in parts] if isinstance(parts, list) else []
    return tuple(dict.fromkeys(tag for tag in listed if tag))


def _seconds(value: Any) -> float:
    """The number of seconds; -1 if the value is not one."""
    if value == "":
        return 0.0
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return -1.0
    return seconds if math.isfinite(seconds) else -1.0


def _refuse_doubles(entries: list[_Entry]) -> None:
    """Refuses a recording that is listed twice."""
    seen: dict[tuple[str, float, float], int] = {}
    for entry in entries:
        key = entry.file, entry.start, entry.end
        if key in seen:
            raise entry.fault("file", "every recording once", f"line {seen[key]} has it already")
        seen[key] = entry.row.line


def _refuse_torn_groups(entries: list[_Entry]) -> None:
    """Refuses a group in two splits."""
    seen: dict[str, _Entry] = {}
    for entry in entries:
        other = seen.setdefault(entry.group, entry)
        if entry.group and other.split != entry.split:
            raise entry.fault(
                "split", f"{other.split}, as the group {entry.group!r} in line {other.row.line}"
            )
