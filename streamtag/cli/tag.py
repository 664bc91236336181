"""The command `streamtag tag`: tags recordings and prints what it finds."""

import csv
import gc
import io
import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from streamtag.cli.output import log_warnings, note, print_error, write
from streamtag.errors import StreamtagError

if TYPE_CHECKING:
    from streamtag.model.card import Card
    from streamtag.model.tagger import Tagger
    from streamtag.sources.recording import TaggedRecording

PICTURES = (".png", ".svg", ".pdf")
"""Name endings by which `--plot` recognises its optional value."""
N_CLOSEST = 5
"""Number of tags that are named where none reached its threshold."""


class Format(StrEnum):
    """How `streamtag tag` writes its results."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class OptionalPlotValue(TyperCommand):
    """Makes the value of `--plot` optional: the next word is its value only if it is a picture."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the words after giving a `--plot` without a picture an empty value."""
        filled: list[str] = []
        for i, word in enumerate(args):
            named = i + 1 < len(args) and Path(args[i + 1]).suffix.lower() in PICTURES
            filled.append("--plot=" if word == "--plot" and not named else word)
        parsed: list[str] = super().parse_args(ctx, filled)
        return parsed


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds the command to the application."""
    app.command(rich_help_panel=panel, cls=OptionalPlotValue)(tag)


def tag(
    files: Annotated[
        list[Path], typer.Argument(help="Audio files in any format that ffmpeg can decode.")
    ],
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Bundle to use instead of the one included."),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Format of the output.")
    ] = Format.TABLE,
    scores: Annotated[
        bool, typer.Option("--scores", help="CSV and JSON: include the scores of each window.")
    ] = False,
    picture: Annotated[
        str | None,
        typer.Option(
            "--plot",
            metavar="[PNG]",
            help="Draw a picture, tags × time. Without a name: FILE.taggram.png in this folder.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu or cuda.")] = "auto",
    exact: Annotated[
        bool, typer.Option("--exact", help="Streaming nets too see whole windows.")
    ] = False,
) -> None:
    """Tags recordings as fast as the machine can: which tags were on, and when.

    Examples:

    [b]streamtag tag song.mp3[/b]

    [b]streamtag tag *.flac --format csv -o tags.csv[/b]

    [b]streamtag tag song.mp3 --plot song.png --model models/other.pt[/b]
    """
    if picture and len(files) > 1:
        raise typer.BadParameter("one name for several files; leave the name out: --plot")
    gc.disable()  # there is nothing to collect among what is imported
    from streamtag.model.bundle import BundleFile
    from streamtag.model.shipped import default_bundle
    from streamtag.model.tagger import Tagger
    from streamtag.model.trial import ensure_tried

    gc.freeze()
    gc.enable()
    log_warnings()
    bundle = BundleFile.read(model or default_bundle())
    ensure_tried(bundle)
    tagger = Tagger.load(bundle, device)
    results = []
    for result in _tag_files(files, tagger, exact):
        results.append(result)
        if format is Format.TABLE and output is None:
            Console(soft_wrap=True).print(events_table(result))
        if picture is not None:
            target = Path(picture or f"{Path(result.file).stem}.taggram.png")
            _plot(target, result, tagger.card)
            note(f"{target}: written")
    if format is Format.JSON:  # docs/tag.md describes its keys
        found = [result.to_dict(scores=scores) for result in results]
        write(json.dumps(found, indent=1) + "\n", output)
    elif format is Format.CSV:
        write(_to_csv(results, scores), output)
    elif output is not None:
        write(_to_tables(results), output)
    raise typer.Exit(0 if len(results) == len(files) else 1)


def _tag_files(files: Sequence[Path], tagger: "Tagger", exact: bool) -> Iterator["TaggedRecording"]:
    """Tags each file; prints an error for a file that cannot be tagged and goes on.

    Files are tagged side by side. A single one has all threads.
    """
    from streamtag.model.threads import side_by_side, usable_threads
    from streamtag.sources.recording import tag_file

    usable = usable_threads() if tagger.device == "cpu" else 1
    at_once = min(len(files), usable)
    if at_once > 1:  # torch cannot compile while other threads run the model
        tagger.warm_up([1])

    def tag_one(numbered: tuple[int, Path]) -> "TaggedRecording | StreamtagError":
        number, path = numbered
        title = f"{number}/{len(files)} {path.name}" if len(files) > 1 else path.name
        task = progress.add_task(title, total=None)
        try:
            return tag_file(
                path, tagger, threads=usable // at_once, exact=exact,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )  # fmt: skip
        except StreamtagError as error:
            return error
        finally:
            progress.remove_task(task)

    with _progress() as progress:
        for result in side_by_side(tag_one, enumerate(files, 1), at_once):
            progress.stop()  # what is printed must not come between its lines
            if isinstance(result, StreamtagError):
                print_error(result)
            else:
                yield result
            progress.start()


def _progress() -> Progress:
    """Progress bars on a terminal, which disappear at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = not console.is_terminal
    return Progress(
        *columns, console=console, transient=True, disable=hidden, redirect_stdout=False
    )


