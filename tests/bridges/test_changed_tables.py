"""A running daemon restarts only the bridges whose tables change."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from daemon.test_daemon import SECONDS, Process, check_contract, running
from daemon.test_running_changes import Feed, ctl, is_up, stop
from feed.test_feed_network import free_ports
from support.receiver import Receiver
from support.sounds import tone, write_wav
from support.web_server import wait_for

from streamtag.bridges.bridge import ENV_CONFIG, config_as_file, load_running_config
from streamtag.config.config import Config, load_config, parse_config
from streamtag.config.control_socket import send_command
from streamtag.config.fields import merge
from streamtag.errors import ControlError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import StreamDown, TagOn

RATE = 22050
EVERYTHING = """
exit_when_done = false
languages.fi.low = "matala"
[defaults]
language = "fi"
tuning.min_on_seconds = 2
[streams.a]
source = "device:"
taggers = ["x"]
tuning.x.deny = ["low"]
[taggers.x]
bundle = "x.pt"
tuning.on_thresholds = { low = 0.7 }
[feed]
journal = "j.db"
authorised_keys = "keys"
secret_key = "own.key_secret"
[web]
token_file = "token"
cors_origins = ["https://example.org"]
[mqtt]
host = "broker"
user = "me"
password_env = "SECRET"
[osc]
targets = ["127.0.0.1:9000"]
[[webhook]]
name = "one"
url = "https://example.org/hook"
events = ["tag_on"]
headers = { X-Room = "7" }
[[webhook]]
name = "two"
url = "https://example.org/other"
secret_file = "secret"
"""


def test_a_bridge_loads_the_running_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(EVERYTHING)
    config = load_config(path)
    table = merge(config.model_dump(exclude_unset=True), {"web": {"bind": "127.0.0.1:81"}})
    config = parse_config(table, tmp_path)
    path.write_text("no longer sound")
    before = os.dup(0)
    try:
        with config_as_file(config) as file:
            os.dup2(file.fileno(), 0)
        for _ in range(2):  # for the log, and for the bridge
            assert load_running_config(path, {ENV_CONFIG: "stdin"}) == config
    finally:
        os.dup2(before, 0)
        os.close(before)


@pytest.fixture
def daemon(tmp_path: Path, toy_bundle: Path) -> Iterator[Process]:
    turns = np.concatenate([tone(1.5, RATE, hertz, 0.4) for hertz in (200, 3000)])
    wav = write_wav(tmp_path / "a.wav", turns, RATE)
    (tmp_path / "d.toml").write_text(
        f'exit_when_done = false\n[feed]\nbind = "tcp://127.0.0.1:0"\njournal = "j.db"\n'
        f"wait_for_subscriber_seconds = {SECONDS}\n"
        '[engine]\ndevice = "cpu"\nthreads = 1\n[control]\nsocket = "c.sock"\n'
        f"[taggers]\ntoy.bundle = {json.dumps(str(toy_bundle))}\n"
        f'[streams]\na = {{ source = "file:{wav}", pace = true, loop = true }}\n'
    )
    with running(tmp_path / "d.toml") as process:
        yield process


def tell(folder: Path, table: dict[str, Any]) -> Any:
    return send_command(folder / "c.sock", {"command": "set", "table": table}, SECONDS)


def status(port: int, token: str = "") -> int:
    """The status code of the web server; 0 while there is none."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        address = f"http://127.0.0.1:{port}/api/state"
        return httpx.get(address, headers=headers, trust_env=False, verify=False).status_code
    except httpx.TransportError:
        return 0


def started(process: Process, name: str) -> list[int]:
    """Process ids of a bridge, of all that there were."""
    lines = [line for line in process.log if f"bridge {name}: started, process " in line]
    return [int(line.split()[-1]) for line in lines]


def gone(port: int) -> bool:
    return status(port) == 0


