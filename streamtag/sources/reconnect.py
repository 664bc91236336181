"""A source that comes back: it is opened again whenever it is lost, on one sample clock.

Within a connection samples are counted; the wall clock says where the first block of the next one
belongs. Audio ahead of it, such as a server's burst, is read no faster than it plays, so nothing
grows. Audio that stays behind for `SETTLE_SECONDS` has lost packets and jumps, which is a gap. The
clock of a sender that is off by at most `DRIFT` makes no gap (except over UDP, where lost packets
are more likely): the UTC of sample 0 moves a little instead.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable

from streamtag.audio.block import Block
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.engine.events import Cause, Reason, SourceState, SourceStatusChanged
from streamtag.errors import SourceError
from streamtag.sources.loss_causes import PERSISTENT, SourceLost
from streamtag.sources.queue import (
    BlockQueue,
    ClockCorrection,
    SourceConnected,
    SourceEnded,
    SourceOpened,
    SourceReader,
)
from streamtag.sources.source import AudioArrived, AudioSource, SourceTitle

log = logging.getLogger(__name__)

AHEAD_SECONDS = 10.0
"""How far audio may be ahead of the wall clock."""
BURST_SECONDS = 2.0
"""How much of that is read at once; the rest is read at four times its speed."""
BEHIND_SECONDS = 1.0
"""How far audio may stay behind the wall clock."""
SETTLE_SECONDS = 30.0
"""How long audio must be behind before it jumps, and the interval of clock corrections."""
DRIFT = 0.002
"""Relative error that a clock may have; crystals are off by less than a tenth of that."""


class Clock:
    """The time, and waiting that can be ended; tests replace it."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def utc_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    def wait(self, seconds: float) -> bool:
        """Waits `seconds`; returns True, at once, when stopped."""
        return self._stopped.wait(max(0.0, seconds))

    def stop(self) -> None:
        """Ends all waiting, for good."""
        self._stopped.set()


class SampleClock:
    """Places the blocks of successive connections on the one sample clock of a stream.

    Args:
        rate: Hz.
        begun: monotonic seconds of sample 0.
        lossless: the source knows of every sample that was lost on the way.
    """

    def __init__(self, rate: int, begun: float, *, lossless: bool = True) -> None:
        self._rate, self._begun, self._lossless = rate, begun, lossless
        self.end = 0
        """One past the last sample placed."""
        self.drift = 0.0
        """Seconds by which sample 0 has moved because the clock of the sender is off."""
        self._shift: int | None = None  # from the positions of a connection to those of the stream
        self.connected = begun
        """When the present connection began."""
        self._least_lag, self._since = float("inf"), begun  # of the present interval
        self._usual_lag: float | None = None  # of the first interval, before any drift

    def disconnect(self) -> None:
        """The connection is over."""
        self._shift = None

    @property
    def begun(self) -> float:
        """Monotonic seconds of sample 0."""
        return self._begun

    def connect(self, n_samples: int, now: float) -> int:
        """The position of the first of `n_samples` of a connection, which have come by `now`."""
        expected = round((now - self._begun) * self._rate) - n_samples
        # Even where no time was lost, a gap of one sample separates the connections.
        start = max(expected, self.end + 1 if self.end else 0)
        self.connected, self._least_lag, self._since = now, float("inf"), now
        self._usual_lag = None
        self.end = start + n_samples
        return start

    def follow(self, end: int, least_lag: float, now: float) -> int:
        """Takes note of audio that has come through a port.

        Args:
            end: position after it.
            least_lag: smallest of time · rate - position since the last time.
            now: the time.

        Returns:
            Samples to leave out.
        """
        self.end = end
        jump = 0
        if math.isfinite(least_lag):
            jump = self._jump(round(least_lag - self._begun * self._rate), now)
        self.end += jump
        return jump

    def place(self, block: Block, now: float) -> Block:
        """Returns the next block at its position; `now` is when it came."""
        length = len(block.samples)
        if self._shift is None:
            self._shift = self.connect(length, now) - block.start
            self.end -= length
        start = max(block.start + self._shift, self.end)
        lag = round((now - self._begun) * self._rate) - length - start
        start += self._jump(lag, now)
        self.end = start + length
        return Block(block.samples, start, block.rate, block.sides)

    def wait_seconds(self, now: float) -> float:
        """How long to wait before the next block is read; at most 0 for not at all."""
        burst = min(AHEAD_SECONDS, BURST_SECONDS + 3 * (now - self.connected))
        return self.end / self._rate - (now - self._begun) - burst

    def _jump(self, lag: int, now: float) -> int:
        """Samples to leave out because the audio has been behind the wall clock for long.

        A lag that grows or shrinks as slowly as a clock drifts moves sample 0 instead.
        """
        self._least_lag = min(self._least_lag, lag / self._rate)
        seconds = now - self._since
        if seconds < SETTLE_SECONDS:
            return 0
        behind, usual = self._least_lag, self._usual_lag
        self._least_lag, self._since = float("inf"), now
        if usual is None or not self._lossless or abs(behind - usual) > BEHIND_SECONDS / 2:
            usual = behind
        step = max(-DRIFT * seconds, min(behind - usual, DRIFT * seconds))
        self._begun += step
        self.drift += step
        if behind - step < BEHIND_SECONDS:
            self._usual_lag = usual
            return 0
        self._usual_lag = None
        jump = round((behind - step) * self._rate)
        assert self._shift is not None
        self._shift += jump
        return jump


