"""Execution of commands, one change at a time, in threads of its own.

Slow work, which is loading and warming up models, leaves all streams going on. Then the whole
change is made between two windows, or nothing changes.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import streamtag
from streamtag.bridges.supervision import faults_of_changed_tables
from streamtag.config.config import Config, parse_config
from streamtag.config.differences import Changes, changes, missing_keys, restart_needed
from streamtag.config.fields import merge
from streamtag.daemon.admission import admit, admit_all
from streamtag.daemon.alerting import change_alerts
from streamtag.daemon.check import checked_config
from streamtag.daemon.control import (
    AckCommand,
    AddCommand,
    ControlRequest,
    ModelCommand,
    PlainCommand,
    SetCommand,
    StreamCommand,
)
from streamtag.daemon.engine_commands import (
    ApplyChange,
    Describe,
    DiscardChange,
    EngineDescription,
    Engines,
    IsSettled,
    LoadChange,
    LoadedChange,
    LoadShadow,
    Pause,
    Resume,
    StartShadow,
    StartSwap,
    StopShadow,
)
from streamtag.daemon.output import EventOutput
from streamtag.engine.events import SourceState
from streamtag.engine.shadow import merged_reports
from streamtag.errors import ConfigError, ControlError, StreamtagError
from streamtag.feed.messages import Message
from streamtag.feed.timestamps import rfc3339
from streamtag.monitoring.alerts import AlertEngine

log = logging.getLogger(__name__)

SETTLE_SECONDS = 30.0
"""How long a swap waits at most until the new model has enough audio of every stream."""
SETTLE_POLL_SECONDS = 0.05
"""How often a swap looks whether it has."""
CHANGEABLE = {"taggers", "streams", "defaults", "languages"}
"""The tables of `config`: none of them holds a secret of a bridge."""


@dataclass(frozen=True, slots=True)
class StreamsChange:
    """What a fleet gives this daemon, and takes from it. No client can send it."""

    add: Mapping[str, Any]
    """Tables of streams, which may replace others."""
    remove: Collection[str]


class CommandExecutor:
    """Takes requests from any thread. Changes wait for each other, questions do not.

    Args:
        config: the one that runs.
        path: of the configuration file, to read it again; None where there is none.
        engines: run the streams.
        output: publishes their events.
        counters: gives all counters by dotted name.
        alerts: observe the output, where there are rules.
    """

    def __init__(
        self,
        config: Config,
        path: Path | None,
        engines: Engines,
        output: EventOutput,
        counters: Callable[[], Mapping[str, float]],
        alerts: AlertEngine | None = None,
    ) -> None:
        self._alerts = alerts or AlertEngine()
        self.config = config
        """The configuration that runs. It is replaced when it changes."""
        self._path, self._engines, self._output = path, engines, output
        self._counters = counters
        self._folder = Path.cwd() if path is None else path.resolve().parent
        self.on_reload: list[Callable[[Config], None]] = []
        """Called with each configuration that was read again, before it is used."""
        self._shadows: dict[str, str] = {}  # paths of the models that run beside others, by tagger
        self._begun, self._closing = time.monotonic(), threading.Event()
        self._changes, self._questions = _Lane(self._change_for), _Lane(self._answer_to)

    def submit(self, request: ControlRequest | StreamsChange) -> Future[object]:
        """Submits a request, whose result or StreamtagError comes later."""
        is_question = isinstance(request, AckCommand) or (
            isinstance(request, PlainCommand) and request.command != "reload"
        )
        return (self._questions if is_question else self._changes).put(request)

    def close(self) -> None:
        """Refuses all requests that wait."""
        self._closing.set()
        self._changes.close()
        self._questions.close()

    def _answer_to(self, request: ControlRequest | StreamsChange) -> object:
        """The result of a command that changes no stream."""
        if isinstance(request, AckCommand):
            return self._acknowledge(request)
        if isinstance(request, PlainCommand) and request.command == "alerts":
            return self._raised_alerts()
        if isinstance(request, PlainCommand) and request.command == "config":
            return self.config.model_dump(exclude_unset=True, include=CHANGEABLE)
        found: list[EngineDescription] = self._engines.ask(Describe())
        by_name = {row["name"]: row for one in found for row in one.streams}
        rows = [by_name[name] for name in self.config.streams if name in by_name]
        if isinstance(request, PlainCommand) and request.command == "list":
            return rows
        return self._status(rows, found)

    def _acknowledge(self, request: AckCommand) -> object:
        by = request.by or "streamtag ctl"
        made = self._output.derive(
            lambda now: self._alerts.acknowledge(
                now, request.alert, request.stream, by, request.note
            )
        )
        if not made:
            raised = ", ".join(dict.fromkeys(row["alert"] for row in self._raised_alerts()))
            of = f" of stream {request.stream!r}" if request.stream else ""
            raise ControlError(
                f"alert {request.alert!r}{of}: expected one that is raised, got one that is not; "
                f"raised are: {raised or 'none'}"
            )
        return {"acknowledged": [message.id for message in made if hasattr(message, "id")]}

    def _raised_alerts(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []

        def read(_: int) -> list[Message]:
            rows.extend(asdict(incident) for incident in self._alerts.raised)
            return []

        self._output.derive(read)
        for row in rows:
            row |= {"alert": row.pop("rule"), "utc": rfc3339(row.pop("raised"))}
            row["streams"] = sorted(filter(None, row["streams"]))
        return rows

    def _status(
        self, rows: Sequence[Mapping[str, object]], engines: Sequence[EngineDescription]
    ) -> dict[str, object]:
        reports = merged_reports([one.reports for one in engines])
        models = {name: info for one in engines for name, info in one.models.items()}
        shadows = {name: info for one in engines for name, info in one.shadows.items()}
        return {
            "version": streamtag.__version__,
            "seconds": time.monotonic() - self._begun,
            "busy": self._changes.busy,
            "streams": dict(Counter(row["state"] for row in rows)),
            "taggers": models,
            "shadows": {name: info | reports[name] for name, info in shadows.items()},
            "counters": dict(self._counters()),
        }

    def _change_for(self, request: ControlRequest | StreamsChange) -> object:
        """Makes the change of a request; returns its result."""
        self._refuse_what_is_the_fleets(request)
        match request:
            case StreamsChange():
                return self._assign(request)
            case PlainCommand():
                return self._reload()
            case AckCommand():
                return self._acknowledge(request)
            case StreamCommand(command="remove"):
                return self._remove(request.name)
            case StreamCommand():
                return self._pause_or_resume(request)
            case AddCommand():
                return self._merge({"streams": {request.name: request.stream}}, new=request.name)
            case SetCommand():
                return self._merge(request.table)
            case ModelCommand(command="swap"):
                return self._swap(request.tagger, request.bundle, request.sha256)
            case ModelCommand():
                return self._shadow(request.tagger, request.bundle)

    def _reload(self) -> object:
        if self._path is None:
            raise ControlError("reload: expected a daemon started from a file, got one without")
        new = checked_config(self._path, partial(restart_needed, self.config))
        for call in self.on_reload:
            call(new)
        if new.fleet is not None:  # the fleet decides which streams run here
            streams = {"streams": self.config.streams, "exit_when_done": False}
            new = new.model_copy(update=streams)
        keys = self._output.reload_keys()
        result: dict[str, Any] = dict(self._change(new))
        if any(keys.values()):
            result["keys"] = keys
        log.info("configuration %s accepted", self._path)
        return result

    def _refuse_what_is_the_fleets(self, request: ControlRequest | StreamsChange) -> None:
        """A client cannot add or remove streams of one daemon of a fleet."""
        if self.config.fleet is None:
            return
        if isinstance(request, SetCommand):
            changes_streams = "streams" in request.table
        else:
            is_removal = isinstance(request, StreamCommand) and request.command == "remove"
            changes_streams = is_removal or isinstance(request, AddCommand)
        if changes_streams:
            raise ControlError(
                "streams: expected a command to the fleet, since this daemon belongs to "
                f"{self.config.fleet.name!r}, got one to it; use streamtag fleet add|remove"
            )

    def _assign(self, request: StreamsChange) -> object:
        table = self.config.model_dump(exclude_unset=True)
        kept = {n: t for n, t in table["streams"].items() if n not in request.remove}
        table["streams"] = kept | dict(request.add)
        return self._change(parse_config(table, self._folder))

    def _remove(self, name: str) -> object:
        self._check_stream(name)
        table = self.config.model_dump(exclude_unset=True)
        del table["streams"][name]
        return self._change(parse_config(table, self._folder))

    def _pause_or_resume(self, request: StreamCommand) -> object:
        name = request.name
        self._check_stream(name)
        found: list[EngineDescription] = self._engines.ask(Describe())
        paused = any(
            row["name"] == name and row["state"] == SourceState.PAUSED
            for one in found
            for row in one.streams
        )
        if paused == (request.command == "pause"):
            wanted, is_ = ("running", "paused") if paused else ("paused", "running")
            raise ControlError(f"stream {name!r}: expected a {wanted} one, got one {is_}")
        self._engines.ask_owner(name, Resume(name) if paused else Pause(name))
        return {f"{request.command}d": name}

    def _merge(self, table: dict[str, Any], new: str | None = None) -> object:
        if new in self.config.streams:
            raise ControlError(f"stream {new!r}: expected a new name, got one that is there")
        running = self.config.model_dump(exclude_unset=True)
        if absent := missing_keys(running, table):
            raise ControlError(
                f"{', '.join(absent)}: expected a key that is set, got one that is not"
            )
        return self._change(parse_config(merge(running, table), self._folder))

    def _swap(self, tagger: str, bundle: str | None, pin: str | None) -> object:
        self._check_tagger(tagger)
        if bundle is None:
            bundle = self._shadows.get(tagger, self.config.taggers[tagger].bundle)
        pinned = {} if pin is None else {"sha256": pin}
        change = {"taggers": {tagger: {"bundle": bundle} | pinned}}
        table = merge(self.config.model_dump(exclude_unset=True), change)
        return self._change(parse_config(table, self._folder))

    def _shadow(self, tagger: str, bundle: str | None) -> object:
        self._check_tagger(tagger)
        if bundle is None:
            if tagger not in self._shadows:
                raise ControlError(f"tagger {tagger!r}: expected a shadow beside it, got none")
            del self._shadows[tagger]
            found = self._engines.ask(StopShadow(tagger))
            log.info("tagger %s: its shadow is removed", tagger)
            report = merged_reports([{tagger: one} for one in found if one is not None])
            return {"ended": tagger, "agreement": report[tagger]}
        path = self._folder / bundle
        admit(path, self.config.models)
        model: str = self._engines.ask(LoadShadow(tagger, path))[0]
        self._engines.ask(StartShadow(tagger))
        self._shadows[tagger] = str(path)
        log.info("tagger %s: %s is its shadow", tagger, model)
        return {"listening": tagger, "model": model}

    def _change(self, new: Config) -> Mapping[str, list[str]]:
        """Changes from the running configuration to another one, or not at all."""
        old = self.config
        faults = faults_of_changed_tables(old, new, from_file=self._path is not None)
        if complaints := [*restart_needed(old, new), *faults]:
            raise ConfigError("\n".join(complaints))
        try:
            what = self._load(new)
            self._engines.ask(StartSwap())
            self._wait_until_settled()
        except StreamtagError:
            with suppress(StreamtagError):
                self._engines.ask(DiscardChange())
            raise
        self._engines.ask(ApplyChange())
        self._change_alerts(new)
        self.config, self._output.config = new, new.feed
        for tagger in (*what.taggers_swapped, *what.taggers_removed):
            self._shadows.pop(tagger, None)
        summary = what.summary()
        words = [f"{how} {', '.join(names)}" for how, names in summary.items()]
        log.info("changed: %s", "; ".join(words) or "nothing")
        return summary

    def _change_alerts(self, new: Config) -> None:
        def change(_: int) -> list[Message]:
            change_alerts(self._alerts, new)
            return []

        self._output.derive(change)

    def _load(self, new: Config) -> Changes:
        """Loads what the change needs, in every engine; returns what differs."""
        admit_all(new)
        loaded: list[LoadedChange] = self._engines.ask(LoadChange(new))
        if len({tuple(sorted(one.checksums.items())) for one in loaded}) > 1:
            raise ControlError("a model's file has changed while it was read; try again")
        stale = {name for one in loaded for name in one.changes.taggers_swapped}
        return changes(self.config, new, frozenset(stale))

    def _wait_until_settled(self) -> None:
        """Waits until new models have had enough audio, but not for ever."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline and not all(self._engines.ask(IsSettled())):
            self._closing.wait(SETTLE_POLL_SECONDS)

    def _check_stream(self, name: str) -> None:
        if name not in self.config.streams:
            known = ", ".join(self.config.streams)
            raise ControlError(f"stream {name!r}: expected one of {known}; got none of them")

    def _check_tagger(self, tagger: str) -> None:
        if tagger not in self.config.taggers:
            known = ", ".join(self.config.taggers)
            raise ControlError(f"tagger {tagger!r}: expected one of {known}; got none of them")


