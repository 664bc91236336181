"""Effects on audio: equaliser, reverberation, noise, level, codec.

`BroadcastChain` applies a random selection to training recordings before the front end. The single
effects also serve to measure how robust a model is. The output is as long as the input and not
shifted in time.
"""

import numpy as np


def random_equaliser(n: int, rate: int, rng: np.random.Generator, depth: float) -> np.ndarray:
    """A random smooth equaliser, (n // 2 + 1,) float32 gains for a real FFT of size n.

    Args:
        n: size of the FFT.
        rate: Hz.
        rng: source of all randomness.
        depth: standard deviation in dB at each of its six corners.
    """
    corners = np.log2(np.array([40, 150, 500, 1500, 4000, 10000]))
    gains = rng.normal(0, depth, len(corners))
    hertz = np.fft.rfftfreq(n, 1 / rate)
    decibel = np.interp(np.log2(np.maximum(hertz, 20)), corners, gains)
    if rng.random() < 0.15:  # a narrow channel: old radio, small loudspeaker
        decibel -= 24 * np.maximum(0, np.log2(np.maximum(hertz, 1) / rng.uniform(3000, 7000)))
        decibel -= 12 * np.maximum(0, np.log2(rng.uniform(60, 250) / np.maximum(hertz, 1)))
    gains_of_bins: np.ndarray = (10 ** (decibel / 20)).astype(np.float32)
    return gains_of_bins


def room(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A random reverberation as the spectrum of its impulse response, (n // 2 + 1,) complex64."""
    return np.fft.rfft(random_room(n, rate, rng), n).astype(np.complex64)


def random_room(longest: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The impulse response of a random room, at most `longest` samples; see `reverberation`."""
    decay = float(rng.uniform(0.15, 1.2))
    tail = rng.standard_normal(min(longest, round(decay * rate)))
    gap, level = float(rng.uniform(0.001, 0.02)), float(rng.uniform(-18, -3))
    return reverberation(tail, rate, decay, gap, level)


def reverberation(
    noise: np.ndarray, rate: int, decay: float, gap: float, level: float
) -> np.ndarray:
    """An impulse response: exponentially decaying noise after a direct sound of 1 (Moorer 1979).

    Args:
        noise: (n,) of even power; at least 1 sample.
        rate: Hz.
        decay: seconds until the reverberation has fallen by 60 dB.
        gap: seconds between the direct sound and the first of the reverberation.
        level: dB, the energy of the reverberation relative to the direct sound's.
    """
    tail = noise * 10 ** (-3 * np.arange(len(noise)) / rate / decay)
    tail[: round(gap * rate)] = 0
    tail *= 10 ** (level / 20) / np.sqrt(np.sum(tail**2) + 1e-9)
    tail[0] += 1
    out: np.ndarray = tail.astype(np.float32)
    return out


def noise(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise between white and brown, (n,) float32 of power 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n).astype(np.float32))
    hertz = np.maximum(np.fft.rfftfreq(n, 1 / rate), 30)
    shaped = np.fft.irfft(spectrum * hertz ** -float(rng.uniform(0, 1)), n)
    level = float(np.sqrt(np.mean(shaped**2))) + 1e-12
    out: np.ndarray = (shaped / level).astype(np.float32)
    return out


def in_random_place(dry: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Audio with a random equaliser (mostly) and reverberation (sometimes), (n,) float32."""
    wants_room, wants_colour = rng.random() < 0.4, rng.random() < 0.7
    if not wants_room and not wants_colour:
        return dry
    n = 1 << (len(dry) + rate // 2 - 1).bit_length()
    spectrum = np.fft.rfft(dry, n)
    if wants_colour:
        spectrum *= random_equaliser(n, rate, rng, 4.0)
    if wants_room:
        spectrum *= room(n, rate, rng)
    return np.fft.irfft(spectrum, n)[: len(dry)].astype(np.float32)


def power(samples: np.ndarray) -> float:
    """The mean square."""
    return float(np.mean(samples.astype(np.float64) ** 2)) if len(samples) else 0.0


EQUALISER_TAPS = 1 << 13
"""Length in samples of the filter of an equaliser."""
NOISE_SECONDS = 20
"""Seconds after which the noise repeats, without a seam."""
FFT_BLOCK = 1 << 18
"""Samples per FFT. Long recordings need no more memory than short ones."""


def change_level(samples: np.ndarray, decibel: float) -> np.ndarray:
    """Audio at another level, (n,) float32, not clipped."""
    return samples * np.float32(10 ** (decibel / 20))


def equalise(samples: np.ndarray, rate: int, depth: float, rng: np.random.Generator) -> np.ndarray:
    """Audio after a random smooth zero-phase equaliser, (n,) float32.

    Args:
        samples: (n,) float32.
        rate: Hz.
        depth: standard deviation in dB (see `random_equaliser`).
        rng: source of all randomness.
    """
    response = filter_of(random_equaliser(EQUALISER_TAPS, rate, rng, depth))
    return convolve(samples, response, EQUALISER_TAPS // 2)


def filter_of(gains: np.ndarray) -> np.ndarray:
    """The impulse response of a zero-phase filter, (2 · n,) float32, its centre at n.

    Args:
        gains: (n + 1,) factors on the bins of a real FFT.
    """
    taps = 2 * (len(gains) - 1)
    response = np.roll(np.fft.irfft(gains, taps), taps // 2) * np.hanning(taps + 1)[:-1]
    return np.asarray(response, np.float32)


def add_reverberation(
    samples: np.ndarray,
    rate: int,
    decay: float,
    rng: np.random.Generator,
    *,
    level: float = -6.0,
    gap: float = 0.01,
) -> np.ndarray:
    """Audio in a room of given reverberation, (n,) float32; the tail after the end is cut off.

    Args:
        samples: (n,) float32.
        rate: Hz.
        decay: seconds until the reverberation has fallen by 60 dB.
        rng: source of the reverberation.
        level: dB, the energy of the reverberation relative to the direct sound's.
        gap: seconds between the direct sound and the first of the reverberation.
    """
    tail = rng.standard_normal(max(1, round(decay * rate)))
    return convolve(samples, reverberation(tail, rate, decay, gap, level))


def add_noise(samples: np.ndarray, rate: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Audio with noise between white and brown added, (n,) float32; silence stays silent.

    Args:
        samples: (n,) float32.
        rate: Hz.
        ratio: dB, the mean power of the whole of the audio relative to the noise's.
        rng: source of the noise.
    """
    n = len(samples)
    if n == 0:
        return samples
    added = np.resize(noise(min(n, NOISE_SECONDS * rate), rate, rng), n)
    gain = np.sqrt(power(samples) / (power(added) + 1e-20)) * 10 ** (-ratio / 20)
    return samples + added * np.float32(gain)


def convolve(samples: np.ndarray, response: np.ndarray, centre: int = 0) -> np.ndarray:
    """Audio after a filter, (n,) float32, by overlap-add.

    Args:
        samples: (n,) float32.
        response: (m,) float32, the impulse response.
        centre: index in it that is aligned with the impulse.
    """
    n, rest = len(samples), len(response) - 1
    size = min(max(FFT_BLOCK, 1 << (4 * rest).bit_length()), 1 << (n + rest).bit_length())
    spectrum, step = np.fft.rfft(response, size), size - rest
    out = np.zeros(n + rest, np.float32)
    for start in range(0, n, step):
        block = samples[start : start + step]
        length = len(block) + rest
        out[start : start + length] += np.fft.irfft(np.fft.rfft(block, size) * spectrum, size)[
            :length
        ]
    return out[centre : centre + n]
