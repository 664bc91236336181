"""A source that comes back: opened anew whenever it is lost, on one sample clock for ever.

The rule of the clock. Sample 0 is the first audio of all. Within a connection samples are counted;
where a new connection's first block belongs, the clock on the wall says. Audio may be ahead of the
clock by what a server sends as a burst (`AHEAD_SECONDS`), then it is fetched no faster than it
plays, and the pipe holds up whoever sends faster: nothing grows. Audio that stays behind the clock
by more than `BEHIND_SECONDS` for `SETTLE_SECONDS` (packets lost) leaps to it: that is a gap.

No two clocks agree. A sound card or a sender that is off by at most `DRIFT` loses nothing, so there
is no gap (but over UDP, where packets that were lost are more likely). Its samples still count;
what moves, a little every `SETTLE_SECONDS`, is the UTC of sample 0, so that neither the lag nor the
error of a time grows.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from streamtag.audio.block import Block
from streamtag.engine.events import Cause, Reason, SourceState
from streamtag.errors import SourceError
from streamtag.sources.backoff import Backoff, BackoffPolicy
from streamtag.sources.causes import Lost
from streamtag.sources.queue import ClockCorrection, Door, Ended, Opened, Status
from streamtag.sources.source import Titled, TitledSource

log = logging.getLogger(__name__)

AHEAD_SECONDS = 10.0
"""How far audio may be ahead of the clock."""
AT_ONCE_SECONDS = 2.0
"""How much of that may come in the first moment; the rest is taken at four times its speed."""
BEHIND_SECONDS = 1.0
SETTLE_SECONDS = 30.0
DRIFT = 0.002
"""Part of the time by which a clock may be off; crystals are off by less than a tenth of that."""


class Clock:
    """The time, and waiting that can be ended; tests have a clock of their own."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def utc_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    def wait(self, seconds: float) -> bool:
        """Lets so much time pass; True, at once, when stopped."""
        return self._stopped.wait(max(0.0, seconds))

    def stop(self) -> None:
        """Ends all waiting, for good."""
        self._stopped.set()


class Timeline:
    """Where the blocks of successive connections belong on the stream's one sample clock.

    Args:
        rate: Hz.
        begun: `now` of sample 0.
        lossless: nothing is lost on the way that the source does not know of.
    """

    def __init__(self, rate: int, begun: float, *, lossless: bool = True) -> None:
        self._rate, self._begun, self._lossless = rate, begun, lossless
        self.end = 0
        """One past the last sample placed."""
        self._shift: int | None = None  # from a connection's positions to the stream's
        self._connected = begun
        self._least_lag, self._since = float("inf"), begun
        self._lag: float | None = None  # how far it is behind where nothing drifts
        self.drifted = 0.0
        """Seconds by which sample 0 has moved because the sender's clock is off."""

    def interrupt(self) -> None:
        """The connection is over."""
        self._shift = None

    def place(self, block: Block, now: float) -> Block:
        """The next block, where it belongs; `now` is when it came."""
        length = len(block.samples)
        clock = round((now - self._begun) * self._rate) - length
        if self._shift is None:
            # Even where no time was lost, one sample says that this is not what followed.
            self._shift = max(clock, self.end + 1 if self.end else 0) - block.start
            self._connected, self._least_lag, self._since = now, float("inf"), now
            self._lag = None
        start = max(block.start + self._shift, self.end)
        start = self._settled(start, clock, now)
        self.end = start + length
        return Block(block.samples, start, block.rate, block.sides)

    def early(self, now: float) -> float:
        """Seconds to wait before the next block may be fetched; at most 0 for at once."""
        burst = min(AHEAD_SECONDS, AT_ONCE_SECONDS + 3 * (now - self._connected))
        return self.end / self._rate - (now - self._begun) - burst

    def _settled(self, start: int, clock: int, now: float) -> int:
        """The start, or where the clock is if the audio has been behind it for long.

        A lag that grows, or shrinks, as slowly as a clock drifts is made up for by moving sample 0.
        """
        self._least_lag = min(self._least_lag, (clock - start) / self._rate)
        if now - self._since < SETTLE_SECONDS:
            return start
        lag, seconds = self._least_lag, now - self._since
        self._least_lag, self._since = float("inf"), now
        if self._lag is None or not self._lossless or abs(lag - self._lag) > BEHIND_SECONDS / 2:
            self._lag = lag
        step = max(-DRIFT * seconds, min(lag - self._lag, DRIFT * seconds))
        self._begun += step
        self.drifted += step
        lag -= step
        if lag < BEHIND_SECONDS:
            return start
        self._lag = None
        leap = round(lag * self._rate)
        assert self._shift is not None
        self._shift += leap
        return start + leap


