"""Teachers: what large published taggers, on their own long windows, say to a recording.

Their probabilities are the soft labels that a small student learns from (Hinton, Vinyals, Dean:
"Distilling the Knowledge in a Neural Network", 2015). A teacher hears up to half a minute, the
student three seconds; a moment's label is what the teacher says to the window around it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.audio.front_end import frames_of
from streamtag.model.tagger import Tagger
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.evaluation.playlist import decoded

BATCH = 4
"""Windows at a time."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one teacher says along a recording."""

    moments: np.ndarray
    """(n,) float64, seconds: the middle of what was heard, rising."""
    scores: np.ndarray
    """(n, n_tags) float32, probabilities."""

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """What it says at any moments, (m, n_tags) float32: linear between its own."""
        columns = [np.interp(seconds, self.moments, column) for column in self.scores.T]
        return np.stack(columns, axis=1).astype(np.float32)


def opinion(tagger: Tagger, samples: np.ndarray, hop: float) -> Opinion:
    """A teacher's scores of every `hop` seconds of a recording, and of its end.

    Args:
        tagger: the teacher.
        samples: (n,) float32 at its rate, not empty; a recording shorter than its window is
            repeated to fill it.
        hop: seconds between the beginnings of windows.
    """
    features, size = tagger.card.features, tagger.card.window_frames
    frames = frames_of(samples, features)
    if len(frames) < size:
        frames = frames[np.arange(size) % len(frames)]
    step, last = max(1, round(hop * features.frame_rate)), len(frames) - size
    starts = [*range(0, last, step), last]
    scores = [
        tagger(np.stack([frames[s : s + size] for s in starts[i : i + BATCH]]))
        for i in range(0, len(starts), BATCH)
    ]
    middle = min(len(samples) / features.sample_rate, tagger.card.window_seconds) / 2
    moments = np.array(starts) / features.frame_rate + middle
    return Opinion(moments, np.concatenate(scores))


def opinions(
    teachers: Mapping[str, Tagger], item: Item, hops: Mapping[str, float], folder: Path
) -> dict[str, Opinion]:
    """All teachers' scores of a recording, from a file where they have been asked before.

    Args:
        teachers: by name.
        item: the recording.
        hops: seconds between windows, by teacher.
        folder: keeps what they said, one file per recording; made where it is missing.

    Raises:
        SourceError: the recording cannot be decoded.
    """
    path = folder / f"{item.name.replace('/', '+')}.npz"
    if path.exists():
        found = _read(path, teachers)
        if found is not None:
            return found
    heard: dict[int, np.ndarray] = {}
    out: dict[str, Opinion] = {}
    for name, tagger in teachers.items():
        rate = tagger.card.features.sample_rate
        if rate not in heard:
            heard[rate] = decoded(item, rate)
        out[name] = opinion(tagger, heard[rate], hops[name])
    _write(path, out, teachers)
    return out


def _write(path: Path, found: Mapping[str, Opinion], teachers: Mapping[str, Tagger]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for name, own in found.items():
        key = f"{name} {teachers[name].checksum[:12]}"
        arrays[f"{key} moments"] = own.moments
        arrays[f"{key} scores"] = own.scores.astype(np.float16)
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)  # type: ignore[arg-type]  # of NumPy: it takes any names
    part.replace(path)


def _read(path: Path, teachers: Mapping[str, Tagger]) -> dict[str, Opinion] | None:
    """What is in a file; None if one of the teachers has not been asked, or was another one."""
    out = {}
    with np.load(path) as arrays:
        for name, tagger in teachers.items():
            key = f"{name} {tagger.checksum[:12]}"
            if f"{key} moments" not in arrays:
                return None
            scores = arrays[f"{key} scores"].astype(np.float32)
            out[name] = Opinion(arrays[f"{key} moments"], scores)
    return out
