"""Engine processes that share the streams of a daemon, and die."""

import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon.test_daemon import SECONDS, check_contract, run_here, running, until
from support.peers import wait_until
from support.sounds import tone, write_wav

from streamtag.config.config import EngineConfig, load_config
from streamtag.config.control_socket import send_command
from streamtag.daemon import daemon as daemon_module
from streamtag.daemon import worker_pool
from streamtag.daemon.command_executor import CommandExecutor
from streamtag.daemon.control import PlainCommand, StreamCommand
from streamtag.daemon.daemon import Daemon
from streamtag.daemon.engine_commands import (
    ApplyChange,
    DiscardChange,
    EngineCommand,
    LoadChange,
    LoadedChange,
    TaggerCost,
)
from streamtag.daemon.stream_shares import STREAM_COST, share_out, stream_cost
from streamtag.daemon.worker_channel import Channel, Stop
from streamtag.daemon.worker_launcher import Launcher
from streamtag.daemon.worker_pool import WorkerPool, number_of_workers
from streamtag.errors import ControlError, StreamtagError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Gap, Message, Scores, StreamDown, StreamUp, TagOff, TagOn, dump
from streamtag.model.bundle import read_card

RATE = 22050
SONGS = {"s0", "s1", "s2", "s3"}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 4 recordings of 5 s, none like the other, and silence in each."""
    folder = tmp_path_factory.mktemp("songs")
    parts = [tone(1.7, RATE, hertz, 0.4) for hertz in (200, 3000)]
    whole = np.concatenate([*parts, 0 * parts[0]])
    for i in range(4):
        write_wav(folder / f"{i}.wav", np.roll(whole, i * len(whole) // 4), RATE)
    return folder


def write(
    folder: Path, songs: Path, bundle: Path, engine: str, how: str = "", more: str = ""
) -> Path:
    path = folder / "daemon.toml"
    streams = "".join(f's{i} = {{source = "file:{songs}/{i}.wav"{how}}}\n' for i in range(4))
    path.write_text(
        f'{more}\n[feed]\nbind = "tcp://127.0.0.1:0"\nwait_for_subscriber_seconds = {SECONDS}\n'
        f'stats_seconds = 0.5\n[control]\nsocket = "c.sock"\n'
        f'[level]\nsilence_seconds = 0.5\n[engine]\ndevice = "cpu"\nthreads = 1\n{engine}\n'
        f"[taggers.toy]\nbundle = {json.dumps(str(bundle))}\n[streams]\n{streams}"
    )
    return path


def contents(messages: list[Message], stream: str) -> list[dict[str, Any]]:
    """What does not depend on when and where a stream was tagged."""
    found = [json.loads(dump(m)) for m in messages if m.stream == stream]
    return [{k: v for k, v in one.items() if "utc" not in k and k != "epoch"} for one in found]


class Heard:
    """All messages that a subscriber gets, in order."""

    def __init__(self, feed: Subscriber) -> None:
        self.messages: list[Message] = []
        self._feed = feed

    def until(self, enough: Callable[[list[Message]], bool]) -> list[Message]:
        """Those that come until they are enough."""
        found = until(self._feed, enough)
        self.messages += found
        return found

    def all_on(self, streams: set[str]) -> list[Message]:
        """What comes until each of the streams has begun a tag."""
        return self.until(lambda got: {m.stream for m in got if isinstance(m, TagOn)} >= streams)


class Running:
    """A daemon in this process, with two workers and four endless streams."""

    def __init__(self, daemon: Daemon, socket_path: Path, heard: Heard) -> None:
        self.daemon, self._socket, self.heard = daemon, socket_path, heard
        assert isinstance(daemon._engines, WorkerPool)
        self.pool = daemon._engines

    def tell(self, command: str, **fields: object) -> Any:
        return send_command(self._socket, {"command": command, **fields}, SECONDS)

    def pid(self, worker: int) -> int:
        process = self.pool._slots[worker].process
        return 0 if process is None else process.pid

    def streams(self, worker: int) -> set[str]:
        return set(self.pool._streams_of(worker))

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.tell("list")}

    def wait_for(self, state: dict[str, str]) -> None:
        wait_until(lambda: self.states().items() >= state.items(), lambda: str(self.states()))


def is_shutdown(message: Message) -> bool:
    return isinstance(message, StreamDown) and message.reason == "shutdown"


@contextmanager
def two_workers(folder: Path, songs: Path, bundle: Path) -> Iterator[Running]:
    path = write(
        folder, songs, bundle, "workers = 2", ", pace = true, loop = true", "exit_when_done = false"
    )
    made, stop = Daemon(load_config(path), path), threading.Event()
    thread = threading.Thread(target=made.run, args=(stop.is_set,))
    try:
        with Subscriber(made.address, scores=True) as feed:
            thread.start()
            (run := Running(made, folder / "c.sock", Heard(feed))).heard.all_on(SONGS)
            yield run
            stop.set()
            run.heard.until(lambda got: {m.stream for m in got if is_shutdown(m)} == SONGS)
            thread.join(SECONDS)
            assert not thread.is_alive()
            assert not made.failed
    finally:
        stop.set()
        thread.join(SECONDS)


@pytest.fixture(scope="module")
def _one_launcher() -> Iterator[None]:
    """Daemons in this process share a launcher: it imports torch for some seconds."""
    real = Launcher()

    class Shared:
        def __init__(self, *_: object, **__: object) -> None:
            self.start, self.has_gpu = real.start, real.has_gpu

        def close(self) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon_module, "Launcher", Shared)
        yield
    real.close()


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, songs: Path, toy_bundle: Path, _one_launcher: None
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("pair")
    shutil.copy(toy_bundle, folder / "toy.pt")
    with two_workers(folder, songs, folder / "toy.pt") as run:
        yield run
    check_contract(run.heard.messages)


@pytest.mark.usefixtures("_one_launcher")
def test_any_number_of_workers_gives_the_same_events(
    tmp_path: Path, songs: Path, toy_bundle: Path
) -> None:
    heard: dict[int, list[Message]] = {}
    for workers in (1, 3):
        heard[workers] = run_here(write(tmp_path, songs, toy_bundle, f"workers = {workers}"))
        check_contract(heard[workers])
    for stream in sorted(SONGS):
        one, three = contents(heard[1], stream), contents(heard[3], stream)
        assert any(message["type"] == "tag_on" for message in one)
        for is_score in (True, False):  # which come in the order of their topic
            assert [m for m in one if (m["type"] == "scores") == is_score] == [
                m for m in three if (m["type"] == "scores") == is_score
            ]


def check_loss(got: list[Message], lost: set[str], neighbours: set[str]) -> None:
    """The lost streams' tags and streams end for one reason. The others have every window."""
    for name in lost:
        mine = [m for m in got if m.stream == name]
        downs = [m for m in mine if isinstance(m, StreamDown)]
        assert [m.reason for m in downs] == ["worker_lost"]
        up = next(i for i, m in enumerate(mine) if isinstance(m, StreamUp))
        assert mine.index(downs[0]) < up
        assert mine[up].t == 0
        for m in mine[: mine.index(downs[0])]:
            if isinstance(m, TagOff) and m.reason == "worker_lost":
                assert m.since <= m.t <= downs[0].t + 1
    for name in neighbours:
        assert not [m for m in got if m.stream == name and isinstance(m, (StreamDown, Gap))]
        ends = [m.t for m in got if m.stream == name and isinstance(m, Scores)]
        assert np.diff(ends) == pytest.approx(0.25, abs=1e-3)


