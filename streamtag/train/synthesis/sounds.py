"""Sounds without music: noise and speech, by split.

Noise is ESC-10 with its own folds, and for training synthetic hiss, hum, motors and ticks. Speech
is spoken digits by speaker, telephone announcements (Debian: asterisk-core-sounds-*-wav) by voice,
letters, syllables and words spoken for children (klettres-data, ktuberling-data) by language, and
numbers read by flite and, in many voices and languages, by espeak-ng. The first two are narrow-band
(8 kHz), the last two synthetic.
"""

import glob
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr

from streamtag.errors import RecipeError
from streamtag.train.data.effects import convolve, noise, power
from streamtag.train.synthesis.mixtures import at_random_level
from streamtag.train.synthesis.notes import read

ANNOUNCEMENTS = Path("/usr/share/asterisk/sounds")
"""Folder of the announcements in Debian."""
ANNOUNCERS = {
    "train": ("en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo"),
    "validation": ("ru_RU_f_IvrvoiceRU",),
    "test": (),
}
"""Voices of the announcements; a speaker is in one split only."""
WORD_FILES = ("/usr/share/klettres/{}/*/*.ogg", "/usr/share/ktuberling/sounds/{}/*.*")
"""Files of spoken letters and words in Debian, by language."""
WORD_LANGUAGES = {
    "train": ("ar", "ca", "cs", "de", "en", "en_GB", "es", "fr", "he", "hu", "it", "lt", "ml", "nb",
              "nds", "nn", "ru", "sl", "sv", "tn", "uk", "wa"),
    "validation": ("da", "nl"),
    "test": ("el", "gl", "pt", "pt_BR"),
}  # fmt: skip
"""Languages of the spoken letters and words."""
FLITE_VOICES = {"train": ("rms", "slt"), "validation": ("awb",), "test": ("kal",)}
"""Voices of flite."""
ESPEAK_LANGUAGES = {
    "train": ("de", "en-gb", "fr", "hu", "pt", "sv", "tr", "cmn", "hi", "ar"),
    "validation": ("en-us", "nl", "el"),
    "test": ("es", "pl", "fi"),
}
"""Languages in which espeak-ng reads numbers."""
ESPEAK_STYLES = ("m1", "m3", "m7", "f2", "f4", "croak", "whisper")
"""Variants of the voice of espeak-ng."""
NOISE_LICENCE = "CC BY 3.0"
"""Of ESC-10; what is synthesised has none."""
SPEECH_LICENCE = "CC BY-SA or GPL"
"""Of the digits and announcements, and of the letters and words; what is synthesised has none."""
SYNTHETIC_NOISES, SYNTHETIC_SECONDS = 150, 12.0
"""How many noises are synthesised, and seconds of each."""
STRETCH = 14.0
"""Seconds that joined recordings last at least."""


def noises(data: Path, split: str, rate: int) -> list[np.ndarray]:
    """ESC-10, (n,) float32 each."""
    paths = sorted((data / "esc10").glob("*/*.opus"))
    found = [read(path, rate) for path in paths if path.name[0] in ESC_FOLDS[split]]
    return [sound for sound in found if power(sound) > 1e-9]


def synthetic_noises(rate: int, seed: int) -> list[np.ndarray]:
    """Hiss of every colour, mains hum, motors and ticks, (n,) float32 each, for training.

    ESC-10 has no steady hiss, which is what a dead line sends.
    """
    rng = np.random.default_rng([seed, 43])
    kinds = (_hiss, _hiss, _hum, _motor, _ticks)
    return [at_random_level(kinds[i % len(kinds)](rate, rng), rng) for i in range(SYNTHETIC_NOISES)]


