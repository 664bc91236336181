"""The commands `streamtag ctl …`, which send commands to a running daemon."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamtag.cli.output import print_json
from streamtag.errors import ControlError

ctl = typer.Typer(
    no_args_is_help=True,
    help="Controls a running daemon. Only the streams that a command is about are affected.",
)
PATH_SOURCES = ("file:", "folder:", "sdp:")
"""Sources that name a path."""
ANSWER_SECONDS = 10.0
"""How long to wait for an answer."""
CHANGE_SECONDS = 180.0
"""How long to wait for a change, which may have to load and warm up models."""

Socket = Annotated[
    Path | None,
    typer.Option("--socket", help="The daemon's control.socket. Default: of this user's daemon."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.001, help="Seconds to wait for the answer.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
StreamName = Annotated[str, typer.Argument(help="Name of a stream.")]
TaggerName = Annotated[str, typer.Argument(help="Name of a tagger.")]


def _send(socket: Path | None, timeout: float, command: str, **fields: Any) -> Any:
    from streamtag.config.control_socket import default_path, send_command

    return send_command(socket or default_path(), {"command": command, **fields}, timeout)


def _parse_pair(key: str, value: str) -> dict[str, Any]:
    """The table that `KEY = VALUE` means in TOML; a value that is not TOML is text."""
    for text in (value, json.dumps(value)):
        try:
            return tomllib.loads(f"{key} = {text}")
        except ValueError:
            continue
    raise ControlError(f"key: expected one such as taggers.default.tuning.deny, got {key!r}")


def _without_values(table: dict[str, Any]) -> dict[str, Any]:
    """The same keys with None for every value."""
    return {
        key: _without_values(value) if isinstance(value, dict) else None
        for key, value in table.items()
    }


def _absolute(source: str) -> str:
    """A source with an absolute path: the daemon may run in another folder than this command."""
    kind, colon, place = source.partition(":")
    return f"{kind}:{Path(place).absolute()}" if kind + colon in PATH_SOURCES and place else source


@ctl.command("list")
def list_(
    socket: Socket = None, as_json: AsJson = False, timeout: Timeout = ANSWER_SECONDS
) -> None:
    """Lists the streams with their states, sources and taggers."""
    rows = _send(socket, timeout, "list")
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, header_style="dim")
    for column in ("stream", "state", "taggers", "source", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        taggers = ", ".join(row["taggers"])
        table.add_row(row["name"], row["state"], taggers, row["source"], row["detail"])
    Console().print(table)


@ctl.command()
def status(socket: Socket = None, timeout: Timeout = ANSWER_SECONDS) -> None:
    """Prints models, shadow models with their agreement, and all counters as JSON."""
    print_json(_send(socket, timeout, "status"))


@ctl.command()
def config(socket: Socket = None, timeout: Timeout = ANSWER_SECONDS) -> None:
    """Prints what streams and models run with as JSON, also what `set` has changed."""
    print_json(_send(socket, timeout, "config"))


@ctl.command()
def alerts(
    socket: Socket = None, as_json: AsJson = False, timeout: Timeout = ANSWER_SECONDS
) -> None:
    """Lists the alerts that are raised."""
    rows = _send(socket, timeout, "alerts")
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, header_style="dim")
    for column in ("alert", "since", "seen by", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row["alert"], row["utc"][:19], row["acknowledged_by"], Text(row["detail"]))
    Console().print(table)


@ctl.command()
def ack(
    alert: Annotated[str, typer.Argument(help="Name of a rule, or id of an alert.")],
    stream: Annotated[
        str | None, typer.Option("--stream", "-s", help="Only the alert of this stream.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Who has seen it.", envvar="USER", show_default=False)
    ] = "",
    note: Annotated[str, typer.Option(help="A note for others.")] = "",
    socket: Socket = None,
    timeout: Timeout = ANSWER_SECONDS,
) -> None:
    """Acknowledges alerts that are raised. There are no more reminders of them."""
    fields = {"alert": alert, "stream": stream, "by": by, "note": note}
    print_json(_send(socket, timeout, "ack", **fields))


@ctl.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the new stream.")],
    source: Annotated[str, typer.Argument(help="As in the configuration, such as file:a.mp3.")],
    keys: Annotated[
        list[str] | None, typer.Argument(help="Further keys of the stream, such as pace=true.")
    ] = None,
    socket: Socket = None,
    timeout: Timeout = CHANGE_SECONDS,
) -> None:
    """Adds a stream."""
    stream: dict[str, Any] = {"source": _absolute(source)}
    for pair in keys or ():
        key, _, value = pair.partition("=")
        stream |= _parse_pair(key, value)
    print_json(_send(socket, timeout, "add", name=name, stream=stream))


@ctl.command()
def remove(name: StreamName, socket: Socket = None, timeout: Timeout = CHANGE_SECONDS) -> None:
    """Removes a stream. Its tags end."""
    print_json(_send(socket, timeout, "remove", name=name))


@ctl.command()
def pause(name: StreamName, socket: Socket = None, timeout: Timeout = CHANGE_SECONDS) -> None:
    """Closes a stream's source until it is resumed. Its tags end."""
    print_json(_send(socket, timeout, "pause", name=name))


