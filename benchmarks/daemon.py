"""The daemon as users run it, on one core: latency of results, and CPU and memory per stream.

    python benchmarks/daemon.py [--model models/general-1.pt …] [--streams 100] [--seconds 20]

`streamtag run`, bound to one core, tags streams of raw 44.1 kHz PCM over TCP, one connection each,
that a server in another process plays live in blocks of 100 ms with random phases; a subscriber in
this process receives all results. Latency is from the moment at which a window's last sample was
played (so a block of 100 ms waits up to 100 ms) to the result at the subscriber. It includes
network, threads, front end, queue, model, smoothing, journal and feed, but no decoding.
With `--streams 0` the benchmark searches for the most of 25, 50, 100 … streams whose p99 stays
below 250 ms with nothing dropped. Other load on the machine changes the figures.
"""

import argparse
import asyncio
import ctypes
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from rows import Row, parser, write

from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Dropped, Gap, Scores

ROOT = Path(__file__).resolve().parents[1]
RATE, BLOCK = 44100, 4410
LIMIT = 0.25
SETTLING = 5.0
"""The seconds after the start of the last stream that are not measured."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measurements of one daemon."""

    streams: int
    p50: float
    p99: float
    """Seconds."""
    lost: int
    """Windows dropped and gaps."""
    share: float
    """Share of the core per stream."""
    megabytes: float
    """Resident memory of the whole process, in MB."""

    @property
    def acceptable(self) -> bool:
        return self.p99 <= LIMIT and not self.lost


def play(pipe: Connection, started: "ctypes.Array[ctypes.c_double]") -> None:
    """Serves PCM on a port per stream and sends the ports; stores when each stream started."""
    rng = np.random.default_rng(0)
    t = np.arange(4 * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * f * t) for f in (110, 440, 1760, 5000))
    noise = 0.05 * tones + 0.02 * rng.standard_normal(len(t))
    audio = (noise * 32767).astype("<i2").tobytes()

    async def serve(i: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(rng.uniform(0, BLOCK / RATE))
        started[i], sent, k = time.time(), 0, 0
        try:
            while True:
                sent += 1
                await asyncio.sleep(started[i] + sent * BLOCK / RATE - time.time())
                k = (k + 2 * BLOCK) % (len(audio) - 2 * BLOCK)
                writer.write(audio[k : k + 2 * BLOCK])
                await writer.drain()
        except OSError:
            writer.close()

    async def run() -> None:
        servers = [
            await asyncio.start_server(lambda _, writer, i=i: serve(i, writer), "127.0.0.1", 0)
            for i in range(len(started))
        ]
        pipe.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.Event().wait()

    asyncio.run(run())


def configuration(folder: Path, model: Path, ports: list[int]) -> Path:
    """Writes the configuration of a daemon with a stream per port."""
    lines = [
        "[feed]\nbind = 'tcp://127.0.0.1:0'\nwait_for_subscriber_seconds = 30\n"
        "journal = 'journal.db'\n[control]\nsocket = 'control.sock'\n",
        f"[taggers.x]\nbundle = '{model.resolve()}'\n",
    ]
    for i, port in enumerate(ports):
        lines.append(
            f"[streams.s{i}]\nsource = 'tcp://127.0.0.1:{port}'\nrate = {RATE}\nchannels = 1\n"
            "format = 's16le'\n"
        )
    made = folder / "daemon.toml"
    made.write_text("\n".join(lines))
    return made


def cpu_and_memory(pid: int) -> tuple[float, float]:
    """CPU seconds so far and resident MB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / ticks, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def start(path: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Starts the daemon on the last core; returns its process and the address of its feed."""
    core = max(os.sched_getaffinity(0))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamtag", "run", str(path)],
            stdout=out,
            stderr=out,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    while "tcp://127.0.0.1:" not in (text := log.read_text()):
        if process.poll() is not None:
            raise SystemExit(f"the daemon ended: {text}")
        time.sleep(0.1)
    return process, "tcp://127.0.0.1:" + text.split("tcp://127.0.0.1:")[1].split()[0].strip(",;.")


def measure(pid: int, address: str, started: Sequence[float], seconds: float) -> Measurement:
    """Measures a daemon through a subscriber."""
    latencies: list[float] = []
    lost, first, cpu = 0, 0.0, 0.0
    with Subscriber(address, scores=True, timeout=60) as feed:
        for message in feed:
            now = time.time()
            if not all(started) or now < max(started) + SETTLING:
                continue
            if not first:
                first, (cpu, _) = now, cpu_and_memory(pid)
            if isinstance(message, Scores):
                latencies.append(now - started[int(message.stream[1:])] - message.t)
            lost += isinstance(message, Gap)
            lost += message.windows if isinstance(message, Dropped) else 0
            if now > first + seconds:
                break
    used, memory = cpu_and_memory(pid)
    share = (used - cpu) / (now - first) / len(started)
    p50, p99 = np.quantile(latencies, [0.5, 0.99])
    return Measurement(len(started), float(p50), float(p99), lost, share, memory)


def live(model: Path, streams: int, seconds: float) -> Measurement:
    """Runs one daemon with so many streams."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    started = spawn.Array("d", streams, lock=False)
    player = spawn.Process(target=play, args=(theirs, started))
    player.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = configuration(Path(folder), model, ours.recv())
            process, address = start(path, Path(folder) / "log")
            try:
                found = measure(process.pid, address, started, seconds)
            finally:
                process.terminate()
                process.wait(30)
    finally:
        player.terminate()
        player.join()
    print(
        f"{model.stem}, {streams} streams: p50 {found.p50 * 1000:.0f} ms, p99 "
        f"{found.p99 * 1000:.0f} ms, {found.lost} lost, {found.share:.2%} of a core and "
        f"{found.megabytes / streams:.2f} MB a stream",
        flush=True,
    )
    return found


def most_streams(model: Path, seconds: float) -> Measurement:
    """Doubles the number of streams until it is not acceptable; returns the last that was."""
    best, n = live(model, 25, seconds), 50
    while best.acceptable and (more := live(model, n, seconds)).acceptable:
        best, n = more, n * 2
    return best


def rows(model: Path, options: argparse.Namespace) -> list[Row]:
    """All rows of one model."""
    alone = live(model, 1, options.seconds / 4)
    many = options.streams
    found = live(model, many, options.seconds) if many else most_streams(model, options.seconds)
    memory = (found.megabytes - alone.megabytes) / max(1, found.streams - 1)
    return [
        Row(f"daemon/streams/{model.stem}", found.streams, "streams"),
        Row(f"daemon/latency_p50_ms/{model.stem}", found.p50 * 1000, "ms"),
        Row(f"daemon/latency_p99_ms/{model.stem}", found.p99 * 1000, "ms"),
        Row(f"daemon/core_percent_per_stream/{model.stem}", found.share * 100, "%"),
        Row(f"daemon/memory_mb_per_stream/{model.stem}", memory, "MB"),
        Row(f"daemon/lost/{model.stem}", found.lost, "windows"),
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, action="append", help="these bundles")
    arguments.add_argument("--streams", type=int, default=100, help="0 searches for the most")
    arguments.add_argument("--seconds", type=float, default=20.0)
    options = arguments.parse_args()
    models = options.model or [ROOT / "models" / "general-1.pt"]
    write([row for model in models for row in rows(model, options)], options.json)


if __name__ == "__main__":
    main()