def _to_csv(results: Sequence["TaggedRecording"], scores: bool) -> str:
    """One line per event, or one per window if the scores are wanted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if scores:
        tags = results[0].tags if results else ()
        writer.writerow(["file", "start", "end", "provisional", *tags])
        for result in results:
            for row in result.scores:
                values = [f"{value:.6f}" for value in row.values]
                where = [f"{row.start:.3f}", f"{row.end:.3f}", int(row.provisional)]
                writer.writerow([result.file, *where, *values])
        return text.getvalue()
    writer.writerow(["file", "tag", "on", "off", "peak", "reason"])
    for result in results:
        for e in result.events:
            times = [f"{e.on:.3f}", f"{e.off:.3f}", f"{e.peak:.6f}"]
            writer.writerow([result.file, e.tag, *times, e.reason.value])
    return text.getvalue()


def _to_tables(results: Sequence["TaggedRecording"]) -> str:
    """Tables for people; they have no place for the scores of windows."""
    console = Console(width=100, record=True, file=io.StringIO())
    for result in results:
        console.print(events_table(result), soft_wrap=True)
    return console.export_text()


def events_table(result: "TaggedRecording") -> RenderableType:
    """The events of one recording as a table for people."""
    from streamtag.feed.messages import clock

    title = Text(result.file, "bold").append(f"  {clock(result.seconds)}  by {result.model}", "dim")
    if not result.events:
        return Group(title, Text(f"  No tag reached its threshold. {_closest(result)}"), Text())
    table = Table(box=None, padding=(0, 2, 0, 1), header_style="dim")
    table.add_column("tag")
    for name in ("from", "to", "for", "peak"):
        table.add_column(name, justify="right")
    for event in result.events:
        length = f"{event.off - event.on:.1f} s"
        times = (clock(event.on), clock(event.off), length)
        table.add_row(Text(event.tag, "bold"), *times, f"{event.peak:.2f}")
    return Group(title, table, Text())


def _closest(result: "TaggedRecording") -> str:
    """The tags that came closest to their thresholds."""
    if not result.scores:
        return f"{result.seconds:.2f} s of audio are too short for this model."
    best = [max(column) for column in zip(*(row.smoothed for row in result.scores), strict=True)]
    order = sorted(zip(best, result.tags, strict=True), reverse=True)[:N_CLOSEST]
    return "Closest: " + ", ".join(f"{tag} {value:.2f}" for value, tag in order)


def _plot(path: Path, result: "TaggedRecording", card: "Card") -> None:
    """Draws the taggram of one recording. Tags that are off by default are marked as muted."""
    import numpy as np

    from streamtag.history import taggram

    rows, tags = result.scores, result.tags
    taggram.draw(
        path,
        f"{Path(result.file).name} · {result.model}",
        [f"{tag} (muted)" if tag in card.off_by_default else tag for tag in tags],
        np.array([(row.start + row.end) / 2 for row in rows]),
        np.array([row.smoothed for row in rows]).reshape(len(rows), len(tags)),
        [taggram.TagSpan(event.tag, event.on, event.off) for event in result.events],
        result.seconds,
    )
