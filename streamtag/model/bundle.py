"""Bundles: a bundle is one TorchScript file that holds a model and its card.

A bundle is a program: who loads it runs it. A TorchScript file is a zip archive. The card is the
member `extra/card.json`, so reading it needs neither torch nor the model, and runs nothing. Every
bundle has a golden answer to `golden_signal`. `Tagger.load` replays it, so that a front end, a
torch or a machine that computes something else is noticed before it tags anything.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from pydantic_core import from_json

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FEATURES_VERSION, frames_of
from streamtag.errors import BundleError
from streamtag.model.archive import BundleArchive, without_debug_info
from streamtag.model.card import Card

CARD = "card.json"
LONGEST_CARD = 16 * 2**20
"""The most bytes of a card."""
SHARE_OF_MEMORY = 8
"""The state of one stream in a model may take one part in this number of the machine's memory."""


def save_bundle(path: Path, module: Any, card: Card) -> None:
    """Writes a scripted module and its card; an existing file is replaced in one step.

    Args:
        path: usually ends in `.pt`.
        module: a `torch.jit.ScriptModule` on the CPU.
        card: complete, golden answer included.
    """
    save_script(path, module, {CARD: card.to_dict()})


def save_script(path: Path, module: Any, extra: Mapping[str, Any]) -> None:
    """Writes a scripted module and extra files, tables by name, without paths of this machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = {name: json.dumps(t, indent=1, ensure_ascii=False) for name, t in extra.items()}
    data = without_debug_info(module.save_to_buffer(_extra_files=texts))
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class BundleFile:
    """The bytes of a bundle, read once: what is checked is what is loaded.

    Args:
        path: where they were read; for messages.
        data: the whole file.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data = path, data

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file.

        Raises:
            BundleError: it cannot be read.
        """
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            raise BundleError(f"{path}: expected a bundle, got {error.strerror}") from error

    @cached_property
    def checksum(self) -> str:
        """SHA-256, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def archive(self) -> BundleArchive:
        """Its archive, whose sizes are bounded; see there for errors."""
        return BundleArchive(self.path, self.data)

    @cached_property
    def card(self) -> Card:
        """Its card. None of its code runs. For errors see `read_card`."""
        path = self.path
        self.archive.verify()
        if (text := self.archive.extra(CARD, LONGEST_CARD)) is None:
            raise BundleError(
                f"{path}: not a bundle: expected a card ({CARD}) inside, found none; "
                "make one with `streamtag import` or `streamtag train`"
            )
        try:
            table = from_json(text)
        except ValueError as error:
            raise BundleError(f"{path}: card: expected JSON, got {error!s:.200}") from error
        if not isinstance(table, dict):
            raise BundleError(f"{path}: card: expected a JSON object, got {type(table).__name__}")
        version = table.get("features_version")
        if version != FEATURES_VERSION:
            raise BundleError(
                f"{path}: made for version {version!r:.60} of the front end, but this is version "
                f"{FEATURES_VERSION}; export it again, or install a matching streamtag"
            )
        try:
            return Card(**table)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error

    def check_code(self) -> None:
        """Refuses a bundle whose code does more than compute, and one too large for this machine.

        Raises:
            BundleError: it does, with the names of the operators.
        """
        if found := self.archive.forbidden():
            raise BundleError(
                f"{self.path}: expected code that only computes, got {', '.join(found)}, which "
                "touches files, other processes or the network; do not use it"
            )
        share = _memory() // SHARE_OF_MEMORY
        if (needed := self.card.stream_bytes) > share:
            raise BundleError(
                f"{self.path}: expected a model that needs at most {share // 2**20} MiB for each "
                f"stream on this machine, got one that needs {needed // 2**20}"
            )


def read_card(path: Path) -> Card:
    """The card of a bundle. None of its code runs.

    Raises:
        BundleError: the file is missing, truncated, damaged or no bundle, or made for another
            front end.
    """
    return BundleFile.read(path).card


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _memory() -> int:
    """Bytes of memory of this machine; endless where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def golden_signal(rate: int, seconds: float) -> np.ndarray:
    """The built-in signal: rising and falling chirps, clicks and noise, (n,) float32 within ±1.

    It is computed from the sample index, without a random generator. So it is the same on every
    machine and in every version.
    """
    i = np.arange(round(rate * seconds), dtype=np.int64)
    t = i / rate
    top = 0.4 * rate
    up, down = t % 3.0 / 3.0, 1.0 - t % 1.7 / 1.7  # position within a chirp
    tones = 0.3 * np.sin(2 * np.pi * 1.5 * (top - 50) * up**2 + 2 * np.pi * 150 * up)
    tones += 0.2 * np.sin(2 * np.pi * 0.425 * top * down**2)
    level = 0.15 * (t % 2.3 / 2.3) ** 2
    clicks = np.where(i % (rate // 2) < 8, 0.3, 0.0)
    return cast(np.ndarray, (tones + level * _noise(i) + clicks).astype(np.float32))


def golden_window(card: Card) -> np.ndarray:
    """The window of the golden signal that the model is given, (1, window_frames, width)."""
    return _golden_window(card.features, card.window_frames).copy()


@lru_cache(maxsize=1)  # a load asks for its own several times
def _golden_window(config: FeatureConfig, wanted: int) -> np.ndarray:
    end = config.span(0, wanted)[1] + config.frame_hop
    frames = frames_of(golden_signal(config.sample_rate, end / config.sample_rate), config)[:wanted]
    window = np.zeros((1, wanted, config.width), np.float32)
    window[0, wanted - len(frames) :] = frames
    return window


def silence_frame(config: FeatureConfig) -> np.ndarray:
    """The frame that a front end gives for digital silence, (width,) float32."""
    frames = frames_of(np.zeros(4 * (config.span(0, 1)[1] + config.frame_hop), np.float32), config)
    return cast(np.ndarray, frames[len(frames) // 2])


def _noise(i: np.ndarray) -> np.ndarray:
    """White noise in [-1, 1): an integer hash of the index (Wellons, "lowbias32", 2018)."""
    x = i.astype(np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x.astype(np.float64) / 2**31 - 1
