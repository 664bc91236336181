"""`streamtag gateway`: what several daemons say in NATS as one feed, with journal and pages."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.feeds import Feed, off, on, up
from support.nats_bridge import Station, wait_for_count, wait_for_state
from support.nats_server import NatsServer, require_nats
from support.peers import Processes, free_ports, wait_until

import streamtag
from streamtag.config.config import parse_config
from streamtag.daemon.gateway import Gateway, load_positions
from streamtag.errors import ConfigError, FeedError
from streamtag.feed.client.tracker import MissedMessages
from streamtag.history.history import History
from streamtag.history.query import Query

require_nats()


class Fleet:
    """Two stations on one NATS, and a gateway."""

    def __init__(self, folder: Path, server: NatsServer) -> None:
        self.server = server
        self.stations = [Station(folder / name, server.address) for name in ("a", "b")]
        self.feeds: list[Feed] = [one.open_feed() for one in self.stations]
        for one in self.stations:
            one.start_bridge()
        self.processes = Processes(folder)
        self.port, _ = free_ports()
        self.web, self.metrics = free_ports()
        self.journal, self.config = folder / "gateway.db", folder / "gateway.toml"
        self.config.write_text(
            f'exit_when_done = false\nstreams = {{}}\nnats.servers = ["{server.address}"]\n'
            f'[feed]\nbind = "tcp://127.0.0.1:{self.port}"\njournal = "gateway.db"\n'
        )

    def gateway(self) -> Any:
        return self.processes.python("-m", "streamtag", "gateway", self.config)

    def said(self) -> list[str]:
        """Stream and type of all that the gateway's journal has; none before there is one."""
        try:
            history = History(self.journal)
        except FeedError:
            return []
        try:
            found = [entry.message for entry in history.entries(Query())]
        finally:
            history.close()
        return [f"{one.stream} {one.type}" for one in found]

    def close(self) -> None:
        self.processes.close()
        for station in self.stations:
            station.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    server = NatsServer(tmp_path / "nats")
    made = Fleet(tmp_path, server)
    yield made
    made.close()
    server.close()


def test_a_fleet_is_one_feed_with_pages_and_history(fleet: Fleet) -> None:
    """A gateway that is killed, and one that is ended, miss nothing and double nothing."""
    first, second = fleet.feeds
    first.publish(up("r1"), on("low", stream="r1"))
    second.publish(up("r2"), on("high", stream="r2"))
    wait_for_count(fleet.server.address, 4)
    for name in ("r1", "r2"):
        wait_for_state(fleet.server.address, name, 2)
    plain = fleet.config.read_text()
    fleet.config.write_text(
        f'{plain}[web]\nbind = "127.0.0.1:{fleet.web}"\n'
        f'[metrics]\nbind = "127.0.0.1:{fleet.metrics}"\n'
    )
    gateway = fleet.gateway()
    with streamtag.Subscriber(f"tcp://127.0.0.1:{fleet.port}") as subscriber:
        found = [subscriber.receive(120) for _ in range(4)]
        assert all(not isinstance(one, MissedMessages) and one for one in found)
        wait_until(lambda: desk(fleet) == {"r1": ["low"], "r2": ["high"]}, fleet.processes.logs)
        wait_until(lambda: answer(fleet, "readyz") == "ok\n", fleet.processes.logs)
        assert answer(fleet, "healthz") == "ok\n"
        metrics = answer(fleet, "metrics").splitlines()
        assert {
            'streamtag_streams{state="up"} 2.0',
            'streamtag_events_total{reason="",type="tag_on"} 2.0',
            'streamtag_bridge_running{bridge="web"} 1.0',
        } <= set(metrics)
        positions, topics = Path(f"{fleet.journal}.nats"), {"event/r1/", "event/r2/"}
        wait_until(lambda: topics <= load_positions(positions).keys(), "positions")
        gateway.kill()
        gateway.wait()
        fleet.config.write_text(plain)
        first.publish(off("low", stream="r1"))
        gateway = fleet.gateway()
        ended = subscriber.receive(120)
        assert str(ended).startswith("r1 0:00.0 tag_off low")
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(120) == 0
    second.publish(on("low", stream="r2"))
    gateway = fleet.gateway()
    wait_until(lambda: fleet.said().count("r2 tag_on") == 2, lambda: f"{fleet.said()}")
    kept = ["r1 stream_up", "r1 tag_on", "r1 tag_off", "r2 stream_up", "r2 tag_on", "r2 tag_on"]
    assert sorted(fleet.said()) == sorted(kept)


