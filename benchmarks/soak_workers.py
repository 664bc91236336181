"""The soak of `soak.py` with engine processes, some of which are killed: `soak.py --workers 3`.

It runs the daemon's own pool of workers, their engine loops, sources' threads, queues and sockets.
Only the sources' audio is made up, and comes as fast as it is taken. The feed is a checker of every
event. At regular moments of virtual time a worker is killed with -9. Its streams begin anew.

It fails unless each whole minute of each stream between two of its gaps has the events of any other
minute, shifted; every tag that starts ends, also those that a killed worker leaves on; sequence
numbers have no gap; streams of other workers notice no kill; and the memory of this process and of
a worker that was never killed grow by less than 8 MB after a tenth of the test.
"""

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from soak import MINUTE, RATE, _key, minute_of_audio, resident_mb

from streamtag.audio.block import Block
from streamtag.config.config import Config, parse_config
from streamtag.config.stream import StreamConfig
from streamtag.daemon import streams, worker_launcher
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EngineModels
from streamtag.daemon.worker_launcher import Launcher
from streamtag.daemon.worker_pool import WorkerPool
from streamtag.engine.events import (
    Event,
    GapFound,
    Reason,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
)
from streamtag.feed.event_encoder import EventEncoder, TaggerInfo
from streamtag.model.card import Card
from streamtag.sources.queue import BlockQueue, SourceReader

POLL_SECONDS = 0.05


class EndlessSource:
    """Minutes of the soak's audio, without end, as fast as they are taken."""

    rate, live, name, epoch_ns = RATE, False, "soak", 0

    def __init__(self, audio: np.ndarray) -> None:
        self._audio, self._closed = audio, threading.Event()

    def __iter__(self) -> Iterator[Block]:
        minute = 0
        while True:
            for second in range(59):
                if self._closed.is_set():
                    return
                samples = self._audio[second * RATE : (second + 1) * RATE]
                yield Block(samples, (minute * MINUTE + second) * RATE, RATE)
            minute += 1

    def close(self) -> None:
        self._closed.set()


class CheckingOutput:
    """The daemon's output: checks every event, and publishes none."""

    until_stats = float("inf")

    def __init__(self) -> None:
        self.monitor = Monitor()
        self.minutes: Counter[str] = Counter()
        """Whole minutes by stream, of all its lives."""
        self.reasons: Counter[str] = Counter()
        """Ends of streams by reason."""
        self.open: set[str] = set()
        """Streams that are open."""
        self.events = self.windows = self.compared = 0
        self._encoder = EventEncoder({})
        self._encoder.taggers["soak"] = TaggerInfo(("low", "high"), "soak", "0" * 64)
        self._seq: Counter[str] = Counter()
        self._on: Counter[tuple[str, str]] = Counter()
        self._minute: defaultdict[str, list[tuple[object, ...]]] = defaultdict(list)
        self._expected: list[tuple[object, ...]] | None = None

    def publish(self, events: list[Event]) -> None:
        for event in events:
            message = self._encoder.message(event)
            self._seq[message.topic] += 1
            assert message.seq == self._seq[message.topic], message
            if isinstance(event, WindowScored):
                self.windows += 1
                continue
            self.events += 1
            self._switch(event)
            if isinstance(event, (StreamOpened, StreamClosed)):
                self._minute[event.stream].clear()
                is_open = isinstance(event, StreamOpened)
                (self.open.add if is_open else self.open.discard)(event.stream)
                continue
            self._minute[event.stream].append(_key(event))
            if isinstance(event, GapFound):
                self._end_minute(event)

    def end(self) -> None:
        """Checks that no tag is on at the end."""
        assert not any(self._on.values()), self._on

    def _end_minute(self, gap: GapFound) -> None:
        """Compares the minute that a gap ends with the first one of all."""
        k, (*events, _) = gap.at // (MINUTE * RATE), self._minute.pop(gap.stream)
        self.minutes[gap.stream] += 1
        if k == 0:
            return  # it has no minute before it, whose last tags are still on
        shift = k * MINUTE * RATE
        moved = [(e[0], *(x - shift if isinstance(x, int) else x for x in e[1:])) for e in events]
        self._expected = self._expected or moved
        assert moved == self._expected, f"{gap.stream}, minute {k}: {moved}, not {self._expected}"
        self.compared += 1

    def _switch(self, event: Event) -> None:
        if isinstance(event, StreamClosed):
            self.reasons[event.reason] += 1
            assert not any(n for (stream, _), n in self._on.items() if stream == event.stream)
        if isinstance(event, (TagStarted, TagEnded)):
            key = (event.stream, event.tag)
            self._on[key] += 1 if isinstance(event, TagStarted) else -1
            assert self._on[key] in (0, 1), event

    # What the pool calls beside it

    def use(self, models: EngineModels) -> None: ...

    def set_tagger(self, name: str, card: Card, checksum: str) -> None: ...

    def set_display_names(self, stream: str, names: Mapping[str, Mapping[str, str]]) -> None: ...

    def set_clock(self, stream: str, rate: int, epoch_ns: int) -> None: ...

    def publish_unopened(self, stream: str, reason: Reason, detail: str = "") -> None: ...

    def publish_notice(self, text: str) -> None:
        raise AssertionError(text)


