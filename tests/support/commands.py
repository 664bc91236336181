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
    """A recording: low for 2 s, then high for 2 s."""
    samples = np.concatenate([tone(2, RATE, 200), tone(2, RATE, 3000)])
    return write_wav(folder / "song.wav", samples, RATE)


def run_here(*words: object) -> Result:
    """Runs a command in this process; a StreamtagError is in `exception`."""
    return CliRunner().invoke(main.app, [str(word) for word in words], env={"COLUMNS": "200"})


def run_process(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own."""
    command = [sys.executable, "-m", "streamtag", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, cwd=cwd, check=False
    )
