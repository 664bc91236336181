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

class LevelMeter:
    """Silence and clipping of one stream; times in samples, 0 for never.

    Changes are (kind, at, decided, since, samples); `streamtag.audio.level` names them.
    """

    def __init__(
        self,
        *,
        rate: int,
        cell: int,
        power: float,
        lag: int,
        quiet: int,
        loud: int,
        clipping_interval: int,
        start: int,
    ) -> None: ...
    def restart(self, start: int) -> None:
        """Starts again after missing audio. A silence that was reported goes on."""

    def scan(self, samples: np.ndarray) -> tuple[int, list[tuple[str, int, int, int, int]]]:
        """Measures (n,) float32 finite samples up to the first change.

        Returns:
            How many were measured, and what changed with the last of them.
        """

    def set_readings(self, cells: int, weighted: bool) -> None:
        """From now on there is a reading for every so many cells that follow each other; 0: none.

        `take_readings` takes them.
        """

    def silence_at(self, end: int) -> tuple[int, int, int | None] | None:
        """The silence in which a window ends; `end` is one past its last sample.

        Returns:
            Its first sample; one past the last sample that was needed to know it; the same for its
            end, None while it lasts. None where there is no silence.
        """

    def report_silence(self) -> list[tuple[str, int, int, int, int]]:
        """Reports the present silence, if it has not been reported yet."""

    def close(self, at: int) -> list[tuple[str, int, int, int, int]]:
        """Reports what is left when the stream ends, or is lost, at sample `at`."""

class ChannelMeter:
    """Faults of the two channels of one stream; times in samples.

    Changes are (state, at, decided); `streamtag.audio.stereo` names them.
    """

    def __init__(
        self,
        *,
        cell: int,
        power: float,
        mono_ratio: float,
        fault: int,
        recovery: int,
        start: int,
    ) -> None: ...
    def push(self, start: int, sides: np.ndarray | None) -> list[tuple[str, int, int]]:
        """Measures samples from `start` on and returns what they change.

        Args:
            start: index of the first one.
            sides: left and right, (n, 2) float32; None where the source has one channel.
        """

class Resampler:
    """Streaming sample rate conversion of finite samples.

    Raises:
        ValueError: a rate below 1 Hz, or two that need too long a filter.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None: ...
    def push(self, samples: np.ndarray) -> np.ndarray:
        """Takes (n,) float32 samples and returns those that are ready."""

    def close(self) -> np.ndarray:
        """Ends the stream and returns the rest; only `reset` may follow."""

    def reset(self) -> None:
        """Prepares for another stream."""

class AudioRing:
    """The newest samples of a stream as 16-bit numbers, each under its own index.

    Index k is the sample at k / rate seconds of stream time. Missing samples are zero. Any thread
    may read it.
    """

    def __init__(self, rate: int, capacity: int, start: int = 0) -> None: ...
    @property
    def rate(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def begin(self) -> int: ...
    @property
    def end(self) -> int: ...
    def read(self, first: int, most: int) -> tuple[int, bytes]:
        """At most so many samples from `first` on, or from the first one that is left.

        Returns:
            The index of the first sample, and the samples, native 16-bit integers.
        """

class StreamAudio:
    """The audio of one stream: what waits, its level and channels, resamplers and front ends.

    Front ends that are added at the same sample share their resampler.
    """

    def __init__(
        self, rate: int, start: int, level: LevelMeter, channels: ChannelMeter | None
    ) -> None: ...
    @property
    def end(self) -> int:
        """One past the last sample that was used."""

    @property
    def nonfinite(self) -> int:
        """Samples so far that were NaN or infinite and counted as 0."""

    @property
    def allowed(self) -> int:
        """Samples that `advance` may use."""

    def append(self, start: int, samples: np.ndarray, sides: np.ndarray | None) -> None:
        """Adds (n,) float32 samples to those that wait, and both channels, (n, 2), if any."""

    def add(self, extractor: Extractor, ring: FrameRing, piece: int) -> int:
        """Adds a front end from here on, which gets at most `piece` samples at once.

        Returns:
            Its number.
        """

    def remove(self, number: int) -> None:
        """Removes a front end."""

    def keep(self, ring: AudioRing) -> None:
        """Keeps the audio from here on in a ring, at the ring's rate."""

    def set_due(self, number: int, n_frames: int) -> None:
        """`advance` names a front end as soon as its ring has so many frames."""

    def restart(self, start: int) -> None:
        """Restarts at sample `start`, after a gap. The caller restarts the front ends."""

    def read_from(self, port: PcmPort) -> None:
        """Takes its samples from a port from now on. What waits is gone."""

