"""The lossy codecs that a recipe may name, with their sample rates and bit rates."""

from dataclasses import dataclass

from streamtag.errors import RecipeError


@dataclass(frozen=True, slots=True)
class CodecSpan:
    """Sample rates and bit rates that a codec supports together."""

    rates: tuple[int, ...]
    """Sample rates in Hz."""
    kbits: tuple[int, int]
    """Smallest and largest bit rate in kbit/s of one channel."""


@dataclass(frozen=True, slots=True)
class CodecKind:
    """A family of codecs."""

    encoder: str
    """The name of its encoder in ffmpeg."""
    spans: tuple[CodecSpan, ...]


CODECS = {
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
"""The supported codecs by name."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec at one bit rate; `str` gives `mp3:32`."""

    kind: str
    """A key of `CODECS`."""
    kbit: int
    """Bit rate in kbit/s of one channel: 128 kbit/s in stereo are about 64 here."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.kbit}"


def codec_of(text: str) -> Codec:
    """Reads `KIND:KBIT`, as in `mp3:32`.

    Raises:
        RecipeError: the codec is unknown, or does not have that bit rate.
    """
    name, _, kbit = text.partition(":")
    if name not in CODECS or not (kbit.isascii() and kbit.isdecimal() and len(kbit) < 5):
        raise RecipeError(
            f"codec: expected CODEC:KBIT with CODEC one of {', '.join(CODECS)}, as in 'mp3:32', "
            f"got {text!r}"
        )
    ends = [end for span in CODECS[name].spans for end in span.kbits]
    low, high = min(ends), max(ends)
    if not low <= int(kbit) <= high:
        raise RecipeError(f"codec: expected {low} to {high} kbit/s of {name}, got {text!r}")
    return Codec(name, int(kbit))
