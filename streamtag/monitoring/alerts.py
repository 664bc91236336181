"""Raises and clears alerts by rules, as an observer of the feed.

A case is a rule applied to a stream. When the condition of a case has held for long enough, the
case waits for others of its rule (`group_seconds`), and all of them are raised as one alert. The
alert is cleared for a stream when its condition has not held there for long enough.

After a restart `restore` reads from the journal which alerts are raised, and computes the facts
from the other messages. So each alert is raised and cleared once, whenever the daemon is killed.
"""

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streamtag.config.alerts import AlertConfig
from streamtag.feed.messages import (
    AlertAcknowledged,
    AlertCleared,
    AlertMessage,
    AlertRaised,
    Message,
    Stats,
    StreamDown,
)
from streamtag.feed.timestamps import SECOND, ns_of, rfc3339
from streamtag.monitoring.conditions import Condition, Verdict, duration
from streamtag.monitoring.derivation import JournalPast
from streamtag.monitoring.facts import DaemonFacts, ShareWindow, StreamFacts, moment_known

SETTLE = SECOND
"""How long a condition must not hold before it counts as ended, in nanoseconds. The next message
may be the end of the stream, and then nothing is known about the condition."""
MOST_NAMED = 20
"""The most streams that a text names."""
_ABOUT_ALERTS: tuple[type[Message], ...] = (AlertRaised, AlertCleared, AlertAcknowledged)
AT_ONCE = 1
"""A due time that stands for the next opportunity."""
DAEMON = ""
"""Stands for the name of a stream in rules about the daemon."""


@dataclass(slots=True, eq=False)
class Incident:
    """An alert that is raised."""

    id: str
    rule: str
    raised: int
    """UTC in nanoseconds since 1970."""
    streams: set[str]
    """The streams for which it is not cleared yet."""
    notify: tuple[str, ...]
    detail: str = ""
    acknowledged_by: str = ""


@dataclass(slots=True, eq=False)
class _Case:
    """A rule applied to a stream."""

    rule: "_Rule"
    stream: str
    share: ShareWindow | None
    since: int = 0  # since when the condition holds; 0 if it does not
    ended: int = 0  # since when it does not, while the case is raised or waits
    due: int = 0  # when to look again; 0 for never
    last_raised: int = 0
    detail: str = ""
    incident: Incident | None = None


@dataclass(slots=True, eq=False)
class _Rule:
    """A rule, with the cases that wait to be raised or cleared together."""

    config: AlertConfig
    condition: Condition
    raising: dict[_Case, int] = field(default_factory=dict)  # when each was decided
    raise_due: int = 0
    clearing: dict[_Case, int] = field(default_factory=dict)
    clear_due: int = 0

    @property
    def group(self) -> int:
        return round(self.config.group_seconds * SECOND)


@dataclass(slots=True, eq=False)
class _Watch:
    """A stream with its facts and cases."""

    stream: str
    cases: list[_Case]
    facts: StreamFacts = field(default_factory=StreamFacts)
    clock: int = 0
    """The latest moment of its messages."""
    due: int = 0
    _interested: dict[object, list[_Case]] = field(default_factory=dict)

    def interested(self, message: Message) -> list[_Case]:
        """The cases that may change with a message."""
        key = (type(message), getattr(message, "tag", ""))
        if key not in self._interested:
            self._interested[key] = [
                case
                for case in self.cases
                if type(message) in case.rule.condition.types and case.rule.condition.wants(message)
            ]
        return self._interested[key]

    def forget_interests(self) -> None:
        """Forgets which cases each message may change, because the cases have changed."""
        self._interested.clear()


