"""Stems: solo phrases of one family, real or rendered, from which mixtures are made."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.errors import RecipeError
from streamtag.train.data.samples import ProgressCallback
from streamtag.train.synthesis.notes import (
    NoteSample,
    melody,
    read,
    rhythm,
    samples,
    split_of,
    trim,
)
from streamtag.train.synthesis.renders import phrases, render_all

SOUNDFONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")
"""Folders of soundfonts in Linux distributions."""
TICK = 0.05
"""Seconds of one element of `Stem.active`."""
QUIET_DB = 35.0
"""Decibels below its own loud parts at which a stem is silent."""
HOLD_TICKS = 5
"""Ticks for which a sound counts as active after its end."""


@dataclass(frozen=True, slots=True)
class Stem:
    """One solo phrase."""

    family: str
    origin: str
    """`real`, or the name of the soundfont."""
    audio: np.ndarray
    """(n,) int16 with a peak near full scale."""
    active: np.ndarray
    """(n_ticks,) bool: whether it sounds in each tick."""


def soundfont(name: str) -> Path:
    """A soundfont by its file name without the ending.

    Raises:
        RecipeError: it is in none of the usual folders.
    """
    for folder in SOUNDFONT_FOLDERS:
        for ending in ("sf2", "sf3"):
            if (path := Path(folder) / f"{name}.{ending}").exists():
                return path
    raise RecipeError(
        f"soundfont {name}: expected {name}.sf2 or .sf3 in {', '.join(SOUNDFONT_FOLDERS)}, got "
        "nothing there; install it (Debian: fluid-soundfont-gm, timgm6mb-soundfont, "
        "musescore-general-soundfont-small, csound-soundfont)"
    )


def pieces(data: Path, split: str) -> list[Path]:
    """The MIDI files of a split: all of Freedoom's, and 200 of Nottingham's tunes.

    Raises:
        RecipeError: they do not exist.
    """
    folk = sorted(tunes(data), key=lambda path: path.stem[::-1])
    folk = folk[:: max(1, len(folk) // 200)]
    return [path for path in freedoom(data) + folk if split_of(path.stem) == split]


def freedoom(data: Path) -> list[Path]:
    """Pieces for many instruments.

    Raises:
        RecipeError: they do not exist.
    """
    return _midi(data / "midi" / "freedoom")


def tunes(data: Path) -> list[Path]:
    """Folk tunes: a melody and chords.

    Raises:
        RecipeError: they do not exist.
    """
    return _midi(data / "midi" / "nottingham")


def _midi(folder: Path) -> list[Path]:
    if found := sorted(folder.glob("*.mid")):
        return found
    raise RecipeError(f"{folder}: expected MIDI files, got none")


def activity(audio: np.ndarray, rate: int) -> np.ndarray:
    """Whether a solo phrase sounds, (n_ticks,) bool.

    A tick is active if its power is at most `QUIET_DB` below that of the loudest ticks, and for
    `HOLD_TICKS` ticks afterwards, so that the gaps of a rhythm are not silent.
    """
    tick = round(TICK * rate)
    n = len(audio) // tick
    if n == 0:
        return np.zeros(0, bool)
    levels = np.square(audio[: n * tick].astype(np.float32)).reshape(n, tick).mean(axis=1)
    loud = levels > np.quantile(levels, 0.95) * 10 ** (-QUIET_DB / 10) + 1e-9
    held = np.convolve(loud, np.ones(HOLD_TICKS + 1), "full")[:n] > 0
    return np.asarray(held)


def make_stem(family: str, origin: str, audio: np.ndarray, rate: int) -> Stem | None:
    """A stem of (n,) float32 audio; None if it is silent."""
    peak = float(np.abs(audio).max(initial=0.0))
    if peak < 1e-3:
        return None
    loud = np.round(audio * (32000 / peak)).astype(np.int16)
    return Stem(family, origin, loud, activity(loud, rate))


def real_stems(
    data: Path, split: str, per_instrument: int, seconds: float, rate: int, seed: int
) -> Iterator[Stem]:
    """Phrases of real notes, `per_instrument` times for every instrument."""
    rng = np.random.default_rng(seed)
    chosen = [s for s in samples(data) if split_of(s.key) == split]
    for (family, _), group in itertools.groupby(
        sorted(chosen, key=_by_instrument), key=_by_instrument
    ):
        recordings = [trim(read(s.path, rate), rate) for s in group]
        recordings = [r for r in recordings if len(r) > rate // 50]
        for _ in range(per_instrument if recordings else 0):
            make = rhythm if family == "drums" else melody
            few = [recordings[i] for i in rng.integers(len(recordings), size=24)]
            if made := make_stem(family, "real", make(few, rate, seconds, rng), rate):
                yield made


def _by_instrument(sample: NoteSample) -> tuple[str, str]:
    return sample.family, sample.instrument


def rendered_stems(
    data: Path,
    split: str,
    soundfonts: tuple[str, ...],
    per_program: int,
    seconds: float,
    rate: int,
    folder: Path,
    progress: ProgressCallback,
) -> Iterator[Stem]:
    """Phrases of every General MIDI program in every soundfont, `per_program` times each.

    Args:
        data: folder with `midi`.
        split: `train`, `validation` or `test`; it depends on the piece.
        soundfonts: names without endings.
        per_program: phrases per program and soundfont.
        seconds: length of a phrase.
        rate: Hz of the stems.
        folder: caches the renderings.
        progress: reports progress.
    """
    fonts = [soundfont(name) for name in soundfonts]
    seed = sum(map(ord, split))
    wanted = list(phrases(pieces(data, split), fonts, per_program, seconds, seed))
    done = render_all(wanted, folder, lambda i, n: progress(f"render {split}", i, n))
    for i, (phrase, path) in enumerate(done):
        if made := make_stem(phrase.family, phrase.soundfont.stem, read(path, rate), rate):
            yield made
        progress(f"read {split}", i + 1, len(done))
