"""What was found in a journal: as a table for people, as CSV, JSON and Parquet for programs."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.table import Table

from streamtag.errors import StreamtagError
from streamtag.feed.codec import decode
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.history.intervals import TagShare
from streamtag.history.query import JournalEntry

COLUMNS = (
    "id",
    "utc",
    "stream",
    "type",
    "t",
    "tagger",
    "tag",
    "probability",
    "since_utc",
    "peak",
    "reason",
    "title",
    "detail",
    "epoch",
    "seq",
)
"""Of a table of events; empty where a message has no such field."""
NUMBERS = ("t", "probability", "peak")
SHARES = ("hour", "stream", "tagger", "tag", "on_seconds", "heard_seconds", "share")
BATCH = 2000
"""Rows written to a Parquet file at once."""


def row_of(entry: JournalEntry) -> dict[str, Any]:
    """An event as one row."""
    found = {name: getattr(entry.message, name, None) for name in COLUMNS}
    return found | {"id": entry.id}


def events_table(entries: Iterable[JournalEntry]) -> Table:
    """For people."""
    table = Table("utc", "stream", "event", "", box=None, pad_edge=False)
    for entry in entries:
        message = entry.message
        details = "".join(c if c.isprintable() else " " for c in message.details())
        table.add_row(message.utc, message.stream, message.type, details)
    return table


def events_csv(entries: Iterable[JournalEntry]) -> Iterator[str]:
    """Lines, the first with the columns' names."""
    yield csv_line(COLUMNS)
    for entry in entries:
        yield csv_line(row_of(entry).values())


def events_json(entries: Iterable[JournalEntry]) -> Iterator[str]:
    """An object a line: the message as it was published, its id first."""
    for entry in entries:
        body = {"id": entry.id} | decode(entry.body)
        yield json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n"


def events_parquet(entries: Iterable[JournalEntry], path: Path) -> int:
    """Writes a Parquet file; how many rows.

    Raises:
        StreamtagError: pyarrow is not installed, or the file cannot be written.
    """
    arrow, parquet = _pyarrow(path)
    kinds = {name: arrow.string() for name in COLUMNS}
    kinds |= {name: arrow.float64() for name in NUMBERS}
    times = arrow.timestamp("us", tz="UTC")
    kinds |= {"utc": times, "since_utc": times, "seq": arrow.int64(), "message": arrow.string()}
    schema, count = arrow.schema(list(kinds.items())), 0
    try:
        with parquet.ParquetWriter(path, schema) as writer:
            for rows in _batches(map(_parquet_row, entries)):
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
                count += len(rows)
    except OSError as error:
        raise StreamtagError(f"{path}: cannot be written: {error}") from None
    return count


def shares_table(found: Iterable[TagShare]) -> Table:
    """For people."""
    table = Table("hour (UTC)", "stream", "tag", box=None, pad_edge=False)
    for name in ("share", "on", "heard"):
        table.add_column(name, justify="right")
    for one in found:
        hour = rfc3339(one.hour)[:13].replace("T", " ") + " h"
        on, heard = f"{one.on:.1f} s", f"{one.received:.1f} s"
        table.add_row(hour, one.stream, one.tag, f"{100 * one.share:.1f} %", on, heard)
    return table


def shares_csv(found: Iterable[TagShare]) -> Iterator[str]:
    """Lines, the first with the columns' names."""
    yield csv_line(SHARES)
    for one in found:
        yield csv_line(_plain(one).values())


def shares_json(found: Iterable[TagShare]) -> Iterator[str]:
    """An object a line."""
    for one in found:
        yield json.dumps(_plain(one), ensure_ascii=False) + "\n"


def csv_line(values: Iterable[object]) -> str:
    """One line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if v is None else v for v in values])
    return text.getvalue()


def _plain(one: TagShare) -> dict[str, Any]:
    values = (
        rfc3339(one.hour)[:19] + "Z",
        one.stream,
        one.tagger,
        one.tag,
        round(one.on, 6),
        round(one.received, 6),
        round(one.share, 6),
    )
    return dict(zip(SHARES, values, strict=True))


def _parquet_row(entry: JournalEntry) -> dict[str, Any]:
    row = row_of(entry)
    row["utc"] = ns_of(row["utc"]) // 1000
    row["since_utc"] = row["since_utc"] and ns_of(row["since_utc"]) // 1000
    return row | {"message": json.dumps(decode(entry.body), ensure_ascii=False)}


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _pyarrow(path: Path) -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise StreamtagError(
            f"{path}: expected the package pyarrow for Parquet, got none; "
            'install it: pip install "streamtag[parquet]"'
        ) from None
    return pyarrow, pyarrow.parquet
