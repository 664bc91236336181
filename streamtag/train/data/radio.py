"""What radio makes of music and speech: announcers, cuts, applause, telephones, loudness.

Samples are (n,) float32 at any level, and stay as long as they were unless stated. `effects` has
rooms, noise and equalisers, `codec` has codecs.
"""

import math

import numpy as np
import soxr

from streamtag.train.data.codec import fit_length
from streamtag.train.data.effects import add_noise, convolve, filter_of, power, reverberation

BLOCK_SECONDS = 1e-3
"""Seconds between two decisions of compressors and limiters on the gain."""
PAUSE_DB = 40.0
"""Parts of speech so far below its loudest part do not count for its level."""
AUDIENCE = (20, 80)
"""Number of people who clap, from … to."""
TELEPHONE_RATE = 8000
"""Hz (ITU-T G.711)."""
MU = 255.0
"""µ-law (ITU-T G.711)."""
PLACE_SECONDS, PLACE_FADE = 20.0, 0.05
"""See `change_speed_in_place`."""
BAND_TAPS = 1 << 11
"""Length in samples of the filter of a narrow band."""


def speech_over(music: np.ndarray, speech: np.ndarray, ratio: float) -> np.ndarray:
    """Music with somebody who speaks over it, at the music's level.

    Args:
        music: (n,) float32.
        speech: (m,) float32; repeated or cut to the length of the music.
        ratio: dB, the power of the speech without its pauses relative to the music's.
    """
    if not len(speech):
        return music
    spoken = np.resize(speech, len(music))
    level = spoken_power(spoken)
    gain = math.sqrt(power(music) / level) * 10 ** (ratio / 20) if level else 0.0
    return music + spoken * np.float32(gain)


