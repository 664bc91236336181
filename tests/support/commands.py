"""The commands of streamtag, run by tests as a user types them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from streamtag.cli import main
from support.sounds import tone, write_wav

SECONDS = 60
RATE = 22050


def make_song(folder: Path) -> Path:
    """Writes a recording: a low tone for 2 s, then a high tone for 2 s."""
    samples = np.concatenate([tone(2, RATE, 200), tone(2, RATE, 3000)])
    return write_wav(folder / "song.wav", samples, RATE)


def run_here(*arguments: object) -> Result:
    """Runs a command in this process; a StreamtagError is in the result's `exception`."""
    return CliRunner().invoke(
        main.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"}
    )


def run_process(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own."""
    command = [sys.executable, "-m", "streamtag", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, cwd=cwd, check=False
    )
