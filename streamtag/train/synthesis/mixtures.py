"""Windows with known contents, mixed from stems.

Every example is the audio of one window: a few families at random levels, beginning and ending,
with random reverberation and noise; or no music at all. The target of a tag is 1 if it sounds for
three quarters of the audio, 0 if for less than a quarter, and in proportion between. So a
probability passes one half when a family begins or ends in the middle of the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.train.data.effects import in_random_place, noise, power
from streamtag.train.synthesis.stems import TICK, Stem

FAMILIES_IN_A_MIX = (0.09, 0.36, 0.27, 0.18, 0.1)
"""Probabilities that 0, 1, 2, 3 and 4 families sound."""


@dataclass(frozen=True, slots=True)
class WindowShape:
    """Front end, length and tags of a window."""

    features: FeatureConfig
    window_frames: int
    first_frames: int
    """Frames of the shortest provisional window."""
    tags: tuple[str, ...]

    @property
    def window_samples(self) -> int:
        """Number of samples of exactly one window."""
        return self.features.span(0, self.window_frames)[1]

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """(window_frames, width) of the newest samples, with silence before them."""
        silence = frames_of(np.zeros(self.features.n_fft, np.float32), self.features)[0]
        out = np.repeat(silence[None], self.window_frames, axis=0)
        newest = frames_of(np.ascontiguousarray(samples), self.features)[-self.window_frames :]
        if len(newest):
            out[-len(newest) :] = newest
        return out


class StemLibrary:
    """The stems of one split by family and origin, and its sounds without music.

    Args:
        stems: all stems.
        others: (n,) float32 each: noise and speech.
        tags: other families are left out.

    Raises:
        RecipeError: a tag has no stem.
    """

    def __init__(
        self, stems: Sequence[Stem], others: Sequence[np.ndarray], tags: Sequence[str]
    ) -> None:
        self.tags, self.others = tuple(tags), list(others)
        self._by: dict[str, dict[str, list[Stem]]] = {tag: {} for tag in tags}
        for stem in stems:
            if stem.family in self._by:
                kind = "real" if stem.origin == "real" else "rendered"
                self._by[stem.family].setdefault(kind, []).append(stem)
        if missing := [tag for tag, kinds in self._by.items() if not kinds]:
            raise RecipeError(f"tag {missing[0]!r}: expected stems of that family, got none")

    def draw(self, rng: np.random.Generator, tag: str) -> Stem:
        """A random stem of a family; real and rendered ones are equally likely."""
        kinds = list(self._by[tag].values())
        stems = kinds[int(rng.integers(len(kinds)))]
        return stems[int(rng.integers(len(stems)))]


def draw_mixture(
    library: StemLibrary, shape: WindowShape, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random window: (window_frames, width) float32 frames and (n_tags,) float32 targets."""
    rate, n = shape.features.sample_rate, shape.window_samples
    if rng.random() < 0.25:  # the beginning of a stream, when the window is not full
        n_frames = int(rng.integers(shape.first_frames, shape.window_frames))
        n = shape.features.span(0, n_frames)[1]
    count = int(rng.choice(len(FAMILIES_IN_A_MIX), p=FAMILIES_IN_A_MIX))
    chosen = rng.choice(len(library.tags), size=min(count, len(library.tags)), replace=False)
    dry, targets = np.zeros(n, np.float32), np.zeros(len(library.tags), np.float32)
    for index in chosen:
        part, coverage = excerpt(library.draw(rng, library.tags[index]), n, rate, rng)
        dry += part * np.float32(10 ** (rng.uniform(-9, 0) / 20))
        targets[index] = target_of_coverage(coverage)
    wet = in_random_place(dry, rate, rng) if count else dry
    return shape.frames(_with_background(wet, library, rate, rng)), targets


