"""Only who has an authorised key hears anything; who has none leaves a line in the log."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zmq
from daemon.test_daemon import running
from zmq.utils.monitor import recv_monitor_message

from streamtag.config.control_socket import send_command
from streamtag.engine import events
from streamtag.errors import FeedError
from streamtag.feed import authentication
from streamtag.feed.authentication import CurveKeys
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.event_encoder import EventEncoder, SequenceNumbers
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.retention import Retention
from streamtag.feed.keys import KeyPair, generate, read_pair
from streamtag.feed.messages import Message, StreamStatus, StreamUp, Title
from streamtag.feed.publisher import Publisher
from streamtag.feed.relay import Relay, RelayPlan
from streamtag.feed.rights import ViewPlan

SECONDS = 60
REFUSALS = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_DISCONNECTED,
)
"""A client's own socket learns by one of these that it was not let in."""
HANDSHAKES = zmq.EVENT_HANDSHAKE_SUCCEEDED | sum(REFUSALS)
UP = events.StreamOpened("s", 0, 1000, 0, ("m",))


class Harness:
    """A guarded feed, its keys, and somebody who is let in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "authorised"
        self.folder.mkdir()
        self.server = read_pair(generate(folder / "daemon")[0])
        self.good = self.let_in("good")
        self.journal = Journal(None, Retention(1e9, 10**9))
        self.publisher = Publisher(f"ipc://{folder}/inward", journal=self.journal, beat_seconds=0.1)
        plan = RelayPlan(
            inward=self.publisher.address,
            journal=self.journal.path,
            views=(ViewPlan("tcp://127.0.0.1:0"),),
            curve=CurveKeys(self.server, self.folder),
        )
        self.relay = Relay(plan)
        self.address = self.relay.addresses[0]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.wire = EventEncoder({}, 10**18, SequenceNumbers(self.journal.epoch))

    def _run(self) -> None:
        while not self._closing.is_set():
            self.relay.wait()
            self.relay.step()
        self.relay.close(0)

    def close(self) -> None:
        self.publisher.close()
        self._closing.set()
        self._thread.join()

    def let_in(self, name: str) -> KeyPair:
        """Authorises somebody."""
        return read_pair(generate(self.folder / name)[0])

    def publish(self, text: str = "") -> Message:
        """Publishes something."""
        message = self.wire.message(events.TitleChanged("s", 0, text) if text else UP)
        self.publisher.publish(message)
        return message

    @contextmanager
    def subscriber(self, key: KeyPair | None, server: str = "") -> Iterator[Subscriber]:
        keys = {"key": key, "server_key": server or self.server.public} if key else {}
        with Subscriber(self.address, **keys) as feed:  # type: ignore[arg-type]
            yield feed

    @contextmanager
    def plain_sub(self, key: KeyPair | None, server: str = "") -> Iterator[zmq.Socket]:
        """Somebody who does not mind what the library says."""
        with (
            zmq.Context() as context,
            context.socket(zmq.SUB) as sub,
            sub.get_monitor_socket(HANDSHAKES) as monitor,
        ):
            monitor.rcvtimeo = SECONDS * 1000
            if key:
                sub.curve_publickey, sub.curve_secretkey = key.public.encode(), key.secret.encode()
                sub.curve_serverkey = (server or self.server.public).encode()
            sub.linger = 0
            sub.subscribe("")
            sub.connect(self.address)
            yield sub


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path)
    yield harness
    harness.close()


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Until it holds; a minute at the most."""
    done, tries = threading.Event(), 0
    while not condition():
        tries += 1
        assert tries < 60 * 50, what
        done.wait(0.02)


def knows(harness: Harness, key: str) -> bool:
    assert harness.relay.authenticator
    return harness.relay.authenticator.knows(key)


def said(caplog: pytest.LogCaptureFixture, words: str) -> Callable[[], bool]:
    return lambda: words in caplog.text


def test_an_authorised_key_hears_everything(harness: Harness) -> None:
    with harness.subscriber(harness.good) as feed:
        assert harness.publisher.wait_for_subscriber(SECONDS)
        sent = [harness.publish(), harness.publish("one")]
        assert [feed.receive(SECONDS), feed.receive(SECONDS)] == sent
        harness.wire.message(UP)  # a hole: the replay socket is guarded, too, and lets it in
        after = harness.publish("two")
        missed, heard = feed.receive(SECONDS), feed.receive(SECONDS)
    assert str(missed) == "missed 1 messages on event/s/ (not_kept)"
    assert heard == after


def test_the_daemons_own_key_is_always_let_in(harness: Harness) -> None:
    with harness.subscriber(harness.server) as feed:
        assert harness.publisher.wait_for_subscriber(SECONDS)
        assert feed.receive(0) is None
        sent = harness.publish()
        assert feed.receive(SECONDS) == sent


