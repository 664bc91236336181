"""Commands to a fleet of two daemons and one server, and what is refused."""

import asyncio
import signal
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.fleet import (
    SECONDS,
    FleetDaemon,
    FleetListener,
    spread,
    status,
    stored_events,
    wait_for_status,
    write_song,
)
from support.nats_server import NatsServer, require_nats
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.config.config import load_config
from streamtag.config.control_socket import send_command
from streamtag.config.fleet import FleetConfig
from streamtag.config.nats import NatsConfig
from streamtag.daemon.fleet.agent import FleetAgent
from streamtag.daemon.fleet.bucket import FleetBucket
from streamtag.daemon.fleet.gate import LeaseGate
from streamtag.daemon.fleet.identity import admit
from streamtag.daemon.fleet.records import IdentityRecord, StationRecord, encode_record
from streamtag.errors import ConfigError, ControlError, FeedError, FleetError, StreamtagError
from streamtag.feed.messages import Message
from streamtag.feed.nats.connection import NatsOptions, connect
from streamtag.feed.nats.record import Record

require_nats()

LEASE = "lease_seconds = 15"
"""Long enough for a busy machine."""


def told(*words: object) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_a_fleet_is_changed_while_it_runs(
    tmp_path: Path, toy_bundle: Path, server: NatsServer
) -> None:
    song = write_song(tmp_path / "song.wav")
    table = f'{{ source = "file:{song}", pace = true, loop = true }}'
    streams = f"r1 = {table}\nr2 = {table}"
    made = [
        FleetDaemon(tmp_path / name, name.rstrip("2"), toy_bundle, [server.port], streams, LEASE)
        for name in ("anna", "bert", "anna2")
    ]
    anna, bert, second = made
    listener: FleetListener | None = None
    try:
        anna.start()
        bert.start()
        wait_for_status(anna.path, lambda f: spread(f, "anna", "bert"), anna.log)
        listener = FleetListener(server.address)
        second.start(wait=False)
        assert second.process is not None
        assert second.process.end() == 1
        assert "expected one daemon named 'anna', got a second one" in second.log()

        told("fleet", "add", anna.path, "r3", f'{{"source": "file:{song}", "loop": true}}')
        told("fleet", "add", anna.path, "r4", f"file:{song}")
        wait_for_status(
            anna.path,
            lambda f: len(f["stations"]) == 4 and spread(f, "anna", "bert"),
            anna.log,
        )
        told("fleet", "remove", anna.path, "r3")
        with pytest.raises(ControlError, match="streamtag fleet add"):
            send_command(anna.folder / "control.sock", {"command": "remove", "name": "r1"}, 30.0)
        told("fleet", "drain", anna.path, "anna")
        wait_for_status(
            anna.path, lambda f: len(f["stations"]) == 3 and spread(f, "bert"), bert.log
        )
        deadline = time.monotonic() + SECONDS
        while missing := set(anna.said()) - stored_events((server.address,)):
            assert time.monotonic() < deadline, missing  # draining loses no event
            time.sleep(0.1)
        told("fleet", "drain", anna.path, "anna", "--undo")
        told("fleet", "rebalance", anna.path)
        wait_for_status(anna.path, lambda f: spread(f, "anna", "bert"), anna.log)
        anna.send(signal.SIGTERM)
        assert anna.process is not None
        assert anna.process.end() == 0, anna.log()
        found = wait_for_status(bert.path, lambda f: spread(f, "bert"), bert.log)
        assert {d["name"]: d["state"] for d in found["daemons"]} == {
            "anna": "left",
            "bert": "serving",
        }
        assert "bert" in told("fleet", "status", bert.path)
        assert "r1" in told("fleet", "status", bert.path, "--stations")
        listener.open_tags()  # none began twice, none ended twice, none was on when a stream ended
        refused_orders(bert)
        refused_buckets(bert)
    finally:
        if listener is not None:
            listener.close()
        for daemon in made:
            daemon.close()


