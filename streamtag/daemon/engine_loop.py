"""The loop of an engine: audio in, events out, round by round, and commands in between.

It has what one engine process needs: sources, engine, models and the changes to them. Where the
events go, and who sends the commands, is the business of its owner.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from streamtag.config.config import Config, EngineConfig
from streamtag.config.differences import Changes
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
from streamtag.daemon.engine_output import EngineOutput
from streamtag.daemon.model_registry import (
    ModelRegistry,
    ShadowTagger,
    load_taggers,
    use_threads,
    windows_at_once,
)
from streamtag.daemon.streams import StreamRegistry
from streamtag.engine.batcher import Batcher
from streamtag.engine.counters import Series, series
from streamtag.engine.embeddings import saves_work
from streamtag.engine.engine import Engine
from streamtag.engine.events import Reason, SourceState
from streamtag.errors import ControlError
from streamtag.model.tagger import Tagger
from streamtag.model.watchdog import CallLimits

log = logging.getLogger(__name__)

SCORING_SECONDS = 0.02
"""How long the engine scores windows that are due before it takes new audio."""
LAST_SECONDS = 1.0
"""How long the last windows are scored at the end."""


SHORTEST_CALL, LONGEST_CALL = 1.0, 5.0
"""Seconds that all taggers wait for one when its model hangs. The watchdogs of engines and of
systemd wait longer."""
GIVEN_UP = 10.0
"""A model is loaded anew if a call takes this multiple of the slack."""


def call_limits(engine: EngineConfig) -> CallLimits:
    """How long a call of a model may take."""
    slack = max(SHORTEST_CALL, engine.slack_seconds)
    return CallLimits(min(slack, LONGEST_CALL), GIVEN_UP * slack)


class LoopOwner(Protocol):
    """Runs an engine's loop. Both methods are called by the engine's thread."""

    def until_task(self) -> float:
        """Seconds until `end_round` has something to do."""

    def end_round(self, began: float, ended: float) -> None:
        """A round lasted from `began` to `ended`, in `time.monotonic`."""


class EngineLoop:
    """The streams, the engine and the models of one engine process.

    Ready when constructed: the models are warm.

    Args:
        config: whose streams are those of this engine.
        output: takes the events.

    Raises:
        StreamtagError: a model cannot be used.
    """

    def __init__(self, config: Config, output: EngineOutput) -> None:
        taggers = load_taggers(config)
        self.engine = Engine(
            taggers,
            max_batch=config.engine.max_batch,
            max_wait=config.engine.max_wait_ms / 1000,
            sizes=config.engine.batch_sizes,
            slack=config.engine.slack_seconds,
            threads=windows_at_once(config.engine),
            exact=config.engine.exact,
            calls=call_limits(config.engine),
        )
        self.engine.measure_levels(config.feed.measures_levels, config.feed.loudness)
        cards = {name: tagger.card for name, tagger in taggers.items()}
        self.streams = StreamRegistry(config, cards, self.engine, output)
        self.models = ModelRegistry(self.streams, self.engine, output, taggers)
        self.failed = False
        """Whether the engine itself failed."""
        self._output, self._stopping, self._ended = output, False, False
        self._submitted: queue.SimpleQueue[tuple[EngineCommand, Future[Any]]] = queue.SimpleQueue()
        self._slow: set[Future[Any]] = set()  # answers that another thread works on
        self._loaded: tuple[LoadChange, Changes, dict[str, Batcher]] | None = None
        self._loaded_shadow: ShadowTagger | None = None

    def submit(self, command: EngineCommand) -> Future[Any]:
        """Submits a command, whose answer or exception comes later. Any thread may call it."""
        answer = Future[Any]()
        self._submitted.put((command, answer))
        if self._ended:
            self._refuse_submitted()
        self.streams.queue.wake()
        return answer

    def stop(self) -> None:
        """Stops the sources, and makes `run` close the streams and return. Not for its thread."""
        self._stopping = True
        self.streams.stop()

    def run(self, owner: LoopOwner) -> None:
        """Works until `stop`, or all streams have ended and `exit_when_done` is set."""
        streams = self.streams
        use_threads(streams.config.engine)
        try:
            while not self._stopping:
                if streams.config.exit_when_done and all(s.ended for s in streams.streams):
                    break
                items = streams.queue.get(
                    max(0.0, min(owner.until_task(), self._seconds_until_due()))
                )
                began = time.monotonic()
                streams.handle(items)
                self._score()
                self._execute_submitted()
                for text in self.engine.notices():
                    self._output.publish_notice(text)
                owner.end_round(began, time.monotonic())
        except Exception:
            self.failed = True
            log.critical("the engine failed", exc_info=True)
        finally:
            self._ended = True
            self._refuse_submitted()
            self._close_streams()

    def series(self) -> dict[Series, float]:
        """All counters of the streams and the engine. Any thread may call it."""
        streams = self.streams
        lost = {
            Series("intake.dropped_blocks"): streams.queue.dropped_blocks,
            Series("streams.lost"): streams.lost,
        }
        causes = {series("sources.lost", cause=c): n for c, n in streams.reconnects.copy().items()}
        return self.engine.series() | lost | causes

    def costs(self) -> dict[str, TaggerCost]:
        """What each model costs, by tagger; measured now."""
        return self._costs_of(self.models.models)

    def _costs_of(self, taggers: Mapping[str, Tagger]) -> dict[str, TaggerCost]:
        exact = self.streams.config.engine.exact
        return {
            name: TaggerCost(_seconds_of_call(tagger), not exact and saves_work(tagger.card))
            for name, tagger in taggers.items()
        }

    def _score(self) -> None:
        """Scores the windows that are due, for as long as new audio can be kept waiting."""
        engine, until = self.engine, time.monotonic() + SCORING_SECONDS
        self._output.publish(engine.step(now := time.monotonic()))
        while (due := engine.next_deadline()) is not None and due <= now < until:
            self._output.publish(engine.step(now := time.monotonic()))

    def _seconds_until_due(self) -> float:
        """How long the engine may wait for new audio."""
        deadline = self.engine.next_deadline()
        return 1.0 if deadline is None else min(1.0, deadline - time.monotonic())

    def _close_streams(self) -> None:
        """Closes every stream. Every tag goes off, though the last windows may stay unscored."""
        deadline, opened = time.monotonic() + LAST_SECONDS, tuple(self.engine.streams)
        for name in opened:
            score = not self.failed and time.monotonic() < deadline
            events = self.engine.close_many([name], Reason.SHUTDOWN, score=score)
            self._output.publish(events)
        for stream in self.streams.streams:
            if isinstance(stream.state, SourceState) and stream.name not in opened:
                self._output.publish_unopened(stream.name, Reason.SHUTDOWN)

    def _execute_submitted(self) -> None:
        """Executes the commands that have come, without waiting."""
        while not self._submitted.empty():
            command, answer = self._submitted.get()
            try:
                match command:
                    case LoadChange():
                        self._in_thread(partial(self._load, command), answer)
                    case LoadShadow():
                        self._in_thread(partial(self._load_shadow, command), answer)
                    case _:
                        answer.set_result(self._execute(command))
            except Exception as error:  # a command must not end the engine
                answer.set_exception(error)

    def _execute(self, command: EngineCommand) -> object:
        """The answer to a command that is quick."""
        match command:
            case StartSwap():
                self._start_swap()
            case ApplyChange():
                self._apply()
            case DiscardChange():
                self._discard()
            case Pause():
                self.streams.pause(command.stream)
            case Resume():
                self.streams.resume(command.stream)
            case StartShadow():
                assert self._loaded_shadow is not None
                self.models.start_shadow(command.tagger, self._loaded_shadow)
            case StopShadow():
                return self._stop_shadow(command.tagger)
            case IsSettled():
                swapped = self._loaded[1].taggers_swapped if self._loaded else ()
                return all(map(self.models.is_shadow_settled, swapped))
            case Describe():
                return self._describe()
        return None

    def _load(self, command: LoadChange) -> LoadedChange:
        what, batchers = self.models.load(self.streams.config, command.config)
        self._loaded = command, what, batchers
        taggers = {name: batcher.tagger for name, batcher in batchers.items()}
        checksums = {name: tagger.checksum for name, tagger in taggers.items()}
        return LoadedChange(what, checksums, self._costs_of(taggers))

    def _start_swap(self) -> None:
        assert self._loaded is not None
        command, what, batchers = self._loaded
        for tagger in what.taggers_swapped:
            shadow = self.models.shadows.get(tagger)
            if shadow is None or shadow.tagger.checksum != batchers[tagger].tagger.checksum:
                self.models.start_shadow(tagger, ShadowTagger(batchers[tagger], command.config))

    def _apply(self) -> None:
        assert self._loaded is not None
        (command, what, batchers), self._loaded = self._loaded, None
        self.streams.idle = command.idle
        self.models.apply(command.config, what, batchers)

    def _discard(self) -> None:
        for tagger, shadow in tuple(self.models.shadows.items()):
            if shadow.config is not None:  # of a swap that does not take place
                self.models.stop_shadow(tagger)
        self._loaded = self._loaded_shadow = None

    def _load_shadow(self, command: LoadShadow) -> str:
        batcher = self.models.prepare(command.tagger, self.streams.config, command.bundle)
        cards = self.streams.cards | {command.tagger: batcher.tagger.card}
        check_fit(self.streams.config, cards)
        self._loaded_shadow = ShadowTagger(batcher)
        return batcher.tagger.card.name

    def _stop_shadow(self, tagger: str) -> dict[str, object] | None:
        if tagger not in self.models.shadows:
            return None
        report = self._output.shadows.comparisons[tagger].report()
        self.models.stop_shadow(tagger)
        return report

    def _describe(self) -> EngineDescription:
        rows: list[dict[str, object]] = [
            {
                "name": stream.name,
                "source": without_password(stream.config.source),
                "state": str(stream.state),
                "detail": stream.detail,
                "taggers": list(self.models.taggers_of(stream.name)),
                "samples": self.engine.end_of(stream.name),
            }
            for stream in self.streams.streams
        ]
        shadows, comparisons = self.models.shadows, self._output.shadows.comparisons
        return EngineDescription(
            rows,
            {name: _model_info(tagger) for name, tagger in self.models.models.items()},
            {name: _model_info(shadow.tagger) for name, shadow in shadows.items()},
            {name: comparisons[name].report() for name in shadows},
        )

    def _in_thread(self, work: Callable[[], Any], answer: Future[Any]) -> None:
        """Slow work in another thread, which does not delay the end of the process."""
        self._slow.add(answer)

        def run() -> None:
            try:
                result, error = work(), None
            except Exception as failure:  # it is raised where the work was requested
                result, error = None, failure
            try:
                self._slow.remove(answer)
            except KeyError:
                return  # the engine has ended
            answer.set_exception(error) if error else answer.set_result(result)

        threading.Thread(target=run, name="change", daemon=True).start()

    def _refuse_submitted(self) -> None:
        """Refuses all commands that wait."""
        with suppress(queue.Empty):
            while True:
                self._slow.add(self._submitted.get_nowait()[1])
        with suppress(KeyError):
            while True:
                self._slow.pop().set_exception(ControlError("the daemon stops"))


def _seconds_of_call(tagger: Tagger) -> float:
    """How long a model takes for one window: the shortest of three calls."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        tagger(tagger.staging(1))
        best = min(best, time.perf_counter() - began)
    return best


def _model_info(tagger: Tagger) -> dict[str, object]:
    return {"model": tagger.card.name, "checksum": tagger.checksum[:12], "device": tagger.device}
