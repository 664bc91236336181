"""`streamtag archive` beside a plain loop: hours of audio per minute and core.

    python benchmarks/archive.py [--files 32] [--minutes 5] [--cores 1 2] [--nodes 1 2 4]
        [--musicnn musicnn-0.1.0-py3-none-any.whl]

The recordings are MP3s of 128 kbit/s, 44.1 kHz, stereo. Each contender is a command in a process of
its own. Time is from start to end; `after_start` is without the start, measured with a recording
of a second. `cpu` is by CPU time of all processes that the command has started, Ray's and decoders
too: other work on the machine disturbs it less.

- archive: `streamtag archive` with the default model and a Ray of its own, on so many cores.
- plain: a pool of as many processes; in each, ffmpeg decodes, torchaudio resamples and makes
  log-mel frames, and the same TorchScript model gets the windows of a recording in batches of 64,
  with one thread of torch.
- essentia: a pool of as many processes with Essentia's loader, its frames and its MusiCNN
  (`MonoLoader`, `TensorflowPredictMusiCNN` as it is by default: a window of 3 s every 1.5 s), with
  one thread of TensorFlow. It needs the package `essentia-tensorflow`, which has no weights. Those
  of the package `musicnn` are the same net: `pip download --no-deps musicnn==0.1.0`, `--musicnn`.
- nodes: the archive on a Ray cluster of so many nodes on this machine, which share its cores: what
  a cluster costs, not what it gains.
"""

import ctypes
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from musicnn_graph import write_graph
from rows import Row, parser, write
from tag import Cost, plain, recordings

from streamtag.model.shipped import default_bundle

PR_SET_CHILD_SUBREAPER = 36
GRAPH = "STREAMTAG_BENCHMARK_GRAPH"
"""Environment variable: the graph of TensorFlow that Essentia runs."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def cost(command: Sequence[str], environment: Mapping[str, str], cores: int | None) -> Cost:
    """What a command takes on so many cores, with all processes that it has started.

    With `cores` None others of our processes are alive, and CPU time is not measured.
    """
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    before, began = cpu_of_children(), time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | environment, preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )  # fmt: skip
    wall = time.perf_counter() - began
    if cores is None:
        return Cost(math.nan, wall)
    with suppress(ChildProcessError):  # Ray's processes, which have become ours
        while True:
            os.wait()
    return Cost(cpu_of_children() - before, wall)


def cpu_of_children() -> float:
    """Seconds of CPU of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def archive(files: Sequence[Path], cores: int | None, address: str = "") -> Cost:
    """What `streamtag archive` takes."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *map(str, files),
            "-o",
            f"{folder}/OUT",
            *(["--address", address] if address else []),
        ]
        return cost([sys.executable, "-m", "streamtag", "archive", *words], {}, cores)


def plain_one(file: str) -> None:
    """One recording of the plain loop."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        plain(default_bundle(), [Path(file)])


@cache
def musicnn(graph: str) -> Any:
    """Essentia's MusiCNN, once in each process."""
    import essentia.standard

    return essentia.standard.TensorflowPredictMusiCNN(graphFilename=graph)


def essentia_one(file: str) -> None:
    """One recording through Essentia's loader, frames and MusiCNN."""
    from essentia.standard import MonoLoader

    probabilities = musicnn(os.environ[GRAPH])(MonoLoader(filename=file, sampleRate=16000)())
    print(np.mean(probabilities, axis=0).tolist(), file=sys.stderr)


def why_no_essentia(weights: Path | None) -> str:
    """Why Essentia's MusiCNN cannot run; empty if it can."""
    if not find_spec("essentia"):
        return "essentia-tensorflow is not installed"
    import essentia.standard

    if not hasattr(essentia.standard, "TensorflowPredictMusiCNN"):
        return "essentia is installed without TensorFlow; install essentia-tensorflow"
    return "" if weights else "no weights; give --musicnn"