def test_a_worker_that_is_killed_costs_its_streams_a_gap_and_others_nothing(pair: Running) -> None:
    lost, neighbours = pair.streams(0), pair.streams(1)
    assert len(lost) == len(neighbours) == 2
    before, other = pair.pid(0), pair.pid(1)
    os.kill(before, signal.SIGKILL)
    got = pair.heard.until(lambda got: {m.stream for m in got if isinstance(m, StreamUp)} == lost)
    got += pair.heard.all_on(lost)
    check_loss(got, lost, neighbours)
    assert pair.pid(0) not in (0, before)
    assert pair.pid(1) == other
    assert pair.streams(0) == lost


def test_a_worker_that_hangs_is_killed(pair: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    lost, neighbours, before = pair.streams(1), pair.streams(0), pair.pid(1)
    monkeypatch.setattr(worker_pool, "ALIVE_SECONDS", 10.0)
    os.kill(before, signal.SIGSTOP)
    states = pair.states()
    assert {states[name] for name in lost} == {"opening"}
    assert {states[name] for name in neighbours} == {"up"}
    got = pair.heard.until(lambda got: {m.stream for m in got if isinstance(m, StreamUp)} == lost)
    monkeypatch.undo()
    got += pair.heard.all_on(lost)
    check_loss(got, lost, neighbours)
    assert pair.pid(1) != before


def test_changes_reach_every_worker_and_survive_its_death(pair: Running, toy_bundle: Path) -> None:
    """`add`, `remove`, `pause`, `resume`, `set`, `shadow`, `swap`."""
    source = pair.tell("list")[0]["source"]
    pair.tell("add", name="new", stream={"source": source, "pace": True, "loop": True})
    pair.wait_for({"new": "up"})
    pair.tell("pause", name="new")
    with pytest.raises(ControlError, match="expected a running one, got one paused"):
        pair.tell("pause", name="new")
    (owner,) = (worker for worker in (0, 1) if "new" in pair.streams(worker))
    before = pair.pid(owner)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pair.pid(owner) not in (0, before), "no other process")
    pair.wait_for({"new": "paused", "s0": "up", "s1": "up", "s2": "up", "s3": "up"})
    pair.tell("resume", name="new")
    pair.wait_for({"new": "up"})
    pair.tell("remove", name="new")
    assert pair.states().keys() == SONGS
    pair.tell("set", table={"defaults": {"tuning": {"tags": ["high"]}}})
    # What comes after the next stream is up comes after the change.
    pair.tell("add", name="next", stream={"source": source, "pace": True, "loop": True})
    pair.heard.until(lambda got: any(isinstance(m, StreamUp) and m.stream == "next" for m in got))
    pair.tell("remove", name="next")
    high = pair.heard.all_on(SONGS)
    assert {m.tag for m in high if isinstance(m, TagOn)} == {"high"}
    pair.tell("set", table={"defaults": {"tuning": {"tags": None}}})
    pair.tell("shadow", tagger="toy", bundle=str(toy_bundle))
    wait_until(lambda: pair.tell("status")["shadows"]["toy"]["windows"] > 20, "too few windows")
    status = pair.tell("status")
    assert status["shadows"]["toy"]["equal_decisions"] > 0.9
    assert status["streams"] == {"up": 4}
    assert status["counters"]["streams"] == 4
    assert status["counters"]["toy.windows"] > 0
    assert status["counters"]["workers.0.worker_running"] == 1
    assert pair.tell("swap", tagger="toy")["taggers_swapped"] == ["toy"]
    pair.heard.all_on(SONGS)


