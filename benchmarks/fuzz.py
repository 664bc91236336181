"""Malformed inputs by the million for everything that reads what strangers send.

    python benchmarks/fuzz.py --count 1000000 --only "playlist" --only "HTTP parameters"

An input must be accepted or refused with an error of ours, in bounded time and memory. Anything
else ends the run, and the input is printed. Inputs are valid ones, changed at random; the same
`--seed` tries the same ones. No peer is beside it: rows say how many inputs, and the slowest one.
"""

import os
import random
import re
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rows import Row, parser, write

# Without this folder, whose feed.py would stand for the tests' folder of that name.
sys.path.remove(str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.malformed import as_toml
from support.parsers import parsers_in
from support.web_server import Feed, Server, serving

from streamtag import _core
from streamtag.errors import StreamtagError
from streamtag.train.recipes.file import RECIPES, load_any, read_table

sys.path.append(str(Path(__file__).resolve().parent))

FROM_PARSERS = {
    "title (ICY, Ogg)": "titles of stations (ICY, Ogg)",
    "playlist": "playlists",
    "card": "cards of bundles",
    "bundle": "bundles",
    "control socket": "control socket",
    "replay request": "replay requests",
    "message": "messages of the feed",
}
"""Parsers of tests/support/parsers.py, and what the row calls them."""
ODD = (
    b"null", b"NaN", b"-1", b"1e999", b"9" * 400, b'"', b"\\ud800", b"\0", b"[" * 2000, b"{}",
    b"%00", b"../", b"file:", b"\xff\xfe", "\u202e".encode(), b"\r\n\r\n", b"=", b"&", b"a" * 5000,
)  # fmt: skip
LIMIT_SECONDS = 5.0
"""An input that takes longer is an error. Machines are busy."""
MOST_GROWTH = 300
"""MiB of memory that a run may take."""
PATHS = (
    "/", "/stream/{}", "/wall/{}", "/report/{}", "/api/streams/{}", "/api/tags", "/api/mood",
    "/api/timeline", "/api/curve", "/api/history", "/api/state", "/api/overview", "/settings",
)  # fmt: skip
PARAMETERS = (
    "stream", "tag", "type", "from", "to", "limit", "after", "day", "lang", "tagger", "theme",
    "show", "zone",
)  # fmt: skip
VALUES = (
    "radio", "calm", "tag_on", "-1h", "2026-11-21T10:00:00Z", "100", "2026-11-21", "de", "m",
    "Europe/Berlin", "0", "1e9", "٣",
)  # fmt: skip
ROUTE = re.compile(rb"HTTP/1\.1 (\d{3})[^\r]*\r\n")
LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """What reads, and how an input is made for it."""

    make: Callable[[random.Random], bytes]
    read: Callable[[bytes], object]


def changed(valid: bytes, rng: random.Random) -> bytes:
    """A valid input with one to four faults."""
    data = bytearray(valid)
    for _ in range(rng.randint(1, 4)):
        kind, at, n = rng.randrange(7), rng.randint(0, len(data)), rng.randint(1, 40)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + n]
        elif kind == 2:
            data[at:at] = data[rng.randint(0, len(data)) :][:n]
        elif kind == 3:
            data[at:at] = rng.randbytes(n)
        elif kind == 4:
            data[at : at + rng.randrange(9)] = rng.choice(ODD)
        elif data:
            i = rng.randrange(len(data))
            data[i] = rng.randrange(256) if kind == 5 else data[i] ^ (1 << rng.randrange(8))
    return bytes(data)


def mutating(valid: list[bytes], read: Callable[[bytes], object]) -> Target:
    """Inputs made from valid ones."""
    return Target(lambda rng: changed(rng.choice(valid), rng), read)


def recipes(folder: Path) -> Target:
    """Recipes, as TOML files."""
    path = folder / "recipe.toml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_any(path)

    names = ("amlag-2", "general", "streaming")
    return mutating([as_toml(read_table(RECIPES / f"{name}.toml")) for name in names], read)


def samples() -> Target:
    """Raw samples through the native reader, in pieces of any size."""

    def make(rng: random.Random) -> bytes:
        return bytes([rng.randrange(4), rng.randrange(256)]) + rng.randbytes(rng.randrange(3000))

    def read(data: bytes) -> None:
        kind, piece, data = data[0], data[1] + 1, data[2:]
        format, channels = ("s16le", "f32le")[kind % 2], 1 + kind // 2
        out, into = os.pipe()
        port = _core.open_port(
            out, format=format, rate=8000, channels=channels,
            sides=channels == 2, mixed=False, seam=0.0, seconds=10.0,
        )  # fmt: skip
        try:
            for start in range(0, len(data), piece * 16):
                os.write(into, data[start : start + piece * 16])
            os.close(into)
            while not port.wait(LIMIT_SECONDS).ended:
                pass
            got = 0
            while found := port.take(500):
                assert found[0] == got, "a hole"
                got += len(found[1])
            width = channels * (2 if format == "s16le" else 4)
            assert got == len(data) // width, f"{len(data) // width} samples, got {got}"
        finally:
            port.close()
            os.close(out)

    return Target(make, read)


