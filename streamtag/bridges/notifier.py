"""`streamtag notify`: sends notifications of alerts through Apprise, each at least once.

Each target has a thread and a subscriber of its own, so that a slow mail server delays no other
target. Alerts that were not sent yet wait in the daemon's journal. A file has the position of the
target, the alerts that wait for the end of quiet hours, and the reminders.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from streamtag.bridges.bridge import (
    feed_access,
    load_running_config,
    required_table,
    run_until_shutdown,
    shutdown_on_signals,
)
from streamtag.bridges.scheduled_reports import ReportSchedule
from streamtag.config.alerts import NotifyConfig, NotifyTarget
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.config import Config
from streamtag.config.fields import read_secret
from streamtag.errors import FeedError, StreamtagError
from streamtag.feed.atomic_file import atomic_file
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.client.tracker import FeedItem, MissedMessages, Positions, positions_in
from streamtag.feed.messages import (
    AlertAcknowledged,
    AlertCleared,
    AlertMessage,
    AlertRaised,
    dump,
    parse,
)
from streamtag.feed.timestamps import ns_of, rfc3339

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.2
"""How long to wait for a message before a stop, or something that is due, is noticed."""
RETRY_SECONDS = 5.0
"""How long to wait after a feed or a disk could not be used."""
STOP_SECONDS = 1.0
"""How long the threads may take to end."""
UNDELIVERED = "undelivered.jsonl"
"""Name of the file that lists what could not be delivered."""
KINDS = {"info": "info", "warning": "warning", "critical": "failure"}
"""Apprise's names of the severities."""
NOISY = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib")
"""Loggers that could write addresses, with their secrets."""
_SECRETS = set[str]()
"""Parts of all addresses, which are removed from Apprise's messages. A message about one address
may come while another is used."""
_PIECE = re.compile(r"[^:/@?&=#,\s]{3,}")


class Sender(Protocol):
    """Sends one notification."""

    def send(self, title: str, body: str, kind: str, files: Sequence[str] = ()) -> str:
        """Sends it; returns why that failed, or an empty text."""


class AppriseSender:
    """An address of Apprise.

    Raises:
        StreamtagError: the address cannot be read, or Apprise does not know it.
    """

    def __init__(self, name: str, target: NotifyTarget) -> None:
        import apprise

        url = read_secret(f"notify.targets.{name}.url", target.url, target.url_file, target.url_env)
        self._scheme, _, rest = url.partition("://")
        _SECRETS.update(_PIECE.findall(rest))
        for noisy in map(logging.getLogger, NOISY):
            noisy.propagate = False
            noisy.addHandler(logging.NullHandler())
        self._apprise: Any = apprise.Apprise()
        self._capture: Any = apprise.LogCapture
        if not self._apprise.add(url):
            raise StreamtagError(
                f"notify.targets.{name}: expected an address that Apprise knows, got one of kind "
                f"{self._scheme!r:.30} that it refuses"
            )

    def send(self, title: str, body: str, kind: str, files: Sequence[str] = ()) -> str:
        """Sends it; returns why that failed, without any part of the address, or an empty text."""
        with self._capture(level=logging.WARNING, fmt="%(message)s") as lines:
            try:
                if self._apprise.notify(
                    body=body, title=title, notify_type=kind, attach=list(files) or None
                ):
                    return ""
                said = " ".join(lines.getvalue().split())
            except Exception as error:  # a plugin of Apprise must not end the bridge
                said = f"{type(error).__name__}: {error}"
        return self._redacted(said)[:300] or "refused"

    def _redacted(self, text: str) -> str:
        for secret in sorted(_SECRETS, key=len, reverse=True):
            text = text.replace(secret, "…")
        return text


@dataclass(slots=True)
class NotificationState:
    """What a target was notified of, stored in a file: the next bridge continues exactly there."""

    path: Path
    topics: Positions = field(default_factory=dict)
    held: dict[str, AlertRaised] = field(default_factory=dict)
    """By id: alerts that wait for the end of quiet hours."""
    reminders: dict[str, tuple[AlertRaised, int]] = field(default_factory=dict)
    """By id: alerts to send again, and when, in nanoseconds since 1970."""
    n_delivered: int = 0
    n_given_up: int = 0
    reported: str = ""
    """Key of the newest report that was sent or given up; empty before the first."""
    _saved: str = ""

    def save(self) -> None:
        """Replaces the file if something has changed.

        Raises:
            StreamtagError: it cannot be written.
        """
        body = {
            "v": 1,
            "delivered": self.n_delivered,
            "given_up": self.n_given_up,
            "reported": self.reported,
            "topics": self.topics,
            "held": [dump(one).decode() for one in self.held.values()],
            "reminders": [(dump(one).decode(), due) for one, due in self.reminders.values()],
        }
        if (text := json.dumps(body)) == self._saved:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path, durable=True) as partial:
                partial.write_text(text)
        except OSError as error:
            raise StreamtagError(
                f"{self.path}: expected a file for the state of notifications, got "
                f"{error.strerror}; set notify.state"
            ) from None
        self._saved = text