def test_a_file_that_has_ended_is_not_read_again_by_the_next_process(pair: Running) -> None:
    source = pair.tell("list")[0]["source"]
    pair.tell("add", name="short", stream={"source": source})
    pair.wait_for({"short": "ended"})
    (owner,) = (worker for worker in (0, 1) if "short" in pair.streams(worker))
    others, before = pair.streams(owner) - {"short"}, pair.pid(owner)
    wait_until(lambda: pair.pool._idle.get("short") == "ended", "the pool does not know")
    os.kill(before, signal.SIGKILL)
    pair.heard.until(lambda got: {m.stream for m in got if isinstance(m, StreamUp)} >= others)
    pair.wait_for({"short": "ended"})
    pair.tell("remove", name="short")
    assert sum(m.stream == "short" and isinstance(m, StreamUp) for m in pair.heard.messages) == 1


def test_a_model_that_cannot_be_loaded_changes_nothing(pair: Running) -> None:
    with pytest.raises(ControlError, match=r"nowhere\.pt"):
        pair.tell("swap", tagger="toy", bundle="nowhere.pt")
    pair.heard.all_on(SONGS)


def test_others_take_the_streams_of_a_worker_that_cannot_be_started(pair: Running) -> None:
    """The bundle's file is gone when the next process reads it."""
    bundle = Path(pair.daemon._executor.config.taggers["toy"].bundle)
    aside = bundle.rename(bundle.with_suffix(".aside"))
    os.kill(pair.pid(0), signal.SIGKILL)
    wait_until(lambda: len(pair.streams(1)) == 4, "nobody takes the streams")
    pair.wait_for({"s0": "up", "s1": "up", "s2": "up", "s3": "up"})
    aside.rename(bundle)
    wait_until(lambda: pair.tell("status")["counters"]["workers.0.worker_running"] == 1, "not back")
    pair.heard.all_on(SONGS)


def test_all_processes_end_with_a_daemon_that_is_killed(
    tmp_path: Path, songs: Path, toy_bundle: Path
) -> None:
    config = write(tmp_path, songs, toy_bundle, "workers = 2", ", pace = true, loop = true")
    with running(config) as daemon:
        children = descendants(daemon.popen.pid)
        assert len(children) == 3  # the launcher and two workers
        daemon.end(signal.SIGKILL)
        wait_until(lambda: not any(map(alive, children)), "a worker outlives its daemon")


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.usefixtures("_one_launcher")
def test_workers_that_cannot_begin_are_an_error(
    tmp_path: Path, songs: Path, toy_bundle: Path
) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(toy_bundle.read_bytes()[:1000])
    path = write(tmp_path, songs, broken, "workers = 2")
    with pytest.raises(StreamtagError, match=r"broken\.pt"):
        Daemon(load_config(path))


