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
    "sha256",
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
    return as_csv(COLUMNS, map(row_of, entries))


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
    arrow, parquet = load_pyarrow(path)
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
    return as_csv(SHARES, map(_share_row, found))


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
    return as_csv(REPORT, sorted(_report_rows(report), key=lambda row: row["from"]))


def _report_rows(report: StreamReport) -> Iterator[dict[str, Any]]:
    for i, hour in enumerate(report.hours):
        known = sum(hour.seconds.values())
        for name, seconds in {**hour.seconds, "one_sided": hour.one_sided}.items():
            if seconds:
                share = {"share": round(seconds / known, 4)}
                yield _row("condition", name, hour.begin, hour.end, seconds) | share
        for row in (row for rows in report.tags.values() for row in rows):
            if row.on[i] and hour.heard:
                kind, name = ("tag", row.tag) if row.tag else ("category", row.category)
                more = {"share": round(row.on[i] / hour.heard, 4), "category": row.category}
                yield _row(kind, name, hour.begin, hour.end, row.on[i]) | more
    yield from _event_rows(report)


def _event_rows(report: StreamReport) -> Iterator[dict[str, Any]]:
    for one in report.sections:
        words = ", ".join(filter(None, (one.genre, *one.moods, *one.instruments)))
        more = {"title": one.title, "detail": words, "certainty": one.certainty}
        yield _row("section", one.kind, one.begin, one.end) | more
    for song in report.songs:
        made = _row("title", "", song.begin, song.end, song.heard)
        yield made | {"title": song.title}
    for alert in report.alerts:
        yield _row("alert", alert.alert, alert.since, alert.over) | {"detail": alert.detail}
    for clip in report.clips:
        begin = ns_of(clip["utc"])
        made = _row("clip", clip["event"], begin, begin + round(clip["seconds"] * 1e9))
        yield made | {"detail": clip["file"] or clip["detail"], "sha256": clip["sha256"]}


def _row(
    kind: str, name: str, begin: int, end: int | None, seconds: float | None = None
) -> dict[str, Any]:
    """The columns that all rows have; what still lasts has no end."""
    if seconds is None and end is not None:
        seconds = (end - begin) / 1e9
    return {
        "from": _second(begin),
        "to": "" if end is None else _second(end),
        "kind": kind,
        "name": name,
        "seconds": "" if seconds is None else round(seconds, 3),
    }


def _second(ns: int) -> str:
    return rfc3339(ns)[:19] + "Z"


def as_csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Rows as lines of CSV, after a line with the names of the columns."""
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


def load_pyarrow(path: Path) -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise StreamtagError(
            f"{path}: expected the package pyarrow for Parquet, got none; "
            'install it: pip install "streamtag[parquet]"'
        ) from None
    return pyarrow, pyarrow.parquet
