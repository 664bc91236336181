"""Creates the source that the configuration of a stream describes, and the thread that reads it."""

from functools import partial
from pathlib import Path

from streamtag.config.backoff import BackoffPolicy
from streamtag.config.stream import StreamConfig
from streamtag.sources.ffmpeg import SCHEMES
from streamtag.sources.file import FileSource
from streamtag.sources.folder import FolderSource
from streamtag.sources.pcm import PcmFormat, PcmSource, TcpSource, ZmqSource
from streamtag.sources.queue import BlockQueue, SourceReader
from streamtag.sources.reconnect import ReconnectingReader
from streamtag.sources.soundcard import DeviceSettings, SoundCardSource
from streamtag.sources.source import AudioSource, ConnectionLimits
from streamtag.sources.tls import TlsSettings
from streamtag.sources.url import UrlSource

LOSSY = ("udp", "rtp", "sdp", "srt", "zmq+tcp", "zmq+ipc")
"""Kinds of sources that may lose audio without noticing."""


def create_reader(
    name: str, stream: StreamConfig, queue: BlockQueue, key: str, *, watch: bool = False
) -> SourceReader:
    """The thread of a stream, not started yet. Files and stdin end, everything else reconnects.

    `key` is that of this source in the queue. For `watch` see `open_source`.
    """
    if stream.kind in ("file", "folder", "stdin"):
        return SourceReader(name, partial(open_source, name, stream), queue, key)
    backoff = BackoffPolicy(
        first=stream.retry_seconds, longest=stream.longest_retry_seconds,
        slow=stream.slow_retry_seconds,
    )  # fmt: skip
    connect = partial(open_source, name, stream, watch=watch)
    lossless = stream.kind not in LOSSY
    return ReconnectingReader(name, connect, queue, key, backoff=backoff, lossless=lossless)


def open_source(
    name: str, stream: StreamConfig, rate: int | None = None, *, watch: bool = False
) -> AudioSource:
    """The source of a stream.

    Args:
        name: of the stream.
        stream: its configuration.
        rate: Hz of the last time that it was open, if any.
        watch: deliver both channels as well, where a live source has two.

    Raises:
        SourceError: it cannot be opened; `SourceLost` where another try may help.
    """
    rate = rate or stream.rate
    path, pace, loop = Path(stream.place), stream.pace, stream.loop
    limits = ConnectionLimits(stream.connect_seconds, stream.stall_seconds, stream.decoder_mb)
    if stream.kind in SCHEMES:
        tls = TlsSettings(stream.tls_verify, stream.ca_file)
        return UrlSource(stream.source, rate=rate, limits=limits, tls=tls, watch=watch)
    if stream.kind == "device":
        return SoundCardSource(
            DeviceSettings(stream.place, rate, stream.channels, stream.stall_seconds, watch)
        )
    if stream.kind == "file":
        return FileSource(path, pace=pace, loop=loop)
    if stream.kind == "folder":
        return FolderSource(
            path, name=name, pace=pace, loop=loop, watch=stream.watch, rate=stream.rate
        )
    assert rate is not None  # StreamConfig checks it
    format, channels = PcmFormat(stream.format), stream.channels or 1
    if stream.kind == "stdin":
        return PcmSource(format, rate, channels, name=name)
    kind = TcpSource if stream.kind == "tcp" else ZmqSource
    return kind(stream.source, format, rate, channels, limits=limits, watch=watch)
