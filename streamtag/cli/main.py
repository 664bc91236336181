"""The application `streamtag`: its options, and the commands that run or check a daemon."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import streamtag
from streamtag.cli import bridges, feed, models, tag, train
from streamtag.cli.alerts import alerts
from streamtag.cli.archive import archive
from streamtag.cli.control import ctl
from streamtag.cli.fleet import fleet
from streamtag.cli.history import PeriodCommand, history, report
from streamtag.cli.output import note, print_error
from streamtag.daemon.memory import freeze_garbage_collector, keep_freed_memory
from streamtag.errors import StreamtagError

LIVE = "Live"
"""Heading of the first group of commands in the help."""
ENDED_AT_ONCE = (["run"], ["tag"], ["check"])
"""Commands that have closed everything when they return."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with [b]streamtag demo[/b], then try [b]streamtag tag[/b] on a file of yours. "
    "Every command has its own --help.",
)


def main() -> None:
    """Runs the command line; exits with 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    keep_freed_memory()
    # A thread of torch that waits for the others sleeps. By default it spins for milliseconds,
    # which takes a busy machine many times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except StreamtagError as error:
        print_error(error)
        sys.exit(1)
    except SystemExit as end:
        if sys.argv[1:2] in ENDED_AT_ONCE and isinstance(end.code, int):
            _exit_at_once(end.code)
        raise


def _exit_at_once(code: int) -> None:
    """Ends a process that has closed everything, without unloading torch.

    Python needs half a second for that, on a busy machine seconds.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"streamtag {streamtag.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Tags music while it plays (instruments, mood, genre …) and publishes events for other
    programs.
    """


@app.command(rich_help_panel=LIVE)
def demo(
    file: Annotated[
        Path | None, typer.Argument(help="Audio file to play instead of the demo piece.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Bundle to use instead of the one included."),
    ] = None,
    pace: Annotated[
        bool, typer.Option("--pace", help="Play in real time, not as fast as possible.")
    ] = False,
    web: Annotated[
        bool, typer.Option("--web", help="Then play it again in real time, and open the wall.")
    ] = False,
) -> None:
    """Runs a daemon on a piece of music and shows the events that it publishes."""
    from streamtag.cli.demo import run_demo

    raise typer.Exit(run_demo(Console(), file, model, pace=pace, web=web))


@app.command(rich_help_panel=LIVE)
def run(
    config: Annotated[Path, typer.Argument(help="The configuration, a TOML file.")],
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Runs the daemon: tags streams and publishes the results.

    It runs until Ctrl-C, SIGTERM, or the end of its last stream.

    The shortest configuration: [b]streams.mic.source = "device:"[/b]
    """
    from streamtag.daemon.check import checked_config
    from streamtag.daemon.ops.logs import configure_logging

    checked = checked_config(config)
    configure_logging(checked.log.style, verbose=verbose)
    from streamtag.daemon.daemon import serve
    from streamtag.sources.confinement import renounce_new_privileges

    renounce_new_privileges()
    freeze_garbage_collector()
    raise typer.Exit(serve(checked, config))


@app.command(rich_help_panel=LIVE)
def gateway(
    config: Annotated[Path, typer.Argument(help="A configuration with [nats], without streams.")],
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Publishes the messages of all daemons on NATS as one feed, with journal, pages and bridges.

    It tags nothing, and runs until Ctrl-C or SIGTERM.
    """
    from streamtag.bridges.bridge import shutdown_on_signals
    from streamtag.daemon.check import checked_config
    from streamtag.daemon.ops.logs import configure_logging

    checked = checked_config(config)
    configure_logging(checked.log.style, verbose=verbose)
    from streamtag.daemon.gateway import serve_gateway

    with shutdown_on_signals() as shutdown:
        serve_gateway(checked, config, lambda: bool(shutdown))


@app.command(rich_help_panel=LIVE)
def check(
    configs: Annotated[list[Path], typer.Argument(help="Configurations, TOML files.")],
    capacity: Annotated[
        bool,
        typer.Option("--capacity", help="Also measure how many streams this machine can process."),
    ] = False,
) -> None:
    """Checks configurations without starting anything: keys, values, files, models, addresses.

    Prints a line per error and exits with 1 if there is one.
    """
    from streamtag.daemon.check import checked_config, complaints_about

    found = [line for path in configs for line in complaints_about(path)]
    for line in found:
        print(line)
    if not found:
        note(f"{', '.join(map(str, configs))}: no errors")
    if capacity and not found:
        from streamtag.daemon.capacity import report

        for path in configs:
            for line in report(checked_config(path)):
                print(f"{path}: {line}")
    raise typer.Exit(1 if found else 0)


feed.add_to(app, LIVE)


@app.command(rich_help_panel=LIVE)
def devices() -> None:
    """Lists the sound devices that a stream can record from."""
    from streamtag.sources import soundcard

    listed = soundcard.devices()
    if not listed:
        raise StreamtagError("sound card: expected a device that can record, got none")
    table = Table("", "number", "name", "interface", "channels", "Hz", box=None, header_style="dim")
    for device in listed:
        numbers = (str(device.channels), str(device.rate))
        mark = "*" if device.default else ""
        table.add_row(mark, str(device.index), Text(device.name), device.host, *numbers)
    console = Console()
    console.print(table)
    console.print('* default device: source = "device:"; any other: source = "device:NAME"')


app.add_typer(ctl, name="ctl", rich_help_panel=LIVE)
app.add_typer(fleet, name="fleet", rich_help_panel=LIVE)
app.add_typer(history, name="history", rich_help_panel=LIVE)
app.command(rich_help_panel=LIVE, cls=PeriodCommand)(report)
app.add_typer(alerts, name="alerts", rich_help_panel=LIVE)
tag.add_to(app, "Recordings")
app.add_typer(archive, name="archive", rich_help_panel="Recordings")
models.add_to(app, "Models")
bridges.add_to(app, "Bridges")
train.add_to(app, "Making models")
