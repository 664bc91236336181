"""What the feed costs beside bare PUB/SUB: events per second of one core, and latency.

    python benchmarks/feed.py [--events 40000] [--rounds 5] [--subscribers 1,10,100] [--json FILE]

Each variant sends the same bytes (topic and payload of tag_on and tag_off, of 20 streams) over TCP
on loopback to the same plain pyzmq subscribers in another process. The variants are interleaved:

- bare: payloads encoded beforehand, `send_multipart` on a PUB socket, nothing else.
- bare/quick: the same with the call that the daemon uses, which bypasses pyzmq's Python layer.
- publish: the daemon's whole path from the engine's event to the socket, without a journal and
  without the process of the public sockets.
- journal: the same with both, as `streamtag run` has it: events → messages → JSON → a commit per
  batch → sockets (`EventOutput.publish`, bookkeeping included) → relay.
- curve/bare, curve/journal: both with CURVE.
- replay: a subscriber fetches everything from the journal again; per second of wall time.

Rates are per core: events divided by the CPU seconds of the publishing process with all
its threads (also ZeroMQ's own); `pair` counts the subscriber's process as well, `wall` is messages
received per second of wall time. Every message must arrive, or the benchmark fails.
Latencies are from the engine's event to the subscriber's receive call, at 1,000 events/s.
"""

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import zmq
from rows import Row, parser, write

from streamtag.config.config import FeedConfig
from streamtag.daemon.memory import freeze_garbage_collector
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput
from streamtag.engine import events
from streamtag.feed.client.tracker import ReplayCall
from streamtag.feed.current_state import CurrentState
from streamtag.feed.event_encoder import EventEncoder, TaggerInfo
from streamtag.feed.journal.journal import Journal
from streamtag.feed.keys import KeyPair, generate, read_pair
from streamtag.feed.messages import dump
from streamtag.feed.publisher import Publisher
from streamtag.feed.sockets import quick_send

STREAMS, TAGS, RATE = 20, 50, 44100
BACKLOG = 5000
"""The number of messages in the publisher's queue above which the sender waits."""
PACE = 1000
"""Events per second when latency is measured."""


def make_events(n: int) -> list[events.Event]:
    """Events that open the streams, then `n` events that start and end tags."""
    made: list[events.Event] = [
        events.StreamOpened(f"radio{i}", 0, RATE, 10**18, ("general",)) for i in range(STREAMS)
    ]
    reason = events.Reason.BELOW_THRESHOLD
    for i in range(n):
        stream, tag = f"radio{i % STREAMS}", f"tag {i // (2 * STREAMS) % TAGS}"
        at, p = 2205 * i + 17, 0.5 + i % 4999 / 10007
        if i // STREAMS % 2:
            since = at - 2205 * STREAMS
            made.append(events.TagEnded(stream, "general", tag, at, at + 999, since, p, reason))
        else:
            made.append(events.TagStarted(stream, "general", tag, at, at + 999, p, False))
    return made


class PlainSocket:
    """Publishes with pyzmq alone; payloads are encoded beforehand.

    Args:
        keys: of the server and of the client, for CURVE.
        quick: whether to use the daemon's `quick_send`.
    """

    def __init__(
        self, folder: Path, keys: tuple[KeyPair, KeyPair] | None, *, quick: bool = False
    ) -> None:
        self._quick = quick
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.sndhwm = 0
        if keys:
            self._socket.curve_server = True
            self._socket.curve_secretkey = keys[0].secret.encode()
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.address, self.replay = f"tcp://127.0.0.1:{port}", ""
        wire = EventEncoder({"general": ()}, 10**18)
        self._ready: dict[int, list[bytes]] = {}
        self._wire = wire

    def prepare(self, sequence: list[events.Event]) -> None:
        """Encodes the payloads."""
        for event in sequence:
            message = self._wire.message(event)
            self._ready[id(event)] = [message.topic.encode(), dump(message)]

    def send_probe(self) -> None:
        self._socket.send_multipart([b"event/sync/", b"?"])

    def send(self, some: list[events.Event]) -> None:
        if not self._quick:
            for event in some:
                self._socket.send_multipart(self._ready[id(event)])
            return
        more, last, socket = int(zmq.DONTWAIT | zmq.SNDMORE), int(zmq.DONTWAIT), self._socket
        for event in some:
            topic, body = self._ready[id(event)]
            quick_send(socket, topic, more)
            quick_send(socket, body, last)

    def backlog(self) -> int:
        return 0

    def close(self) -> None:
        self._context.destroy(0)


