"""The daemon as users run it: what tagging costs beside decoding, latency, and how many streams.

    python benchmarks/daemon.py [--model models/x.pt …] [--stations 100] [--streams 100]
                                [--seconds 20] [--cores 2] [--trace] [--json FILE]

All processes share `--cores` cores. It takes less than ten minutes and prints ratios first.

1. Cost: a player in another process serves MP3 stations of 128 kbit/s over HTTP, live. A daemon
   tags them, and beside it ten plain ffmpegs decode ten of the same stations. CPU time is that of
   all threads of all processes of the daemon, as the kernel counts it. The daemon says how much of
   it its models took (`streamtag_model_cpu_seconds_total`, measured around each call). So the
   overhead is everything but model and decoding: the daemon less its models, and what its ffmpegs
   take beyond plain ones (resampling, for instance).
2. Latency and memory: one engine tags streams of raw 44.1 kHz PCM over TCP that a player sends in
   blocks of 100 ms with random phases. Latency is from the moment at which a window's last sample
   was played (so a block of 100 ms waits up to 100 ms) to the result at a subscriber in this
   process. It includes network, threads, front end, queue, model, smoothing, journal and feed.
   The audio is 20 s of tones and 8 s of silence, so that tags end and begin, of each stream at
   another moment: a stream has about one event in two seconds, as with music. All streams begin at
   the same moment, and so do their tags. What is late then is not in the figures, but in a row of
   its own: the seconds from the start of the last stream until results come in time.
3. Streams: the most of some numbers of such streams whose p99 stays below 250 ms with nothing lost,
   with `engine.workers = "auto"`, player and subscriber beside it on the same cores.

`--trace` prints latency, events and CPU of each second. `--only 500` measures one number of streams
and nothing else.

Without `--model` it is the recipe `streaming` with fresh weights. Other work on the machine changes
the figures.
"""

import argparse
import asyncio
import ctypes
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rows import Row, parser, write

from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Dropped, Gap, Scores
from streamtag.sources.ffmpeg import ffmpeg_path

RATE, BLOCK = 44100, 4410
LIMIT = 0.25
NUMBERS = (125, 250, 500, 750, 1000)
"""Streams to try."""
PLAIN = 10
"""Plain decoders beside the daemon."""
MP3_BYTES = 16000
"""Of a station, per second."""
BURST_SECONDS = 2.0
"""A station sends so much at once when a listener comes."""
SETTLING = 5.0
"""The seconds after the start of the last stream that are not measured."""
STARTING = 30.0
"""The start may take so long; what is late then counts."""
LOUD, SILENT = 20, 8
"""Seconds of tones and of silence in the audio of a stream."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measurements of one daemon."""

    streams: int
    p50: float
    p99: float
    """Seconds."""
    lost: int
    """Windows dropped and gaps."""
    megabytes: float
    """Resident memory of the daemon's processes, in MB."""
    start: float
    """Seconds from the start of the last stream until results come in time."""
    events: float
    """Messages per second beside scores."""

    @property
    def acceptable(self) -> bool:
        return self.p99 <= LIMIT and not self.lost


