"""A feed in this process, and `streamtag web` as a process that subscribes to it."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from streamtag.bridges.bridge import ENV_FEED, ENV_JOURNAL, ENV_PARENT
from streamtag.bridges.web.server import READY
from streamtag.engine import events
from streamtag.feed.event_encoder import EventEncoder, SequenceNumbers
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.recovery import recover
from streamtag.feed.messages import DERIVED_TOPICS, Message
from streamtag.feed.publisher import Publisher
from support.forked import start_server
from support.logged_process import SECONDS, LoggedProcess

RATE = 1000
START_NS = 1_795_255_200_000_000_000  # 2026-11-21T10:00:00Z


class Feed:
    """The feed of a daemon, with events that a test publishes.

    Args:
        path: of the journal.
        bind: address of the feed; a restarted daemon uses the same one.
        keeps: prefixes of the topics that the journal keeps.
    """

    def __init__(
        self,
        path: Path,
        bind: str = "tcp://127.0.0.1:0",
        keeps: tuple[str, ...] = ("event/", *DERIVED_TOPICS),
    ) -> None:
        self.journal = path
        journal = Journal(path)
        endings, last = recover(journal)
        numbering = SequenceNumbers(journal.epoch, last, keeps, journal.epochs())
        self.publisher = Publisher(bind, journal=journal, kept=keeps, beat_seconds=0.5)
        self.wire = EventEncoder({"m": ("calm", "loud")}, None, numbering)
        self.published = list(endings)
        for message in endings:
            self.publisher.publish(message)

    def publish(self, *some: events.Event) -> list[Message]:
        """Publishes events; returns once they are in the journal and sent."""
        return self.send(*(self.wire.message(event) for event in some))

    def derive(self, *some: Message) -> list[Message]:
        """Publishes messages without numbers, such as those about alerts."""
        return self.send(*map(self.wire.number, some))

    def send(self, *messages: Message) -> list[Message]:
        """Publishes numbered messages."""
        sent = self.publisher.counters["sent"]
        for message in messages:
            self.publisher.publish(message)
        wait_for(lambda: self.publisher.counters["sent"] >= sent + len(messages))
        self.published += messages
        return list(messages)

    def up(self, stream: str, epoch_ns: int = START_NS) -> list[Message]:
        return self.publish(events.StreamOpened(stream, 0, RATE, epoch_ns, ("m",)))

    def on(self, stream: str, tag: str, at: float) -> list[Message]:
        k = int(at * RATE)
        return self.publish(events.TagStarted(stream, "m", tag, k, k, 0.75, False))

    def off(self, stream: str, tag: str, since: float, at: float) -> list[Message]:
        k, n = int(since * RATE), int(at * RATE)
        why = events.Reason.BELOW_THRESHOLD
        return self.publish(events.TagEnded(stream, "m", tag, n, n, k, 0.9, why))

    def scores(self, stream: str, at: float, *values: float) -> list[Message]:
        k = int(at * RATE)
        return self.publish(events.WindowScored(stream, "m", k - RATE, k, values, values, False))

    def down(self, stream: str, at: float) -> list[Message]:
        why = events.Reason.STREAM_CLOSED
        return self.publish(events.StreamClosed(stream, int(at * RATE), why, ""))

    def close(self) -> None:
        self.publisher.close(0.2)


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Server(LoggedProcess):
    """A process of `streamtag web`."""

    def __init__(
        self, folder: Path, feed: str, journal: Path | None, table: str = "", port: int = 0
    ) -> None:
        config = folder / "web.toml"
        config.write_text(
            f'exit_when_done = false\n[streams]\n[web]\nbind = "127.0.0.1:{port}"\n{table}\n'
        )
        environment = {
            ENV_FEED: feed,
            ENV_JOURNAL: str(journal or ""),
            ENV_PARENT: str(start_server()),
        }
        super().__init__(
            *("-m", "streamtag", "web", config), ready=READY, env=os.environ | environment
        )
        self.wait_until_ready()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def get(self, path: str, **more: Any) -> httpx.Response:
        # Reading the system's certificates takes longer than most requests.
        return httpx.get(self.url + path, timeout=SECONDS, trust_env=False, verify=False, **more)

    def state_with(self, true: Callable[[Any], object]) -> Any:
        """Polls the state until the condition is true; returns the state."""
        found: list[Any] = []

        def look() -> bool:
            found[:] = [self.get("/api/state").json()]
            return bool(true(found[0]))

        wait_for(look)
        return found[0]

    def close(self) -> int:
        try:
            return self.end(signal.SIGTERM)
        finally:
            self.end(signal.SIGKILL)


@contextmanager
def serving(
    folder: Path, feed: Feed, journal: Path | None, table: str = "", port: int = 0
) -> Iterator[Server]:
    server = Server(folder, feed.publisher.address, journal, table, port)
    try:
        server.state_with(lambda state: state["daemon"] == "up") if "token" not in table else None
        yield server
    finally:
        server.close()


class EventSource:
    """A parser of server-sent events that follows the standard."""

    def __init__(self, server: Server, query: str = "", last: str = "") -> None:
        headers = {"Last-Event-ID": last} if last else {}
        self._client = httpx.Client(timeout=SECONDS, trust_env=False, verify=False)
        request = self._client.build_request("GET", f"{server.url}/events{query}", headers=headers)
        self.response = self._client.send(request, stream=True)
        self.last = last
        self._lines = self.response.iter_lines()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        event: dict[str, str] = {}
        deadline = time.monotonic() + SECONDS
        for line in self._lines:
            assert time.monotonic() < deadline  # the server sends keep-alives
            name, _, value = line.partition(": ")
            if line and not line.startswith(":"):
                event[name] = value
                continue
            if line:
                continue
            self.last = event.get("id", self.last)
            if "data" in event:
                body = json.loads(event["data"])
                assert body["type"] == event["event"]
                yield body | {"id": event.get("id", "")}
            event = {}

    def read(self, n: int) -> list[dict[str, Any]]:
        """The next `n` events that are about streams."""
        bodies: list[dict[str, Any]] = []
        while len(bodies) < n:
            body = next(iter(self))
            if body["type"] not in ("state", "daemon"):
                bodies.append(body)
        return bodies

    def until(self, kind: str) -> dict[str, Any]:
        """The next event of a type."""
        return next(body for body in self if body["type"] == kind)

    def close(self) -> None:
        self.response.close()
        self._client.close()

    def __enter__(self) -> "EventSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def numbers(bodies: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Stream and sequence number of each event."""
    return [(body["stream"], body["seq"]) for body in bodies]
