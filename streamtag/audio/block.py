"""Blocks of samples, which every source delivers, and conversion of their sample rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtag import _core
from streamtag.errors import SourceError


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive mono samples of one stream.

    Raises:
        SourceError: `samples` has another shape, type or memory layout.
    """

    samples: np.ndarray
    """(n,) float32, C-contiguous, full scale ±1."""
    start: int
    """Index of the first sample since the stream began."""
    rate: int
    """Hz."""
    sides: np.ndarray | None = None
    """Left and right channel, (n, 2) float32, if they are monitored and the source has both."""

    def __post_init__(self) -> None:
        x = self.samples
        if x.ndim != 1 or x.dtype != np.float32 or not x.flags.c_contiguous:
            raise SourceError(
                "block: expected contiguous float32 samples of shape (n,), "
                f"got {'' if x.flags.c_contiguous else 'strided '}{x.dtype} of shape {x.shape}; "
                "down-mix with streamtag.audio.block.mono"
            )

    @property
    def end(self) -> int:
        """One past the last sample."""
        return self.start + len(self.samples)

    def follows(self, other: "Block") -> bool:
        """Whether this block begins where another one ends, with the same rate and channels."""
        same_format = self.rate == other.rate and (self.sides is None) == (other.sides is None)
        return same_format and self.start == other.end


def joined(blocks: Sequence[Block]) -> Block:
    """One block of several; each must follow the one before it."""
    if len(blocks) == 1:
        return blocks[0]
    sides = [block.sides for block in blocks if block.sides is not None]
    return Block(
        np.concatenate([block.samples for block in blocks]),
        blocks[0].start,
        blocks[0].rate,
        np.concatenate(sides) if sides else None,
    )


def mono(samples: np.ndarray) -> np.ndarray:
    """The mean of the channels, (n,) float32, C-contiguous.

    Args:
        samples: (n,) or (n, n_channels) float32.

    Raises:
        SourceError: another dtype or shape.
    """
    if (
        samples.dtype != np.float32
        or samples.ndim not in (1, 2)
        or samples.shape[-1:] == (0,) * (samples.ndim - 1)
    ):
        raise SourceError(
            "audio: expected float32 samples of shape (n,) or (n, n_channels), "
            f"got {samples.dtype} of shape {samples.shape}"
        )
    if samples.ndim == 1:
        return np.ascontiguousarray(samples)
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinities are counted later
        return np.ascontiguousarray(samples.mean(axis=1, dtype=np.float32))


def sides(samples: np.ndarray) -> np.ndarray | None:
    """The two channels of (n, n_channels) samples; None where there are more or fewer."""
    return samples if samples.ndim == 2 and samples.shape[1] == 2 else None


def resampled_length(n_samples: int, from_rate: int, to_rate: int) -> int:
    """Total number of samples from a `Resampler` that was closed after `n_samples`."""
    return (2 * n_samples * to_rate + from_rate) // (2 * from_rate)


class Resampler:
    """Streaming sample rate conversion; the arithmetic is in C++ (`csrc/resampler.cpp`).

    The output has the same bits however the samples are cut into blocks. It lags behind by up to a
    few hundred samples. `close` returns the rest, so that the total is `resampled_length`. If both
    rates are equal, the samples are passed through.

    Args:
        from_rate: Hz, of the input.
        to_rate: Hz, of the output.

    Raises:
        SourceError: a rate below 1 Hz, or two that have no common divisor and are very large.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self.from_rate, self.to_rate = from_rate, to_rate
        try:
            same = from_rate == to_rate and from_rate > 0
            self._resampler = None if same else _core.Resampler(from_rate, to_rate)
        except ValueError as error:
            raise SourceError(str(error)) from None

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Takes (n,) float32 samples and returns those that are ready, (m,) float32."""
        return samples if self._resampler is None else self._resampler.push(samples)

    def close(self) -> np.ndarray:
        """Ends the stream and returns the rest; only `reset` may be called afterwards."""
        return np.zeros(0, np.float32) if self._resampler is None else self._resampler.close()

    def reset(self) -> None:
        """Prepares for another stream."""
        if self._resampler is not None:
            self._resampler.reset()
