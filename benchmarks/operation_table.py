"""The table "How many streams" of docs/operation.md, in less than six minutes of an idle machine.

    python benchmarks/operation_table.py [--seconds 2] [--warm 3] [--json FILE]

Two processes of `streams.py`, each on a CPU of its own, measure the models side by side. They
count CPU time, so they disturb each other through shared caches only, and the plain loop beside as
much. Then `daemon.py --only 500` measures one daemon on both CPUs. The last lines are the rows of
the table in Markdown. With published weights missing, their rows are missing, too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rows import Row, parser, write

HERE = Path(__file__).resolve().parent
SHARES = (
    ("general-2", "vggish_moodtheme", "jamendo_musicnn"),
    ("streaming", "instruments-1", "jamendo_fcn", "jamendo_crnn"),
)
"""The models of each process; they take about as long together."""
TITLES = {
    "general-2": "`general-2` (every 1.92 s)",
    "streaming": "recipe `streaming` of its size (every 0.37 s)",
    "instruments-1": "`instruments-1` (every 0.49 s)",
    "vggish_moodtheme": "MTG-Jamendo VGG-ish (29 s, every 1.5 s)",
    "jamendo_fcn": "FCN, Jamendo (29 s, every 1.5 s)",
    "jamendo_musicnn": "musicnn, Jamendo (3 s, every 0.75 s)",
    "jamendo_crnn": "CRNN, Jamendo (29 s, every 1.5 s)",
}
DAEMON_STREAMS = 500


def start(
    share: Sequence[str], cpu: int, result: Path, options: argparse.Namespace
) -> subprocess.Popen[bytes]:
    """Starts `streams.py` on one CPU."""
    command = [sys.executable, str(HERE / "streams.py"), "--only", *share, "--json", str(result)]
    times = ["--seconds", str(options.seconds), "--warm", str(options.warm)]
    process = subprocess.Popen([*command, *times])
    os.sched_setaffinity(process.pid, {cpu})  # before it has started a thread
    return process


def table_row(name: str, values: Mapping[str, float]) -> str:
    """A row of the table."""
    ours, naive = values[f"streams_per_core/{name}"], values[f"naive/streams_per_core/{name}"]
    memory = values[f"memory_mb_per_stream/{name}"], values[f"naive/memory_mb_per_stream/{name}"]
    return (
        f"| {TITLES[name]} | {ours:.0f} | {naive:.0f} | {ours / naive:.1f} | "
        f"{memory[0]:.1f} / {memory[1]:.0f} |"
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=2.0, help="of each trial")
    arguments.add_argument("--warm", type=float, default=3.0, help="seconds before them")
    options = arguments.parse_args()
    cpus, values = sorted(os.sched_getaffinity(0)), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder) / f"{i}.json" for i in range(len(SHARES))]
        going = [
            start(share, cpus[i % len(cpus)], results[i], options) for i, share in enumerate(SHARES)
        ]
        if any([one.wait() for one in going]):
            raise SystemExit("streams.py failed, see above")
        daemon = Path(folder) / "daemon.json"
        command = [sys.executable, str(HERE / "daemon.py"), "--only", str(DAEMON_STREAMS)]
        subprocess.run([*command, "--trace", "--json", str(daemon)], check=True)
        for path in (*results, daemon):
            values |= {row["name"]: row["value"] for row in json.loads(path.read_text())}
    for name in TITLES:
        if f"streams_per_core/{name}" in values:
            print(table_row(name, values))
    write([Row(name, value, "") for name, value in values.items()], options.json)


if __name__ == "__main__":
    main()
