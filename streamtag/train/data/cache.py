"""The feature cache: the frames of every recording on disk, computed once by the daemon's front
end.

There is one `.npy` file per recording (or part, or version of it), below a folder whose name is a
checksum of the front end's configuration. A file's name is a checksum of the recording's path, size
and modification time, and of the chain that a version went through. So a changed recording is read
again. Files are memory-mapped: a training set may be larger than memory.

A recording that cannot be read gets a `.broken` file with the reason. Remove that file to have an
unchanged recording tried again.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamtag.audio.feature_config import FeatureConfig, FrameKind
from streamtag.audio.front_end import FEATURES_VERSION
from streamtag.errors import RecipeError
from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.corpora.jamendo import (
    is_published_front_end,
    mel_file_fault,
    mel_frames,
)
from streamtag.train.data.extraction import (
    FULL_SCALE,
    HEADER,
    AudioChain,
    ExtractionJob,
    Part,
    error_note,
    extract_all,
    is_abandoned,
    partial_file,
)
from streamtag.train.data.samples import ProgressCallback, moments

VERSION = 1
"""Must be raised when the same recording would give other files."""
BLOCK = 1 << 16
"""Frames that are read at a time for their moments."""


@dataclass(frozen=True, slots=True)
class BrokenRecording:
    """A recording that cannot be used."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What was computed, found and left out."""

    made: int
    """Number of files that were computed."""
    found: int
    """Number of files that existed."""
    broken: tuple[BrokenRecording, ...]
    """Recordings that cannot be used."""

    def __str__(self) -> str:
        text = f"{self.made} made, {self.found} found, {len(self.broken)} broken"
        some = "; ".join(f"{item.name}: {item.reason}" for item in self.broken[:5])
        return f"{text} ({some}{'; …' if len(self.broken) > 5 else ''})" if some else text


