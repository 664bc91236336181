"""Live streams per core: this engine, and a plain Python loop in a process per stream.

    python benchmarks/streams.py [--model models/x.pt …] [--only NAME …] [--seconds 8]
                                 [--budget 60] [--json FILE]

The engine runs in one thread, fed with blocks of 100 ms of 44.1 kHz audio from streams with random
phases, and results are encoded as messages. Time is simulated, work is not: the clock advances by
the CPU time of each call, or to the next block when there is nothing to do. Other load on the
machine therefore does not count, and the result is that of one free core.
The benchmark searches for the most streams with no window dropped and 99 % of all results within
250 ms of their window's last sample (the hop comes on top: a sound waits that long for its window).
With `--budget` the search ends after so many seconds of CPU, and the best so far counts.
A number of streams that fails is tried again, and two of three trials decide.

Naive: a Python loop in a process per stream that resamples the new audio, keeps the
window's samples, computes its log-mel frames with torchaudio at every hop, and calls the same
TorchScript model. Its core is assumed to be fully used, which real processes do not achieve.
It is measured before, between and after the engine, and the median counts.

Sources and decoders are not in these rows; ffmpeg's share of a core per stream is printed
separately. On a GPU, if there is one, wall time is measured and the batch sizes are printed.
"""

import gc
import heapq
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fresh_bundle import LARGE, fresh_streaming_bundle
from rows import Row, parser, write

from streamtag.audio.block import Block
from streamtag.daemon.memory import keep_freed_memory
from streamtag.engine.counters import series
from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import Event, WindowScored, WindowsDropped
from streamtag.feed.event_encoder import EventEncoder, TaggerInfo
from streamtag.feed.messages import dump
from streamtag.model.tagger import Tagger
from streamtag.sources.ffmpeg import ffmpeg_path

RATE, BLOCK = 44100, 4410
LIMIT = 0.25
WARM = 8.0
"""The seconds at the start that are not measured: there all streams begin at once."""
ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT.parent / "shared" / "data" / "weights"


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one number of streams."""

    streams: int
    busy: float
    """Share of the core that was used."""
    p99: float
    """Seconds from a window's last sample to its message."""
    dropped: int
    batch: float
    """The median batch size."""

    @property
    def acceptable(self) -> bool:
        return not self.dropped and self.p99 <= LIMIT and self.busy <= 1


class Feed:
    """Encodes events as messages without sending them."""

    def __init__(self, tagger: Tagger) -> None:
        self._wire = EventEncoder({})
        self._wire.taggers["x"] = TaggerInfo(tagger.card.tags, tagger.card.name, tagger.checksum)

    def send(self, events: list[Event]) -> None:
        for event in events:
            dump(self._wire.message(event))


