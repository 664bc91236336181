"""The commands of streamtag, run by tests as a user types them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from streamtag.cli import main
from support import forked
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


def run_process(
    *arguments: object, cwd: Path | None = None, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own; a `fresh` one imports torch itself, as users' do."""
    words = ["-m", "streamtag", *map(str, arguments)]
    if not fresh:
        return forked.run(*words, timeout=SECONDS, cwd=cwd)
    command = [sys.executable, *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, cwd=cwd, check=False
    )