class FeatureCache:
    """The frames of recordings for one front end.

    Args:
        folder: holds the caches of all front ends; created if necessary.
        config: the front end.
        chain: changes the audio of versions; it gets at most five minutes of audio at a time.
        whole_peak: `top_db` refers to the largest value of a recording, not to the largest so far.
    """

    def __init__(
        self,
        folder: Path,
        config: FeatureConfig,
        chain: AudioChain | None = None,
        *,
        whole_peak: bool = False,
    ) -> None:
        self._whole_peak = whole_peak and config.top_db is not None
        key = [VERSION, FEATURES_VERSION, config.to_dict()] + ["whole peak"] * self._whole_peak
        table = json.dumps(key, sort_keys=True)
        self.config, self.chain = config, chain
        self.folder = Path(folder) / f"frames-{_checksum(table)[:16]}"
        self._published = is_published_front_end(config)
        self._chain_key = _checksum(chain.cache_key()) if chain else ""
        self._files: dict[tuple[Path, float, float, int], Path | None] = {}
        self._lengths: dict[Path, int] = {}

    def build(
        self,
        items: Sequence[Item],
        *,
        variants: int = 0,
        workers: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> CacheReport:
        """Computes the missing frames. A recording that cannot be read is left out.

        After a kill at any moment, the next call continues with what is missing.

        Args:
            items: the recordings.
            variants: versions of each besides the clean one, numbered from 1.
            workers: processes; None means one per core, 1 means this process alone.
            progress: reports progress.

        Raises:
            RecipeError: the folder cannot be written to, or a version is wanted of a recording
                whose audio does not exist.
            SourceError: there is no ffmpeg.
        """
        self._prepare(items, variants)
        wanted = [(item, version) for item in items for version in range(variants + 1)]
        missing = [(item, v) for item, v in wanted if not self.has(item, v)]
        jobs = self._jobs([(i, v) for i, v in missing if not self.why_broken(i, v)])
        self._run(jobs, workers, progress)
        why = [(item, v, self.why_broken(item, v)) for item, v in missing]
        broken = {item.name: f"{reason}{f' (version {v})' * (v > 0)}" for item, v, reason in
                  reversed(why) if reason}  # fmt: skip
        made = len({self._file(item, v) for item, v, reason in why if not reason})
        listed = tuple(BrokenRecording(i.name, broken[i.name]) for i in items if i.name in broken)
        return CacheReport(made, len(wanted) - len(missing), listed)

    def has(self, item: Item, variant: int = 0) -> bool:
        """Whether the frames of a recording can be read."""
        if self._mels(item, variant):
            return not self.why_broken(item, variant)
        file = self._file(item, variant)
        return file is not None and self._length(file) > 0

    def why_broken(self, item: Item, variant: int = 0) -> str:
        """Why a recording cannot be used; empty if no reason is known."""
        if mels := self._mels(item, variant):
            return mel_file_fault(mels)
        if item.path.suffix == ".npy":
            return "only its published mels exist, and the recipe has another front end"
        if (file := self._file(item, variant)) is None:
            return f"{item.path}: expected a file, got nothing there"
        try:
            return error_note(file).read_text(encoding="utf-8")
        except OSError:
            return ""

    def source(self, item: Item) -> Path:
        """The file that a recording's frames come from: its audio, or its published mels."""
        return self._mels(item, 0) or item.path

    def n_frames(self, item: Item, variant: int = 0) -> int:
        """Frames of a recording.

        Raises:
            RecipeError: the cache does not have them.
        """
        if (file := self._file(item, variant)) and not self._mels(item, variant):
            if (length := self._length(file)) > 0:
                return length
            raise self._absent(item, variant)
        return len(self._open(item, variant))

    def frames(self, item: Item, variant: int = 0) -> np.ndarray:
        """All frames of a recording, (n_frames, width) float32; mels as a map of the file.

        Raises:
            RecipeError: the cache does not have them.
        """
        frames = self._open(item, variant)
        return self._scaled(frames) if frames.dtype == np.int16 else frames

    def window(self, item: Item, first: int, end: int, variant: int = 0) -> np.ndarray:
        """Frames [first, end) of a recording, as far as they exist: (n, width) float32, a copy.

        Raises:
            RecipeError: the cache does not have them.
        """
        return self._scaled(self._open(item, variant)[max(first, 0) : end])

    def moments(
        self, items: Sequence[Item], progress: ProgressCallback | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each band over all frames of some recordings, (width,) float32
        each. They are computed once and kept in the folder.

        Raises:
            RecipeError: the cache does not have the frames, or the folder cannot be written to.
        """
        path = self.folder / f"moments-{_checksum(json.dumps(self._state(items)))[:32]}.npy"
        if not path.exists():
            part = partial_file(path)
            try:
                with part.open("wb") as file:
                    np.save(file, np.stack(moments(self._blocks(items, progress))))
            except OSError as error:
                raise self._unwritable(error) from error
            part.replace(path)
        mean, deviation = np.load(path)
        return mean, deviation

    def _blocks(
        self, items: Sequence[Item], progress: ProgressCallback | None
    ) -> Iterator[np.ndarray]:
        """All frames of some recordings, up to `BLOCK` at a time."""
        for done, item in enumerate(items, 1):
            for first in range(0, self.n_frames(item), BLOCK):
                yield self.window(item, first, first + BLOCK)
            if progress:
                progress("normalisation", done, len(items))

    def _state(self, items: Sequence[Item]) -> list[list[Any]]:
        """What their frames depend on, in sorted order."""
        files = [(self._mels(item, 0) or self._file(item, 0), item) for item in items]
        return sorted(
            [str(file), file.stat().st_mtime_ns if file else 0, item.start, item.end]
            for file, item in files
        )

    def _prepare(self, items: Sequence[Item], variants: int) -> None:
        """Checks the request; creates the folder and removes abandoned files."""
        if variants and self.chain is None:
            raise RecipeError(f"variants: expected 0 without a chain, got {variants}")
        silent = [item for item in items if variants and item.path.suffix == ".npy"]
        if silent:
            raise RecipeError(
                f"{silent[0].name}: augment.audio_variants: expected 0 where there are only "
                f"published mels and no audio, got {variants} ({len(silent)} such recordings)"
            )
        ffmpeg_path()
        self._files.clear()
        self._lengths.clear()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            about = json.dumps(self.config.to_dict(), indent=1)
            (self.folder / "front-end.json").write_text(about, encoding="utf-8")
            for part in self.folder.glob("*.part"):
                if is_abandoned(part):
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> RecipeError:
        return RecipeError(
            f"{self.folder}: expected a folder to write the feature cache to, got: "
            f"{error.strerror}; choose another one"
        )

    def _jobs(self, missing: Sequence[tuple[Item, int]]) -> list[ExtractionJob]:
        """The missing files by recording, so that each recording is read once."""
        parts: dict[Path, dict[tuple[float, float], tuple[str, dict[int, Path]]]] = {}
        for item, version in missing:
            if file := self._file(item, version):
                inner = parts.setdefault(item.path, {})
                _, files = inner.setdefault((item.start, item.end), (item.name, {}))
                files[version] = file
        return [
            ExtractionJob(path, self.config, tuple(
                Part(start, end, tuple(files.items()), int(_checksum(name)[:15], 16))
                for (start, end), (name, files) in inner.items()
            ), self.chain, self._whole_peak)
            for path, inner in parts.items()
        ]  # fmt: skip

    def _run(
        self, jobs: list[ExtractionJob], workers: int | None, progress: ProgressCallback | None
    ) -> None:
        total = sum(len(part.targets) for job in jobs for part in job.parts)
        done = 0
        for job in extract_all(jobs, workers):
            done += sum(len(part.targets) for part in job.parts)
            if progress:
                progress("features", done, total)

    def _mels(self, item: Item, variant: int) -> Path | None:
        """The published mels, if this front end would give the same."""
        if variant or not self._published:
            return None
        return item.mels or (item.path if item.path.suffix == ".npy" else None)

    def _file(self, item: Item, variant: int) -> Path | None:
        """Path of the frames; None if the recording does not exist."""
        key = item.path, item.start, item.end, variant
        if key not in self._files:
            try:
                now = item.path.stat()
            except OSError:
                return None
            parts = [os.path.abspath(item.path), now.st_size, now.st_mtime_ns, item.start, item.end]
            parts += [variant, self._chain_key] if variant else []
            self._files[key] = self.folder / f"{_checksum(json.dumps(parts))[:40]}.npy"
        return self._files[key]

    def _length(self, file: Path) -> int:
        """Number of frames in a file; 0 if it is missing or incomplete."""
        if file not in self._lengths:
            try:
                with file.open("rb") as opened:
                    size = os.fstat(opened.fileno()).st_size - HEADER
                    np.lib.format.read_magic(opened)
                    shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
            except (OSError, ValueError):
                return 0
            if size != int(np.prod(shape)) * dtype.itemsize or shape[1:] != (self.config.width,):
                return 0
            self._lengths[file] = shape[0]
        return self._lengths[file]

    def _open(self, item: Item, variant: int) -> np.ndarray:
        """All frames as they are stored, as a memory map."""
        if mels := self._mels(item, variant):
            if reason := mel_file_fault(mels):
                raise RecipeError(f"{item.name}: {reason}")
            return mel_frames(mels, item.start, item.end)
        file = self._file(item, variant)
        try:
            if file is not None:
                opened: np.ndarray = np.load(file, mmap_mode="r")
                return opened
        except (OSError, ValueError) as error:
            raise self._absent(item, variant) from error
        raise self._absent(item, variant)

    def _absent(self, item: Item, variant: int) -> RecipeError:
        version = f"version {variant} of " if variant else ""
        why = self.why_broken(item, variant) or "build it first"
        return RecipeError(f"{self.folder}: expected {version}{item.name!r}, got nothing: {why}")

    def _scaled(self, frames: np.ndarray) -> np.ndarray:
        """(n, width) float32, a copy."""
        out = np.array(frames, np.float32, order="C")
        if self.config.kind is FrameKind.RAW:
            out *= np.float32(self.config.gain / FULL_SCALE)
        return out


def _checksum(what: str | bytes) -> str:
    return hashlib.sha256(what.encode() if isinstance(what, str) else what).hexdigest()
