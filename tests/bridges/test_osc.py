"""The OSC bridge over UDP, received by python-osc's own server."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_message import OscMessage
from pythonosc.osc_server import ThreadingOSCUDPServer
from support.feeds import REASON, Feed, off, on, up
from support.paths import SUPPORT
from support.peers import Processes, free_port, wait_until

from streamtag.bridges.osc import (
    RESOLVE_SECONDS,
    TagNames,
    UdpTargets,
    clean,
    datagram,
)
from streamtag.config.bridges import RESERVED
from streamtag.config.config import FeedConfig
from streamtag.daemon.check import complaints_about
from streamtag.engine import events

PUBLISHER = SUPPORT / "publisher_program.py"


class Desk:
    """A lighting desk: the last value of each address, and all messages in order."""

    def __init__(self, port: int = 0) -> None:
        self.values: dict[str, Any] = {}
        self.received: list[tuple[str, tuple[Any, ...]]] = []
        dispatcher = Dispatcher()
        dispatcher.set_default_handler(self._on_message)
        self._server = ThreadingOSCUDPServer(("127.0.0.1", port), dispatcher)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self, **wanted: Any) -> None:
        """Until addresses below /streamtag show something; `__` in a name is `/`."""
        shown = {f"/streamtag/{name.replace('__', '/')}": v for name, v in wanted.items()}
        wait_until(
            lambda: all(self.values.get(address) == value for address, value in shown.items()),
            lambda: f"expected {shown}, got {self.values}",
        )

    def count(self, address: str) -> int:
        return sum(a == f"/streamtag/{address}" for a, _ in self.received)

    def _on_message(self, address: str, *values: Any) -> None:
        self.received.append((address, values))
        self.values[address] = values[0] if len(values) == 1 else values


class Harness:
    """A configuration, bridges, and a feed without a daemon."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle, self.port = folder, bundle, free_port()
        self.processes = Processes(folder)

    def bridge(self, *ports: int, more: str = "repeat_seconds = 60") -> Any:
        path = self.folder / "c.toml"
        targets = json.dumps([f"127.0.0.1:{port}" for port in ports])
        path.write_text(
            'streams.room.source = "device:"\nlog.style = "keyvalue"\n'
            f"taggers.toy.bundle = {json.dumps(str(self.bundle))}\n"
            f'[feed]\nbind = "tcp://127.0.0.1:{self.port}"\nbeat_seconds = 1\n'
            f"[osc]\ntargets = {targets}\n{more}\n"
        )
        return self.processes.python("-m", "streamtag", "osc", path)

    def feed(self) -> Feed:
        return Feed(FeedConfig(bind=f"tcp://127.0.0.1:{self.port}", beat_seconds=1))


@pytest.fixture
def harness(tmp_path: Path, toy_bundle: Path) -> Iterator[Harness]:
    made = Harness(tmp_path, toy_bundle)
    yield made
    made.processes.close()


def test_changes_are_sent_at_once(harness: Harness) -> None:
    title = events.TitleChanged("room", 0, "Cold\0Day")
    mood = events.MoodUpdated("room", "toy", 9, 0.25, -0.5, 1.0)
    with harness.feed() as feed, Desk() as desk:
        harness.bridge(desk.port, free_port())  # nobody listens at the second
        feed.publish(up(), title, on("low"))
        desk.wait(room__tag__low=1, room__tag__high=0, room__tag__never=0, room__silence=0)
        desk.wait(room__title="Cold Day", room__status="up", room__up=1, daemon=1)
        feed.publish(off("low", REASON.SILENCE), events.SilenceStarted("room", 7, 8), mood)
        desk.wait(room__tag__low=0, room__silence=1, room__mood=(0.25, -0.5))
        closed = REASON.STREAM_CLOSED
        feed.publish(events.StreamClosed("room", 9, closed, "over"))
        desk.wait(room__status="down", room__up=0, room__mood=(0.0, 0.0), room__title="")


def test_a_late_target_receives_everything(harness: Harness) -> None:
    port = free_port()
    with harness.feed() as feed, Desk() as other:
        bridge = harness.bridge(port, other.port, more="repeat_seconds = 0.5")
        feed.publish(up(), on("low"))
        other.wait(room__tag__low=1)
        with Desk(port) as desk:
            desk.wait(room__tag__low=1, room__tag__high=0, room__status="up", daemon=1)
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(60) == 0
        other.wait(room__tag__low=0, daemon=0)