class _Lane:
    """A thread that executes requests one after another."""

    def __init__(self, execute: Callable[[ControlRequest | StreamsChange], object]) -> None:
        self._execute = execute
        Waiting = tuple[ControlRequest | StreamsChange, Future[object]]
        self._waiting = queue.SimpleQueue[Waiting | None]()
        self.busy = False
        """Whether a request is being executed."""
        self._closed = False
        threading.Thread(target=self._run, name="commands", daemon=True).start()

    def put(self, request: ControlRequest | StreamsChange) -> Future[object]:
        result = Future[object]()
        result.set_running_or_notify_cancel()  # from now on nobody can cancel it
        self._waiting.put((request, result))
        return result

    def close(self) -> None:
        """Refuses what waits, and what comes later."""
        self._closed = True
        self._waiting.put(None)  # wakes the thread

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None or self._closed:
            if item is None:
                continue
            request, result = item
            self.busy = True
            answer = self._answer(request)
            self.busy = False
            if isinstance(answer, Exception):
                result.set_exception(answer)
            else:
                result.set_result(answer)

    def _answer(self, request: ControlRequest | StreamsChange) -> object:
        """The result of a request, or why there is none."""
        if self._closed:
            return ControlError("the daemon stops")
        try:
            return self._execute(request)
        except StreamtagError as error:
            log.error("refused: %s", " | ".join(str(error).splitlines()))  # one line per change
            return error
        except Exception as error:  # a command must not end the daemon
            log.exception("a command failed in an unexpected way")
            return ControlError(f"{type(error).__name__}: {error}")