def answer(fleet: Fleet, path: str) -> str:
    """What the gateway's metrics server says; empty if it is not ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{fleet.metrics}/{path}", timeout=10) as got:
            return str(got.read().decode())
    except OSError:
        return ""


def desk(fleet: Fleet) -> dict[str, list[str]]:
    """The tags that the desk shows as on."""
    try:
        place = f"http://127.0.0.1:{fleet.web}/api/state"
        with urllib.request.urlopen(place, timeout=10) as answer:
            streams = json.load(answer)["streams"]
    except OSError:
        return {}
    return {name: [tag["tag"] for tag in one["tags"]] for name, one in streams.items()}


def test_what_a_lost_daemon_has_left_on_is_ended(fleet: Fleet, tmp_path: Path) -> None:
    """Its journal is gone, so is what it had to say of it."""
    fleet.feeds[0].publish(up("r1"), on("low", stream="r1"))
    wait_for_state(fleet.server.address, "r1", 2)
    fleet.gateway()
    wait_until(lambda: len(fleet.said()) == 2, fleet.processes.logs)
    again = Station(tmp_path / "again", fleet.server.address)
    try:
        feed = again.open_feed()
        again.start_bridge()
        feed.publish(up("r1"))
        wait_until(lambda: len(fleet.said()) == 4, lambda: f"{fleet.said()}")
        assert fleet.said()[2:] == ["r1 tag_off", "r1 stream_up"]
    finally:
        again.close()


def test_a_gateway_without_positions_begins_anew(fleet: Fleet) -> None:
    fleet.feeds[0].publish(up("r1"), on("low", stream="r1"))
    wait_for_state(fleet.server.address, "r1", 2)
    gateway = fleet.gateway()
    wait_until(lambda: len(fleet.said()) == 2, fleet.processes.logs)
    gateway.kill()
    gateway.wait()
    Path(f"{fleet.journal}.nats").unlink(missing_ok=True)
    fleet.gateway()
    wait_until(lambda: len(fleet.said()) == 6, lambda: f"{fleet.said()}")
    ended = ["r1 tag_off", "r1 stream_down"]
    assert fleet.said()[2:] == [*ended, "r1 stream_up", "r1 tag_on"]


def test_watch_shows_the_fleet_of_a_configuration(fleet: Fleet) -> None:
    fleet.feeds[1].publish(up("r2"), on("high", stream="r2"))
    wait_for_state(fleet.server.address, "r2", 2)
    process = fleet.processes.python("-m", "streamtag", "watch", fleet.config)
    wait_until(lambda: "r2 0:00.0 tag_on high" in fleet.processes.logs(), fleet.processes.logs)
    process.kill()


def test_a_gateway_tags_nothing(tmp_path: Path) -> None:
    table: dict[str, Any] = {"streams": {}, "exit_when_done": False}
    with pytest.raises(ConfigError, match=r"expected a table \[nats\], got none"):
        Gateway(parse_config(table, tmp_path), tmp_path / "g.toml")
    table |= {"nats": {}, "streams": {"mic": {"source": "device:"}}}
    with pytest.raises(ConfigError, match="expected no streams, since a gateway tags nothing"):
        Gateway(parse_config(table, tmp_path), tmp_path / "g.toml")


def test_positions_that_are_damaged_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x"
    assert load_positions(path) == {}
    path.write_text('{"topics": 3}')
    assert load_positions(path) == {}
    assert "expected positions" in caplog.text
