"""Recordings of low and high tones with a manifest, and a recipe for a net that classifies them."""

import csv
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
RECIPE = """
name = "tones"
window_frames = 48
hop_frames = 12
first_frames = 24
description = "low and high tones"
[net]
name = "small"
[features]
sample_rate = 8000
n_fft = 256
hop = 128
n_mels = 80
log_offset = 1e-6
[recordings]
segments = 3
[fit]
batch_size = 12
normalise = true
select = "loss"
[[fit.stages]]
epochs = 12
lr = 3e-3
"""


def tone(kind: str, rng: np.random.Generator, seconds: float = 1.6) -> np.ndarray:
    """A low or a high tone with noise."""
    hertz = rng.uniform(200, 400) if kind == "low" else rng.uniform(1800, 3000)
    time = np.arange(round(seconds * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * hertz * time) + 0.02 * rng.standard_normal(len(time))
    return sound.astype(np.float32)


def write_tones(folder: Path) -> Path:
    """Writes 28 recordings, a broken one and a manifest; returns the manifest."""
    rng = np.random.default_rng(0)
    rows = [["file", "tags", "split"]]
    for split, count in (("train", 12), ("validation", 8), ("test", 8)):
        for i in range(count):
            kind = ("low", "high")[i % 2]
            name = f"{split}-{i}.flac"
            soundfile.write(folder / name, tone(kind, rng), RATE)
            rows.append([name, kind, split])
    (folder / "broken.flac").write_bytes(b"fLaC and then nothing that could be audio")
    rows.append(["broken.flac", "low", "train"])
    with (folder / "tones.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "tones.csv"
