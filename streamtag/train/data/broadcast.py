"""What happens to audio between a studio or a stage and the daemon, at the same place in time.

`Chain` does a random choice of it to training recordings, before the front end; its parts are also
there one by one, to measure how much of it a model bears. What comes out is exactly as long as
what went in, and every sound is where it was.
"""

import numpy as np

from streamtag.train.data.codec import passed_through
from streamtag.train.data.effects import any_room, colour, noise, power, reverberation
from streamtag.train.recipes.augment import CLEAR, Augment, check_chain

__all__ = ["Chain", "equalised", "in_room", "louder", "passed_through", "with_noise"]

VERSION = 1
"""Raised when the same chain gives other audio: what was made with it before is made again."""
CODED = 0.5
"""Of the recordings, if there are codecs at all."""
TAPS = 1 << 13
"""Of an equaliser."""
NOISE_SECONDS = 20
"""After so long the noise repeats itself, without a seam."""
BLOCK = 1 << 18
"""Samples per FFT: long recordings need no more memory than short ones."""
PROBE = 4800
"""Samples that every codec must bring back before the work begins."""


class Chain:
    """Random equaliser, room, noise, level and codec, in this order.

    It can be pickled, and pickles the same for the same settings of these; other fields of the
    recipe change nothing.

    Args:
        augment: what there is, and how much of it.

    Raises:
        RecipeError: a value out of its range, or an ffmpeg that cannot do one of the codecs.
    """

    def __init__(self, augment: Augment) -> None:
        check_chain(augment)
        self._version = VERSION
        self._codecs = augment.codecs
        self._level, self._colour = augment.audio_level_db, augment.audio_eq_db
        self._noise, self._room = augment.noise_db, augment.room_chance
        for codec in self._codecs:
            passed_through(np.zeros(PROBE, np.float32), 48000, codec)

    def __call__(self, samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """Audio as it might arrive, (n,) float32; it may go beyond full scale.

        Args:
            samples: (n,) float32; stays as it is. NaN and infinity count as 0, as everywhere.
            rate: Hz.
            rng: decides everything.

        Raises:
            RecipeError: ffmpeg failed.
        """
        out: np.ndarray = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        if len(out) == 0:
            return out
        if self._colour:
            out = equalised(out, rate, self._colour, rng)
        if rng.random() < self._room:
            out = filtered(out, any_room(2 * rate, rate, rng))
        if self._noise:
            out = with_noise(out, rate, float(rng.uniform(self._noise, CLEAR)), rng)
        if self._level:
            out = louder(out, float(rng.uniform(-self._level, self._level)))
        codec = self._drawn(rng)
        return passed_through(out, rate, codec) if codec else out

    def _drawn(self, rng: np.random.Generator) -> str:
        coded = bool(self._codecs) and rng.random() < CODED
        return self._codecs[rng.integers(len(self._codecs))] if coded else ""


def louder(samples: np.ndarray, decibel: float) -> np.ndarray:
    """Audio at another level, (n,) float32, not clipped."""
    return samples * np.float32(10 ** (decibel / 20))


def equalised(samples: np.ndarray, rate: int, depth: float, rng: np.random.Generator) -> np.ndarray:
    """Audio after a random smooth equaliser without phase, (n,) float32.

    Args:
        samples: (n,) float32.
        rate: Hz.
        depth: standard deviation in dB (see `effects.colour`).
        rng: decides everything.
    """
    response = np.roll(np.fft.irfft(colour(TAPS, rate, rng, depth), TAPS), TAPS // 2)
    faded = response * np.hanning(TAPS + 1)[:-1]
    return filtered(samples, faded.astype(np.float32), TAPS // 2)


def in_room(
    samples: np.ndarray,
    rate: int,
    decay: float,
    rng: np.random.Generator,
    *,
    level: float = -6.0,
    gap: float = 0.01,
) -> np.ndarray:
    """Audio in a given room, (n,) float32; what rings on after the end is cut off.

    Args:
        samples: (n,) float32.
        rate: Hz.
        decay: seconds until the reverberation has fallen by 60 dB.
        rng: decides what the reverberation is like within that.
        level: dB, the energy of the reverberation relative to the direct sound's.
        gap: seconds between the direct sound and the first of the reverberation.
    """
    tail = rng.standard_normal(max(1, round(decay * rate)))
    return filtered(samples, reverberation(tail, rate, decay, gap, level))


def with_noise(
    samples: np.ndarray, rate: int, ratio: float, rng: np.random.Generator
) -> np.ndarray:
    """Audio with noise between white and brown below it, (n,) float32; silence stays silence.

    Args:
        samples: (n,) float32.
        rate: Hz.
        ratio: dB, the mean power of the whole of the audio relative to the noise's.
        rng: decides the noise.
    """
    n = len(samples)
    if n == 0:
        return samples
    added = np.resize(noise(min(n, NOISE_SECONDS * rate), rate, rng), n)
    gain = np.sqrt(power(samples) / (power(added) + 1e-20)) * 10 ** (-ratio / 20)
    return samples + added * np.float32(gain)


def filtered(samples: np.ndarray, response: np.ndarray, centre: int = 0) -> np.ndarray:
    """Audio through a filter, (n,) float32: block by block, the overlaps added.

    Args:
        samples: (n,) float32.
        response: (m,) float32, what becomes of an impulse.
        centre: index in it of what is heard when the impulse comes.
    """
    n, rest = len(samples), len(response) - 1
    size = min(max(BLOCK, 1 << (4 * rest).bit_length()), 1 << (n + rest).bit_length())
    spectrum, step = np.fft.rfft(response, size), size - rest
    out = np.zeros(n + rest, np.float32)
    for start in range(0, n, step):
        block = samples[start : start + step]
        length = len(block) + rest
        out[start : start + length] += np.fft.irfft(np.fft.rfft(block, size) * spectrum, size)[
            :length
        ]
    return out[centre : centre + n]
