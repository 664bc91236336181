"""Encodes the audio of a clip into a file, with ffmpeg."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from streamtag.errors import StreamtagError
from streamtag.feed.atomic_file import atomic_file, sync
from streamtag.model.bundle import checksum
from streamtag.monitoring.clip_files import HEAD, ClipRequest
from streamtag.sources.confinement import decoder_environment
from streamtag.sources.ffmpeg import ffmpeg_path

ENCODE_SECONDS = 120.0
"""How long ffmpeg may take before it is killed."""
OPTIONS = {
    "flac": ("-c:a", "flac", "-f", "flac"),
    "opus": ("-c:a", "libopus", "-b:a", "48k", "-f", "ogg"),
}
"""Arguments of ffmpeg by format."""


class EncodingError(StreamtagError):
    """A clip could not be encoded."""


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """A clip's file."""

    begin: float
    """Stream time of its first sample."""
    end: float
    bytes: int
    sha256: str


def audio_span(audio: Path) -> tuple[float, float, int]:
    """Stream time of the begin and end of a spool file's audio, and its rate in Hz.

    Raises:
        EncodingError: the file has no audio.
    """
    size = audio.stat().st_size
    with audio.open("rb") as file:
        head = file.read(HEAD.size)
    count = (size - HEAD.size) // 2
    if count < 1:
        raise EncodingError("no audio of it was left")
    first, rate = HEAD.unpack(head)
    return first / rate, (first + count) / rate, rate


def encode(request: ClipRequest, audio: Path, path: Path, format: str) -> EncodedClip:
    """Encodes a clip into a file with metadata about the event. An existing file is kept.

    Raises:
        EncodingError: the audio cannot be encoded.
        OSError: a file cannot be read or written.
    """
    begin, end, rate = audio_span(audio)
    if end > request.last:  # the end of the event became known after the audio was written
        count = max(1, round(request.last * rate) - round(begin * rate))
        os.truncate(audio, HEAD.size + 2 * count)
        begin, end, rate = audio_span(audio)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, durable=True) as partial:
            _run_ffmpeg(request, audio, partial, rate, begin, end, OPTIONS[format])
        sync(path.parent)
    return EncodedClip(begin, end, path.stat().st_size, checksum(path))


def metadata(request: ClipRequest, begin: float, end: float) -> dict[str, str]:
    """The metadata of a clip's file."""
    return {
        "title": f"{request.stream}: {request.event}",
        "artist": request.stream,
        "date": request.utc(begin),
        "comment": f"{request.event}; stream time {begin:.3f} to {end:.3f} s; "
        f"UTC {request.utc(begin)} to {request.utc(end)}",
        "streamtag_clip": request.name,
        "streamtag_event": request.event,
    }


def _run_ffmpeg(
    request: ClipRequest,
    audio: Path,
    temporary: Path,
    rate: int,
    begin: float,
    end: float,
    options: tuple[str, ...],
) -> None:
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
    command += ["-threads", "1", "-f", "s16le", "-ar", str(rate), "-ac", "1", "-i", "pipe:0"]
    for key, value in metadata(request, begin, end).items():
        command += ["-metadata", f"{key}={value}"]
    with audio.open("rb") as file:
        os.lseek(file.fileno(), HEAD.size, os.SEEK_SET)
        try:
            done = subprocess.run(
                [*command, *options, str(temporary)],
                stdin=file,
                capture_output=True,
                timeout=ENCODE_SECONDS,
                env=decoder_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EncodingError(f"ffmpeg: took more than {ENCODE_SECONDS:g} s") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise EncodingError(f"ffmpeg: ended with status {done.returncode}: {''.join(last)}")