def refused_orders(daemon: FleetDaemon) -> None:
    for words, error, match in (
        (("remove", "r99"), FleetError, "expected the name of a station, got 'r99'"),
        (("drain", "nobody"), FleetError, "expected the name of a daemon, got 'nobody'"),
        (("add", "r9", "nonsense"), ConfigError, "streams.r9.source"),
        (("add", "r9", "{nonsense"), FleetError, "expected JSON or a source"),
    ):
        done = CliRunner().invoke(app, ["fleet", words[0], str(daemon.path), *words[1:]])
        assert isinstance(done.exception, error), done.output
        assert match in str(done.exception)


def refused_buckets(daemon: FleetDaemon) -> None:
    """Another fleet, another version, no fleet, no server."""
    text = daemon.path.read_text()
    for changed, error, match in (
        ('[fleet]\nname = "other"', FeedError, "expected the bucket streamtag-fleet of the fleet"),
        ("[clips]\nfolder = 'clips'\n[fleet_]", ConfigError, "fleet_"),
    ):
        other = daemon.folder / "other.toml"
        other.write_text(text.replace("[fleet]", changed))
        with pytest.raises(error, match=match):
            status(other)
    daemon.cut()
    began = time.monotonic()
    with pytest.raises(FeedError, match="expected a NATS server"):
        status(daemon.path)
    assert time.monotonic() - began < 60
    daemon.mend()
    assert load_config(daemon.path).fleet is not None


def test_a_full_jetstream_is_said_and_survived(tmp_path: Path, toy_bundle: Path) -> None:
    """Nobody can renew then, so the stations end; they are back when there is room again."""
    server = NatsServer(tmp_path / "nats", jetstream="max_file_store: 4MB")
    song = write_song(tmp_path / "song.wav")
    table = f'r1 = {{ source = "file:{song}", pace = true, loop = true }}'
    anna = FleetDaemon(tmp_path / "anna", "anna", toy_bundle, [server.port], table)
    try:
        anna.start()
        wait_for_status(anna.path, lambda f: spread(f, "anna"), anna.log)
        asyncio.run(fill(server))
        anna.wait_for_log("the lease has ended; 1 stations are given up")
        anna.wait_for_log("resources")
        asyncio.run(empty(server))
        wait_for_status(anna.path, lambda f: spread(f, "anna"), anna.log)
        anna.send(signal.SIGTERM)
        assert anna.process is not None
        assert anna.process.end() == 0, anna.log()
    finally:
        anna.close()
        server.close()


async def fill(server: NatsServer) -> None:
    """Another program's messages take all the room."""
    from nats.js.errors import APIError

    connection = await connect(NatsOptions((server.address,)))
    await connection.jetstream.add_stream(name="junk", subjects=["junk"])
    for size in (500_000, 1000, 10):
        with suppress(APIError):
            while True:
                await connection.jetstream.publish("junk", bytes(size))
    await connection.close()


async def empty(server: NatsServer) -> None:
    connection = await connect(NatsOptions((server.address,)))
    await connection.jetstream.delete_stream("junk")
    await connection.close()


def test_two_that_create_one_key_and_a_late_renewal(server: NatsServer) -> None:
    async def run() -> None:
        connection = await connect(NatsOptions((server.address,)))
        bucket = FleetBucket(connection, "x", 1)
        await bucket.open()
        await bucket.open()
        first = await bucket.update("claim.r", b"1", 0)
        assert first
        assert await bucket.update("claim.r", b"2", 0) == 0
        second = await bucket.update("claim.r", b"3", first)
        assert second > first
        assert await bucket.update("claim.r", b"4", first) == 0
        found = await bucket.get("claim.r")
        assert found is not None
        assert (found.revision, found.value) == (second, b"3")
        assert await bucket.get("claim.none") is None
        assert [entry.key for entry in await bucket.read()] == ["claim.r"]
        with pytest.raises(FeedError, match="expected the bucket streamtag-fleet of the fleet 'y'"):
            await FleetBucket(connection, "y", 1).open()
        await connection.close()

    asyncio.run(run())