class ArrivalSignal:
    """Wakes one thread when audio has come."""

    def notify(self) -> None:
        """Makes the present `wait`, or the next one, return."""

    def wait(self, seconds: float) -> bool:
        """Waits until `notify`, or so many seconds. Returns whether it was notified."""

    @property
    def dropped(self) -> int:
        """How often audio of a live source did not fit."""

    @property
    def gathered(self) -> float:
        """Seconds that audio may have waited in the reader for that of other streams."""

class Arrivals:
    """What has come through a port; times are monotonic seconds."""

    @property
    def end(self) -> int:
        """Position after the newest sample."""

    @property
    def samples(self) -> int:
        """So far."""

    @property
    def first(self) -> float:
        """When the first ones came."""

    @property
    def first_samples(self) -> int:
        """How many came then."""

    @property
    def last(self) -> float:
        """When the newest ones came, or until when its pace holds the source up."""

    @property
    def pause(self) -> float:
        """The longest between two arrivals, in seconds."""

    @property
    def least_lag(self) -> float:
        """Smallest of time · rate - position since it was asked last; infinite if nothing came."""

    @property
    def ended(self) -> bool: ...
    @property
    def closed(self) -> bool:
        """Whether we have closed it."""

    @property
    def error(self) -> int:
        """`errno` with which it ended; 0 for a plain end."""

class PcmPort:
    """One connection: the bytes of a file descriptor, as samples for the engine.

    Until `place` positions count from 0, and reading waits where ten seconds wait. Afterwards it is
    read no faster than its pace, and what does not fit is left out: a gap. Any thread may use it.
    """

    def wait(self, seconds: float) -> Arrivals:
        """Waits for the first audio, the end, `close`, `wake`, or so many seconds."""

    def wake(self) -> None:
        """Makes a `wait` return."""

    def place(self, start: int, signal: ArrivalSignal) -> None:
        """Moves what came and what will come to position `start`; notifies of it from now on."""

    def set_pace(self, begun: float, connected: float) -> None:
        """The time of sample 0, and when this connection began; monotonic seconds."""

    def skip(self, count: int) -> None:
        """What comes next is so many samples later."""

    def set_sides(self, wanted: bool) -> None:
        """Whether left and right mean something."""

    def take(self, most: int) -> tuple[int, np.ndarray, np.ndarray | None] | None:
        """Removes the oldest samples that wait, at most `most`, without a gap.

        Returns:
            Position, (n,) float32 samples, and both channels, (n, 2), if any; None if none waits.
        """

    def close(self) -> None:
        """Ends it. Nothing reads from the descriptor afterwards."""

def open_port(
    descriptor: int,
    *,
    format: str,
    rate: int,
    channels: int,
    sides: bool,
    mixed: bool,
    seam: float,
    seconds: float,
) -> PcmPort:
    """Reads a pipe or a socket in the C++ reader's thread.

    Args:
        descriptor: stays the caller's, who closes it after `PcmPort.close`.
        format: `s16le` or `f32le`.
        rate: Hz.
        channels: interleaved.
        sides: keep left and right, the first two channels of two, or of three with `mixed`.
        mixed: the last channel is the mixture; else samples are the mean of the channels.
        seam: a mono sample of this value is a gap of one sample; 0 for none.
        seconds: of audio that may wait.
    """

def allow(streams: Sequence[StreamAudio], seconds: float) -> tuple[list[int], bool]:
    """Allows `advance` to use what waits, up to so many seconds of each stream.

    Returns:
        Indices of the streams for which something waits; whether more waits than is allowed.
    """

_Progress = tuple[
    float,
    int,
    list[
        tuple[
            int,
            list[int],
            list[tuple[str, int, int, int, int]],
            list[tuple[str, int, int]],
            int | None,
        ]
    ],
    list[int],
]

def advance(streams: Sequence[StreamAudio]) -> _Progress:
    """Each stream goes on until the audio allowed is used, its level changes, a front end has got
    its piece, or samples are missing.

    Returns:
        Seconds of audio that were used, of all streams together; frames that were made; streams to
        which something happened: index, front ends due, changes of level and of channels, and where
        the audio goes on after a gap; indices of the streams that may go on.
    """

def flush(streams: Sequence[StreamAudio]) -> _Progress:
    """Gives the front ends what the resamplers hold back."""

def take_readings(meters: Sequence[LevelMeter]) -> list[tuple[int, int, float, float, float]]:
    """What the meters have read since the last call.

    Returns:
        Index of the meter, one past the last sample, mean square without DC, largest sample,
        mean square of the last four cells with K-weighting, 0 unless `weighted`.
    """

def push_many(
    extractors: Sequence[Extractor], blocks: Sequence[np.ndarray], rings: Sequence[FrameRing]
) -> list[int]:
    """`push_into` for many streams in one call; returns the number of frames for each ring."""

def append_each(rings: Sequence[FrameRing], frames: np.ndarray) -> None:
    """Appends each row of `frames`, (n, count, width) float32, to the ring of its place."""

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
