"""Windows to distil from: music with soft labels, mixtures with true ones, noises, speech, silence.

Windows are cut at random from whole recordings' frames, and what happens to them happens to the
power under the logarithm, where gains multiply and sounds add up (but for their phases): speech
over music, noise under it, levels, narrow bands, beginnings of streams. Targets are soft decisions
in [0, 1]; NaN where nobody can say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import frames_of
from streamtag.train.data.samples import TrainingSample

T = TypeVar("T")
LABEL_STEP = 0.5
"""Seconds between the moments of a recording for which there are labels."""
SILENT_DB = -60.0
"""Full scale: noise of this level, and less, is silence."""
SPEECH_DB = (-6.0, 14.0)
"""Speech over music, relative to it."""
NOISE_DB = (-24.0, -3.0)
"""Noise under music."""
GAIN_DB = (-22.0, 6.0)
"""Of every window."""
MASKING_DB = 6.0
"""Music so far below the speech over it is no longer judged."""


@dataclass(frozen=True, slots=True)
class LabelledTrack:
    """A recording with soft labels."""

    versions: tuple[np.ndarray, ...]
    """(n_frames, width) each: clean, then as they might arrive; memory-mapped."""
    labels: np.ndarray
    """(n, n_tags) float32, of a window whose middle is i · `LABEL_STEP`."""
    weight: float = 1.0
    """How many times as often it is drawn as another one of its length."""


@dataclass(frozen=True, slots=True)
class KindColumns:
    """Where the tags are that the blend itself knows about."""

    speech: int
    music: int
    silence: int


@dataclass(frozen=True, slots=True)
class SoundMaterial:
    """What windows of one split are made of."""

    tracks: Sequence[LabelledTrack]
    mixtures: Sequence[tuple[np.ndarray, np.ndarray]]
    """(n, window_frames, width) frames and (n, n_tags) targets."""
    noises: Sequence[np.ndarray]
    """(n_frames, width) each."""
    voices: Sequence[np.ndarray]


class Pool(Protocol):
    """One kind of window."""

    def __call__(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Power (window_frames, width) and targets (n_tags,)."""