class ReconnectingReader(SourceReader):
    """Reads a source into the queue, and opens it again whenever it is lost, until stopped.

    Args:
        stream: its name, for the log.
        connect: opens the source at a rate, or at its own for None. It may raise `SourceLost`
            where another try may help, and another SourceError where no try ever will.
        queue: of the engine.
        key: in the queue; empty for the name of the stream.
        backoff: how long to wait between tries.
        clock: the time.
        jitter: in [0, 1).
        lossless: the source knows of every sample that was lost on the way.
    """

    def __init__(
        self,
        stream: str,
        connect: Callable[[int | None], AudioSource],
        queue: BlockQueue,
        key: str = "",
        *,
        backoff: BackoffPolicy | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        lossless: bool = True,
    ) -> None:
        super().__init__(stream, lambda: connect(self._rate), queue, key)
        self._clock = clock or Clock()
        self._backoff = Backoff(backoff or BackoffPolicy(), jitter)
        self._lossless = lossless
        self._rate: int | None = None
        self._epoch_ns = 0
        self._sample_clock: SampleClock | None = None  # None until the stream is open
        self._title: SourceTitle | None = None  # came before the stream was open
        self._audio_seconds = 0.0  # of this connection

    def run(self) -> None:
        """Puts a SourceEnded last, whatever happens."""
        ended: SourceEnded | None = None
        while ended is None:
            ended = self._connection()
        self._put(ended)

    def stop(self) -> None:
        """Ends the source, from another thread."""
        self._clock.stop()
        super().stop()

    def _connection(self) -> SourceEnded | None:
        """One connection and the wait after it; returns a SourceEnded if there is no next one."""
        try:
            self._read()
            return SourceEnded(Reason.STREAM_CLOSED)
        except SourceLost as error:
            self._lost(error.cause, str(error))
        except SourceError as error:
            return SourceEnded(Reason.STREAM_LOST, str(error))
        except Exception as error:  # a fault in one source must not touch the others
            if not self._stopped.is_set():
                log.exception("stream %s: its source failed in an unexpected way", self._stream)
            self._lost(Cause.OTHER, f"{type(error).__name__}: {error}")
        return SourceEnded(Reason.STREAM_CLOSED) if self._stopped.is_set() else None

    def _read(self) -> None:
        self._put(SourceStatusChanged(self._stream, 0, SourceState.CONNECTING))
        self._audio_seconds = 0.0
        source = self._source = self._open()
        try:
            if self._stopped.is_set():  # `stop` came while it was opened
                return
            for item in source:
                if self._stopped.is_set():
                    return
                if isinstance(item, SourceTitle):
                    self._put_title(item)
                elif isinstance(item, AudioArrived):
                    self._follow(item, source.rate)
                elif not self._put_block(item):
                    return
        finally:
            source.close()

    def _put_title(self, title: SourceTitle) -> None:
        """Queues a title; one that comes before the first audio waits until the stream is open."""
        if self._sample_clock is None:
            self._title = title
        else:
            self._put(title)

    def _put_block(self, block: Block) -> bool:
        """Queues a block and waits until the next may be read; False once the queue is closed."""
        now, seconds = self._clock.now(), len(block.samples) / block.rate
        clock = self._sample_clock or self._open_stream(block.rate, now, seconds)
        if not self._audio_seconds:
            self._put(SourceStatusChanged(self._stream, 0, SourceState.UP))
        self._audio_seconds += seconds
        self._backoff.worked(self._audio_seconds)
        drift = clock.drift
        accepted = self._put(clock.place(block, now), wait=False)
        if clock.drift != drift:
            self._put(ClockCorrection(self._epoch_ns + round(clock.drift * 1e9)))
        wait = clock.wait_seconds(now)
        return accepted and not (wait > 0 and self._clock.wait(wait))

    def _follow(self, item: AudioArrived, rate: int) -> None:
        """Watches the audio of a port, which goes to the engine by itself once it has its place."""
        found, port = item.arrivals, item.port
        seconds, came = found.samples / rate, self._audio_seconds
        first = found.first_samples / rate
        clock = self._sample_clock or self._open_stream(rate, found.first, first)
        drift = clock.drift
        if not came:
            self._put(SourceStatusChanged(self._stream, 0, SourceState.UP))
            port.set_pace(clock.begun, found.first)
            start = clock.connect(found.first_samples, found.first)
            port.place(start, self._queue.signal)
            clock.end = start + found.end
            self._put(SourceConnected(port))
        elif jump := clock.follow(found.end, found.least_lag, self._clock.now()):
            port.skip(jump)
        self._audio_seconds = seconds
        self._backoff.worked(seconds)
        if clock.drift != drift:
            self._put(ClockCorrection(self._epoch_ns + round(clock.drift * 1e9)))
            port.set_pace(clock.begun, clock.connected)

    def _open_stream(self, rate: int, now: float, seconds: float) -> SampleClock:
        """Announces the stream when its first audio, of so many seconds, has come at `now`."""
        self._rate = rate
        late = self._clock.now() - now
        self._epoch_ns = self._clock.utc_ns() - round((late + seconds) * 1e9)
        self._sample_clock = SampleClock(rate, now - seconds, lossless=self._lossless)
        self._put(SourceOpened(rate, self._epoch_ns, live=True))
        if self._title is not None:
            self._put(self._title)
        self._title = None
        return self._sample_clock

    def _lost(self, cause: Cause, detail: str) -> None:
        """Reports the loss and waits for the next try."""
        if self._stopped.is_set():
            return
        self._title = None
        seconds = self._backoff.failed(persistent=cause in PERSISTENT)
        state = SourceState.STALLED if cause is Cause.STALLED else SourceState.RETRYING
        if self._backoff.open:
            # The stream is closed. If it comes back, it begins as a new one.
            state, self._sample_clock = SourceState.FAILED, None
        if self._sample_clock is not None:
            self._sample_clock.disconnect()
        wait = round(seconds, 3)
        self._put(SourceStatusChanged(self._stream, 0, state, cause, detail, wait))
        self._clock.wait(seconds)
