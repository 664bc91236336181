"""The daemon, or its workers, killed with -9 at random moments while 20 streams run: a subscriber
has heard exactly what the engine emitted and the feed had published, over all its lives."""

import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from feed.test_feed_network import free_ports, local
from feed.test_nothing_is_lost import check_tags, emitted
from support.forked import run
from support.logged_process import LoggedProcess
from support.pair import by_topic
from support.paths import SUPPORT
from support.sounds import tone, write_wav

from streamtag.feed.client.subscriber import MissedMessages, Subscriber
from streamtag.feed.messages import Goodbye, StreamDown, dump, parse
from streamtag.feed.publisher import READY

KILLS = int(os.environ.get("STREAMTAG_DAEMON_KILLS", "3"))
STREAMS, RATE = 20, 8000
SECONDS = 120
TEE = SUPPORT / "tee_daemon.py"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Path:
    """20 paced files, none like the other, for ever; scores are kept, too."""
    folder = tmp_path_factory.mktemp("daemon")
    parts = [tone(0.7, RATE, hertz, 0.4) for hertz in (200, 3000, 300, 2500)]
    whole = np.concatenate([*parts, 0 * parts[0], parts[1] + parts[0]])
    bind, replay = local(free_ports())
    lines = [
        f'[feed]\nbind = "{bind}"\nreplay = "{replay}"\njournal = "journal.db"',
        "journal_scores = true\nbeat_seconds = 0.2\nwait_for_subscriber_seconds = 60",
        '[control]\nenabled = false\n[engine]\ndevice = "cpu"\nthreads = 1',
        f"[taggers.toy]\nbundle = {json.dumps(str(toy_bundle))}\n[streams]",
    ]
    for i in range(STREAMS):
        write_wav(folder / f"{i}.wav", np.roll(whole, i * len(whole) // STREAMS), RATE)
        lines.append(f's{i} = {{source = "file:{i}.wav", pace = true, loop = true}}')
    path = folder / "daemon.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


class Life(LoggedProcess):
    """One life of the daemon."""

    def __init__(self, config: Path, number: int) -> None:
        self.emitted = config.with_name(f"emitted{number}")
        self.emitted.touch()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        super().__init__(TEE, self.emitted, config, ready=READY, env=environment)


@contextmanager
def life(config: Path, number: int) -> Iterator[Life]:
    begun = Life(config, number)
    try:
        yield begun
    finally:
        begun.end(signal.SIGKILL)


def receive(feed: Subscriber, into: dict[str, list[str]], n: int | None) -> None:
    """Takes `n` messages, or all until the goodbye; none may be missed."""
    while n is None or n > 0:
        message = feed.receive(SECONDS)
        assert message is not None
        assert not isinstance(message, MissedMessages), message
        if isinstance(message, Goodbye) and n is None:
            return
        if message.topic.startswith(("event/", "scores/")):
            into[message.topic].append(dump(message).decode())
            n = None if n is None else n - 1


def check(received: list[str], lives: list[list[str]]) -> None:
    """What was heard is what each life emitted, but for what it had not published when it died."""
    at = 0
    for emitted_then in lives:
        k = 0
        while k < len(emitted_then) and received[at : at + 1] == emitted_then[k : k + 1]:
            at, k = at + 1, k + 1
    assert at == len(received), received[at]
    assert k == len(lives[-1])  # the last one ended well


def refuse_a_second(config: Path) -> None:
    """Another daemon, at another address, on the same journal."""
    other = config.with_name("other.toml")
    bind, replay = local(free_ports())
    lines = config.read_text().splitlines()
    other.write_text("\n".join([lines[0], f'bind = "{bind}"\nreplay = "{replay}"', *lines[3:]]))
    second = run("-m", "streamtag", "run", other, timeout=SECONDS)
    assert second.returncode == 1
    assert "journal.db: expected to be the only one who writes it" in second.stderr


def workers_of(daemon: int) -> list[int]:
    """The engine processes of a daemon: children of the launcher, which is its only child."""
    (launcher,) = children(daemon)
    return children(launcher)


def children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_workers_killed_at_random_moments(config: Path) -> None:
    """Sometimes the next dies while the last is being started. The daemon lives on."""
    rng = random.Random(3)
    received: dict[str, list[str]] = defaultdict(list)
    text = config.read_text().replace("journal.db", "workers.db")
    text = text.replace("[engine]", "[engine]\nworkers = 3")
    bind, _ = there = local(free_ports())
    for old, new in zip(text.split('"')[1:4:2], there, strict=True):
        text = text.replace(old, new)
    path = config.with_name("workers.toml")
    path.write_text(text)
    with Subscriber(bind, scores=True, high_water=100_000) as feed, life(path, 100) as daemon:
        for _ in range(KILLS + 1):
            receive(feed, received, rng.randrange(1, 400))
            if found := workers_of(daemon.popen.pid):
                os.kill(rng.choice(found), signal.SIGKILL)
        known = {t: len(lines) for t, lines in received.items() if t.startswith("event/")}
        while not all('"tag_on"' in "".join(received[t][n:]) for t, n in known.items()):
            receive(feed, received, 100)  # until every stream is back, and tagged
        daemon.popen.send_signal(signal.SIGTERM)
        receive(feed, received, None)
        assert daemon.popen.wait(SECONDS) == 0, daemon.log
    said, kept = by_topic(daemon.emitted), emitted(path.with_name("workers.db"))
    reasons = set[str]()
    for topic, lines in received.items():
        check(lines, [said[topic]])
        messages = [parse(line.encode()) for line in lines]
        assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
        assert kept[topic] == messages
        check_tags(messages)
        reasons |= {m.reason for m in messages if isinstance(m, StreamDown)}
    assert reasons == {"worker_lost", "shutdown"}


def test_killed_at_random_moments(config: Path) -> None:
    rng = random.Random(2)
    received: dict[str, list[str]] = defaultdict(list)
    bind = config.read_text().split('"')[1]
    with Subscriber(bind, scores=True, high_water=100_000) as feed:
        for number in range(KILLS):
            with life(config, number) as daemon:
                if number % 4 == 2:  # while it begins
                    time.sleep(rng.uniform(0, 4))
                else:
                    receive(feed, received, rng.randrange(1, 2500))
                daemon.end(signal.SIGKILL)
        with life(config, KILLS) as daemon:
            receive(feed, received, 500)
            refuse_a_second(config)
            assert daemon.popen.poll() is None, daemon.log
            daemon.popen.send_signal(signal.SIGTERM)
            receive(feed, received, None)
            assert daemon.popen.wait(SECONDS) == 0, daemon.log
    lives = [by_topic(config.with_name(f"emitted{i}")) for i in range(KILLS + 1)]
    kept = emitted(config.with_name("journal.db"))
    assert {t for t in received if t.startswith("event/")} == {
        f"event/s{i}/" for i in range(STREAMS)
    }
    assert set(kept) >= set(received)
    for topic, lines in received.items():
        check(lines, [life.get(topic, []) for life in lives])
        messages = [parse(line.encode()) for line in lines]
        assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
        assert kept[topic] == messages
        check_tags(messages)
    assert not list(config.parent.glob("*damaged*"))
    print(f"{KILLS} kills, {sum(map(len, received.values()))} messages heard")
