"""What every source of audio has in common: its protocol, its titles, and when it has stalled."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from streamtag import _core
from streamtag.audio.block import Block
from streamtag.engine.events import Cause
from streamtag.sources.loss_causes import SourceLost


@dataclass(frozen=True, slots=True)
class SourceTitle:
    """What the next block of a source belongs to: a song, or a file of a folder."""

    title: str


@dataclass(frozen=True, slots=True)
class AudioArrived:
    """More audio has come through a port, whose samples go to the engine without Python."""

    port: _core.PcmPort
    arrivals: _core.Arrivals


class AudioSource(Protocol):
    """One source of audio; iterate over it once.

    It delivers blocks, or the news that audio has come through a port, about once a second.

    Iteration raises SourceError where the source fails. `close` may be called from any thread,
    more than once, and ends an iteration that is under way.
    """

    rate: int
    """Hz, of every block."""
    epoch_ns: int
    """UTC of sample 0, in nanoseconds since 1970."""
    live: bool
    """Audio comes at its own pace, so a slow consumer loses some; else it waits to be read."""

    def __iter__(self) -> Iterator[Block | AudioArrived | SourceTitle]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may take; times in seconds."""

    connect: float = 10.0
    """Until the first audio."""
    stall: float = 10.0
    """Without audio, afterwards."""
    memory: int = 1024
    """Address space of the decoder, in MiB; 0 for no limit."""


PORT_SECONDS = 10.0
"""Audio of a live source that may wait for the engine before some is left out."""


class StallTimer:
    """Decides that a source has stalled: it delivers no audio although it is connected.

    `what` names the source in the message, and `hint` what to do.
    """

    def __init__(self, what: str, limits: ConnectionLimits, hint: str = "") -> None:
        self._what, self._limits, self._hint = what, limits, hint
        self.start(first=True)

    def start(self, *, first: bool, at: float | None = None) -> None:
        """Begins a wait, for the first audio of the connection or for more; by default now."""
        self._first, self._begun = first, time.monotonic() if at is None else at
        self._seconds = self._limits.connect if first else self._limits.stall

    @property
    def waited(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds until the source has stalled."""
        return self._seconds - self.waited

    def check(self) -> None:
        """Raises SourceLost if no time is left."""
        if self.left <= 0:
            cause = Cause.TIMEOUT if self._first else Cause.STALLED
            got = f"expected audio, got none for {self._seconds:g} s{self._hint}"
            raise SourceLost(cause, f"{self._what}: {got}")
