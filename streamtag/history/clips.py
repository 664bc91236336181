"""The clips of which a journal knows."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from streamtag.feed.messages import Clip
from streamtag.history.export import as_csv
from streamtag.history.history import History
from streamtag.history.query import Query

COLUMNS = (
    "utc", "stream", "event", "stage", "seconds", "file", "url", "bytes", "sha256", "complete",
    "detail", "id",
)  # fmt: skip


def clips_of(history: History, query: Query, folder: Path | None = None) -> list[dict[str, Any]]:
    """The clips whose begin is wanted, in the order of their messages.

    Each has the columns above, from its newest message. With the folder of clips, the stage of one
    whose file is not there any more is `removed`.
    """
    wanted = Query(query.streams, types=frozenset({"clip"}))
    newest: dict[str, Clip] = {}
    for entry in history.entries(wanted):
        if isinstance(clip := entry.message, Clip):
            newest.pop(clip.id, None)
            newest[clip.id] = clip
    return [_row(clip, folder) for clip in newest.values() if query.wants(clip)]


def _row(clip: Clip, folder: Path | None) -> dict[str, Any]:
    row = {name: getattr(clip, name, None) for name in COLUMNS}
    row["seconds"] = round(clip.end - clip.t, 3)
    if folder is not None and clip.stage == "ready" and not (folder / clip.file).is_file():
        row["stage"] = "removed"
    return row


def clips_table(rows: Iterable[dict[str, Any]]) -> Table:
    """Clips as a table for people."""
    table = Table("utc", "stream", "event", "", "seconds", "file", box=None, pad_edge=False)
    table.columns[4].justify = "right"
    for row in rows:
        event = "".join(c if c.isprintable() else " " for c in row["event"])
        last = row["file"] or row["detail"]
        table.add_row(row["utc"], row["stream"], event, row["stage"], f"{row['seconds']:.1f}", last)
    return table


def clips_csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Clips as lines of CSV, after a line with the names of the columns."""
    return as_csv(COLUMNS, rows)


def clips_json(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Clips as lines of JSON."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"