def _band_of_noise(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of a random colour between two random frequencies, (n,)."""
    n = round(SYNTHETIC_SECONDS * rate)
    spectrum, hertz = np.fft.rfft(noise(n, rate, rng)), np.fft.rfftfreq(n, 1 / rate)
    low, high = 10 ** rng.uniform(1, 2.5), 10 ** rng.uniform(3, 4.3)
    return np.fft.irfft(spectrum * (hertz > low) * (hertz < high), n)


def _hiss(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Steady, or as wind and waves."""
    hiss = _band_of_noise(rate, rng)
    at = np.arange(len(hiss)) / rate
    depth = rng.choice([0.0, rng.uniform(0, 0.9)])
    swell = 1 + depth * np.sin(2 * np.pi * (rng.uniform(0.05, 1) * at + rng.random()))
    out: np.ndarray = hiss * swell
    return out


def _hum(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Of the mains, with some hiss."""
    at = np.arange(round(SYNTHETIC_SECONDS * rate)) / rate
    pitch, steep = rng.choice([50.0, 60.0]), rng.uniform(0.5, 2)
    hum = np.zeros(len(at))
    for k in range(1, 40):
        hum += rng.random() * k**-steep * np.sin(2 * np.pi * (k * pitch * at + rng.random()))
    hiss = _band_of_noise(rate, rng)
    out: np.ndarray = hum + hiss * rng.uniform(0, 0.5) * np.std(hum) / np.std(hiss)
    return out


def _motor(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise in pulses, 8 to 120 a second, faster and slower."""
    hiss = _band_of_noise(rate, rng)
    at = np.arange(len(hiss)) / rate
    wander = rng.uniform(0, 0.3) * np.sin(2 * np.pi * (rng.uniform(0.03, 0.5) * at + rng.random()))
    phase = 2 * np.pi * np.cumsum(rng.uniform(8, 120) * (1 + wander)) / rate
    pulses = np.exp(rng.uniform(0.5, 3) * (np.sin(phase) - 1))
    out: np.ndarray = hiss * (pulses + rng.uniform(0, 0.3))
    return out


def _ticks(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Short bursts, even as of a clock, or uneven as of a crackling line."""
    n = round(SYNTHETIC_SECONDS * rate)
    gap, uneven = rng.uniform(0.1, 1.5), rng.choice([0.0, 0.9])
    gaps = gap * (1 + uneven * rng.uniform(-1, 1, round(SYNTHETIC_SECONDS / gap) + 1))
    at = (np.cumsum(gaps) * rate).astype(int)
    hits = np.zeros(n, np.float32)
    hits[at[at < n]] = 1
    burst = _band_of_noise(rate, rng)[: rate // 5]
    burst *= np.exp(-np.arange(len(burst)) / rate / rng.uniform(0.002, 0.04))
    ticks = convolve(hits, burst.astype(np.float32))
    out: np.ndarray = ticks + 1e-3 * np.std(ticks) * rng.standard_normal(n)
    return out


def speech(data: Path, split: str, rate: int, seed: int) -> list[np.ndarray]:
    """Speech of one voice each, with short pauses, (n,) float32.

    Raises:
        RecipeError: the announcements or espeak-ng are not installed.
    """
    rng = np.random.default_rng([seed, 31])
    out: list[np.ndarray] = []
    for speaker in SPEAKERS[split]:
        paths = sorted((data / "speech-digits").glob(f"*_{speaker}_*.opus"))
        out += join_recordings([read(p, rate) for p in paths], rate, rng)
    for voice in ANNOUNCERS[split]:
        out += join_recordings([read(p, rate) for p in _announcements(voice)], rate, rng)
    for language in WORD_LANGUAGES[split]:
        out += join_recordings([read(p, rate) for p in _words(language)], rate, rng, most=20)
    for voice in FLITE_VOICES[split]:
        out += [_flite(voice, rate, rng) for _ in range(12)]
    for language in ESPEAK_LANGUAGES[split]:
        out += list(_espeak(language, rate, rng))
    return out


def join_recordings(
    parts: Sequence[np.ndarray], rate: int, rng: np.random.Generator, *, most: int = 1000
) -> list[np.ndarray]:
    """Recordings of one voice in random order, joined with pauses of 0.05 to 0.4 s.

    Args:
        parts: (n,) float32 each.
        rate: Hz.
        rng: source of order and pauses.
        most: largest number of results.
    """
    out: list[np.ndarray] = []
    joined: list[np.ndarray] = []
    for i in rng.permutation(len(parts)):
        loud = np.sqrt(power(parts[i]))
        if loud < 1e-4:
            continue
        pause = np.zeros(round(rng.uniform(0.05, 0.4) * rate), np.float32)
        joined += [parts[i] / np.float32(10 * loud), pause]
        if sum(map(len, joined)) > STRETCH * rate:
            out.append(np.concatenate(joined))
            joined = []
    return out[:most]


def _announcements(voice: str) -> list[Path]:
    paths = sorted((ANNOUNCEMENTS / voice).glob("*.wav"))
    paths = [path for path in paths if "tone" not in path.stem and "beep" not in path.stem]
    if not paths:
        raise RecipeError(
            f"{ANNOUNCEMENTS / voice}: expected telephone announcements, got none; install them "
            "(Debian: asterisk-core-sounds-en-wav, -es-wav, -fr-wav, -it-wav, -ru-wav)"
        )
    return paths


def _words(language: str) -> list[Path]:
    found = [Path(p) for pattern in WORD_FILES for p in sorted(glob.glob(pattern.format(language)))]
    if not found:
        raise RecipeError(
            f"spoken words in {language!r}: expected files like {WORD_FILES[0].format(language)}, "
            "got none; install them (Debian: klettres-data, ktuberling-data)"
        )
    return found


def _flite(voice: str, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers in English, read by a voice of flite."""
    numbers = ", ".join(str(n) for n in rng.integers(1, 2000, 10))
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "a.wav"
        try:
            subprocess.run(
                ["flite", "-voice", voice, "-t", numbers, "-o", str(wav)],
                capture_output=True, check=True, timeout=60,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise RecipeError(
                f"flite: expected speech of voice {voice!r}, got: {error}; install flite"
            ) from error
        return read(wav, rate)


def _espeak(language: str, rate: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Numbers in one language and every style, at a random pitch and speed."""
    for style in ESPEAK_STYLES:
        numbers = " , ".join(str(n) for n in rng.integers(1, 2000, 14))
        pitch, speed = int(rng.integers(20, 80)), int(rng.integers(120, 220))
        command = ["espeak-ng", "-v", f"{language}+{style}", "-p", str(pitch), "-s", str(speed)]
        try:
            done = subprocess.run(
                [*command, "--stdout", numbers], capture_output=True, check=True, timeout=60
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RecipeError(
                f"espeak-ng: expected speech in {language}, got: {error}; install espeak-ng"
            ) from error
        pcm = done.stdout[44:]  # at times espeak-ng 1.51 ends within a sample
        samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / 32768
        yield resampled(samples, 22050, rate)


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(n,) float32 at another rate."""
    out: np.ndarray = samples if rate == to else soxr.resample(samples, rate, to)
    return out.astype(np.float32)


ESC_FOLDS = {"train": "123", "validation": "4", "test": "5"}
"""The data set's own folds (ESC-10)."""


SPEAKERS = {
    "train": ("george", "jackson", "nicolas", "yweweler"),
    "validation": ("lucas",),
    "test": ("theo",),
}
"""Speakers of the spoken digits."""


def noise_and_speech(data: Path, split: str, rate: int) -> list[np.ndarray]:
    """Noise (ESC-10) and speech (spoken digits in a row), (n,) float32 each."""
    found = noises(data, split, rate)
    folder = data / "speech-digits"
    for speaker in SPEAKERS[split]:
        digits = [read(path, rate) for path in sorted(folder.glob(f"*_{speaker}_*.opus"))]
        pause = np.zeros(rate // 8, np.float32)
        mixed = [digits[(7 * i) % len(digits)] for i in range(len(digits))]
        for i in range(0, len(mixed) - 14, 14):
            found.append(np.concatenate([part for s in mixed[i : i + 14] for part in (s, pause)]))
    return [sound for sound in found if power(sound) > 1e-9]
