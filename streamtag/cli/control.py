"""`streamtag ctl`: commands to a running daemon. Like `cli`, it may print and exit."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streamtag.errors import ControlError

ctl = typer.Typer(
    no_args_is_help=True,
    help="Tells a running daemon what to do; streams that it is not about notice nothing.",
)
_PATHS = ("file:", "folder:", "sdp:")

Socket = Annotated[
    Path | None,
    typer.Option("--socket", help="Of the daemon: control.socket in its configuration."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.001, help="Seconds to wait for the answer.")
]
SOON, LATER = 10.0, 180.0
"""Seconds: for an answer, and for a change, which may load models and let them settle."""
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Stream = Annotated[str, typer.Argument(help="Name of a stream.")]
Tagger = Annotated[str, typer.Argument(help="Name of a tagger.")]


def _tell(path: Path | None, timeout: float, command: str, **fields: Any) -> Any:
    from streamtag.daemon.control import default_path, send_command

    return send_command(path or default_path(), {"command": command, **fields}, timeout)


def _show(result: object) -> None:
    print(json.dumps(result, indent=1, ensure_ascii=False))


def _value(key: str, value: str) -> dict[str, Any]:
    """`KEY VALUE` as a table: the value as TOML, or else as text.

    Raises:
        ControlError: the key is none.
    """
    for text in (value, json.dumps(value)):
        try:
            return tomllib.loads(f"{key} = {text}")
        except ValueError:
            continue
    raise ControlError(f"key: expected one such as taggers.default.tuning.deny, got {key!r}")


def _without(table: dict[str, Any]) -> dict[str, Any]:
    """The same keys, with nothing in the innermost."""
    return {
        key: _without(value) if isinstance(value, dict) else None for key, value in table.items()
    }


def _absolute(source: str) -> str:
    """Relative paths are those of whoever types them, not the daemon's."""
    kind, colon, place = source.partition(":")
    return f"{kind}:{Path(place).absolute()}" if kind + colon in _PATHS and place else source


@ctl.command("list")
def list_(socket: Socket = None, as_json: AsJson = False, timeout: Timeout = SOON) -> None:
    """Lists the streams: state, source, who listens."""
    rows = _tell(socket, timeout, "list")
    if as_json:
        _show(rows)
        return
    table = Table(box=None, header_style="dim")
    for column in ("stream", "state", "taggers", "source", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        taggers = ", ".join(row["taggers"])
        table.add_row(row["name"], row["state"], taggers, row["source"], row["detail"])
    Console().print(table)


@ctl.command()
def status(socket: Socket = None, timeout: Timeout = SOON) -> None:
    """Shows models, shadows with their agreement, and all counters, as JSON."""
    _show(_tell(socket, timeout, "status"))


@ctl.command()
def add(
    name: Annotated[str, typer.Argument(help="Of the new stream.")],
    source: Annotated[str, typer.Argument(help="As in the configuration, such as file:a.mp3.")],
    keys: Annotated[
        list[str] | None, typer.Argument(help="More keys of the stream, such as pace=true.")
    ] = None,
    socket: Socket = None,
    timeout: Timeout = LATER,
) -> None:
    """Adds a stream."""
    stream: dict[str, Any] = {"source": _absolute(source)}
    for pair in keys or ():
        key, _, value = pair.partition("=")
        stream |= _value(key, value)
    _show(_tell(socket, timeout, "add", name=name, stream=stream))


@ctl.command()
def remove(name: Stream, socket: Socket = None, timeout: Timeout = LATER) -> None:
    """Removes a stream; its tags end."""
    _show(_tell(socket, timeout, "remove", name=name))


@ctl.command()
def pause(name: Stream, socket: Socket = None, timeout: Timeout = LATER) -> None:
    """Lets go of a stream's source until it is resumed; its tags end."""
    _show(_tell(socket, timeout, "pause", name=name))


@ctl.command()
def resume(name: Stream, socket: Socket = None, timeout: Timeout = LATER) -> None:
    """Opens the source of a paused stream anew; a file begins at its beginning."""
    _show(_tell(socket, timeout, "resume", name=name))


@ctl.command()
def reload(socket: Socket = None, timeout: Timeout = LATER) -> None:
    """Reads the configuration file again and changes what differs; a faulty one changes nothing."""
    _show(_tell(socket, timeout, "reload"))


@ctl.command("set")
def set_(
    key: Annotated[str, typer.Argument(help="Such as taggers.default.tuning.deny.")],
    value: Annotated[str, typer.Argument(help='TOML, such as 0.5 or ["harp"]; else text.')],
    socket: Socket = None,
    timeout: Timeout = LATER,
) -> None:
    """Sets a key of the running configuration, until the file is read again."""
    _show(_tell(socket, timeout, "set", table=_value(key, value)))


@ctl.command()
def unset(
    key: Annotated[str, typer.Argument(help="Such as defaults.language, or a table, as web.")],
    socket: Socket = None,
    timeout: Timeout = LATER,
) -> None:
    """Takes a key out of the running configuration, until the file is read again."""
    _show(_tell(socket, timeout, "set", table=_without(_value(key, "0"))))


@ctl.command()
def shadow(
    tagger: Tagger,
    bundle: Annotated[Path | None, typer.Argument(help="The other model; none ends it.")] = None,
    socket: Socket = None,
    timeout: Timeout = LATER,
) -> None:
    """Lets another model listen beside a tagger; `status` says how far they agree."""
    where = None if bundle is None else str(bundle.absolute())
    _show(_tell(socket, timeout, "shadow", tagger=tagger, bundle=where))


@ctl.command()
def swap(
    tagger: Tagger,
    bundle: Annotated[
        Path | None, typer.Argument(help="The other model; none: its shadow, or its file again.")
    ] = None,
    socket: Socket = None,
    timeout: Timeout = LATER,
) -> None:
    """Gives a tagger another model, between two windows of every stream."""
    where = None if bundle is None else str(bundle.absolute())
    _show(_tell(socket, timeout, "swap", tagger=tagger, bundle=where))
