"""Half a minute of what a station sends, with targets for every moment: what sounds now.

A programme has parts that follow each other by a cut or a cross-fade: music, mixtures of
instruments, noise and speech, silence. Someone may speak over the music for a while. A net that
learns from it learns what to remember of its window, and when to forget it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamtag.audio.feature_config import FeatureConfig
from streamtag.train.data.samples import TrainingSample
from streamtag.train.distillation.mixing import (
    LABEL_STEP,
    SoundMaterial,
    draw_one,
    relative_gain,
)
from streamtag.train.distillation.programme import NOISE_DB, SPEECH_DB, ProgrammeWindows
from streamtag.train.distillation.segments import FamilySegments

SHORTEST_PART, USUAL_PART = 4.0, 16.0
"""Seconds of a part: the least, and what chance adds to it on average."""
LONGEST_FADE = 2.0
"""Seconds of a cross-fade, at most."""
OLD, NEW = 0.6, 1.3
"""Until so many seconds after a cut the targets are those of the old part, and from so many on
those of the new one; between them nothing is known."""
LAG = 1.5
"""A moment gets the label of this many seconds before it, because teachers look ahead."""
SPOKEN, UNDER = 0.2, 0.12
"""Shares of the parts with music that have speech over them for a while, and noise under them."""
SPOKEN_SECONDS = (3.0, 12.0)
"""How long speech over music lasts."""
TUNES = 0.5
"""The share of rendered tunes, if there are any, among the parts that are mixtures."""


@dataclass(frozen=True, slots=True)
class ProgrammePart:
    """A part of a programme."""

    power: np.ndarray
    """(n_frames, width)."""
    labels: np.ndarray
    """(n, n_targets), one row per `LABEL_STEP` from its beginning; one row holds for all of it."""
    is_music: bool = False

    def at(self, seconds: float) -> np.ndarray:
        """A copy of the targets at some seconds after its beginning."""
        row = max(0, round((seconds - LAG) / LABEL_STEP))
        return np.array(self.labels[min(row, len(self.labels) - 1)], np.float32)


class LongProgrammes(ProgrammeWindows):
    """Programmes longer than a window. Targets are (n_moments, n_targets).

    Args:
        material: the sounds of one split; see `ProgrammeWindows`.
        tags: names of the tags.
        features: front end of the frames.
        window_frames: frames of the net's window.
        count: programmes per epoch.
        shares: shares of the parts: tracks, mixtures, noise and speech, silence.
        frames: of a programme.
        segment: frames of an embedding of the net, after which the first moment is.
        stride: frames from one moment to the next.
        families: the columns that are families of instruments.
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
        frames: int,
        segment: int,
        stride: int,
        families: tuple[int, ...] = (),
    ) -> None:
        super().__init__(material, tags, features, window_frames, count, shares)
        self._frames, self._segment, self._stride = frames, segment, stride
        self._families = families

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> TrainingSample:
        """A random programme; `i` and `epoch` do not matter."""
        parts, begins = self._parts(rng)
        power = self._joined(parts, begins, rng)
        spoken, level = self._speech_over(power, parts, begins, rng)
        power = self._changed(power, rng)
        ends = np.arange(self._segment, self._frames + 1, self._stride)
        rows = []
        for end in ends.tolist():
            targets = self._now(parts, begins, end)
            self._spoken_now(targets, spoken, end, level)
            rows.append(self._hush(power[end - self._segment : end], targets))
        frames = np.log(np.maximum(power, 0) + self._offset).astype(np.float32)
        return TrainingSample(frames, np.stack(rows))

    def mixtures(self) -> Iterator[TrainingSample]:
        """Every mixture of instruments, whose targets hold for all of its window."""
        for frames, known in self._material.mixtures:
            for own, tags in zip(frames, known, strict=True):
                targets = self._nothing(np.nan)
                targets[: len(self.tags)] = tags
                yield TrainingSample(
                    own.astype(np.float32), self._with_silence(self._power(own), targets)
                )

    def segments(self, count: int) -> FamilySegments:
        """Segments of the same sounds, `count` an epoch, for the small net beside the trunk."""
        return FamilySegments(
            self._material, self.tags, self._families, self._features, self._segment, count
        )

    def truth(self) -> np.ndarray:
        """Targets of all moments of some programmes, (n, n_tags) float32."""
        drawn = [self.sample(i, 0, np.random.default_rng([i, 11])) for i in range(64)]
        return np.concatenate([s.targets[:, : len(self.tags)] for s in drawn])

    def _parts(self, rng: np.random.Generator) -> tuple[list[ProgrammePart], list[int]]:
        """Parts, each with frames to its own end and a fade, and the frame at which each begins."""
        rate, parts, begins, at = self._features.frame_rate, [], [], 0
        while at < self._frames:
            size = round((SHORTEST_PART + rng.exponential(USUAL_PART)) * rate)
            left = self._frames - at
            size = left if left - size < SHORTEST_PART * rate else size
            part = self._part(size + round(LONGEST_FADE * rate), rng)
            parts.append(part)
            begins.append(at)
            at += min(size, len(part.power))
        return parts, begins

    def _part(self, size: int, rng: np.random.Generator) -> ProgrammePart:
        """A part with `size` frames; of a mixture, at most a window."""
        kind = self._kind(rng)
        if kind == 1 and self._material.tunes and rng.random() < TUNES:
            return self._tune(size, rng)
        if kind == 1 and self._material.mixtures:
            power, targets = self._any_mixture(rng)
            begins_or_ends = (targets > 0) & (targets < 1)  # nobody knows when
            return ProgrammePart(power[:size], np.where(begins_or_ends, np.nan, targets)[None])
        if kind == 2:
            power, targets = self._of_sound(rng, size)
            return ProgrammePart(power, targets[None])
        if kind == 3:
            power, targets = self._of_silence(rng, size)
            return ProgrammePart(power, targets[None])
        power, labels, start = self._excerpt(size, rng)
        labels = np.array(labels[min(round(start / LABEL_STEP), len(labels) - 1) :])
        if rng.random() < UNDER and self._material.noises:
            other = self._window_of(self._material.noises, rng, size)
            power = power + other * relative_gain(power, other, rng.uniform(*NOISE_DB))
            labels[:, self._columns["noise"]] = np.nan
            self._forget_window(labels.T)
        return ProgrammePart(power, labels, is_music=True)

    def _tune(self, size: int, rng: np.random.Generator) -> ProgrammePart:
        """A part of a rendered tune: of each moment it is known what plays."""
        track = draw_one(self._material.tunes, rng)
        power, start = self._cut(track.versions[0], size, rng)
        first = round(start / self._features.frame_rate / LABEL_STEP)
        labels = np.tile(self._nothing(np.nan), (max(1, len(track.labels) - first), 1))
        labels[:, : len(self.tags)] = track.labels[min(first, len(track.labels) - 1) :]
        return ProgrammePart(power, labels)

    def _joined(
        self, parts: list[ProgrammePart], begins: list[int], rng: np.random.Generator
    ) -> np.ndarray:
        """The power of the programme; the end of a part fades out under the next one."""
        out = np.zeros((self._frames, parts[0].power.shape[1]), np.float32)
        most = round(LONGEST_FADE * self._features.frame_rate)
        fades = [1, *(int(rng.integers(1, most)) if rng.random() < 0.5 else 1 for _ in parts[1:])]
        ends = [*begins[1:], self._frames]
        rows = zip(parts, begins, ends, fades, [*fades[1:], 1], strict=True)
        for part, begin, end, fade, later in rows:
            slope = np.minimum(1, np.arange(1, len(part.power) + 1, dtype=np.float32) / fade)
            size = min(end - begin + later, len(slope), self._frames - begin)
            slope[end - begin : size] = np.linspace(
                1, 0, max(0, size - (end - begin)), dtype=np.float32
            )
            out[begin : begin + size] += part.power[:size] * slope[:size, None]
        return out

    def _speech_over(
        self,
        power: np.ndarray,
        parts: list[ProgrammePart],
        begins: list[int],
        rng: np.random.Generator,
    ) -> tuple[tuple[int, int], float]:
        """Adds speech over some of the music, in place; the frames that have it, and its level."""
        if rng.random() >= SPOKEN or not self._material.speech:
            return (0, 0), 0.0
        which = int(rng.integers(len(parts)))
        end = begins[which + 1] if which + 1 < len(begins) else self._frames
        wanted = round(rng.uniform(*SPOKEN_SECONDS) * self._features.frame_rate)
        if not parts[which].is_music or end - begins[which] <= wanted:
            return (0, 0), 0.0
        first = int(rng.integers(begins[which], end - wanted))
        last, level = first + wanted, rng.uniform(*SPEECH_DB)
        spoken = self._window_of(self._material.speech, rng, wanted)
        power[first:last] += spoken * relative_gain(power[first:last], spoken, level)
        return (first, last), level

    def _now(self, parts: list[ProgrammePart], begins: list[int], end: int) -> np.ndarray:
        """The targets at a frame, of what sounds there."""
        rate = self._features.frame_rate
        which = int(np.searchsorted(begins, end, side="left")) - 1
        heard = (end - begins[which]) / rate
        if which and heard < NEW:
            if heard > OLD:
                return self._nothing(np.nan)
            which -= 1
            heard = (end - begins[which]) / rate
        targets = parts[which].at(heard)
        if end - begins[which] < self._size:
            self._forget_window(targets)
        return targets

    def _spoken_now(
        self, targets: np.ndarray, spoken: tuple[int, int], end: int, level: float
    ) -> None:
        """Changes the targets at a frame by speech over the music around it; in place."""
        first, last = spoken
        if last <= first or end <= first or end - self._size >= last:
            return
        self._forget_window(targets)
        rate = self._features.frame_rate
        heard = min(end, last) - max(end - self._segment, first)
        if heard >= NEW * rate:
            self._speak(targets, level)
        elif heard > 0:
            keep = targets[self._columns["music"]]
            targets[:] = np.nan
            targets[self._columns["music"]], targets[self._columns.weight] = keep, 0
