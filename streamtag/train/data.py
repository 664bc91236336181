"""Where the first model's recordings come from, and who sees which of them.

`load_banks` reads a folder laid out like the project's data: `philharmonia/INSTRUMENT/*`,
`sonic-pi/*`, `esc10/CLASS/*`, `speech-digits/*`, `midi/**.mid`. Notes are split by instrument and
pitch, MIDI by piece, everything else by file, so that nothing of a test recording is ever trained on.
"""

import hashlib
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soxr

from streamtag.errors import RecipeError
from streamtag.train.mixtures import Bank, Stem
from streamtag.train.renders import phrases, render_all

PHILHARMONIA = {
    "cello": "strings",
    "double bass": "strings",
    "viola": "strings",
    "violin": "strings",
    "bass clarinet": "woodwind",
    "bassoon": "woodwind",
    "clarinet": "woodwind",
    "contrabassoon": "woodwind",
    "cor anglais": "woodwind",
    "flute": "woodwind",
    "oboe": "woodwind",
    "saxophone": "woodwind",
    "french horn": "brass",
    "trombone": "brass",
    "trumpet": "brass",
    "tuba": "brass",
    "banjo": "guitar",
    "guitar": "guitar",
    "mandolin": "guitar",
    "percussion": "drums",
}
"""Families of the recorded notes; banjo and mandolin count as guitars."""

SONIC_PI = {"bd": "drums", "drum": "drums", "hat": "drums", "perc": "drums", "ride": "drums"}
SONIC_PI |= {"sn": "drums", "tabla": "drums", "guit": "guitar", "bass": "bass"}
"""Families of the samples, by the first part of their names."""

SPLITS = ("train", "validation", "test")


def split_of(key: str) -> str:
    """The part that everything called `key` belongs to: 70 % train, 10 % validation, 20 % test."""
    draw = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10
    return "train" if draw < 7 else "validation" if draw == 7 else "test"


def load_banks(
    data: Path,
    cache: Path,
    rate: int,
    soundfonts: list[Path],
    phrases_per_program: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Bank]:
    """All stems, by split.

    Args:
        data: the folder of recordings.
        cache: where rendered phrases are kept from one run to the next.
        rate: Hz.
        soundfonts: render MIDI with these.
        phrases_per_program: in training, per soundfont; one each for validation and test.
        seed: of the phrases.
        progress: called with what is being done, how many are done, of how many.

    Raises:
        RecipeError: the folder holds nothing to train on.
    """
    if not data.is_dir():
        raise RecipeError(f"{data}: expected a folder of recordings; name one with --data")
    banks = {split: Bank() for split in SPLITS}
    recordings = list(_recordings(data))
    for i, (path, tag, source, piece, key) in enumerate(recordings):
        samples = read_audio(path, rate)
        if samples is not None:
            banks[split_of(key)].add(Stem(samples, tag, source, piece))
        if progress and i % 50 == 0:
            progress("reading recordings", i, len(recordings))
    if soundfonts:
        _add_renders(banks, data, cache, rate, soundfonts, phrases_per_program, seed, progress)
    if not any(bank.by_tag for bank in banks.values()):
        raise RecipeError(f"{data}: no recordings in it; expected philharmonia/, midi/ and the like")
    return banks


def _recordings(data: Path) -> Iterator[tuple[Path, str, str, str, str]]:
    """(file, tag, source, what may be strung together, what the split goes by)."""
    for path in sorted(data.glob("philharmonia/**/*.*")):
        if tag := PHILHARMONIA.get(path.relative_to(data).parts[1]):
            instrument, _, rest = path.stem.partition("_")
            key = f"{instrument} {rest.partition('_')[0]}" if tag != "drums" else path.stem
            yield path, tag, "philharmonia", instrument, key
    for path in sorted(data.glob("sonic-pi/*.*")):
        if tag := SONIC_PI.get(path.stem.partition("_")[0]):
            yield path, tag, "sonic-pi", path.stem.partition("_")[0], path.stem
    for path in sorted(data.glob("esc10/*/*.*")):
        yield path, "", "esc10", path.stem, path.stem.rpartition("-")[0]
    for path in sorted(data.glob("speech-digits/*.*")):
        speaker = path.stem.split("_")[1]
        yield path, "", "speech", speaker, speaker


def read_audio(path: Path, rate: int) -> np.ndarray | None:
    """(n,) int16, mono, at `rate`; None if it cannot be read."""
    import soundfile  # the train extra

    try:
        samples, native = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError):
        return None
    mono = soxr.resample(samples.mean(axis=1), native, rate)
    return np.clip(np.rint(mono * 32767), -32768, 32767).astype(np.int16)


def _add_renders(
    banks: dict[str, Bank],
    data: Path,
    cache: Path,
    rate: int,
    soundfonts: list[Path],
    per_program: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    pieces = some_pieces(data)
    for number, split in enumerate(SPLITS):
        own = [p for p in pieces if split_of(p.stem) == split]
        count = per_program if split == "train" else 1
        wanted = list(phrases(own, soundfonts, count, 14.0, seed + number)) if own else []
        report = (lambda i, n: progress("rendering", i, n)) if progress else None
        for phrase, path in render_all(wanted, cache, report):
            with wave.open(str(path)) as file:
                native = file.getframerate()
                stem = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            mono = soxr.resample(stem.astype(np.float32) / 32768, native, rate)
            # phrases of few notes at low velocity are quiet; int16 keeps them if made loud first
            loud = mono / max(float(np.abs(mono).max()), 1e-4) * 0.9
            samples = np.rint(loud * 32767).astype(np.int16)
            banks[split].add(Stem(samples, phrase.family, phrase.soundfont.stem, path.stem))


def some_pieces(data: Path, folk: int = 200) -> list[Path]:
    """MIDI files: all with many instruments, and some of the folk tunes, which are many and alike."""
    many = sorted(data.glob("midi/freedoom/*.mid"))
    tunes = sorted(data.glob("midi/nottingham/*.mid"))
    order = np.random.default_rng(7).permutation(len(tunes))[:folk]
    return many + [tunes[int(i)] for i in order]
