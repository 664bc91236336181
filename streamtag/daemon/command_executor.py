"""What a running daemon does when it is told to change: everything happens on the engine's thread.

One change at a time. Slow work, which is loading and warming up models, is done in a thread beside
it while all streams go on; then the whole change is made between two windows, or none of it.
"""

import logging
import queue
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import streamtag
from streamtag.bridges.supervision import faults_of_changed
from streamtag.config.config import Config, parse_config
from streamtag.config.differences import laid_over, not_set, refused
from streamtag.config.model_fit import check_fit
from streamtag.daemon.check import sound_config
from streamtag.daemon.commands import (
    AddCommand,
    PlainCommand,
    Request,
    SetCommand,
    StreamCommand,
    SwapCommand,
)
from streamtag.daemon.reload import Reshaping, ShadowTagger
from streamtag.daemon.streams import StreamRegistry
from streamtag.engine.engine import Engine
from streamtag.engine.events import SourceState
from streamtag.engine.shadow import shadowed_tagger
from streamtag.errors import ConfigError, ControlError, StreamtagError
from streamtag.model.tagger import Tagger

log = logging.getLogger(__name__)

SETTLE_SECONDS = 30.0
"""How long a swap waits, at most, until the new model has heard enough of every stream."""

Answer = Callable[[object], None]
Steps = Generator[Callable[[], Any] | None, Any, object]
"""A change in steps: yields what to do in a thread beside the engine's, or None to wait a turn."""


