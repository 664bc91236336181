"""The control socket: requests, and the server in a running daemon.

Requests and replies are JSON objects, one per line, over a Unix-domain socket:

{"command": "pause", "name": "radio1"}      {"ok": true, "result": {"paused": "radio1"}}
{"command": "list", "id": 7}                {"ok": true, "result": [...], "id": 7}
{"command": "fly"}                          {"ok": false, "error": "..."}
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from streamtag.config.control_socket import LONGEST
from streamtag.config.fields import Checksum, ConfigTable, Name, Text
from streamtag.errors import ControlError, complaint

log = logging.getLogger(__name__)

MOST_CLIENTS = 32
"""One connection more closes the oldest that waits for no reply."""


class _Command(ConfigTable):
    id: int | str | None = None
    """The reply has the same."""


class PlainCommand(_Command):
    """`list` and `status` report the state, `alerts` what is raised, `config` what streams and
    models run with. `reload` reads the configuration file again."""

    command: Literal["list", "status", "alerts", "config", "reload"]


class StreamCommand(_Command):
    """Commands about one stream."""

    command: Literal["remove", "pause", "resume"]
    name: Name


class AckCommand(_Command):
    """Acknowledges the raised alerts of a rule, or one alert by its id."""

    command: Literal["ack"]
    alert: Text
    stream: Name | None = None
    by: Text = ""
    note: Text = ""


class AddCommand(_Command):
    """Adds a stream. `stream` is its table in the configuration."""

    command: Literal["add"]
    name: Name
    stream: dict[str, Any]


class SetCommand(_Command):
    """Sets keys of the configuration. `table` is merged into it; null removes a key."""

    command: Literal["set"]
    table: dict[str, Any]


class ModelCommand(_Command):
    """`swap` gives a tagger another model; without `bundle` its shadow, or its own file again.
    `shadow` compares another model with a tagger; without `bundle` the comparison ends. `sha256` is
    the pin of a swap, instead of the configured one."""

    command: Literal["swap", "shadow"]
    tagger: Name
    bundle: Text | None = None
    sha256: Checksum | None = None


ControlRequest = PlainCommand | AckCommand | StreamCommand | AddCommand | SetCommand | ModelCommand
_REQUEST: TypeAdapter[ControlRequest] = TypeAdapter(
    Annotated[ControlRequest, Field(discriminator="command")]
)
COMMANDS: dict[str, type[_Command]] = {
    name: kind
    for kind in get_args(ControlRequest)
    for name in get_args(kind.model_fields["command"].annotation)
}


def parse_request(line: bytes) -> ControlRequest:
    """Parses one line.

    Raises:
        ControlError: it is no request.
    """
    try:
        return _REQUEST.validate_json(line)
    except ValidationError as error:
        fault = error.errors()[0]
        tag, *path = fault["loc"] or [""]
        if fault["type"].startswith("union_tag"):
            words = f"expected a command, one of {', '.join(COMMANDS)}"
        elif path:
            words = complaint({**fault, "loc": path}, COMMANDS[str(tag)])
        else:
            words = f"expected JSON: {fault['msg']}"
    except (ValueError, RecursionError) as error:
        words = f"expected a JSON object in one line: {error}"
    raise ControlError(f"request: {words}; got {line[:80]!r}")


def reply(request: ControlRequest | None, result: object) -> bytes:
    """The line of a reply. An exception as `result` means that the request failed."""
    failed = isinstance(result, Exception)
    body: dict[str, Any] = {"ok": not failed, "error" if failed else "result": result}
    if failed:
        body["error"] = str(result)
    if request is not None and request.id is not None:
        body["id"] = request.id
    return json.dumps(body, ensure_ascii=True, default=str).encode() + b"\n"


class ControlServer:
    """The server, an event loop in a thread of its own.

    Each client has at most one request in progress. What it sends beyond that stays in the
    kernel's buffers, so that a client that floods, hangs or goes away delays no other one.

    Args:
        path: of the socket. A file that a dead daemon left behind is replaced.
        submit: takes a request, and must not wait. Its future cannot be cancelled.

    Raises:
        ControlError: another daemon has the path, or it cannot be used.
    """

    def __init__(self, path: Path, submit: Callable[[ControlRequest], Future[object]]) -> None:
        self.path, self._submit = path, submit
        self._lock, listener = _bind(path)
        self._clients: dict[asyncio.StreamWriter, bool] = {}  # oldest first; whether it is busy
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_unix_server(
                self._serve, sock=listener, limit=LONGEST, backlog=socket.SOMAXCONN
            )
        )
        self._thread = threading.Thread(target=self._loop.run_forever, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sends the replies that are there, closes all connections and removes the socket."""
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.path.unlink(missing_ok=True)
        os.close(self._lock)

    async def _shut_down(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one client, request by request."""
        self._clients[writer] = False
        if len(self._clients) > MOST_CLIENTS:
            self._close_oldest()
        try:
            while (line := await _read_line(reader)) != b"":
                writer.write(await self._reply_to(line, writer))
                await writer.drain()
        except (OSError, asyncio.CancelledError) as error:  # gone, or the server shuts down
            log.debug("control: a connection ends: %r", error)
        finally:
            self._clients.pop(writer, None)
            writer.close()

    def _close_oldest(self) -> None:
        idle = (client for client, busy in self._clients.items() if not busy)
        oldest = next(idle, next(iter(self._clients)))
        del self._clients[oldest]
        oldest.transport.abort()

    async def _reply_to(self, line: bytes | None, writer: asyncio.StreamWriter) -> bytes:
        """The reply to a line; None is one that was too long."""
        if line is None:
            return reply(None, ControlError(f"request: longer than {LONGEST} bytes"))
        try:
            request = parse_request(line.removesuffix(b"\n"))
        except ControlError as error:
            return reply(None, error)
        self._clients[writer] = True
        result: object
        try:
            result = await asyncio.wrap_future(self._submit(request))
        except Exception as error:
            result = error
        if writer in self._clients:
            self._clients[writer] = False
        return reply(request, result)


async def _read_line(reader: asyncio.StreamReader) -> bytes | None:
    """The next line; empty at the end of the connection, None for a line that is too long."""
    try:
        line = await reader.readline()
    except ValueError:
        return None
    return line if line.endswith(b"\n") else b""


def _bind(path: Path) -> tuple[int, socket.socket]:
    """The lock of a running daemon, and the listening socket, for this user only."""
    with contextlib.ExitStack() as stack:  # closes both if one cannot be used
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
            stack.callback(os.close, lock)
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            os.fchmod(listener.fileno(), 0o600)  # Linux gives the file this mode
            listener.bind(str(path))
            path.chmod(0o600)
        except BlockingIOError:
            raise ControlError(
                f"control {path}: another daemon takes its commands there; give this one another "
                "control.socket"
            ) from None
        except (OSError, ValueError) as error:
            expected = "expected a path for a socket"
            raise ControlError(f"control {path}: {expected}, got {error}") from None
        stack.pop_all()
    return lock, listener
