"""Soak test: a day of 200 live streams in virtual time, through the engine and the encoder.

    python benchmarks/soak.py [--streams 200] [--hours 24] [--workers 3 --kills 5] [--json FILE]

Every sample goes through level meter, front end, rings, batches, a TorchScript model, smoothing,
events and message encoder, exactly as in the daemon. Only waiting is left out: the engine gets the
virtual time as an argument. The audio repeats every minute (music, silence, music, a gap) and is
fed in blocks of a second. The model is a toy at 8 kHz with one window a second, so that a day fits
into minutes. Sockets, source threads and decoders are not part of it. With `--workers` the streams
run in engine processes, which are killed now and then (`soak_workers.py`).

It fails unless, for every stream and minute, the events are those of its second minute, shifted
(none lost, none twice, no drift by a sample), every tag that starts also ends, sequence numbers
have no gap, and after the first hour memory grows by less than 8 MB. The longest delay of a result
is printed.
"""

import argparse
import gc
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rows import Row, parser, write
from torch import Tensor, nn

from streamtag.audio.block import Block
from streamtag.audio.feature_config import FeatureConfig
from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import (
    Event,
    GapFound,
    SilenceEnded,
    SilenceStarted,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
)
from streamtag.feed.event_encoder import EventEncoder
from streamtag.model.card import Card, PastPadding
from streamtag.model.tagger import Tagger

RATE, MINUTE = 8000, 60
MAX_GROWTH_MB = 8.0


class Bands(nn.Module):
    """Two tags: energy in the low bands and energy in the high bands."""

    def forward(self, x: Tensor) -> Tensor:
        low, high = x[:, :, :4].amax(2).mean(1), x[:, :, 12:].amax(2).mean(1)
        return torch.sigmoid(2 * torch.stack([low + 3, high + 3], 1).clamp(-5, 5))


def toy_tagger(folder: Path) -> Tagger:
    """Exports and loads a model that needs hardly any computation."""
    from streamtag.train.exporting.bundle import export

    card = Card(
        name="soak",
        net="Bands",
        features=FeatureConfig(sample_rate=RATE, n_fft=512, hop=400, n_mels=16, f_max=4000),
        window_frames=20,
        hop_frames=20,
        first_frames=20,
        padding=PastPadding.SILENCE,
        tags=("low", "high"),
        on_thresholds=(0.5, 0.5),
        off_thresholds=(0.4, 0.4),
        smoothing_seconds=0.5,
        min_on_seconds=1.0,
        min_off_seconds=1.0,
    )
    export(Bands(), card, folder / "soak.pt")
    return Tagger.load(folder / "soak.pt", "cpu")


