"""The commands `streamtag archive …`: tag many recordings into Parquet, and query them."""

import json
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from streamtag.cli.output import note, table_console
from streamtag.errors import StreamtagError
from streamtag.feed.messages import clock
from streamtag.history.export import as_csv

if TYPE_CHECKING:
    from streamtag.history.archive.files import Place
    from streamtag.history.archive.run import ArchiveProgress
    from streamtag.model.bundle import BundleFile

DEFAULT = "tag"
"""The command to run if none is named."""
LINE_SECONDS = 30.0
"""How often a line of progress is printed where standard error is no terminal."""
LIMIT = 50


class FoundFormat(StrEnum):
    """How `streamtag archive query` writes what it found."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class TagUnlessNamed(TyperGroup):
    """Runs `tag` if the first argument is a path, as in `streamtag archive /music -o OUT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Inserts the default command if none is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [DEFAULT, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


archive = typer.Typer(
    cls=TagUnlessNamed,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Bundle to use instead of the one included."),
]


@archive.callback()
def _root() -> None:
    """Tags whole archives of recordings, on all cores or a Ray cluster, into Parquet.

    Examples:

    [b]streamtag archive /music -o OUT[/b]

    [b]streamtag archive s3://bucket/music -o s3://bucket/tags --address ray://head:10001[/b]

    [b]streamtag archive query OUT 'jazz > .5 and calm > .4'[/b]
    """


@archive.command(DEFAULT)
def tag(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Recordings, folders, globs, lists (.txt, .m3u), manifests (.csv, .tsv, .jsonl "
            "with a column file), URLs such as s3://bucket/folder; - is a list on standard input."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder or URL of the archive.")],
    model: ModelOption = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Keep the probabilities of each window too.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Keep an embedding of each recording too.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Give whole windows to streaming nets, too.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Tag recordings again that failed before.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Recordings at a time; by default one on each CPU.")
    ] = None,
    models: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Models in processes of their own; by default one on each GPU.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="A Ray cluster: ray://host:10001, host:6379, or auto on one of its machines."
        ),
    ] = None,
) -> None:
    """Tags the recordings that the archive does not have yet. It is the default command.

    Started again, it continues with the recordings that are missing. A broken recording gets a row
    with its error, and the exit code is then 1.
    """
    from streamtag.history.archive.cluster import run_archive
    from streamtag.history.archive.run import ArchiveJob
    from streamtag.history.archive.tables import ArchiveCard

    bundle = _tried(model)
    if embeddings and bundle.card.trunk is None:
        raise StreamtagError(
            f"{bundle.path}: expected a model with a trunk for --embeddings, got one without; "
            "leave the option out, or take a streaming net"
        )
    card = ArchiveCard.of(
        bundle.card, bundle.checksum, exact=exact, windows=windows, embeddings=embeddings
    )
    sources = [_absolute(source) for source in sources]
    job = ArchiveJob(
        tuple(sources), _absolute(output), bundle.path.name, bundle.data, card,
        workers=workers, model_actors=models, retry=retry,
    )  # fmt: skip
    shown = _Shown()
    try:
        ended = run_archive(job, address, shown.update)
    except KeyboardInterrupt:
        note("interrupted; the same command continues with the recordings that are missing")
        raise typer.Exit(130) from None
    shown.end(ended)
    raise typer.Exit(1 if ended.broken else 0)


@archive.command()
def query(
    folder: Annotated[str, typer.Argument(metavar="OUT", help="Folder or URL of an archive.")],
    condition: Annotated[
        str | None,
        typer.Argument(
            help="Such as 'jazz > .5 and share(female voice) > .2'. A tag is its mean probability; "
            "peak(TAG) its largest, share(TAG) the share of the time in which it was on. There are "
            "also seconds, valence, arousal, certainty."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Those whose embeddings are nearest to this recording's."
        ),
    ] = None,
    model: ModelOption = None,
    limit: Annotated[
        int, typer.Option(min=0, help="The most recordings to print; 0 for all.")
    ] = LIMIT,
    format: Annotated[
        FoundFormat, typer.Option("--format", "-f", help="Format of the output.")
    ] = FoundFormat.TABLE,
) -> None:
    """Finds recordings in an archive.

    Examples:

    [b]streamtag archive query OUT 'jazz > .5 and calm > .4'[/b]

    [b]streamtag archive query OUT --like song.mp3 --limit 10[/b]
    """
    if condition is None and like is None:
        raise typer.BadParameter("a condition, or --like FILE")
    _need_pyarrow(folder)
    from streamtag.history.archive.files import open_place
    from streamtag.history.archive.query import find

    place = open_place(folder)
    embedding = None if like is None else _embedding(place, like, model)
    found = find(place, condition, embedding, limit or None)
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    if format is FoundFormat.JSON:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
    elif format is FoundFormat.CSV:
        sys.stdout.writelines(as_csv(found.columns, rows))
    else:
        table_console().print(_table(found.columns, found.rows))
        if limit and len(rows) == limit:
            note(f"the first {limit}; --limit 0 shows all")


def _tried(model: Path | None) -> "BundleFile":
    from streamtag.model.bundle import BundleFile
    from streamtag.model.shipped import default_bundle
    from streamtag.model.trial import ensure_tried

    bundle = BundleFile.read(model or default_bundle())
    ensure_tried(bundle)
    return bundle


def _absolute(source: str) -> str:
    """A path that means the same in every process."""
    return source if "://" in source or source == "-" else os.path.abspath(source)


def _need_pyarrow(folder: str) -> None:
    from streamtag.history.export import load_pyarrow

    load_pyarrow(Path(folder))


def _embedding(place: "Place", like: str, model: Path | None) -> list[float]:
    """The embedding of a recording, from the archive or computed with the archive's model."""
    from streamtag.history.archive.files import open_place
    from streamtag.history.archive.query import stored_embedding
    from streamtag.history.archive.tables import ArchiveCard

    known = stored_embedding(place, open_place(like).name)
    if known is not None:
        return known
    from streamtag.history.archive.tagging import embedding_of
    from streamtag.model.tagger import Tagger

    about, bundle = ArchiveCard.read(place), _tried(model)
    if bundle.checksum != about.checksum:
        raise StreamtagError(
            f"{bundle.path}: expected the model of the archive, {about.model} "
            f"({about.checksum:.12}), got {bundle.card.name} ({bundle.checksum:.12}); "
            "name its bundle: --model FILE"
        )
    return embedding_of(Path(like), Tagger.load(bundle, "cpu"))


def _table(columns: tuple[str, ...], rows: tuple[tuple[Any, ...], ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, justify="left" if name == "file" else "right")
    for file, seconds, *values in rows:
        texts = ("" if value is None else f"{value:.3f}" for value in values)
        table.add_row(Text(file), clock(seconds), *texts)
    return table


class _Shown:
    """Shows progress on standard error: one line that changes on a terminal, else a line every
    `LINE_SECONDS`."""

    def __init__(self) -> None:
        self._live, self._next = sys.stderr.isatty(), 0.0

    def update(self, progress: "ArchiveProgress") -> None:
        """Shows the progress, unless it was shown a moment ago."""
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + (0.2 if self._live else LINE_SECONDS)
        if self._live:
            sys.stderr.write(f"\r\033[K{_line(progress)}")
            sys.stderr.flush()
        else:
            note(_line(progress))

    def end(self, progress: "ArchiveProgress") -> None:
        """Shows the final progress."""
        if self._live:
            sys.stderr.write("\r\033[K")
        note(_line(progress))


def _line(progress: "ArchiveProgress") -> str:
    """The progress as a line of text."""
    text = f"{progress.before + progress.done} of {progress.total} recordings"
    if progress.before:
        text += f" ({progress.before} before)"
    if progress.broken:
        text += f", {progress.broken} broken"
    if progress.done:
        text += f", {progress.audio / 3600:.2f} h of audio"
        text += f", {progress.hours_per_minute:.2f} h per minute"
    if progress.left:
        text += f", {clock(progress.left)} left"
    return text
