"""Notifications to a real SMTP server and a real HTTP receiver, which fail, hang and come back."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from support.feeds import Feed
from support.peers import free_port, wait_until
from support.receiver import Receiver, status
from typer.testing import CliRunner

from streamtag.bridges.notifier import UNDELIVERED, AppriseSender, Notifier, text_of
from streamtag.cli.main import app
from streamtag.config.config import FeedConfig, load_config
from streamtag.feed.messages import AlertAcknowledged, AlertCleared, AlertMessage, AlertRaised
from streamtag.feed.timestamps import rfc3339

NOW = time.time_ns()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("socket.getfqdn", lambda *_: "localhost")  # asks a name server


class Mailbox:
    """An SMTP server that refuses the first letters, if told so."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.refusals = 0
        self.stuck = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        while self.stuck:
            await asyncio.sleep(0.02)
        if self.refusals:
            self.refusals -= 1
            return "451 try again later"
        self.letters.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    def texts(self) -> list[str]:
        return [f"{letter['Subject']}" for letter in self.letters]


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), free_port()
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=port,
        auth_require_tls=False,
        authenticator=lambda *_: AuthResult(success=True),
    )
    controller.start()
    yield box, port
    box.stuck = False
    controller.stop()


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    bind = f"tcp://127.0.0.1:{free_port()}"
    with Feed(FeedConfig(bind=bind, journal=str(tmp_path / "j.db"), beat_seconds=0.2)) as made:
        yield made


def raised(id_: str = "quiet@1", *names: str, **more: Any) -> AlertRaised:
    fields: dict[str, Any] = {
        "streams": ("radio",),
        "severity": "critical",
        "since_utc": rfc3339(NOW),
        "detail": f"radio: silent for 1 min {id_}",
        "notify": names or ("mail",),
        "quiet_until": "",
        "remind_seconds": 0.0,
    }
    return AlertRaised(**head(id_), **fields | more)


def cleared(id_: str = "quiet@1", *names: str) -> AlertCleared:
    return AlertCleared(
        **head(id_),
        streams=("radio",),
        remaining=(),
        since_utc=rfc3339(NOW),
        why="over",
        detail="radio: over after 3 min",
        notify=names or ("mail",),
    )


def head(id_: str) -> dict[str, Any]:
    utc = rfc3339(time.time_ns())
    fields = {"epoch": "", "seq": 0, "stream": "radio", "t": 0.0, "utc": utc}
    return fields | {"alert": "quiet", "id": id_}


def publish(feed: Feed, *messages: AlertMessage) -> None:
    feed.publisher.publish(*[feed.wire.number(message) for message in messages])


def configuration(folder: Path, bind: str, url: str, more: str = "", name: str = "mail") -> Path:
    path = folder / f"{name}.toml"
    (folder / f"{name}.url").write_text(url + "\n")
    path.write_text(
        f'streams.radio.source = "device:"\n[feed]\nbind = "{bind}"\njournal = "j.db"\n'
        '[[alert]]\nname = "quiet"\nwhen = "silence"\n'
        f"[notify]\nretry_seconds = 0.05\nlongest_retry_seconds = 0.1\n{more}\n"
        f'[notify.targets.{name}]\nurl_file = "{name}.url"\n'
    )
    return path


def mail_to(port: int) -> str:
    return (
        f"mailto://127.0.0.1:{port}?from=desk@example.org&to=anna@example.org&mode=insecure"
        "&user=desk-user&pass=hunter2&smtp=127.0.0.1"
    )


@contextmanager
def running(path: Path, feed: Feed, name: str = "mail") -> Iterator[Notifier]:
    """The only target of a configuration, in a thread; it follows the feed then."""
    daemon, stop = load_config(path), threading.Event()
    assert daemon.notify is not None
    sender = AppriseSender(name, daemon.notify.targets[name])
    notifier = Notifier(daemon, daemon.notify, name, sender, stop)
    thread = threading.Thread(target=notifier.run)
    thread.start()
    assert feed.publisher.wait_for_subscriber(30)
    try:
        yield notifier
    finally:
        stop.set()
        thread.join()


def test_letters_after_refusals_once_each(
    tmp_path: Path, feed: Feed, mailbox: tuple[Mailbox, int], caplog: pytest.LogCaptureFixture
) -> None:
    box, port = mailbox
    box.refusals = 2
    caplog.set_level(logging.DEBUG)
    path = configuration(
        tmp_path, feed.publisher.address, mail_to(port), 'link = "https://desk.example.org/"'
    )
    with running(path, feed) as notifier:
        publish(feed, raised(), cleared())
        wait_until(lambda: len(box.letters) == 2, box.texts)
        wait_until(lambda: notifier.state.n_delivered == 2, "not counted")
    first, second = box.letters
    assert first["Subject"] == "[CRITICAL] radio: silent for 1 min quiet@1"
    assert second["Subject"] == "[OVER] radio: over after 3 min"
    assert "https://desk.example.org/" in first.as_string()
    assert "hunter2" not in caplog.text
    assert "trying again" in caplog.text
    with running(path, feed):  # another bridge: nothing is told twice
        publish(feed, raised("quiet@2"))
        wait_until(lambda: len(box.letters) == 3, box.texts)
    assert "quiet@2" in box.texts()[2]


