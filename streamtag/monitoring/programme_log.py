"""The programme log: the sections of a journal as a table, CSV, JSON or Parquet."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs
from rich.table import Table

from streamtag.errors import StreamtagError
from streamtag.feed.messages import Section
from streamtag.feed.timestamps import minutes_and_seconds, ns_of
from streamtag.history.export import as_csv, load_pyarrow
from streamtag.history.history import History
from streamtag.history.query import Query
from streamtag.model.card import Card
from streamtag.monitoring.section_observer import HORIZON_SECONDS, SectionObserver, sections_of

COLUMNS = (
    "stream",
    "begin_utc",
    "end_utc",
    "seconds",
    "kind",
    "certainty",
    "title",
    "genre",
    "moods",
    "instruments",
)
"""Columns of the programme log. Moods and instruments are separated by `; ` in CSV."""


def sections_in(history: History, query: Query, cards: Mapping[str, Card]) -> list[Section]:
    """The sections that begin in the time range of a query, sorted by time.

    The journal has them if they were published. For other streams they are computed from the
    events by the same rule.

    Args:
        history: the journal.
        query: only its streams and its time range are used.
        cards: cards of the taggers, for streams whose sections were not published.
    """
    wanted = Query(query.streams, types=frozenset({"section"}))
    whole = replace(wanted, since=query.since, until=query.until)
    published = [e.message for e in history.entries(whole) if isinstance(e.message, Section)]
    names = frozenset(n for n in history.streams() if not query.streams or n in query.streams)
    silent = names - {section.stream for section in published}
    if silent:
        earlier = query.since and max(0, query.since - round(HORIZON_SECONDS * 1e9))
        types = frozenset(str(structs.fields(kind)[0].default) for kind in SectionObserver.types)
        made = history.entries(Query(silent, types=types, since=earlier, until=query.until))
        found = sections_of((entry.message for entry in made), cards)
        published += [one for one in found if ns_of(one.utc) >= (query.since or 0)]
    return sorted(published, key=lambda one: (one.utc, one.stream))


def row_of(section: Section) -> dict[str, Any]:
    """A section as a row of the log."""
    return {
        "stream": section.stream,
        "begin_utc": section.utc,
        "end_utc": section.end_utc,
        "seconds": round(section.end - section.t, 3),
        "kind": section.kind,
        "certainty": section.certainty,
        "title": section.title,
        "genre": section.genre,
        "moods": list(section.moods),
        "instruments": list(section.instruments),
    }


def log_table(sections: Iterable[Section]) -> Table:
    """The log as a table for people."""
    table = Table("begin (UTC)", "length", "stream", "kind", "", box=None, pad_edge=False)
    for one in sections:
        words = [one.title, one.genre, *one.moods, *one.instruments]
        text = ", ".join(word for word in words if word)
        shown = "".join(c if c.isprintable() else " " for c in text)  # titles come from strangers
        begin = one.utc[:19].replace("T", " ")
        table.add_row(begin, minutes_and_seconds(one.end - one.t), one.stream, one.kind, shown)
    return table


def log_csv(sections: Iterable[Section]) -> Iterator[str]:
    """The log as lines of CSV, after a line with the names of the columns."""
    rows = map(row_of, sections)
    several = ("moods", "instruments")
    return as_csv(COLUMNS, (row | {name: "; ".join(row[name]) for name in several} for row in rows))


def log_json(sections: Iterable[Section]) -> Iterator[str]:
    """The log as lines of JSON."""
    for section in sections:
        yield json.dumps(row_of(section), ensure_ascii=False, separators=(",", ":")) + "\n"


def log_parquet(sections: Iterable[Section], path: Path) -> int:
    """Writes a Parquet file and returns the number of its rows.

    Raises:
        StreamtagError: pyarrow is not installed, or the file cannot be written.
    """
    arrow, parquet = load_pyarrow(path)
    kinds = dict.fromkeys(COLUMNS, arrow.string())
    kinds |= dict.fromkeys(("seconds", "certainty"), arrow.float64())
    kinds |= dict.fromkeys(("moods", "instruments"), arrow.list_(arrow.string()))
    rows = [row_of(section) for section in sections]
    try:
        table = arrow.Table.from_pylist(rows, schema=arrow.schema(list(kinds.items())))
        parquet.write_table(table, path)
    except OSError as error:
        raise StreamtagError(f"{path}: cannot be written: {error}") from None
    return len(rows)