def minute_of_audio() -> np.ndarray:
    """59 s of tones with 8 s of silence; a gap of one second completes the minute."""
    t = np.arange(59 * RATE) / RATE
    pitch = np.where(t % 14 < 7, 200.0, 3000.0)
    loud = (t < 40) | (t >= 48)
    return (0.3 * loud * np.sin(2 * np.pi * pitch * t)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a soak test, which has already checked everything but memory."""

    virtual_seconds: float
    """Seconds of audio of all streams together."""
    seconds: float
    """Seconds of wall time."""
    windows: int
    events: int
    latest: float
    """The longest delay of a result after its audio, in seconds of virtual time."""
    growth_mb: float
    """Growth of resident memory from a tenth of the test, at most an hour, to the end."""


class EventChecker:
    """Compares every minute of every stream with its first one."""

    def __init__(self, names: list[str]) -> None:
        self._wire = EventEncoder({})
        from streamtag.feed.event_encoder import TaggerInfo

        self._wire.taggers["soak"] = TaggerInfo(("low", "high"), "soak", "0" * 64)
        self._minutes: dict[str, list[tuple[object, ...]]] = {name: [] for name in names}
        self._first: dict[str, list[tuple[object, ...]]] = {}
        self._on: Counter[tuple[str, str]] = Counter()
        self._seq: Counter[str] = Counter()
        self.events, self.windows, self.latest = 0, 0, 0.0

    def check(self, events: list[Event], now: float) -> None:
        for event in events:
            message = self._wire.message(event)
            self._seq[message.topic] += 1
            assert message.seq == self._seq[message.topic], message
            if isinstance(event, WindowScored):
                self.windows += 1
                self.latest = max(self.latest, now - event.end / RATE)
                continue
            self.events += 1
            self._switch(event)
            if not isinstance(event, StreamOpened):
                self._minutes[event.stream].append(_key(event))

    def check_minute(self, k: int) -> None:
        """Checks minute `k` after it has ended and its gap was reported."""
        shift = k * MINUTE * RATE
        for name, events in self._minutes.items():
            moved = [
                (e[0], *(x - shift if isinstance(x, int) else x for x in e[1:])) for e in events
            ]
            if k >= 1:  # minute 0 has no minute before it, whose last tags are still on
                expected = self._first.setdefault(name, moved)
                assert moved == expected, f"{name}, minute {k}: {moved} instead of {expected}"
            events.clear()

    def end(self) -> None:
        """Checks that no tag is on at the end."""
        assert not any(self._on.values()), self._on

    def _switch(self, event: Event) -> None:
        if isinstance(event, TagStarted | TagEnded):
            key = (event.stream, event.tag)
            self._on[key] += 1 if isinstance(event, TagStarted) else -1
            assert self._on[key] in (0, 1), event


def _key(event: Event) -> tuple[object, ...]:
    kind = type(event).__name__
    if isinstance(event, TagStarted):
        return kind, event.tag, event.at, event.decided
    if isinstance(event, TagEnded):
        return kind, event.tag, event.at, event.decided, event.since, event.reason.value
    if isinstance(event, GapFound):
        return kind, event.at, event.end
    if isinstance(event, SilenceStarted | SilenceEnded):
        return kind, event.at, event.decided
    return (kind,)


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(tagger: Tagger, n_streams: int, minutes: int) -> Result:
    """Feeds `minutes` of audio to `n_streams` streams and checks every event."""
    names = [f"s{i}" for i in range(n_streams)]
    engine = Engine({"soak": tagger}, max_wait=0.0, lag_policy=LagPolicy.DROP)
    checker, audio, began = EventChecker(names), minute_of_audio(), time.perf_counter()
    checker.check([e for name in names for e in engine.open(name, RATE)], 0.0)
    base, settled = 0.0, min(60, max(1, minutes // 10))
    for k in range(minutes):
        for second in range(59):
            start, now = (k * MINUTE + second) * RATE, k * MINUTE + second + 1.0
            block = Block(audio[second * RATE : (second + 1) * RATE], start, RATE)
            checker.check(engine.feed_many([(name, block) for name in names], now), now)
            if second == 0 and k:
                checker.check_minute(k - 1)  # its gap has just been reported
            while (deadline := engine.next_deadline()) is not None and deadline <= now:
                checker.check(engine.step(now), now)
        if (k + 1) % 60 == 0:
            seconds = time.perf_counter() - began
            print(
                f"\r{(k + 1) // 60} of {minutes / 60:g} h, "
                f"{seconds / (k + 1) * (minutes - k - 1) / 60:.0f} min to go ",
                end="",
                file=sys.stderr,
                flush=True,
            )
        if k == settled:
            gc.collect()
            base = resident_mb()
    checker.check(engine.close_many(names), minutes * MINUTE)
    checker.end()
    assert engine.stats()["waiting"] == 0
    gc.collect()
    growth = resident_mb() - base
    elapsed = time.perf_counter() - began
    audio_seconds = n_streams * minutes * 59.0
    return Result(audio_seconds, elapsed, checker.windows, checker.events, checker.latest, growth)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--streams", type=int, default=200)
    arguments.add_argument("--hours", type=float, default=24.0)
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--kills", type=int, default=5)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("streamtag").setLevel(logging.ERROR)  # a line per gap
    if options.workers > 1:
        run_with_workers(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = soak(toy_tagger(Path(folder)), options.streams, round(options.hours * 60))
    print(
        f"{options.streams} streams, {options.hours:g} h in {result.seconds:.0f} s: "
        f"{result.windows} windows, {result.events} events, all as expected; "
        f"latest result {result.latest:.2f} s after its audio; memory {result.growth_mb:+.1f} MB"
    )
    rows = [
        Row("soak/stream_hours", result.virtual_seconds / 3600, "h"),
        Row("soak/windows", result.windows, ""),
        Row("soak/events", result.events, ""),
        Row("soak/memory_growth_mb", result.growth_mb, "MB"),
        Row("soak/times_real_time", result.virtual_seconds / result.seconds, "x"),
    ]
    write(rows, options.json)
    if result.growth_mb > MAX_GROWTH_MB:
        raise SystemExit(f"memory grew by {result.growth_mb:.1f} MB")


def run_with_workers(options: argparse.Namespace) -> None:
    from soak_workers import soak_workers

    with tempfile.TemporaryDirectory() as folder:
        toy_tagger(Path(folder))
        result = soak_workers(
            Path(folder) / "soak.pt",
            options.streams,
            round(options.hours * 60),
            options.workers,
            options.kills,
        )
    print(
        f"{options.streams} streams, {options.hours:g} h in {result.seconds:.0f} s on "
        f"{options.workers} workers, {result.kills} of them killed: {result.windows} windows, "
        f"{result.events} events, all as expected; memory {result.growth_mb:+.1f} MB, of a worker "
        f"{result.worker_growth_mb:+.1f} MB"
    )
    rows = [
        Row("soak/workers_stream_hours", result.virtual_seconds / 3600, "h"),
        Row("soak/workers_events", result.events, ""),
        Row("soak/workers_kills", result.kills, ""),
        Row("soak/workers_memory_growth_mb", result.growth_mb, "MB"),
        Row("soak/worker_memory_growth_mb", result.worker_growth_mb, "MB"),
        Row("soak/workers_times_real_time", result.virtual_seconds / result.seconds, "x"),
    ]
    write(rows, options.json)
    if max(result.growth_mb, result.worker_growth_mb) > MAX_GROWTH_MB:
        raise SystemExit("memory grew")


if __name__ == "__main__":
    main()
