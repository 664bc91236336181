"""Which source a stream's configuration means, and the thread that reads it."""

from functools import partial
from pathlib import Path

from streamtag.config.config import StreamConfig
from streamtag.sources.backoff import BackoffPolicy
from streamtag.sources.file import FileSource
from streamtag.sources.folder import FolderSource
from streamtag.sources.pcm import TcpSource, ZmqSource
from streamtag.sources.queue import Door, SourceReader
from streamtag.sources.reconnect import ReconnectingSource
from streamtag.sources.soundcard import Recording
from streamtag.sources.soundcard_process import CardSource
from streamtag.sources.source import PcmFormat, PcmSource, TitledSource
from streamtag.sources.url import SCHEMES, Limits, NetworkSource, Trust

LOSSY = ("udp", "rtp", "sdp", "srt", "zmq+tcp", "zmq+ipc")
"""Kinds of sources in which something may be lost without a trace."""


def receive(
    name: str, stream: StreamConfig, intake: Door, watch: bool = False
) -> SourceReader | ReconnectingSource:
    """The thread, not started yet: files and standard input end, everything else comes back.

    Args:
        name: of the stream.
        stream: its configuration.
        intake: where to.
        watch: bring both channels, too, where the source is a live one that has two.
    """
    if stream.kind in ("file", "folder", "stdin"):
        return SourceReader(name, partial(open_source, name, stream), intake)
    patience = BackoffPolicy(
        first=stream.retry_seconds, longest=stream.longest_retry_seconds,
        slow=stream.slow_retry_seconds,
    )  # fmt: skip
    connect = partial(open_source, name, stream, watch=watch)
    return ReconnectingSource(name, connect, intake, patience, lossless=stream.kind not in LOSSY)


def open_source(
    name: str, stream: StreamConfig, rate: int | None = None, *, watch: bool = False
) -> TitledSource:
    """The source of a stream.

    Args:
        name: of the stream.
        stream: its configuration.
        rate: Hz that it had when it was open before; None for the first time.
        watch: bring both channels, too, where it is a live one that has two.

    Raises:
        SourceError: it cannot be opened; `Lost` where another try may help.
    """
    rate = rate or stream.rate
    if stream.kind in SCHEMES:
        trust = Trust(stream.tls_verify, stream.ca_file)
        return NetworkSource(
            stream.source, name=name, rate=rate, limits=_limits(stream), trust=trust,
            watch=watch,
        )  # fmt: skip
    if stream.kind == "device":
        wanted = Recording(stream.place, rate, stream.channels, stream.stall_seconds, watch)
        return CardSource(wanted, name=name)
    path, pace, loop = Path(stream.place), stream.pace, stream.loop
    if stream.kind == "file":
        return FileSource(path, name=name, pace=pace, loop=loop)
    if stream.kind == "folder":
        return FolderSource(
            path, name=name, pace=pace, loop=loop, watch=stream.watch, rate=stream.rate
        )
    assert rate is not None  # StreamConfig checks it
    format, channels = PcmFormat(stream.format), stream.channels or 1
    if stream.kind == "stdin":
        return PcmSource(format, rate, channels, name=name)
    kind = TcpSource if stream.kind == "tcp" else ZmqSource
    return kind(
        stream.source, format, rate, channels, name=name, limits=_limits(stream), watch=watch
    )


def _limits(stream: StreamConfig) -> Limits:
    return Limits(stream.connect_seconds, stream.stall_seconds, stream.decoder_mb)
