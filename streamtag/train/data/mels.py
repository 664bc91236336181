"""The mels that MTG-Jamendo publishes beside its audio: `.npy` files of shape (96, T)."""

import dataclasses
from pathlib import Path

import numpy as np

from streamtag.audio.feature_config import FeatureConfig
from streamtag.train.importing.published import JAMENDO_MEL


def fault_of(path: Path) -> str:
    """What is wrong with a file of published mels; empty if nothing is."""
    try:
        mels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        return f"{path}: expected mels, got: {error}"
    fine = mels.ndim == 2 and mels.shape[0] == JAMENDO_MEL.n_mels and mels.shape[1] > 0
    if fine and mels.dtype.kind == "f":
        return ""
    return f"{path}: expected mels of shape (96, T), got {mels.dtype} of shape {mels.shape}"


def fits(config: FeatureConfig) -> bool:
    """Whether a front end gives just what the files have, however that is written."""

    def spelt(config: FeatureConfig) -> FeatureConfig:
        return dataclasses.replace(
            config,
            f_max=config.f_max or config.sample_rate / 2,
            win_length=config.win_length or config.n_fft,
        )

    return spelt(config) == spelt(JAMENDO_MEL)


def frames_between(path: Path, start: float, end: float) -> np.ndarray:
    """Frames of [start, end) seconds, (n, 96) as a map of the file; an end of 0 is its last one."""
    rate = JAMENDO_MEL.frame_rate
    whole: np.ndarray = np.load(path, mmap_mode="r").T
    return whole[round(start * rate) : round(end * rate) or None]
