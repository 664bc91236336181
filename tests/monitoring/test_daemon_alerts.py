"""Alerts of a whole daemon: raised, acknowledged, kept over kill -9, told by HTTP, replayed."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forked import Forked
from support.peers import free_port, wait_until
from support.receiver import Receiver
from support.sounds import tone, write_wav
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.config.control_socket import send_command
from streamtag.errors import ControlError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import AlertAcknowledged, AlertCleared, AlertMessage, AlertRaised
from streamtag.feed.publisher import READY

RATE, SECONDS = 8000, 60
RULES = """
[[alert]]
name = "quiet"
when = "silence"
for_seconds = 0.5
group_seconds = 1
severity = "critical"
"""


def configuration(folder: Path, bundle: Path, url: str, *, workers: int = 1) -> Path:
    """Two streams that fall silent for ever after a second of sound."""
    sound = np.concatenate([tone(1.0, RATE, 300, 0.4), np.zeros(600 * RATE, np.float32)])
    write_wav(folder / "sound.wav", sound, RATE)
    (folder / "hook.url").write_text(url.replace("http://", "json://"))
    path = folder / "my.toml"
    path.write_text(
        f'[feed]\nbind = "tcp://127.0.0.1:{free_port()}"\nreplay = "tcp://127.0.0.1:{free_port()}"'
        '\njournal = "j.db"\nbeat_seconds = 0.2\n[control]\nsocket = "c.sock"\n'
        f'[engine]\ndevice = "cpu"\nthreads = 1\nworkers = {workers}\n'
        f"[taggers.toy]\nbundle = {json.dumps(str(bundle))}\n"
        f'{RULES}[notify.targets.hook]\nurl_file = "hook.url"\n'
        "[level]\nsilence_seconds = 0.5\n[streams]\n"
        'a = {source = "file:sound.wav", pace = true}\n'
        'b = {source = "file:sound.wav", pace = true}\n'
    )
    return path


@contextmanager
def running(path: Path) -> Iterator[Forked]:
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = Forked("-m", "streamtag", "run", path, stderr=output)
    try:
        wait_until(lambda: READY in log.read_text(), log.read_text)
        yield process
    finally:
        process.kill()
        process.wait()


def alerts(feed: Subscriber, kind: type[AlertMessage]) -> AlertMessage:
    """The next message of a kind."""
    while True:
        message = feed.receive(SECONDS)
        assert message is not None
        if isinstance(message, kind):
            return message


def address(path: Path) -> str:
    return path.read_text().split('"')[1]


def removed(socket: Path) -> bool:
    """Removes a stream; False while no worker can take the change yet."""
    try:
        send_command(socket, {"command": "remove", "name": "b"}, SECONDS)
    except ControlError:
        return False
    return True


@pytest.mark.parametrize("workers", [1, 2])
def test_an_alert_of_a_daemon(
    tmp_path: Path, toy_bundle: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with Receiver() as receiver:
        path = configuration(tmp_path, toy_bundle, receiver.url, workers=workers)
        socket = tmp_path / "c.sock"

        def told() -> list[Any]:
            return [json.loads(body)["title"] for _, body in receiver.requests]

        with running(path) as process, Subscriber(address(path), derived=["alert"]) as feed:
            raised = alerts(feed, AlertRaised)
            assert isinstance(raised, AlertRaised)
            assert raised.streams in (("a", "b"), ("b", "a"))
            assert raised.detail == "2 streams (a, b): silent for 0.5 s"
            send_command(socket, {"command": "ack", "alert": "quiet", "by": "ann"}, SECONDS)
            seen = alerts(feed, AlertAcknowledged)
            assert (seen.id, seen.details()) == (raised.id, "quiet: seen by ann")
            wait_until(lambda: len(told()) == 1, lambda: path.with_suffix(".log").read_text())
            process.send_signal(signal.SIGKILL)
            process.wait(SECONDS)
        with running(path) as process, Subscriber(address(path), derived=["alert"]) as feed:
            again = [alerts(feed, AlertMessage) for _ in range(2)]  # in force
            assert {m.type for m in again} == {"alert_raised", "alert_acknowledged"}
            (row,) = send_command(socket, {"command": "alerts"}, SECONDS)
            assert (row["id"], row["acknowledged_by"]) == (raised.id, "ann")
            wait_until(lambda: removed(socket), lambda: path.with_suffix(".log").read_text())
            cleared = alerts(feed, AlertCleared)
            assert isinstance(cleared, AlertCleared)
            assert (cleared.streams, cleared.remaining, cleared.why) == (("b",), ("a",), "removed")
            wait_until(lambda: len(told()) == 2, lambda: str(told()))
            process.terminate()
            assert process.wait(SECONDS) == 0
    assert [title.split("]")[0] for title in told()] == ["[CRITICAL", "[PARTLY OVER"]
    replayed = CliRunner().invoke(app, ["alerts", "replay", "-c", str(path), "--json"])
    rows = json.loads(replayed.stdout)
    assert (rows[0]["id"], rows[0]["streams"]) == (raised.id, list(raised.streams))
