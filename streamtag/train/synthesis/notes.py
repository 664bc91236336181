"""Solo phrases made of recordings of single notes and hits.

The recordings are those of the data folder: Philharmonia (folder = instrument, name =
instrument_pitch_length_dynamics_articulation) and Sonic Pi (prefix = kind).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from streamtag.errors import RecipeError
from streamtag.sources.file import FileSource

PHILHARMONIA = {
    "cello": "strings",
    "double bass": "strings",
    "bassoon": "woodwind",
    "bass clarinet": "woodwind",
    "clarinet": "woodwind",
    "contrabassoon": "woodwind",
    "cor anglais": "woodwind",
    "flute": "woodwind",
    "oboe": "woodwind",
    "saxophone": "woodwind",
    "french horn": "brass",
    "trombone": "brass",
    "banjo": "guitar",
    "guitar": "guitar",
    "mandolin": "guitar",
    "percussion": "drums",
}
"""Family of each folder; `guitar` includes all plucked instruments with a neck."""

SONIC_PI = {
    "bd": "drums",
    "drum": "drums",
    "hat": "drums",
    "perc": "drums",
    "ride": "drums",
    "sn": "drums",
    "tabla": "drums",
    "bass": "bass",
    "guit": "guitar",
}
"""Family of each prefix; the others are loops of several instruments, or no instruments."""

KITS = {"bd": "machine", "hat": "machine", "sn": "machine", "drum": "kit", "ride": "kit"}
"""Prefixes whose hits are combined in a rhythm."""

NOT_DRUMS = {
    "bell tree", "flexatone", "motor horn", "spring coil", "squeaker", "swanee whistle",
    "train whistle", "wind chimes",
}  # fmt: skip
"""Sub-folders of percussion that do not sound like drums."""

UNBOWED = ("pizz", "col-legno", "snap")
"""Articulations of bowed instruments that do not sound bowed."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class NoteSample:
    """One recorded note or hit."""

    family: str
    instrument: str
    key: str
    """The split depends on it: all recordings of a pitch, all hits of a percussion instrument."""
    path: Path


def split_of(key: str) -> str:
    """The split of a recording or piece: seven tenths train, one validation, two test."""
    tenth = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10
    return SPLITS[(tenth >= 7) + (tenth >= 8)]


def samples(data: Path) -> list[NoteSample]:
    """All usable recordings.

    Raises:
        RecipeError: the folders do not exist.
    """
    found = list(_philharmonia(data / "philharmonia"))
    for path in sorted((data / "sonic-pi").glob("*.opus")):
        prefix = path.stem.split("_")[0]
        if prefix in SONIC_PI:
            family = SONIC_PI[prefix]
            found.append(NoteSample(family, KITS.get(prefix, prefix), path.stem, path))
    if not found:
        raise RecipeError(f"{data}: expected the folders philharmonia and sonic-pi, got neither")
    return found


def _philharmonia(folder: Path) -> Iterator[NoteSample]:
    for instrument, family in PHILHARMONIA.items():
        for path in sorted((folder / instrument).glob("**/*.opus")):
            if instrument == "percussion":
                if path.parent.name not in NOT_DRUMS:
                    yield NoteSample(family, instrument, path.parent.name, path)
                continue
            _, pitch, _, _, articulation, *_ = [*path.stem.split("_"), ""]
            if not (family == "strings" and any(word in articulation for word in UNBOWED)):
                yield NoteSample(family, instrument, f"{instrument} {pitch}", path)


def read(path: Path, rate: int) -> np.ndarray:
    """A recording as mono float32 at `rate`, peak at most 1."""
    try:
        audio, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
        samples = audio.mean(axis=1)
    except soundfile.LibsndfileError:  # libsndfile fails on Opus packets of loud noise
        source = FileSource(path)
        own_rate, samples = source.rate, np.concatenate([block.samples for block in source])
    if own_rate != rate:
        samples = soxr.resample(samples, own_rate, rate, quality="HQ")
    return np.ascontiguousarray(samples, np.float32)


def trim(note: np.ndarray, rate: int, below_db: float = 45.0) -> np.ndarray:
    """A note without the silence before and after it, with a peak of 1."""
    peak = float(np.abs(note).max(initial=0.0))
    if peak < 1e-4:
        return note[:0]
    loud = np.flatnonzero(np.abs(note) > peak * 10 ** (-below_db / 20))
    margin = rate // 200
    return note[max(0, loud[0] - margin) : loud[-1] + margin] / peak


def melody(
    notes: list[np.ndarray], rate: int, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """A solo phrase of sustained or plucked notes in one to three voices.

    Args:
        notes: trimmed notes of one instrument or family.
        rate: Hz.
        seconds: length of the phrase.
        rng: source of all randomness.

    Returns:
        (n,) float32, peak near 1.
    """
    out = np.zeros(round(seconds * rate), np.float32)
    pace = float(rng.uniform(0.15, 1.6))  # seconds from note to note
    detune = float(rng.uniform(-2, 2))  # semitones
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        at = float(rng.uniform(0, pace / 2))
        while at < seconds - 0.1:
            note = change_pitch(notes[int(rng.integers(len(notes)))], detune)
            length = min(len(note) / rate, pace * float(rng.uniform(0.8, 2.0)))
            _add(out, note[: round(length * rate)], round(at * rate), rng.uniform(0.5, 1))
            at += max(0.08, min(length, pace) * float(rng.choice([0.5, 1, 1, 1, 1.5])))
    return _normalised(out)


def rhythm(
    hits: list[np.ndarray], rate: int, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """A rhythm of two to five different hits on a grid, (n,) float32."""
    out = np.zeros(round(seconds * rate), np.float32)
    step = float(rng.uniform(0.09, 0.25))
    cycle = int(rng.choice([6, 8, 12, 16]))
    for _ in range(int(rng.integers(2, 6))):
        hit = change_pitch(hits[int(rng.integers(len(hits)))], float(rng.uniform(-3, 3)))
        hit = hit[: round(float(rng.uniform(0.2, 2.5)) * rate)]
        pattern = rng.random(cycle) < rng.uniform(0.1, 0.5)
        loud = float(rng.uniform(0.2, 1))
        for i in range(int(seconds / step)):
            if pattern[i % cycle]:
                _add(out, hit, round(i * step * rate), loud * rng.uniform(0.7, 1))
    return _normalised(out)


def change_pitch(note: np.ndarray, semitones: float) -> np.ndarray:
    """A note played back faster or slower, so higher or lower; linear interpolation."""
    ratio = 2 ** (semitones / 12)
    at = np.arange(0, max(len(note) - 1, 0), ratio, dtype=np.float32)
    out: np.ndarray = np.interp(at, np.arange(len(note)), note).astype(np.float32)
    return out


def _add(out: np.ndarray, note: np.ndarray, at: int, loud: float) -> None:
    """Adds a note, with its last 20 ms or so faded out."""
    note = note[: len(out) - at]
    fade = min(441, len(note))
    shape = np.ones(len(note), np.float32)
    shape[len(note) - fade :] = np.linspace(1, 0, fade, dtype=np.float32)
    out[at : at + len(note)] += note * shape * np.float32(loud)


def _normalised(out: np.ndarray) -> np.ndarray:
    return out / max(float(np.abs(out).max(initial=0.0)), 1e-3)
