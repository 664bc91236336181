from collections.abc import Sequence

import numpy as np

class FrameRing:
    """A ring buffer of the newest `capacity` frames of a stream.

    Each frame keeps its index, a 64-bit number, for ever.
    """

    def __init__(self, capacity: int, width: int, start: int = 0) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def begin(self) -> int:
        """Index of the first frame that can be read."""

    @property
    def end(self) -> int:
        """Index of the newest frame plus one."""

    def push(self, frames: np.ndarray) -> None:
        """Appends (n, width) float32 frames; they overwrite the oldest ones."""

    def copy(self, first: int, count: int) -> np.ndarray:
        """Frames [first, first + count), (count, width) float32.

        Raises:
            IndexError: one of them is not in the ring.
        """

    def clear(self, start: int = 0) -> None:
        """Removes every frame; the next one gets the index `start`."""

class Extractor:
    """Front end of one stream. The keywords are fields of `FeatureConfig`, enumerations are text.

    Only one thread at a time may use it.
    """

    def __init__(
        self,
        *,
        start_frame: int = 0,
        isa: str = "",
        kind: str,
        sample_rate: int,
        n_fft: int,
        win_length: int,
        hop: int,
        window: str,
        spectrum: str,
        n_mels: int,
        f_min: float,
        f_max: float,
        mel_scale: str,
        mel_norm: str,
        order: str,
        weighting: str,
        log: str,
        log_multiplier: float,
        log_floor: float,
        log_offset: float,
        log_gain: float,
        gain: float,
        top_db: float | None,
        framing: str,
        padding: str,
        tail: str,
    ) -> None: ...
    @property
    def isa(self) -> str:
        """Instruction set of the kernel that it uses."""

    @property
    def position(self) -> int:
        """Index of the sample that comes next."""

    @property
    def nonfinite(self) -> int:
        """Samples since the start that were NaN or infinite and counted as 0."""

    peak: float
    """Largest logged value since the start, which `top_db` refers to."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Takes (n,) float32 samples and returns the frames that they complete."""

    def push_into(self, samples: np.ndarray, ring: FrameRing) -> int:
        """Like `push`, but appends the frames to the ring and returns their number."""

    def close(self) -> np.ndarray:
        """Ends the stream and returns the frames that reach beyond its end."""

    def close_into(self, ring: FrameRing) -> int:
        """Like `close`, but appends the frames to the ring and returns their number."""

    def reset(self, start_frame: int = 0) -> None:
        """Prepares for another stream, whose first frame has the index `start_frame`."""

def push_many(
    extractors: Sequence[Extractor], blocks: Sequence[np.ndarray], rings: Sequence[FrameRing]
) -> list[int]:
    """`push_into` for many streams in one call; returns the number of frames for each ring."""

def gather(
    rings: Sequence[FrameRing],
    firsts: Sequence[int],
    counts: int | Sequence[int],
    out: np.ndarray,
) -> None:
    """Copies frames [first, first + count) of each ring to the right end of its row of `out`.

    The rest of the row is not changed.

    Args:
        rings: one per row.
        firsts: index of the first frame to copy, per row.
        counts: frames to copy, for all rows or per row; at most out.shape[1].
        out: (n, n_frames, width) float32.

    Raises:
        IndexError: a frame is not in its ring. Nothing is copied then.
    """

def instruction_sets() -> list[str]:
    """Instruction sets that this CPU can run, the best one first."""

def isa() -> str:
    """The instruction set in use: the one that $STREAMTAG_ISA names, else the best."""
