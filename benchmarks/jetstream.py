"""How many events per second go through NATS JetStream: from a journal into it, and out again.

    python benchmarks/jetstream.py [--events 20000] [--streams 1,100] [--json FILE]

- store: a journal full of events is published by the bridge, which stores each behind the one
  before it in its topic. Topics go side by side, so many streams are faster than one.
- read: `Subscriber("nats://…")` receives all of them again.

One nats-server on loopback, one copy, on the same machine. Every message must arrive, once and in
order, or the benchmark fails.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rows import Row, parser, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.feeds import off, on, up
from support.nats_bridge import Station, stored
from support.nats_server import NatsServer

from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Message


def fill(station: Station, streams: list[str], events: int) -> int:
    """Publishes events; returns how many messages there are."""
    feed = station.open_feed()
    feed.publish(*map(up, streams))
    for _ in range(events // 2 // len(streams)):
        for stream in streams:
            feed.publish(on("low", stream=stream), off("low", stream=stream))
        while feed.publisher.waiting > 1000:
            time.sleep(0.001)
    while feed.publisher.waiting:
        time.sleep(0.001)
    return len(streams) + events // 2 // len(streams) * 2 * len(streams)


def take(address: str, count: int, since: datetime) -> tuple[float, dict[str, list[int]]]:
    """Seconds until so many messages are received, and their numbers by stream."""
    found: dict[str, list[int]] = {}
    begin = time.perf_counter()
    with Subscriber(address, since=since) as subscriber:
        for _ in range(count):
            message = subscriber.receive(60)
            assert isinstance(message, Message), message
            found.setdefault(message.stream, []).append(message.seq)
    return time.perf_counter() - begin, found


def measure(folder: Path, events: int, n_streams: int) -> list[Row]:
    """The rows of one number of streams."""
    folder.mkdir()
    server = NatsServer(folder / "nats")
    station = Station(folder / "station", server.address)
    since = datetime.now(UTC) - timedelta(hours=1)
    streams = [f"s{i}" for i in range(n_streams)]
    try:
        count = fill(station, streams, events)
        station.start_bridge()
        storing, _ = take(server.address, count, since)
        reading, found = take(server.address, count, since)
        assert all(numbers == [*range(1, len(numbers) + 1)] for numbers in found.values())
        assert len(stored(server.address)) == count
    finally:
        station.close()
        server.close()
    name = f"jetstream/{n_streams}"
    return [
        Row(f"{name}/store", count / storing, "events/s"),
        Row(f"{name}/read", count / reading, "events/s"),
    ]


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--events", type=int, default=20_000)
    arguments.add_argument("--streams", default="1,100")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = [
            row
            for n in map(int, given.streams.split(","))
            for row in measure(Path(name) / str(n), given.events, n)
        ]
    for row in rows:
        print(f"{row.name:24} {row.value:10.1f} {row.unit}")
    write(rows, given.json)