def load_state(path: Path) -> NotificationState:
    """Reads the state from a file; a new one if there is no file, or if it is damaged."""
    try:
        body = json.loads(path.read_bytes())
        topics = positions_in(body["topics"])
        held = {one.id: one for one in map(_raised, body["held"])}
        reminders = {
            one.id: (one, int(due)) for one, due in ((_raised(t), d) for t, d in body["reminders"])
        }
        counts = int(body["delivered"]), int(body["given_up"])
        reported = str(body.get("reported", ""))
        return NotificationState(path, topics, held, reminders, *counts, reported)
    except FileNotFoundError:
        return NotificationState(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, FeedError) as error:
        log.error("%s: expected the state of notifications, got %r; beginning anew", path, error)
        return NotificationState(path)


def _raised(text: str) -> AlertRaised:
    message = parse(text.encode())
    if not isinstance(message, AlertRaised):
        raise TypeError(f"expected alert_raised, got {message.type}")
    return message


class _ReportTries:
    """How often a report could not be sent, and when it is tried again."""

    def __init__(self, config: NotifyConfig) -> None:
        self._limit = config.give_up_seconds
        policy = BackoffPolicy(config.retry_seconds, config.longest_retry_seconds)
        self._backoff = Backoff(policy)
        self._began: float | None = None
        self.next = 0.0
        self.count = 0

    def failed(self) -> float:
        """Counts a failure; returns the seconds until the next try, 0 to give up."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        self.count += 1
        wait = self._backoff.failed()
        if self._limit and now + wait - self._began > self._limit:
            return 0.0
        self.next = now + wait
        return wait


class Notifier:
    """Sends the notifications of one target, until `stop` is set."""

    def __init__(
        self,
        daemon: Config,
        config: NotifyConfig,
        name: str,
        sender: Sender,
        stop: threading.Event,
        schedule: ReportSchedule | None = None,
    ) -> None:
        self._daemon, self._config, self._name = daemon, config, name
        self._sender, self._stop = sender, stop
        self.state = load_state(Path(config.state) / f"{name}.json")
        wanted = schedule and (schedule.config.notify is None or name in schedule.config.notify)
        self._schedule = schedule if wanted else None
        self._report_tries = _ReportTries(config)

    def run(self) -> None:
        """Follows the feed and notifies the target, until it is stopped."""
        while not self._stop.is_set():
            try:
                with Subscriber(
                    **feed_access(self._daemon),
                    streams=(),
                    derived=("alert",),
                    since=self.state.topics,
                ) as feed:
                    self._follow(feed)
            except StreamtagError as error:
                log.error("notify %s: %s", self._name, error)
                self._stop.wait(RETRY_SECONDS)

    def _follow(self, feed: Subscriber) -> None:
        while not self._stop.is_set():
            message = feed.receive(WAIT_SECONDS)
            if message is not None and not self._take(message):
                return
            if not self._notify_due():
                return
            self._send_report()
            self.state.save()

    def _take(self, message: FeedItem) -> bool:
        """Handles a message; returns whether the position may move on."""
        if isinstance(message, MissedMessages):
            log.error("notify %s: %s", self._name, message)
            if message.restarted:
                self.state.topics.pop(message.topic, None)
            return True
        if not isinstance(message, AlertMessage):
            return True
        if not self._handle(message):
            return False
        self.state.topics = self.state.topics | {message.topic: (message.epoch, message.seq)}
        return True

    def _handle(self, message: AlertMessage) -> bool:
        state, id_ = self.state, message.id
        if isinstance(message, AlertRaised):
            return self._name not in message.notify or self._raised(message)
        if isinstance(message, AlertAcknowledged):
            state.held.pop(id_, None)
            state.reminders.pop(id_, None)
            return True
        if not isinstance(message, AlertCleared):
            return True
        if not message.remaining:
            state.reminders.pop(id_, None)
        if id_ in state.held:
            if not message.remaining:
                del state.held[id_]
                log.info("notify %s: %s was over before quiet hours ended", self._name, id_)
            return True
        return self._name not in message.notify or self._notify(message)

    def _raised(self, message: AlertRaised) -> bool:
        if message.quiet_until and ns_of(message.quiet_until) > time.time_ns():
            self.state.held[message.id] = message
            return True
        return self._notify_raised(message)

    def _notify_raised(self, message: AlertRaised, *, again: bool = False) -> bool:
        if not self._notify(message, again=again):
            return False
        if message.remind_seconds:
            due = time.time_ns() + round(message.remind_seconds * 1e9)
            self.state.reminders[message.id] = (message, due)
        return True

    def _notify_due(self) -> bool:
        """Sends alerts that waited for the end of quiet hours, and reminders that are due."""
        state, now = self.state, time.time_ns()
        for message in list(state.held.values()):
            if ns_of(message.quiet_until) <= now:
                if not self._notify_raised(message):
                    return False
                del state.held[message.id]
        for message, due in list(state.reminders.values()):
            if due <= now and not self._notify_raised(message, again=True):
                return False
        return True

    def _send_report(self) -> None:
        """Sends the report that is due. After a failure it is tried again; alerts go on."""
        now, state, tries = time.time_ns(), self.state, self._report_tries
        if self._schedule is None:
            return
        due = self._schedule.due(now)
        if state.reported.partition(" ")[0] != self._schedule.config.every:
            state.reported = due  # there is no report of the time before the first start
        if due <= state.reported or time.monotonic() < tries.next:
            return
        made = self._schedule.made(now)
        if made is None:
            return
        why = self._sender.send(made.title, made.body, "info", made.files)
        if not why:
            state.n_delivered += 1
            log.info("notify %s: sent the report %s", self._name, made.key)
        elif wait := tries.failed():
            log.warning("notify %s: %s; trying again in %.1f s", self._name, why, wait)
            return
        else:
            row = {"type": "report", "id": made.key, "text": made.title, "why": why}
            self._list_undelivered(row, tries.count)
        self._report_tries = _ReportTries(self._config)
        state.reported = made.key

    def _notify(self, message: AlertRaised | AlertCleared, *, again: bool = False) -> bool:
        """Sends a notification until that works or takes too long; returns False at a stop."""
        title, body, kind = text_of(message, self._config.link, again=again)
        began, tries = time.monotonic(), 0
        policy = BackoffPolicy(self._config.retry_seconds, self._config.longest_retry_seconds)
        backoff = Backoff(policy)
        while not self._stop.is_set():
            why = self._sender.send(title, body, kind)
            if not why:
                self.state.n_delivered += 1
                log.info("notify %s: sent %s", self._name, message.id)
                return True
            tries += 1
            wait, elapsed = backoff.failed(), time.monotonic() - began
            limit = self._config.give_up_seconds
            if limit and elapsed + wait > limit:
                self._give_up(message, why, tries)
                return True
            log.warning("notify %s: %s; trying again in %.1f s", self._name, why, wait)
            self._stop.wait(wait)
        return False

    def _give_up(self, message: AlertRaised | AlertCleared, why: str, tries: int) -> None:
        row = {"type": message.type, "id": message.id, "text": message.detail, "why": why}
        self._list_undelivered(row, tries)

    def _list_undelivered(self, row: dict[str, str], tries: int) -> None:
        self.state.n_given_up += 1
        log.error(
            "notify %s: gave up %s after %d tries: %s", self._name, row["id"], tries, row["why"]
        )
        row = {"utc": rfc3339(time.time_ns()), "target": self._name} | row
        path = Path(self._config.state) / UNDELIVERED
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            log.error("notify %s: %s: %s", self._name, path, error)


def text_of(
    message: AlertRaised | AlertCleared, link: str, *, again: bool = False
) -> tuple[str, str, str]:
    """Title and body of a notification, and Apprise's name of its kind."""
    if isinstance(message, AlertCleared):
        head, kind = ("OVER" if not message.remaining else "PARTLY OVER"), "success"
        lines = [message.detail, f"Raised {_minute(message.since_utc)}"]
    else:
        head, kind = message.severity.upper(), KINDS.get(message.severity, "warning")
        head += " (reminder)" * again
        lines = [message.detail, f"Since {_minute(message.since_utc)}"]
    lines += [f"Alert {message.id}", *([link] if link else [])]
    text = [" ".join(line.split()) for line in lines]  # titles come from strangers
    return f"[{head}] {text[0]:.120}", "\n".join(text), kind


