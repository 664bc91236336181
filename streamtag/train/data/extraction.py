"""From recordings to files of frames, in several processes.

Recordings are read in blocks, so that a long one needs no more memory than a short one. A file gets
its final name only when it is complete.
"""

import multiprocessing
import os
import socket
import struct
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from streamtag.audio.block import Block, Resampler
from streamtag.audio.feature_config import FeatureConfig, FrameKind
from streamtag.audio.front_end import FrontEnd
from streamtag.errors import RecipeError, SourceError, StreamtagError
from streamtag.sources.file import FileSource
from streamtag.train.data.corpora.corpus import Item


class AudioChain(Protocol):
    """What the audio of a version goes through before the front end. It can be pickled."""

    def __call__(self, samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """Changes (n,) float32 samples at a rate in Hz; all chance comes from `rng`."""

    def cache_key(self) -> bytes:
        """Equal for chains that give the same audio; it names their files in the cache."""


HEADER = 128
"""Bytes of the .npy header before the frames."""
FULL_SCALE = 32768
"""The 16-bit integer that stands for a raw sample of 1.0."""
PIECE_SECONDS = 300
"""The most seconds of audio that a chain gets at a time."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a recording and the files to write for it."""

    start: float
    """Begin in seconds."""
    end: float
    """End in seconds; 0 means the end of the recording."""
    targets: tuple[tuple[int, Path], ...]
    """Files to write, each with the number of its version; 0 is the clean one."""
    seed: int
    """Seed of the chain's randomness, together with the version."""


@dataclass(frozen=True, slots=True)
class ExtractionJob:
    """One recording and all files to make from it."""

    path: Path
    config: FeatureConfig
    parts: tuple[Part, ...]
    chain: AudioChain | None
    whole_peak: bool = False
    """`top_db` refers to the largest value of a part: it is read once more, before, to find it."""


def extract(job: ExtractionJob) -> list[tuple[Path, str]]:
    """Writes the files of a job. Returns those it cannot write, with the reasons.

    If the recording is at fault, a note is written beside the missing file (`error_note`).

    Raises:
        RecipeError: the folder cannot be written to.
    """
    failed: list[tuple[Path, str]] = []
    try:
        failed = _extract(job)
        for target, reason in failed:
            _write_whole(error_note(target), reason.encode())
    except OSError as error:
        folder = job.parts[0].targets[0][1].parent
        raise RecipeError(
            f"{folder}: expected room and permission to write the feature cache, got: "
            f"{error.strerror}; "
            "free some space, or choose another folder"
        ) from error
    return failed


def error_note(target: Path) -> Path:
    """The file that records why another file could not be made."""
    return target.with_suffix(".broken")


def partial_file(target: Path) -> Path:
    """The name of a file while this process is writing it."""
    return target.with_suffix(f".{_host()}-{os.getpid()}.part")


def is_abandoned(part: Path) -> bool:
    """Whether the process that was writing a file has ended."""
    host, _, pid = part.suffixes[-2][1:].rpartition("-") if len(part.suffixes) > 1 else ("", "", "")
    if host != _host() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _is_zombie(int(pid))


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended without its parent having noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):  # the process has gone meanwhile, or this is not Linux
        return False


def _extract(job: ExtractionJob) -> list[tuple[Path, str]]:
    """Makes all files of a job; returns those that it cannot make, with the reasons."""
    peaks: dict[Path, float] = {}
    if job.whole_peak:
        _read(job, peaks, only_peaks=True)
    return _read(job, peaks)


def _read(
    job: ExtractionJob, peaks: dict[Path, float], *, only_peaks: bool = False
) -> list[tuple[Path, str]]:
    """Reads the recording once for all of its parts.

    Args:
        job: the recording and its files.
        peaks: the largest value of each file, as far as it is known; filled with `only_peaks`.
        only_peaks: write nothing.
    """
    failed: list[tuple[Path, str]] = []
    writers: list[_PartWriter] = []
    with ExitStack() as stack:
        try:
            source = stack.enter_context(closing(FileSource(job.path)))
            writers = [
                stack.enter_context(
                    _PartWriter(part, source.rate, job, None if only_peaks else peaks)
                )
                for part in job.parts
            ]
            last = max((writer.end for writer in writers), default=0)
            blocks = stack.enter_context(closing(iter(source)))  # type: ignore[type-var]
            for block in blocks:
                for writer in writers:
                    writer.push(block)
                if block.end >= last:
                    break
        except RecipeError:  # raised by the chain: it would fail for every recording
            raise
        except StreamtagError as error:
            reason = str(error).removeprefix(f"{job.path}: ")
            return [(target, reason) for part in job.parts for _, target in part.targets]
        for writer in writers:
            failed += writer.finish()
            if only_peaks:
                peaks |= writer.peaks()
    return failed