def pool(name: str, files: Sequence[str], processes: int) -> None:
    """A pool of processes over the recordings."""
    one = {"plain": plain_one, "essentia": essentia_one}[name]
    with get_context("spawn").Pool(processes) as made:
        made.map(one, files, chunksize=1)


def looped(name: str, files: Sequence[Path], cores: int) -> Cost:
    """What a pool takes."""
    words = [__file__, *map(str, files), "--pool", name, "--cores", str(cores)]
    return cost([sys.executable, *words], ONE_THREAD, cores)


def on_cores(cores: int, second: Path, files: Sequence[Path], hours: float) -> list[Row]:
    """All contenders on so many cores."""
    contenders = {"archive": lambda some: archive(some, cores)}
    contenders["plain"] = lambda some: looped("plain", some, cores)
    if GRAPH in os.environ:
        contenders["essentia"] = lambda some: looped("essentia", some, cores)
    starts = {name: run([second]) for name, run in contenders.items()}
    return [
        row
        for name, run in contenders.items()
        for row in speeds(name, cores, starts[name], run(files), hours)
    ]


def speeds(name: str, cores: int, start: Cost, whole: Cost, hours: float) -> list[Row]:
    """Hours of audio per minute and core, and per minute of CPU; also without the start."""
    after = Cost(max(1e-3, whole.cpu - start.cpu), max(1e-3, whole.wall - start.wall))
    found = {
        "": (60 * hours / whole.wall / cores, "h/min/core"),
        "_after_start": (60 * hours / after.wall / cores, "h/min/core"),
        "_cpu": (60 * hours / whole.cpu, "h/min"),
        "_cpu_after_start": (60 * hours / after.cpu, "h/min"),
    }
    time, time_after, cpu, cpu_after = (value for value, _ in found.values())
    print(
        f"{name}, {cores} cores: {time:.2f} h per minute and core, {time_after:.2f} after the "
        f"start of {start.wall:.1f} s; {cpu:.2f} h per minute of CPU, {cpu_after:.2f} after the "
        f"start of {start.cpu:.1f} s",
        flush=True,
    )
    return [
        Row(f"archive/{cores}_cores/{name}{end}", *value_and_unit)
        for end, value_and_unit in found.items()
    ]


def on_nodes(nodes: int, files: Sequence[Path], hours: float) -> Row:
    """The archive on a cluster of so many nodes with a CPU each."""
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    try:
        took = archive(files, None, cluster.address).wall
    finally:
        cluster.shutdown()
    print(f"{nodes} nodes on this machine: {hours / (took / 60):.2f} h per minute", flush=True)
    return Row(f"archive/{nodes}_nodes", hours / (took / 60), "h/min")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--files", type=int, default=32, help="recordings")
    arguments.add_argument("--minutes", type=float, default=5.0, help="of each")
    arguments.add_argument("--cores", type=int, nargs="*", default=[1, 2])
    arguments.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 4])
    arguments.add_argument("--musicnn", type=Path, help="wheel of the package musicnn")
    arguments.add_argument("--pool", help="run this pool over the files")
    arguments.add_argument("paths", nargs="*")
    options = arguments.parse_args()
    if options.pool:
        pool(options.pool, options.paths, options.cores[0])
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # Ray's processes outlive who starts them
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "x" * 32, "RAY_TMPDIR": "/tmp"}
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    with tempfile.TemporaryDirectory() as folder:
        second, one, *_ = recordings(Path(folder), options.minutes)
        files = [one, *(one.with_name(f"copy{i}.mp3") for i in range(options.files - 1))]
        for copy in files[1:]:
            os.link(one, copy)
        hours = options.files * options.minutes / 60
        if why := why_no_essentia(options.musicnn):
            print(f"essentia: left out: {why}", flush=True)
        else:
            os.environ[GRAPH] = f"{folder}/musicnn.pb"
            write_graph(options.musicnn, Path(os.environ[GRAPH]))
        rows = [row for cores in options.cores for row in on_cores(cores, second, files, hours)]
        rows += [on_nodes(nodes, files, hours) for nodes in options.nodes]
    write(rows, options.json)


if __name__ == "__main__":
    main()
