"""The facts about streams and the daemon that alert rules are judged by, updated by messages.

Moments are UTC in nanoseconds since 1970; 0 stands for never, or for not now.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streamtag.feed.messages import (
    Channels,
    Clipping,
    Gap,
    Message,
    SilenceOff,
    SilenceOn,
    Stats,
    StreamDown,
    StreamStatus,
    StreamUp,
    TaggersChanged,
    TagOff,
    TagOn,
    Title,
)

LOST_STATES = ("stalled", "retrying", "failed", "lost")
"""States of a stream that lacks audio although it should have some. `lost` is a stream that ended
because its source failed."""
_LOST_REASONS = ("stream_lost", "worker_lost")
_FROM_AUDIO = (TagOn, SilenceOn, Title, Gap, Clipping)
"""Types of messages that only streams that are up have."""
_MOST_KEPT = 100_000
"""The most gaps, and the most reports of clipping, that are remembered of one stream."""
FAILURES: Mapping[str, str] = {
    "unkept": "messages are not written to the journal",
    "dropped_events": "messages were not sent",
    "dropped": "windows were not scored",
    "restarts": "ended and was started again",
}
"""What the growth of a counter means, by the last part of its name."""


def moment_known(message: Message, utc: int) -> int:
    """The moment at which an event was known. Deciding it may have needed audio after its `utc`."""
    decided = getattr(message, "decided", message.t)
    return utc + max(0, round((decided - message.t) * 1e9))


@dataclass(slots=True)
class StreamFacts:
    """The present state of one stream."""

    state: str = "unknown"
    """`up`, `paused`, `closed`, one of `LOST_STATES`, or `unknown`."""
    state_since: int = 0
    lost_since: int = 0
    """When it entered `LOST_STATES`; 0 if it is in none of them."""
    cause: str = ""
    """The cause of its state, in a word."""
    steady_since: int = 0
    """When the present models began to analyse its audio. Nothing is known of the time before."""
    on: dict[str, dict[str, int]] = field(default_factory=dict)
    """The active tags, and since when they are on, by tagger."""
    ended: dict[str, int] = field(default_factory=dict)
    """When each tag went off last."""
    silent_since: int = 0
    balance: str = "stereo"
    balance_since: int = 0
    title: str = ""
    title_since: int = 0
    gaps: deque[int] = field(default_factory=lambda: deque(maxlen=_MOST_KEPT))
    clipped: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_MOST_KEPT))
    """Reports of clipping: moment and number of samples."""
    t: float = 0.0
    """Stream time of the newest message, in seconds."""
    t_utc: int = 0
    """`utc` of the newest message."""

    @property
    def up(self) -> bool:
        """Whether its audio is being analysed."""
        return self.state == "up"

    def stream_time(self, ns: int) -> float:
        """The stream time of a moment, in seconds, as far as it is known."""
        return max(0.0, round(self.t + (ns - self.t_utc) / 1e9, 6))

    def update(self, message: Message, utc: int) -> None:
        """Updates the facts with the next message of the stream and its moment."""
        if self.state == "unknown" and isinstance(message, _FROM_AUDIO):
            self._up(utc)  # it has been up since before the first message
        match message:
            case TagOn():
                self.on.setdefault(message.tag, {})[message.tagger] = utc
            case TagOff():
                self._tag_off(message, utc)
            case StreamUp():
                self._up(utc)
            case StreamStatus():
                self._status(message, utc)
            case StreamDown():
                self._down(message, utc)
            case SilenceOn():
                self.silent_since = utc
            case SilenceOff():
                self.silent_since = 0
            case Channels():
                self.balance, self.balance_since = message.balance, utc
            case Title():
                if message.title and message.title != self.title:
                    self.title, self.title_since = message.title, utc
            case Gap():
                self.gaps.append(utc)
            case Clipping():
                self.clipped.append((utc, message.samples))
            case TaggersChanged():
                self.steady_since = utc
        if not isinstance(message, StreamStatus):
            self.t, self.t_utc = message.t, utc

    def _tag_off(self, message: TagOff, utc: int) -> None:
        taggers = self.on.get(message.tag, {})
        taggers.pop(message.tagger, None)
        if not taggers:
            self.on.pop(message.tag, None)
            self.ended[message.tag] = utc
        if message.reason in ("model_swapped", "configuration"):
            self.steady_since = utc

    def _up(self, utc: int) -> None:
        self.on.clear()
        self.ended.clear()
        self.silent_since, self.balance = 0, "stereo"
        self._change("up", utc)
        self.steady_since = utc

    def _status(self, message: StreamStatus, utc: int) -> None:
        if message.state == "connecting":  # unknown whether the stream was lost before
            return
        if message.state == "up" and not self.up:
            self.steady_since = utc
        self.cause = message.cause
        self._change(message.state, utc)

    def _down(self, message: StreamDown, utc: int) -> None:
        self.on.clear()
        self.silent_since, self.balance = 0, "stereo"
        if message.reason in _LOST_REASONS:
            if not self.lost_since:
                self.cause = message.detail
                self._change("lost", utc)
        elif self.state in LOST_STATES and not message.removed:
            return  # it was lost before the daemon ended, and may still be
        else:
            self._change("unknown" if message.final else "closed", utc)

    def _change(self, state: str, utc: int) -> None:
        if state != self.state:
            self.state, self.state_since = state, utc
        self.lost_since = (self.lost_since or utc) if state in LOST_STATES else 0


@dataclass(slots=True)
class DaemonFacts:
    """The health of the daemon, from its counters."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    """The problems of each part: `journal`, `feed`, `engine`, `bridges`, `workers`."""
    known: bool = False
    """Whether there were two sets of counters to compare."""
    _before: dict[str, float] = field(default_factory=dict)

    def update(self, message: Stats) -> None:
        """Compares the newest counters with the last ones. One that has grown is a problem."""
        before, now = self._before, dict(message.counters)
        grown = {name for name in now if name in before and now[name] > before[name]}
        self.problems, self._before, self.known = {}, now, bool(before)
        for name, value in now.items():
            part, subject = _part_of(name)
            last = name.rpartition(".")[2]
            if part and last in FAILURES and name in grown:
                self._add(part, f"{subject}{FAILURES[last]}")
            elif last in ("running", "worker_running") and not value and not before.get(name, 1):
                self._add(part, f"{subject}does not run")  # twice: it is not just being started

    def _add(self, part: str, text: str) -> None:
        self.problems.setdefault(part, []).append(text)

    def of(self, parts: Iterable[str]) -> list[str]:
        """The problems of some parts."""
        return [text for part in parts for text in self.problems.get(part, ())]


def _part_of(name: str) -> tuple[str, str]:
    """The part of the daemon that a counter belongs to, and its subject within this part."""
    head, _, rest = name.partition(".")
    if name.endswith(".unkept"):
        return "journal", ""
    if head == "feed":
        return "feed", ""
    if head in ("bridges", "workers"):
        return head, f"{head[:-1]} {rest.partition('.')[0]} "
    return ("engine", f"{head}: ") if name.endswith(".dropped") else ("", "")


@dataclass(slots=True)
class ShareWindow:
    """The share of a sliding window of time during which something was on and the stream up."""

    length: int
    """Nanoseconds."""
    _segments: deque[tuple[int, int, bool]] = field(default_factory=deque)  # begin, end, on
    _on: int = 0  # nanoseconds of the segments
    _up: int = 0
    _since: int = 0  # since when the present holds; 0 while the stream is not up
    _is_on: bool = False

    def set(self, at: int, *, up: bool, on: bool) -> None:
        """Notes whether the stream is up, and whether it is on, from a moment on."""
        if self._since and at > self._since:
            self._segments.append((self._since, at, self._is_on))
            self._up += at - self._since
            self._on += (at - self._since) * self._is_on
        self._since, self._is_on = (max(at, self._since) if up else 0), on
        self._expire(at - self.length)

    def look(self, now: int) -> tuple[int, int]:
        """How long, within the window before `now`, it was on, and the stream was up; in
        nanoseconds."""
        self._expire(begin := now - self.length)
        on, up = self._on, self._up
        if self._segments and (first := self._segments[0])[0] < begin:
            cut = begin - first[0]
            on, up = on - cut * first[2], up - cut
        if self._since:
            present = max(0, now - max(self._since, begin))
            on, up = on + present * self._is_on, up + present
        return on, up

    def _expire(self, begin: int) -> None:
        while self._segments and self._segments[0][1] <= begin:
            first, end, on = self._segments.popleft()
            self._up -= end - first
            self._on -= (end - first) * on
