"""What commands print beside their results. Like `cli`, it may print."""

import sys
from pathlib import Path

from rich.console import Console

from streamtag.errors import StreamtagError


def note(text: str) -> None:
    """A line for people, on standard error."""
    Console(stderr=True, soft_wrap=True).print(text, style="dim", markup=False, highlight=False)


def write(text: str, output: Path | None) -> None:
    """A result, to a file or to standard output.

    Raises:
        StreamtagError: the file cannot be written.
    """
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise StreamtagError(f"{output}: cannot be written: {error.strerror}") from None