def test_only_the_bridge_whose_table_changes_is_restarted(tmp_path: Path, daemon: Process) -> None:
    pytest.importorskip("uvicorn")
    (first, second), socket = free_ports(), tmp_path / "c.sock"
    with Subscriber(daemon.address) as subscriber, Receiver() as receiver:
        feed = Feed(subscriber)
        feed.until(is_up("a"))
        hook = {"name": "h", "url": receiver.url, "events": ["tag_on"]}
        assert tell(tmp_path, {"webhook": [hook]}) == {"bridges_started": ["webhook"]}
        wait_for(lambda: receiver.requests)
        assert ctl(socket, "set", "web.bind", f"127.0.0.1:{first}") == {"bridges_started": ["web"]}
        wait_for(lambda: status(first) == 200)
        moved = tell(tmp_path, {"web": {"bind": f"127.0.0.1:{second}", "token": "secret"}})
        assert moved == {"bridges_restarted": ["web"]}
        wait_for(lambda: status(second, "secret") == 200)
        assert (status(first), status(second)) == (0, 401)
        assert ctl(socket, "unset", "web.token") == {"bridges_restarted": ["web"]}
        wait_for(lambda: status(second) == 200)
        assert ctl(socket, "unset", "web") == {"bridges_ended": ["web"]}
        wait_for(lambda: gone(second))
        with pytest.raises(ControlError, match="webb: expected a key that is set, got one that"):
            tell(tmp_path, {"webb": None})
        assert len(started(daemon, "web")) == 3
        assert len(started(daemon, "webhook")) == 1
        assert tell(tmp_path, {"webhook": [hook | {"batch": 5}]}) == {
            "bridges_restarted": ["webhook"]
        }
        wait_for(lambda: json.loads(receiver.requests[-1][1])["type"] == "batch")
        feed.until(lambda m: isinstance(m, TagOn))
        assert not any(isinstance(m, StreamDown) for m in feed.messages)
        stop(daemon, feed, "a")
    check_contract(feed.messages)
    for pid in started(daemon, "web") + started(daemon, "webhook"):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_reload_starts_restarts_and_ends_bridges(tmp_path: Path, daemon: Process) -> None:
    pytest.importorskip("uvicorn")
    (first, second), path = free_ports(), tmp_path / "d.toml"
    plain = path.read_text()
    with Subscriber(daemon.address) as subscriber:
        feed = Feed(subscriber)
        feed.until(is_up("a"))
        path.write_text(f'{plain}\n[web]\nbind = "127.0.0.1:{first}"\n')
        daemon.popen.send_signal(signal.SIGHUP)
        wait_for(lambda: status(first) == 200)
        path.write_text(f'{plain}\n[web]\nbind = "127.0.0.1:{second}"\n')
        assert ctl(tmp_path / "c.sock", "reload") == {"bridges_restarted": ["web"]}
        wait_for(lambda: status(second) == 200)
        path.write_text("what a mess")  # one that dies comes back all the same
        os.kill(started(daemon, "web")[-1], signal.SIGKILL)
        wait_for(lambda: len(started(daemon, "web")) == 3)
        wait_for(lambda: status(second) == 200)
        path.write_text(plain)
        daemon.popen.send_signal(signal.SIGHUP)
        wait_for(lambda: gone(second))
        stop(daemon, feed, "a")


def test_a_table_with_which_a_bridge_cannot_start_is_refused(
    tmp_path: Path, daemon: Process
) -> None:
    pytest.importorskip("uvicorn")
    port, _ = free_ports()
    with Subscriber(daemon.address) as subscriber:
        feed = Feed(subscriber)
        feed.until(is_up("a"))
        assert tell(tmp_path, {"web": {"bind": f"127.0.0.1:{port}"}})
        wait_for(lambda: status(port) == 200)
        for table, words in (
            ({"web": {"token_file": "none"}}, r"web.token_file: expected an existing file, got"),
            ({"web": {"bind": "0.0.0.0:80"}}, r"web.bind: expected .* or a token, or no_token"),
            ({"web": {"port": 80}}, r"web: unknown key 'port'|web\.port"),
            ({"webhook": [{"name": "h", "url": "ftp://x"}]}, r"webhook.*url: expected"),
            ({"metrics": {"bind": "127.0.0.1:0"}}, r"metrics.bind: expected '' as long as .* runs"),
            ({"log": {"style": "json"}}, r"log.style: expected 'text' as long as the daemon runs"),
        ):
            with pytest.raises(ControlError, match=words):
                tell(tmp_path, table)
        assert status(port) == 200
        assert len(started(daemon, "web")) == 1
        stop(daemon, feed, "a")


def test_a_daemon_without_a_file_has_no_bridges(tmp_path: Path) -> None:
    from streamtag.bridges.supervision import faults_of_changed_tables

    old = Config.model_validate({"streams": {"a": {"source": "device:"}}})
    new = old.model_copy(update={"web": load(tmp_path).web})
    (line,) = faults_of_changed_tables(old, new, from_file=False)
    assert line.startswith("web: expected a daemon that was started from a file, got one without")
    assert not list(faults_of_changed_tables(old, new, from_file=True))
    assert not list(faults_of_changed_tables(new, old, from_file=False))


def load(folder: Path) -> Config:
    (folder / "w.toml").write_text('streams.a.source = "device:"\nweb.bind = "127.0.0.1:0"')
    return load_config(folder / "w.toml")
