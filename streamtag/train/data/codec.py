"""Lossy codecs: what audio sounds like after MP3, AAC or Opus, at the same place in time.

An ffmpeg process encodes, another one decodes; nothing touches a disk. Between them the audio is
in Matroska, which says how many samples of delay and padding the codec has added.
"""

import subprocess
from dataclasses import dataclass

import numpy as np
import soxr

from streamtag.errors import RecipeError, SourceError
from streamtag.sources.ffmpeg import ffmpeg_path

TIMEOUT = 60.0
"""Seconds for one process, besides as many as the audio lasts."""


@dataclass(frozen=True, slots=True)
class CodecSpan:
    """What a codec can do together."""

    rates: tuple[int, ...]
    """Hz."""
    kbits: tuple[int, int]
    """Smallest and largest bit rate of one channel."""


@dataclass(frozen=True, slots=True)
class CodecKind:
    """A family of codecs."""

    encoder: str
    """ffmpeg's name."""
    spans: tuple[CodecSpan, ...]


KINDS = {
    # ISO 11172-3, its extension 13818-3 to half the rates, and LAME's to a quarter ("MPEG 2.5")
    "mp3": CodecKind("libmp3lame", (
        CodecSpan((8000, 11025, 12000), (8, 64)),
        CodecSpan((16000, 22050, 24000), (8, 160)),
        CodecSpan((32000, 44100, 48000), (32, 320)),
    )),
    # ISO 14496-3, low complexity: at most 6144 bits in 1024 samples
    "aac": CodecKind("aac", (
        CodecSpan((8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), (8, 288)),
    )),
    # RFC 6716: one clock of 48 kHz
    "opus": CodecKind("libopus", (CodecSpan((48000,), (6, 256)),)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Codec:
    """One way of coding a channel of audio; `str` gives `mp3:32`."""

    kind: str
    """A key of `KINDS`."""
    kbit: int
    """kbit/s of the one channel: a station's 128 kbit/s in stereo are about 64 here."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.kbit}"


def codec_of(text: str, key: str = "codec") -> Codec:
    """Reads `KIND:KBIT`, as in `mp3:32`.

    Args:
        text: what to read.
        key: for the message.

    Raises:
        RecipeError: no such codec, or not at such a bit rate.
    """
    name, _, kbit = text.partition(":")
    if name not in KINDS or not (kbit.isascii() and kbit.isdecimal() and len(kbit) < 5):
        raise RecipeError(
            f"{key}: expected CODEC:KBIT with CODEC one of {', '.join(KINDS)}, as in 'mp3:32', "
            f"got {text!r}"
        )
    ends = [end for span in KINDS[name].spans for end in span.kbits]
    low, high = min(ends), max(ends)
    if not low <= int(kbit) <= high:
        raise RecipeError(f"{key}: expected {low} to {high} kbit/s of {name}, got {text!r}")
    return Codec(name, int(kbit))


def passed_through(samples: np.ndarray, rate: int, codec: Codec | str) -> np.ndarray:
    """Audio that was coded and decoded, (n,) float32, sample by sample where it was before.

    A codec that cannot do the rate gets the next higher one that it can do with so many bits, or
    the highest: 16 kbit/s of MP3 are 24 kHz at most.

    Args:
        samples: (n,) float32.
        rate: Hz.
        codec: `Codec`, or text for `codec_of`.

    Raises:
        RecipeError: a codec that there is not, or an ffmpeg that cannot do it.
    """
    codec = codec_of(codec) if isinstance(codec, str) else codec
    if len(samples) == 0:
        return samples
    inner = _nearest(rate, codec)
    coded = _round_trip(_resampled(samples, rate, inner), inner, codec)
    return fitting(_resampled(coded, inner, rate), len(samples))


def fitting(samples: np.ndarray, n: int) -> np.ndarray:
    """The first n samples, with silence after them if there are fewer."""
    return samples[:n] if len(samples) >= n else np.pad(samples, (0, n - len(samples)))


def _nearest(rate: int, codec: Codec) -> int:
    """The smallest rate, from the given one on, that a codec can do, or its largest."""
    spans = [s for s in KINDS[codec.kind].spans if s.kbits[0] <= codec.kbit <= s.kbits[1]]
    rates = sorted(known for span in spans for known in span.rates)
    return next((known for known in rates if known >= rate), rates[-1])


def _resampled(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    if from_rate == to_rate:
        return samples
    out: np.ndarray = soxr.resample(samples, from_rate, to_rate)
    return out


def _round_trip(samples: np.ndarray, rate: int, codec: Codec) -> np.ndarray:
    """Encoded and decoded at a rate that the codec knows."""
    raw = ["-f", "f32le", "-ar", str(rate), "-ac", "1"]
    encoder = ["-c:a", KINDS[codec.kind].encoder, "-b:a", f"{codec.kbit}k", "-f", "matroska"]
    patience = TIMEOUT + len(samples) / rate
    data = np.ascontiguousarray(samples, "<f4").tobytes()
    packed = _run([*raw, "-i", "pipe:0", *encoder, "pipe:1"], data, codec, patience)
    unpacked = _run(["-f", "matroska", "-i", "pipe:0", *raw, "pipe:1"], packed, codec, patience)
    return np.frombuffer(unpacked, "<f4").astype(np.float32)


def _run(arguments: list[str], data: bytes, codec: Codec, patience: float) -> bytes:
    """What an ffmpeg writes to its pipe when it is given some bytes; it is gone afterwards.

    Raises:
        RecipeError: it cannot be started, fails, gives nothing or takes too long.
    """
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-threads", "1"]
    program = ""
    try:
        program = _program()
        done = subprocess.run(
            [program, *quiet, *arguments],
            input=data,
            capture_output=True,
            timeout=patience,
            start_new_session=True,  # Ctrl-C is for us, who end ffmpeg ourselves
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failure(codec, program, f"no end after {patience:.0f} s") from error
    except (OSError, SourceError) as error:
        raise _failure(codec, program, str(error)) from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _failure(codec, program, said[0] if said else f"status {done.returncode}")
    return done.stdout


def _failure(codec: Codec, program: str, got: str) -> RecipeError:
    return RecipeError(
        f"codec {str(codec)!r}: expected an ffmpeg that codes with {KINDS[codec.kind].encoder!r}, "
        f"got from {program or 'the search for one'}: {got}: run `pip install imageio-ffmpeg`, "
        "which brings one, or take the codec out of augment.codecs"
    )


def _program() -> str:
    """The ffmpeg of imageio-ffmpeg, whose encoders are known, rather than any on the PATH."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return ffmpeg_path()