def draw_non_music(
    sounds: Sequence[np.ndarray], shape: WindowShape, rng: np.random.Generator
) -> np.ndarray:
    """(window_frames, width) float32 of a sound without music, in a random place and level."""
    rate, n = shape.features.sample_rate, shape.window_samples
    if rng.random() < 0.25:
        n = shape.features.span(0, int(rng.integers(shape.first_frames, shape.window_frames)))[1]
    sound = sounds[int(rng.integers(len(sounds)))]
    start = int(rng.integers(0, max(1, len(sound) - n)))
    audio = np.zeros(n, np.float32)
    audio[: len(sound) - start] = sound[start : start + n]
    return shape.frames(at_random_level(in_random_place(audio, rate, rng), rng))


def target_of_coverage(coverage: float) -> float:
    """The target of a tag from the share of the audio in which it sounds."""
    return min(1.0, max(0.0, 2 * coverage - 0.5))


def excerpt(stem: Stem, n: int, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """`n` samples of a stem at a level of 1, and the share of them in which it sounds.

    Mostly it sounds throughout; sometimes it begins or ends within.
    """
    need = min(n, len(stem.audio))
    for _ in range(8):
        start = int(rng.integers(0, len(stem.audio) - need + 1))
        part = stem.audio[start : start + need].astype(np.float32)
        tick = int(start / rate / TICK)
        active = stem.active[tick : tick + max(1, round(need / rate / TICK))].copy()
        if active.mean() > 0.5:
            break
    audio = np.zeros(n, np.float32)
    audio[:need] = part
    sounding = np.zeros(max(1, round(n / rate / TICK)), bool)
    sounding[: len(active)] = active[: len(sounding)]
    edge, kind = float(rng.uniform(0, 1)), rng.random()
    if kind < 0.35:
        _begin_or_end(audio, sounding, edge, rate, ends=kind < 0.17)
    active_audio = audio[np.repeat(sounding, max(1, round(TICK * rate)))[:n].nonzero()]
    level = np.sqrt(power(active_audio)) if len(active_audio) else 0.0
    return audio / max(float(level), 30.0), float(sounding.mean())


def _begin_or_end(
    audio: np.ndarray, sounding: np.ndarray, edge: float, rate: int, *, ends: bool
) -> None:
    """Ends a part at a share `edge` of the excerpt, with a fade of 0.15 s, or begins it there."""
    at, tick = round(edge * len(audio)), round(edge * len(sounding))
    if not ends:
        audio[:at], sounding[:tick] = 0, False
        return
    fade = np.exp(-np.arange(len(audio) - at, dtype=np.float32) / np.float32(0.05 * rate))
    audio[at:] *= fade
    sounding[tick + 3 :] = False


def _with_background(
    wet: np.ndarray, library: StemLibrary, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A mixture with noise and other sounds at a random level; without music, those alone."""
    music = power(wet)
    out = wet if music else np.zeros_like(wet)
    if library.others and rng.random() < (0.08 if music else 0.7):
        other = library.others[int(rng.integers(len(library.others)))]
        start = int(rng.integers(0, max(1, len(other) - len(out))))
        part = np.resize(other[start : start + len(out)], len(out))
        loud = np.sqrt(power(part)) + 1e-6
        snr = rng.uniform(0, 20) if music else 0.0
        out = out + part / np.float32(loud) * np.float32(_background_level(music, snr))
    if rng.random() < (0.4 if music else 0.5):
        level = _background_level(music, rng.uniform(12, 50))
        out = out + noise(len(out), rate, rng) * np.float32(level)
    return at_random_level(out, rng)


def at_random_level(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same sound at a random level (-42 to -11 dB of full scale), clipped if necessary."""
    total = np.sqrt(power(samples))
    if total > 1e-9:
        samples = samples * np.float32(10 ** (rng.uniform(-42, -11) / 20) / total)
    clipped: np.ndarray = np.clip(samples, -1, 1).astype(np.float32)
    return clipped


def _background_level(music: float, snr_db: float) -> float:
    """Level of a noise `snr_db` below music of a power; 1 if there is no music."""
    return float(np.sqrt(music) * 10 ** (-snr_db / 20)) if music else 1.0
