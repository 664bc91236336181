"""Sources that come back: what is said when, where the audio belongs, and when to give up."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from streamtag.audio.block import Block
from streamtag.config.backoff import BackoffPolicy
from streamtag.engine.events import Cause, Reason, SourceState, SourceStatusChanged
from streamtag.errors import SourceError
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.queue import (
    BlockQueue,
    ClockCorrection,
    QueueItem,
    SourceEnded,
    SourceOpened,
)
from streamtag.sources.reconnect import Clock, ReconnectingReader
from streamtag.sources.source import SourceTitle

RATE = 1000
EPOCH = 1_000_000_000
SECONDS = 60


class VirtualClock(Clock):
    """Time passes only where somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.waits = 100.0, list[float]()

    def now(self) -> float:
        return self.time

    def utc_ns(self) -> int:
        return EPOCH + round((self.time - 100) * 1e9)

    def wait(self, seconds: float) -> bool:
        self.time += seconds
        self.waits.append(seconds)
        return self._stopped.is_set()


class RecordingQueue(BlockQueue):
    """A queue that keeps every item as it is put."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[QueueItem] = []

    def put(self, key: str, item: QueueItem, *, wait: bool = True) -> bool:
        self.items.append(item)
        return True


class Script:
    """A connection: seconds of audio in blocks of 0.1 s, titles, and how it ends."""

    live, epoch_ns = True, 0

    def __init__(self, clock: VirtualClock, parts: Sequence[object], rate: int | None) -> None:
        self._clock, self._parts, self.rate, self.closed = clock, parts, rate or RATE, 0

    def __iter__(self) -> Iterator[Block | SourceTitle]:
        start = 0
        for part in self._parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, str):
                yield SourceTitle(part)
                continue
            for _ in range(round(float(str(part)) * 10)):
                self._clock.time += 0.1
                yield Block(np.zeros(self.rate // 10, np.float32), start, self.rate)
                start += self.rate // 10

    def close(self) -> None:
        self.closed += 1


GONE = SourceLost(Cause.ENDED, "gone")
NOT_FOUND = SourceLost(Cause.NOT_FOUND, "404")


def run_connections(
    *scripts: Sequence[object], **policy: float
) -> tuple[list[QueueItem], VirtualClock]:
    """All items of a source whose connections follow the scripts; the last one ends for good."""
    clock, queue, made = VirtualClock(), RecordingQueue(), list[Script]()

    def connect(rate: int | None) -> Script:
        parts = scripts[len(made)]
        made.append(Script(clock, parts, rate))
        if parts and isinstance(parts[0], Exception):
            raise parts[0]
        return made[-1]

    kind = BackoffPolicy(**policy)  # type: ignore[arg-type]
    thread = ReconnectingReader("s", connect, queue, backoff=kind, clock=clock, jitter=lambda: 1.0)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert len(made) == len(scripts)
    return queue.items, clock


def statuses(items: Sequence[QueueItem]) -> list[tuple[str, str, float]]:
    return [
        (i.state, i.cause, i.retry_seconds) for i in items if isinstance(i, SourceStatusChanged)
    ]


def blocks(items: Sequence[QueueItem]) -> list[Block]:
    return [item for item in items if isinstance(item, Block)]


def test_a_source_that_ends_for_good() -> None:
    items, _ = run_connections([0.3, "a", 0.2])
    assert [type(item) for item in items] == [
        SourceStatusChanged, SourceOpened, SourceStatusChanged, Block, Block, Block, SourceTitle,
        Block, Block, SourceEnded,
    ]  # fmt: skip
    assert statuses(items) == [("connecting", "", 0), ("up", "", 0)]
    assert items[1] == SourceOpened(RATE, EPOCH, live=True)
    assert items[-1] == SourceEnded(Reason.STREAM_CLOSED)


def test_a_title_that_comes_before_the_audio_waits_for_the_stream() -> None:
    items, _ = run_connections(["of old", GONE], ["old", "a", 0.2, "b"])
    order = [item for item in items if isinstance(item, SourceOpened | SourceTitle | Block)]
    assert [type(item) for item in order] == [SourceOpened, SourceTitle, Block, Block, SourceTitle]
    assert [item.title for item in order if isinstance(item, SourceTitle)] == ["a", "b"]


def test_what_was_lost_has_its_length_by_the_clock() -> None:
    items, _ = run_connections([1.0, GONE], [SourceLost(Cause.REFUSED, "no")], [0.5])
    starts = [block.start for block in blocks(items)]
    # One second, then waits of one and two seconds, then half a second.
    assert starts == [*range(0, 1000, 100), *range(4000, 4500, 100)]
    assert statuses(items) == [
        ("connecting", "", 0), ("up", "", 0), ("retrying", "ended", 1.0),
        ("connecting", "", 0), ("retrying", "refused", 2.0),
        ("connecting", "", 0), ("up", "", 0),
    ]  # fmt: skip
    assert sum(isinstance(item, SourceOpened) for item in items) == 1


def test_a_stall_has_its_own_state() -> None:
    items, _ = run_connections([1.0, SourceLost(Cause.STALLED, "none for 10 s")], [0.1])
    assert statuses(items)[2] == ("stalled", "stalled", 1.0)


def test_a_source_that_never_was_there_opens_when_it_comes() -> None:
    items, _ = run_connections(
        [SourceLost(Cause.DNS, "x")], [SourceLost(Cause.TIMEOUT, "y")], [0.1]
    )
    assert [type(i) for i in items][:5] == [
        SourceStatusChanged,
        SourceStatusChanged,
        SourceStatusChanged,
        SourceStatusChanged,
        SourceStatusChanged,
    ]
    assert items[5] == SourceOpened(RATE, EPOCH + 3 * 10**9, live=True)
    assert blocks(items)[0].start == 0


def test_404_then_back_even_after_the_circuit_breaker_opened() -> None:
    items, clock = run_connections([1.0, GONE], *[[NOT_FOUND]] * 5, [0.2], slow=300)
    states = [state for state, _, _ in statuses(items) if state != "connecting"]
    assert states == ["up", "retrying", "retrying", "retrying", "failed", "failed", "failed", "up"]
    assert [w for w in clock.waits if w >= 1] == [1, 2, 4, 300, 300, 300]
    # Given up, it is another stream when it comes back.
    assert sum(isinstance(item, SourceOpened) for item in items) == 2
    assert [block.start for block in blocks(items)][-2:] == [0, 100]
    assert items[-1] == SourceEnded(Reason.STREAM_CLOSED)


def test_an_error_that_nothing_cures_ends_it() -> None:
    items, clock = run_connections([SourceError("no PortAudio")])
    assert items[-1] == SourceEnded(Reason.STREAM_LOST, "no PortAudio")
    assert not clock.waits


def test_an_unexpected_error_is_one_more_loss() -> None:
    items, _ = run_connections([0.1, ZeroDivisionError("oh")], [0.1])
    assert statuses(items)[2] == ("retrying", "other", 1.0)
    assert items[-1] == SourceEnded(Reason.STREAM_CLOSED)


def test_later_connections_are_asked_for_the_first_ones_rate() -> None:
    asked: list[int | None] = []
    clock, queue = VirtualClock(), RecordingQueue()

    def connect(rate: int | None) -> Script:
        asked.append(rate)
        return Script(clock, [0.1, GONE] if len(asked) < 3 else [0.1], rate or 2000)

    thread = ReconnectingReader("s", connect, queue, clock=clock)
    thread.run()
    assert asked == [None, 2000, 2000]


def test_a_card_with_a_slow_clock_moves_the_epoch_and_loses_nothing() -> None:
    """Ten hours at 0.1 % too few samples a second."""

    class Slow(Script):
        def __iter__(self) -> Iterator[Block | SourceTitle]:
            for start in range(0, 36_000_000, 5000):
                self._clock.time += 5 * 1.001
                yield Block(np.zeros(5000, np.float32), start, RATE)

    clock, queue = VirtualClock(), RecordingQueue()
    ReconnectingReader("s", lambda rate: Slow(clock, [], rate), queue, clock=clock).run()
    items, heard = queue.items, blocks(queue.items)
    assert [b.start for b in heard] == list(range(0, 36_000_000, 5000))
    epochs = [item.epoch_ns for item in items if isinstance(item, ClockCorrection)]
    assert epochs == sorted(epochs)
    end_ns = epochs[-1] + heard[-1].end * 10**9 // RATE
    assert (clock.utc_ns() - end_ns) / 1e9 == pytest.approx(0, abs=0.1)  # and not 36 s


class Endless(Script):
    """Audio that comes as fast as it is taken."""

    def __iter__(self) -> Iterator[Block | SourceTitle]:
        start = 0
        while not self.closed:
            yield Block(np.zeros(100, np.float32), start, RATE)
            start += 100


def test_a_source_ten_times_too_fast_is_held_up() -> None:
    class Impatient(VirtualClock):
        def wait(self, seconds: float) -> bool:
            super().wait(seconds)
            if self.time > 200:
                thread.stop()
            return self._stopped.is_set()

    clock, queue = Impatient(), RecordingQueue()
    thread = ReconnectingReader("s", lambda rate: Endless(clock, [], rate), queue, clock=clock)
    thread.run()
    assert len(blocks(queue.items)) / 10 == pytest.approx(110, abs=1)  # 100 s, and 10 s ahead


def test_stop_while_it_is_being_opened() -> None:
    clock, queue = VirtualClock(), RecordingQueue()
    made: list[Endless] = []

    def connect(rate: int | None) -> Endless:
        made.append(Endless(clock, [], rate))
        thread.stop()
        return made[-1]

    thread = ReconnectingReader("s", connect, queue, clock=clock)
    thread.run()
    assert made[0].closed == 1
    assert queue.items == [
        SourceStatusChanged("s", 0, SourceState.CONNECTING),
        SourceEnded(Reason.STREAM_CLOSED),
    ]


def test_stop_ends_a_wait_at_once() -> None:
    queue, waiting = RecordingQueue(), threading.Event()

    class Waits(Clock):
        def wait(self, seconds: float) -> bool:
            waiting.set()
            return super().wait(seconds)

    def connect(rate: int | None) -> Script:
        raise SourceLost(Cause.REFUSED, "no")

    thread = ReconnectingReader(
        "s", connect, queue, backoff=BackoffPolicy(first=3600, longest=3600), clock=Waits()
    )
    thread.start()
    assert waiting.wait(SECONDS)
    thread.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert [type(item) for item in queue.items] == [
        SourceStatusChanged,
        SourceStatusChanged,
        SourceEnded,
    ]
    assert queue.items[0] == SourceStatusChanged("s", 0, SourceState.CONNECTING)
