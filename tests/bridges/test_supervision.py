"""The daemon supervises bridges that die, hang and come back."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from daemon.test_daemon import SECONDS, Process, check_contract, configuration, down, running, until
from support.sounds import tone, write_wav
from support.web_server import wait_for

from streamtag.bridges import supervision
from streamtag.bridges.bridge import local_address
from streamtag.bridges.supervision import BridgeSupervisor, missing_libraries
from streamtag.config.backoff import BackoffPolicy
from streamtag.config.bridge_kinds import BridgeKind
from streamtag.config.config import Config, load_config
from streamtag.daemon.daemon import Daemon
from streamtag.engine.counters import series
from streamtag.errors import ConfigError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import TagOn

TOY = """
import json, os, signal, sys, time
folder = os.path.dirname(sys.argv[2])
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] == "polite":
    def leave(*_):
        open(os.path.join(folder, "left"), "w").close()
        sys.exit(0)
    signal.signal(signal.SIGTERM, leave)
if not os.path.exists(os.path.join(folder, "told")):
    with open(os.path.join(folder, "told"), "w") as file:
        json.dump({k: v for k, v in os.environ.items() if k.startswith("STREAMTAG_")}, file)
with open(os.path.join(folder, "starts"), "a") as file:
    print(os.getpid(), file=file)
if sys.argv[1] == "mortal":
    sys.exit(3)
