"""The daemon ends within 5 s, whatever hangs, and every tag goes off."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from daemon.test_daemon import SECONDS, check_contract, configuration, down, events_of, until
from support.sounds import tone, write_wav

from streamtag.audio.block import Block
from streamtag.config.config import load_config
from streamtag.daemon import streams as streams_module
from streamtag.daemon.daemon import Daemon
from streamtag.engine.engine import Engine
from streamtag.engine.events import Reason, TagEnded, TagStarted
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import StreamDown
from streamtag.feed.messages import TagOn as TagOnMessage
from streamtag.model.tagger import Tagger
from streamtag.sources.queue import BlockQueue, SourceReader

RATE = 22050
BUSY_SECONDS = 20
"""What a busy machine may add to the 5 s that docs/operation.md promises."""


class HangingSource:
    """A source that plays a tone and cannot be stopped."""

    rate, live, name, epoch_ns = RATE, True, "hanging", 0

    def __init__(self, never: threading.Event) -> None:
        self._never = never

    def __iter__(self):  # type: ignore[no-untyped-def]
        for k in range(10):
            yield Block(tone(0.25, RATE, 200, 0.4), k * (RATE // 4), RATE)
        self._never.wait()

    def close(self) -> None:
        self._never.wait()


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Makes all sources hang but the one of stream `good`, until the event is set."""
    event, usual = threading.Event(), streams_module.create_reader

    def create(name: str, stream: object, queue: BlockQueue, key: str, watch: bool) -> SourceReader:
        if name == "good":
            return usual(name, stream, queue, key, watch=watch)  # type: ignore[arg-type]
        return SourceReader(name, lambda: HangingSource(event), queue, key)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(streams_module, "create_reader", create)
    yield event
    event.set()


def test_sources_that_hang_are_left_behind(
    tmp_path: Path, toy_bundle: Path, never: threading.Event
) -> None:
    wav = write_wav(tmp_path / "a.wav", tone(2, RATE, 3000, 0.4), RATE)
    streams = "".join(f'm{i}.source = "device:"\n' for i in range(3))
    streams += f'good = {{ source = "file:{wav}", pace = true, loop = true }}'
    made = Daemon(load_config(configuration(tmp_path, toy_bundle, streams)))
    stop = threading.Event()
    worker = threading.Thread(target=made.run, args=(stop.is_set,))
    with Subscriber(made.address) as feed:
        worker.start()
        messages = until(feed, lambda got: sum(isinstance(m, TagOnMessage) for m in got) == 4)
        stop.set()
        messages += until(feed, down(4))
        worker.join(SECONDS)
        assert not worker.is_alive()
    never.set()
    check_contract(messages)
    for name in ("m0", "m1", "m2", "good"):
        (last,) = [m for m in events_of(messages, name) if isinstance(m, StreamDown)]
        assert last.reason == "shutdown"


def test_an_engine_and_sources_that_hang_are_left_behind_in_time(
    tmp_path: Path, toy_bundle: Path, never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = "".join(f'm{i}.source = "device:"\n' for i in range(3))
    config = configuration(tmp_path, toy_bundle, streams)
    config.write_text(config.read_text().replace(f"_seconds = {SECONDS}", "_seconds = 0"))
    made, stuck = Daemon(load_config(config)), threading.Event()

    def step(_: object, now: float) -> list[object]:
        stuck.set()
        never.wait()
        return []

    monkeypatch.setattr(Engine, "step", step)
    worker = threading.Thread(target=made.run, args=(stuck.is_set,))
    worker.start()
    assert stuck.wait(SECONDS)
    began = time.monotonic()
    worker.join(SECONDS)
    assert not worker.is_alive()
    assert time.monotonic() - began < 5 + BUSY_SECONDS
    assert made.failed
    engine = next(t for t in threading.enumerate() if t.name == "engine")
    never.set()
    engine.join(SECONDS)
    assert not engine.is_alive()


def test_closing_without_scoring_switches_all_tags_off(toy_bundle: Path) -> None:
    engine = Engine({"toy": Tagger.load(toy_bundle, "cpu")})
    sound = Block(tone(2, RATE, 200, 0.4), 0, RATE)
    for name in ("a", "b"):
        engine.open(name, RATE)
        engine.feed(name, sound)
    on = engine.step()
    assert sum(isinstance(e, TagStarted) for e in on) == 2
    engine.feed("a", Block(np.zeros(RATE, np.float32), sound.end, RATE))
    assert engine.stats()["waiting"] > 0
    events = engine.close_many(["a", "b"], Reason.SHUTDOWN, score=False)
    assert engine.stats()["waiting"] == 0
    assert [e.reason for e in events if isinstance(e, TagEnded)] == ["shutdown"] * 2
    assert engine.step() == []
