"""Segments of a second or two whose families of instruments are known, for the small net beside a
trunk: excerpts of rendered tunes, mixtures of notes, and sounds without music.

It needs many of them, and one costs it little. So each is drawn anew, at another level, with
other colours, without some bands, and often on top of another one.
"""

import numpy as np

from streamtag.audio.feature_config import FeatureConfig
from streamtag.train.data.samples import TrainingSample
from streamtag.train.distillation.mixing import (
    LABEL_STEP,
    DrawnWindows,
    SoundMaterial,
    draw_one,
)

GROUP = 8
"""Segments of a sample, so that batches are large enough for so small a net."""
SHARES = (0.5, 0.42, 0.08)
"""Shares of tunes, mixtures, and noise or speech."""
TOGETHER = 0.35
"""The share of segments that are two at once."""
GAIN_DB = (-17.0, 6.5)
"""Range of the gain in dB."""
COLOUR_DB, COLOUR_NODES = 2.6, 6
"""Deviation in dB of a random curve over the bands, and the bands that it is drawn at."""
MASKED, MOST_MASKED = 0.3, 10
"""The share of segments that lack some adjacent bands, and how many at most."""
SILENT_LOG = -8.0
"""A segment of a mixture whose loudest value is below this has nothing of it."""


class FamilySegments(DrawnWindows):
    """Groups of segments and their families; fulfils `Samples`.

    A sample has the frames of `GROUP` segments, one after the other, and (`GROUP`, n_families)
    targets.

    Args:
        material: its tunes and mixtures; the labels of both have a column per tag.
        tags: names of these columns.
        families: the columns that are families of instruments; the targets.
        features: front end of the frames, with natural logarithms and an offset.
        frames: of a segment.
        count: segments per epoch.
    """

    def __init__(
        self,
        material: SoundMaterial,
        tags: tuple[str, ...],
        families: tuple[int, ...],
        features: FeatureConfig,
        frames: int,
        count: int,
    ) -> None:
        groups = max(1, count // GROUP)
        super().__init__(material, tags, features, frames, groups, SHARES, plain=False)
        self._ends = np.cumsum([len(known) for _, known in material.mixtures])
        self._columns = np.array(families)
        self.tags = tuple(tags[column] for column in families)

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """A random group; `i` and `epoch` do not matter."""
        frames, targets = zip(*(self._segment(rng) for _ in range(GROUP)), strict=True)
        return TrainingSample(np.concatenate(frames), np.stack(targets))

    def truth(self) -> np.ndarray:
        """Targets of some segments, (n, n_families) float32."""
        rows = range(min(250, len(self)))
        return np.concatenate([self.sample(i, 0, np.random.default_rng(i)).targets for i in rows])

    def _segment(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random segment."""
        power, targets = self._changed_one(rng)
        if rng.random() < TOGETHER:
            other, more = self._changed_one(rng)
            power = power + other
            known = np.where((targets == 1) | (more == 1), 1, np.maximum(targets, more))
            targets = known.astype(np.float32)
        if rng.random() < MASKED:
            first = int(rng.integers(power.shape[1] - MOST_MASKED))
            power[:, first : first + int(rng.integers(2, MOST_MASKED))] = 0
        return np.log(power + self._offset).astype(np.float32), targets

    def _changed_one(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The power of a segment at another level and of another colour, and its families."""
        draw = (self._of_tune, self._of_mixture, self._of_sound)[self._kind(rng)]
        power, targets = draw(rng)
        bands = np.linspace(0, COLOUR_NODES - 1, power.shape[1])
        curve = rng.normal(0, COLOUR_DB, COLOUR_NODES)
        decibels = np.interp(bands, np.arange(COLOUR_NODES), curve) + rng.uniform(*GAIN_DB)
        return power * (10 ** (decibels / 10)).astype(np.float32), targets

    def _of_tune(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if not self._material.tunes:
            return self._of_mixture(rng)
        track = draw_one(self._material.tunes, rng)
        power, start = self._cut(track.versions[0], self._size, rng)
        middle = (start + self._size / 2) / self._features.frame_rate
        row = min(round(middle / LABEL_STEP), len(track.labels) - 1)
        return power, track.labels[row, self._columns]

    def _of_mixture(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        i = int(rng.integers(self._ends[-1]))
        which = int(np.searchsorted(self._ends, i, side="right"))
        frames, known = self._material.mixtures[which]
        i -= int(self._ends[which]) - len(known)
        start = int(rng.integers(len(frames[i]) - self._size + 1))
        own, targets = frames[i, start : start + self._size], known[i, self._columns]
        if float(own.max()) < SILENT_LOG:
            return self._power(own), np.zeros_like(targets)
        targets = np.where((targets > 0) & (targets < 1), np.nan, targets)  # nobody knows when
        return self._power(own), targets

    def _of_sound(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        some = [s for s in (self._material.noises, self._material.speech) if s]
        if not some:
            return self._of_tune(rng)
        return self._window_of(draw_one(some, rng), rng), np.zeros(len(self._columns), np.float32)
