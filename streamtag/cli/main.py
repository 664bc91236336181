"""The commands. The only module that prints and exits."""

import json
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import streamtag
from streamtag.cli.bridges import add_bridges_to
from streamtag.cli.control import ctl
from streamtag.cli.feed import add_to as add_feed_commands
from streamtag.cli.history import history
from streamtag.cli.printing import note, write
from streamtag.cli.train import add_to
from streamtag.cli.usage import BarePlot
from streamtag.daemon.memory import freeze_garbage_collector, keep_freed_memory
from streamtag.errors import StreamtagError

LIVE, RECORDINGS, MODELS = "Live", "Recordings", "Models"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with [b]streamtag demo[/b], then try [b]streamtag tag[/b] on a file of yours. "
    "Every command has its own --help.",
)


def main() -> None:
    """The command `streamtag`: exit codes are 0, 1 for an error, 2 for wrong usage, 130 Ctrl-C."""
    keep_freed_memory()
    try:
        app()
    except StreamtagError as error:
        _complain(error)
        sys.exit(1)
    except SystemExit as end:
        if sys.argv[1:2] == ["run"] and isinstance(end.code, int):
            _leave(end.code)
        raise


def _leave(code: int) -> None:
    """Ends the process of a daemon that has closed everything: on a busy machine Python needs
    seconds to take torch apart, and systemd waits."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _complain(error: StreamtagError) -> None:
    Console(stderr=True, soft_wrap=True).print("streamtag:", f"{error}", style="red", markup=False)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"streamtag {streamtag.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version.")
    ] = False,
) -> None:
    """Tags music while it plays: instruments, mood, genre … as events other programs can follow."""


@app.command(rich_help_panel=LIVE)
def demo(
    file: Annotated[
        Path | None, typer.Argument(help="An audio file of yours, instead of the demo piece.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="A bundle, instead of the one included.")
    ] = None,
    pace: Annotated[
        bool, typer.Option("--pace", help="Play as fast as it sounds, not faster.")
    ] = False,
) -> None:
    """Starts the daemon on a piece of music and shows the events that come out of it."""
    from streamtag.cli.demo import run_demo

    raise typer.Exit(run_demo(Console(), file, model, pace=pace))


@app.command(rich_help_panel=LIVE)
def run(
    config: Annotated[Path, typer.Argument(help="The configuration, a TOML file.")],
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Runs the daemon: tags streams and publishes what it hears.

    It runs until Ctrl-C, SIGTERM, or the end of its last stream. A configuration can be as short
    as [b]streams.mic.source = "device:"[/b].
    """
    from streamtag.daemon.check import sound_config
    from streamtag.daemon.ops.logs import configure_logging

    checked = sound_config(config)
    configure_logging(checked.log.style, verbose=verbose)
    from streamtag.daemon.daemon import serve

    freeze_garbage_collector()
    raise typer.Exit(serve(checked, config))


@app.command(rich_help_panel=LIVE)
def check(
    configs: Annotated[list[Path], typer.Argument(help="Configurations, TOML files.")],
) -> None:
    """Checks configurations without starting anything: keys, values, files, models, addresses.

    Says all that is wrong, a line each; the exit code is 1 then.
    """
    from streamtag.daemon.check import complaints_about

    found = [line for path in configs for line in complaints_about(path)]
    for line in found:
        print(line)
    if not found:
        note(f"{', '.join(map(str, configs))}: sound")
    raise typer.Exit(1 if found else 0)


add_feed_commands(app, LIVE)


@app.command(rich_help_panel=LIVE)
def devices() -> None:
    """Lists the sound devices that a stream can listen to."""
    from streamtag.cli.report import devices_table
    from streamtag.sources.soundcard import devices as found

    listed = found()
    if not listed:
        raise StreamtagError("sound card: no device here can record")
    console = Console()
    console.print(devices_table(listed))
    console.print('* the default: source = "device:"; another one: source = "device:NAME"')