class DaemonOutput:
    """Publishes as the daemon does.

    Args:
        folder: for keys and journal.
        keys: of the server, for CURVE.
        journal: whether to write a journal.
    """

    def __init__(
        self, folder: Path, keys: tuple[KeyPair, KeyPair] | None, *, journal: bool = True
    ) -> None:
        config = FeedConfig(
            bind="tcp://127.0.0.1:0",
            high_water=10**8,
            journal=str(folder / f"{time.monotonic_ns()}.db"),
            secret_key=str(folder / "server.key_secret") if keys else "",
            authorised_keys=str(folder / "authorised") if keys else "",
        )
        self._output = EventOutput(config, Monitor())
        self.publisher = self._output.publisher
        self.address, relay = self._output.address, self._output.relay
        self.replay = relay.replay_address if relay else ""
        if not journal:
            self._output.close(0)
            self.replay = ""
            self._output.publisher = self.publisher = Publisher(config.bind, high_water=10**8)
            self.address = self.publisher.address

    def prepare(self, sequence: list[events.Event]) -> None:
        pass

    def send_probe(self) -> None:
        self._output.publish([events.SourceStatusChanged("sync", 0, events.SourceState.CONNECTING)])

    def send(self, some: list[events.Event]) -> None:
        self._output.publish(some)

    def backlog(self) -> int:
        return len(self.publisher._queue)

    def close(self) -> None:
        if self.replay:
            self._output.close(0)
        else:
            self.publisher.close(0)