class MixedWindows:
    """A set of windows drawn anew in every epoch; a `samples.Samples`.

    Args:
        material: of one split.
        tags: names of the targets.
        columns: of those that are known without a teacher.
        features: of the frames; natural logarithms with an offset.
        window_frames: of a window.
        first_frames: of the shortest provisional one.
        count: windows per epoch.
        shares: of tracks, mixtures, noises and speech, silence; they sum to 1.
        plain: without changes of level, bands and company: for tests.
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
    ) -> None:
        self.tags, self._material, self._columns = tags, material, columns
        self._features, self._size, self._first = features, window_frames, first_frames
        self._count, self._plain = count, plain
        self._offset = np.float32(features.log_floor + features.log_offset)
        self._silent = silent_power(features)
        self._pools = (self._of_track, self._of_mixture, self._of_sound, self._of_silence)
        self._shares = np.cumsum(shares)
        self._lengths = np.cumsum([len(t.versions[0]) * t.weight for t in material.tracks] or [1.0])
        self._truth: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def owners(self) -> np.ndarray:
        """Each window is judged alone."""
        return np.arange(self._count)

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """A window by chance; `i` and `epoch` only count."""
        pool = self._pools[int(np.searchsorted(self._shares[:-1], rng.random(), side="right"))]
        power, targets = pool(rng)
        if not self._plain:
            power = self._changed(power, rng)
        frames = np.log(np.maximum(power, 0) + self._offset).astype(np.float32)
        targets = self._with_silence(power, targets)
        if not self._plain and rng.random() < 0.2:
            frames[: self._size - int(rng.integers(self._first, self._size))] = np.log(self._offset)
        return TrainingSample(frames, targets)

    def truth(self) -> np.ndarray:
        """Targets of the first epoch's windows, (n, n_tags) float32; for weights of tags."""
        if self._truth is None:
            rows = range(min(2000, self._count))
            drawn = [self.sample(i, 0, np.random.default_rng([i, 11])).targets for i in rows]
            self._truth = np.stack(drawn)
        return self._truth

    def _of_track(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Music as it is, with noise under it, or with somebody speaking."""
        at = np.searchsorted(self._lengths, rng.uniform(0, self._lengths[-1]), side="right")
        track = self._material.tracks[min(int(at), len(self._material.tracks) - 1)]
        frames = track.versions[0 if self._plain else int(rng.integers(len(track.versions)))]
        power, start = self._cut(frames, rng)
        middle = (start + self._size / 2) / self._features.frame_rate
        targets = track.labels[min(round(middle / LABEL_STEP), len(track.labels) - 1)].copy()
        targets[[self._columns.speech, self._columns.music]] = 0, 1
        kind = 1.0 if self._plain else rng.random()
        if kind < 0.1 and self._material.voices:
            power, targets = self._spoken_over(power, targets, rng)
        elif kind < 0.2 and self._material.noises:
            other, _ = self._cut(_draw(self._material.noises, rng), rng)
            power = power + other * _gain(power, other, rng.uniform(*NOISE_DB))
        return power, targets

    def _spoken_over(
        self, power: np.ndarray, targets: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        voice, _ = self._cut(_draw(self._material.voices, rng), rng)
        level = rng.uniform(*SPEECH_DB)
        if level > MASKING_DB:
            targets[:] = np.nan
            targets[self._columns.music] = 1
        targets[self._columns.speech] = 1
        return power + voice * _gain(power, voice, level), targets

    def _of_mixture(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        frames, targets = _draw(self._material.mixtures, rng)
        i = int(rng.integers(len(frames)))
        return self._power(frames[i]), targets[i].copy()

    def _of_sound(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A noise, a voice, or both: no music, and none of its tags."""
        targets, kind = np.zeros(len(self.tags), np.float32), rng.random()
        noise, _ = self._cut(_draw(self._material.noises, rng), rng)
        if kind < 0.4:
            return noise, targets
        voice, _ = self._cut(_draw(self._material.voices, rng), rng)
        targets[self._columns.speech] = 1
        if kind < 0.55:
            voice = voice + noise * _gain(voice, noise, rng.uniform(*NOISE_DB))
        return voice, targets

    def _of_silence(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Nothing, or a faint noise of any colour."""
        power = np.zeros((self._size, self._features.n_mels), np.float32)
        if rng.random() < 0.6:
            level = self._silent * 10 ** (rng.uniform(-20, -1) / 10) / self._features.n_mels
            slope = np.linspace(-1, 1, self._features.n_mels) * rng.uniform(-1, 1)
            shape = np.exp(slope) / np.exp(slope).mean()
            power += (level * shape * rng.gamma(4, 0.25, power.shape)).astype(np.float32)
        return power, np.zeros(len(self.tags), np.float32)

    def _cut(self, frames: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The power of a window of a recording, repeated if it is short; and where it begins."""
        if len(frames) < self._size:
            frames = np.concatenate([frames] * (-(-self._size // len(frames)) + 1))
        start = int(rng.integers(len(frames) - self._size + 1))
        return self._power(frames[start : start + self._size]), start

    def _power(self, frames: np.ndarray) -> np.ndarray:
        out: np.ndarray = np.maximum(np.exp(frames.astype(np.float32)) - self._offset, 0)
        return out

    def _changed(self, power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """At another level, sometimes without its high or its low bands."""
        power = power * np.float32(10 ** (rng.uniform(*GAIN_DB) / 10))
        kind, bands = rng.random(), power.shape[1]
        if kind < 0.15:  # telephones, old records, coarse codecs: from about 3.5 kHz on
            power[:, int(rng.integers(round(0.6 * bands), bands)) :] = 0
        elif kind < 0.22:
            power[:, : int(rng.integers(1, bands // 6))] = 0
        return power

    def _with_silence(self, power: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Says how much of the window is silence, and takes it away from everything else."""
        silent = float((power.sum(axis=1) < self._silent).mean())
        share = min(1.0, max(0.0, 2 * silent - 0.5))
        targets *= np.float32(1 - share)
        targets[self._columns.silence] = share
        return targets


class FixedWindows:
    """Windows drawn once, with hard targets; a `samples.Samples` to judge on.

    Args:
        source: where they come from.
        count: how many.
        seed: decides which.
    """

    def __init__(self, source: MixedWindows, count: int, seed: int) -> None:
        drawn = [source.sample(i, 0, np.random.default_rng([seed, i])) for i in range(count)]
        self.tags = source.tags
        self._frames = np.stack([s.frames for s in drawn]).astype(np.float16)
        soft = np.stack([s.targets for s in drawn])
        self._targets = np.where(np.isnan(soft), np.nan, soft >= 0.5).astype(np.float32)

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def owners(self) -> np.ndarray:
        """Each window is judged alone."""
        return np.arange(len(self))

    def truth(self) -> np.ndarray:
        """(n, n_tags) float32: 0, 1 or NaN."""
        return self._targets

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """The i-th window; nothing about it is random."""
        return TrainingSample(self._frames[i].astype(np.float32), self._targets[i])


def silent_power(features: FeatureConfig) -> float:
    """Sum over the bands of one frame's power, of white noise at `SILENT_DB`."""
    noise = np.random.default_rng(0).standard_normal(features.sample_rate).astype(np.float32)
    frames = frames_of(noise * np.float32(10 ** (SILENT_DB / 20)), features)
    power = np.exp(frames) - np.float32(features.log_floor + features.log_offset)
    return float(np.maximum(power, 0).sum(axis=1).mean())


def _draw(some: Sequence[T], rng: np.random.Generator) -> T:
    return some[int(rng.integers(len(some)))]


def _gain(power: np.ndarray, other: np.ndarray, decibel: float) -> np.float32:
    """What `other` must be multiplied by to be so far above `power`."""
    return np.float32((power.sum() + 1e-12) / (other.sum() + 1e-12) * 10 ** (decibel / 10))
