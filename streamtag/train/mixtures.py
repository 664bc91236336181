"""Training windows with exact labels: solo recordings gated, coloured and added together.

A window's label says, per tag, for which share of the window the instrument sounds. A net trained
on it crosses one half when an instrument has entered half of its window, so events get the right
time. Labels are exact because every stem is solo.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

FLOOR = 10 ** (-30 / 20)
"""An instrument sounds where its level is less than 30 dB below its loudest."""
AUDIBLE = 10 ** (-20 / 20)
"""A stem that is more than 20 dB below the whole mix does not count."""
STEP = 800
"""Samples between two values of an envelope: 50 ms at 16 kHz."""


@dataclass(frozen=True, slots=True)
class Stem:
    """A solo recording."""

    samples: np.ndarray
    """(n,) int16 at the front end's rate."""
    tag: str
    """Empty for sounds that no tag stands for."""
    source: str
    """Data set or soundfont."""
    piece: str
    """What the split goes by."""


@dataclass(frozen=True, slots=True)
class MixConfig:
    """How windows are put together."""

    rate: int = 16000
    """Hz."""
    seconds: float = 3.0
    """Length of a window."""
    stems: tuple[float, ...] = (0.1, 0.3, 0.3, 0.2, 0.1)
    """Probabilities of 0, 1, 2 … instruments in a window."""
    noise: float = 0.25
    """Probability of a sound without a tag behind the instruments."""
    gated: float = 0.5
    """Probability that an instrument enters or leaves within the window."""
    room: float = 0.35
    """Probability of reverberation."""
    colour_db: float = 8.0
    """Largest gain of the random equaliser, per stem."""
    spread_db: float = 12.0
    """Instruments are mixed at levels that differ so much, at most."""
    level_db: tuple[float, float] = (-45.0, -8.0)
    """Range of a mix's root mean square, in dB re full scale."""
    bend: float = 0.5
    """Probability that a stem is played faster or slower, by up to 12 %."""
    quiet_start: float = 0.12
    """Probability that a window's past is digital silence, as when a stream begins."""


@dataclass(slots=True)
class Bank:
    """Stems by tag."""

    by_tag: dict[str, list[Stem]] = field(default_factory=dict)

    def add(self, stem: Stem) -> None:
        """Takes a stem that is not silent."""
        if len(stem.samples) and np.abs(stem.samples).max() > 30:
            self.by_tag.setdefault(stem.tag, []).append(stem)


