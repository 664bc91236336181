"""`streamtag history`: what a journal knows. Like `cli`, it may print and exit."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from streamtag.cli.printing import note
from streamtag.errors import StreamtagError
from streamtag.feed.timestamps import parse_hour, parse_moment

if TYPE_CHECKING:
    from streamtag.history.history import History
    from streamtag.history.query import Query

history = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Source = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        "-j",
        help="The journal's file, or the daemon's configuration (.toml), which names it.",
        envvar="STREAMTAG_JOURNAL",
    ),
]
Streams = Annotated[
    list[str] | None, typer.Option("--stream", "-s", help="Only this stream; may be repeated.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", "-t", help="Only this tag; may be repeated.")
]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only this type of event; may be repeated.")
]
Since = Annotated[
    str | None,
    typer.Option("--from", help="First moment: 2026-11-21T10:30 (UTC), a date, or -2h."),
]
Until = Annotated[str | None, typer.Option("--to", help="The moment after the last.")]
Csv = Annotated[bool, typer.Option("--csv", help="CSV instead of a table.")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table, an object a line.")]
T = TypeVar("T")


@history.callback()
def events(
    context: typer.Context,
    journal: Source = None,
    stream: Streams = None,
    tag: Tags = None,
    kind: Types = None,
    since: Since = None,
    until: Until = None,
    as_csv: Csv = False,
    as_json: Json = False,
    parquet: Annotated[
        Path | None, typer.Option(help="Write a Parquet file instead.", metavar="FILE")
    ] = None,
) -> None:
    """Searches a journal, also while its daemon runs: what was said when.

    Examples:

    [b]streamtag history -j events.db --from -2h --tag strings[/b]

    [b]streamtag history -j my.toml shares --from 2026-11-21 --csv[/b]

    [b]streamtag history -j my.toml taggram radio1 --hour 2026-11-21T10[/b]
    """
    context.obj = journal
    if context.invoked_subcommand is not None:
        return
    if as_csv + as_json + (parquet is not None) > 1:
        raise typer.BadParameter("one of --csv, --json, --parquet")
    from streamtag.history import export

    query = _query(stream, tag, kind, since, until)
    opened = _open(journal)
    try:
        found = opened.entries(query, _damaged)
        if parquet is not None:
            note(f"{parquet}: {export.events_parquet(found, parquet)} events")
        elif as_csv or as_json:
            _print(export.events_csv(found) if as_csv else export.events_json(found))
        else:
            _console().print(export.events_table(found))
    finally:
        opened.close()


@history.command()
def shares(
    context: typer.Context,
    journal: Source = None,
    stream: Streams = None,
    tag: Tags = None,
    since: Since = None,
    until: Until = None,
    as_csv: Csv = False,
    as_json: Json = False,
) -> None:
    """How much of each hour a tag was on, of the time that its stream was heard.

    Hours are UTC; without --from and --to, all that are known.
    """
    if as_csv and as_json:
        raise typer.BadParameter("one of --csv, --json")
    from streamtag.history import export, intervals

    query = _query(stream, tag, None, since, until)
    opened, now = _open(journal or context.obj), time.time_ns()
    try:
        end = now if opened.being_written else None
        names = [n for n in opened.topics() if not query.streams or n in query.streams]
        begin, after = query.since or 0, 2**62 if query.until is None else query.until
        found = [
            share
            for name, told in opened.events_between(names, begin, after).items()
            for share in intervals.shares(
                name, intervals.stream_intervals(told, end), begin, after, query.tags
            )
        ]
    finally:
        opened.close()
    found.sort(key=lambda one: (one.hour, one.stream, -one.on, one.tagger, one.tag))
    if as_csv or as_json:
        _print(export.shares_csv(found) if as_csv else export.shares_json(found))
    else:
        _console().print(export.shares_table(found))


@history.command()
def taggram(
    context: typer.Context,
    stream: Annotated[str, typer.Argument(help="The stream's name.")],
    hour: Annotated[str, typer.Option(help="Which one, UTC: 2026-11-21T10.")],
    journal: Source = None,
    tagger: Annotated[str, typer.Option(help="Whose tags, where there are several.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The picture; else STREAM-HOUR.png, here.")
    ] = None,
) -> None:
    """Draws a past hour of a stream: tags × time.

    Shaded by probability where the journal keeps scores (feed.journal_scores).
    """
    from streamtag.history.journal_taggram import draw_hour

    begin = _moment("--hour", hour, parse_hour)
    path = output or Path(f"{stream}-{hour[:13].replace(' ', 'T')}.png")
    opened, now = _open(journal or context.obj), time.time_ns()
    try:
        draw_hour(opened, stream, begin, path, now if opened.being_written else None, tagger)
    finally:
        opened.close()
    note(f"{path}: drawn")


def _query(
    stream: list[str] | None,
    tag: list[str] | None,
    kind: list[str] | None,
    since: str | None,
    until: str | None,
) -> "Query":
    from streamtag.feed.messages import TYPES
    from streamtag.history.query import Query

    for name in kind or []:
        if name not in TYPES:
            raise StreamtagError(
                f"--type: expected one of {', '.join(sorted(TYPES))}, got {name!r}"
            )
    now = time.time_ns()
    begin, end = (
        None if text is None else _moment(name, text, lambda t: parse_moment(t, now))
        for name, text in (("--from", since), ("--to", until))
    )
    if begin is not None and end is not None and end < begin:
        raise StreamtagError(f"--to: expected a moment not before {since!r}, got {until!r}")
    return Query(frozenset(stream or ()), frozenset(tag or ()), frozenset(kind or ()), begin, end)


def _moment(option: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise StreamtagError(f"{option}: {error}") from None


def _open(source: Path | None) -> "History":
    from streamtag.history.history import History

    if source is None:
        raise StreamtagError(
            "--journal: expected a journal's file, or the configuration that names it, got none"
        )
    if source.suffix != ".toml":
        return History(source)
    from streamtag.config.config import load_config

    named = load_config(source).feed.journal
    if not named:
        raise StreamtagError(
            f"{source}: feed.journal: expected a path, got none: without it nothing outlasts the "
            "daemon"
        )
    return History(Path(named))


def _damaged(count: int) -> None:
    note(f"{count} messages are damaged and left out")


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line)


def _console() -> Console:
    """Tables are not folded where nobody looks."""
    console = Console()
    return console if console.is_terminal else Console(width=250)