def _minute(utc: str) -> str:
    return f"{utc[:10]} {utc[11:19]} UTC"


def senders(config: NotifyConfig) -> Mapping[str, Sender]:
    """The sender of each target.

    Raises:
        StreamtagError: an address cannot be used.
    """
    return {name: AppriseSender(name, target) for name, target in config.targets.items()}


def run(path: Path) -> int:
    """Runs the bridge of a daemon's configuration until asked to end; returns the exit code.

    Raises:
        StreamtagError: the configuration or an address cannot be used.
    """
    daemon = load_running_config(path)
    config = required_table(daemon.notify, path, "[notify]", "alerts.md")
    schedule = _schedule(daemon, config, path)
    with shutdown_on_signals() as shutdown:
        notifiers = [
            Notifier(daemon, config, name, sender, shutdown.event, schedule)
            for name, sender in senders(config).items()
        ]
        run_until_shutdown([one.run for one in notifiers], shutdown, STOP_SECONDS)
    return 0


def _schedule(daemon: Config, config: NotifyConfig, path: Path) -> ReportSchedule | None:
    if daemon.report is None:
        return None
    folder = Path(daemon.report.folder or f"{config.state}/reports")
    return ReportSchedule(daemon.report, path, Path(daemon.feed.journal), folder)


def address_fault(name: str, target: NotifyTarget) -> str:
    """Why a target cannot be used; empty if it can."""
    try:
        AppriseSender(name, target)
    except StreamtagError as error:
        return str(error)
    return ""
