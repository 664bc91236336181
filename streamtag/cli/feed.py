"""The commands around the feed: schema, watch, keygen. Like `cli`, it may print and exit."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamtag.cli.printing import note, write
from streamtag.feed.client.subscriber import DEFAULT_ADDRESS, Subscriber


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds the commands to the application."""
    for command in (schema, watch, keygen):
        app.command(rich_help_panel=panel)(command)


class Contract(StrEnum):
    """What `streamtag schema` describes."""

    CONFIG = "config"
    MESSAGES = "messages"


def schema(
    contract: Annotated[Contract, typer.Argument(help="Of what.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to a file instead.")
    ] = None,
) -> None:
    """Prints the JSON Schema of the configuration or of the feed's messages, for programs."""
    from streamtag.config.config import Config
    from streamtag.feed.schema import DIALECT, messages_schema

    if contract is Contract.CONFIG:
        described = {"$schema": DIALECT} | Config.model_json_schema()
    else:
        described = messages_schema()
    write(json.dumps(described, indent=1, ensure_ascii=False) + "\n", output)


def watch(
    address: Annotated[str, typer.Argument(help="Where a daemon publishes.")] = DEFAULT_ADDRESS,
    stream: Annotated[
        list[str] | None, typer.Option("--stream", "-s", help="Only this stream; may be repeated.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Tags to show per stream.")] = 8,
    key: Annotated[
        Path | None, typer.Option(help="Your .key_secret file, where the daemon wants keys.")
    ] = None,
    server_key: Annotated[
        str | None, typer.Option(help="The daemon's public key: a .key file, or its text.")
    ] = None,
) -> None:
    """Shows what a running daemon hears: the likeliest tags with bars, and recent events.

    Where the output is not a terminal: one plain line per event.
    """
    from streamtag.cli.watch import watch as show

    console = Console()
    with Subscriber(
        address,
        streams=stream or None,
        scores=console.is_terminal,
        key=key,
        server_key=server_key,
    ) as feed:
        show(feed, console, top=top)


def keygen(
    name: Annotated[Path, typer.Argument(help="Of the key: a path without an end.")],
) -> None:
    """Makes a key pair for the feed: NAME.key_secret to keep, NAME.key to give away.

    The daemon's goes into [b]feed.secret_key[/b]; the public ones of those who may subscribe go
    into the folder [b]feed.authorised_keys[/b].
    """
    from streamtag.feed.keys import generate, read_public

    secret, public = generate(name)
    note(f"{secret}: keep it to yourself; {public}: give it away")
    print(read_public(public))