def audio(seconds: float) -> np.ndarray:
    """Noise with tones in it, (n,) float32."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * f * t) for f in (110, 440, 1760, 5000))
    return (0.05 * tones + 0.02 * rng.standard_normal(len(t))).astype(np.float32)


def trial(tagger: Tagger, n: int, seconds: float, warm: float, clock: Callable[[], float]) -> Trial:
    """Feeds `n` streams for `seconds`, after `warm` seconds that do not count."""
    engine = Engine({"x": tagger}, lag_policy=LagPolicy.DROP, slack=5.0)
    feed, samples = Feed(tagger), audio(4.0)
    hop = tagger.card.hop_seconds
    phases = np.random.default_rng(n).uniform(0, max(hop, BLOCK / RATE), n)  # as they began
    for i in range(n):
        feed.send(engine.open(f"s{i}", RATE))
    coming = [(phases[i] + BLOCK / RATE, i, 0) for i in range(n)]  # when, stream, first sample
    heapq.heapify(coming)
    now, busy, latencies, dropped = 0.0, 0.0, [], 0
    while now < warm + seconds:
        blocks = []
        while coming and coming[0][0] <= now:
            at, i, start = heapq.heappop(coming)
            part = start % (len(samples) - BLOCK)
            blocks.append((f"s{i}", Block(samples[part : part + BLOCK], start, RATE)))
            heapq.heappush(coming, (at + BLOCK / RATE, i, start + BLOCK))
        started = clock()
        events = engine.feed_many(blocks, now) if blocks else []
        events += engine.step(now)
        feed.send(events)
        elapsed = clock() - started
        now += elapsed
        busy += elapsed if now > warm else 0.0
        if now > warm:
            dropped += sum(e.windows for e in events if isinstance(e, WindowsDropped))
            for event in events:
                if isinstance(event, WindowScored):
                    begun = phases[int(event.stream[1:])]
                    latencies.append(now - begun - event.end / RATE)
        if not events:
            deadline = engine.next_deadline()
            now = max(now, min(coming[0][0], deadline if deadline is not None else coming[0][0]))
    return Trial(
        n,
        busy / seconds,
        float(np.quantile(latencies, 0.99)) if latencies else math.inf,
        dropped,
        engine.histograms()[series("batch_size", tagger="x")].quantile(0.5),
    )


def verdict(
    tagger: Tagger, n: int, seconds: float, warm: float, clock: Callable[[], float]
) -> Trial:
    """An acceptable trial if the first, or both of two more, are; else the failed one."""
    first = trial(tagger, n, seconds, warm, clock)
    if first.acceptable:
        return first
    second, third = (trial(tagger, n, seconds, warm, clock) for _ in range(2))
    return second if second.acceptable and third.acceptable else first


def most_streams(
    tagger: Tagger, seconds: float, warm: float, clock: Callable[[], float], budget: float
) -> Trial:
    """The largest acceptable trial, within about 5 % or as near as the budget allows."""
    began = time.process_time()
    first = verdict(tagger, 4, seconds, warm, clock)
    low, high = (first, None) if first.acceptable else (Trial(0, 0.0, 0.0, 0, 0.0), 4)
    n = max(5, int(4 * 0.9 / max(first.busy, 1e-3))) if first.acceptable else 2
    while n > low.streams and (high is None or n < high):
        some = verdict(tagger, n, seconds, warm, clock)
        print(f"  {n} streams: {some.busy:.0%} busy, p99 {some.p99 * 1000:.0f} ms", flush=True)
        if some.acceptable:
            low = some
        else:
            high = n
        if high is not None and high - low.streams <= max(1, low.streams // 20):
            break
        if time.process_time() - began > budget:
            print(f"  the budget of {budget:g} s is spent", flush=True)
            break
        n = larger(low) if high is None else (low.streams + high) // 2
    return low


def larger(best: Trial) -> int:
    """What to try after an acceptable trial: as many as its load says, 5 to 100 % more."""
    factor = min(2.0, max(1.05, 0.97 / max(best.busy, 1e-3)))
    return int(best.streams * factor) + 1


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory_per_stream(tagger: Tagger, n: int = 40) -> float:
    """MB of one more stream with full rings, beside as many that have run before."""
    engine, samples = Engine({"x": tagger}, lag_policy=LagPolicy.DROP), audio(1.0)
    seconds = 6 + tagger.card.window_frames / tagger.card.features.frame_rate
    memory = []
    for group in ("before", "more"):
        names = [f"{group}{i}" for i in range(n)]
        for name in names:
            engine.open(name, RATE)
        for k in range(int(seconds)):
            engine.feed_many([(name, Block(samples, k * RATE, RATE)) for name in names])
        gc.collect()
        memory.append(resident_mb())
    return (memory[1] - memory[0]) / n


def naive_loop(path: Path, repeats: int) -> float:
    """CPU seconds per hop of the plain loop."""
    from streamtag.model.bundle import read_card
    from streamtag.train.exporting.torchaudio_loader import torchaudio

    card = read_card(path)
    features, model = card.features, torch.jit.load(str(path)).eval()
    n = (card.window_frames - 1) * features.hop + features.n_fft
    transforms = torchaudio().transforms
    to_mel = transforms.MelSpectrogram(
        features.sample_rate, features.n_fft, hop_length=features.hop, n_mels=features.n_mels,
        center=False,
    )  # fmt: skip
    resample = transforms.Resample(RATE, features.sample_rate)
    fresh, buffer = torch.randn(round(card.hop_seconds * RATE)) * 0.1, torch.randn(n) * 0.1

    def once() -> None:
        nonlocal buffer
        buffer = torch.cat([buffer, resample(fresh)])[-n:]
        frames = torch.log(to_mel(buffer) + 1e-10).T.contiguous()
        model(frames[None]).tolist()

    with torch.inference_mode():
        for _ in range(3):
            once()
        started = time.thread_time()
        for _ in range(repeats):
            once()
        return (time.thread_time() - started) / repeats


def numbers_from_process(*arguments: str) -> list[float]:
    """The numbers that this script prints in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def naive(path: Path, repeats: int) -> tuple[float, float]:
    """CPU seconds per hop and MB of a process that runs only the plain loop."""
    seconds, memory = numbers_from_process("--naive", str(path), "--repeats", str(repeats))
    return seconds, memory