class _PartWriter:
    """Writes the files of one part; removes incomplete ones when it is left.

    Args:
        part: the part.
        rate: of the recording in Hz.
        job: front end and chain.
        peaks: the largest value of each file, if it is known before; None writes nothing.
    """

    def __init__(
        self, part: Part, rate: int, job: ExtractionJob, peaks: dict[Path, float] | None
    ) -> None:
        self._part, self._rate, self._chain = part, rate, job.chain
        self._begin = round(part.start * rate)
        self.end: float = round(part.end * rate) if part.end else float("inf")
        self._writers = {
            number: _FrameWriter(None, rate, job.config)
            if peaks is None
            else _FrameWriter(to, rate, job.config, peaks.get(to))
            for number, to in part.targets
        }
        self._pieces: list[np.ndarray] = []
        self._n_pieces = 0

    def __enter__(self) -> "_PartWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.drop()

    def push(self, block: Block) -> None:
        """Uses the samples of the next block that belong to the part."""
        first = max(self._begin - block.start, 0)
        last = min(self.end, block.end) - block.start
        if first >= last:
            return
        samples = block.samples[first : int(last)]
        if 0 in self._writers:
            self._writers[0].push(samples)
        if any(self._writers):
            self._pieces.append(samples)
            if sum(map(len, self._pieces)) >= PIECE_SECONDS * self._rate:
                self._apply_chain()

    def finish(self) -> list[tuple[Path, str]]:
        """Closes the files. Returns those that have no frames, with the reason."""
        failed = []
        if self._pieces:
            self._apply_chain()
        for number, target in self._part.targets:
            try:
                self._writers[number].close()
            except SourceError as error:
                failed.append((target, str(error)))
        return failed

    def peaks(self) -> dict[Path, float]:
        """The largest value of each file so far."""
        return {target: self._writers[number].peak for number, target in self._part.targets}

    def _apply_chain(self) -> None:
        samples = np.concatenate(self._pieces)
        for number, writer in self._writers.items():
            if number and self._chain:
                rng = np.random.default_rng([self._part.seed, number, self._n_pieces])
                changed = self._chain(samples.copy(), self._rate, rng)
                writer.push(np.ascontiguousarray(changed, np.float32))
        self._pieces.clear()
        self._n_pieces += 1


class _FrameWriter:
    """Turns samples into frames and writes them to a file.

    Args:
        target: None writes nothing.
        rate: of the samples in Hz.
        config: what to compute.
        peak: the largest value of the whole recording, if it is known.
    """

    def __init__(
        self, target: Path | None, rate: int, config: FeatureConfig, peak: float | None = None
    ) -> None:
        self._config, self._target = config, target
        self._part = partial_file(target) if target else Path(os.devnull)
        self._resampler = Resampler(rate, config.sample_rate)
        frames = (config.sample_rate + 2 * config.n_fft) // config.frame_hop + 8
        self._front_end = FrontEnd(config, frames)
        if peak is not None:
            self._front_end.peak = peak
        self._file = self._part.open("wb")
        self._file.write(bytes(HEADER))
        self._n_samples = self._n_frames = 0
        self._closed = False

    def push(self, samples: np.ndarray) -> None:
        """Adds (n,) float32 samples at the recording's rate."""
        self._n_samples += len(samples)
        self._frame(self._resampler.push(samples))

    def close(self) -> None:
        """Writes the last frames and gives the file its final name.

        Raises:
            SourceError: there are no frames.
        """
        self._frame(self._resampler.close())
        self._write(self._front_end.close())
        if self._n_frames == 0:
            seconds = self._n_samples / self._resampler.from_rate
            raise SourceError(f"expected audio for at least one frame, got {seconds:.3f} s")
        self._file.seek(0)
        self._file.write(header(self._n_frames, self._config))
        self._file.close()
        if self._target:
            self._part.replace(self._target)
        self._closed = True

    @property
    def peak(self) -> float:
        """The largest value so far that `top_db` refers to."""
        return self._front_end.peak

    def drop(self) -> None:
        """Removes the file unless it was closed."""
        if not self._closed:
            with suppress(OSError):  # a full disk fails again
                self._file.close()
            if self._target:
                self._part.unlink(missing_ok=True)

    def _frame(self, samples: np.ndarray) -> None:
        step = self._config.sample_rate  # the ring holds the frames of so many
        for i in range(0, len(samples), step):
            self._write(self._front_end.push(np.ascontiguousarray(samples[i : i + step])))

    def _write(self, n: int) -> None:
        """Appends the newest `n` frames."""
        if n == 0:
            return
        ring = self._front_end.ring
        frames = ring.copy(ring.end - n, n)
        if self._config.kind is FrameKind.RAW:
            scaled = np.round(frames * (FULL_SCALE / self._config.gain))
            frames = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype("<i2")
        self._file.write(frames.data)
        self._n_frames += n


