"""The MQTT bridge with a real broker: what a late client receives, and that nothing stays on."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.broker import Broker, Client, add_user
from support.feeds import REASON, Feed, off, on, up
from support.paths import SUPPORT
from support.peers import Processes, free_port, wait_until
from support.sounds import tone, write_wav

from streamtag.config.config import FeedConfig
from streamtag.engine import events

DEVICE = "homeassistant/device/streamtag/room/config"
MARKER = "streamtag/looking"
"""With this the bridge finds out that it has read all retained messages."""
PUBLISHER = SUPPORT / "publisher_program.py"


class Harness:
    """A broker, a configuration, bridges, and a feed without a daemon behind it."""

    def __init__(self, folder: Path, bundle: Path, broker: Broker) -> None:
        self.folder, self.bundle, self.broker = folder, bundle, broker
        self.processes = Processes(folder)
        self.port = free_port()
        self.config = folder / "c.toml"
        self.configure()

    def configure(self, mqtt: str = "", streams: tuple[str, ...] = ("room",)) -> None:
        lines = [f'streams.{name}.source = "device:"' for name in streams]
        lines += [f"taggers.toy.bundle = {json.dumps(str(self.bundle))}", 'log.style = "keyvalue"']
        lines += ["[feed]", f'bind = "tcp://127.0.0.1:{self.port}"', "beat_seconds = 1"]
        lines += ["[mqtt]", f"port = {self.broker.port}", "retry_seconds = 0.1", mqtt]
        self.config.write_text("exit_when_done = false\n" + "\n".join(lines))

    def bridge(self, **environment: str) -> Any:
        words = ("-m", "streamtag", "mqtt", self.config)
        return self.processes.python(*words, env=os.environ | environment)

    def feed(self, journal: str = "") -> "Feed":
        return Feed(
            FeedConfig(bind=f"tcp://127.0.0.1:{self.port}", journal=journal, beat_seconds=1)
        )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker")
    yield made
    made.close()


@pytest.fixture
def harness(tmp_path: Path, toy_bundle: Path, broker: Broker) -> Iterator[Harness]:
    made = Harness(tmp_path, toy_bundle, broker)
    yield made
    made.processes.close()


def test_a_late_client_receives_the_current_state(harness: Harness) -> None:
    title = events.TitleChanged("room", 0, "Cold Day")
    with harness.feed() as feed, Client(harness.broker) as early:
        harness.bridge()
        feed.publish(up(), title, on("low"), on("high"), off("high"))
        expected = {
            "status": "online",
            "daemon": "online",
            "room/availability": "online",
            "room/status": "up",
            "room/silence": "OFF",
            "room/title": "Warm Day",
            "room/tags": '["low"]',
            "room/tag/low/state": "ON",
            "room/tag/high/state": "OFF",
            "room/tag/never/state": "OFF",
        }
        published = {f"streamtag/{topic}": value for topic, value in expected.items()}
        early.wait(**published | {"streamtag/room/title": "Cold Day"})
        for topic in (DEVICE, "streamtag/room/tag/low/event", "streamtag/room/detail"):
            wait_until(lambda t=topic: t in early.current, f"nothing at {topic}")
        feed.publish(events.TitleChanged("room", 1, "Warm Day"))  # goes out after all the others
        early.wait(**published)
        assert early.current.pop(MARKER)  # the only message that the broker does not retain
        with Client(harness.broker) as late:
            wait_until(
                lambda: late.current == early.current,
                lambda: f"late: {late.current}\nearly: {early.current}",
            )
            assert late.retained == late.current  # all of it was retained
            news = late.json("streamtag/room/tag/low/event")
            assert (news["type"], news["probability"]) == ("tag_on", 0.5)
            feed.publish(events.SilenceStarted("room", 7, 8), off("low", REASON.SILENCE))
            late.wait(streamtag__room__silence="ON", streamtag__room__tags="[]")
            late.wait(streamtag__room__tag__low__state="OFF")


def test_home_assistant_receives_a_device(harness: Harness) -> None:
    harness.configure('tags = ["low", "high"]\nmood_seconds = 0.1')
    with harness.feed() as feed, Client(harness.broker) as client:
        harness.bridge()
        feed.publish(up(), on("low"))
        client.wait(streamtag__room__tag__low__state="ON")
        wait_until(lambda: DEVICE in client.current, "no device")
        device = client.json(DEVICE)
        check_device(device, client)
        components = device["components"]
        assert {"tag_low", "tag_high"} < components.keys()
        assert "tag_never" not in components
        assert {"valence", "arousal", "status", "tags", "title", "silence"} < components.keys()
        assert device["device"]["identifiers"] == ["streamtag_room"]
        feed.publisher.publish(
            feed.wire.message(events.MoodUpdated("room", "toy", 9, 0.25, -0.5, 1.0))
        )
        wait_until(lambda: "streamtag/room/mood" in client.current, "no mood")
        mood = client.json("streamtag/room/mood")
        assert mood == {"valence": 0.25, "arousal": -0.5, "certainty": 1.0}


def check_device(device: dict[str, Any], client: Client) -> None:
    """By the rules of homeassistant/components/mqtt/schemas.py, release 2024.12."""
    assert device.keys() <= {"device", "origin", "components", "availability", "qos"}
    assert device["origin"]["name"]
    assert device["device"]["identifiers"]
    unique = [component["unique_id"] for component in device["components"].values()]
    assert len(set(unique)) == len(unique)
    allowed = {"platform", "name", "unique_id", "icon", "state_topic", "value_template", "options"}
    allowed |= {"availability", "availability_mode", "json_attributes_topic", "device_class"}
    allowed |= {"entity_category", "state_class"}
    for component in device["components"].values():
        assert component["platform"] in ("sensor", "binary_sensor")
        assert component.keys() <= allowed
        assert not any(c in component["state_topic"] for c in "+#")
        sources = [*component.get("availability", []), *device["availability"]]
        for source in sources:
            wait_until(lambda s=source: s["topic"] in client.current, f"nothing at {source}")
            assert client.current[source["topic"]] in ("online", "offline")


def test_the_last_will_of_a_killed_bridge(harness: Harness) -> None:
    with harness.feed() as feed, Client(harness.broker) as client:
        bridge = harness.bridge()
        feed.publish(up(), on("low"))
        client.wait(streamtag__status="online", streamtag__room__tag__low__state="ON")
        bridge.send_signal(signal.SIGKILL)
        client.wait(streamtag__status="offline")
        feed.publish(off("low"), on("high"))
        harness.bridge()
        client.wait(streamtag__status="online", streamtag__room__tags='["high"]')
        client.wait(streamtag__room__tag__low__state="OFF")


def test_a_terminated_bridge_leaves_nothing_on(harness: Harness) -> None:
    with harness.feed() as feed, Client(harness.broker) as client:
        bridge = harness.bridge()
        feed.publish(up(), on("low"))
        client.wait(streamtag__room__tag__low__state="ON")
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(60) == 0
        client.wait(streamtag__status="offline", streamtag__daemon="offline")
        client.wait(streamtag__room__tag__low__state="OFF", streamtag__room__tags="[]")


def test_a_broker_without_memory_receives_everything_again(harness: Harness) -> None:
    with harness.feed() as feed:
        harness.bridge()
        feed.publish(up(), on("low"))
        with Client(harness.broker) as client:
            client.wait(streamtag__room__tag__low__state="ON")
            wait_until(lambda: DEVICE in client.current, "no device")
            before = client.current
        harness.broker.kill()
        feed.publish(off("low"), on("high"))
        harness.broker.start()
        with Client(harness.broker) as client:
            client.wait(streamtag__room__tag__high__state="ON", streamtag__status="online")
            wait_until(
                lambda: before.keys() - {MARKER} <= client.current.keys(),
                "not everything came back",
            )
            client.wait(streamtag__room__tag__low__state="OFF")


def test_nothing_stays_on_when_its_source_is_lost(harness: Harness) -> None:
    stalled = events.SourceStatusChanged(
        "room", 9, events.SourceState.STALLED, events.Cause.STALLED, "no audio"
    )
    with harness.feed() as feed, Client(harness.broker) as client:
        harness.bridge()
        feed.publish(up(), on("low"))
        client.wait(streamtag__room__tag__low__state="ON")
        feed.publish(off("low", REASON.STREAM_LOST), stalled)
        client.wait(streamtag__room__tag__low__state="OFF", streamtag__room__status="stalled")
        client.wait(streamtag__room__availability="offline")
        wait_until(
            lambda: client.json("streamtag/room/detail")["cause"] == "stalled", "no cause of it"
        )


def test_nothing_stays_on_when_the_daemon_says_goodbye(harness: Harness) -> None:
    with Client(harness.broker) as client:
        with harness.feed() as feed:
            harness.bridge()
            feed.publish(up(), on("low"))
            client.wait(streamtag__room__tag__low__state="ON")
        client.wait(streamtag__room__tag__low__state="OFF", streamtag__daemon="offline")
        client.wait(streamtag__room__availability="offline", streamtag__status="online")
        with harness.feed() as feed:  # and the next one begins anew
            feed.publish(up(), on("high"))
            client.wait(streamtag__room__tags='["high"]', streamtag__daemon="online")


def test_nothing_stays_on_when_the_daemon_is_killed(harness: Harness, tmp_path: Path) -> None:
    addresses = [f"tcp://127.0.0.1:{harness.port + i}" for i in range(2)]
    with Client(harness.broker) as client:
        publisher = harness.processes.python(PUBLISHER, tmp_path / "j.db", *addresses, "1")
        harness.bridge()
        wait_until(lambda: "ON" in client.current.values(), "nothing is ever on")
        publisher.send_signal(signal.SIGKILL)
        client.wait(streamtag__daemon="offline")
        wait_until(lambda: "ON" not in client.current.values(), "something stays on")
        assert "streamtag/s0/tags" in client.current


def test_topics_of_removed_streams_and_leftovers_are_removed(harness: Harness) -> None:
    harness.configure(streams=("room", "hall"))
    hall = "homeassistant/device/streamtag/hall/config"
    with harness.feed() as feed, Client(harness.broker) as client:
        client.publish("streamtag/gone/tag/low/state", "ON")  # of a stream of last year
        client.publish("homeassistant/device/streamtag/gone/config", '{"components": {}}')
        client.publish("homeassistant/device/another/gone/config", "{}")  # somebody else's
        harness.bridge()
        feed.publish(up(), up("hall"), on("low"), on("low", stream="hall"))
        client.wait(streamtag__hall__tag__low__state="ON", streamtag__gone__tag__low__state=None)
        client.wait(homeassistant__device__streamtag__gone__config=None)
        wait_until(lambda: hall in client.current, "no device")
        closed = REASON.STREAM_CLOSED
        feed.publish(off("low", closed, "hall"), events.StreamClosed("hall", 9, closed, "removed"))
        wait_until(lambda: not [t for t in client.current if "hall" in t], "hall is still there")
        client.wait(streamtag__room__tag__low__state="ON")
        assert "homeassistant/device/another/gone/config" in client.current


def test_a_removed_tag_is_removed_from_home_assistant(harness: Harness) -> None:
    with harness.feed() as feed, Client(harness.broker) as client:
        bridge = harness.bridge()
        feed.publish(up())
        wait_until(lambda: DEVICE in client.current, "no device")
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(60) == 0
        harness.configure('tags = ["high"]')
        harness.bridge()
        client.wait(streamtag__status="online", streamtag__room__tag__low__state=None)
        wait_until(
            lambda: "tag_low" not in client.json(DEVICE)["components"], "low is still described"
        )
    devices = [json.loads(text)["components"] for topic, text in client.received if topic == DEVICE]
    assert [c.get("tag_low", {}).keys() for c in devices[-2:]] == [{"platform"}, set()]
    assert devices[-2].keys() - devices[-1].keys() == {"tag_low", "tag_never"}


def test_tls_and_a_password(tmp_path: Path, toy_bundle: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    (tmp_path / "word").write_text("open sesame\n")
    broker = Broker(
        tmp_path / "broker",
        f"certfile {tmp_path}/cert.pem",
        f"keyfile {tmp_path}/key.pem",
        f"password_file {add_user(tmp_path, 'tagger', 'open sesame')}",
    )
    harness = Harness(tmp_path, toy_bundle, broker)

    def let_in(client: Any) -> None:
        client.tls_set(str(tmp_path / "ca.pem"))
        client.username_pw_set("tagger", "open sesame")

    try:
        with Client(broker, let_in) as client:
            for more, complaint in (
                ('ca_file = "other.pem"\npassword_file = "word"', "certificate verify failed"),
                ('ca_file = "ca.pem"\npassword_env = "WORD"', "Not authorized"),
            ):
                harness.configure(f'tls = true\nuser = "tagger"\n{more}')
                bridge = harness.bridge(WORD="close sesame")
                wait_until(
                    lambda c=complaint: c in harness.processes.logs(), harness.processes.logs
                )
                bridge.kill()
            assert not client.current
            harness.configure(
                'tls = true\nuser = "tagger"\nca_file = "ca.pem"\npassword_env = "WORD"'
            )
            harness.bridge(WORD="open sesame")
            client.wait(streamtag__status="online")
    finally:
        harness.processes.close()
        broker.close()


def test_a_bridge_ends_when_its_daemon_is_killed(harness: Harness, tmp_path: Path) -> None:
    """Killed with -9, it leaves neither a tag that is on nor a process."""
    wav = write_wav(tmp_path / "low.wav", tone(3, 22050, 440), 22050)
    harness.configure()
    source = f'source = "file:{wav}"\nstreams.room.pace = true\nstreams.room.loop = true'
    text = harness.config.read_text().replace('source = "device:"', source)
    harness.config.write_text(f"control.enabled = false\nengine.threads = 1\n{text}")
    with Client(harness.broker) as client:
        daemon = harness.processes.python("-m", "streamtag", "run", harness.config)
        client.wait(streamtag__room__tag__low__state="ON", streamtag__status="online")
        daemon.send_signal(signal.SIGKILL)
        client.wait(streamtag__room__tag__low__state="OFF", streamtag__status="offline")
