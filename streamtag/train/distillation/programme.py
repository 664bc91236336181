"""Windows of radio programmes to distil from: music, music with other sounds, and other sounds.

As in `mixing`, windows are made of whole recordings' frames, on the power under the logarithm.
These ones are long: their end may be another recording than their beginning, and then the labels
are those of the end.

A row of targets has the tags, the dimensions and their weight (see `nets.dimensions`), and the
taught classes; NaN, and for the weight 0, where unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamtag.audio.feature_config import FeatureConfig
from streamtag.errors import RecipeError
from streamtag.train.data.samples import TrainingSample
from streamtag.train.distillation.mixing import (
    DrawnWindows,
    SoundMaterial,
    draw_one,
    relative_gain,
)

SPEECH_DB = (-20.0, 20.0)
"""Range of the level in dB of speech relative to the music under it."""
HIDDEN_DB, MASKING_DB, GONE_DB = -16.0, 6.0, 16.0
"""Speech below the first level relative to the music is not certain to be heard. Above the second
the music's tags are unknown, above the third it is unknown whether there is music."""
NOISE_DB = (-24.0, -3.0)
"""Range of the level in dB of noise relative to the music over it."""
GAIN_DB = (-20.0, 6.0)
"""Range of the gain in dB of every window."""
QUIET_MUSIC_DB = -28.0
"""How many dB below the loudest faint noise music counts as silent: a front end with
pre-emphasis takes 26 dB from a tone of 200 Hz and nothing from noise."""
SHORTEST_END = 1.9
"""Seconds of the newer recording after a cut, at least."""
SPOKEN, UNDER, CUT = 0.12, 0.1, 0.15
"""Shares of the music with speech over it, with noise under it, after a cut."""
NOISE_ONLY, SPEECH_IN_NOISE = 0.4, 0.15
"""Shares of the windows of sounds: noise, and speech with noise; the rest is speech."""
VOICES = ("female voice", "male voice")
"""Tags that are unknown of speech."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The targets by name."""

    tags: Mapping[str, int]
    n_targets: int
    """Of a row, with all columns after the tags."""

    def __getitem__(self, tag: str) -> int:
        return self.tags[tag]

    @property
    def weight(self) -> int:
        """The weight of the dimensions."""
        return len(self.tags) + 2


