"""Measures how many streams this machine can process: `streamtag check --capacity`.

The configuration's models tag a few streams of made-up audio, as fast as the machine can, in blocks
of 100 ms as live streams have them. ffmpeg decodes a minute of MP3. Both take CPU time, which is
measured, so that other work on the machine counts little. Where a model is on a GPU, time is
measured instead.
"""

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.audio.block import Block
from streamtag.config.config import Config
from streamtag.daemon.model_registry import load_taggers, use_threads
from streamtag.daemon.worker_pool import number_of_workers
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, WindowsDropped
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import StreamtagError
from streamtag.feed.event_encoder import EventEncoder, TaggerInfo
from streamtag.feed.messages import dump
from streamtag.model.tagger import Tagger
from streamtag.sources.ffmpeg import ffmpeg_path

BUSY = 0.7
"""Share of a core that may be used. With more, results become late when several streams have
windows at the same time."""
N_STREAMS = 16
RATE, BLOCK = 44100, 4410
SECONDS = 2.0
"""CPU time of a measurement. It takes at least one hop of every model."""
DECODED_SECONDS = 60
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one stream costs. Times are shares of a core, memory is in MB."""

    model: float
    rest: float
    """The engine beside the model, and the messages."""
    decoding: float
    """ffmpeg's, for MP3 of 128 kbit/s."""
    memory: float
    decoder_memory: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """The number of streams that a machine can process."""

    per_core: int
    """That one engine tags on a core of its own, decoded elsewhere."""
    streams: int
    """On the whole machine, decoders included."""
    bound_by: str
    """What there is too little of for more: model, engine, decoding or memory."""


def measure(config: Config) -> Measurement:
    """Measures with the models and the streams' settings of a configuration.

    Raises:
        BundleError: a model cannot be used.
        StreamtagError: a model failed, or ffmpeg cannot decode.
    """
    use_threads(config.engine)
    taggers = load_taggers(config)
    model, rest, memory = _engine_cost(config, taggers)
    decoding, decoder_memory = _decoding_cost()
    return Measurement(model, rest, decoding, memory, decoder_memory)


def capacity(found: Measurement, cpus: int, workers: int, free_memory: float) -> Capacity:
    """The capacity of a machine.

    Args:
        found: of one stream.
        cpus: that the daemon may use.
        workers: engine processes.
        free_memory: MB.
    """
    engine = found.model + found.rest
    shares = {"model": found.model, "engine": found.rest}
    largest = max(shares, key=lambda name: shares[name])
    with_decoding = shares | {"decoding": found.decoding}
    limits = [
        (min(workers, cpus) * BUSY / engine, largest),
        (
            cpus * BUSY / (engine + found.decoding),
            max(with_decoding, key=with_decoding.__getitem__),
        ),
        (free_memory / max(1e-3, found.memory + found.decoder_memory), "memory"),
    ]
    streams, bound_by = min(limits)
    return Capacity(int(BUSY / engine), int(streams), bound_by)


def report(config: Config) -> list[str]:
    """The capacity of this machine in lines for people. For errors see `measure`."""
    found = measure(config)
    cpus = len(os.sched_getaffinity(0))
    workers, free = number_of_workers(config.engine, cpus), _free_memory()
    verdict = capacity(found, cpus, workers, free)
    engine = found.model + found.rest
    lines = [
        f"a stream takes {engine:.2%} of a core (model {found.model:.2%}, the rest "
        f"{found.rest:.2%}) and {found.memory:.1f} MB; its decoder, for MP3, {found.decoding:.2%} "
        f"and {found.decoder_memory:.0f} MB",
        f"one core tags about {verdict.per_core} streams",
        f"this machine ({cpus} CPUs, {workers} workers, {free:.0f} MB free) bears about "
        f"{verdict.streams} streams with their decoders; bound by: {verdict.bound_by}",
    ]
    automatic = config.engine.model_copy(update={"workers": "auto"})
    more = capacity(found, cpus, number_of_workers(automatic, cpus), free)
    if more.streams > verdict.streams:
        lines.append(f'with engine.workers = "auto" about {more.streams}')
    if len(config.streams) > verdict.streams:
        lines.append(f"the configuration has {len(config.streams)} streams, which is too many")
    return lines


def machine_capacity(config: Config) -> tuple[int, str]:
    """The number of streams that this machine can process, and what limits it."""
    cpus = len(os.sched_getaffinity(0))
    workers = number_of_workers(config.engine, cpus)
    found = capacity(measure(config), cpus, workers, _free_memory())
    return found.streams, found.bound_by