class CommandExecutor:
    """Takes requests from any thread, and works on them from the engine's.

    Args:
        path: of the configuration file, to read it again; None where there is none.
        lineup: the streams.
        engine: who listens.
        reshaping: who makes the changes.
        counters: all that is counted.
    """

    def __init__(
        self,
        path: Path | None,
        lineup: StreamRegistry,
        engine: Engine,
        reshaping: Reshaping,
        counters: Callable[[], Mapping[str, float]],
    ) -> None:
        self._path, self._lineup, self._engine = path, lineup, engine
        self._reshaping, self._counters = reshaping, counters
        self._folder = Path.cwd() if path is None else path.resolve().parent
        self._asked: queue.SimpleQueue[tuple[Request, Answer]] = queue.SimpleQueue()
        self._waiting: deque[tuple[Request, Answer]] = deque()
        self._steps: Steps | None = None
        self._answer: Answer = _nobody
        self._job: _Job | None = None
        self._begun = time.monotonic()

    def ask(self, request: Request, answer: Answer) -> None:
        """Hands in a request; `answer` is called with its result, or an exception."""
        self._asked.put((request, answer))
        self._lineup.queue.wake()

    def work(self) -> None:
        """Goes on with what is to be done; never waits."""
        while not self._asked.empty():
            request, answer = self._asked.get()
            if isinstance(request, PlainCommand) and request.command != "reload":
                answer(self._streams() if request.command == "list" else self._status())
            else:
                self._waiting.append((request, answer))
        while self._steps is not None or self._waiting:
            if self._steps is None:
                request, self._answer = self._waiting.popleft()
                self._steps = self._change_for(request)
            if not self._advance():
                return

    def close(self) -> None:
        """Nothing more is done; whoever waits is told so."""
        if self._steps is not None:
            self._answer(ControlError("the daemon stops"))
        for _, answer in self._waiting:
            answer(ControlError("the daemon stops"))

    def _advance(self) -> bool:
        """One step of the change under way; False when it has to wait."""
        assert self._steps is not None
        if self._job is not None and not self._job.done:
            return False
        job, self._job = self._job, None
        try:
            if job is not None and job.error is not None:
                wanted = self._steps.throw(job.error)
            else:
                wanted = self._steps.send(None if job is None else job.result)
        except StopIteration as end:
            self._finish(end.value)
        except StreamtagError as error:
            log.error("refused: %s", " | ".join(str(error).splitlines()))  # one line per change
            self._finish(error)
        except Exception as error:  # a command must not end the daemon
            log.exception("a command failed in an unexpected way")
            self._finish(ControlError(f"{type(error).__name__}: {error}"))
        else:
            if wanted is None:
                return False
            self._job = _Job(wanted, self._lineup.queue.wake)
        return self._steps is None

    def _finish(self, result: object) -> None:
        self._steps, answer = None, self._answer
        answer(result)

    def _change_for(self, request: Request) -> Steps:
        """The steps of a request."""
        match request:
            case PlainCommand():
                return self._reload()
            case StreamCommand(command="remove"):
                return self._remove(request.name)
            case StreamCommand():
                return self._pause_or_resume(request)
            case AddCommand():
                return self._lay_over({"streams": {request.name: request.stream}}, new=request.name)
            case SetCommand():
                return self._lay_over(request.table)
            case SwapCommand():
                return self._swap(request.tagger, request.bundle)
            case _:
                return self._shadow(request.tagger, request.bundle)

    def _reload(self) -> Steps:
        if self._path is None:
            raise ControlError("reload: expected a daemon started from a file, got one without")
        running = self._lineup.config
        new = yield partial(sound_config, self._path, partial(refused, running))
        keys = yield self._lineup.outlet.publisher.reload_keys
        result: Any = yield from self._change(new)
        if any(keys.values()):
            result = {**result, "keys": keys}
        log.info("configuration %s taken", self._path)
        return result

    def _remove(self, name: str) -> Steps:
        self._seated(name)
        table = self._lineup.config.model_dump(exclude_unset=True)
        del table["streams"][name]
        return (yield from self._change(parse_config(table, self._folder)))

    def _pause_or_resume(self, request: StreamCommand) -> Steps:
        yield from ()
        self._seated(request.name)
        paused = (
            next(s for s in self._lineup.seats if s.name == request.name).state
            == SourceState.PAUSED
        )
        if paused == (request.command == "pause"):
            wanted, is_ = ("running", "paused") if paused else ("paused", "running")
            raise ControlError(f"stream {request.name!r}: expected a {wanted} one, got one {is_}")
        if paused:
            self._lineup.resume(request.name)
        else:
            self._lineup.pause(request.name)
        return {f"{request.command}d": request.name}

    def _lay_over(self, table: dict[str, Any], new: str | None = None) -> Steps:
        if new in self._lineup.config.streams:
            raise ControlError(f"stream {new!r}: expected a new name, got one that is there")
        running = self._lineup.config.model_dump(exclude_unset=True)
        if absent := not_set(running, table):
            raise ControlError(
                f"{', '.join(absent)}: expected a key that is set, got one that is not"
            )
        return (yield from self._change(parse_config(laid_over(running, table), self._folder)))

    def _swap(self, tagger: str, bundle: str | None) -> Steps:
        config = self._lineup.config
        self._known(tagger)
        shadow = self._reshaping.shadows.get(tagger)
        if bundle is None:
            bundle = config.taggers[tagger].bundle if shadow is None else shadow.bundle
        change = {"taggers": {tagger: {"bundle": bundle}}}
        table = laid_over(config.model_dump(exclude_unset=True), change)
        return (yield from self._change(parse_config(table, self._folder)))

    def _shadow(self, tagger: str, bundle: str | None) -> Steps:
        self._known(tagger)
        if bundle is None:
            if tagger not in self._reshaping.shadows:
                raise ControlError(f"tagger {tagger!r}: expected a shadow beside it, got none")
            report = self._lineup.outlet.comparisons[tagger].report()
            self._reshaping.dismiss_shadow(tagger)
            log.info("tagger %s: nobody listens beside it any more", tagger)
            return {"ended": tagger, "agreement": report}
        path = self._folder / bundle
        batcher = yield partial(self._reshaping.prepare, tagger, path)
        check_fit(self._lineup.config, self._lineup.cards | {tagger: batcher.tagger.card})
        self._reshaping.rehearse(tagger, ShadowTagger(str(path), batcher))
        log.info("tagger %s: %s listens beside it", tagger, batcher.tagger.card.name)
        return {"listening": tagger, "model": batcher.tagger.card.name}

    def _change(self, new: Config) -> Steps:
        """From the running configuration to another one."""
        old = self._lineup.config
        faults = faults_of_changed(old, new, from_file=self._path is not None)
        if complaints := [*refused(old, new), *faults]:
            raise ConfigError("\n".join(complaints))
        what, batchers = yield partial(self._reshaping.load, old, new)
        for tagger in what.taggers_swapped:
            mine = self._reshaping.shadows.get(tagger)
            if mine is None or mine.tagger.checksum != batchers[tagger].tagger.checksum:
                self._reshaping.rehearse(tagger, ShadowTagger("", batchers[tagger], new))
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline and not all(
            map(self._reshaping.settled, what.taggers_swapped)
        ):
            yield None
        self._reshaping.apply(new, what, batchers)
        words = [f"{how} {', '.join(names)}" for how, names in what.summary().items()]
        log.info("changed: %s", "; ".join(words) or "nothing")
        return what.summary()

    def _seated(self, name: str) -> None:
        if name not in self._lineup.config.streams:
            known = ", ".join(self._lineup.config.streams)
            raise ControlError(f"stream {name!r}: expected one of {known}; got none of them")

    def _known(self, tagger: str) -> None:
        if tagger not in self._lineup.config.taggers:
            known = ", ".join(self._lineup.config.taggers)
            raise ControlError(f"tagger {tagger!r}: expected one of {known}; got none of them")

    def _streams(self) -> list[dict[str, object]]:
        """For `list`."""
        return [
            {
                "name": seat.name,
                "source": hidden(seat.stream.source),
                "state": str(seat.state),
                "detail": seat.detail,
                "taggers": [
                    t for t in self._engine.stream_taggers(seat.name) if shadowed_tagger(t) is None
                ],
                "samples": self._engine.end_of(seat.name),
            }
            for seat in self._lineup.seats
        ]

    def _status(self) -> dict[str, object]:
        """For `status`."""
        states = Counter(str(seat.state) for seat in self._lineup.seats)
        return {
            "version": streamtag.__version__,
            "seconds": time.monotonic() - self._begun,
            "busy": self._steps is not None,
            "streams": dict(states),
            "taggers": {name: _model(tagger) for name, tagger in self._reshaping.models.items()},
            "shadows": {
                name: _model(shadow.tagger) | self._lineup.outlet.comparisons[name].report()
                for name, shadow in self._reshaping.shadows.items()
            },
            "counters": dict(self._counters()),
        }


class _Job:
    """Work in a thread beside the engine's."""

    def __init__(self, work: Callable[[], Any], then: Callable[[], None]) -> None:
        self.done, self.result = False, None
        self.error: BaseException | None = None
        self._work, self._then = work, then
        threading.Thread(target=self._run, name="change", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # it is thrown where the work was asked for
            self.error = error
        self.done = True
        self._then()


def hidden(source: str) -> str:
    """A source without its password."""
    return re.sub(r"(//[^/@\s]*?):[^/@\s]*@", r"\1:***@", source)


def _model(tagger: Tagger) -> dict[str, object]:
    return {"model": tagger.card.name, "checksum": tagger.checksum[:12], "device": tagger.device}


def _nobody(result: object) -> None:
    """Who waits when nobody does."""
