"""The table "How many streams" of docs/operation.md, in some minutes of an idle machine.

    python benchmarks/operation_table.py [--seconds 2] [--warm 5] [--budget 20] [--limit 210]
                                         [--only NAME …] [--no-daemon] [--json FILE]

Two workers, each on a CPU of its own, measure the models side by side, each model in a process of
`streams.py`, the rows of the papers first. They count CPU time, so they disturb each other through
shared caches only, and the plain loop beside as much. No model is begun after `--limit` seconds,
and one that fails or takes longer than that costs its own row only. Then `daemon.py --only 500`
measures one daemon on both CPUs. The last lines are the rows of the table in Markdown. With
published weights missing, their rows are missing, too. Less than 5 s to warm up measure the first
windows of all streams at once, not what comes after them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Thread

from rows import Row, parser, write

HERE = Path(__file__).resolve().parent
TITLES = {
    "vggish_moodtheme": "MTG-Jamendo VGG-ish (29 s, every 1.5 s)",
    "streaming": "recipe `streaming` of the size of `general-1` (every 0.37 s)",
    "jamendo_fcn": "FCN, Jamendo (29 s, every 1.5 s)",
    "jamendo_crnn": "CRNN, Jamendo (29 s, every 1.5 s)",
    "jamendo_musicnn": "musicnn, Jamendo (3 s, every 0.75 s)",
    "general-2": "`general-2` (every 0.96 s)",
    "instruments-1": "`instruments-1` (every 0.49 s)",
}
"""In the order in which they are measured."""
DAEMON_STREAMS = 500


def measure(name: str, cpu: int, seconds: float, options: argparse.Namespace) -> dict[str, float]:
    """The rows of one model, measured on one CPU; none if it fails or takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / "streams.py"), "--only", name, "--json", str(result)]
        for option in ("seconds", "warm", "budget"):
            command += [f"--{option}", str(getattr(options, option))]
        process = subprocess.Popen(command)
        os.sched_setaffinity(process.pid, {cpu})  # before it has started a thread
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            print(f"{name}: not done after {seconds:.0f} s", flush=True)
        return values_of(result)


def values_of(result: Path) -> dict[str, float]:
    """What a benchmark has written, if it came to its end."""
    if not result.exists():
        return {}
    return {row["name"]: row["value"] for row in json.loads(result.read_text())}


def measure_models(options: argparse.Namespace) -> dict[str, float]:
    """The rows of all models; each CPU, at most two, takes the next one that waits."""
    values, waiting = dict[str, float](), list(options.only or TITLES)
    end = time.monotonic() + options.limit

    def take_turns(cpu: int) -> None:
        while waiting and time.monotonic() < end:
            values.update(measure(waiting.pop(0), cpu, options.limit, options))

    workers = [
        Thread(target=take_turns, args=(cpu,)) for cpu in sorted(os.sched_getaffinity(0))[:2]
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if waiting:
        print(f"no time was left for {', '.join(waiting)}")
    return values


def measure_daemon() -> dict[str, float]:
    """The rows of one daemon with many streams."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "daemon.json"
        command = [sys.executable, str(HERE / "daemon.py"), "--only", str(DAEMON_STREAMS)]
        subprocess.run([*command, "--seconds", "15", "--json", str(result)], check=False)
        return values_of(result)


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
    arguments.add_argument("--warm", type=float, default=5.0, help="seconds before them")
    arguments.add_argument("--budget", type=float, default=20.0, help="CPU seconds of each search")
    arguments.add_argument("--limit", type=float, default=210.0, help="seconds for all models")
    arguments.add_argument("--only", nargs="*", default=[], help="only these models")
    arguments.add_argument("--no-daemon", action="store_true", help="skip the daemon")
    options = arguments.parse_args()
    values = measure_models(options)
    if not options.no_daemon:
        values |= measure_daemon()
    for name in TITLES:
        if f"streams_per_core/{name}" in values:
            print(table_row(name, values))
    write([Row(name, value, "") for name, value in values.items()], options.json)


if __name__ == "__main__":
    main()
