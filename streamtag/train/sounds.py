"""Sounds that are no music: noises and speech, in stretches, by split.

Noises are ESC-10's by its own folds. Speech is spoken digits by speaker, telephone announcements
(Debian: asterisk-core-sounds-*-wav) by voice, and numbers read by espeak-ng in many voices, which
is synthetic, but the only speech here with consonants above 4 kHz.
"""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from streamtag.errors import RecipeError
from streamtag.train.effects import power
from streamtag.train.mixtures import ESC_FOLDS, SPEAKERS
from streamtag.train.notes import read

ANNOUNCEMENTS = Path("/usr/share/asterisk/sounds")
"""Where Debian puts them."""
VOICES = {
    "train": ("en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo"),
    "validation": ("ru_RU_f_IvrvoiceRU",),
    "test": (),
}
"""Of the announcements; one speaker is in one split."""
LANGUAGES = {
    "train": ("de", "en-gb", "fr", "hu", "pt", "sv", "tr", "cmn", "hi", "ar"),
    "validation": ("en-us", "nl", "el"),
    "test": ("es", "pl", "fi"),
}
"""That espeak-ng reads numbers in."""
STYLES = ("m1", "m3", "m7", "f2", "f4", "croak", "whisper")
STRETCH = 14.0
"""Seconds of recordings put together."""


def noises(data: Path, split: str, rate: int) -> list[np.ndarray]:
    """ESC-10, (n,) float32 each."""
    paths = sorted((data / "esc10").glob("*/*.opus"))
    found = [read(path, rate) for path in paths if path.name[0] in ESC_FOLDS[split]]
    return [sound for sound in found if power(sound) > 1e-9]


def speech(data: Path, split: str, rate: int, seed: int) -> list[np.ndarray]:
    """Stretches of one voice each, with short pauses, (n,) float32.

    Raises:
        RecipeError: the announcements or espeak-ng are not there.
    """
    rng = np.random.default_rng([seed, 31])
    out: list[np.ndarray] = []
    for speaker in SPEAKERS[split]:
        paths = sorted((data / "speech-digits").glob(f"*_{speaker}_*.opus"))
        out += stretches([read(p, rate) for p in paths], rate, rng)
    for voice in VOICES[split]:
        out += stretches([read(p, rate) for p in _announcements(voice)], rate, rng)
    for language in LANGUAGES[split]:
        out += list(_read_aloud(language, rate, rng))
    return out


def stretches(parts: Sequence[np.ndarray], rate: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Recordings of one voice in random order, joined by pauses of 0.05 to 0.4 s."""
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
    return out


def _announcements(voice: str) -> list[Path]:
    paths = sorted((ANNOUNCEMENTS / voice).glob("*.wav"))
    paths = [path for path in paths if "tone" not in path.stem and "beep" not in path.stem]
    if not paths:
        raise RecipeError(
            f"{ANNOUNCEMENTS / voice}: expected telephone announcements, got none; install them "
            "(Debian: asterisk-core-sounds-en-wav, -es-wav, -fr-wav, -it-wav, -ru-wav)"
        )
    return paths


def _read_aloud(language: str, rate: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Numbers in one language and every style, at a random pitch and speed."""
    for style in STYLES:
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
        samples = np.frombuffer(done.stdout[44:], "<i2").astype(np.float32) / 32768
        yield resampled(samples, 22050, rate)


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(n,) float32 at another rate."""
    import soxr

    out: np.ndarray = samples if rate == to else soxr.resample(samples, rate, to)
    return out.astype(np.float32)
