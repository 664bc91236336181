"""The queues between sources and engine: bounded, fair, and honest about what they leave out."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from streamtag.audio.block import Block
from streamtag.engine.events import Reason
from streamtag.errors import SourceError
from streamtag.sources.queue import (
    CROWD,
    GATHER_SECONDS,
    ClockCorrection,
    Ended,
    Intake,
    Opened,
    SourceReader,
)

SECONDS = 20


def block(start: int) -> Block:
    """A tenth of a second."""
    return Block(np.zeros(100, np.float32), start, 1000)


def test_a_live_source_is_not_held_up_and_leaves_a_hole() -> None:
    intake = Intake(seconds=0.3)
    for i in range(5):
        assert intake.put("a", block(100 * i), wait=False)
    ((_, before),) = intake.take(0)
    assert intake.put("a", block(500), wait=False)
    ((_, after),) = intake.take(0)
    assert isinstance(before, Block)
    assert isinstance(after, Block)
    assert (before.start, before.end, after.start, intake.dropped_blocks) == (0, 300, 500, 2)


def test_a_source_that_can_wait_waits_and_loses_nothing() -> None:
    intake, got = Intake(seconds=0.3), []
    thread = threading.Thread(target=lambda: [intake.put("a", block(100 * i)) for i in range(50)])
    thread.start()
    while not got or got[-1] < 5000:
        taken = intake.take(SECONDS)
        assert len(intake._queues["a"]) <= 3
        assert taken
        for _, item in taken:
            assert isinstance(item, Block)
            assert item.start == (got[-1] if got else 0)
            assert item.end - item.start <= 500
            got.append(item.end)
    thread.join(SECONDS)


def numbered(start: int, n: int, *, stereo: bool = False) -> Block:
    """Samples that tell their own index, at 1 kHz."""
    samples = np.arange(start, start + n, dtype=np.float32)
    return Block(samples, start, 1000, np.stack([samples, -samples], 1) if stereo else None)


def test_blocks_that_waited_come_as_one_unless_something_lies_between() -> None:
    intake = Intake()
    pieces = [numbered(0, 100), numbered(100, 300), numbered(400, 200)]
    pieces += [numbered(600, 100, stereo=True), numbered(700, 50, stereo=True), numbered(800, 10)]
    pieces.append(numbered(850, 10))  # after a hole
    for piece in pieces:
        intake.put("a", piece)
    intake.put("a", ClockCorrection(7))
    intake.put("a", numbered(860, 10))
    items = []
    while (taken := intake.take(0)) or len(items) < 3:
        items += [item for _, item in taken]
    blocks = [item for item in items if isinstance(item, Block)]
    assert [type(item) for item in items] == [*[Block] * 5, ClockCorrection, Block]
    assert [(b.start, b.end) for b in blocks] == [
        (0, 400), (400, 600), (600, 750), (800, 810), (850, 860), (860, 870),
    ]  # fmt: skip
    assert [b.sides is not None for b in blocks] == [False, False, True, *[False] * 3]
    for b in blocks:
        assert b.samples.tolist() == list(range(b.start, b.end))
        assert b.sides is None or (b.sides[:, 1] == -b.samples).all()
    assert intake._waiting["a"] == pytest.approx(0)


def test_in_a_crowd_items_are_gathered_and_none_is_late() -> None:
    intake = Intake()
    for i in range(CROWD + 1):
        intake.put(f"s{i}", Opened(1000, 0, live=True))
    assert len(intake.take(SECONDS)) == CROWD + 1
    thread = threading.Thread(target=lambda: [intake.put(f"s{i}", block(0)) for i in range(9)])
    thread.start()
    got = 0
    while got < 9:
        taken = intake.take(SECONDS)
        assert taken
        got += len(taken)
    thread.join(SECONDS)
    intake.wake()
    assert intake.take(None) == []  # at once


def test_every_stream_has_its_turn() -> None:
    intake = Intake()
    for i in range(3):
        intake.put("busy", block(200 * i))
    intake.put("calm", block(0))
    assert [stream for stream, _ in intake.take(0)] == ["busy", "calm"]
    assert [stream for stream, _ in intake.take(0)] == ["busy"]


def test_who_has_something_to_do_gathers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    intake, slept = Intake(), list[float]()
    for i in range(CROWD + 1):
        intake.put(f"s{i}", Opened(1000, 0, live=True))
    intake.take(0)
    monkeypatch.setattr("streamtag.sources.queue.time.sleep", slept.append)
    for timeout in (0.0, 0.001, 5.0, None):
        intake.put("s1", block(0))
        assert len(intake.take(timeout)) == 1
    assert slept == [0.0, 0.001, GATHER_SECONDS, GATHER_SECONDS]


def test_closing_lets_everybody_go() -> None:
    intake, results = Intake(seconds=0.1), []
    intake.put("a", block(0))
    thread = threading.Thread(target=lambda: results.append(intake.put("a", block(100))))
    thread.start()
    intake.close()
    thread.join(SECONDS)
    assert results == [False]
    assert intake.put("b", Ended(Reason.STREAM_CLOSED)) is False
    assert intake.take(SECONDS)  # at once


class Source:
    """Two blocks, then whatever is asked for."""

    name, rate, epoch_ns, live, duration = "s", 1000, 5, False, None

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.closed = error, 0

    def __iter__(self) -> Iterator[Block]:
        yield block(0)
        yield block(100)
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed += 1


def read(source: Source) -> list[object]:
    intake = Intake()
    reader = SourceReader("s", lambda: source, intake)
    reader.start()
    reader.join(SECONDS)
    return [item for _ in range(3) for _, item in intake.take(0)]


def test_a_reader_delivers_all_and_says_that_it_ended() -> None:
    source = Source()
    items = read(source)
    assert items[0] == Opened(1000, 5, False)
    assert isinstance(items[1], Block)
    assert (items[1].start, items[1].end) == (0, 200)
    assert items[2] == Ended(Reason.STREAM_CLOSED)
    assert source.closed == 1


def test_a_reader_says_why_its_source_failed() -> None:
    assert read(Source(SourceError("unplugged")))[2] == Ended(Reason.STREAM_LOST, "unplugged")
    assert read(Source(ZeroDivisionError("oh")))[2] == Ended(
        Reason.STREAM_LOST, "ZeroDivisionError: oh"
    )


def test_a_source_that_cannot_be_opened() -> None:
    def fail() -> Source:
        raise SourceError("no such thing")

    intake = Intake()
    reader = SourceReader("s", fail, intake)
    reader.start()
    reader.join(SECONDS)
    assert intake.take(0) == [("s", Ended(Reason.STREAM_LOST, "no such thing"))]
