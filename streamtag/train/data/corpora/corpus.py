"""Corpus and Item, and the reading of tables that all formats share."""

import csv
import dataclasses
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamtag.errors import RecipeError

SPLITS = ("train", "validation", "test")
AUDIO = frozenset(
    f".{ending}" for ending in (
        "aac", "aif", "aifc", "aiff", "ape", "au", "flac", "m4a", "mka", "mp2", "mp3", "mp4", "oga",
        "ogg", "opus", "wav", "webm", "wma", "wv",
    )
)  # fmt: skip
"""Endings of files that count as recordings."""


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled recording, or a part of one."""

    name: str
    """Unique within the corpus; only letters, digits and `-._/`."""
    path: Path
    """Audio, or a published .npy of mels where there is no audio."""
    tags: tuple[int, ...]
    """Columns of the tags that are on."""
    split: str
    """One of `SPLITS`."""
    group: str = ""
    """Artist or song; a group must not be in two splits."""
    start: float = 0.0
    """Begin in seconds."""
    end: float = 0.0
    """End in seconds; 0 means the end of the recording."""
    side: tuple[float, ...] = ()
    """Values from a side file."""
    mels: Path | None = None
    """The published .npy of mels of the same recording, for nets with that front end."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Labelled recordings and the names of their tags."""

    name: str
    tags: tuple[str, ...]
    items: tuple[Item, ...]
    note: str = ""
    """For the card: which data, which split, how many recordings."""
    form: str = ""
    """Whose tables were read: `MTG-Jamendo`, `MagnaTagATune`, or `own` for folders and
    manifests."""

    def of(self, split: str) -> tuple[Item, ...]:
        """The items of one split, in the corpus' order."""
        return tuple(item for item in self.items if item.split == split)

    def targets(self, items: Sequence[Item]) -> np.ndarray:
        """(n_items, n_tags) float32, 0 or 1."""
        out = np.zeros((len(items), len(self.tags)), np.float32)
        for row, item in zip(out, items, strict=True):
            row[list(item.tags)] = 1
        return out

    def sizes(self) -> str:
        """`80 train, 10 validation, 10 test`."""
        count = Counter(item.split for item in self.items)
        return ", ".join(f"{count[split]} {split}" for split in SPLITS)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A line of a table."""

    path: Path
    line: int
    """From 1."""
    cells: tuple[str, ...]

    def fault(self, column: int, name: str, expected: str, todo: str = "correct it") -> RecipeError:
        """An error about one cell, columns counted from 0."""
        got = repr(self.cells[column]) if column < len(self.cells) else "nothing"
        where = f"{self.path}: line {self.line}, column {column + 1} ({name})"
        return RecipeError(f"{where}: expected {expected}, got {got:.80}; {todo}")


def make_corpus(name: str, tags: Sequence[str], items: Iterable[Item], note: str) -> Corpus:
    """A corpus whose note ends with the sizes of its splits.

    Raises:
        RecipeError: there are no items, or two have the same name.
    """
    corpus = Corpus(name, tuple(tags), tuple(items), note)
    if not corpus.items:
        raise RecipeError(f"{name}: expected labelled recordings, got none; look into its files")
    names = Counter(item.name for item in corpus.items)
    if twice := [name for name, count in names.items() if count > 1]:
        raise RecipeError(
            f"{name}: expected every recording once, got {twice[0]!r} {names[twice[0]]} times "
            f"({len(twice)} such names); remove the duplicates"
        )
    return dataclasses.replace(corpus, note=f"{note}: {corpus.sizes()}")


def read_text(path: Path, *, lenient: bool = False) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        lenient: other bytes become question marks instead of an error.

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path}: expected a text file, got: {error.strerror}") from error
    try:
        return raw.decode("utf-8-sig", "replace" if lenient else "strict")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise RecipeError(
            f"{path}: line {line}, column {column}: expected UTF-8, got the byte "
            f"0x{raw[error.start]:02x}; save the file as UTF-8"
        ) from error


def read_rows(
    path: Path, delimiter: str, *, quoted: bool = True, lenient: bool = False
) -> Iterator[TableRow]:
    """The lines of a table that are not empty, with any line ends; cells are stripped.

    Args:
        path: the file.
        delimiter: between cells.
        quoted: cells may be in quotation marks.
        lenient: stray quotation marks and bytes that are not UTF-8 are no error.

    Raises:
        RecipeError: the file cannot be read, or a quotation mark is never closed.
    """
    text = io.StringIO(read_text(path, lenient=lenient), newline="")
    reader = csv.reader(
        text,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=not lenient,
    )
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise RecipeError(
                f"{path}: line {reader.line_num}, column 1: expected a row of the table, "
                f"got: {error}; look for a stray quotation mark"
            ) from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield TableRow(path, reader.line_num, tuple(cell.strip() for cell in cells))


def clean_name(text: str) -> str:
    """A name of letters, digits and `-._/` only: others become `_` and a checksum is added."""
    clean = re.sub(r"[^A-Za-z0-9._/-]", "_", text).strip("/")
    return clean if clean == text else f"{clean}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def hashed_split(key: str) -> str:
    """The split of a recording by checksum: 8 tenths train, 1 validation, 1 test.

    It depends on the key alone, so that new recordings do not move old ones.
    """
    tenth = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10
    return SPLITS[max(0, tenth - 7)]


def json_lines(path: Path) -> Iterator[tuple[TableRow, dict[str, Any]]]:
    """The objects of a .jsonl, one per line, each with its line as a row.

    Raises:
        RecipeError: it cannot be read, or a line is no JSON object.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            table = json.loads(line)
        except (ValueError, RecursionError) as error:
            at, why = getattr(error, "pos", 0), getattr(error, "msg", error)
            raise RecipeError(
                f"{path}: line {number}, column {at + 1}: expected a JSON object, got "
                f"{line[at : at + 20]!r}: {why}; correct it"
            ) from error
        if not isinstance(table, dict):
            raise TableRow(path, number, (line.strip(),)).fault(0, "the line", "a JSON object")
        yield TableRow(path, number, tuple(str(value) for value in table.values())), table
