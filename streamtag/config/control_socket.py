"""The control socket of a running daemon: where it is, and how to send it a command."""

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from streamtag.errors import ControlError

LONGEST = 65_536
"""The most bytes of a request."""


def default_path() -> Path:
    """The path of the socket of this user's daemon, unless it is configured."""
    if folder := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(folder.split(":")[0]) / "streamtag.sock"
    if folder := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(folder) / "streamtag" / "streamtag.sock"
    return Path(tempfile.gettempdir()) / f"streamtag-{os.getuid()}" / "streamtag.sock"


def send_command(path: Path, command: dict[str, Any], timeout: float | None = None) -> Any:
    """Sends a command to a daemon, and waits for its reply.

    Args:
        path: of its socket.
        command: such as `{"command": "list"}`; see `Request`.
        timeout: seconds. None waits as long as it takes.

    Raises:
        ControlError: no daemon is there, or it refuses the command.
    """
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps(command, default=str).encode() + b"\n")
            while not answer.endswith(b"\n"):
                if not (data := connection.recv(LONGEST)):
                    raise ControlError(f"control {path}: the daemon ended before it answered")
                answer += data
    except TimeoutError:
        raise ControlError(
            f"control {path}: expected an answer within {timeout:g} s, got none; the daemon "
            "is busy or hangs, and may still do it: see its log, or wait longer (--timeout)"
        ) from None
    except PermissionError:
        raise ControlError(
            f"control {path}: expected a daemon of this user, got Permission denied; "
            "it belongs to another one: become that user"
        ) from None
    except OSError as error:
        raise ControlError(
            f"control {path}: expected a running daemon, got {error.strerror or error}; "
            "is it running, and is that its socket (--socket)?"
        ) from None
    return _result(path, answer)


def _result(path: Path, answer: bytes) -> Any:
    """The result in a reply."""
    try:
        body = json.loads(answer)
        good, result = body["ok"], body["result" if body["ok"] else "error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ControlError(
            f"control {path}: expected a daemon's answer, got {answer[:60]!r}; is that its socket?"
        ) from None
    if not good:
        raise ControlError(str(result))
    return result
