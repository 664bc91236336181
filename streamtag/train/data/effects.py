"""What happens to a clean mixture on its way to a listener: rooms, equalisers, noise, levels.

Only the trainer uses these; nothing here is part of the front end.
"""

import numpy as np


def colour(n: int, rate: int, rng: np.random.Generator, depth: float) -> np.ndarray:
    """A random smooth equaliser, (n // 2 + 1,) float32 gains for a real FFT of size n.

    Args:
        n: size of the FFT.
        rate: Hz.
        rng: decides everything.
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
    """A simple reverberation as the spectrum of its impulse response, (n // 2 + 1,) complex64."""
    return np.fft.rfft(any_room(n, rate, rng), n).astype(np.complex64)


def any_room(longest: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The impulse response of a room by chance, `longest` samples at most; see `reverberation`."""
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


def placed(dry: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A mixture in a random place: equaliser mostly, reverberation sometimes. (n,) float32."""
    wants_room, wants_colour = rng.random() < 0.4, rng.random() < 0.7
    if not wants_room and not wants_colour:
        return dry
    n = 1 << (len(dry) + rate // 2 - 1).bit_length()
    spectrum = np.fft.rfft(dry, n)
    if wants_colour:
        spectrum *= colour(n, rate, rng, 4.0)
    if wants_room:
        spectrum *= room(n, rate, rng)
    return np.fft.irfft(spectrum, n)[: len(dry)].astype(np.float32)


def power(samples: np.ndarray) -> float:
    """Mean square."""
    return float(np.mean(samples.astype(np.float64) ** 2)) if len(samples) else 0.0
