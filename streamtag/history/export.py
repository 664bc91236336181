"""Writes what was found in a journal: tables for people; CSV, JSON and Parquet for programs."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.table import Table

from streamtag.errors import StreamtagError
from streamtag.feed.codec import decode
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.history.intervals import TagShare
from streamtag.history.query import JournalEntry
from streamtag.history.report import CONDITIONS, StreamReport

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
"""Columns of a table of events; a field is empty if the message does not have it."""
NUMBERS = ("t", "probability", "peak")
SHARES = ("hour", "stream", "tagger", "tag", "on_seconds", "heard_seconds", "share")
REPORT = (
    "from", "to", "kind", "category", "name", "seconds", "share", "certainty", "title", "detail",
)  # fmt: skip
BATCH = 2000
"""Rows that are written to a Parquet file at once."""


def row_of(entry: JournalEntry) -> dict[str, Any]:
    """An event as one row."""
    found = {name: getattr(entry.message, name, None) for name in COLUMNS}
    return found | {"id": entry.id}


def events_table(entries: Iterable[JournalEntry]) -> Table:
    """Events as a table for people."""
    table = Table("utc", "stream", "event", "", box=None, pad_edge=False)
    for entry in entries:
        message = entry.message
        details = "".join(c if c.isprintable() else " " for c in message.details())
        table.add_row(message.utc, message.stream, message.type, details)
    return table


def events_csv(entries: Iterable[JournalEntry]) -> Iterator[str]:
    """Events as lines of CSV, after a line with the names of the columns."""
    return _csv(COLUMNS, map(row_of, entries))


def events_json(entries: Iterable[JournalEntry]) -> Iterator[str]:
    """Events as lines of JSON: the message as it was published, after its id."""
    for entry in entries:
        body = {"id": entry.id} | decode(entry.body, dict[str, Any])
        yield json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n"


def events_parquet(entries: Iterable[JournalEntry], path: Path) -> int:
    """Writes a Parquet file and returns the number of its rows.

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
            parquet_rows = map(_parquet_row, entries)
            while rows := list(islice(parquet_rows, BATCH)):
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
                count += len(rows)
    except OSError as error:
        raise StreamtagError(f"{path}: cannot be written: {error}") from None
    return count


def shares_table(found: Iterable[TagShare]) -> Table:
    """Shares as a table for people."""
    table = Table("hour (UTC)", "stream", "tag", box=None, pad_edge=False)
    for name in ("share", "on", "heard"):
        table.add_column(name, justify="right")
    for share in found:
        hour = rfc3339(share.hour)[:13].replace("T", " ") + " h"
        on, heard = f"{share.on:.1f} s", f"{share.received:.1f} s"
        table.add_row(hour, share.stream, share.tag, f"{100 * share.share:.1f} %", on, heard)
    return table


def shares_csv(found: Iterable[TagShare]) -> Iterator[str]:
    """Shares as lines of CSV, after a line with the names of the columns."""
    return _csv(SHARES, map(_share_row, found))


def shares_json(found: Iterable[TagShare]) -> Iterator[str]:
    """Shares as lines of JSON."""
    for share in found:
        yield json.dumps(_share_row(share), ensure_ascii=False) + "\n"


def report_table(report: StreamReport, clock: Callable[[int], str]) -> Table:
    """The hours of a report as a table for people, in minutes."""
    table = Table("hour", box=None, pad_edge=False, show_footer=True)
    table.columns[0].footer = "all"
    totals = report.seconds
    for name in CONDITIONS:
        table.add_column(name, f"{totals[name] / 60:.1f}", justify="right")
    for hour in report.hours:
        minutes = [f"{hour.seconds[name] / 60:.1f}" for name in CONDITIONS]
        table.add_row(clock(hour.begin), *minutes)
    return table


def report_csv(report: StreamReport) -> Iterator[str]:
    """All of a report as lines of CSV: conditions and tags by hour, log, titles and alerts."""
    return _csv(REPORT, sorted(_report_rows(report), key=lambda row: row["from"]))


def _report_rows(report: StreamReport) -> Iterator[dict[str, Any]]:
    for i, hour in enumerate(report.hours):
        span = {"from": _second(hour.begin), "to": _second(hour.end)}
        known = sum(hour.seconds.values())
        lasted = {**hour.seconds, "one_sided": hour.one_sided}
        for name, seconds in lasted.items():
            if seconds:
                share = round(seconds / known, 4)
                yield span | _row("condition", name, seconds) | {"share": share}
        for row in (row for rows in report.tags.values() for row in rows):
            if row.on[i] and hour.heard:
                share = round(row.on[i] / hour.heard, 4)
                made = _row("tag" if row.tag else "category", row.tag or row.category, row.on[i])
                yield span | made | {"share": share, "category": row.category}
    for one in report.sections:
        words = (one.genre, *one.moods, *one.instruments)
        made = _row("section", one.kind, (one.end - one.begin) / 1e9)
        more = {"title": one.title, "detail": ", ".join(filter(None, words))}
        more |= {"certainty": str(one.certainty)}
        yield {"from": _second(one.begin), "to": _second(one.end)} | made | more
    for song in report.songs:
        made = _row("title", "", song.heard) | {"title": song.title}
        yield {"from": _second(song.begin), "to": _second(song.end)} | made
    for alert in report.alerts:
        over = "" if alert.over is None else _second(alert.over)
        made = {
            "kind": "alert",
            "name": alert.alert,
            "detail": alert.detail,
            "from": _second(alert.since),
        }
        yield made | {
            "to": over,
            "seconds": "" if alert.over is None else (alert.over - alert.since) / 1e9,
        }


def _row(kind: str, name: str, seconds: float) -> dict[str, Any]:
    return {"kind": kind, "name": name, "seconds": round(seconds, 3)}


def _second(ns: int) -> str:
    return rfc3339(ns)[:19] + "Z"


def _csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.DictWriter(line, columns, lineterminator="\n")
    writer.writeheader()
    yield line.getvalue()
    for row in rows:
        line.seek(0)
        line.truncate()
        writer.writerow(row)
        yield line.getvalue()


def _share_row(share: TagShare) -> dict[str, Any]:
    return {
        "hour": rfc3339(share.hour)[:19] + "Z",
        "stream": share.stream,
        "tagger": share.tagger,
        "tag": share.tag,
        "on_seconds": round(share.on, 6),
        "heard_seconds": round(share.received, 6),
        "share": round(share.share, 6),
    }


def _parquet_row(entry: JournalEntry) -> dict[str, Any]:
    row = row_of(entry)
    row["utc"] = ns_of(row["utc"]) // 1000
    row["since_utc"] = row["since_utc"] and ns_of(row["since_utc"]) // 1000
    return row | {"message": json.dumps(decode(entry.body, dict[str, Any]), ensure_ascii=False)}


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
