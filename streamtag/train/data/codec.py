"""Lossy codecs: what audio sounds like after MP3, AAC or Opus, at the same place in time.

An ffmpeg process encodes, another one decodes; nothing touches a disk. Between them the audio is
in Matroska, which says how many samples of delay and padding the codec has added.
"""

import subprocess

import numpy as np
import soxr

from streamtag.errors import RecipeError, SourceError
from streamtag.sources.file import ffmpeg_path
from streamtag.train.recipes.codecs import CODECS, Codec, codec_of

TIMEOUT = 60.0
"""Seconds for one process, besides as many as the audio lasts."""


def encode_decode(samples: np.ndarray, rate: int, codec: Codec | str) -> np.ndarray:
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
    inner = _supported_rate(rate, codec)
    coded = _round_trip(_resampled(samples, rate, inner), inner, codec)
    return fit_length(_resampled(coded, inner, rate), len(samples))


def fit_length(samples: np.ndarray, n: int) -> np.ndarray:
    """The first n samples, with silence after them if there are fewer."""
    return samples[:n] if len(samples) >= n else np.pad(samples, (0, n - len(samples)))


def _supported_rate(rate: int, codec: Codec) -> int:
    """The smallest rate, from the given one on, that a codec can do, or its largest."""
    spans = [s for s in CODECS[codec.kind].spans if s.kbits[0] <= codec.kbit <= s.kbits[1]]
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
    encoder = ["-c:a", CODECS[codec.kind].encoder, "-b:a", f"{codec.kbit}k", "-f", "matroska"]
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
        f"codec {str(codec)!r}: expected an ffmpeg that codes with {CODECS[codec.kind].encoder!r}, "
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
