"""Windows to distil from: music with soft labels, mixtures with true ones, noise, speech, silence.

Windows are cut at random from the frames of whole recordings. Changes apply to the power under the
logarithm, where gains multiply and sounds add up (except for their phases): speech over music,
noise under it, levels, narrow bands, beginnings of streams. Targets are soft labels in [0, 1], or
NaN where unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.train.data.samples import TrainingSample
from streamtag.train.synthesis.prepared import PreparedWindows

T = TypeVar("T")
LABEL_STEP = 0.5
"""Seconds between two labels of a recording."""
SILENT_DB = -60.0
"""Noise of this level relative to full scale, or less, counts as silence."""
SPEECH_DB = (-6.0, 14.0)
"""Range of the level in dB of speech relative to the music under it."""
NOISE_DB = (-24.0, -3.0)
"""Range of the level in dB of noise relative to the music over it."""
GAIN_DB = (-22.0, 6.0)
"""Range of the gain in dB of every window."""
MASKING_DB = 6.0
"""If speech is louder than the music by more than this in dB, the music has no labels."""


@dataclass(frozen=True, slots=True)
class LabelledTrack:
    """A recording with soft labels."""

    versions: tuple[np.ndarray, ...]
    """(n_frames, width) each: the clean one, then degraded ones; memory-mapped."""
    labels: np.ndarray
    """(n, n_tags) float32; row i is for the window whose middle is at i · `LABEL_STEP`. With
    dimensions, it has their columns too (see `nets.dimensions`)."""
    weight: float = 1.0
    """How often it is drawn, relative to another track of its length."""


@dataclass(frozen=True, slots=True)
class KindColumns:
    """The columns of the tags that need no teacher."""

    speech: int
    music: int
    silence: int


@dataclass(frozen=True, slots=True)
class SoundMaterial:
    """The sounds that the windows of one split are made of."""

    tracks: Sequence[LabelledTrack]
    mixtures: Sequence[tuple[np.ndarray, np.ndarray]]
    """(n, window_frames, width) frames and (n, n_tags) targets."""
    noises: Sequence[np.ndarray]
    """(n_frames, width) each."""
    speech: Sequence[np.ndarray]
    tunes: Sequence[LabelledTrack] = ()
    """Rendered pieces, with labels of the tags alone: where it is known what plays when."""


class DrawnWindows:
    """What sets of windows that are drawn anew in every epoch share; fulfils `Samples`.

    Args:
        material: the sounds of one split.
        tags: names of the tags, the first targets.
        features: front end of the frames, with natural logarithms and an offset.
        window_frames: frames of a window.
        count: windows per epoch.
        shares: shares of the kinds of windows; they sum to 1.
        plain: windows for tests, to which nothing is done.
    """

    def __init__(
        self,
        material: SoundMaterial,
        tags: tuple[str, ...],
        features: FeatureConfig,
        window_frames: int,
        count: int,
        shares: tuple[float, ...],
        *,
        plain: bool,
    ) -> None:
        self.tags, self._material, self._plain = tags, material, plain
        self._features, self._size, self._count = features, window_frames, count
        self._offset = np.float32(features.log_floor + features.log_offset)
        self._silent = silent_power(features)
        self._shares = np.cumsum(shares)
        self._lengths = np.cumsum([len(t.versions[0]) * t.weight for t in material.tracks] or [1.0])
        self._truth: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def owners(self) -> np.ndarray:
        """Each window is scored alone."""
        return np.arange(self._count)

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """A random window; `i` and `epoch` do not matter."""
        raise NotImplementedError

    def truth(self) -> np.ndarray:
        """Targets of the first epoch's windows, (n, n_tags) float32, for the weights of tags."""
        if self._truth is None:
            rows = range(min(2000, self._count))
            drawn = [self.sample(i, 0, np.random.default_rng([i, 11])).targets for i in rows]
            self._truth = np.stack(drawn)[:, : len(self.tags)]
        return self._truth

    def _kind(self, rng: np.random.Generator) -> int:
        """The number of a kind of windows, drawn by the shares."""
        return int(np.searchsorted(self._shares[:-1], rng.random(), side="right"))

    def _music(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The power of `size` frames of a track, and their labels."""
        power, labels, start = self._excerpt(size, rng)
        middle = start + size / 2 / self._features.frame_rate
        return power, labels[min(round(middle / LABEL_STEP), len(labels) - 1)].copy()

    def _excerpt(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        """The power of `size` frames of a track, all labels of the track, and the second at which
        the excerpt begins."""
        at = np.searchsorted(self._lengths, rng.uniform(0, self._lengths[-1]), side="right")
        track = self._material.tracks[min(int(at), len(self._material.tracks) - 1)]
        frames = track.versions[0 if self._plain else int(rng.integers(len(track.versions)))]
        power, start = self._cut(frames, size, rng)
        return power, track.labels, start / self._features.frame_rate

    def _silence(self, rng: np.random.Generator, size: int = 0) -> np.ndarray:
        """The power of digital silence, or of a faint noise of any spectrum; of a window's length
        if no other is given."""
        power = np.zeros((size or self._size, self._features.n_mels), np.float32)
        if rng.random() < 0.6:
            level = self._silent * 10 ** (rng.uniform(-20, -1) / 10) / self._features.n_mels
            slope = np.linspace(-1, 1, self._features.n_mels) * rng.uniform(-1, 1)
            shape = np.exp(slope) / np.exp(slope).mean()
            power += (level * shape * rng.gamma(4, 0.25, power.shape)).astype(np.float32)
        return power

    def _window_of(
        self, sounds: Sequence[np.ndarray], rng: np.random.Generator, size: int = 0
    ) -> np.ndarray:
        """The power of a random window, or of `size` frames, of a random recording."""
        return self._cut(draw_one(sounds, rng), size or self._size, rng)[0]

    def _cut(
        self, frames: np.ndarray, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, int]:
        """The power of `size` frames at a random place, repeated if short, and the first one."""
        if len(frames) < size:
            frames = np.concatenate([frames] * (-(-size // len(frames)) + 1))
        start = int(rng.integers(len(frames) - size + 1))
        return self._power(frames[start : start + size]), start

    def _power(self, frames: np.ndarray) -> np.ndarray:
        out: np.ndarray = np.maximum(np.exp(frames.astype(np.float32)) - self._offset, 0)
        return out


class MixedWindows(DrawnWindows):
    """Windows of music, mixtures, sounds and silence, whose labels hold for all of the window.

    Args:
        material: the sounds of one split.
        tags: names of the targets.
        columns: the columns of the tags that need no teacher.
        features: front end of the frames, with natural logarithms and an offset.
        window_frames: frames of a window.
        first_frames: frames of the shortest provisional window.
        count: windows per epoch.
        shares: shares of tracks, mixtures, noise and speech, silence; they sum to 1.
        plain: without changes of level and bands and without other sounds, for tests.
        n_dimensions: dimensions that the labels of tracks have besides; other windows say nothing
            of them.
    """

    def __init__(
        self,
        material: SoundMaterial,
        tags: tuple[str, ...],
        columns: KindColumns,
        features: FeatureConfig,
        window_frames: int,
        first_frames: int,
        count: int,
        shares: tuple[float, float, float, float],
        *,
        plain: bool = False,
        n_dimensions: int = 0,
    ) -> None:
        super().__init__(material, tags, features, window_frames, count, shares, plain=plain)
        self._columns, self._first = columns, first_frames
        self._n_targets = len(tags) + (n_dimensions + 1 if n_dimensions else 0)
        for track in material.tracks:
            if track.labels.shape[1] != self._n_targets:
                raise RecipeError(
                    f"distil.dimensions: expected {self._n_targets} labels of each moment of a "
                    f"recording, got {track.labels.shape[1]}: the labels of its moods are missing"
                )
        self._sources = (self._of_track, self._of_mixture, self._of_sound, self._of_silence)

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """A random window; `i` and `epoch` do not matter."""
        draw = self._sources[self._kind(rng)]
        power, targets = draw(rng)
        if not self._plain:
            power = self._changed(power, rng)
        frames = np.log(np.maximum(power, 0) + self._offset).astype(np.float32)
        targets = self._with_silence(power, targets)
        if not self._plain and rng.random() < 0.2:
            frames[: self._size - int(rng.integers(self._first, self._size))] = np.log(self._offset)
        return TrainingSample(frames, targets)

    def _of_track(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Music alone, with noise under it, or with speech over it."""
        power, targets = self._music(self._size, rng)
        targets[[self._columns.speech, self._columns.music]] = 0, 1
        kind = 1.0 if self._plain else rng.random()
        if kind < 0.1 and self._material.speech:
            power, targets = self._spoken_over(power, targets, rng)
        elif kind < 0.2 and self._material.noises:
            other = self._window_of(self._material.noises, rng)
            power = power + other * relative_gain(power, other, rng.uniform(*NOISE_DB))
        return power, targets

    def _spoken_over(
        self, power: np.ndarray, targets: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        spoken = self._window_of(self._material.speech, rng)
        level = rng.uniform(*SPEECH_DB)
        if level > MASKING_DB:
            targets[:] = np.nan
            targets[self._columns.music] = 1
        targets[self._columns.speech] = 1
        return power + spoken * relative_gain(power, spoken, level), targets

    def _of_mixture(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        frames, targets = draw_one(self._material.mixtures, rng)
        i = int(rng.integers(len(frames)))
        return self._power(frames[i]), np.append(targets[i], self._targets()[len(self.tags) :])

    def _of_sound(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Noise, speech, or both: no music, and none of its tags."""
        targets, kind = self._targets(), rng.random()
        noise = self._window_of(self._material.noises, rng)
        if kind < 0.4:
            return noise, targets
        spoken = self._window_of(self._material.speech, rng)
        targets[self._columns.speech] = 1
        if kind < 0.55:
            spoken = spoken + noise * relative_gain(spoken, noise, rng.uniform(*NOISE_DB))
        return spoken, targets

    def _of_silence(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self._silence(rng), self._targets()

    def _targets(self) -> np.ndarray:
        """No tag, and no weight of the dimensions."""
        return np.zeros(self._n_targets, np.float32)

    def _changed(self, power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The power at another level, sometimes without its high or its low bands."""
        power = power * np.float32(10 ** (rng.uniform(*GAIN_DB) / 10))
        kind, bands = rng.random(), power.shape[1]
        if kind < 0.15:  # telephones, old records, coarse codecs: from about 3.5 kHz on
            power[:, int(rng.integers(round(0.6 * bands), bands)) :] = 0
        elif kind < 0.22:
            power[:, : int(rng.integers(1, bands // 6))] = 0
        return power

    def _with_silence(self, power: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Sets the target of silence to its share of the window and scales the other targets."""
        silent = float((power.sum(axis=1) < self._silent).mean())
        share = min(1.0, max(0.0, 2 * silent - 0.5))
        targets[: len(self.tags)] *= np.float32(1 - share)
        targets[len(self.tags) :][-1:] *= np.float32(1 - share)  # the weight of the dimensions
        targets[self._columns.silence] = share
        return targets


def fixed_windows(source: MixedWindows, count: int, seed: int) -> PreparedWindows:
    """Windows drawn once, with hard targets, for validation and test.

    Args:
        source: where the windows are drawn from.
        count: number of windows.
        seed: of the draw.
    """
    drawn = [source.sample(i, 0, np.random.default_rng([seed, i])) for i in range(count)]
    targets, n_tags = np.stack([s.targets for s in drawn]), len(source.tags)
    soft, dimensions = targets[:, :n_tags], targets[:, n_tags:]
    hard = np.where(np.isnan(soft), np.nan, soft >= 0.5).astype(np.float32)
    frames = np.stack([s.frames for s in drawn]).astype(np.float16)
    return PreparedWindows(frames, hard, source.tags, dimensions)


def silent_power(features: FeatureConfig) -> float:
    """The power of white noise at `SILENT_DB`, summed over the bands of one frame."""
    noise = np.random.default_rng(0).standard_normal(features.sample_rate).astype(np.float32)
    frames = frames_of(noise * np.float32(10 ** (SILENT_DB / 20)), features)
    power = np.exp(frames) - np.float32(features.log_floor + features.log_offset)
    return float(np.maximum(power, 0).sum(axis=1).mean())


def draw_one(some: Sequence[T], rng: np.random.Generator) -> T:
    """A random item."""
    return some[int(rng.integers(len(some)))]


def relative_gain(power: np.ndarray, other: np.ndarray, decibel: float) -> np.float32:
    """The factor on `other` that makes it `decibel` dB louder than `power`."""
    return np.float32((power.sum() + 1e-12) / (other.sum() + 1e-12) * 10 ** (decibel / 10))