def decoding(folder: Path) -> float:
    """ffmpeg's share of a core for one live MP3 stream."""
    made = folder / "a.mp3"
    quiet = [ffmpeg_path(), "-v", "error", "-nostdin", "-threads", "1"]
    sine = ["-f", "lavfi", "-i", "sine=440:duration=120", "-ac", "2", "-b:a", "128k", str(made)]
    subprocess.run([*quiet, *sine], check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    sink = ["-i", str(made), "-f", "f32le", "-ac", "1", "-y", os.devnull]
    subprocess.run([*quiet, *sink], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 120


def bundles(folder: Path, only: Sequence[str]) -> list[Path]:
    """The shipped bundles, the streaming net, and the published weights if they are here.

    `only` those with these names, unless it is empty.
    """
    found = [one for one in sorted((ROOT / "models").glob("*.pt")) if one.stem in only or not only]
    if "streaming" in only or not only:
        found.append(fresh_streaming_bundle(folder, "streaming", LARGE))
    if WEIGHTS.is_dir():
        from streamtag.train.importing.importer import import_checkpoint

        kinds = {"mtg-jamendo/vggish_moodtheme.pth": "mtg-jamendo-vggish"} | {
            f"sota/{data}_{net}.pth": f"sota-{net}"
            for data in ("jamendo", "mtat")
            for net in ("fcn", "musicnn", "crnn")
        }
        wanted = {name: kind for name, kind in kinds.items() if Path(name).stem in only or not only}
        for name, kind in wanted.items():
            target = folder / f"{Path(name).stem}.pt"
            import_checkpoint(kind, WEIGHTS / name, None, target)
            found.append(target)
    return found


def measure(path: Path, seconds: float, warm: float, budget: float) -> list[Row]:
    """All rows of one model."""
    tagger, name = Tagger.load(path, "cpu"), path.stem
    hop = tagger.card.hop_seconds
    print(f"{name}: a window of {tagger.card.window_frames} frames every {hop:.2f} s")
    repeats = max(3, int(seconds / hop))
    loops = [naive(path, repeats)]
    (memory,) = numbers_from_process("--memory", str(path))
    loops.append(naive(path, repeats))
    best = most_streams(tagger, seconds, warm, time.thread_time, budget)
    loops.append(naive(path, repeats))
    per_hop, process = (statistics.median(values) for values in zip(*loops, strict=True))
    print(
        f"{name}: {best.streams} streams per core, p99 {best.p99 * 1000:.0f} ms, "
        f"{memory:.2f} MB a stream; a process per stream: {hop / per_hop:.1f} streams, "
        f"{process:.0f} MB each; ratio {best.streams * per_hop / hop:.1f}"
    )
    rows = [
        Row(f"streams_per_core/{name}", best.streams, "streams"),
        Row(f"latency_p99_ms/{name}", best.p99 * 1000, "ms"),
        Row(f"memory_mb_per_stream/{name}", memory, "MB"),
        Row(f"naive/streams_per_core/{name}", hop / per_hop, "streams"),
        Row(f"naive/memory_mb_per_stream/{name}", process, "MB"),
    ]
    return rows + (on_gpu(path, seconds, warm, budget) if torch.cuda.is_available() else [])


def on_gpu(path: Path, seconds: float, warm: float, budget: float) -> list[Row]:
    """The rows of one model on the GPU, in wall time."""
    tagger = Tagger.load(path, "cuda")
    best = most_streams(tagger, seconds, warm, time.perf_counter, budget)
    print(f"{path.stem} on the GPU: {best.streams} streams, batches of {best.batch:g} (median)")
    return [
        Row(f"gpu/streams/{path.stem}", best.streams, "streams"),
        Row(f"gpu/latency_p99_ms/{path.stem}", best.p99 * 1000, "ms"),
        Row(f"gpu/batch_median/{path.stem}", best.batch, "windows"),
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, action="append", help="only these bundles")
    arguments.add_argument("--only", nargs="*", default=[], help="only those with these names")
    arguments.add_argument("--seconds", type=float, default=8.0, help="of each trial")
    arguments.add_argument("--warm", type=float, default=WARM, help="seconds before them")
    arguments.add_argument(
        "--budget", type=float, default=math.inf, help="CPU seconds of the search of each model"
    )
    arguments.add_argument("--naive", type=Path, help="print the CPU time of the plain loop")
    arguments.add_argument("--memory", type=Path, help="print the MB of one more stream")
    arguments.add_argument("--repeats", type=int, default=10)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    if options.naive:
        seconds = naive_loop(options.naive, options.repeats)
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    keep_freed_memory()  # as the daemon does
    if options.memory:
        print(memory_per_stream(Tagger.load(options.memory, "cpu")))
        return
    with tempfile.TemporaryDirectory() as folder:
        share = decoding(Path(folder))
        print(f"decoding a live MP3 of 128 kbit/s: {share:.2%} of a core")
        rows = [Row("decoding/core_percent_per_stream", share * 100, "%")]
        for path in options.model or bundles(Path(folder), options.only):
            rows += measure(path, options.seconds, options.warm, options.budget)
    write(rows, options.json)


if __name__ == "__main__":
    main()
