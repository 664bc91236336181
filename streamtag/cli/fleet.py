"""The commands `streamtag fleet …`, about all daemons that share one set of stations."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streamtag.cli.output import note, print_json

fleet = typer.Typer(
    no_args_is_help=True,
    help="Shows and changes a fleet: many daemons that share one set of stations.",
)
ConfigFile = Annotated[
    Path, typer.Argument(help="The configuration of a daemon of the fleet, a TOML file.")
]
Name = Annotated[str, typer.Argument(help="Name of a station.")]


@fleet.command()
def status(
    config: ConfigFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    stations: Annotated[
        bool, typer.Option("--stations", help="List all stations, and who has each.")
    ] = False,
) -> None:
    """Lists the daemons and their stations. It takes up to half a lease to see which are alive."""
    from streamtag.config.config import load_config
    from streamtag.daemon.fleet.commands import fleet_status, with_bucket

    loaded = load_config(config)
    seconds = loaded.fleet.lease_seconds if loaded.fleet else 0.0
    found = with_bucket(loaded, lambda bucket: fleet_status(bucket, seconds))
    if as_json:
        print_json(found)
        return
    rows = found["stations"] if stations else found["daemons"]
    table = Table(box=None, header_style="dim")
    for column in rows[0] if rows else ():
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    print(f"{len(found['stations'])} stations, {len(found['free'])} of them free")


@fleet.command()
def add(
    config: ConfigFile,
    name: Name,
    table: Annotated[str, typer.Argument(help="Its source, or its whole table as JSON.")],
) -> None:
    """Adds a station, or changes its table."""
    from streamtag.config.config import load_config
    from streamtag.daemon.fleet.commands import add_station, parse_table, with_bucket

    loaded, parsed, folder = load_config(config), parse_table(table), config.resolve().parent
    with_bucket(loaded, lambda bucket: add_station(bucket, loaded, folder, name, parsed))
    note(f"station {name}: added")


@fleet.command()
def remove(config: ConfigFile, name: Name) -> None:
    """Removes a station."""
    from streamtag.config.config import load_config
    from streamtag.daemon.fleet.commands import remove_station, with_bucket

    with_bucket(load_config(config), lambda bucket: remove_station(bucket, name))
    note(f"station {name}: removed")


@fleet.command()
def drain(
    config: ConfigFile,
    daemon: Annotated[str, typer.Argument(help="Name of a daemon.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let it take stations again.")] = False,
) -> None:
    """Moves all stations of a daemon to others, until it is started again."""
    from streamtag.config.config import load_config
    from streamtag.daemon.fleet import commands

    commands.with_bucket(load_config(config), lambda b: commands.drain(b, daemon, undo=undo))
    note(f"daemon {daemon}: {'takes stations again' if undo else 'gives up its stations'}")


@fleet.command()
def rebalance(config: ConfigFile) -> None:
    """Spreads the stations evenly, where `fleet.rebalance = false` leaves them where they are."""
    from streamtag.config.config import load_config
    from streamtag.daemon.fleet.commands import request_rebalance, with_bucket

    with_bucket(load_config(config), request_rebalance)
    note("stations move for a minute")
