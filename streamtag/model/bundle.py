"""Bundles: a bundle is one TorchScript file that holds a model and its card.

A TorchScript file is a zip archive. The card is the member `extra/card.json`, so reading it needs
neither torch nor the model. Every bundle has a golden answer to `golden_signal`. `Tagger.load`
replays it, so that a front end, a torch or a machine that computes something else is noticed before
it tags anything.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic_core import from_json

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FEATURES_VERSION, frames_of
from streamtag.errors import BundleError
from streamtag.model.card import Card

CARD = "card.json"
LONGEST_CARD = 16 * 2**20
"""A card may have so many bytes."""


def save_bundle(path: Path, module: Any, card: Card) -> None:
    """Writes a scripted module and its card; an existing file is replaced in one step.

    Args:
        path: usually ends in `.pt`.
        module: a `torch.jit.ScriptModule` on the CPU.
        card: complete, golden answer included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    text = json.dumps(card.to_dict(), indent=1, ensure_ascii=False)
    try:
        module.save(str(partial), _extra_files={CARD: text})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_card(path: Path) -> Card:
    """The card of a bundle.

    Raises:
        BundleError: the file is missing, truncated, damaged or no bundle, or made for another
            front end.
    """
    try:
        table = from_json(_card_text(path))
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


def _card_text(path: Path) -> bytes:
    """The card's bytes. The checksums of the whole archive are verified."""
    try:
        with _archive(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise BundleError(
                    f"{path}: damaged: checksum of {damaged!r} is wrong; fetch it again"
                )
            members = [n for n in archive.namelist() if n.endswith(f"/extra/{CARD}")]
            if not members:
                raise BundleError(
                    f"{path}: not a bundle: expected a card ({CARD}) inside, found none; "
                    "make one with `streamtag import` or `streamtag train`"
                )
            if (size := archive.getinfo(members[0]).file_size) > LONGEST_CARD:
                raise BundleError(
                    f"{path}: card: expected at most {LONGEST_CARD} bytes, got {size}"
                )
            return archive.read(members[0])
    except BundleError:
        raise
    except Exception as error:  # zipfile raises many kinds of errors
        raise BundleError(f"{path}: damaged: expected a zip archive, got {error}") from error


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PK\x03\x04":
            return zipfile.ZipFile(path)
    except OSError as error:
        raise BundleError(f"{path}: expected a bundle, got {error.strerror}") from error
    except zipfile.BadZipFile as error:
        size = path.stat().st_size
        raise BundleError(
            f"{path}: truncated: its end is missing after {size} bytes; copy or fetch it again"
        ) from error
    raise BundleError(
        f"{path}: not a bundle: expected a TorchScript file, got one that begins with {magic!r}"
    )


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    config, wanted = card.features, card.window_frames
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
