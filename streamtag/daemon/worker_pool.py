"""The workers of a daemon: engines in processes of their own, which share its streams.

Each worker has a thread here. It takes what the worker sends, and publishes it under one lock, so
that the feed has one sequence of numbers. When a worker dies, the thread ends its tags and streams,
starts another process and gives it the same streams.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.config import Config, EngineConfig
from streamtag.config.model_fit import check_fit
from streamtag.daemon.engine_commands import (
    ApplyChange,
    Describe,
    DiscardChange,
    EngineCommand,
    EngineDescription,
    IsSettled,
    LoadChange,
    LoadedChange,
    LoadShadow,
    Pause,
    Resume,
    StartShadow,
    StartSwap,
    StopShadow,
    TaggerCost,
    without_password,
)
from streamtag.daemon.ops.monitor import ALIVE_SECONDS
from streamtag.daemon.output import EventOutput
from streamtag.daemon.stream_shares import share_out, stream_cost
from streamtag.daemon.worker_channel import (
    Answer,
    Begin,
    Failed,
    Output,
    Ready,
    Report,
    Started,
)
from streamtag.daemon.worker_launcher import Launcher
from streamtag.daemon.worker_numbers import WorkerNumbers
from streamtag.daemon.worker_process import WorkerLostError, WorkerProcess
from streamtag.engine.counters import Histogram, Series, series
from streamtag.engine.events import Reason
from streamtag.errors import ControlError, StreamtagError
from streamtag.model.card import Card

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""How long a worker may take to load its models before it is killed."""
ANSWER_SECONDS = 2.0
"""`list` and `status` leave out workers that take longer to describe themselves."""
STOP_SECONDS = 4.0
"""How long all workers together may take to close their streams before they are killed."""
KILL_SECONDS = 0.5
"""How long the daemon waits for killed workers."""
SETTLED_SECONDS = 5.0
"""How long a worker must have run to be started again without a wait."""
BACKOFF = BackoffPolicy(first=0.25, longest=30.0, healthy=SETTLED_SECONDS)
"""The waits before others are started."""
LOST = "its worker process ended"


def number_of_workers(engine: EngineConfig, cpus: int) -> int:
    """The number of workers of a daemon on `cpus` CPUs, unless it runs on a GPU.

    `auto` leaves one CPU to the feed, the journal and the decoders. Of two CPUs both get a worker.
    """
    return max(cpus - 1, min(cpus, 2)) if engine.workers == "auto" else engine.workers


@dataclass(slots=True)
class _Slot:
    """A worker, whose processes may die."""

    number: int
    process: WorkerProcess | None = None
    restarts: int = 0
    error: str = ""
    """Why its last process could not begin."""
    cannot_start: bool = False
    """Whether the last process ended before it could work. Others have its streams then."""
    thread: threading.Thread | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """A change that was loaded."""

    config: Config
    shares: dict[str, int]
    workers: tuple[WorkerProcess, ...]
    replaced: frozenset[str] = frozenset()
    """Taggers that get another model, or none."""


