"""Whatever is sent to a daemon's sockets: an answer or nothing, no crash, no growth of memory."""

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fastjsonschema
import msgpack
import pytest
import zmq
from daemon.test_daemon import Process, running

from streamtag import Subscriber
from streamtag.config.control_socket import send_command
from streamtag.feed.messages import StreamStatus
from streamtag.feed.schema import messages_schema

SECONDS = 60
ROUNDS = 4000
"""Requests of each kind; the first fifth is not measured, for memory is made ready in it."""
MOST_GROWTH = 8_000_000
"""Bytes."""
SOUND = {
    "v": 1,
    "type": "replay",
    "id": 5,
    "topic": "event/s/",
    "epoch": "18e9ee7562274622",
    "from": 1,
    "to": 9,
}
ODD = (None, True, -1, 0, 1.5, 2**53, 2**62, 2**63, 10**300, "", "\0", "x" * 3000, [], {}, [[]])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("daemon")
    path = folder / "c.toml"
    path.write_text(
        "exit_when_done = false\n"
        '[feed]\nbind = "tcp://127.0.0.1:0"\nbeat_seconds = 0.2\njournal = "j.db"\n'
        '[engine]\ndevice = "cpu"\nthreads = 1\n[control]\nsocket = "c.sock"\n'
        f"[taggers]\ntoy.bundle = {json.dumps(str(toy_bundle))}\n"
        '[streams]\ns.source = "tcp://127.0.0.1:1"\ns.rate = 8000\n'
    )
    with running(path) as process:
        yield process


@pytest.fixture
def control(daemon: Process) -> Path:
    return Path(daemon.popen.args[-1]).with_name("c.sock")  # type: ignore[index, arg-type]


def replay_address(daemon: Process) -> str:
    """As the state says it, and a proof that the daemon lives."""
    with Subscriber(daemon.address) as feed:
        assert isinstance(feed.receive(SECONDS), StreamStatus)
        return feed._tracker.replay


