"""The commands `streamtag history …`, which search a journal."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from typer.core import TyperCommand

from streamtag.cli.output import note
from streamtag.errors import StreamtagError
from streamtag.feed.timestamps import parse_hour, parse_moment

if TYPE_CHECKING:
    from streamtag.history.history import History
    from streamtag.history.query import Query
    from streamtag.model.card import Card

history = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
JournalOption = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        "-j",
        help="The journal's file, or the daemon's configuration (.toml), which names it.",
        envvar="STREAMTAG_JOURNAL",
    ),
]
Streams = Annotated[
    list[str] | None, typer.Option("--stream", "-s", help="Only this stream. May be repeated.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", "-t", help="Only this tag. May be repeated.")
]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only this type of event. May be repeated.")
]
Since = Annotated[
    str | None,
    typer.Option("--from", help="Start: 2026-11-21T10:30 (UTC), a date, or -2h."),
]
Until = Annotated[str | None, typer.Option("--to", help="End, not included.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object per line.")]
FOREVER = 2**62
"""A moment after all others, in nanoseconds."""
PIPE_WIDTH = 250
"""Width of a table that is not printed on a terminal."""
T = TypeVar("T")


@history.callback()
def events(
    context: typer.Context,
    journal: JournalOption = None,
    stream: Streams = None,
    tag: Tags = None,
    kind: Types = None,
    since: Since = None,
    until: Until = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
    parquet: Annotated[
        Path | None, typer.Option(help="Write a Parquet file.", metavar="FILE")
    ] = None,
) -> None:
    """Searches a journal for events. Its daemon may be running.

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
    with _open(journal) as opened:
        found = opened.entries(query, lambda count: note(f"{count} damaged messages are left out"))
        if parquet is not None:
            note(f"{parquet}: {export.events_parquet(found, parquet)} events")
        elif as_csv or as_json:
            _print(export.events_csv(found) if as_csv else export.events_json(found))
        else:
            _console().print(export.events_table(found))