class Host:
    """A daemon that tags nothing."""

    def change(self, add: Mapping[str, Any], remove: Collection[str]) -> Future[object]:
        done = Future[object]()
        done.set_result(None)
        return done

    def publish(self, messages: list[Message]) -> None:
        raise AssertionError(messages)

    def numbering(self, topic: str) -> tuple[str, int]:
        return "", 0


@contextmanager
def joined(nats: NatsConfig, name: str, models: str, *stations: str, lease: float = 6.0) -> Any:
    """A daemon of a fleet, in this process."""
    config = FleetConfig(daemon=name, lease_seconds=lease)
    tables = {name: {"source": "file:x"} for name in stations}
    agent = FleetAgent(config, nats, Host(), LeaseGate(), 1.0, tables, models)
    agent.join()
    try:
        yield agent
    finally:
        agent.close()


def refused(match: str, *args: Any, **more: Any) -> None:
    with pytest.raises(StreamtagError, match=match), joined(*args, **more):
        pass


def test_two_fleets_of_one_name_are_refused(server: NatsServer) -> None:
    nats = NatsConfig(servers=(server.address,))

    async def store(key: str, record: Record) -> None:
        connection = await connect(nats.options())
        await FleetBucket(connection, "streamtag", 1).put(key, encode_record(record))
        await connection.close()

    async def admitted(lease: float, running: tuple[str, ...] = (), *stations: str) -> None:
        connection = await connect(nats.options())
        records = {name: StationRecord(table={}, origin="file") for name in stations}
        bucket = FleetBucket(connection, "streamtag", 1)
        try:
            await admit(bucket, lease, "toy 2", records, running)
        finally:
            await connection.close()

    with joined(nats, "anna", "toy 1", "r1", "r2") as anna:
        asyncio.run(store("station.r1", StationRecord(table={}, origin="file")))
        with joined(nats, "bert", "toy 1", "r1", "r9"), joined(nats, "cleo", "toy 1"):
            assert not anna.obstacle()
        refused("among them, such as 'r1', got none, but 'x1'", nats, "d", "toy 1", "x1")
        refused(r"expected the models of the fleet \(toy 1\), got toy 2; use", nats, "d", "toy 2")
        refused("lease_seconds: expected 6 as in .* got 9", nats, "d", "toy 1", lease=9.0)
        with pytest.raises(FleetError, match="stop anna first"):
            asyncio.run(admitted(9.0, ("anna",)))
        asyncio.run(admitted(6.0, ("anna",), "x1", "r1"))
        with joined(nats, "d", "toy 2", "x1"), joined(nats, "e", "toy 1", "r1"):
            assert not anna.obstacle()
    asyncio.run(admitted(9.0))
    refused("lease_seconds: expected 9", nats, "anna", "toy 1")
    asyncio.run(store("identity", IdentityRecord(v=2, lease_seconds=6, models=[])))
    refused("record identity: expected version 1, got 2; use the same", nats, "d", "toy 1")


def test_a_daemon_that_may_not_use_the_fleet_ends_with_the_reason(tmp_path: Path) -> None:
    ways = ('publish: "$JS.API.>"', 'publish: ">", subscribe: "_INBOX_else.>"')
    users = [f"{{ user: u{i}, password: p, permissions: {{ {w} }} }}" for i, w in enumerate(ways)]
    users.append("{ user: root, password: p }")
    server = NatsServer(tmp_path / "nats", f"authorization {{ users: [ {', '.join(users)} ] }}")
    try:
        for user, password, match in (
            ("root", "wrong", "expected to be accepted as 'root', got .*Authorization"),
            ("u0", "p", "expected to change identity, got .*[Pp]ermissions .*give this user"),
            ("u1", "p", "got .*[Pp]ermissions .*[Ss]ubscription.*give this user"),
        ):
            nats = NatsConfig(servers=(server.address,), user=user, password=password)
            refused(match, nats, "anna", "toy 1")
    finally:
        server.close()