def memory(daemon: Process) -> int:
    """Bytes that the daemon has in use."""
    status = Path(f"/proc/{daemon.popen.pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


@contextmanager
def unharmed(daemon: Process) -> Iterator[None]:
    """Afterwards it answers as before."""
    yield
    assert daemon.popen.poll() is None
    assert replay_address(daemon)
    assert not [line for line in daemon.log if "Traceback" in line or "CRITICAL" in line]


def measured(daemon: Process, send: Callable[[int], int]) -> None:
    """Memory must not grow by half of what is sent; `send` says how many bytes that is."""
    for i in range(ROUNDS // 5):
        send(i)
    before = memory(daemon)
    sent = sum(send(i) for i in range(ROUNDS // 5, ROUNDS))
    assert sent > 2_000_000
    assert memory(daemon) - before < sent / 2


def request(rng: random.Random) -> list[bytes]:
    """A request with something wrong in it, most times."""
    body = dict(SOUND)
    for _ in range(rng.randrange(3)):
        body[rng.choice([*SOUND, "more"])] = rng.choice(ODD)  # type: ignore[assignment]
    if rng.random() < 0.2:
        body.pop(rng.choice(list(body)))
    packs = rng.random() < 0.3 and all(abs(v) < 2**64 for v in body.values() if type(v) is int)
    text = msgpack.packb(body) if packs else json.dumps(body).encode()
    kind = rng.randrange(6)
    if kind == 0:
        return [rng.randbytes(rng.randrange(6000))]
    if kind == 1:
        return [text[: rng.randrange(len(text))]]
    if kind == 2:
        return [text] * rng.randrange(1, 20)
    if kind == 3:
        return [b"[" * rng.randrange(5000)]
    at = rng.randrange(len(text))
    return [text if kind == 4 else text[:at] + rng.randbytes(3) + text[at:]]


def test_requests_for_missed_messages(daemon: Process) -> None:
    """Every one is answered, once, as the schema says."""
    schema = messages_schema()
    heads = [{"$ref": f"#/$defs/{name}"} for name in ("replay_answer", "replay_error")]
    valid = fastjsonschema.compile({"oneOf": heads, "$defs": schema["$defs"]})
    rng, types = random.Random(1), set()
    with unharmed(daemon), zmq.Context() as context, context.socket(zmq.DEALER) as asks:
        asks.linger, asks.rcvtimeo = 0, SECONDS * 1000
        asks.connect(replay_address(daemon))

        def send(i: int) -> int:
            asks.send_multipart(parts := request(rng))
            reply = asks.recv_multipart()
            if not reply[0]:  # a first part that is empty comes back: that of REQ
                del reply[0]
            head = msgpack.unpackb(reply[0]) if reply[0][0] >= 0x80 else json.loads(reply[0])
            # An epoch that nobody has is echoed: no epoch by the schema's letter.
            valid(head | {"epoch": SOUND["epoch"]} if "epoch" in head else head)
            types.add(head["type"])
            return sum(map(len, parts))

        measured(daemon, send)
        assert not asks.poll(100)
    assert types == {"replay", "error"}


def test_a_request_that_is_far_too_long_ends_its_connection_only(daemon: Process) -> None:
    with unharmed(daemon), zmq.Context() as context:
        where = replay_address(daemon)
        for address, kind in ((where, zmq.DEALER), (daemon.address, zmq.XSUB)):
            with context.socket(kind) as asks:
                asks.linger = 0
                asks.connect(address)
                before = memory(daemon)
                for _ in range(20):
                    asks.send(b"\2" * 10_000_000)
                with context.socket(zmq.DEALER) as other:
                    other.linger, other.rcvtimeo = 0, SECONDS * 1000
                    other.connect(where)
                    other.send_json(SOUND)
                    assert json.loads(other.recv_multipart()[0])["type"] == "replay"
                assert memory(daemon) - before < MOST_GROWTH


def flood(daemon: Process, rng: random.Random) -> None:
    """Subscribes to ever more, and to what is no topic, until the daemon has enough of it."""
    words = "too many subscriptions; all have to come anew"
    told = sum(words in line for line in daemon.log)
    with zmq.Context() as context, context.socket(zmq.XSUB) as sub:
        sub.linger = 0
        sub.connect(daemon.address)
        for i in range(10_000):
            for first in (b"\0", b"\1", b"\1hello/\0", b"\2", b"", b"\1event/") * 40:
                sub.send(first + rng.randbytes(rng.randrange(500)))
            sub.send(b"\1hello/%d/" % i)  # its answer says that the daemon has seen all this
            while sum(words in line for line in daemon.log) == told:
                if sub.poll(20) and sub.recv_multipart()[0] == b"hello/%d/" % i:
                    break
            else:
                return
    raise AssertionError("the daemon takes any number of subscriptions")


def test_endless_subscriptions(daemon: Process) -> None:
    """They are forgotten when they are too many, and then others can subscribe."""
    rng = random.Random(2)
    with unharmed(daemon):
        start = memory(daemon)
        for i in range(5):
            flood(daemon, rng)
            assert replay_address(daemon)
            if i == 1:
                before = memory(daemon)
        assert before - start < 60_000_000
        assert memory(daemon) - before < MOST_GROWTH


GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\4\x19\5READY\x0bSocket-Type\0\0\0\6"


def garbage(rng: random.Random) -> bytes:
    """Bytes of somebody who speaks ZMTP up to some point, or not at all."""
    start = rng.choice(
        [b"", b"GET / HTTP/1.1\r\n\r\n", GREETING[:10], GREETING, GREETING + READY + b"DEALER"]
    )
    size = rng.choice([0, 2**31, 2**63 - 1, 2**64 - 1]).to_bytes(8, "big")
    frame = rng.choice([b"\1\xff", b"\2" + size, b"\6" + size, b"\4\xff\3NEW", b"\0\1", b""])
    return start + frame + rng.randbytes(rng.randrange(16_000))


@pytest.mark.parametrize("which", ["feed", "requests"])
def test_raw_bytes(daemon: Process, which: str) -> None:
    """What ZeroMQ has not worked off yet is memory, too: it gets time for that now and then. It
    keeps some MB for the next ones, but not one for each."""
    address = daemon.address if which == "feed" else replay_address(daemon)
    port, rng = int(address.rpartition(":")[2]), random.Random(3)
    with unharmed(daemon):
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        before = memory(daemon)
        for i in range(2000):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(garbage(rng))
                if i % 100 == 0:
                    raw.shutdown(socket.SHUT_WR)
                    raw.settimeout(5)
                    while raw.recv(65536):
                        pass
            if i % 100 == 0:
                assert replay_address(daemon)
        assert memory(daemon) - before < 32_000_000
        for one in idle:
            one.close()


def test_the_control_socket(daemon: Process, control: Path) -> None:
    """Every line gets a reply; one connection, and many that break off."""
    rng = random.Random(4)
    commands = [
        {"command": rng.choice(["list", "status", "fly", "pause", "add", "set", "swap", None])}
        for _ in range(50)
    ]
    with unharmed(daemon), socket.socket(socket.AF_UNIX) as steady:
        steady.settimeout(SECONDS)
        steady.connect(str(control))
        replies = steady.makefile("rb")

        def send(i: int) -> int:
            body = rng.choice(commands) | {"name": rng.choice(ODD), "table": rng.choice(ODD)}
            line = json.dumps(body).encode() if i % 2 else rng.randbytes(rng.randrange(1, 6000))
            line = line.replace(b"\n", b" ")
            if i % 7 == 0:
                with socket.socket(socket.AF_UNIX) as leaves:
                    leaves.connect(str(control))
                    leaves.sendall(line)
            steady.sendall(line + b"\n")
            assert json.loads(replies.readline())["ok"] in (True, False)
            return len(line)

        measured(daemon, send)
        replies.close()
    assert send_command(control, {"command": "list"}, SECONDS)[0]["name"] == "s"