@history.command()
def shares(
    context: typer.Context,
    journal: JournalOption = None,
    stream: Streams = None,
    tag: Tags = None,
    since: Since = None,
    until: Until = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Shows the share of each hour that a tag was on, of the time that its stream was up.

    Hours are UTC. Default: all hours in the journal.
    """
    if as_csv and as_json:
        raise typer.BadParameter("one of --csv, --json")
    from streamtag.history import export, intervals

    query = _query(stream, tag, None, since, until)
    begin, after = query.since or 0, FOREVER if query.until is None else query.until
    with _open(journal or context.obj) as opened:
        end = time.time_ns() if opened.being_written else None
        names = [n for n in opened.streams() if not query.streams or n in query.streams]
        found = [
            share
            for name, messages in opened.events_between(names, begin, after).items()
            for share in intervals.shares(
                name, intervals.stream_intervals(messages, end), begin, after, query.tags
            )
        ]
    found.sort(key=lambda share: (share.hour, share.stream, -share.on, share.tagger, share.tag))
    if as_csv or as_json:
        _print(export.shares_csv(found) if as_csv else export.shares_json(found))
    else:
        _console().print(export.shares_table(found))


@history.command()
def taggram(
    context: typer.Context,
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    hour: Annotated[str, typer.Option(help="Hour to draw, UTC: 2026-11-21T10.")],
    journal: JournalOption = None,
    tagger: Annotated[str, typer.Option(help="Tagger to draw, if there are several.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Picture to write. Default: STREAM-HOUR.png."),
    ] = None,
) -> None:
    """Draws a past hour of a stream: tags × time.

    If the journal keeps scores (feed.journal_scores), they shade the picture.
    """
    from streamtag.history.taggram import draw_hour

    begin = _moment("--hour", hour, parse_hour)
    path = output or Path(f"{stream}-{hour[:13].replace(' ', 'T')}.png")
    with _open(journal or context.obj) as opened:
        end = time.time_ns() if opened.being_written else None
        draw_hour(opened, stream, begin, path, end, tagger)
    note(f"{path}: written")


class PeriodCommand(TyperCommand):
    """A command whose `--day`, `--week` and `--month` without a value mean the last one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds the missing values."""
        ends = [*args[1:], "-"]
        bare = ("--day", "--week", "--month")
        filled = [
            f"{one}=last" if one in bare and following.startswith("-") else one
            for one, following in zip(args, ends, strict=bool(args))
        ]
        return super().parse_args(ctx, filled)


def report(
    stream: Annotated[str, typer.Option("--stream", "-s", help="Name of the stream.")],
    day: Annotated[
        str | None, typer.Option(help="A day: 2026-11-21, today, yesterday or last.")
    ] = None,
    week: Annotated[
        str | None, typer.Option(help="The week of a day: 2026-11-21, this or last.")
    ] = None,
    month: Annotated[str | None, typer.Option(help="A month: 2026-11, this or last.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that can be printed.", metavar="FILE")
    ] = None,
    as_csv: Annotated[
        Path | None, typer.Option("--csv", help="Write everything as CSV.", metavar="FILE")
    ] = None,
    tz: Annotated[str, typer.Option(help="Time zone. Default: this machine's.")] = "",
    lang: Annotated[str, typer.Option(help="Language of the page: en, de, es, fr.")] = "en",
    journal: JournalOption = None,
) -> None:
    """Prints what was on: availability, speech and music, tags by hour, programme log, alerts.

    Default: yesterday. Without --html and --csv it prints a table of hours, or of days.

    [b]streamtag report -j my.toml --stream radio1 --month last --html month.html[/b]
    """
    from streamtag.bridges.web.report_page import ReportView, read_report, report_page
    from streamtag.bridges.web.texts import LANGUAGES, Texts
    from streamtag.history import days, export
    from streamtag.history.report import by_day

    if lang not in LANGUAGES:
        raise StreamtagError(f"--lang: expected one of {', '.join(LANGUAGES)}, got {lang!r}")
    now = time.time_ns()
    zone = _moment("--tz", tz, days.find_zone) if tz else days.local_zone()
    given = [(k, v) for k, v in (("day", day), ("week", week), ("month", month)) if v is not None]
    if len(given) > 1:
        raise typer.BadParameter("one of --day, --week, --month")
    kind, text = given[0] if given else ("day", "yesterday")
    dates = _moment(f"--{kind}", text, lambda text: days.parse_period(kind, text, zone, now))
    view = ReportView(dates[0], zone, now, Texts(lang), "light", days=len(dates))
    with _open(journal) as opened:
        if stream not in (known := opened.streams()):
            names = ", ".join(known) or "none"
            raise StreamtagError(f"--stream: expected one of {names}, got {stream!r}")
        made = read_report(opened, stream, view, _categories(journal, stream))
    if html is not None:
        _write(html, [report_page(made, view)])
    if as_csv is not None:
        _write(as_csv, export.report_csv(made))
    if html is None and as_csv is None:
        shown = by_day(made, zone) if len(dates) > 1 else made
        _console().print(export.report_table(shown, view.bucket))


def _write(path: Path, parts: Iterable[str]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(parts)
    except OSError as error:
        raise StreamtagError(f"{path}: cannot be written: {error.strerror or error}") from None
    note(f"{path}: written")


@history.command()
def clips(
    context: typer.Context,
    journal: JournalOption = None,
    stream: Streams = None,
    since: Since = None,
    until: Until = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Lists the clips of audio that were kept: event, length, file, SHA-256.

    With the configuration for --journal it also says which files were removed since.
    """
    if as_csv and as_json:
        raise typer.BadParameter("one of --csv, --json")
    from streamtag.history import clips as found_clips

    source, query = journal or context.obj, _query(stream, None, None, since, until)
    with _open(source) as opened:
        rows = found_clips.clips_of(opened, query, _clips_folder(source))
    if as_csv or as_json:
        _print(found_clips.clips_csv(rows) if as_csv else found_clips.clips_json(rows))
    else:
        _console().print(found_clips.clips_table(rows))


@history.command(name="log")
def programme_log(
    context: typer.Context,
    journal: JournalOption = None,
    stream: Streams = None,
    since: Since = None,
    until: Until = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
    parquet: Annotated[
        Path | None, typer.Option(help="Write a Parquet file.", metavar="FILE")
    ] = None,
) -> None:
    """Shows the sections of the programme: speech, music by title, silence.

    Sections that were published (`feed.sections`) are those of the journal; others are made from
    its events.
    """
    if as_csv + as_json + (parquet is not None) > 1:
        raise typer.BadParameter("one of --csv, --json, --parquet")
    from streamtag.monitoring import programme_log as log

    source, query = journal or context.obj, _query(stream, None, None, since, until)
    with _open(source) as opened:
        found = log.sections_in(opened, query, _cards(source))
    if parquet is not None:
        note(f"{parquet}: {log.log_parquet(found, parquet)} sections")
    elif as_csv or as_json:
        _print(log.log_csv(found) if as_csv else log.log_json(found))
    else:
        _console().print(log.log_table(found))


def _cards(source: Path | None) -> "dict[str, Card]":
    """The cards of the configuration's taggers; that of the default model for a journal alone."""
    from streamtag.config.config import TaggerConfig, load_config
    from streamtag.config.model_fit import bundle_of
    from streamtag.model.bundle import read_card

    named = source is not None and source.suffix == ".toml"
    taggers = load_config(source).taggers if source and named else {"default": TaggerConfig()}
    return {name: read_card(bundle_of(one)) for name, one in taggers.items()}


def _clips_folder(source: Path | None) -> Path | None:
    """The folder of clips, if the source is a configuration that names one."""
    if source is None or source.suffix != ".toml":
        return None
    from streamtag.config.config import load_config

    clips = load_config(source).clips
    return None if clips is None else Path(clips.folder)


def _categories(source: Path | None, stream: str) -> dict[str, str]:
    """The categories of a stream's tags, if the source is a configuration."""
    if source is None or source.suffix != ".toml":
        return {}
    from streamtag.bridges.state_bridge import TagVocabulary

    described = TagVocabulary(source).descriptions(stream)
    return {tag: about["category"] for tag, about in described.items()}


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


@contextmanager
def _open(source: Path | None) -> "Iterator[History]":
    from streamtag.history.history import History

    opened = History(_journal_path(source))
    try:
        yield opened
    finally:
        opened.close()


def _journal_path(source: Path | None) -> Path:
    if source is None:
        raise StreamtagError(
            "--journal: expected a journal's file, or the configuration that names it, got none"
        )
    if source.suffix != ".toml":
        return source
    from streamtag.config.config import load_config

    named = load_config(source).feed.journal
    if not named:
        raise StreamtagError(
            f"{source}: feed.journal: expected a path, got none; without it the journal ends with "
            "the daemon"
        )
    return Path(named)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)
