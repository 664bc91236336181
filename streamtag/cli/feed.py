"""The commands about the feed: schema, watch, keygen."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from streamtag.cli.output import note, write
from streamtag.errors import ConfigError

if TYPE_CHECKING:
    from streamtag.feed.nats.connection import NatsOptions

DEFAULT_ADDRESS = "tcp://127.0.0.1:5757"
"""Default of `Subscriber`, repeated here so that `streamtag --help` need not import it."""


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds the commands to the application."""
    for command in (schema, watch, keygen):
        app.command(rich_help_panel=panel)(command)


class Contract(StrEnum):
    """What `streamtag schema` describes."""

    CONFIG = "config"
    MESSAGES = "messages"


def schema(
    contract: Annotated[
        Contract, typer.Argument(help="The configuration file, or the messages of the feed.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.")
    ] = None,
) -> None:
    """Prints the JSON Schema of the configuration or of the feed's messages."""
    from streamtag.config.config import Config
    from streamtag.feed.schema import DIALECT, messages_schema

    if contract is Contract.CONFIG:
        described = {"$schema": DIALECT} | Config.model_json_schema()
    else:
        described = messages_schema()
    write(json.dumps(described, indent=1, ensure_ascii=False) + "\n", output)


def watch(
    address: Annotated[
        str,
        typer.Argument(
            help="Where a daemon publishes; nats://HOST; or a configuration (.toml) with [nats]."
        ),
    ] = DEFAULT_ADDRESS,
    stream: Annotated[
        list[str] | None,
        typer.Option("--stream", "-s", help="Show only this stream. May be repeated."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of tags to show per stream.")] = 8,
    key: Annotated[
        Path | None, typer.Option(help="Your .key_secret file, if the daemon requires keys.")
    ] = None,
    server_key: Annotated[
        str | None, typer.Option(help="The daemon's public key: a .key file, or its text.")
    ] = None,
) -> None:
    """Shows a running daemon's feed: the likeliest tags with bars, and recent events.

    If the output is not a terminal, it prints one plain line per event.
    """
    from streamtag.cli.watch import show
    from streamtag.feed.client.subscriber import Subscriber

    console = Console()
    options = None
    if address.endswith(".toml"):
        options = _nats_options(Path(address))
        address = ",".join(options.servers)
    with Subscriber(
        address,
        streams=stream or None,
        scores=console.is_terminal,
        key=key,
        server_key=server_key,
        nats=options,
    ) as feed:
        show(feed, console, top=top)


def _nats_options(path: Path) -> "NatsOptions":
    """Where and as whom a configuration publishes to NATS."""
    from streamtag.config.config import load_config

    if (table := load_config(path).nats) is None:
        raise ConfigError(f"{path}: expected a table [nats], got none; see docs/nats.md")
    return table.options()


def keygen(
    name: Annotated[Path, typer.Argument(help="Path of the key without a suffix.")],
) -> None:
    """Makes a key pair for the feed: NAME.key_secret to keep, NAME.key to give away.

    Name the daemon's secret key in [b]feed.secret_key[/b].

    Put subscribers' public keys into the folder [b]feed.authorised_keys[/b].
    """
    from streamtag.feed.keys import generate, read_public

    secret, public = generate(name)
    note(f"{secret}: keep it secret; {public}: give it away")
    print(read_public(public))
