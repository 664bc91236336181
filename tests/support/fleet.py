"""Daemons of a fleet as processes, and what holds of all that they have said."""

import asyncio
import json
import signal
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamtag.config.config import load_config
from streamtag.daemon.fleet.commands import fleet_status, remove_station, with_bucket
from streamtag.errors import StreamtagError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.messages import Message, StreamDown, TagOff, TagOn
from streamtag.feed.nats.connection import NatsOptions, connect
from streamtag.feed.nats.consumer import ConsumerLostError, open_consumer
from streamtag.feed.publisher import READY
from support.logged_process import LoggedProcess
from support.proxy import Proxy
from support.sounds import tone, write_wav

SECONDS = 120.0
"""A time limit that is long enough for a busy machine."""
RATE = 16_000


def write_song(path: Path) -> Path:
    """Low and high tones, a second each, so that tags go on and off all the time."""
    parts = [tone(1.0, RATE, hertz, 0.4) for hertz in (200, 3000)]
    return write_wav(path, np.concatenate(parts), RATE)


class FleetDaemon:
    """A daemon of a fleet. It reaches each server of NATS through a proxy."""

    def __init__(
        self, folder: Path, name: str, bundle: Path, ports: list[int], streams: str, more: str = ""
    ) -> None:
        folder.mkdir()
        self.name, self.folder = name, folder
        self.proxies = [Proxy(port) for port in ports]
        servers = [f"nats://127.0.0.1:{proxy.port}" for proxy in self.proxies]
        self.path = folder / "fleet.toml"
        self.path.write_text(
            f'[feed]\nbind = "tcp://127.0.0.1:0"\njournal = "events.db"\n'
            f'[control]\nsocket = "control.sock"\n'
            '[engine]\ndevice = "cpu"\nthreads = 1\nslack_seconds = 30.0\n'
            f"[nats]\nservers = {json.dumps(servers)}\nreplicas = {min(3, len(ports))}\n"
            'topics = ["event"]\n'
            f'[fleet]\ndaemon = "{name}"\ncapacity = 10\n{more}\n'
            f"[taggers.toy]\nbundle = {json.dumps(str(bundle))}\n[streams]\n{streams}\n"
        )
        self.process: LoggedProcess | None = None

    def start(self, *, wait: bool = True) -> None:
        self.process = LoggedProcess("-m", "streamtag", "run", self.path, ready=READY)
        if wait:
            self.process.wait_until_ready()

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.popen.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.end(signal.SIGKILL)

    def cut(self) -> None:
        for proxy in self.proxies:
            proxy.cut()

    def mend(self) -> None:
        for proxy in self.proxies:
            proxy.mend()

    def close(self) -> None:
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.kill()
        for proxy in self.proxies:
            proxy.close()

    def wait_for_log(self, text: str) -> None:
        """Waits until its log has some text."""
        deadline = time.monotonic() + SECONDS
        while text not in self.log():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        return "".join(self.process.log) if self.process else ""

    def said(self) -> list[tuple[str, str, int]]:
        """Epoch, topic and number of all events in its journal."""
        with sqlite3.connect(f"file:{self.folder / 'events.db'}?mode=ro", uri=True) as journal:
            rows = journal.execute(
                "SELECT topic.epoch, topic.name, event.seq FROM event "
                "JOIN topic ON topic.id = event.topic WHERE topic.name LIKE 'event/%'"
            )
            return list(rows)


def status(path: Path) -> dict[str, Any]:
    """`streamtag fleet status --json`."""
    config = load_config(path)
    assert config.fleet is not None
    seconds = config.fleet.lease_seconds
    return with_bucket(config, lambda bucket: fleet_status(bucket, seconds))


def remove(path: Path, station: str) -> None:
    """`streamtag fleet remove`."""
    with_bucket(load_config(path), lambda bucket: remove_station(bucket, station))


def wait_for_status(
    path: Path, enough: Callable[[dict[str, Any]], bool], about: Callable[[], str]
) -> dict[str, Any]:
    """Waits for a state of the fleet."""
    deadline = time.monotonic() + SECONDS
    found: dict[str, Any] = {}
    while time.monotonic() < deadline:
        try:
            found = status(path)
        except StreamtagError as error:
            found = {"error": str(error)}
            time.sleep(0.2)
            continue
        if enough(found):
            return found
    raise AssertionError(f"{found}\n{about()}")


def spread(found: dict[str, Any], *daemons: str) -> bool:
    """Whether these daemons, and no others, have all stations, evenly."""
    counts = {one["name"]: one["stations"] for one in found["daemons"]}
    those = [counts.get(name, 0) for name in daemons]
    return (
        not found["free"] and sum(those) == len(found["stations"]) and max(those) - min(those) < 2
    )


def stored_events(addresses: tuple[str, ...]) -> set[tuple[str, str, int]]:
    """Epoch, topic and number of all events in JetStream; none is there twice."""
    return asyncio.run(_stored_events(addresses))


async def _stored_events(addresses: tuple[str, ...]) -> set[tuple[str, str, int]]:
    connection = await connect(NatsOptions(addresses))
    layout = connection.layout
    while True:
        try:
            consumer = await open_consumer(connection, layout.kept, "streamtag.event.>", "all")
            rows = [
                (epoch, topic, one.number)
                async for page in consumer.present()
                for one in page
                for topic, epoch in [layout.topic(one.subject)]
            ]
            break
        except ConsumerLostError:
            continue
    await connection.close()
    assert len(set(rows)) == len(rows)
    return set(rows)


class FleetListener:
    """All that a subscriber of the whole fleet receives."""

    def __init__(self, *addresses: str) -> None:
        self.messages: list[tuple[float, Message]] = []
        self.missed: list[MissedMessages] = []
        self._addresses, self._end = ",".join(addresses), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with Subscriber(self._addresses) as feed:
            while not self._end.is_set():
                try:
                    message = feed.receive(0.2)
                except StreamtagError:
                    continue
                if isinstance(message, MissedMessages):
                    self.missed.append(message)
                elif message is not None:
                    self.messages.append((time.monotonic(), message))

    def wait_for(self, what: Callable[[Message], bool], since: float = 0.0) -> float:
        """When a message came that was received after some moment."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for at, message in list(self.messages):
                if at > since and what(message):
                    return at
            time.sleep(0.02)
        raise AssertionError([str(m) for _, m in self.messages[-40:]])

    def close(self) -> None:
        self._end.set()
        self._thread.join(SECONDS)

    def open_tags(self) -> set[tuple[str, str, str]]:
        """The tags that are on; every begin has had one end, and every end one begin."""
        on: set[tuple[str, str, str]] = set()
        leases: dict[str, int] = defaultdict(int)
        for _, message in self.messages:
            lease = message.lease or 0
            assert lease >= leases[message.stream], message
            leases[message.stream] = lease
            if isinstance(message, TagOn):
                key = message.stream, message.tagger, message.tag
                assert key not in on, f"on twice: {message}"
                on.add(key)
            elif isinstance(message, TagOff):
                key = message.stream, message.tagger, message.tag
                assert key in on, f"off twice: {message} {message.reason}"
                on.discard(key)
            elif isinstance(message, StreamDown):
                assert not [key for key in on if key[0] == message.stream], message
        return on