# Parts


class TwoEngines:
    """Two engines, of which the second cannot make a change."""

    def __init__(self) -> None:
        self.asked: list[EngineCommand] = []

    def ask(self, command: EngineCommand) -> list[LoadedChange]:
        self.asked.append(command)
        if isinstance(command, LoadChange):
            raise ControlError("the second one: no")
        return []


def test_a_change_that_one_engine_refuses_is_made_by_none(
    tmp_path: Path, songs: Path, toy_bundle: Path
) -> None:
    config, engines = load_config(write(tmp_path, songs, toy_bundle, "")), TwoEngines()
    executor = CommandExecutor(config, tmp_path / "daemon.toml", engines, None, dict)  # type: ignore[arg-type]
    result = executor.submit(StreamCommand(command="remove", name="s1"))
    with pytest.raises(ControlError, match="the second one: no"):
        result.result(SECONDS)
    assert [type(command) for command in engines.asked] == [LoadChange, DiscardChange]
    assert not any(isinstance(command, ApplyChange) for command in engines.asked)
    assert executor.config is config
    executor.close()
    with pytest.raises(ControlError, match="the daemon stops"):
        executor.submit(PlainCommand(command="list")).result(SECONDS)


@pytest.mark.parametrize(
    ("workers", "cpus", "number"),
    [(1, 64, 1), (7, 2, 7), ("auto", 1, 1), ("auto", 2, 2), ("auto", 3, 2), ("auto", 64, 63)],
)
def test_number_of_workers(workers: Any, cpus: int, number: int) -> None:
    assert number_of_workers(EngineConfig(workers=workers), cpus) == number


def test_a_gpu_belongs_to_the_daemons_own_process(
    tmp_path: Path, songs: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Launcher:
        def __init__(self, *_: object, **__: object) -> None:
            self.closed = False
            launchers.append(self)

        def has_gpu(self) -> bool:
            return True

        def close(self) -> None:
            self.closed = True

    launchers: list[Launcher] = []
    monkeypatch.setattr(daemon_module, "Launcher", Launcher)
    path = write(tmp_path, songs, toy_bundle, "workers = 2")
    path.write_text(path.read_text().replace('device = "cpu"', 'device = "auto"'))
    made = Daemon(load_config(path))
    assert not isinstance(made._engines, WorkerPool)
    assert launchers[0].closed
    made.run(lambda: True)


def test_streams_are_shared_out_by_cost() -> None:
    costs = {"a": 1.0, "b": 5.0, "c": 1.0, "d": 3.0, "e": 1.0}
    shares = share_out(costs, {}, [0, 1])
    assert list(shares) == list(costs)
    load = [sum(costs[n] for n in costs if shares[n] == worker) for worker in (0, 1)]
    assert max(load) <= 6
    # whoever has a worker stays there; those of a worker that is gone move
    more = share_out(costs | {"f": 1.0}, shares | {"gone": 0}, [0, 1])
    assert {name: more[name] for name in costs} == shares
    assert set(share_out(costs, shares, [1]).values()) == {1}
    assert share_out({}, shares, [0]) == {}


def test_a_stream_costs_its_rate_of_windows_times_the_cost_of_one(
    tmp_path: Path, songs: Path, toy_bundle: Path
) -> None:
    """A streaming net hears each second once. The toy has windows of 1 s every 0.25 s."""
    config = load_config(write(tmp_path, songs, toy_bundle, ""))
    cards = {"toy": read_card(toy_bundle)}
    for streaming, per_second in ((False, 4), (True, 1)):
        cost = stream_cost(config, "s0", cards, {"toy": TaggerCost(0.01, streaming)})
        assert cost == pytest.approx(STREAM_COST + 0.01 * per_second)
    assert stream_cost(config, "s0", {}, {}) == STREAM_COST


def test_a_frame_that_was_not_finished_is_never_heard() -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours), Channel(theirs)
    sender.send({"big": "x" * 100_000}, Stop())
    ours.sendall(b"\xff\x00\x00\x00\x00\x00\x00\x00half")
    sender.close()
    assert receiver.receive() == {"big": "x" * 100_000}
    assert receiver.receive() == Stop()
    assert receiver.receive() is None
    receiver.close()
    with pytest.raises(OSError, match=r".+"):
        receiver.send(Stop())