Factory = Callable[[Path, tuple[KeyPair, KeyPair] | None], PlainSocket | DaemonOutput]
VARIANTS: dict[str, tuple[Factory, bool]] = {
    "bare": (PlainSocket, False),
    "bare/quick": (partial(PlainSocket, quick=True), False),
    "publish": (partial(DaemonOutput, journal=False), False),
    "journal": (DaemonOutput, False),
    "curve/bare": (PlainSocket, True),
    "curve/journal": (DaemonOutput, True),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of one run, in events per second."""

    core: float
    """Of the publishing process's CPU time."""
    pair: float
    """Of the CPU time of both processes."""
    wall: float
    """Per second of wall time, counted at the subscriber."""


def run_subscriber(
    pipe: Connection, address: str, sockets: int, n: int, pair: list[bytes], calls: list[ReplayCall]
) -> None:
    """The subscriber process: receives `n` messages on each socket or replays them.

    It sends back its CPU seconds and the time at which each message arrived."""
    context, poller = zmq.Context(), zmq.Poller()
    made = [context.socket(zmq.DEALER if calls else zmq.SUB) for _ in range(sockets)]
    for socket in made:
        socket.rcvhwm = 0
        if pair:
            socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = pair
        if not calls:
            socket.subscribe(b"event/")
        socket.connect(address)
        poller.register(socket, zmq.POLLIN)
    if calls:
        pipe.send("ready")
        pipe.recv()
        started = time.process_time()
        times = replay_all(made[0], calls)
    else:
        for socket in made:
            socket.recv_multipart()
        pipe.send("ready")
        started = time.process_time()
        times = receive_all(poller, n * sockets)
    pipe.send((time.process_time() - started, times))
    context.destroy(0)


def receive_all(poller: zmq.Poller, left: int) -> list[int]:
    """Receives `left` messages; returns the time of each in nanoseconds."""
    times = []
    while left:
        for socket, _ in poller.poll():
            with suppress(zmq.Again):
                while True:
                    topic, _body = socket.recv_multipart(zmq.DONTWAIT)
                    if topic != b"event/sync/":
                        times.append(time.monotonic_ns())
                        left -= 1
    return times


def replay_all(socket: zmq.Socket, calls: list[ReplayCall]) -> list[int]:
    """Requests the whole journal; returns the time of each message in nanoseconds."""
    times = []
    for call in calls:
        first: int = call.first
        while first:
            socket.send(replace(call, first=first).body(1))
            head, *bodies = socket.recv_multipart()
            first = json.loads(head)["next"]
            times += [time.monotonic_ns()] * len(bodies)
    return times


@contextmanager
def subscriber_process(*arguments: object) -> Iterator[Connection]:
    """Starts the subscriber process; yields the pipe to it."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=run_subscriber, args=(there, *arguments))
    process.start()
    try:
        yield here
    finally:
        process.join(20)
        process.kill()


class Bench:
    """Keys and events, and one run of a variant."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        self.sequence = make_events(n)
        server, _ = generate(folder / "server")
        (folder / "authorised").mkdir()
        client, _ = generate(folder / "authorised" / "client")
        self.keys = read_pair(server), read_pair(client)
        self.replayed: list[float] = []
        self.bytes_per_event = 0.0

    def turn(self, name: str, sockets: int, n: int, pace: float = 0.0) -> tuple[Rates, np.ndarray]:
        """Sends `n` events to so many sockets; rates, and seconds from event to arrival."""
        make, curve = VARIANTS[name]
        sequence = self.sequence[: STREAMS + n]
        variant = make(self.folder, self.keys if curve else None)
        variant.prepare(sequence)
        pair = [h.encode() for h in (self.keys[0].public, self.keys[1].public, self.keys[1].secret)]
        with subscriber_process(
            variant.address, sockets, len(sequence), pair if curve else [], []
        ) as pipe:
            while not pipe.poll(0.05):
                variant.send_probe()
            pipe.recv()
            cpu, started = time.process_time(), time.monotonic_ns()
            sent = send(variant, sequence, pace)
            theirs, times = pipe.recv()
            ours = time.process_time() - cpu
        if name == "journal" and sockets == 1 and not pace:
            self._replay(variant)
        variant.close()
        many = len(sequence)
        seconds = (max(times) - started) / 1e9
        turn = Rates(many / ours, many / (ours + theirs), many / seconds)
        latencies = np.array(times) - np.array(sent) if sockets == 1 else np.array(times)
        return turn, latencies[STREAMS:] / 1e9

    def _replay(self, variant: PlainSocket | DaemonOutput) -> None:
        """Replays everything from the journal."""
        assert isinstance(variant, DaemonOutput)
        assert variant.publisher._journal is not None
        journal = variant.publisher._journal
        epoch, last = journal.epoch, journal.last()
        self.bytes_per_event = journal.size() / sum(last.values())
        calls = [ReplayCall(topic, epoch, 1, n) for topic, n in last.items()]
        with subscriber_process(variant.replay, 1, 0, [], calls) as pipe:
            pipe.recv()
            begun = time.perf_counter()
            pipe.send("go")
            _, times = pipe.recv()
            self.replayed.append(len(times) / (time.perf_counter() - begun))


def send(
    variant: PlainSocket | DaemonOutput, sequence: list[events.Event], pace: float
) -> list[int]:
    """Sends all events, at `pace` per second if given; returns the times in nanoseconds."""
    sent, start = [], time.monotonic()
    step = 1 if pace else 250
    for first in range(0, len(sequence), step):
        while variant.backlog() > BACKLOG:
            time.sleep(0.0005)
        if pace and (left := start + first / pace - time.monotonic()) > 0:
            time.sleep(left)
        some = sequence[first : first + step]
        sent += [time.monotonic_ns()] * len(some)
        variant.send(some)
    return sent


def rates(bench: Bench, n: int, rounds: int, sockets: int) -> dict[str, Rates]:
    """Median rates of every variant, interleaved."""
    turns: dict[str, list[Rates]] = {name: [] for name in VARIANTS}
    order, rng = list(VARIANTS), np.random.default_rng(0)
    for _ in range(rounds):
        for i in rng.permutation(len(order)):
            turns[order[i]].append(bench.turn(order[i], sockets, n)[0])
    return {
        name: Rates(*(statistics.median(getattr(t, f) for t in some) for f in Rates.__slots__))
        for name, some in turns.items()
    }


def score_bytes(folder: Path) -> float:
    """Bytes per message of scores (50 tags) in a journal."""
    journal, wire = Journal(folder / "scores.db"), EventEncoder({}, 10**18)
    wire.taggers["general"] = TaggerInfo(tuple(f"tag {i}" for i in range(TAGS)))
    rng, state = np.random.default_rng(0), CurrentState()
    wire.message(events.StreamOpened("radio1", 0, RATE, 10**18, ("general",)))
    now = rng.normal(-3, 2, TAGS)
    for i in range(2000):
        now = now + 0.3 * (rng.normal(-3, 2, TAGS) - now)
        values = tuple(float(p) for p in 1 / (1 + np.exp(-now)))
        score = events.WindowScored(
            "radio1", "general", i * RATE, i * RATE + RATE, values, values, False
        )
        message = wire.message(score)
        journal.append([state.update(message, dump(message))], i)
    size = journal.size() / 2000
    journal.close()
    return size


def main() -> None:
    freeze_garbage_collector()  # as `streamtag run`
    arguments = parser(__doc__)
    arguments.add_argument("--events", type=int, default=40_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--subscribers", default="1,10,100")
    wanted = arguments.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), wanted.events)
        for sockets in map(int, wanted.subscribers.split(",")):
            n = max(1000, wanted.events // sockets)
            found = rates(bench, n, wanted.rounds, sockets)
            rows += report(found, "" if sockets == 1 else f"_{sockets}")
        for name in VARIANTS:
            _, latencies = bench.turn(name, 1, 5 * PACE, PACE)
            for share in (50, 99):
                ms = 1000 * float(np.percentile(latencies, share))
                rows.append(Row(f"{name}/p{share}_ms_at_{PACE}", ms, "ms"))
        if bench.replayed:
            rows.append(Row("replay/events_per_s", statistics.median(bench.replayed), "1/s"))
            rows.append(Row("journal/bytes_per_event", bench.bytes_per_event, "B"))
        rows.append(Row("journal/bytes_per_score", score_bytes(Path(folder)), "B"))
    for row in rows:
        print(f"{row.name:40} {row.value:12,.2f} {row.unit}")
    write(rows, wanted.json)


def report(found: dict[str, Rates], suffix: str) -> list[Row]:
    """The rows of one number of subscribers: ratios first, then rates."""
    rows = []
    pairs = (
        ("publish", "bare"),
        ("journal", "bare"),
        ("curve/journal", "curve/bare"),
        ("journal", "bare/quick"),
    )
    for name, bare in pairs:
        for part, kind in (("core", ""), ("pair", "_pair"), ("wall", "_wall")):
            ratio = getattr(found[name], part) / getattr(found[bare], part)
            rows.append(Row(f"ratio/{name}_to_{bare}{kind}{suffix}", ratio, "1"))
    for name, turn in found.items():
        rows.append(Row(f"{name}/events_per_s{suffix}", turn.core, "1/s"))
        rows.append(Row(f"{name}/pair_events_per_s{suffix}", turn.pair, "1/s"))
        rows.append(Row(f"{name}/wall_events_per_s{suffix}", turn.wall, "1/s"))
    return rows


if __name__ == "__main__":
    main()
