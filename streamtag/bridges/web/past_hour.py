"""What each stream was like in every minute of the last hour: speech, music, silence or nothing."""

import time
from collections import Counter
from pathlib import Path

from streamtag.feed.client.stream_state import StreamState, StreamStates
from streamtag.history.history import History
from streamtag.history.intervals import Interval, StreamIntervals, within
from streamtag.history.timeline import read_timeline

MINUTES = 60
SAMPLE_SECONDS = 5.0
"""Time between two looks at the state of all streams."""
UNKNOWN, LOST, SILENCE, SOUND, MUSIC, SPEECH = b" xqoms"
"""One byte a minute. Sound is neither speech nor music; speech over music counts as speech."""
MINUTE_NS = 60 * 10**9
NOT_LOST = ("unknown", "connecting", "paused")


class PastHour:
    """The kinds of the last 60 minutes by stream, the newest last."""

    def __init__(self) -> None:
        self._cells: dict[str, bytearray] = {}
        self._counts: dict[str, Counter[int]] = {}
        self._minute = 0
        self._sampled = 0.0

    def sample(self, states: StreamStates, *, alive: bool, now: float | None = None) -> None:
        """Reads all streams again, if the last time is long enough ago.

        `now` is in seconds since 1970; None for the present.
        """
        now = time.time() if now is None else now
        if 0 <= now - self._sampled < SAMPLE_SECONDS:
            return
        self._sampled = now
        self._move_to(int(now // 60))
        for name in states:
            kind = kind_of(states[name]) if alive else UNKNOWN
            counts = self._counts.setdefault(name, Counter())
            counts[kind] += 1
            self._cells_of(name)[-1] = counts.most_common(1)[0][0]

    def fill(self, name: str, cells: bytes) -> None:
        """Takes minutes that are not known yet from another source."""
        own = self._cells_of(name)
        own[:] = bytes(a if a != UNKNOWN else b for a, b in zip(own, cells, strict=True))

    def remove(self, name: str) -> None:
        """Forgets a stream."""
        self._cells.pop(name, None)
        self._counts.pop(name, None)

    def text(self, name: str) -> str:
        """One character a minute, the newest last."""
        return self._cells.get(name, b" " * MINUTES).decode()

    def _cells_of(self, name: str) -> bytearray:
        return self._cells.setdefault(name, bytearray(b" " * MINUTES))

    def _move_to(self, minute: int) -> None:
        steps, self._minute = minute - (self._minute or minute), minute
        if steps == 0:
            return
        self._counts.clear()
        for cells in self._cells.values():
            cells[:] = (cells + b" " * min(abs(steps), MINUTES))[-MINUTES:]


def kind_of(state: StreamState) -> int:
    """What a stream is like now."""
    if not state.up:
        return UNKNOWN if state.status in NOT_LOST else LOST
    if state.silent:
        return SILENCE
    names = {tag.rpartition("---")[2].lower() for tag in state.on}
    return SPEECH if "speech" in names else MUSIC if "music" in names else SOUND


def read_past_hour(journal: Path, stream: str, now: int) -> bytes:
    """The last hour of a stream from the journal, for `PastHour.fill`; `now` in ns since 1970."""
    begin = (now // MINUTE_NS - MINUTES + 1) * MINUTE_NS
    history = History(journal)
    try:
        end = now if history.being_written else None
        found = read_timeline(history, stream, begin, now, end)
    finally:
        history.close()
    minutes = range(begin, begin + MINUTES * MINUTE_NS, MINUTE_NS)
    return bytes(_minute_kind(found, minute, min(minute + MINUTE_NS, now)) for minute in minutes)


def _minute_kind(found: StreamIntervals, begin: int, end: int) -> int:
    """What most of a minute was like."""

    def length(spans: list[Interval]) -> int:
        return sum(b - a for a, b in within(spans, begin, end))

    def on(name: str) -> int:
        spans = [s for (_, tag), s in found.on.items() if tag.rpartition("---")[2].lower() == name]
        return max(map(length, spans), default=0)

    if begin == end:
        return UNKNOWN
    received = length(found.received)
    if 2 * received < end - begin:
        return LOST if any(a < end for a, _ in found.received) else UNKNOWN
    if 2 * length(found.silent) > received:
        return SILENCE
    return SPEECH if 2 * on("speech") > received else MUSIC if 2 * on("music") > received else SOUND
