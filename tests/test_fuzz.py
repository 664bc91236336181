"""The benchmark that fuzzes by the million, with a few hundred inputs of each kind."""

import subprocess
import sys

from support.paths import ROOT

COUNT = 400


def test_nothing_that_strangers_send_ends_in_a_failure() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--count", str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) >= 11
    assert all(f": {COUNT} inputs in " in line for line in lines), done.stdout