def test_a_stuck_mail_server_holds_up_nobody_else(
    tmp_path: Path, feed: Feed, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    box.stuck = True
    address = feed.publisher.address
    slow = configuration(tmp_path, address, mail_to(port))
    with Receiver() as receiver:
        hook = receiver.url.replace("http://", "json://")
        quick = configuration(tmp_path, address, hook, name="hook")
        with running(slow, feed), running(quick, feed, "hook"):
            publish(feed, *[raised(f"quiet@{i}", "mail", "hook") for i in range(3)])
            wait_until(lambda: len(receiver.requests) == 3, lambda: str(receiver.requests))
            assert not box.letters
            box.stuck = False
            wait_until(lambda: len(box.letters) >= 3, box.texts)
        bodies = [json.loads(body) for _, body in receiver.requests]
    assert [body["type"] for body in bodies] == ["failure"] * 3
    assert [f"quiet@{i}" in bodies[i]["title"] for i in range(3)] == [True] * 3


def test_what_cannot_be_delivered_is_listed(tmp_path: Path, feed: Feed) -> None:
    with Receiver(status(500), status(500), status(500), status(204)) as receiver:
        url = receiver.url.replace("http://", "json://user:hunter2@")
        path = configuration(tmp_path, feed.publisher.address, url, "give_up_seconds = 0.01")
        with running(path, feed) as notifier:
            publish(feed, raised())
            listed = tmp_path / "j.db.notify" / UNDELIVERED
            wait_until(listed.exists, "not listed")
            receiver.replies = [status(204)]
            publish(feed, raised("quiet@2"))
            wait_until(lambda: notifier.state.n_delivered == 1, "not delivered")
    (row,) = map(json.loads, listed.read_text().splitlines())
    assert (row["target"], row["id"], row["type"]) == ("mail", "quiet@1", "alert_raised")
    assert "hunter2" not in listed.read_text()


def test_quiet_hours_and_reminders(tmp_path: Path, feed: Feed) -> None:
    with Receiver() as receiver:
        url = receiver.url.replace("http://", "json://")
        path = configuration(tmp_path, feed.publisher.address, url)

        def titles() -> list[str]:
            return [json.loads(body)["title"] for _, body in receiver.requests]

        soon, late = (rfc3339(time.time_ns() + s * 10**9) for s in (2, 3600))
        with running(path, feed) as notifier:
            publish(feed, raised("over@1", quiet_until=late), cleared("over@1"))
            publish(feed, raised("held@1", quiet_until=soon), raised("last@1"))
            wait_until(lambda: len(titles()) == 2, lambda: str(titles()))
            publish(feed, raised("again@1", remind_seconds=0.3))
            wait_until(lambda: len(titles()) >= 4, lambda: str(titles()))
            seen = AlertAcknowledged(**head("again@1"), by="ann", note="")
            publish(feed, seen)
            wait_until(lambda: not notifier.state.reminders, "still reminded")
        assert "last@1" in titles()[0]
        assert "held@1" in titles()[1]
        assert titles()[3].startswith("[CRITICAL (reminder)]")
        assert not any("over@1" in title for title in titles())


def test_a_title_of_a_stranger_makes_no_second_line() -> None:
    title, body, _ = text_of(raised(detail="radio: title 'a\r\nBcc: b'"), "")
    assert "\n" not in title
    assert body.count("\n") == 2


def test_the_command_sends_one(tmp_path: Path) -> None:
    with Receiver() as receiver:
        url = receiver.url.replace("http://", "json://")
        path = configuration(tmp_path, "tcp://127.0.0.1:0", url)
        done = CliRunner().invoke(app, ["alerts", "test", "quiet", "-c", str(path)])
        assert (done.exit_code, done.output) == (0, "mail: sent\n")
        (request,) = receiver.requests
    assert json.loads(request[1])["title"].startswith("[TEST] [WARNING] test of rule quiet")
    failed = CliRunner().invoke(app, ["alerts", "test", "quiet", "-c", str(path)])
    assert failed.exit_code == 1
    assert failed.output.startswith("mail: ")
    unknown = CliRunner().invoke(app, ["alerts", "test", "loud", "-c", str(path)])
    assert "expected an alert of quiet; got 'loud'" in str(unknown.exception)