class Mixer:
    """Draws windows.

    Args:
        bank: stems; those under the empty tag are noises.
        tags: in the order of the labels.
        config: how to mix.
        seed: the same seed gives the same windows.
    """

    def __init__(self, bank: Bank, tags: Sequence[str], config: MixConfig, seed: int) -> None:
        self._bank, self._tags, self._config = bank, tuple(tags), config
        self._rng = np.random.default_rng(seed)
        self._n = round(config.seconds * config.rate)
        self._draws = {
            tag: _Draw(bank.by_tag.get(tag, [])) for tag in (*self._tags, "")
        }

    def window(self) -> tuple[np.ndarray, np.ndarray]:
        """One mix: (n,) float32 samples, and (n_tags,) float32 shares of it in which a tag sounds.

        Where the window's past is digital silence, the share is that of the rest.
        """
        rng, config = self._rng, self._config
        count = int(rng.choice(len(config.stems), p=np.asarray(config.stems)))
        chosen = rng.choice(len(self._tags), size=count, replace=False)
        quiet = rng.random() < config.quiet_start
        begin = int(rng.uniform(0.1, 0.67) * self._n) if quiet else 0
        mix, label = np.zeros(self._n), np.zeros(len(self._tags), np.float32)
        parts = []
        for index in chosen:
            part, active = self._instrument(self._tags[int(index)])
            part *= 10 ** (rng.uniform(-config.spread_db, 0) / 20)
            parts.append((int(index), part, active))
            mix += part
        for index, part, active in parts:
            if _rms(part) > AUDIBLE * _rms(mix):
                label[index] = active[begin // STEP :].mean()
        if count == 0 or rng.random() < config.noise:
            mix = self._noise(mix)
        mix[:begin] = 0.0
        return self._levelled(mix), label

    def _instrument(self, tag: str) -> tuple[np.ndarray, np.ndarray]:
        """A stem at unit level, and where it sounds, (n / STEP,) bool."""
        rng = self._rng
        part = self._long_enough(tag)
        if rng.random() < self._config.gated:
            at = int(rng.integers(self._n // 10, self._n - self._n // 10))
            fade = np.clip((np.arange(self._n) - at) / 400, 0, 1)
            part = part * (fade if rng.random() < 0.5 else 1 - fade)
        part = _coloured(part, rng, self._config)
        envelope = _envelope(part)
        active = _held(envelope > max(FLOOR * envelope.max(), 1e-5))
        loud = _rms(part[np.repeat(active, STEP)[: self._n]]) if active.any() else 0.0
        return part / max(loud, 1e-6), active

    def _long_enough(self, tag: str) -> np.ndarray:
        """A stretch of one stem; short notes of one instrument are strung together."""
        rng, n = self._rng, self._n
        stem = self._draws[tag](rng)
        pace = rng.uniform(0.89, 1.12) if rng.random() < self._config.bend else 1.0
        if len(stem.samples) >= 1.5 * n:
            need = min(int(n * pace) + 2, len(stem.samples))
            start = int(rng.integers(0, len(stem.samples) - need + 1))
            return _bent(stem.samples[start : start + need], pace, n)
        line = np.zeros(n)
        at = int(rng.integers(-n // 8, n // 8))
        alike = self._draws[tag].alike(stem)
        while at < n:
            note = alike[int(rng.integers(len(alike)))].samples
            note = _bent(note, pace, int(len(note) / pace))
            begin, end = max(at, 0), min(at + len(note), n)
            if end > begin:
                line[begin:end] += note[begin - at : end - at]
            at += int(len(note) * rng.uniform(0.3, 1.1)) + 400
        return line

    def _noise(self, mix: np.ndarray) -> np.ndarray:
        rng = self._rng
        kind = rng.random()
        if kind < 0.1 and not mix.any():
            return mix
        if kind < 0.4 or not self._bank.by_tag.get(""):
            noise = _coloured(rng.standard_normal(self._n), rng, self._config)
        else:
            noise = _coloured(self._long_enough(""), rng, self._config)
        ratio = 10 ** (rng.uniform(-30, -3) / 20)
        level = _rms(mix) if mix.any() else 1.0
        return mix + noise / max(_rms(noise), 1e-6) * level * (ratio if mix.any() else 1.0)

    def _levelled(self, mix: np.ndarray) -> np.ndarray:
        """At a random level, clipped as a sound card would."""
        level = 10 ** (self._rng.uniform(*self._config.level_db) / 20)
        scaled = mix * (level / max(_rms(mix), 1e-6)) if mix.any() else mix
        return np.clip(scaled, -1, 1).astype(np.float32)


class _Draw:
    """Draws stems of one tag: a source first, so that no source drowns another."""

    def __init__(self, stems: list[Stem]) -> None:
        self._sources: dict[str, list[Stem]] = {}
        self._alike: dict[tuple[str, str], list[Stem]] = {}
        for stem in stems:
            self._sources.setdefault(stem.source, []).append(stem)
            self._alike.setdefault((stem.source, stem.piece), []).append(stem)
        self._names = sorted(self._sources)

    def __call__(self, rng: np.random.Generator) -> Stem:
        stems = self._sources[self._names[int(rng.integers(len(self._names)))]]
        return stems[int(rng.integers(len(stems)))]

    def alike(self, stem: Stem) -> list[Stem]:
        """All stems of the same instrument or piece."""
        return self._alike[(stem.source, stem.piece)]


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x)))) if len(x) else 0.0


def _envelope(x: np.ndarray) -> np.ndarray:
    """Root mean square of every `STEP` samples."""
    steps = len(x) // STEP
    return np.sqrt(np.mean(np.square(x[: steps * STEP].reshape(steps, STEP)), axis=1))


def _held(active: np.ndarray, steps: int = 6) -> np.ndarray:
    """True within `steps` of a true one: the breath between two notes is no absence."""
    padded = np.pad(active, steps)
    closed: np.ndarray = np.lib.stride_tricks.sliding_window_view(padded, 2 * steps + 1).any(axis=1)
    inner = np.pad(closed, steps, constant_values=True)
    eroded: np.ndarray = np.lib.stride_tricks.sliding_window_view(inner, 2 * steps + 1).all(axis=1)
    return eroded


def _bent(samples: np.ndarray, pace: float, n: int) -> np.ndarray:
    """`n` samples of a recording played `pace` times as fast; -1 to 1."""
    x = samples.astype(np.float64) / 32768
    if pace == 1.0 and len(x) >= n:
        return x[:n]
    return np.interp(np.arange(n) * pace, np.arange(len(x)), x)


def _coloured(x: np.ndarray, rng: np.random.Generator, config: MixConfig) -> np.ndarray:
    """Through a random smooth equaliser and, now and then, a random room."""
    n = len(x)
    size = 2 * n
    spectrum = np.fft.rfft(x, size)
    knots = rng.uniform(-config.colour_db, config.colour_db, 7)
    octaves = np.log2(np.maximum(np.arange(len(spectrum)) * config.rate / size, 40) / 40)
    gain = np.interp(octaves, np.linspace(0, np.log2(config.rate / 80), 7), knots)
    spectrum *= 10 ** (gain / 20)
    if rng.random() < config.room:
        length = min(n, int(rng.uniform(0.15, 1.2) * config.rate))
        tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
        tail *= rng.uniform(0.1, 0.8) / np.sqrt(np.sum(tail**2))
        tail[0] += 1.0
        spectrum *= np.fft.rfft(tail, size)
    out: np.ndarray = np.fft.irfft(spectrum, size)[:n]
    return out
