"""Real daemons that share stations through a real JetStream of three servers."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fleet import (
    SECONDS,
    FleetDaemon,
    FleetListener,
    remove,
    spread,
    status,
    stored_events,
    wait_for_status,
    write_song,
)
from support.nats_server import NatsCluster, require_nats

from streamtag.feed.messages import StreamUp, TagOn

require_nats()

FAULTS = int(os.environ.get("STREAMTAG_FLEET_FAULTS", "2"))
"""Daemons and servers that are killed, frozen or cut off."""
STATIONS = tuple(f"radio{i}" for i in range(5))
NAMES = ("anna", "bert", "cleo")


class Fleet:
    """Three servers, three daemons, a subscriber."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.cluster = NatsCluster(folder / "cluster")
        song = write_song(folder / "song.wav")
        streams = "\n".join(
            f'{name} = {{ source = "file:{song}", pace = true, loop = true }}' for name in STATIONS
        )
        ports = [server.port for server in self.cluster.servers]
        self.daemons = {
            name: FleetDaemon(folder / name, name, bundle, ports, streams) for name in NAMES
        }
        self.listener: FleetListener | None = None

    @property
    def path(self) -> Path:
        """A configuration whose proxies are whole."""
        return next(d.path for d in self.daemons.values() if not d.proxies[0].is_cut)

    def logs(self) -> str:
        return "\n".join(f"{d.name}: {d.log()[-6000:]}" for d in self.daemons.values())

    def wait_until_spread(self, *names: str) -> None:
        wait_for_status(self.path, lambda found: spread(found, *names), self.logs)

    def close(self) -> None:
        if self.listener:
            self.listener.close()
        for daemon in self.daemons.values():
            daemon.close()
        self.cluster.close()


@pytest.fixture
def fleet(tmp_path: Path, toy_bundle: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, toy_bundle)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.timeout(240 + 60 * FAULTS)
def test_a_fleet_survives_faults(fleet: Fleet) -> None:
    """Daemons join, share, are killed, frozen and cut off; servers are killed. Nothing is lost of
    what was said, nothing said twice, and no tag stays on."""
    for daemon in fleet.daemons.values():
        daemon.start(wait=False)
    for daemon in fleet.daemons.values():
        assert daemon.process is not None
        daemon.process.wait_until_ready()
    fleet.wait_until_spread(*NAMES)
    listener = fleet.listener = FleetListener(*fleet.cluster.addresses)
    for name in STATIONS:
        listener.wait_for(lambda m, name=name: isinstance(m, TagOn) and m.stream == name)  # type: ignore[misc]
    choose, seconds = random.Random(int(os.environ.get("STREAMTAG_FLEET_SEED", "4"))), []
    kinds = ["kill", "freeze", "cut", "server"]
    for i in range(FAULTS):
        kind = kinds[i % 4] if i < 4 else choose.choice(kinds)
        print(f"fault {i + 1} of {FAULTS}: {kind}; until now {seconds}", flush=True)
        if kind == "server":
            server = choose.choice(fleet.cluster.servers)
            server.kill()
            fleet.wait_until_spread(*NAMES)
            server.start()
            continue
        seconds.append(round(_fault(fleet, listener, choose.choice(NAMES), kind), 1))
    print("taken over after", sorted(seconds), "s")
    for name in STATIONS:
        remove(fleet.path, name)
    rest: object = "stations"
    deadline = time.monotonic() + SECONDS
    while rest and time.monotonic() < deadline:
        said = {one for daemon in fleet.daemons.values() for one in daemon.said()}
        lost = said - stored_events(fleet.cluster.addresses)
        rest = listener.open_tags() or lost or status(fleet.path)["stations"]
        time.sleep(0.2)
    assert not rest, fleet.logs()


def _fault(fleet: Fleet, listener: FleetListener, name: str, kind: str) -> float:
    """One fault of a daemon, until all is well again; returns how long the takeover took."""
    daemon = fleet.daemons[name]
    others = [one for one in NAMES if one != name]
    before = wait_for_status(fleet.path, lambda found: spread(found, *NAMES), fleet.logs)
    lost = [one["name"] for one in before["stations"] if one["daemon"] == name]
    began = time.monotonic()
    {"kill": daemon.kill, "freeze": lambda: daemon.send(signal.SIGSTOP), "cut": daemon.cut}[kind]()
    fleet.wait_until_spread(*others)
    ups: dict[str, float] = {}
    while len(ups) < len(lost) and time.monotonic() < began + 30:
        ups = {
            m.stream: at
            for at, m in list(listener.messages)
            if isinstance(m, StreamUp) and m.stream in lost and at > began
        }
        time.sleep(0.05)
    if kind == "kill":
        daemon.start()
    elif kind == "freeze":
        daemon.send(signal.SIGCONT)
    else:
        daemon.mend()
    fleet.wait_until_spread(*NAMES)
    return max(ups.values(), default=began) - began
