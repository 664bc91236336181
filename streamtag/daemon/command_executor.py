"""Execution of commands on the engine's thread, one change at a time.

Slow work, which is loading and warming up models, runs in another thread while all streams go on.
Then the whole change is made between two windows, or nothing changes.
"""

import logging
import queue
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import streamtag
from streamtag.bridges.supervision import faults_of_changed_tables
from streamtag.config.config import Config, parse_config
from streamtag.config.differences import missing_keys, restart_needed
from streamtag.config.fields import merge
from streamtag.config.model_fit import check_fit
from streamtag.daemon.check import checked_config
from streamtag.daemon.control import (
    AddCommand,
    ModelCommand,
    PlainCommand,
    Request,
    SetCommand,
    StreamCommand,
)
from streamtag.daemon.model_registry import ModelRegistry, ShadowTagger
from streamtag.daemon.streams import StreamRegistry
from streamtag.engine.engine import Engine
from streamtag.engine.events import SourceState
from streamtag.errors import ConfigError, ControlError, StreamtagError
from streamtag.model.tagger import Tagger

log = logging.getLogger(__name__)

SETTLE_SECONDS = 30.0
"""A swap waits at most so long until the new model has enough audio of every stream."""

Steps = Generator[Callable[[], Any] | None, Any, object]
"""A change in steps. It yields work for another thread, or None to wait for the next round."""


