"""How commands print: results on standard output, notes and errors on standard error."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from streamtag.errors import StreamtagError

PIPE_WIDTH = 250
"""Columns of a table that is no picture for a terminal but text for `grep`."""


def note(text: str) -> None:
    """Prints a line for people on standard error."""
    Console(stderr=True, soft_wrap=True).print(text, style="dim", markup=False, highlight=False)


def table_console() -> Console:
    """A console for tables: as wide as the terminal; in a pipe as wide as a row."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console()
    return Console(width=PIPE_WIDTH)


def print_error(error: StreamtagError) -> None:
    """Prints an error in red on standard error."""
    Console(stderr=True, soft_wrap=True).print("streamtag:", f"{error}", style="red", markup=False)


def print_json(value: Any) -> None:
    """Prints a result for programs. NaN is printed as Python spells it."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def write(text: str, output: Path | None) -> None:
    """Writes a result to a file, or to standard output if there is no path.

    Raises:
        StreamtagError: the file cannot be written.
    """
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise StreamtagError(
            f"{output}: expected a path that can be written, got {error.strerror}"
        ) from None


def log_warnings() -> None:
    """Has warnings of the library printed on standard error."""
    logging.basicConfig(level=logging.WARNING, format="streamtag: %(message)s")