def _engine_cost(config: Config, taggers: Mapping[str, Tagger]) -> tuple[float, float, float]:
    """Shares of a core of the model and of the rest, and MB, per stream."""
    on_cpu = all(tagger.device == "cpu" for tagger in taggers.values())
    clock = time.thread_time if on_cpu else time.perf_counter
    engine = Engine(
        taggers, max_batch=config.engine.max_batch, sizes=config.engine.batch_sizes,
        slack=config.engine.slack_seconds, exact=config.engine.exact,
    )  # fmt: skip
    cards = {name: tagger.card for name, tagger in taggers.items()}
    settings = [config.settings(name, cards) for name in config.streams]
    settings = settings or [dict.fromkeys(taggers, TaggerSettings())]
    used = {(name, one.hop_frames(cards[name])) for some in settings for name, one in some.items()}
    hop = max(frames / cards[name].features.frame_rate for name, frames in used)
    player = _Player(engine, taggers, settings, hop)
    before = _allocated()
    player.play(hop + 1.0)  # all streams are open now, and the models have run
    memory = max(0.0, _allocated() - before) / N_STREAMS
    distinct = set(taggers.values())
    begun, at, model = clock(), player.seconds, sum(t.cpu_seconds for t in distinct)
    while clock() - begun < SECONDS or player.seconds - at < hop:
        player.play(0.1)
    per = N_STREAMS * (player.seconds - at)
    model = (sum(t.cpu_seconds for t in distinct) - model) / per
    return model, max(0.0, (clock() - begun) / per - model), memory


class _Player:
    """Feeds streams that begin one after the other, so that their windows are spread over a hop."""

    def __init__(
        self,
        engine: Engine,
        taggers: Mapping[str, Tagger],
        settings: list[dict[str, TaggerSettings]],
        hop: float,
    ) -> None:
        rng = np.random.default_rng(0)
        self._audio = (0.1 * rng.standard_normal(10 * BLOCK)).astype(np.float32)
        self._engine, self._settings = engine, settings
        self._late = [round(i * hop * RATE / BLOCK / N_STREAMS) for i in range(N_STREAMS)]
        self._encoder, self._round = EventEncoder({}), 0
        for name, one in taggers.items():
            self._encoder.taggers[name] = TaggerInfo(one.card.tags, one.card.name, one.checksum)

    @property
    def seconds(self) -> float:
        """Of audio so far, of each stream."""
        return self._round * BLOCK / RATE

    def play(self, seconds: float) -> None:
        """Feeds `seconds` of audio, and encodes the events."""
        for _ in range(round(seconds * RATE / BLOCK)):
            blocks = []
            for i, late in enumerate(self._late):
                k = self._round - late
                if k == 0:
                    chosen = self._settings[i % len(self._settings)]
                    self._encode(self._engine.open(str(i), RATE, taggers=chosen))
                if k >= 0:
                    at = k % 10 * BLOCK
                    blocks.append((str(i), Block(self._audio[at : at + BLOCK], k * BLOCK, RATE)))
            self._encode(self._engine.feed_many(blocks))
            self._encode(self._engine.step())
            self._round += 1

    def _encode(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, WindowsDropped):
                raise StreamtagError(
                    f"tagger {event.tagger!r}: expected a result for every window, but its model "
                    f"failed: {event.detail}"
                )
            dump(self._encoder.message(event))


def _decoding_cost() -> tuple[float, float]:
    """Share of a core and MB of an ffmpeg that decodes MP3 of 128 kbit/s."""
    quiet = [ffmpeg_path(), "-v", "error", "-nostdin"]
    noise = ["-f", "lavfi", "-i", f"anoisesrc=amplitude=0.1:duration={DECODED_SECONDS}:seed=1"]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "noise.mp3")
        _run([*quiet, *noise, "-ac", "2", "-ar", str(RATE), "-b:a", "128k", path])
        return _run([*quiet, "-threads", "1", "-i", path, "-f", "s16le", "-"])


def _run(command: list[str]) -> tuple[float, float]:
    """Share of a core and MB of its own of an ffmpeg that makes or decodes the noise."""
    memory = 0.0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
        assert process.stdout is not None
        with process.stdout as pipe:
            while pipe.read(1 << 20):
                resident, shared = Path(f"/proc/{process.pid}/statm").read_text().split()[1:3]
                memory = max(memory, (int(resident) - int(shared)) * _PAGE / _MEGABYTE)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            words = log.read()[-200:].decode(errors="replace").strip()
            raise StreamtagError(
                f"{command[0]}: expected an ffmpeg that makes and decodes MP3, got status "
                f"{process.returncode} ({words}); install ffmpeg with libmp3lame"
            )
    return (usage.ru_utime + usage.ru_stime) / DECODED_SECONDS, memory


class _HeapStatistics(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h: bytes on the heap, mapped and in use among others."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _allocated() -> float:
    """MB that are in use on the C library's heap; resident memory where it cannot say."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / _MEGABYTE
    mallinfo2.restype = _HeapStatistics
    found = mallinfo2()
    return float(found.hblkhd + found.uordblks) / _MEGABYTE


def _free_memory() -> float:
    """MB that programs may still take."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return os.sysconf("SC_AVPHYS_PAGES") * _PAGE / _MEGABYTE