@pytest.mark.parametrize("case", ["wrong key", "no key", "wrong server key"])
def test_nobody_else_hears_anything(
    harness: Harness, case: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    stranger = read_pair(generate(tmp_path / "stranger")[0])
    key = {"wrong key": stranger, "no key": None, "wrong server key": harness.good}[case]
    server = stranger.public if case == "wrong server key" else ""
    words = {
        "wrong key": f"refused 127.0.0.1, whose key {stranger.public} is not authorised",
        "no key": "refused a client: it has no key, or broke off",
        "wrong server key": "refused a client: wrong server key, or a replayed",
    }[case]
    with harness.plain_sub(key, server) as sub, harness.subscriber(harness.good) as feed:
        event = recv_monitor_message(sub.get_monitor_socket())["event"]
        assert event in REFUSALS, "it was let in"
        wait_for(said(caplog, words), "the refusal is not logged")
        assert harness.publisher.wait_for_subscriber(SECONDS)
        for _ in range(3):
            sent = harness.publish()
            assert feed.receive(SECONDS) == sent
        assert not sub.poll(0)
    assert harness.relay.refused >= 1


@pytest.mark.parametrize("case", ["wrong key", "no key"])
def test_the_library_says_why(harness: Harness, case: str, tmp_path: Path) -> None:
    stranger = read_pair(generate(harness.folder.parent / "stranger")[0])
    with harness.subscriber(stranger if case == "wrong key" else None) as feed:
        words = "got a refusal; put its .key" if case == "wrong key" else "works with keys"
        with pytest.raises(FeedError, match=words):
            feed.receive(SECONDS)
        if case == "wrong key":  # it tries again: let in meanwhile, it hears
            (harness.folder / "stranger.key").write_bytes((tmp_path / "stranger.key").read_bytes())
            harness.relay.reload_keys()
            sent = harness.publish()
            assert feed.receive(SECONDS) == sent


def test_a_key_that_is_removed_hears_nothing_more(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    leaving = harness.let_in("leaving")
    assert harness.relay.reload_keys()["added"] == ["leaving"]
    harness.publish()
    with harness.subscriber(harness.good) as stays, harness.plain_sub(leaving) as leaves:
        assert isinstance(stays.receive(SECONDS), StreamUp)
        while b"event/s/" not in leaves.recv_multipart():  # it hears what is live
            harness.publish("both")
        assert isinstance(stays.receive(SECONDS), Title)
        monitor = leaves.get_monitor_socket()
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        (harness.folder / "leaving.key").unlink()
        assert harness.relay.reload_keys()["removed"] == ["leaving"]
        while (event := recv_monitor_message(monitor)["event"]) not in REFUSALS[:1]:
            assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED, "it was let in again"
        wait_for(said(caplog, f"whose key {leaving.public} is not"), "nobody was turned away")
        while leaves.poll(0):
            leaves.recv_multipart()
        after = [harness.publish(f"after {i}") for i in range(50)]
        heard = []
        while not heard or heard[-1] != after[-1]:
            heard.append(stays.receive(SECONDS))
        assert heard[-50:] == after  # nothing is missed by who stays
        assert all(isinstance(message, Message) for message in heard)
        assert not leaves.poll(0)
        while monitor.poll(0):
            assert recv_monitor_message(monitor)["event"] != zmq.EVENT_HANDSHAKE_SUCCEEDED


def test_a_removed_key_is_not_answered_by_the_replay_either(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    leaving = harness.let_in("leaving")
    harness.relay.reload_keys()
    harness.publish()
    request = b'{"v":1,"type":"replay","id":1,"topic":"event/s/","epoch":"%s","from":1,"to":1}'
    request %= harness.journal.epoch.encode()
    with zmq.Context() as context, context.socket(zmq.DEALER) as asks:
        asks.linger, asks.rcvtimeo = 0, SECONDS * 1000
        asks.curve_publickey, asks.curve_secretkey = (
            half.encode() for half in (leaving.public, leaving.secret)
        )
        asks.curve_serverkey = harness.server.public.encode()
        asks.connect(harness.relay.replay_address)
        asks.send(request)
        assert b'"missed":[' in asks.recv_multipart()[0]
        (harness.folder / "leaving.key").unlink()
        harness.relay.reload_keys()
        asks.send(request)
        wait_for(said(caplog, "a client asks whose key was removed"), "it was answered")
        assert harness.relay._replay is not None
        assert (harness.relay._replay.answered, harness.relay._replay.refused) == (1, 1)
        assert not asks.poll(0)


def test_the_folder_is_watched(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "LOOK_SECONDS", 0.05)
    late = harness.let_in("late")
    wait_for(lambda: knows(harness, late.public), "the new key is not noticed")
    (harness.folder / "late.key").unlink()
    wait_for(lambda: not knows(harness, late.public), "its removal is not noticed")
    (harness.folder / "good.key").write_text("spoilt")
    wait_for(lambda: not knows(harness, harness.good.public), "a spoilt one stays")
    assert knows(harness, harness.server.public)


def test_a_folder_that_is_gone_changes_nothing(harness: Harness) -> None:
    harness.folder.rename(harness.folder.with_name("away"))
    with pytest.raises(FeedError, match="expected a folder of public keys"):
        harness.relay.reload_keys()
    assert knows(harness, harness.good.public)


class Recorder:
    """Hands bytes on between one client and the feed, and remembers what the client said."""

    def __init__(self, feed: str) -> None:
        self.said = b""
        self._feed = int(feed.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._hand_on)
        self._thread.start()

    def _hand_on(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._feed))
        with client, server:
            back = threading.Thread(target=self._pump, args=(server, client))
            back.start()
            while data := client.recv(65536):
                self.said += data
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()
        self._thread.join()


def exactly(n: int, source: socket.socket) -> bytes:
    data = b""
    while len(data) < n and (part := source.recv(n - len(data))):
        data += part
    return data


def test_a_replayed_handshake_gets_nothing(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(harness.address)
    keys = {"key": harness.good, "server_key": harness.server.public}
    replay = harness.relay.replay_address
    with Subscriber(recorder.address, replay=replay, **keys) as feed:  # type: ignore[arg-type]
        sent = harness.publish()
        assert feed.receive(SECONDS) == sent
    recorder.close()
    greeting, hello, rest = recorder.said[:64], recorder.said[64:266], recorder.said[266:]
    assert hello[2:8] == b"\x05HELLO"
    assert b"\x08INITIATE" in rest[:20]
    port = int(harness.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as thief:
        thief.settimeout(SECONDS)
        thief.sendall(greeting)
        assert exactly(64, thief)[:1] == b"\xff"
        thief.sendall(hello)
        assert b"\x07WELCOME" in exactly(2 + 168, thief)  # which anybody gets
        thief.sendall(rest)
        with suppress(ConnectionResetError):
            assert thief.recv(65536) == b""  # the daemon hangs up, and says nothing more
    wait_for(said(caplog, "replayed or spoilt handshake"), "the replay is not logged")


def test_a_files_feed_is_this_users_alone(tmp_path: Path) -> None:
    publisher = Publisher(f"ipc://{tmp_path}/feed", journal=Journal(None, Retention(1e9, 10**9)))
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("feed", "feed.replay")]
    publisher.close()
    assert modes == [0o600, 0o600]


def test_watch_takes_keys(harness: Harness) -> None:
    command = [sys.executable, "-m", "streamtag", "watch", harness.address]
    keys = ["--key", str(harness.folder / "good.key_secret"), "--server-key", harness.server.public]
    harness.publish()
    harness.publish("a title")
    with subprocess.Popen([*command, *keys], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert "stream_up" in watching.stdout.readline()
        assert "a title" in watching.stdout.readline()
        watching.kill()
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "works with keys" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    publisher = Publisher("tcp://[::1]:0", journal=Journal(None, Retention(1e9, 10**9)))
    with Subscriber(publisher.address) as feed:
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(message := EventEncoder({}, 10**18).message(UP))
        assert feed.receive(SECONDS) == message
    publisher.close()


def test_a_running_daemon_reads_the_folder_again(tmp_path: Path, toy_bundle: Path) -> None:
    generate(tmp_path / "daemon")
    (tmp_path / "in").mkdir()
    path = tmp_path / "c.toml"
    path.write_text(
        "exit_when_done = false\nstreams = {}\n"
        '[feed]\nbind = "tcp://127.0.0.1:0"\nsecret_key = "daemon.key_secret"\n'
        'authorised_keys = "in"\nbeat_seconds = 0.1\n'
        '[engine]\ndevice = "cpu"\nthreads = 1\n[control]\nsocket = "c.sock"\n'
        f"[taggers]\ntoy.bundle = {json.dumps(str(toy_bundle))}\n"
    )
    with running(path) as daemon:
        key = read_pair(generate(tmp_path / "in" / "late")[0])
        again = send_command(tmp_path / "c.sock", {"command": "reload"}, SECONDS)
        # It may have seen that by itself.
        assert again.get("keys", {"added": ["late"]})["added"] == ["late"]
        with Subscriber(daemon.address, key=key, server_key=tmp_path / "daemon.key") as feed:
            send_command(
                tmp_path / "c.sock",
                {
                    "command": "add",
                    "name": "s",
                    "stream": {"source": "tcp://127.0.0.1:1", "rate": 8000},
                },
                SECONDS,
            )
            assert isinstance(feed.receive(SECONDS), StreamStatus)
            (tmp_path / "in" / "late.key").unlink()
            daemon.popen.send_signal(signal.SIGHUP)
            with pytest.raises(FeedError, match="got a refusal"):
                list(feed)
        daemon.popen.send_signal(signal.SIGTERM)
        assert daemon.end() == 0
    assert any("keys added: none; removed: ['late']" in line for line in daemon.log)