class ReconnectingSource(threading.Thread):
    """Reads a source into an intake, again and again, until told to stop.

    Args:
        stream: its name.
        connect: opens the source at a rate, or at its own for None. May raise `Lost` where another
            try may help, and another SourceError where none ever will.
        intake: where to.
        patience: how a lost source is tried again.
        clock: the time.
        jitter: a number in [0, 1).
        lossless: nothing is lost on the way that the source does not know of.
    """

    def __init__(
        self,
        stream: str,
        connect: Callable[[int | None], TitledSource],
        intake: Door,
        patience: BackoffPolicy | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        *,
        lossless: bool = True,
    ) -> None:
        super().__init__(name=f"source {stream}", daemon=True)
        self._stream, self._connect, self._intake = stream, connect, intake
        self._clock = clock or Clock()
        self._backoff = Backoff(patience or BackoffPolicy(), jitter)
        self._source: TitledSource | None = None
        self._timeline: Timeline | None = None
        self._title: Titled | None = None
        self._rate: int | None = None
        self._lossless = lossless
        self._epoch_ns, self._drifted = 0, 0.0
        self._heard, self._stopped = 0.0, threading.Event()

    def run(self) -> None:
        """Whatever happens, the last item is an Ended."""
        ended: Ended | None = None
        while ended is None:
            ended = self._attempt()
        self._intake.put(self._stream, ended)

    def stop(self) -> None:
        """Ends the source, from another thread."""
        self._stopped.set()
        self._clock.stop()
        if (source := self._source) is not None:
            source.close()

    def _attempt(self) -> Ended | None:
        """One connection from beginning to end, and the wait after it; an Ended where it is over
        for good."""
        try:
            self._listen()
            return Ended(Reason.STREAM_CLOSED)
        except Lost as error:
            self._lost(error.cause, str(error))
        except SourceError as error:
            return Ended(Reason.STREAM_LOST, str(error))
        except Exception as error:  # a fault in one source must not touch the others
            if not self._stopped.is_set():
                log.exception("stream %s: its source failed in an unexpected way", self._stream)
            self._lost(Cause.OTHER, f"{type(error).__name__}: {error}")
        return Ended(Reason.STREAM_CLOSED) if self._stopped.is_set() else None

    def _listen(self) -> None:
        self._say(Status(SourceState.CONNECTING))
        self._heard = 0.0
        source = self._source = self._connect(self._rate)
        try:
            if self._stopped.is_set():  # `stop` came while it was opened
                return
            for item in source:
                if self._stopped.is_set():
                    return
                if isinstance(item, Titled):
                    self._tell(item)
                elif not self._deliver(item):
                    return
        finally:
            source.close()

    def _tell(self, title: Titled) -> None:
        """One that comes before the first audio waits for it: the stream is not there yet."""
        if self._timeline is None:
            self._title = title
        else:
            self._intake.put(self._stream, title)

    def _deliver(self, block: Block) -> bool:
        """Queues one block and waits until the next may be fetched; False when all is over."""
        now = self._clock.now()
        if self._timeline is None:
            lead = len(block.samples) / block.rate
            self._rate = block.rate
            self._timeline = Timeline(block.rate, now - lead, lossless=self._lossless)
            self._epoch_ns, self._drifted = self._clock.utc_ns() - round(lead * 1e9), 0.0
            self._intake.put(self._stream, Opened(block.rate, self._epoch_ns, live=True))
            title, self._title = self._title, None
            if title is not None:
                self._tell(title)
        if not self._heard:
            self._say(Status(SourceState.UP))
        self._heard += len(block.samples) / block.rate
        self._backoff.heard(self._heard)
        fits = self._intake.put(self._stream, self._timeline.place(block, now), wait=False)
        if self._timeline.drifted != self._drifted:
            self._drifted = self._timeline.drifted
            epoch_ns = self._epoch_ns + round(self._drifted * 1e9)
            self._intake.put(self._stream, ClockCorrection(epoch_ns))
        early = self._timeline.early(now)
        return fits and not (early > 0 and self._clock.wait(early))

    def _lost(self, cause: Cause, detail: str) -> None:
        """Says so, and waits for the next try."""
        if self._stopped.is_set():
            return
        self._title = None
        seconds = self._backoff.failed(cause)
        state = SourceState.STALLED if cause is Cause.STALLED else SourceState.RETRYING
        if self._backoff.open:
            # The stream is closed; should it come back, it begins as a new one.
            state, self._timeline = SourceState.FAILED, None
        if self._timeline is not None:
            self._timeline.interrupt()
        self._say(Status(state, cause, detail, round(seconds, 3)))
        self._clock.wait(seconds)

    def _say(self, status: Status) -> None:
        self._intake.put(self._stream, status)
