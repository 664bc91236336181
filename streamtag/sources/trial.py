"""Listens to a source for a few seconds, to see whether it would work as a stream."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamtag.audio.block import Block
from streamtag.config.stream import StreamConfig
from streamtag.errors import SourceError
from streamtag.sources.factory import open_source
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.source import AudioArrived, AudioSource, SourceTitle

LISTEN_SECONDS = 3.0
"""Audio that is enough."""
LONGEST_SECONDS = 15.0
"""The longest that a trial lasts."""


@dataclass(frozen=True, slots=True)
class SourceTrial:
    """What came of it."""

    seconds: float = 0.0
    """Of audio."""
    rate: int = 0
    """Hz, as the engine would get it."""
    peak_dbfs: float | None = None
    """None for digital silence, or no audio."""
    title: str = ""
    cause: str = ""
    """As in `stream_status`; empty if there was audio, or just too little of it."""
    detail: str = ""
    """For people."""


def try_source(stream: StreamConfig, longest: float = LONGEST_SECONDS) -> SourceTrial:
    """Opens a source, listens and closes it. It takes at most about `longest` seconds."""
    seconds, peak, title, rate = 0.0, 0.0, "", 0
    try:
        source = open_source("trial", stream)
        rate = source.rate
        with _closing_after(source, longest):
            for item in source:
                if isinstance(item, SourceTitle):
                    title = item.title
                    continue
                samples = _samples(item)
                seconds += len(samples) / rate
                peak = max(peak, float(np.abs(samples).max(initial=0.0)))
                if seconds >= LISTEN_SECONDS:
                    break
    except SourceError as error:
        if seconds == 0:
            cause = error.cause if isinstance(error, SourceLost) else "other"
            return SourceTrial(cause=str(cause), detail=str(error))
    level = float(20 * np.log10(peak)) if peak else None
    detail = "" if seconds else f"no audio within {longest:g} s"
    return SourceTrial(seconds, rate, level, title, "" if seconds else "timeout", detail)


def _samples(item: Block | AudioArrived) -> np.ndarray:
    """(n,) of what has come."""
    if isinstance(item, Block):
        return item.samples
    pieces = []
    while (taken := item.port.take(1 << 16)) is not None:
        pieces.append(taken[1])
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


@contextlib.contextmanager
def _closing_after(source: AudioSource, seconds: float) -> Iterator[None]:
    """Closes a source at the end, or when the time is over, which ends its iteration."""
    timer = threading.Timer(seconds, source.close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        source.close()