class Web:
    """A web server with a journal, and a connection to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        host, _, port = server.address.rpartition(":")
        self._place, self._socket = (host, int(port)), None
        self._left = 0

    def connect(self) -> socket.socket:
        """A new connection."""
        made = socket.create_connection(self._place, LIMIT_SECONDS * 4)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def get(self, data: bytes) -> None:
        """One request over a connection that stays."""
        if self._socket is None:
            self._socket = self.connect()
        self._socket.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (part := self._socket.recv(65536)):
                break
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        status, length = ROUTE.match(head + b"\r\n"), LENGTH.search(head + b"\r\n")
        assert status, answer[:200]
        assert int(status[1]) < 500 or status[1] == b"503", answer[:2000]
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0 and (part := self._socket.recv(65536)):
            missing -= len(part)
        if length is None or b"connection: close" in head.lower():
            self._socket.close()
            self._socket = None

    def frames(self, data: bytes) -> None:
        """A frame of any kind over a WebSocket, which the server may close."""
        if self._socket is None or not self._left:
            if self._socket is not None:
                self._socket.close()
            self._socket, self._left = self.connect(), 60
            path = ("/ws", "/ws/scores?stream=radio")[data[0] % 2]
            self._socket.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {self.server.address}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert self._socket.recv(4096).startswith(b"HTTP/1.1 101"), "no upgrade"
        self._left -= 1
        try:
            self._socket.sendall(data)
        except OSError:  # the server has closed it, as it should
            self._left = 0

    def alive(self) -> None:
        """The server answers as before and has logged no failure."""
        assert self.server.get("/healthz").status_code == 200
        assert not [line for line in self.server.log if "Traceback" in line]


def request(rng: random.Random) -> bytes:
    """A request with parameters of any kind."""

    def word(valid: str) -> str:
        text = changed(valid.encode(), rng) if rng.random() < 0.5 else valid.encode()
        return quote(text[:2000], safe="" if rng.random() < 0.9 else "&=/?#")

    pairs = [
        f"{rng.choice(PARAMETERS)}={word(rng.choice(VALUES))}" for _ in range(rng.randrange(4))
    ]
    path = rng.choice(PATHS).format(word("radio"))
    accept = rng.choice(("de", "*", "x" * 300, "\x7f", "en;q=9"))
    return (
        f"GET {path}?{'&'.join(pairs)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Language: {accept}\r\n"
        f"Cookie: streamtag_settings={word('x')[:300]}\r\n\r\n"
    ).encode()


def frame(rng: random.Random) -> bytes:
    """A WebSocket frame: sound, or with any head, length and mask."""
    body = rng.randbytes(rng.choice((0, 1, 5, 125, 126, 300)))
    if rng.random() < 0.2:
        return rng.randbytes(rng.randint(2, 40))
    head = rng.choice((0x81, 0x82, 0x01, 0x80, 0x89, 0x8A, 0x88)) | (rng.random() < 0.05) << 6
    length = (
        bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2, "big")
    )
    if rng.random() < 0.03:
        length = b"\xff" + rng.randbytes(8)
    return bytes([head]) + length + b"\0\0\0\0" + body


@contextmanager
def web(folder: Path) -> Iterator[Web]:
    """A server with something in its journal."""
    feed = Feed(folder / "j.db")
    try:
        feed.up("radio")
        feed.on("radio", "calm", 5)
        with serving(folder, feed, folder / "j.db") as server:
            yield Web(server)
    finally:
        feed.close()


def run(target: Target, count: int, seed: int) -> float:
    """Reads so many inputs; returns the seconds of the slowest one."""
    rng, slowest = random.Random(seed), 0.0
    for i in range(count):
        data = target.make(rng)
        begun = time.perf_counter()
        try:
            target.read(data)
        except StreamtagError:
            pass
        except BaseException:
            print(f"input {i} of seed {seed}: {data!r}", file=sys.stderr)
            raise
        slowest = max(slowest, time.perf_counter() - begun)
        assert slowest < LIMIT_SECONDS, f"input {i} of seed {seed} took {slowest:.1f} s: {data!r}"
    return slowest


def memory() -> int:
    """MiB that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def names() -> list[str]:
    """All targets."""
    return [*FROM_PARSERS.values(), "recipes", "raw samples", "HTTP parameters", "WebSocket frames"]


def fuzz(name: str, count: int, seed: int) -> list[Row]:
    """Runs one target; prints what came of it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place, ExitStack() as stack:
        folder, server = Path(place), None
        if name in ("HTTP parameters", "WebSocket frames"):
            server = stack.enter_context(web(folder))
            http = name == "HTTP parameters"
            target = Target(request if http else frame, server.get if http else server.frames)
        elif name == "recipes":
            target = recipes(folder)
        elif name == "raw samples":
            target = samples()
        else:
            parsers = stack.enter_context(parsers_in(folder))
            chosen = parsers[next(key for key, row in FROM_PARSERS.items() if row == name)]
            valid = [v if isinstance(v, bytes) else chosen.encode(v) for v in chosen.valid]
            target = mutating(valid, chosen.read)
        run(target, max(10, count // 100), seed + 1)  # what is made once
        before, begun = memory(), time.perf_counter()
        slowest = run(target, count, seed)
        seconds, grown = time.perf_counter() - begun, memory() - before
        if server is not None:
            server.alive()
        assert grown < MOST_GROWTH, f"{name}: {grown} MiB more than before"
    print(
        f"{name}: {count:,} inputs in {seconds:,.0f} s, slowest {1000 * slowest:.0f} ms, "
        f"{grown} MiB more"
    )
    key = "fuzz/" + name.replace(" ", "_")
    return [Row(f"{key}/inputs", count, ""), Row(f"{key}/slowest_ms", 1000 * slowest, "ms")]


def main() -> None:
    """Runs the targets one after the other."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=20_000, help="inputs of each target")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--only", action="append", choices=names(), help="may be given again")
    given = arguments.parse_args()
    rows: list[Row] = []
    for name in given.only or names():
        rows += fuzz(name, given.count, given.seed)
    write(rows, given.json)


if __name__ == "__main__":
    main()