class ProgrammeWindows(DrawnWindows):
    """Windows of a programme, whose end may be another recording than their beginning.

    Args:
        material: the sounds of one split; the labels of tracks have all columns, the targets of
            mixtures only the tags.
        tags: names of the tags.
        features: front end of the frames, with natural logarithms and an offset.
        window_frames: frames of a window.
        count: windows per epoch.
        shares: shares of tracks, mixtures, noise and speech, silence; they sum to 1.
        plain: music alone, and nothing done to it, for tests.

    Raises:
        RecipeError: the labels of a track lack columns.
    """

    def __init__(
        self,
        material: SoundMaterial,
        tags: tuple[str, ...],
        features: FeatureConfig,
        window_frames: int,
        count: int,
        shares: tuple[float, float, float, float],
        *,
        plain: bool = False,
    ) -> None:
        shares = (1.0, 0.0, 0.0, 0.0) if plain else shares
        super().__init__(material, tags, features, window_frames, count, shares, plain=plain)
        widths = {track.labels.shape[1] for track in material.tracks}
        if len(widths) != 1 or min(widths) < len(tags) + 3:
            raise RecipeError(
                f"recordings: expected labels of {len(tags)} tags, dimensions and their weight, "
                f"got tables of {sorted(widths)} columns"
            )
        self._columns = Columns({tag: i for i, tag in enumerate(tags)}, widths.pop())
        self._ends = np.cumsum([len(known) for _, known in material.mixtures])
        self._sources = (self._of_track, self._of_mixture, self._of_sound, self._of_silence)

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """A random window; `i` and `epoch` do not matter."""
        draw = self._sources[self._kind(rng)]
        power, targets = draw(rng)
        if not self._plain:
            power = self._changed(power, rng)
        frames = np.log(np.maximum(power, 0) + self._offset).astype(np.float32)
        if draw != self._of_silence:
            targets = self._with_silence(power, targets)
        return TrainingSample(frames, targets)

    def _of_track(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Music alone, with noise under it, with speech over it, or after something else."""
        kind = 1.0 if self._plain else rng.random()
        if kind < CUT:
            return self._after_a_cut(rng)
        power, targets = self._music(self._size, rng)
        if kind < CUT + SPOKEN and self._material.speech:
            return self._spoken_over(power, targets, rng)
        if kind < CUT + SPOKEN + UNDER and self._material.noises:
            other = self._window_of(self._material.noises, rng)
            power = power + other * relative_gain(power, other, rng.uniform(*NOISE_DB))
            targets[self._columns["noise"]] = np.nan
        return power, targets

    def _after_a_cut(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Music whose beginning is outside the window's beginning, where something else sounds."""
        least = round(SHORTEST_END * self._features.frame_rate)
        size = int(rng.integers(least, self._size))
        power, targets = self._music(size, rng)
        fade = min(int(rng.integers(1, 2 * least)), size)
        kind, rest = rng.random(), self._size - size + fade
        if kind < 0.6 or not self._material.speech:
            before = self._music(rest, rng)[0]
        elif kind < 0.9:
            before = self._cut(draw_one(self._material.speech, rng), rest, rng)[0]
        else:
            before = np.zeros((rest, power.shape[1]), np.float32)
        slope = (np.arange(1, fade + 1, dtype=np.float32) / (fade + 1))[:, None]
        power[:fade] = power[:fade] * slope + before[-fade:] * (1 - slope)
        self._forget_window(targets)
        return np.concatenate([before[:-fade], power]), targets

    def _spoken_over(
        self, power: np.ndarray, targets: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        spoken = self._window_of(self._material.speech, rng)
        level = rng.uniform(*SPEECH_DB)
        self._speak(targets, level)
        return power + spoken * relative_gain(power, spoken, level), targets

    def _speak(self, targets: np.ndarray, level: float) -> None:
        """Changes the targets of music under speech of a level in dB; in place."""
        self._forget_window(targets)
        if level > MASKING_DB:
            targets[:] = np.nan
            targets[self._columns["music"]] = 1 if level < GONE_DB else np.nan
            targets[self._columns.weight] = 0
        targets[self._columns["speech"]] = 1 if level > HIDDEN_DB else np.nan
        targets[[self._columns[tag] for tag in VOICES if tag in self._columns.tags]] = np.nan

    def _forget_window(self, targets: np.ndarray) -> None:
        """The taught classes are those of a window of its own."""
        targets[self._columns.weight + 1 :] = np.nan

    def _of_mixture(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if not self._material.mixtures:
            return self._of_track(rng)
        return self._any_mixture(rng)

    def _any_mixture(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A mixture, each as likely as any other, however many its set has."""
        i = int(rng.integers(self._ends[-1]))
        which = int(np.searchsorted(self._ends, i, side="right"))
        frames, known = self._material.mixtures[which]
        i, targets = i - int(self._ends[which]), self._nothing(np.nan)
        targets[: len(self.tags)] = known[i]
        return self._power(frames[i]), targets

    def _of_sound(self, rng: np.random.Generator, size: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Noise, speech, or both: no music, and none of its tags."""
        targets, kind = self._nothing(0.0), rng.random()
        noise = self._window_of(self._material.noises, rng, size)
        if kind < NOISE_ONLY:
            targets[self._columns["noise"]] = 1
            return noise, targets
        spoken = self._window_of(self._material.speech, rng, size)
        targets[self._columns["speech"]] = 1
        targets[[self._columns[tag] for tag in VOICES if tag in self._columns.tags]] = np.nan
        if kind < NOISE_ONLY + SPEECH_IN_NOISE:
            spoken = spoken + noise * relative_gain(spoken, noise, rng.uniform(*NOISE_DB))
            targets[self._columns["noise"]] = np.nan
        return spoken, targets

    def _of_silence(self, rng: np.random.Generator, size: int = 0) -> tuple[np.ndarray, np.ndarray]:
        targets = self._nothing(0.0)
        targets[self._columns["silence"]] = 1
        return self._silence(rng, size), targets

    def _nothing(self, value: float) -> np.ndarray:
        """The same for all tags; the rest is unknown."""
        out = np.full(self._columns.n_targets, np.nan, np.float32)
        out[: len(self.tags)] = value
        out[self._columns.weight] = 0
        return out

    def _changed(self, power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The power at another level, sometimes without its high or its low bands."""
        power = power * np.float32(10 ** (rng.uniform(*GAIN_DB) / 10))
        kind, bands = rng.random(), power.shape[1]
        if kind < 0.12:  # telephones, old records, coarse codecs: from about 3 kHz on
            power[:, int(rng.integers(round(0.5 * bands), bands)) :] = 0
        elif kind < 0.18:
            power[:, : int(rng.integers(1, bands // 6))] = 0
        return power

    def _with_silence(self, power: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Sets the target of silence to its share of the newest third and scales other tags."""
        return self._hush(power[-self._size // 3 :], targets)

    def _hush(self, newest: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Sets the target of silence to its share of the newest power, and scales other tags."""
        limit = self._silent * 10 ** (QUIET_MUSIC_DB / 10)
        silent = float((newest.sum(axis=1) < limit).mean())
        share = min(1.0, max(0.0, 2 * silent - 0.5))
        targets[: len(self.tags)] *= np.float32(1 - share)
        targets[self._columns.weight] *= np.float32(1 - share)
        targets[self._columns["silence"]] = share
        if share:
            self._forget_window(targets)
        return targets