class CommandExecutor:
    """Takes requests from any thread, and executes them on the engine's thread.

    Args:
        path: of the configuration file, to read it again; None where there is none.
        streams: all of them.
        engine: runs the models.
        models: the running ones and their shadows.
        counters: gives all counters by dotted name.
    """

    def __init__(
        self,
        path: Path | None,
        streams: StreamRegistry,
        engine: Engine,
        models: ModelRegistry,
        counters: Callable[[], Mapping[str, float]],
    ) -> None:
        self._path, self._streams, self._engine = path, streams, engine
        self._models, self._counters = models, counters
        self._folder = Path.cwd() if path is None else path.resolve().parent
        self._submitted: queue.SimpleQueue[tuple[Request, Future[object]]] = queue.SimpleQueue()
        self._waiting: deque[tuple[Request, Future[object]]] = deque()
        self._steps: Steps | None = None
        self._result = Future[object]()  # of the steps
        self._job: Future[Any] | None = None  # what the steps wait for
        self._begun = time.monotonic()

    def submit(self, request: Request) -> Future[object]:
        """Submits a request, whose result or StreamtagError comes later."""
        result = Future[object]()
        result.set_running_or_notify_cancel()  # from now on nobody can cancel it
        self._submitted.put((request, result))
        self._streams.queue.wake()
        return result

    def work(self) -> None:
        """Executes what can be executed now, without waiting. The engine's thread calls it."""
        while not self._submitted.empty():
            request, result = self._submitted.get()
            if isinstance(request, PlainCommand) and request.command != "reload":
                result.set_result(self._list() if request.command == "list" else self._status())
            else:
                self._waiting.append((request, result))
        while self._steps is not None or self._waiting:
            if self._steps is None:
                request, self._result = self._waiting.popleft()
                self._steps = self._change_for(request)
            if not self._advance():
                return

    def close(self) -> None:
        """Refuses all requests that wait."""
        if self._steps is not None:
            self._result.set_exception(ControlError("the daemon stops"))
        for _, result in self._waiting:
            result.set_exception(ControlError("the daemon stops"))

    def _advance(self) -> bool:
        """Makes one step of the change in progress. False if it has to wait."""
        assert self._steps is not None
        if self._job is not None and not self._job.done():
            return False
        job, self._job = self._job, None
        try:
            if job is not None and (failure := job.exception()) is not None:
                wanted = self._steps.throw(failure)
            else:
                wanted = self._steps.send(None if job is None else job.result())
        except StopIteration as end:
            self._result.set_result(end.value)
        except StreamtagError as error:
            log.error("refused: %s", " | ".join(str(error).splitlines()))  # one line per change
            self._result.set_exception(error)
        except Exception as error:  # a command must not end the daemon
            log.exception("a command failed in an unexpected way")
            self._result.set_exception(ControlError(f"{type(error).__name__}: {error}"))
        else:
            self._job = wanted and _in_thread(wanted, self._streams.queue.wake)
            return False
        self._steps = None
        return True

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
                return self._merge({"streams": {request.name: request.stream}}, new=request.name)
            case SetCommand():
                return self._merge(request.table)
            case ModelCommand(command="swap"):
                return self._swap(request.tagger, request.bundle)
            case ModelCommand():
                return self._shadow(request.tagger, request.bundle)

    def _reload(self) -> Steps:
        if self._path is None:
            raise ControlError("reload: expected a daemon started from a file, got one without")
        running = self._streams.config
        new = yield partial(checked_config, self._path, partial(restart_needed, running))
        keys = yield self._streams.output.publisher.reload_keys
        result: Any = yield from self._change(new)
        if any(keys.values()):
            result = {**result, "keys": keys}
        log.info("configuration %s accepted", self._path)
        return result

    def _remove(self, name: str) -> Steps:
        self._check_stream(name)
        table = self._streams.config.model_dump(exclude_unset=True)
        del table["streams"][name]
        return (yield from self._change(parse_config(table, self._folder)))

    def _pause_or_resume(self, request: StreamCommand) -> Steps:
        yield from ()
        self._check_stream(request.name)
        paused = self._streams[request.name].state == SourceState.PAUSED
        if paused == (request.command == "pause"):
            wanted, is_ = ("running", "paused") if paused else ("paused", "running")
            raise ControlError(f"stream {request.name!r}: expected a {wanted} one, got one {is_}")
        if paused:
            self._streams.resume(request.name)
        else:
            self._streams.pause(request.name)
        return {f"{request.command}d": request.name}

    def _merge(self, table: dict[str, Any], new: str | None = None) -> Steps:
        if new in self._streams.config.streams:
            raise ControlError(f"stream {new!r}: expected a new name, got one that is there")
        running = self._streams.config.model_dump(exclude_unset=True)
        if absent := missing_keys(running, table):
            raise ControlError(
                f"{', '.join(absent)}: expected a key that is set, got one that is not"
            )
        return (yield from self._change(parse_config(merge(running, table), self._folder)))

    def _swap(self, tagger: str, bundle: str | None) -> Steps:
        config = self._streams.config
        self._check_tagger(tagger)
        shadow = self._models.shadows.get(tagger)
        if bundle is None:
            bundle = config.taggers[tagger].bundle if shadow is None else shadow.bundle
        change = {"taggers": {tagger: {"bundle": bundle}}}
        table = merge(config.model_dump(exclude_unset=True), change)
        return (yield from self._change(parse_config(table, self._folder)))

    def _shadow(self, tagger: str, bundle: str | None) -> Steps:
        self._check_tagger(tagger)
        if bundle is None:
            if tagger not in self._models.shadows:
                raise ControlError(f"tagger {tagger!r}: expected a shadow beside it, got none")
            report = self._streams.output.shadows.comparisons[tagger].report()
            self._models.stop_shadow(tagger)
            log.info("tagger %s: its shadow is removed", tagger)
            return {"ended": tagger, "agreement": report}
        path = self._folder / bundle
        batcher = yield partial(self._models.prepare, tagger, path)
        check_fit(self._streams.config, self._streams.cards | {tagger: batcher.tagger.card})
        self._models.start_shadow(tagger, ShadowTagger(str(path), batcher))
        log.info("tagger %s: %s is its shadow", tagger, batcher.tagger.card.name)
        return {"listening": tagger, "model": batcher.tagger.card.name}

    def _change(self, new: Config) -> Steps:
        """The change from the running configuration to another one."""
        old = self._streams.config
        faults = faults_of_changed_tables(old, new, from_file=self._path is not None)
        if complaints := [*restart_needed(old, new), *faults]:
            raise ConfigError("\n".join(complaints))
        what, batchers = yield partial(self._models.load, old, new)
        for tagger in what.taggers_swapped:
            shadow = self._models.shadows.get(tagger)
            if shadow is None or shadow.tagger.checksum != batchers[tagger].tagger.checksum:
                self._models.start_shadow(tagger, ShadowTagger("", batchers[tagger], new))
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline and not all(
            map(self._models.is_shadow_settled, what.taggers_swapped)
        ):
            yield None
        self._models.apply(new, what, batchers)
        words = [f"{how} {', '.join(names)}" for how, names in what.summary().items()]
        log.info("changed: %s", "; ".join(words) or "nothing")
        return what.summary()

    def _check_stream(self, name: str) -> None:
        if name not in self._streams.config.streams:
            known = ", ".join(self._streams.config.streams)
            raise ControlError(f"stream {name!r}: expected one of {known}; got none of them")

    def _check_tagger(self, tagger: str) -> None:
        if tagger not in self._streams.config.taggers:
            known = ", ".join(self._streams.config.taggers)
            raise ControlError(f"tagger {tagger!r}: expected one of {known}; got none of them")

    def _list(self) -> list[dict[str, object]]:
        """The result of `list`."""
        return [
            {
                "name": stream.name,
                "source": without_password(stream.config.source),
                "state": str(stream.state),
                "detail": stream.detail,
                "taggers": list(self._models.taggers_of(stream.name)),
                "samples": self._engine.end_of(stream.name),
            }
            for stream in self._streams.streams
        ]

    def _status(self) -> dict[str, object]:
        """The result of `status`."""
        states = Counter(str(stream.state) for stream in self._streams.streams)
        comparisons = self._streams.output.shadows.comparisons
        return {
            "version": streamtag.__version__,
            "seconds": time.monotonic() - self._begun,
            "busy": self._steps is not None,
            "streams": dict(states),
            "taggers": {name: _model_info(tagger) for name, tagger in self._models.models.items()},
            "shadows": {
                name: _model_info(shadow.tagger) | comparisons[name].report()
                for name, shadow in self._models.shadows.items()
            },
            "counters": dict(self._counters()),
        }


def _in_thread(work: Callable[[], Any], then: Callable[[], None]) -> Future[Any]:
    """Work in another thread than the engine's, which does not delay the end of the process."""
    future = Future[Any]()
    future.add_done_callback(lambda _: then())

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # it is raised where the work was requested
            future.set_exception(error)

    threading.Thread(target=run, name="change", daemon=True).start()
    return future


def without_password(source: str) -> str:
    """A source with `***` for its password."""
    return re.sub(r"(//[^/@\s]*?):[^/@\s]*@", r"\1:***@", source)


def _model_info(tagger: Tagger) -> dict[str, object]:
    return {"model": tagger.card.name, "checksum": tagger.checksum[:12], "device": tagger.device}