time.sleep(600)
"""
SOON = BackoffPolicy(first=0.01, longest=0.02, healthy=30.0)
RATE = 22050


def kind(name: str, folder: Path, **changes: Any) -> BridgeKind:
    (folder / "toy.py").write_text(TOY)
    toy = BridgeKind(name, "toy", (), program=(str(folder / "toy.py"),))
    return replace(toy, **changes)


def config(**tables: object) -> Config:
    return SimpleNamespace(model_dump=lambda **_: tables, **tables)  # type: ignore[return-value]


def starts(folder: Path) -> list[int]:
    """Process ids of the toys that have started."""
    path = folder / "starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def tick_until(made: BridgeSupervisor, what: Config, enough: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not enough():
        assert time.monotonic() < deadline
        made.tick(what)
        time.sleep(0.005)


def metrics(daemon: Process) -> str:
    """The page for Prometheus."""
    (line,) = (line for line in daemon.log if "metrics on http" in line)
    return httpx.get(line.rpartition(" on ")[2].strip(), trust_env=False, verify=False).text


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., BridgeSupervisor]]:
    """Makes bridges of toys that end with the test."""
    all_of_them = []

    def make(*kinds: BridgeKind, what: Config) -> BridgeSupervisor:
        path = tmp_path / "daemon.toml"
        all_of_them.append(
            BridgeSupervisor(what, path, "tcp://127.0.0.1:1", tmp_path / "j", kinds, backoff=SOON)
        )
        return all_of_them[-1]

    yield make
    for one in all_of_them:
        one.close(0.0)


def test_a_dead_bridge_is_restarted_and_counted(
    tmp_path: Path, made: Callable[..., BridgeSupervisor]
) -> None:
    what = config(mortal=1, other=None)
    bridges = made(kind("mortal", tmp_path), kind("other", tmp_path), what=what)
    tick_until(bridges, what, lambda: len(starts(tmp_path)) >= 3)
    assert bridges.series()[series("restarts", bridge="mortal")] >= 2
    assert series("restarts", bridge="other") not in bridges.series()
    where = json.loads((tmp_path / "told").read_text())
    assert where["STREAMTAG_FEED"] == "tcp://127.0.0.1:1"
    assert where["STREAMTAG_JOURNAL"] == str(tmp_path / "j")
    assert where["STREAMTAG_PARENT"] == str(os.getpid())


def test_the_wait_before_a_restart_doubles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision.random, "random", lambda: 1.0)
    now, what = [0.0], config(mortal=1)
    backoff = BackoffPolicy(first=1.0, longest=60.0)
    toy = kind("mortal", tmp_path)
    bridges = BridgeSupervisor(
        what, tmp_path / "a.toml", "tcp://a:1", None, [toy], backoff, clock=lambda: now[0]
    )
    for wait in (1.0, 2.0, 4.0):
        caplog.clear()
        tick_until(bridges, what, lambda: "restart in" in caplog.text)
        assert f"ended with 3; restart in {wait:.1f} s" in caplog.text
        count = len(starts(tmp_path))
        now[0] += wait - 0.01
        bridges.tick(what)
        assert not bridges.series()[series("running", bridge="mortal")]
        now[0] += 0.02
        tick_until(bridges, what, lambda: len(starts(tmp_path)) > count)  # noqa: B023
    bridges.close(0.0)


def test_a_terminated_bridge_may_clean_up(
    tmp_path: Path, made: Callable[..., BridgeSupervisor]
) -> None:
    what = config(polite=1)
    bridges = made(kind("polite", tmp_path), what=what)
    tick_until(bridges, what, lambda: starts(tmp_path))
    bridges.close(SECONDS)
    assert (tmp_path / "left").exists()
    assert gone(starts(tmp_path)[0])


def test_a_bridge_that_ignores_sigterm_is_killed(
    tmp_path: Path, made: Callable[..., BridgeSupervisor], caplog: pytest.LogCaptureFixture
) -> None:
    what = config(deaf=1)
    bridges = made(kind("deaf", tmp_path), what=what)
    tick_until(bridges, what, lambda: starts(tmp_path))
    bridges.close(0.05)
    assert gone(starts(tmp_path)[0])
    assert "bridge deaf: did not end after SIGTERM; killed" in caplog.text


def test_a_failed_start_is_retried(
    tmp_path: Path,
    made: Callable[..., BridgeSupervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    what, python = config(polite=1), sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    bridges = made(kind("polite", tmp_path), what=what)
    tick_until(bridges, what, lambda: "No such file" in caplog.text)
    (tmp_path / "nothing").symlink_to(python)
    tick_until(bridges, what, lambda: starts(tmp_path))


def test_a_changed_table_restarts_and_a_removed_one_ends_a_bridge(
    tmp_path: Path, made: Callable[..., BridgeSupervisor]
) -> None:
    bridges = made(kind("polite", tmp_path), what=config(polite=1))
    tick_until(bridges, config(polite=1), lambda: starts(tmp_path))
    tick_until(bridges, config(polite=2), lambda: len(starts(tmp_path)) == 2)
    first, second = starts(tmp_path)
    assert gone(first)
    assert not gone(second)
    tick_until(bridges, config(polite=None), lambda: not bridges.series())
    assert gone(second)


def test_a_table_that_changes_back_at_once_still_restarts_the_bridge(
    tmp_path: Path, made: Callable[..., BridgeSupervisor]
) -> None:
    bridges = made(kind("polite", tmp_path), what=config(polite=1))
    tick_until(bridges, config(polite=1), lambda: starts(tmp_path))
    bridges.tick(config(polite=2))  # told to end
    tick_until(bridges, config(polite=1), lambda: len(starts(tmp_path)) == 2)
    assert bridges.series()[series("restarts", bridge="polite")] == 0  # it did not die


def test_missing_libraries_are_named(tmp_path: Path) -> None:
    toy = kind("toy", tmp_path, needs=("json", "streamtag_no_such.thing"))
    (line,) = missing_libraries(config(toy=1), [toy])
    assert line == (
        "toy: expected its libraries, got no module 'streamtag_no_such.thing'; "
        'install them: pip install "streamtag[toy]"'
    )
    assert not list(missing_libraries(config(toy=None), [toy]))
    with pytest.raises(ConfigError, match="streamtag_no_such"):
        BridgeSupervisor(config(toy=1), tmp_path / "a.toml", "tcp://a:1", None, [toy])


@pytest.mark.parametrize("manner", ["mortal", "deaf"])
def test_dying_and_hanging_bridges_do_not_affect_the_daemon(
    manner: str, tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = kind(manner, tmp_path)
    monkeypatch.setattr(supervision, "KINDS", (toy,))
    monkeypatch.setattr(BridgeKind, "configured", lambda *_: True)
    monkeypatch.setattr(Config, manner, 1, raising=False)
    wav = write_wav(tmp_path / "a.wav", tone(2, RATE, 200, 0.4), RATE)
    path = configuration(
        tmp_path, toy_bundle, f'a = {{ source = "file:{wav}", pace = true, loop = true }}'
    )
    daemon, stop = Daemon(load_config(path), path), threading.Event()
    worker = threading.Thread(target=daemon.run, args=(stop.is_set,))
    with Subscriber(daemon.address) as feed:
        worker.start()
        messages = until(
            feed, lambda got: any(isinstance(m, TagOn) for m in got) and bool(starts(tmp_path))
        )
        stop.set()
        messages += until(feed, down(1))
        worker.join(SECONDS)
        assert not worker.is_alive()
    assert all(gone(pid) for pid in starts(tmp_path))
    check_contract(messages)
    assert f"bridges.{manner}.restarts" not in daemon.counters()  # it has let go of them
    assert not daemon.failed


@pytest.mark.parametrize(
    ("bound", "reached"),
    [
        ("tcp://0.0.0.0:5757", "tcp://127.0.0.1:5757"),
        ("tcp://*:5757", "tcp://127.0.0.1:5757"),
        ("tcp://[::]:5757", "tcp://[::1]:5757"),
        ("tcp://10.0.0.0:5757", "tcp://10.0.0.0:5757"),
        ("ipc:///run/feed", "ipc:///run/feed"),
    ],
)
def test_local_address_of_a_wildcard_bind(bound: str, reached: str) -> None:
    assert local_address(bound) == reached


def test_the_web_server_runs_and_ends_with_the_daemon(tmp_path: Path, toy_bundle: Path) -> None:
    """The whole way: audio, daemon, bridge, HTTP; then the daemon is killed."""
    wav = write_wav(tmp_path / "a.wav", tone(2, RATE, 200, 0.4), RATE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = configuration(
        tmp_path, toy_bundle, f'a = {{ source = "file:{wav}", pace = true, loop = true }}'
    )
    text = path.read_text().replace(f"wait_for_subscriber_seconds = {SECONDS}", "")
    path.write_text(
        f'{text}\n[web]\nbind = "127.0.0.1:{port}"\n[control]\nenabled = false\n'
        '[metrics]\nbind = "127.0.0.1:0"\n'
    )

    def state() -> Any:
        try:
            return httpx.get(
                f"http://127.0.0.1:{port}/api/state", trust_env=False, verify=False
            ).json()
        except httpx.TransportError:
            return None

    def on() -> bool:
        found = state()
        return bool(found) and any(tag["tag"] == "low" for tag in found["streams"]["a"]["tags"])

    with running(path) as process:
        wait_for(on)
        assert httpx.get(
            f"http://127.0.0.1:{port}/api/history?type=tag_on", trust_env=False
        ).json()["events"]  # of the journal that only the daemon knows
        assert 'streamtag_bridge_running{bridge="web"} 1.0' in metrics(process).splitlines()
        assert 'streamtag_bridge_restarts_total{bridge="web"} 0.0' in metrics(process)
        process.popen.kill()
        wait_for(lambda: state() is None)
