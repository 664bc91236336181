"""The connection to NATS, with a real server: who is let in, and what every failure is called."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.nats_server import NatsServer, require_nats
from support.peers import free_port

from streamtag.errors import ConfigError, FeedError
from streamtag.feed.nats.connection import NatsConnection, NatsOptions, connect, options_of
from streamtag.feed.nats.storage import ensure_bucket, ensure_stream
from streamtag.feed.nats.subjects import Layout, escaped, number_in, unescaped

require_nats()
nkeys = pytest.importorskip("nkeys", reason="the extra nats is not installed")

from nats.js.api import KeyValueConfig, StreamConfig  # noqa: E402


def run(options: NatsOptions, *steps: Any) -> list[Any]:
    """Connects, checks JetStream, and takes steps on the connection."""

    async def all_of_them() -> list[Any]:
        connection = await connect(options, 60)
        try:
            await connection.check_jetstream()
            return [await step(connection) for step in steps]
        finally:
            await connection.close()

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("name", ["radio1", "a.b", "A-b_c.1", "...", "x" * 64])
def test_names_are_one_token_and_come_back(name: str) -> None:
    assert not set(escaped(name)) & set(". *>")
    assert unescaped(escaped(name)) == name
    layout = Layout("p")
    assert layout.topic(layout.subject(f"event/{name}/", "18ea")) == (f"event/{name}/", "18ea")
    assert layout.topic(layout.state(f"event/{name}/", "18ea")) == (f"event/{name}/", "18ea")


def test_topics_without_a_name_and_numbers() -> None:
    layout = Layout("p")
    assert layout.subject("stats/", "18ea") == "p.stats._.18ea"
    assert layout.topic("p.stats._.18ea") == ("stats/", "18ea")
    assert number_in("18ea/event/a/17") == 17
    assert number_in("whatever") == 0


def test_addresses() -> None:
    found = options_of("nats://ada:s%40t@one:1/music,tls://[::1]")
    assert found.servers == ("nats://one:1", "tls://[::1]:4222")
    assert (found.prefix, found.user, found.password) == ("music", "ada", "s@t")
    assert "s@t" not in repr(found)
    for wrong in ("nats://", "nats://a:99999", "nats://a?x=1", "tcp://a", "nats://a,http://b"):
        with pytest.raises(FeedError, match="expected an address such as nats://HOST"):
            options_of(wrong)


def test_no_server() -> None:
    options = NatsOptions((f"nats://127.0.0.1:{free_port()}",))
    with pytest.raises(FeedError, match=r"expected a NATS server, got .*is it running there"):
        asyncio.run(connect(options, 0.5))


def test_without_jetstream(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", jetstream=None)
    try:
        with pytest.raises(FeedError, match="no answer of JetStream; start nats-server with -js"):
            run(NatsOptions((server.address,)))
    finally:
        server.close()


def test_users_and_nkeys(tmp_path: Path) -> None:
    pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
    seed, public = tmp_path / "user.nk", pair.public_key.decode()
    seed.write_bytes(bytes(pair.seed))
    users = f'authorization {{ users: [{{user: ada, password: secret}}, {{nkey: "{public}"}}] }}'
    server = NatsServer(tmp_path / "nats", users)
    try:
        options = NatsOptions((server.address,))
        run(replace(options, user="ada", password="secret"))
        run(replace(options, nkey=str(seed)))
        with pytest.raises(
            FeedError, match=r"expected to be accepted as 'ada', got .*Authorization"
        ):
            run(replace(options, user="ada", password="wrong"))
        with pytest.raises(FeedError, match="expected to be accepted without credentials"):
            run(options)
    finally:
        server.close()
    seed.write_text("nothing")
    with pytest.raises(FeedError, match="expected a seed that begins with S"):
        run(replace(options, nkey=str(seed)))


def test_a_reset_after_a_refusal_does_not_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: object, servers: list[str], error_cb: Any, **__: object) -> None:
        await error_cb(ConnectionError("nats: 'Authorization Violation'"))
        await error_cb(ConnectionResetError(104, "Connection reset by peer"))
        await asyncio.Event().wait()

    monkeypatch.setattr("nats.aio.client.Client.connect", refuse)
    with pytest.raises(FeedError, match="expected to be accepted without credentials"):
        run(NatsOptions())


def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, own = authority.issue_cert("127.0.0.1"), authority.issue_cert("ada@example.org")
    files = {"ca": authority.cert_pem.bytes(), "key": certificate.private_key_pem.bytes()}
    files |= {"cert": b"".join(pem.bytes() for pem in certificate.cert_chain_pems)}
    files |= {"own": own.private_key_and_cert_chain_pem.bytes()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [f'{k}_file: "{tmp_path}/{n}"' for k, n in (("ca", "ca"), ("cert", "cert"))]
    tls = f'tls {{ {", ".join(paths)}, key_file: "{tmp_path}/key", verify: true }}'
    server = NatsServer(tmp_path / "nats", tls, scheme="tls")
    try:
        good = NatsOptions((server.address,), ca_file=f"{tmp_path}/ca")
        good = replace(good, certificate_file=f"{tmp_path}/own")
        run(good)
        with pytest.raises(FeedError, match=r"expected a NATS server, got .*CERTIFICATE_VERIFY"):
            asyncio.run(connect(replace(good, ca_file=""), 60))
    finally:
        server.close()
    with pytest.raises(FeedError, match=r"expected certificates in .*nowhere"):
        run(replace(good, ca_file=f"{tmp_path}/nowhere"))


async def _stream(connection: NatsConnection, **more: Any) -> None:
    await ensure_stream(connection, StreamConfig(name="p", subjects=["p.event.>"], **more))


async def _bucket(connection: NatsConnection, owner: str) -> None:
    await ensure_bucket(connection, KeyValueConfig(bucket="p-leases"), owner)


def test_streams_and_buckets_of_others(server: NatsServer) -> None:
    options = NatsOptions((server.address,), "p")

    async def others(connection: NatsConnection) -> None:
        for name, said in (("q", ""), ("r", '{"streamtag":9}')):
            await connection.jetstream.add_stream(name=name, subjects=[name], description=said)

    async def ensure(connection: NatsConnection, name: str) -> None:
        await ensure_stream(connection, StreamConfig(name=name, subjects=[name]))

    async def limits(connection: NatsConnection) -> Any:
        return (await connection.jetstream.stream_info("p")).config.max_age

    steps = (_stream, lambda c: _stream(c, max_age=60), limits, others)
    assert run(options, *steps, lambda c: _bucket(c, "a"), lambda c: _bucket(c, "a"))[2] == 60
    with pytest.raises(
        FeedError, match="expected a stream q of streamtag, got one that says 'noth"
    ):
        run(options, lambda c: ensure(c, "q"))
    with pytest.raises(FeedError, match="expected version 1 of the stream r, got 9"):
        run(options, lambda c: ensure(c, "r"))
    with pytest.raises(FeedError, match="bucket p-leases of the fleet 'b', got that of 'a'"):
        run(options, lambda c: _bucket(c, "b"))


def test_a_missing_secret_is_named() -> None:
    from streamtag.config.nats import NatsConfig

    table = NatsConfig(user="ada", password_env="NO_SUCH_VARIABLE")
    with pytest.raises(ConfigError, match=r"nats\.password_env: expected a secret"):
        table.options()