class WorkerPool:
    """All workers; see `Engines`.

    Ready when constructed: the models of all workers are warm.

    Args:
        config: of the daemon.
        output: publishes.
        counters: gives all counters of the daemon by dotted name.
        launcher: starts processes; it is closed with the pool.
        workers: how many.

    Raises:
        StreamtagError: a model cannot be used.
    """

    def __init__(
        self,
        config: Config,
        output: EventOutput,
        counters: Callable[[], Mapping[str, float]],
        launcher: Launcher,
        workers: int,
    ) -> None:
        self._config, self._output, self._counters = config, output, counters
        self._launcher = launcher
        self._lock = threading.RLock()  # of everything below
        self._publishing = threading.Lock()  # of the output
        self._shares: dict[str, int] = {}
        self._idle: dict[str, str] = {}  # state of streams that are paused or have ended
        self._shadows: dict[str, Path] = {}
        self._loaded_shadow = Path()
        self._generation = 0  # of configuration and shares; 0 before `start`
        self._change: _Change | None = None
        self._numbers = WorkerNumbers()
        self._left_behind, self._beginning = False, True
        self._started, self._stopping = threading.Event(), threading.Event()
        self._broken = threading.Event()
        self._slots = [_Slot(number) for number in range(workers)]
        for slot in self._slots:
            slot.thread = threading.Thread(
                target=self._run_slot, args=(slot,), name=f"worker {slot.number}", daemon=True
            )
            slot.thread.start()
        try:
            self._wait_until_ready()
            self._beginning = False
            check_fit(config, self._cards())
        except BaseException:
            self.stop()
            raise
        log.info("%d workers", workers)

    @property
    def failed(self) -> bool:
        """Whether a worker's last events were lost at the end, or the pool itself failed."""
        return self._left_behind or self._broken.is_set()

    @property
    def lost(self) -> int:
        """Number of streams whose source failed."""
        return int(self.series().get(Series("streams.lost"), 0))

    def start(self) -> None:
        """Shares the streams out, and has their sources opened."""
        with self._lock:
            self._shares = self._share_out(self._config)
            self._generation = 1
        self._started.set()
        for process in self._ready():
            self._hand_over_in_thread(process)

    def wait(self, seconds: float) -> bool:
        """Waits a while, and looks after the workers; False once there is nothing more to do."""
        if self._broken.wait(seconds):
            return False
        self._kill_stuck(time.monotonic())
        with self._publishing:
            if self._output.until_stats <= 0:
                self._output.publish_stats(self._counters())
        return not (self._config.exit_when_done and self._all_ended())

    def stop(self) -> None:
        """Closes every stream, and ends all workers."""
        self._stopping.set()
        self._started.set()
        for process in self._processes():
            process.stop()
        self._join(STOP_SECONDS)
        for process in self._processes():
            if process.ready.is_set():
                self._left_behind = True
                text = "worker %d does not end; killed, its last events are lost"
                log.critical(text, process.slot)
            process.kill()
        self._launcher.close()
        self._join(KILL_SECONDS)

    def ask(self, command: EngineCommand) -> list[Any]:
        """Every worker's answer; see `Engines`. Nobody answers before `start`."""
        self._started.wait()
        match command:
            case LoadChange():
                return self._load(command.config)
            case ApplyChange():
                self._apply()
                return []
            case StartSwap() | IsSettled() | DiscardChange():
                workers = self._change.workers if self._change else ()
                if isinstance(command, DiscardChange):
                    self._change = None
                return _answers([worker.ask(command) for worker in workers], lost_too=True)
        asked = [worker.ask(command) for worker in self._ready()]
        is_question = isinstance(command, Describe)
        seconds = ANSWER_SECONDS if is_question else None
        answers = _answers(asked, lost_too=is_question, timeout=seconds)
        match command:
            case Describe():
                answers.append(self._description_of_missing(answers))
            case LoadShadow():
                self._loaded_shadow = command.bundle
            case StartShadow():
                self._shadows[command.tagger] = self._loaded_shadow
            case StopShadow():
                self._shadows.pop(command.tagger, None)
        return answers

    def ask_owner(self, stream: str, command: EngineCommand) -> Any:
        """The answer of the worker that has a stream; see `Engines`."""
        self._started.wait()
        with self._lock:
            number = self._shares.get(stream, -1)
            process = next((p for p in self._processes() if p.slot == number), None)
        if process is None or process.generation != self._generation:
            raise ControlError(f"stream {stream!r}: its worker is being started; try again")
        answer = process.ask(command).result()
        with self._lock:
            if isinstance(command, Pause):
                self._idle[stream] = "paused"
            elif isinstance(command, Resume):
                self._idle.pop(stream, None)
        return answer

    def series(self) -> Mapping[Series, float]:
        """All counters of all workers together, and some of each."""
        with self._lock:
            reports = [process.report for process in self._processes()]
            total = self._numbers.series(reports)
            for slot in self._slots:
                total |= self._series_of(slot)
        return total

    def histograms(self) -> Mapping[Series, Histogram]:
        """Sizes of batches and waits of windows, of all workers together."""
        with self._lock:
            reports = [process.report for process in self._processes()]
            return self._numbers.histograms(reports)

    # Processes

    def _run_slot(self, slot: _Slot) -> None:
        """The thread of a worker: one process after another."""
        backoff = Backoff(BACKOFF, random.random)
        while not self._stopping.is_set():
            try:
                seconds = self._run_process(slot)
            except Exception:
                log.critical(
                    "worker %d: its events cannot be published", slot.number, exc_info=True
                )
                self._broken.set()
                return
            if self._stopping.is_set() or (slot.cannot_start and self._beginning):
                return
            if slot.cannot_start:
                self._spread(slot)
            slot.restarts += 1
            backoff.worked(seconds)
            if slot.cannot_start or seconds < SETTLED_SECONDS:
                self._stopping.wait(backoff.failed())

    def _run_process(self, slot: _Slot) -> float:
        """Runs one process to its end. Returns for how many seconds it has worked."""
        try:
            connection = self._launcher.start()
        except OSError as error:
            log.error("worker %d: cannot be started: %s", slot.number, error)
            slot.cannot_start = True
            return 0.0
        process = WorkerProcess(slot.number, connection, Begin(self._share(self._config, {}, -1)))
        slot.process = process
        if self._stopping.is_set():
            process.stop()
        try:
            while (message := process.receive()) is not None:
                self._take(process, message)
        finally:
            self._end_process(slot, process)
        slot.error, slot.cannot_start = process.error, not process.ready.is_set()
        return 0.0 if slot.cannot_start else time.monotonic() - process.began

    def _take(self, process: WorkerProcess, message: object) -> None:
        """Takes a message of a worker."""
        match message:
            case Started():
                process.pid = message.pid
            case Failed():
                process.error = message.error
            case Ready():
                process.costs = dict(message.costs)
                self._compare_models(process)
                process.ready.set()
                if self._generation:
                    self._hand_over_in_thread(process)
            case Answer():
                process.answered(message)
            case Output():
                with self._publishing:
                    self._publish(process, message.calls)
            case Report():
                self._take_report(process, message)

    def _compare_models(self, process: WorkerProcess) -> None:
        """Reports a model whose file has changed since the other workers read it."""
        for other in self._ready():
            for name, mine in process.models.taggers.items():
                theirs = other.models.taggers.get(name, mine)
                if theirs.checksum != mine.checksum:
                    text = "worker %d: tagger %s: its file has changed since others read it; reload"
                    log.error(text, process.slot, name)
                    return

    def _publish(
        self, process: WorkerProcess, calls: Iterable[tuple[str, tuple[Any, ...]]]
    ) -> None:
        """Publishes what a worker has sent."""
        self._output.use(process.models)
        for name, arguments in calls:
            if name == "publish":
                process.open.observe(*arguments)
            elif name == "set_tagger":
                tagger, card, _ = arguments
                process.cards[tagger] = card
            getattr(self._output, name)(*arguments)

    def _take_report(self, process: WorkerProcess, report: Report) -> None:
        with self._lock:
            process.report = report
            if report.applied == process.applied > 0:  # else it is about other streams
                for name in self._streams_of(process.slot):
                    if self._idle.get(name) == "ended":
                        del self._idle[name]
                self._idle |= dict.fromkeys(report.ended, "ended")
            reports = [process.report for process in self._processes()]
            monitor = self._output.monitor
            monitor.audio_seconds = self._numbers.audio_seconds(reports)
            monitor.busy_seconds = self._numbers.busy_seconds(reports)
            monitor.last_round = time.monotonic()

    def _end_process(self, slot: _Slot, process: WorkerProcess) -> None:
        """A process has ended: ends what it has left on."""
        with self._lock:
            slot.process = None
            self._numbers.retire(process.report)
        process.close()
        stopping = self._stopping.is_set()
        reason = Reason.SHUTDOWN if stopping else Reason.WORKER_LOST
        with self._publishing:
            self._output.use(process.models)
            self._output.publish(process.open.end(reason, "" if stopping else LOST))
        if not stopping:
            known = (
                process.error
                or f"process {process.pid}, with {len(self._streams_of(slot.number))} streams"
            )
            log.error("worker %d: ended: %s", slot.number, known)

    def _kill_stuck(self, now: float) -> None:
        """Kills workers that have reported nothing for a long time."""
        for slot in self._slots:
            if (process := slot.process) is None:
                continue
            seconds = now - process.seen
            if seconds > (ALIVE_SECONDS if process.ready.is_set() else START_SECONDS):
                log.error("worker %d: no round for %.0f s; killed", slot.number, seconds)
                process.kill()

    def _wait_until_ready(self) -> None:
        for slot in self._slots:
            while slot.process is None or not slot.process.ready.wait(0.01):
                if slot.cannot_start or self._broken.is_set():
                    raise StreamtagError(
                        slot.error or f"worker {slot.number}: it cannot be started"
                    )

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for slot in self._slots:
            assert slot.thread is not None
            slot.thread.join(max(0.0, deadline - time.monotonic()))

    # Shares

    def _share(self, config: Config, shares: Mapping[str, int], slot: int) -> Config:
        """The configuration of one worker: with its streams alone."""
        engine = config.engine.model_copy(
            update={"threads": config.engine.threads or 1, "device": "cpu"}
        )
        streams = {n: stream for n, stream in config.streams.items() if shares.get(n) == slot}
        changed = {"streams": streams, "engine": engine, "exit_when_done": False}
        return config.model_copy(update=changed)

    def _share_out(self, config: Config) -> dict[str, int]:
        """The worker of each stream of a configuration."""
        cards, costs = self._cards(), dict[str, TaggerCost]()
        for process in self._ready():
            costs |= process.costs
        able = [slot.number for slot in self._slots if not slot.cannot_start]
        return share_out(
            {name: stream_cost(config, name, cards, costs) for name in config.streams},
            self._shares,
            able or range(len(self._slots)),
        )

    def _cards(self) -> dict[str, Card]:
        return {name: card for process in self._ready() for name, card in process.cards.items()}

    def _streams_of(self, slot: int) -> list[str]:
        with self._lock:
            return [name for name, number in self._shares.items() if number == slot]

    def _processes(self) -> list[WorkerProcess]:
        """The present process of each worker that has one."""
        with self._lock:
            return [slot.process for slot in self._slots if slot.process is not None]

    def _ready(self) -> list[WorkerProcess]:
        """The processes that can work."""
        return [process for process in self._processes() if process.ready.is_set()]

    def _hand_over_in_thread(self, process: WorkerProcess) -> None:
        threading.Thread(
            target=self._hand_over, args=(process,), name="hand-over of streams", daemon=True
        ).start()

    def _hand_over(self, process: WorkerProcess) -> None:
        """Gives a worker its share of the streams."""
        try:
            with process.handing_over:
                while self._bring_up_to_date(process):
                    pass
        except WorkerLostError:
            pass  # its thread knows
        except StreamtagError as error:
            log.error("worker %d: refuses its streams: %s", process.slot, error)
            process.kill()

    def _bring_up_to_date(self, process: WorkerProcess) -> bool:
        """One change to the present share. False if the worker has it already."""
        with self._lock:
            generation, shadows = self._generation, dict(self._shadows)
            if process.generation == generation:
                return False
            mine = self._share(self._config, self._shares, process.slot)
            idle = {name: state for name, state in self._idle.items() if name in mine.streams}
        process.ask(LoadChange(mine, idle)).result()
        process.ask(StartSwap()).result()
        if not process.generation:  # a new one
            for tagger, bundle in shadows.items():
                process.ask(LoadShadow(tagger, bundle)).result()
                process.ask(StartShadow(tagger)).result()
        process.ask(ApplyChange()).result()
        process.generation = generation
        return True

    def _spread(self, slot: _Slot) -> None:
        """Gives the streams of a worker that cannot be started to the others."""
        with self._lock:
            others = [one for one in self._slots if not one.cannot_start]
            lost = self._streams_of(slot.number)
            if not lost or not others or self._change is not None:
                return
            self._shares = self._share_out(self._config)
            self._generation += 1
        log.error("worker %d: cannot be started; others take its streams", slot.number)
        for process in self._ready():
            self._hand_over_in_thread(process)

    def _load(self, config: Config) -> list[LoadedChange]:
        """The first step of a change, with those workers that are up to date."""
        with self._lock:
            workers = tuple(p for p in self._ready() if p.generation == self._generation)
            if not workers:
                raise ControlError("all workers are being started; try again")
            shares = self._share_out(config)
            self._change = _Change(config, shares, workers)
        commands = [LoadChange(self._share(config, shares, worker.slot)) for worker in workers]
        asked = [worker.ask(command) for worker, command in zip(workers, commands, strict=True)]
        loaded: list[LoadedChange] = _answers(asked)
        for worker, one in zip(workers, loaded, strict=True):
            worker.costs |= one.costs
        names = {n for one in loaded for n in one.changes.taggers_swapped} | {
            n for one in loaded for n in one.changes.taggers_removed
        }
        self._change = replace(self._change, replaced=frozenset(names))
        return loaded

    def _apply(self) -> None:
        """The last step: what the workers have loaded is what runs from now on."""
        with self._lock:
            assert self._change is not None
            change, self._change = self._change, None
            self._config, self._shares = change.config, change.shares
            self._generation += 1
            self._idle = {n: s for n, s in self._idle.items() if n in change.shares}
            self._shadows = {t: b for t, b in self._shadows.items() if t not in change.replaced}
            generation = self._generation
        asked = {worker: worker.ask(ApplyChange()) for worker in change.workers}
        for worker, answer in asked.items():
            if not isinstance(answer.exception(), WorkerLostError):
                answer.result()
                worker.generation = generation
        for process in self._ready():  # those that were not asked
            self._hand_over_in_thread(process)

    def _all_ended(self) -> bool:
        """Whether all streams have ended by themselves."""
        with self._lock:
            if not self._generation:
                return False
            for number in set(self._shares.values()):
                process = self._slots[number].process
                if process is None or process.generation != self._generation:
                    return False
                if process.report.applied != process.applied:
                    return False
            return all(self._idle.get(name) == "ended" for name in self._config.streams)

    def _description_of_missing(self, found: Sequence[EngineDescription]) -> EngineDescription:
        """Of the streams that no worker has described, because theirs is being started."""
        known = {row["name"] for one in found for row in one.streams}
        with self._lock:
            rows: list[dict[str, object]] = [
                {
                    "name": name,
                    "source": without_password(stream.source),
                    "state": self._idle.get(name, "opening"),
                    "detail": "",
                    "taggers": [],
                    "samples": 0,
                }
                for name, stream in self._config.streams.items()
                if name not in known
            ]
        return EngineDescription(rows)

    def _series_of(self, slot: _Slot) -> dict[Series, float]:
        """The numbers of one worker."""
        process, label = slot.process, str(slot.number)
        report = Report() if process is None else process.report
        ready = process is not None and process.ready.is_set()
        return {
            series("worker_running", worker=label): float(ready),
            series("worker_restarts", worker=label): slot.restarts,
            series("worker_streams", worker=label): len(self._streams_of(slot.number)),
            series("worker_busy_seconds", worker=label): report.busy_seconds,
            series("worker_audio_seconds", worker=label): report.audio_seconds,
            series("worker_memory_bytes", worker=label): report.memory_bytes,
        }


def _answers(
    asked: Iterable[Future[Any]], *, lost_too: bool = False, timeout: float | None = None
) -> list[Any]:
    """All answers.

    Args:
        asked: futures of workers.
        lost_too: leaves out workers that ended or take too long, instead of raising an error.
        timeout: seconds for each; None for as long as it takes.
    """
    answers: list[Any] = []
    failure: Exception | None = None
    for future in asked:
        try:
            answers.append(future.result(timeout))
        except (WorkerLostError, TimeoutError) as error:
            failure = failure if lost_too else error
        except StreamtagError as error:
            failure = error
    if failure is not None:
        raise failure
    return answers