@dataclass(frozen=True, slots=True)
class WorkersResult:
    """The result of a soak test with workers, which has already checked everything but memory."""

    virtual_seconds: float
    """Seconds of audio of all streams together."""
    seconds: float
    """Seconds of wall time."""
    windows: int
    events: int
    kills: int
    reasons: Mapping[str, int]
    """Ends of streams by reason."""
    growth_mb: float
    """Growth of this process from a tenth of the test, at most an hour, to the end."""
    worker_growth_mb: float
    """The same for worker 0, which is never killed."""


def configuration(bundle: Path, n_streams: int) -> Config:
    table: dict[str, Any] = {
        "streams": {f"s{i}": {"source": "device:"} for i in range(n_streams)},
        "taggers": {"soak": {"bundle": str(bundle)}},
        "engine": {"device": "cpu", "max_wait_ms": 0, "workers": 2},
        "exit_when_done": False,
    }
    return parse_config(table, bundle.parent)


def soak_workers(
    bundle: Path, n_streams: int, minutes: int, workers: int, kills: int
) -> WorkersResult:
    """Runs `n_streams` streams for `minutes` each, and kills workers at equal distances."""
    output, began = CheckingOutput(), time.perf_counter()
    config = configuration(bundle, n_streams)
    launcher = Launcher(program=[__file__])
    pool = WorkerPool(config, output, dict, launcher, workers)  # type: ignore[arg-type]
    killed, base, worker_base, settled = 0, 0.0, 0.0, min(60, max(1, minutes // 10))
    pool.start()
    try:
        while pool.wait(POLL_SECONDS):
            done = min(output.minutes[f"s{i}"] for i in range(n_streams))
            if not base and done >= settled:
                base, worker_base = _memory(pool)
            if killed < kills and done >= (killed + 1) * minutes // (kills + 1):
                _kill(pool, 1 + killed % (workers - 1))
                killed += 1
            if done >= minutes and killed == kills and len(output.open) == n_streams:
                break
        assert not pool.failed
        growth, worker_growth = _memory(pool)
    finally:
        pool.stop()
    output.end()
    assert output.reasons[Reason.SHUTDOWN] == n_streams, output.reasons
    assert output.compared > n_streams * (minutes - 2 * kills - 2)
    return WorkersResult(
        sum(output.minutes.values()) * 59.0,
        time.perf_counter() - began,
        output.windows,
        output.events,
        killed,
        output.reasons,
        growth - base,
        worker_growth - worker_base,
    )


def _memory(pool: WorkerPool) -> tuple[float, float]:
    """Memory of this process and of worker 0, in MB."""
    gc.collect()
    series = {key.dotted: value for key, value in pool.series().items()}
    return resident_mb(), series["workers.0.worker_memory_bytes"] / 2**20


def _kill(pool: WorkerPool, worker: int) -> None:
    """Kills a worker that has work, and waits until all that it had sent is taken."""
    while (process := pool._slots[worker].process) is None or not process.generation:
        assert not pool.failed
        time.sleep(POLL_SECONDS)
    os.kill(process.pid, signal.SIGKILL)
    while pool._slots[worker].process is process:
        time.sleep(POLL_SECONDS)


def main(*arguments: str) -> None:
    """The launcher of workers whose sources are made up."""
    audio = minute_of_audio()
    logging.getLogger("streamtag").setLevel(logging.ERROR)  # a line per gap

    def create(
        name: str, stream: StreamConfig, queue: BlockQueue, key: str, *, watch: bool = False
    ) -> SourceReader:
        return SourceReader(name, partial(EndlessSource, audio), queue, key)

    streams.create_reader = create
    worker_launcher.main(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