def spoken_power(speech: np.ndarray, block: int = 512) -> float:
    """The mean square of speech without its pauses; 0 if there is nothing else."""
    rows = speech[: len(speech) // block * block].reshape(-1, block).astype(np.float64)
    powers = (rows**2).mean(axis=1) if len(rows) else np.array([power(speech)])
    loud = powers > powers.max(initial=0.0) * 10 ** (-PAUSE_DB / 10)
    return float(powers[loud].mean()) if loud.any() else 0.0


def crossfade(first: np.ndarray, second: np.ndarray, length: int) -> np.ndarray:
    """One recording after another, (n + m - length,) float32, with equal power between them.

    A length of 0 is a cut. A jingle is faded into what comes before it, and the next into that.

    Args:
        first: (n,) float32.
        second: (m,) float32.
        length: samples of the fade; at most those of either.
    """
    length = min(length, len(first), len(second))
    angle = (np.arange(length, dtype=np.float32) + 0.5) / max(1, length) * np.float32(math.pi / 2)
    keep = len(first) - length
    between = first[keep:] * np.cos(angle) + second[:length] * np.sin(angle)
    return np.concatenate([first[:keep], between, second[length:]])


def applause(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The applause of an audience in a hall, (n,) float32 of power 1.

    Everybody claps at an own pace, with a resonance of the hands (Repp, "The sound of two hands
    clapping", 1987). It is a stand-in: EfficientAT gives it .01 to .11 for applause, as much as for
    engines and music.

    Args:
        n: samples, at least 1.
        rate: Hz.
        rng: source of all randomness.
    """
    size = round(0.03 * rate)
    t = np.arange(size) / rate
    out = np.zeros(n + size, np.float32)
    for _ in range(int(rng.integers(*AUDIENCE))):
        hands = np.sin(2 * np.pi * rng.uniform(500, 2500) * t) * np.exp(-t / 8e-4)
        fading = np.exp(-t / rng.uniform(0.002, 0.012)) * rng.uniform(0.1, 1) ** 2
        period = float(rng.uniform(0.2, 0.35))
        at = float(rng.uniform(0, min(period, n / rate)))
        while at * rate < n:
            clap = np.convolve(rng.standard_normal(size), hands)[:size] * fading
            first = int(at * rate)
            out[first : first + size] += (clap * rng.uniform(0.6, 1)).astype(np.float32)
            at += period * float(rng.uniform(0.9, 1.1))
    decay = float(rng.uniform(0.8, 1.5))
    tail = reverberation(rng.standard_normal(round(decay * rate)), rate, decay, 0.005, 0.0)
    heard = convolve(out[:n], tail)
    return heard / np.float32(math.sqrt(power(heard)) + 1e-12)


def telephone(samples: np.ndarray, rate: int) -> np.ndarray:
    """Audio through a telephone: 8 kHz, 300 Hz and above, 8 bits of µ-law (ITU-T G.711)."""
    narrow = soxr.resample(samples, rate, TELEPHONE_RATE)
    if not len(narrow):
        return np.zeros_like(samples)
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE_RATE)
    spectrum *= 1 / np.sqrt(1 + (300 / np.maximum(hertz, 1)) ** 8)  # Butterworth, fourth order
    narrow = np.clip(np.fft.irfft(spectrum, len(narrow)), -1, 1)
    law = np.sign(narrow) * np.log1p(MU * np.abs(narrow)) / np.log1p(MU)
    law = np.round(law * 127) / 127
    heard = np.sign(law) * np.expm1(np.abs(law) * np.log1p(MU)) / MU
    return fit_length(soxr.resample(heard.astype(np.float32), TELEPHONE_RATE, rate), len(samples))


def compress(
    samples: np.ndarray, rate: int, threshold: float, ratio: float, release: float = 0.2
) -> np.ndarray:
    """Audio whose loud parts are less loud, then as loud as before: what stations do to music.

    Args:
        samples: (n,) float32.
        rate: Hz.
        threshold: dB relative to the loudest block; quieter blocks keep their gain.
        ratio: of a change in level above the threshold to what is left of it; at least 1.
        release: seconds in which the gain recovers to 1/e; it falls at once.
    """
    if not len(samples):
        return samples
    peaks = _block_peaks(samples, rate)
    levels = 20 * np.log10(np.maximum(peaks, 1e-9))
    wanted = np.minimum(0, (levels.max() + threshold - levels) * (1 - 1 / ratio))
    gains = _recovering(wanted, release)
    out: np.ndarray = samples * _per_sample(10 ** (gains / 20), len(samples), rate)
    level = power(out)
    return out * np.float32(math.sqrt(power(samples) / level)) if level else out


def limit(samples: np.ndarray, rate: int, ceiling: float = 1.0, release: float = 0.1) -> np.ndarray:
    """Audio that nowhere exceeds ±ceiling: the gain falls before each peak and recovers after it.

    Args:
        samples: (n,) float32.
        rate: Hz.
        ceiling: largest absolute value.
        release: seconds in which the gain recovers to 1/e.
    """
    if not len(samples):
        return samples
    wanted = 20 * np.log10(np.minimum(1, ceiling / np.maximum(_block_peaks(samples, rate), 1e-9)))
    gains = 10 ** (_recovering(wanted, release) / 20)
    limited: np.ndarray = samples * _per_sample(gains, len(samples), rate)
    return limited.clip(-ceiling, ceiling)  # rounding


def station(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Music as a station makes it loud: a random compressor, then a limiter, at the same power."""
    squeezed = compress(
        samples, rate, float(rng.uniform(-30, -8)), float(rng.uniform(1.5, 6)),
        float(rng.uniform(0.05, 0.5)),
    )  # fmt: skip
    peak = float(np.abs(squeezed).max(initial=0.0))
    if not peak:
        return samples
    loud = limit(squeezed, rate, peak * 10 ** (-float(rng.uniform(0, 9)) / 20))
    return loud * np.float32(math.sqrt(power(samples) / power(loud)))


def old_record(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Music from a worn record: a narrow band, hiss that turns with the record, and crackle."""
    n, level = len(samples), math.sqrt(power(samples))
    t = np.arange(n, dtype=np.float32) / rate
    turns = 1 + rng.uniform(0, 0.6) * np.sin(2 * np.pi * rng.uniform(0.55, 1.3) * t)
    hiss = rng.standard_normal(n).astype(np.float32) * turns
    hiss *= level * 10 ** (-rng.uniform(18, 36) / 20)
    clicks = np.zeros(n, np.float32)
    count = rng.poisson(rng.uniform(3, 40) * n / rate)
    sizes = rng.pareto(2.0, count).clip(0, 8) * rng.choice([-1, 1], count)
    clicks[rng.integers(0, max(1, n), count)] = sizes * level * rng.uniform(0.5, 2)
    heard = samples + hiss.astype(np.float32) + clicks
    response = _band(rate, float(rng.uniform(60, 250)), float(rng.uniform(2800, 7000)))
    return convolve(heard, response, BAND_TAPS // 2)


def venue(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Music in a hall through a cheap microphone: reverberation of 1 to 2.5 s, a band, noise."""
    decay, level = float(rng.uniform(1, 2.5)), float(rng.uniform(-6, 4))
    tail = reverberation(
        rng.standard_normal(round(decay * rate)), rate, decay, float(rng.uniform(0.005, 0.03)),
        level,
    )  # fmt: skip
    band = _band(rate, float(rng.uniform(60, 250)), float(rng.uniform(4500, 11000)))
    # one convolution with both: the tail's own end is 60 dB down
    response = convolve(np.pad(tail, (0, BAND_TAPS // 2)), band, 0)
    wet = convolve(samples, response, BAND_TAPS // 2)
    wet = wet * np.float32(math.sqrt(power(samples) / (power(wet) + 1e-20)))
    return add_noise(wet, rate, float(rng.uniform(8, 30)), rng)


def mono_sum(samples: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The sum of two channels of which one is later, as of two microphones, at the same power."""
    lag = min(len(samples), max(1, round(float(rng.uniform(2e-4, 8e-3)) * rate)))
    other = np.concatenate([np.zeros(lag, np.float32), samples[: len(samples) - lag]])
    out = samples + other * np.float32(rng.uniform(-0.9, 0.9))
    return out * np.float32(math.sqrt(power(samples) / (power(out) + 1e-20)))


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Audio played faster or slower, (n / factor,) float32: tempo and pitch change together."""
    if not len(samples) or factor == 1:
        return samples
    out: np.ndarray = soxr.resample(samples, factor, 1.0)
    return out


def change_speed_in_place(samples: np.ndarray, rate: int, factor: float) -> np.ndarray:
    """Audio played faster or slower whose parts stay where they were, (n,) float32.

    Every `PLACE_SECONDS` it goes on from the right place, with a fade of `PLACE_FADE`. So labels
    along the recording stay true. Speeds of 4 % are at most 0.8 s off.

    Args:
        samples: (n,) float32.
        rate: Hz.
        factor: speed; more than 1 is faster and higher.
    """
    step, fade = round(PLACE_SECONDS * rate), round(PLACE_FADE * rate)
    out = np.zeros(0, np.float32)
    for start in range(0, len(samples), step):
        need = math.ceil(min(step + fade, len(samples) - start) * factor) + 1
        begin = max(0, min(start, len(samples) - need))
        part = change_speed(samples[begin : begin + need], factor)[: step + fade]
        out = crossfade(out, part, fade if start else 0)
    return fit_length(out, len(samples))


def _band(rate: int, low: float, high: float) -> np.ndarray:
    """A filter of 12 dB per octave below one frequency and 24 dB above another, (n,) float32."""
    hertz = np.maximum(np.fft.rfftfreq(BAND_TAPS, 1 / rate), 1)
    gains = 1 / (np.sqrt(1 + (low / hertz) ** 4) * np.sqrt(1 + (hertz / high) ** 8))
    return filter_of(gains)


def _block(rate: int) -> int:
    return max(1, round(BLOCK_SECONDS * rate))


def _block_peaks(samples: np.ndarray, rate: int) -> np.ndarray:
    """The largest absolute value of each block, (n_blocks,)."""
    size = _block(rate)
    padded = np.pad(np.abs(samples), (0, -len(samples) % size))
    peaks: np.ndarray = padded.reshape(-1, size).max(axis=1)
    return peaks


def _recovering(wanted: np.ndarray, release: float) -> np.ndarray:
    """Gains in dB per block that are at most `wanted` and recover exponentially."""
    keep, gain = math.exp(-BLOCK_SECONDS / release), 0.0
    out = np.empty_like(wanted, dtype=np.float64)
    for i, most in enumerate(wanted.tolist()):
        gain = min(most, gain * keep)
        out[i] = gain
    return out


def _per_sample(gains: np.ndarray, n: int, rate: int) -> np.ndarray:
    """(n_blocks,) factors as (n,) float32 without steps, nowhere above those of the own block."""
    size = _block(rate)
    edges = np.minimum(np.append(gains, gains[-1]), np.insert(gains, 0, gains[0]))
    out: np.ndarray = np.interp(np.arange(n), np.arange(len(edges)) * size, edges)
    return out.astype(np.float32)