def test_scores_have_a_limited_rate_and_become_0_at_the_end(harness: Harness) -> None:
    scores = [
        events.WindowScored("room", "toy", i, 9 + i, (0.5,) * 3, (0.25, 0.5, 0.75), False)
        for i in range(50)
    ]
    with harness.feed() as feed, Desk() as desk:
        harness.bridge(desk.port, more='scores_seconds = 1000\ntags = ["low"]\nrepeat_seconds = 60')
        feed.publish(up())
        desk.wait(room__up=1)
        feed.publish(*scores, on("low"))
        desk.wait(room__score__low=0.25, room__tag__low=1)
        assert desk.count("room/score/low") == 1
        assert "/streamtag/room/score/high" not in desk.values
        feed.publish(off("low"), events.StreamClosed("room", 99, REASON.STREAM_LOST, ""))
        desk.wait(room__score__low=0.0, room__tag__low=0)


def test_only_chosen_streams_and_tags_are_sent(harness: Harness) -> None:
    with harness.feed() as feed, Desk() as desk:
        harness.bridge(desk.port, more='streams = ["hall"]\ntags = ["low"]\nprefix = "/a/b"')
        feed.publish(
            up(), up("hall"), on("low"), on("high", stream="hall"), on("low", stream="hall")
        )
        wait_until(lambda: desk.values.get("/a/b/hall/tag/low") == 1, lambda: str(desk.values))
    assert not [address for address in desk.values if "room" in address or "high" in address]


def test_everything_is_0_after_the_daemon_is_killed(harness: Harness, tmp_path: Path) -> None:
    addresses = [f"tcp://127.0.0.1:{harness.port + i}" for i in range(2)]
    with Desk() as desk:
        publisher = harness.processes.python(PUBLISHER, tmp_path / "j.db", *addresses, "1")
        harness.bridge(desk.port, more="repeat_seconds = 1")
        wait_until(lambda: 1 in [v for a, v in desk.values.items() if "/tag/" in a], "none is on")
        publisher.send_signal(signal.SIGKILL)
        desk.wait(daemon=0)
        wait_until(
            lambda: not any(v for a, v in desk.values.items() if "/tag/" in a or a.endswith("/up")),
            lambda: str(desk.values),
        )


@given(st.lists(st.text(max_size=8), unique=True, max_size=8))
def test_tag_names_are_valid_and_unique_in_addresses(tags: list[str]) -> None:
    names = TagNames()
    parts = [names[tag] for tag in tags]
    assert len(set(parts)) == len(parts)
    assert parts == [names[tag] for tag in tags]
    for part in parts:
        assert part.isascii()
        assert part.isprintable()
        assert not set(part) & set(RESERVED + "/")
        OscMessage(datagram(f"/{part}", 1, 0.5, "ü"))


def test_cleaned_names_stay_readable() -> None:
    assert clean("female vocals") == "female_vocals"
    assert clean("mood/theme---épic") == "mood_theme---epic"
    assert clean("") == "_"
    message = OscMessage(datagram("/a", 1, 0.5, "x\0y" + "z" * 999))
    assert message.params == [1, 0.5, "x y" + "z" * 497]


def test_an_unknown_host_is_resolved_again(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    nowhere = "x" * 70  # no name is so long: known without asking anybody
    targets = UdpTargets([(nowhere, 9), ("127.0.0.1", 9)], lambda: now[0])
    targets.send(b"x")
    targets.send(b"x")
    assert (targets.n_sent, targets.n_lost) == (2, 2)
    assert caplog.text.count(f"osc {nowhere}:9") == 1
    targets._targets[0].host = "127.0.0.1"
    now[0] = RESOLVE_SECONDS
    targets.send(b"x")
    assert (targets.n_sent, targets.n_lost) == (4, 2)
    targets.close()


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("targets = []", "osc.targets: expected at least one, got none"),
        ('targets = ["desk"]', "osc.targets: expected HOST:PORT, got 'desk'"),
        ('targets = ["desk:0"]', "osc.targets: expected HOST:PORT, got 'desk:0'"),
        ('targets = ["a:1"]\nprefix = "x"', "osc.prefix: expected parts such as /streamtag"),
        ('targets = ["a:1"]\nprefix = "/x/"', "osc.prefix: expected no slash at its end"),
        ("", "missing key osc.targets"),
        ('targets = ["a:1"]\nrate = 1', "unknown key osc.rate; allowed here: targets, prefix,"),
    ],
)
def test_an_error_names_its_key(tmp_path: Path, table: str, complaint: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'streams.a.source = "device:"\n[osc]\n{table}')
    line, *_ = complaints_about(path)
    assert line.startswith(f"{path}: {complaint}")