def play(pipe: Connection, started: "ctypes.Array[ctypes.c_double]") -> None:
    """Serves PCM on a port per stream and sends the ports; stores when each stream started."""
    rng = np.random.default_rng(0)
    t = np.arange(LOUD * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * f * t) for f in (110, 440, 1760, 5000))
    noise = 0.05 * tones + 0.02 * rng.standard_normal(len(t))
    audio = (noise * 32767).astype("<i2").tobytes() + bytes(2 * SILENT * RATE)

    async def serve(i: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(rng.uniform(0, BLOCK / RATE))
        started[i], sent = time.time(), 0
        k = 2 * BLOCK * int(rng.integers(len(audio) // (2 * BLOCK)))
        try:
            while True:
                sent += 1
                await asyncio.sleep(started[i] + sent * BLOCK / RATE - time.time())
                writer.write(audio[k : k + 2 * BLOCK])
                k = (k + 2 * BLOCK) % len(audio)
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


def play_stations(pipe: Connection, mp3: bytes) -> None:
    """Serves MP3 stations over HTTP, live, each listener with its own part; sends the port."""
    rng = np.random.default_rng(1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n")
            at, begun, sent = int(rng.integers(len(mp3))), time.time() + rng.uniform(-0.1, 0), 0.0
            while True:
                due = int((time.time() - begun + BURST_SECONDS) * MP3_BYTES)
                part = (mp3[at:] + mp3)[: due - int(sent)]
                writer.write(part)
                await writer.drain()
                at, sent = (at + len(part)) % len(mp3), sent + len(part)
                await asyncio.sleep(BLOCK / RATE)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(run())


def mp3_of_tones(folder: Path) -> bytes:
    """A minute of tones and noise as MP3 of 128 kbit/s."""
    path, t = folder / "station.mp3", np.arange(60 * RATE) / RATE
    rng = np.random.default_rng(0)
    sides = [
        0.1 * sum(np.sin(2 * np.pi * f * t) * (np.sin(f * t / 90) > 0) for f in pitches)
        + 0.01 * rng.standard_normal(len(t))
        for pitches in ((110, 440, 1760, 5000), (220, 330, 2500, 6000))
    ]
    audio = (np.stack(sides, axis=1) * 32767).astype("<i2").tobytes()
    form = ["-f", "s16le", "-ar", str(RATE), "-ac", "2", "-i", "-", "-b:a", "128k"]
    command = [ffmpeg_path(), "-v", "error", *form, "-write_xing", "0", str(path)]
    subprocess.run(command, input=audio, check=True)
    return path.read_bytes()


def configuration(
    folder: Path, model: Path, sources: Sequence[str], *, workers: str = "1", raw: bool = True
) -> Path:
    """Writes the configuration of a daemon with a stream per source."""
    lines = [
        "[feed]\nbind = 'tcp://127.0.0.1:0'\nwait_for_subscriber_seconds = 30\n"
        "journal = 'journal.db'\n[control]\nsocket = 'control.sock'\n"
        f"[engine]\nworkers = {workers}\n[metrics]\nbind = '127.0.0.1:0'\n",
        f"[taggers.x]\nbundle = '{model.resolve()}'\n",
    ]
    form = f"rate = {RATE}\nchannels = 1\nformat = 's16le'\n" if raw else ""
    lines += [f"[streams.s{i}]\nsource = '{place}'\n{form}" for i, place in enumerate(sources)]
    made = folder / "daemon.toml"
    made.write_text("\n".join(lines))
    return made


def family(pid: int) -> dict[int, bool]:
    """A process and all its descendants, and which of them are ffmpegs."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
                parents[int(entry.name)] = int(rest.split()[1]), "ffmpeg" in name
            except OSError:
                continue  # it has ended
    found, new = {pid: False}, {pid}
    while new:
        new = {child for child, (parent, _) in parents.items() if parent in new}
        found |= {child: parents[child][1] for child in new}
    return found


def family_with(pid: int, decoders: int) -> dict[int, bool]:
    """`family`, once it has so many decoders."""
    for _ in range(120):
        if sum((found := family(pid)).values()) == decoders:
            return found
        time.sleep(0.5)
    raise SystemExit(f"expected {decoders} decoders, got {sum(found.values())}")


def cpu(pid: int) -> float:
    """CPU seconds of all threads of a process so far, to the nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def megabytes(pid: int) -> float:
    """Resident memory of a process and its descendants without ffmpegs."""
    pages = sum(
        int(Path(f"/proc/{one}/statm").read_text().split()[1])
        for one, is_ffmpeg in family(pid).items()
        if not is_ffmpeg
    )
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def model_cpu(metrics: str) -> float:
    """CPU seconds of the daemon's models so far."""
    with urllib.request.urlopen(f"{metrics}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    name = "streamtag_model_cpu_seconds_total"
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@contextmanager
def daemon(path: Path) -> Iterator[tuple[int, str, str]]:
    """A running daemon: its process, the addresses of its feed and of its metrics."""
    log = path.with_name("log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamtag", "run", str(path)], stdout=out, stderr=out
        )
    try:
        while "/metrics" not in (text := log.read_text()) or "tcp://127.0.0.1:" not in text:
            if process.poll() is not None:
                raise SystemExit(f"the daemon ended: {text}")
            time.sleep(0.1)
        feed, metrics = (
            re.search(pattern, text)[1]  # type: ignore[index]
            for pattern in (r"(tcp://127\.0\.0\.1:\d+)", r"(http://127\.0\.0\.1:\d+)/metrics")
        )
        yield process.pid, feed, metrics
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def player(target: Callable[..., None], *arguments: object) -> Iterator[Any]:
    """Runs a player in a process; gives what it sends first."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(theirs, *arguments))
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


class Second(NamedTuple):
    """What came in one second."""

    latencies: list[float]
    lost: int
    events: int
    """Messages beside scores."""

    @property
    def in_time(self) -> bool:
        return bool(self.latencies) and float(np.quantile(self.latencies, 0.99)) <= LIMIT


def seconds_of(address: str, started: Sequence[float], trace: "Trace | None") -> Iterator[Second]:
    """What comes in each second since the start of the last stream."""
    k, latencies, lost, events = 0, list[float](), 0, 0
    with Subscriber(address, scores=True, timeout=60) as feed:
        for message in feed:
            now = time.time()
            if not all(started):
                continue
            if now >= max(started) + k + 1:
                yield (second := Second(latencies, lost, events))
                if trace:
                    trace.show(k, second)
                k, latencies, lost, events = k + 1, [], 0, 0
            if isinstance(message, Scores):
                latencies.append(now - started[int(message.stream[1:])] - message.t)
            else:
                events += 1
            lost += isinstance(message, Gap)
            lost += message.windows if isinstance(message, Dropped) else 0


def measure(
    pid: int, address: str, started: Sequence[float], seconds: float, *, trace: bool
) -> Measurement:
    """Measures a daemon through a subscriber, once the start is over."""
    start, counted, lost = 0, list[Second](), 0
    show = Trace(pid) if trace else None
    for k, second in enumerate(seconds_of(address, started, show)):
        lost += second.lost
        if not counted and not second.in_time and k < STARTING:
            start = k + 1
        elif k >= SETTLING:
            counted.append(second)
        if len(counted) >= seconds:
            break
    latencies = [latency for second in counted for latency in second.latencies]
    p50, p99 = np.quantile(latencies, [0.5, 0.99])
    events = sum(second.events for second in counted) / len(counted)
    return Measurement(
        len(started), float(p50), float(p99), lost, megabytes(pid), float(start), events
    )


class Trace:
    """Prints what came in each second, and who used the CPUs meanwhile.

    Args:
        pid: of the daemon.
    """

    def __init__(self, pid: int) -> None:
        self._daemon, self._before = pid, self._read()

    def show(self, k: int, second: Second) -> None:
        """Prints second `k`."""
        before, self._before = self._before, self._read()
        (now, idle, ours), (then, idle_then, ours_then) = self._before, before
        share = {
            pid: 100 * (used - ours_then.get(pid, 0.0)) / (now - then) for pid, used in ours.items()
        }
        busiest = sorted((share[pid] for pid in share if pid != os.getpid()), reverse=True)
        p50, p99, latest = np.quantile(second.latencies or [0.0], [0.5, 0.99, 1.0]) * 1000
        print(
            f"  {k:3} s: {len(second.latencies):5} windows, p50 {p50:5.0f}, p99 {p99:5.0f}, latest "
            f"{latest:5.0f} ms; {second.lost} lost, {second.events} events; idle "
            f"{100 * (idle - idle_then) / (now - then):3.0f} %; subscriber "
            f"{share[os.getpid()]:.0f} %, the busiest others "
            + ", ".join(f"{one:.0f}" for one in busiest[:4]),
            flush=True,
        )

    def _read(self) -> tuple[float, float, dict[int, float]]:
        """The time, idle seconds of all CPUs together, CPU seconds by process."""
        idle = int(Path("/proc/stat").read_text().split(maxsplit=5)[4]) / os.sysconf("SC_CLK_TCK")
        used = dict[int, float]()
        for pid in family(os.getpid()):
            with suppress(OSError):
                used[pid] = cpu(pid)
        return time.monotonic(), idle, used


def live(
    model: Path, streams: int, seconds: float, workers: str, *, trace: bool = False
) -> Measurement:
    """Runs one daemon with so many streams of raw samples."""
    started = multiprocessing.get_context("spawn").Array("d", streams, lock=False)
    with tempfile.TemporaryDirectory() as name, player(play, started) as ports:
        places = [f"tcp://127.0.0.1:{port}" for port in ports]
        path = configuration(Path(name), model, places, workers=workers)
        with daemon(path) as (pid, address, _):
            found = measure(pid, address, started, seconds, trace=trace)
    print(
        f"{model.stem}, {streams} streams, workers = {workers}: p50 {found.p50 * 1000:.0f} ms, "
        f"p99 {found.p99 * 1000:.0f} ms, {found.lost} lost, {found.events:.0f} events a second, "
        f"{found.megabytes:.0f} MB; in time {found.start:.0f} s after the start",
        flush=True,
    )
    return found


def most_streams(model: Path, numbers: Sequence[int], seconds: float, *, trace: bool) -> list[Row]:
    """The largest number that is acceptable; a failure is tried again once."""
    best, start = 0, 0.0
    for n in numbers:
        tries = (live(model, n, seconds, "'auto'", trace=trace) for _ in range(2))
        if (found := next((one for one in tries if one.acceptable), None)) is None:
            break
        best, start = n, found.start
    return [
        Row(f"daemon/streams/{model.stem}", best, "streams"),
        Row(f"daemon/start_seconds/{model.stem}", start, "s"),
    ]


def cost_rows(model: Path, stations: int, seconds: float) -> list[Row]:
    """What the parts of tagging MP3 stations take, and their ratios to decoding."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with player(play_stations, mp3_of_tones(folder)) as port, ExitStack() as stack:
            places = [f"http://127.0.0.1:{port}/s{i}" for i in range(stations)]
            path = configuration(folder, model, places, raw=False)
            pid, address, metrics = stack.enter_context(daemon(path))
            stack.enter_context(Subscriber(address, scores=True))
            plain = [stack.enter_context(plain_decoder(place)) for place in places[:PLAIN]]
            members = family_with(pid, stations)
            time.sleep(2 * SETTLING)
            before = {one: cpu(one) for one in (*members, *plain)}
            models, began = model_cpu(metrics), time.perf_counter()
            time.sleep(seconds)
            models = model_cpu(metrics) - models
            used = {one: cpu(one) - before[one] for one in before}
            elapsed = time.perf_counter() - began
    decoders = [one for one, is_ffmpeg in members.items() if is_ffmpeg]
    per_stream = 100 / elapsed / stations  # from seconds to percent of a core
    decoding = 100 / elapsed / PLAIN * sum(used[one] for one in plain)
    ours = per_stream * sum(used[one] for one in decoders)
    rest = per_stream * (sum(used[one] for one in members if one not in decoders) - models)
    models *= per_stream
    overhead = rest + ours - decoding
    shares = {
        "decoding": decoding, "model": models, "rest_of_daemon": rest,
        "ffmpeg_beyond_decoding": ours - decoding,
    }  # fmt: skip
    rows = [
        Row(f"daemon/overhead_over_decoding/{model.stem}", overhead / decoding, "ratio"),
        Row(f"daemon/tagging_over_decoding/{model.stem}", (models + overhead) / decoding, "ratio"),
        *(
            Row(f"daemon/core_percent_per_stream/{part}/{model.stem}", share, "%")
            for part, share in shares.items()
        ),
    ]
    for row in rows:
        print(f"{row.name}: {row.value:.3f} {row.unit}", flush=True)
    return rows


@contextmanager
def plain_decoder(place: str) -> Iterator[int]:
    """An ffmpeg that decodes a station, as anyone would call it."""
    command = [ffmpeg_path(), "-v", "quiet", "-nostdin", "-threads", "1", "-i", place]
    process = subprocess.Popen([*command, "-f", "s16le", "-y", os.devnull])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def rows(model: Path, options: argparse.Namespace) -> list[Row]:
    """All rows of one model."""
    if options.only:
        return most_streams(model, [options.only], options.seconds, trace=options.trace)
    found = cost_rows(model, options.stations, options.seconds)
    alone = live(model, 1, options.seconds / 4, "1")
    many = live(model, options.streams, options.seconds, "1", trace=options.trace)
    memory = (many.megabytes - alone.megabytes) / max(1, many.streams - 1)
    less = (many.p99 - BLOCK / RATE) * 1000
    found += [
        Row(f"daemon/latency_p50_ms/{model.stem}", many.p50 * 1000, "ms"),
        Row(f"daemon/latency_p99_ms/{model.stem}", many.p99 * 1000, "ms"),
        Row(f"daemon/latency_p99_ms_less_block/{model.stem}", less, "ms"),
        Row(f"daemon/memory_mb_per_stream/{model.stem}", memory, "MB"),
        Row(f"daemon/lost/{model.stem}", many.lost, "windows"),
    ]
    if not options.no_search:
        found += most_streams(model, NUMBERS, options.seconds, trace=options.trace)
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, action="append", help="these bundles")
    arguments.add_argument("--stations", type=int, default=100, help="for the cost")
    arguments.add_argument("--streams", type=int, default=100, help="for latency and memory")
    arguments.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    arguments.add_argument("--cores", type=int, default=2, help="that all processes share")
    arguments.add_argument("--only", type=int, help="measure so many streams, and nothing else")
    arguments.add_argument("--trace", action="store_true", help="print each second")
    arguments.add_argument("--no-search", action="store_true", help="skip the most streams")
    options = arguments.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    with tempfile.TemporaryDirectory() as name:
        models = options.model
        if not models:
            from fresh_bundle import fresh_streaming_bundle

            models = [fresh_streaming_bundle(Path(name), "streaming-small")]
        write([row for model in models for row in rows(model, options)], options.json)


if __name__ == "__main__":
    main()
