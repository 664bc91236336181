"""Commands to a fleet of two daemons and one server, and what is refused."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.fleet import FleetDaemon, spread, status, wait_for_status, write_song
from support.nats_server import NatsServer, require_nats
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.config.config import load_config
from streamtag.config.control_socket import send_command
from streamtag.daemon.fleet.bucket import FleetBucket
from streamtag.errors import ConfigError, ControlError, FeedError, FleetError
from streamtag.feed.nats.connection import NatsOptions, connect

require_nats()

LEASE = "lease_seconds = 15"
"""Long enough for a busy machine."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    made = NatsServer(tmp_path / "nats")
    try:
        yield made
    finally:
        made.close()


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
    try:
        anna.start()
        bert.start()
        wait_for_status(anna.path, lambda f: spread(f, "anna", "bert"), anna.log)
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
        refused_orders(bert)
        refused_buckets(bert)
    finally:
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
