"""The queues between sources and engine: bounded, fair, and honest about what they leave out."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from streamtag.audio.block import Block
from streamtag.engine.events import Reason
from streamtag.errors import SourceError
from streamtag.sources.queue import (
    GATHER_SECONDS,
    MANY_STREAMS,
    BlockQueue,
    ClockCorrection,
    SourceEnded,
    SourceOpened,
    SourceReader,
)

SECONDS = 60


def block(start: int) -> Block:
    """A tenth of a second."""
    return Block(np.zeros(100, np.float32), start, 1000)


def test_a_live_source_never_waits_and_leaves_a_gap() -> None:
    queue = BlockQueue(seconds=0.3)
    for i in range(5):
        assert queue.put("a", block(100 * i), wait=False)
    ((_, before),) = queue.get(0)
    assert queue.put("a", block(500), wait=False)
    ((_, after),) = queue.get(0)
    assert isinstance(before, Block)
    assert isinstance(after, Block)
    assert (before.start, before.end, after.start, queue.dropped_blocks) == (0, 300, 500, 2)


def test_a_source_that_can_wait_waits_and_loses_nothing() -> None:
    queue, got = BlockQueue(seconds=0.3), []
    thread = threading.Thread(target=lambda: [queue.put("a", block(100 * i)) for i in range(50)])
    thread.start()
    while not got or got[-1] < 5000:
        taken = queue.get(SECONDS)
        assert len(queue._items["a"]) <= 3
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


def test_consecutive_blocks_are_joined_unless_something_lies_between() -> None:
    queue = BlockQueue()
    pieces = [numbered(0, 100), numbered(100, 300), numbered(400, 200)]
    pieces += [numbered(600, 100, stereo=True), numbered(700, 50, stereo=True), numbered(800, 10)]
    pieces.append(numbered(850, 10))  # after a hole
    for piece in pieces:
        queue.put("a", piece)
    queue.put("a", ClockCorrection(7))
    queue.put("a", numbered(860, 10))
    items = []
    while (taken := queue.get(0)) or len(items) < 3:
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
    assert queue._seconds["a"] == pytest.approx(0)


def test_with_many_streams_items_are_gathered_and_none_is_late() -> None:
    queue = BlockQueue()
    for i in range(MANY_STREAMS + 1):
        queue.put(f"s{i}", SourceOpened(1000, 0, live=True))
    assert len(queue.get(SECONDS)) == MANY_STREAMS + 1
    thread = threading.Thread(target=lambda: [queue.put(f"s{i}", block(0)) for i in range(9)])
    thread.start()
    got = 0
    while got < 9:
        taken = queue.get(SECONDS)
        assert taken
        got += len(taken)
    thread.join(SECONDS)
    queue.wake()
    assert queue.get(None) == []  # at once


def test_every_stream_gets_one_item_per_round() -> None:
    queue = BlockQueue()
    for i in range(3):
        queue.put("busy", block(200 * i))
    queue.put("calm", block(0))
    assert [stream for stream, _ in queue.get(0)] == ["busy", "calm"]
    assert [stream for stream, _ in queue.get(0)] == ["busy"]


def test_gathering_is_no_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, slept = BlockQueue(), list[float]()
    for i in range(MANY_STREAMS + 1):
        queue.put(f"s{i}", SourceOpened(1000, 0, live=True))
    queue.get(0)
    monkeypatch.setattr("streamtag.sources.queue.time.sleep", slept.append)
    for timeout in (0.0, 0.001, 5.0, None):
        queue.put("s1", block(0))
        assert len(queue.get(timeout)) == 1
    assert slept == [0.0, 0.001, GATHER_SECONDS, GATHER_SECONDS]


def test_close_ends_all_waiting() -> None:
    queue, results = BlockQueue(seconds=0.1), []
    queue.put("a", block(0))
    thread = threading.Thread(target=lambda: results.append(queue.put("a", block(100))))
    thread.start()
    queue.close()
    thread.join(SECONDS)
    assert results == [False]
    assert queue.put("b", SourceEnded(Reason.STREAM_CLOSED)) is False
    assert queue.get(SECONDS)  # at once


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
    queue = BlockQueue()
    reader = SourceReader("s", lambda: source, queue)
    reader.start()
    reader.join(SECONDS)
    return [item for _ in range(3) for _, item in queue.get(0)]


def test_a_reader_delivers_all_blocks_and_its_end() -> None:
    source = Source()
    items = read(source)
    assert items[0] == SourceOpened(1000, 5, False)
    assert isinstance(items[1], Block)
    assert (items[1].start, items[1].end) == (0, 200)
    assert items[2] == SourceEnded(Reason.STREAM_CLOSED)
    assert source.closed == 1


def test_a_reader_reports_why_its_source_failed() -> None:
    assert read(Source(SourceError("unplugged")))[2] == SourceEnded(Reason.STREAM_LOST, "unplugged")
    assert read(Source(ZeroDivisionError("oh")))[2] == SourceEnded(
        Reason.STREAM_LOST, "ZeroDivisionError: oh"
    )


def test_a_source_that_cannot_be_opened() -> None:
    def fail() -> Source:
        raise SourceError("no such thing")

    queue = BlockQueue()
    reader = SourceReader("s", fail, queue)
    reader.start()
    reader.join(SECONDS)
    assert queue.get(0) == [("s", SourceEnded(Reason.STREAM_LOST, "no such thing"))]