@ctl.command()
def resume(name: StreamName, socket: Socket = None, timeout: Timeout = CHANGE_SECONDS) -> None:
    """Opens the source of a paused stream again. A file starts from its beginning."""
    print_json(_send(socket, timeout, "resume", name=name))


@ctl.command()
def reload(socket: Socket = None, timeout: Timeout = CHANGE_SECONDS) -> None:
    """Reads the configuration file again and applies what has changed.

    A file with errors changes nothing.
    """
    print_json(_send(socket, timeout, "reload"))


@ctl.command("set")
def set_(
    key: Annotated[str, typer.Argument(help="Key such as taggers.default.tuning.deny.")],
    value: Annotated[
        str, typer.Argument(help='TOML such as 0.5 or ["harp"]; anything else is text.')
    ],
    socket: Socket = None,
    timeout: Timeout = CHANGE_SECONDS,
) -> None:
    """Sets a key of the running configuration, until the file is read again."""
    print_json(_send(socket, timeout, "set", table=_parse_pair(key, value)))


@ctl.command()
def unset(
    key: Annotated[
        str, typer.Argument(help="Key such as defaults.language, or table such as web.")
    ],
    socket: Socket = None,
    timeout: Timeout = CHANGE_SECONDS,
) -> None:
    """Removes a key from the running configuration, until the file is read again."""
    print_json(_send(socket, timeout, "set", table=_without_values(_parse_pair(key, "0"))))


@ctl.command()
def shadow(
    tagger: TaggerName,
    bundle: Annotated[
        Path | None, typer.Argument(help="The shadow model. Without it, the shadow ends.")
    ] = None,
    socket: Socket = None,
    timeout: Timeout = CHANGE_SECONDS,
) -> None:
    """Runs another model beside a tagger's; `status` shows how far they agree."""
    path = None if bundle is None else str(bundle.absolute())
    print_json(_send(socket, timeout, "shadow", tagger=tagger, bundle=path))


@ctl.command()
def swap(
    tagger: TaggerName,
    bundle: Annotated[
        Path | None,
        typer.Argument(help="The new model. Default: the shadow, or the tagger's file again."),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 of the new model, for a tagger that is pinned.")
    ] = None,
    socket: Socket = None,
    timeout: Timeout = CHANGE_SECONDS,
) -> None:
    """Replaces the model of a tagger between two windows of every stream."""
    path = None if bundle is None else str(bundle.absolute())
    print_json(_send(socket, timeout, "swap", tagger=tagger, bundle=path, sha256=sha256))
