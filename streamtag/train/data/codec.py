"""Lossy codecs: audio after MP3, AAC or Opus, without a shift in time.

One ffmpeg process encodes and another one decodes, through pipes. The audio between them is in
Matroska, which records how many samples of delay and padding the codec has added.
"""

import subprocess

import numpy as np
import soxr

from streamtag.errors import RecipeError, SourceError
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.train.recipes.codecs import CODECS, Codec, codec_of

TIMEOUT = 60.0
"""How many seconds an ffmpeg process may take in addition to the length of the audio."""


def encode_decode(samples: np.ndarray, rate: int, codec: Codec | str) -> np.ndarray:
    """Audio after encoding and decoding, (n,) float32, aligned with the input.

    If a codec does not support the rate, the next higher rate is used that it supports at this bit
    rate, or its highest: 16 kbit/s of MP3 are 24 kHz at most.

    Args:
        samples: (n,) float32.
        rate: Hz.
        codec: `Codec`, or text for `codec_of`.

    Raises:
        RecipeError: the codec is unknown, or ffmpeg does not support it.
    """
    codec = codec_of(codec) if isinstance(codec, str) else codec
    if len(samples) == 0:
        return samples
    inner = _supported_rate(rate, codec)
    coded = _round_trip(_resampled(samples, rate, inner), inner, codec)
    return fit_length(_resampled(coded, inner, rate), len(samples))


def fit_length(samples: np.ndarray, n: int) -> np.ndarray:
    """The first n samples, padded with silence if there are fewer."""
    return samples[:n] if len(samples) >= n else np.pad(samples, (0, n - len(samples)))


def _supported_rate(rate: int, codec: Codec) -> int:
    """The smallest rate from `rate` on that a codec supports, or its largest."""
    spans = [s for s in CODECS[codec.kind].spans if s.kbits[0] <= codec.kbit <= s.kbits[1]]
    rates = sorted(known for span in spans for known in span.rates)
    return next((known for known in rates if known >= rate), rates[-1])


def _resampled(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    if from_rate == to_rate:
        return samples
    out: np.ndarray = soxr.resample(samples, from_rate, to_rate)
    return out


def _round_trip(samples: np.ndarray, rate: int, codec: Codec) -> np.ndarray:
    """Encodes and decodes at a rate that the codec supports."""
    raw = ["-f", "f32le", "-ar", str(rate), "-ac", "1"]
    encoder = ["-c:a", CODECS[codec.kind].encoder, "-b:a", f"{codec.kbit}k", "-f", "matroska"]
    timeout = TIMEOUT + len(samples) / rate
    data = np.ascontiguousarray(samples, "<f4").tobytes()
    packed = _run([*raw, "-i", "pipe:0", *encoder, "pipe:1"], data, codec, timeout)
    unpacked = _run(["-f", "matroska", "-i", "pipe:0", *raw, "pipe:1"], packed, codec, timeout)
    return np.frombuffer(unpacked, "<f4").astype(np.float32)


def _run(arguments: list[str], data: bytes, codec: Codec, timeout: float) -> bytes:
    """The output of ffmpeg for some input. The process has ended when this returns.

    Raises:
        RecipeError: ffmpeg cannot be started, fails, writes nothing or takes too long.
    """
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-threads", "1"]
    program = ""
    try:
        program = _program()
        done = subprocess.run(
            [program, *quiet, *arguments],
            input=data,
            capture_output=True,
            timeout=timeout,
            start_new_session=True,  # Ctrl-C must reach this process only, which ends ffmpeg
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failure(codec, program, f"no end after {timeout:.0f} s") from error
    except (OSError, SourceError) as error:
        raise _failure(codec, program, str(error)) from error
    if done.returncode or not done.stdout:
        errors = done.stderr.decode(errors="replace").strip().splitlines()
        raise _failure(codec, program, errors[0] if errors else f"status {done.returncode}")
    return done.stdout


def _failure(codec: Codec, program: str, got: str) -> RecipeError:
    return RecipeError(
        f"codec {str(codec)!r}: expected an ffmpeg that codes with {CODECS[codec.kind].encoder!r}, "
        f"got from {program or 'the search for one'}: {got}: run `pip install imageio-ffmpeg`, "
        "which brings one, or take the codec out of augment.codecs"
    )


def _program() -> str:
    """The ffmpeg of imageio-ffmpeg, whose encoders are known, before one on the PATH."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return ffmpeg_path()