class AlertEngine:
    """Raises and clears alerts; an `Observer`.

    Args:
        alerts: the rules.
        targets: names of all targets of notifications.
        categories: of the models' tags.
        streams: the streams that are configured; None if it is not known.
    """

    def __init__(
        self,
        alerts: Sequence[AlertConfig] = (),
        targets: Sequence[str] = (),
        categories: Mapping[str, str] | None = None,
        streams: Iterable[str] | None = None,
    ) -> None:
        self._targets, self._categories = tuple(targets), categories or {}
        self._streams = None if streams is None else frozenset(streams)
        self._rules = {one.name: _Rule(one, Condition(one, self._categories)) for one in alerts}
        self._daemon = DaemonFacts()
        self._watches: dict[str, _Watch] = {}
        self._incidents: dict[str, Incident] = {}
        self._ending: list[tuple[Incident, str]] = []  # without a case; and why they end
        self._heap: list[tuple[int, int, _Watch]] = []
        self._order = itertools.count()
        self._restoring, self._held_back = False, set[_Case]()
        self._waiting: dict[_Rule, None] = {}  # rules with cases that wait for others
        self._last_id = 0
        self.types = self._types()
        """The types of the messages that the conditions need."""
        self.horizon_seconds = self._horizon()
        self._watch(DAEMON)

    def _types(self) -> frozenset[type[Message]]:
        found = {kind for rule in self._rules.values() for kind in rule.condition.types}
        return frozenset(found)

    def _horizon(self) -> float:
        """The longest time that a rule depends on, in seconds."""
        rules = self._rules.values()
        times = [(r.condition.horizon_seconds, r.config.cooldown_seconds) for r in rules]
        return max(itertools.chain(*times), default=0.0)

    @property
    def raised(self) -> list[Incident]:
        """The alerts that are raised, the oldest first."""
        return sorted(self._incidents.values(), key=lambda one: one.raised)

    # Observer

    def restore(self, past: JournalPast) -> None:
        """Restores the state of the last run."""
        self._restoring = True
        conditions = [rule.condition for rule in self._rules.values()]
        types = frozenset(_ABOUT_ALERTS).union(*(one.past_types for one in conditions))
        begin = next((message.utc for message in past.of(types)), "~")
        old = [message for message in past.in_force if message.utc < begin]
        # Messages in force that are not among the others are applied after them.
        new = [m for m in past.in_force if m.utc >= begin and type(m) not in types]
        for message in itertools.chain(old, past.of(types), new):
            if isinstance(message, AlertMessage):
                self._restore_alert(message)
            elif type(message) in self.types:
                self.observe(message, 0)
        self._restoring = False
        for case in self._held_back:
            self._schedule(case, AT_ONCE)
        self._held_back.clear()
        for incident in self._incidents.values():
            self._schedule_unconfigured(incident)

    def observe(self, message: Message, now_ns: int) -> list[Message]:
        """Handles a message of a stream, or the daemon's counters."""
        utc = ns_of(message.utc)
        watch = self._watch(message.stream)
        watch.clock = max(watch.clock, moment_known(message, utc))
        made = self._advance(watch, watch.clock)
        if isinstance(message, Stats):
            self._daemon.update(message)
        else:
            watch.facts.update(message, utc)
        for case in watch.interested(message):
            self._look(case, watch, watch.clock)
        if isinstance(message, StreamDown) and message.removed:
            self._remove(watch)
        return [*made, *self._flush(watch.clock)] if self._waiting else made

    def tick(self, now_ns: int) -> list[Message]:
        """Judges the cases that may change by the passing of time."""
        made = self._end_unconfigured(now_ns) if self._ending else []
        while self._heap and self._heap[0][0] <= now_ns:
            due, _, watch = heapq.heappop(self._heap)
            if watch.due and watch.due <= due:
                made += self._advance(watch, now_ns if due == AT_ONCE else due)
        return [*made, *self._flush(now_ns)] if self._waiting else made

    def close(self, now_ns: int) -> list[Message]:
        """Raises and clears the cases that wait for others. Alerts stay raised meanwhile."""
        for rule in self._waiting:
            rule.raise_due = min(rule.raise_due, now_ns)
            rule.clear_due = min(rule.clear_due, now_ns)
        return [*self._end_unconfigured(now_ns), *self._flush(now_ns)]

    # Commands

    def configure(
        self,
        alerts: Sequence[AlertConfig],
        targets: Sequence[str],
        categories: Mapping[str, str],
        streams: Iterable[str],
    ) -> None:
        """Replaces the rules. Rules that have not changed keep their state."""
        self._targets, self._categories = tuple(targets), categories
        self._streams = frozenset(streams)
        before, self._rules = self._rules, {}
        for one in alerts:
            old = before.get(one.name)
            same = old is not None and old.config == one
            self._rules[one.name] = (
                old if old and same else _Rule(one, Condition(one, self._categories))
            )
        self.types = self._types()
        gone = {name for name, rule in before.items() if self._rules.get(name) is not rule}
        for incident in [one for one in self._incidents.values() if one.rule in gone]:
            self._ending.append((self._incidents.pop(incident.id), "configuration"))
        for watch in self._watches.values():
            kept = {case.rule.config.name: case for case in watch.cases}
            watch.cases = [
                kept[name] if name in kept and name not in gone else self._case(rule, watch.stream)
                for name, rule in self._rules.items()
                if self._applies(rule, watch.stream)
            ]
            watch.forget_interests()
            for case in watch.cases:
                if case.rule.config.name not in before or case.rule.config.name in gone:
                    self._look(case, watch, watch.clock)

    def acknowledge(
        self, now_ns: int, name: str, stream: str | None, by: str, note: str
    ) -> list[Message]:
        """Acknowledges the raised alerts of a rule, or only those of one stream."""
        found = [
            one
            for one in self.raised
            if name in (one.rule, one.id) and (stream is None or stream in one.streams)
        ]
        made: list[Message] = []
        for one in found:
            one.acknowledged_by = by
            head = self._head(one.rule, one.id, sorted(one.streams), now_ns)
            made.append(AlertAcknowledged(**head, by=by, note=note))  # type: ignore[arg-type]
        return made

    # Cases

    def _watch(self, stream: str) -> _Watch:
        if stream not in self._watches:
            rules = [rule for rule in self._rules.values() if self._applies(rule, stream)]
            watch = _Watch(stream, [self._case(rule, stream) for rule in rules])
            self._watches[stream] = watch
        return self._watches[stream]

    def _applies(self, rule: _Rule, stream: str) -> bool:
        if rule.condition.of_daemon or stream == DAEMON:
            return rule.condition.of_daemon and stream == DAEMON
        return rule.condition.matches_stream(stream)

    def _case(self, rule: _Rule, stream: str) -> _Case:
        return _Case(rule, stream, rule.condition.share_window())

    def _advance(self, watch: _Watch, now: int) -> list[Message]:
        """Judges the cases of a stream that are due, each at its due time."""
        made: list[Message] = []
        while watch.due and watch.due <= now:
            case = min((c for c in watch.cases if c.due), key=lambda c: c.due, default=None)
            if case is None or case.due > now:
                self._set_due(watch)
                continue
            at, case.due = (now if case.due == AT_ONCE else case.due), 0
            made += self._flush(at - 1) if self._waiting else []
            self._look(case, watch, at)
            self._set_due(watch)
        return [*made, *self._flush(now)] if self._waiting else made

    def _set_due(self, watch: _Watch) -> None:
        watch.due = min((case.due for case in watch.cases if case.due), default=0)
        if watch.due:
            heapq.heappush(self._heap, (watch.due, next(self._order), watch))

    def _schedule(self, case: _Case, at: int) -> None:
        if at and not (case.due and case.due <= at):
            case.due = at
            watch = self._watches[case.stream]
            if not watch.due or at < watch.due:
                watch.due = at
                heapq.heappush(self._heap, (at, next(self._order), watch))

    def _look(self, case: _Case, watch: _Watch, now: int) -> None:
        """Judges a case, and schedules what follows."""
        verdict = self._verdict(case, watch, now)
        self._schedule(case, verdict.again if verdict.again > now else 0)
        if verdict.holds is None:
            case.since = 0
            case.ended = 0
        elif verdict.holds:
            self._holds(case, verdict, now)
        else:
            self._holds_not(case, now)

    def _verdict(self, case: _Case, watch: _Watch, now: int) -> Verdict:
        condition = case.rule.condition
        if condition.of_daemon:
            return condition.look_at_daemon(self._daemon, now)
        verdict = condition.look(watch.facts, now, case.share)
        matters = case.incident or case in case.rule.raising
        if verdict.holds is False and matters and now < condition.resumes(watch.facts):
            return Verdict(None, 0, condition.resumes(watch.facts))
        return verdict

    def _holds(self, case: _Case, verdict: Verdict, now: int) -> None:
        case.since = case.since or verdict.since
        case.ended = 0
        case.rule.clearing.pop(case, None)
        if case.incident or case in case.rule.raising:
            return
        cooldown = round(case.rule.config.cooldown_seconds * SECOND) if case.last_raised else 0
        due = max(case.since + case.rule.condition.hold, case.last_raised + cooldown)
        if now < due:
            self._schedule(case, due)
        elif self._restoring:
            self._held_back.add(case)
        else:
            case.detail = verdict.detail
            rule = case.rule
            rule.raise_due = rule.raise_due or now + rule.group
            rule.raising[case] = now
            self._waiting[rule] = None

    def _holds_not(self, case: _Case, now: int) -> None:
        case.since = 0
        rule = case.rule
        if not case.incident and case not in rule.raising:
            return
        case.ended = case.ended or now
        clear = round(rule.config.clear_seconds * SECOND) if case.incident else 0
        due = case.ended + max(SETTLE, clear)
        if now < due:
            self._schedule(case, due)
        elif self._restoring:
            self._held_back.add(case)
        elif not case.incident:
            del rule.raising[case]
        elif case not in rule.clearing:
            rule.clear_due = rule.clear_due or now + rule.group
            rule.clearing[case] = now
            self._waiting[rule] = None

    def _remove(self, watch: _Watch) -> None:
        """Ends the cases of a stream that was removed from the configuration."""
        for case in watch.cases:
            case.rule.raising.pop(case, None)
            case.rule.clearing.pop(case, None)
            if case.incident:
                self._ending.append((_part(case.incident, {watch.stream}), "removed"))
        watch.due = 0
        del self._watches[watch.stream]

    # Messages

    def _flush(self, now: int) -> list[Message]:
        """Raises and clears the alerts that have waited for others long enough."""
        made: list[Message] = []
        for rule in tuple(self._waiting):
            if rule.raising and rule.raise_due <= now:
                made.append(self._raise(rule))
            if rule.clearing and rule.clear_due <= now:
                made += self._clear(rule)
            if not rule.raising and not rule.clearing:
                rule.raise_due = rule.clear_due = 0
                del self._waiting[rule]
        return made

    def _raise(self, rule: _Rule) -> Message:
        cases, at = list(rule.raising), max(rule.raise_due, *rule.raising.values())
        rule.raising, rule.raise_due = {}, 0
        self._last_id = max(self._last_id + 1000, at)  # microseconds, unique
        config, streams = rule.config, [case.stream for case in cases if case.stream]
        id_ = f"{config.name}@{rfc3339(self._last_id)}"
        notify = self._targets if config.notify is None else config.notify
        incident = Incident(id_, config.name, at, set(), notify)
        incident.detail = _text(rule, cases)
        self._incidents[id_] = incident
        for case in cases:
            incident.streams.add(case.stream)
            case.incident, case.last_raised = incident, at
        quiet = config.quiet_until(at)
        return AlertRaised(
            **self._head(config.name, id_, streams, at),  # type: ignore[arg-type]
            streams=tuple(streams),
            severity=config.severity,
            since_utc=rfc3339(min(case.since or at for case in cases)),
            detail=incident.detail,
            notify=notify,
            quiet_until=rfc3339(quiet) if quiet else "",
            remind_seconds=config.remind_seconds,
        )

    def _clear(self, rule: _Rule) -> list[Message]:
        at = max(rule.clear_due, *rule.clearing.values())
        by_incident: dict[str, list[_Case]] = {}
        for case in rule.clearing:
            assert case.incident is not None
            by_incident.setdefault(case.incident.id, []).append(case)
        rule.clearing, rule.clear_due = {}, 0
        made: list[Message] = []
        for cases in by_incident.values():
            incident = cases[0].incident
            assert incident is not None
            for case in cases:
                case.incident, case.ended = None, 0
            made.append(self._cleared(incident, [case.stream for case in cases], "over", at))
        return made

    def _cleared(self, incident: Incident, over: list[str], why: str, at: int) -> Message:
        incident.streams.difference_update(over)
        if not incident.streams:
            self._incidents.pop(incident.id, None)
        rule = self._rules.get(incident.rule)
        wanted = rule is not None and rule.config.notify_cleared
        seconds = max(0.0, (at - incident.raised) / 1e9)
        streams = sorted(filter(None, over))
        words = {"over": "over", "removed": "stream removed", "configuration": "rule changed"}[why]
        left = f"; {len(incident.streams)} left" if incident.streams else ""
        return AlertCleared(
            **self._head(incident.rule, incident.id, streams, at),  # type: ignore[arg-type]
            streams=tuple(streams),
            remaining=tuple(sorted(filter(None, incident.streams))),
            since_utc=rfc3339(incident.raised),
            why=why,
            detail=f"{_named(streams)}{words} after {duration(round(seconds))}{left}",
            notify=incident.notify if wanted else (),
        )

    def _head(self, rule: str, id_: str, streams: Sequence[str], at: int) -> dict[str, object]:
        stream = streams[0] if len(streams) == 1 else ""
        watch = self._watches.get(stream)
        t = watch.facts.stream_time(at) if watch and stream else 0.0
        head = {"epoch": "", "seq": 0, "stream": stream, "t": t, "utc": rfc3339(at)}
        return head | {"alert": rule, "id": id_}

    # Restart

    def _restore_alert(self, message: AlertMessage) -> None:
        """Restores an alert from a message of the journal."""
        if isinstance(message, AlertRaised):
            at = ns_of(message.utc)
            streams = set(message.streams or (DAEMON,))
            self._last_id = max(self._last_id, at)
            incident = Incident(message.id, message.alert, at, streams, message.notify)
            incident.detail = message.detail
            self._incidents[message.id] = incident
            for case in self._cases_of(message.alert, streams):
                case.incident, case.last_raised = incident, at
            return
        incident_or_none = self._incidents.get(message.id)
        if isinstance(message, AlertCleared):
            # Of several such messages only the last is in force. It names the streams left.
            whole = incident_or_none.streams if incident_or_none else set[str]()
            for case in self._cases_of(message.alert, whole - set(message.remaining)):
                if case.incident is incident_or_none:
                    case.incident = None
            if incident_or_none:
                incident_or_none.streams &= set(message.remaining)
                if not incident_or_none.streams:
                    del self._incidents[message.id]
        elif isinstance(message, AlertAcknowledged) and incident_or_none:
            incident_or_none.acknowledged_by = message.by

    def _cases_of(self, rule: str, streams: Iterable[str]) -> list[_Case]:
        return [
            case
            for stream in streams
            for case in self._watch(stream).cases
            if case.rule.config.name == rule
        ]

    def _schedule_unconfigured(self, incident: Incident) -> None:
        """Schedules the end of an alert whose rule, or streams, were removed from the
        configuration."""
        known = {case.stream for case in self._cases_of(incident.rule, incident.streams)}
        if self._streams is not None:
            known &= {DAEMON, *self._streams}
        for case in self._cases_of(incident.rule, incident.streams):
            self._schedule(case, AT_ONCE)
        if removed := incident.streams - known:
            why = "removed" if incident.rule in self._rules else "configuration"
            self._ending.append((_part(incident, removed), why))

    def _end_unconfigured(self, now: int) -> list[Message]:
        """Clears alerts whose rule, or streams, were removed from the configuration."""
        made: list[Message] = []
        ending, self._ending = self._ending, []
        for part, why in ending:
            whole = self._incidents.get(part.id, part)
            made.append(self._cleared(whole, sorted(part.streams), why, now))
        return made


def _part(whole: Incident, streams: set[str]) -> Incident:
    """The same alert for only some of its streams."""
    return Incident(whole.id, whole.rule, whole.raised, streams, whole.notify)


def _text(rule: _Rule, cases: Sequence[_Case]) -> str:
    """The text of an alert for people."""
    streams = sorted(case.stream for case in cases if case.stream)
    details = list(dict.fromkeys(case.detail for case in cases if case.detail))
    what = rule.config.text or (details[0] if len(details) == 1 else rule.config.when)
    if rule.config.for_seconds:
        what += f" for {duration(rule.config.for_seconds)}"
    return f"{_named(streams)}{what.replace('_', ' ') if not rule.config.text else what}"


def _named(streams: Sequence[str]) -> str:
    """The beginning of a text about streams."""
    if not streams:
        return ""
    if len(streams) == 1:
        return f"{streams[0]}: "
    more = f" and {len(streams) - MOST_NAMED} more" if len(streams) > MOST_NAMED else ""
    return f"{len(streams)} streams ({', '.join(streams[:MOST_NAMED])}{more}): "