def header(n_frames: int, config: FeatureConfig) -> bytes:
    """The header of a .npy file of frames (NumPy format 1.0), always `HEADER` bytes long."""
    kind = "<i2" if config.kind is FrameKind.RAW else "<f4"
    fields = {"descr": kind, "fortran_order": False, "shape": (n_frames, config.width)}
    text = repr(fields).ljust(HEADER - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10) + text.encode()


def _host() -> str:
    """The machine's name without dots."""
    return socket.gethostname().replace(".", "_")


def _write_whole(path: Path, data: bytes) -> None:
    part = partial_file(path)
    part.write_bytes(data)
    part.replace(path)


def extract_all(jobs: Sequence[ExtractionJob], workers: int | None) -> Iterator[ExtractionJob]:
    """Runs the jobs in processes; yields each one when it is done.

    Args:
        jobs: the recordings.
        workers: processes; None means one per core, 1 means this process alone.

    Raises:
        RecipeError: the folder cannot be written to, or a process was killed.
    """
    workers = min(workers or _cores(), len(jobs))
    if workers <= 1:
        for job in jobs:
            extract(job)
            yield job
        return
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _exit_with_parent
    ) as pool:
        try:
            running = {pool.submit(extract, job): job for job in jobs}
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BrokenProcessPool as error:
            raise RecipeError(
                "feature cache: expected every process to finish, but one was killed, perhaps for "
                "lack of memory; run it again with fewer workers: finished files are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _exit_with_parent() -> None:
    """Ends this process when its parent has ended, also by `kill -9`."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def _cores() -> int:
    """Number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def read_samples(item: Item, rate: int, longest: float = 0.0) -> np.ndarray:
    """A recording, or a part of it, as (n,) float32 at a rate.

    Args:
        item: the recording.
        rate: Hz.
        longest: seconds after which it is cut off; 0 means never.

    Raises:
        SourceError: it cannot be decoded, or is empty.
    """
    if item.path.suffix == ".npy":
        raise SourceError(
            f"{item.path}: expected audio, got frames: a live bundle computes its own; name the "
            "folder with the audio files"
        )
    with closing(FileSource(item.path)) as source, closing(_blocks_of(source)) as blocks:
        first = round(item.start * source.rate)
        lengths = [item.end - item.start if item.end else 0.0, longest]
        seconds = min((s for s in lengths if s > 0), default=None)
        last = None if seconds is None else first + round(seconds * source.rate)
        resampler = Resampler(source.rate, rate)
        parts = []
        for block in blocks:
            if block.end > first:
                piece = block.samples[max(0, first - block.start) :]
                if last is not None and block.end > last:
                    piece = piece[: max(0, len(piece) - (block.end - last))]
                parts.append(resampler.push(np.ascontiguousarray(piece)))
            if last is not None and block.end >= last:
                break
        samples = np.concatenate([*parts, resampler.close()])
    if not len(samples):
        raise SourceError(f"{item.path}: expected audio from {item.start:g} s on, got none")
    return samples


def _blocks_of(source: FileSource) -> Generator[Block, None, None]:
    """The blocks of a source as a generator that can be closed before its end."""
    yield from source