class Format(StrEnum):
    """How `streamtag tag` writes its results."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command(rich_help_panel=RECORDINGS, cls=BarePlot)
def tag(
    files: Annotated[list[Path], typer.Argument(help="Audio files; anything ffmpeg can decode.")],
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="A bundle, instead of the one included.")
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="Of the output.")] = Format.TABLE,
    scores: Annotated[
        bool, typer.Option("--scores", help="CSV, JSON: also what each single window got.")
    ] = False,
    picture: Annotated[
        str | None,
        typer.Option(
            "--plot",
            metavar="[PNG]",
            help="Draw a picture, tags × time; without a name it is FILE.taggram.png, here.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to a file instead.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of the model: auto, cpu or cuda.")] = "auto",
) -> None:
    """Tags recordings, as fast as it can: which tags came when.

    Examples:

    [b]streamtag tag song.mp3[/b]

    [b]streamtag tag *.flac --format csv -o tags.csv[/b]

    [b]streamtag tag song.mp3 --plot song.png --model models/other.pt[/b]
    """
    if picture and len(files) > 1:
        raise typer.BadParameter("one name, but several files; leave the name out: --plot")
    from streamtag.cli.recordings import plot, tag_files
    from streamtag.cli.report import events_table, to_csv, to_json, to_text
    from streamtag.model.assets import default_bundle
    from streamtag.model.tagger import Tagger

    logging.basicConfig(level=logging.WARNING, format="streamtag: %(message)s")
    tagger, broken, results = Tagger.load(model or default_bundle(), device), [], []
    stdout = Console(soft_wrap=True)

    def complain(error: StreamtagError) -> None:
        broken.append(error)
        _complain(error)

    for path, result in tag_files(files, tagger, Console(stderr=True), complain):
        results.append((path, result))
        if format is Format.TABLE and output is None:
            stdout.print(events_table(path, result))
        if picture is not None:
            target = Path(picture or f"{path.stem}.taggram.png")
            plot(target, path, result)
            note(f"{target}: drawn")
    if format is not Format.TABLE or output is not None:
        spell = {Format.TABLE: to_text, Format.CSV: to_csv, Format.JSON: to_json}[format]
        write(spell(results, scores=scores), output)
    raise typer.Exit(1 if broken else 0)


@app.command(rich_help_panel=MODELS)
def inspect(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle; without one, the one included.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Shows what a model is: its tags and thresholds, data, scores, licence, checksum."""
    from streamtag.cli.report import card_table
    from streamtag.model.assets import default_bundle
    from streamtag.model.bundle import checksum, read_card

    path = bundle or default_bundle()
    card = read_card(path)
    if as_json:
        body = {"bundle": str(path), "sha256": checksum(path)} | card.to_dict()
        print(json.dumps(body, indent=1, ensure_ascii=False))
    else:
        Console().print(card_table(path, card, checksum(path)), highlight=False)


@app.command("import", rich_help_panel=MODELS)
def import_(
    kind: Annotated[
        str,
        typer.Argument(help="What it is: mtg-jamendo-vggish, sota-fcn, sota-musicnn or sota-crnn."),
    ],
    checkpoint: Annotated[
        Path, typer.Argument(help="The file with the weights, as its authors publish it.")
    ],
    tags: Annotated[
        Path | None,
        typer.Option(
            help="A file with one tag per output, or mtat, jamendo, moodtheme; "
            "only needed where the weights are not recognised."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The bundle; without it, KIND.pt.")
    ] = None,
) -> None:
    """Turns published pretrained weights into a model for streamtag.

    Example: [b]streamtag import mtg-jamendo-vggish best_model.pth -o moods.pt[/b]
    """
    from streamtag.train.importing.importer import import_checkpoint

    logging.basicConfig(level=logging.WARNING, format="streamtag: %(message)s")
    target = output or Path(f"{kind}.pt")
    card = import_checkpoint(kind, checkpoint, tags, target)
    note(f"{target}: {card.name}, {len(card.tags)} tags; look at it: streamtag inspect {target}")


app.add_typer(ctl, name="ctl", rich_help_panel=LIVE)
app.add_typer(history, name="history", rich_help_panel=LIVE)
add_bridges_to(app, "Elsewhere")
add_to(app)
