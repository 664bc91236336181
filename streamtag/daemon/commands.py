"""What a running daemon can be told: one JSON object per line, checked before anybody acts on it.

{"command": "pause", "name": "radio1"}      {"ok": true, "result": {"paused": "radio1"}}
{"command": "list", "id": 7}                {"ok": true, "result": [...], "id": 7}
{"command": "fly"}                          {"ok": false, "error": "..."}
"""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from streamtag.config.tuning import Name, Table, Text
from streamtag.errors import ControlError

LONGEST = 65_536
"""Bytes of one request."""


class _Command(Table):
    id: int | str | None = None
    """Comes back with the reply."""


class PlainCommand(_Command):
    """`list` and `status` say how things are; `reload` reads the configuration file again."""

    command: Literal["list", "status", "reload"]


class StreamCommand(_Command):
    """Of one stream."""

    command: Literal["remove", "pause", "resume"]
    name: Name


class AddCommand(_Command):
    """A new stream; `stream` is its table in the configuration."""

    command: Literal["add"]
    name: Name
    stream: dict[str, Any]


class SetCommand(_Command):
    """Keys of the configuration; `table` is laid over it, and null takes a key away."""

    command: Literal["set"]
    table: dict[str, Any]


class SwapCommand(_Command):
    """Another model for a tagger; without `bundle` its shadow, or else its own file again."""

    command: Literal["swap"]
    tagger: Name
    bundle: Text | None = None


class ShadowCommand(_Command):
    """Another model listens beside a tagger and is compared; without `bundle` that ends."""

    command: Literal["shadow"]
    tagger: Name
    bundle: Text | None = None


Request = PlainCommand | StreamCommand | AddCommand | SetCommand | SwapCommand | ShadowCommand
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="command")])
COMMANDS = "list, status, reload, add, remove, pause, resume, set, swap, shadow"


def parse_request(line: bytes) -> Request:
    """A request from its line.

    Raises:
        ControlError: it is none.
    """
    try:
        return _REQUEST.validate_json(line)
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"].startswith("union_tag"):
            words = f"expected a command, one of {COMMANDS}"
        else:
            words = _words(fault["type"], fault["msg"], fault["loc"][1:])
    except (ValueError, RecursionError) as error:
        words = f"expected a JSON object in one line: {error}"
    raise ControlError(f"request: {words}; got {line[:80]!r}")


def _words(kind: str, message: str, path: tuple[int | str, ...]) -> str:
    """What pydantic has against one key, in our words."""
    key = repr(".".join(map(str, path)))[:60]
    if kind == "extra_forbidden":
        return f"unknown key {key}"
    if kind == "missing":
        return f"missing key {key}"
    if kind == "string_pattern_mismatch":
        message = "1 to 64 of the characters A-Z a-z 0-9 . _ -"
    expected = re.sub(r"^Input should (be|have) ", "", message)
    return f"{key}: expected {expected}" if path else f"expected JSON: {message}"


def reply(request: Request | None, result: object) -> bytes:
    """The line that answers a request; an exception for `result` says that it failed."""
    failed = isinstance(result, Exception)
    body: dict[str, Any] = {"ok": not failed, "error" if failed else "result": result}
    if failed:
        body["error"] = str(result)
    if request is not None and request.id is not None:
        body["id"] = request.id
    return json.dumps(body, ensure_ascii=True, default=str).encode() + b"\n"
