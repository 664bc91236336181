"""Solo phrases of every General MIDI program, rendered by FluidSynth.

A melody or an accompaniment of a MIDI file is given another instrument and rendered alone.
`mixtures` then adds such stems, so that the contents of a mix are known exactly. This needs the
program `fluidsynth` and at least one soundfont.
"""

import concurrent.futures
import hashlib
import itertools
import subprocess
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from streamtag.errors import RecipeError
from streamtag.feed.atomic_file import atomic_file
from streamtag.train.synthesis.midi import (
    MidiPart,
    Note,
    excerpt,
    moved,
    read_piece,
    transposed,
    write_midi,
)

FAMILIES: dict[str, tuple[int, ...]] = {
    "piano": tuple(range(0, 6)),
    "mallets": (8, 9, 10, 11, 12, 13, 14),
    "organ": (16, 17, 18, 19, 20),
    "guitar": (24, 25, 26, 27, 28, 29, 30),
    "bass": (32, 33, 34, 35, 36, 37, 38, 39),
    "strings": (40, 41, 42, 43, 44, 48, 49),
    "choir": (52, 53),
    "brass": (56, 57, 58, 59, 60, 61),
    "woodwind": (64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75),
    "synth": (80, 81, 82, 84, 87, 88, 89, 90, 91, 95),
}
"""General MIDI programs, counted from 0, by family (General MIDI level 1, sound set)."""

PITCH_RANGES = {
    "bass": (28, 52),
    "brass": (43, 77),
    "woodwind": (50, 86),
    "strings": (36, 91),
    "guitar": (40, 81),
    "choir": (48, 79),
}
"""Lowest and highest written pitch of a family; others use 33 to 96."""


def render(
    midi: Path, soundfont: Path, out: Path, rate: int = 32000, *, room: bool = False
) -> None:
    """Renders a MIDI file as a stereo 16-bit WAV; `room` adds FluidSynth's reverberation and
    chorus.

    Raises:
        RecipeError: fluidsynth is missing, failed, or took more than two minutes.
    """
    effects = "1" if room else "0"
    command = ["fluidsynth", "-ni", "-q", "-r", str(rate), "-g", "0.3"]
    command += ["-R", effects, "-C", effects, "-F", str(out), str(soundfont), str(midi)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except FileNotFoundError:
        raise RecipeError(
            "fluidsynth: not found on the PATH; install it (Debian: fluidsynth)"
        ) from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise RecipeError(f"{midi}: fluidsynth failed with {soundfont}: {error}") from None


@dataclass(frozen=True, slots=True)
class Phrase:
    """One solo phrase to render."""

    family: str
    program: int
    """General MIDI program; 128 for the drum kit."""
    soundfont: Path
    notes: tuple[Note, ...]
    piece: str
    """The piece that the notes come from, on which the split depends."""

    @property
    def name(self) -> str:
        """A unique file name; the same phrase always has the same name."""
        text = f"{self.soundfont.name} {self.program} {self.notes}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.family}-{self.program}-{self.soundfont.stem}-{digest}.wav"


def _busy_excerpt(notes: list[Note], seconds: float, rng: np.random.Generator) -> list[Note]:
    """A random excerpt of a part with enough notes; empty if there are too few."""
    if len(notes) < 12:
        return []
    start = notes[int(rng.integers(0, max(1, len(notes) - 12)))].start
    chosen = excerpt(notes, start, seconds)
    return chosen if len(chosen) >= seconds / 1.5 else []


def phrases(
    pieces: list[Path], soundfonts: list[Path], per_program: int, seconds: float, seed: int
) -> Iterator[Phrase]:
    """Solo phrases: every program of every family in every soundfont, `per_program` times.

    The notes come from random pieces. Drum kits play drum parts, all others melodies and chords.
    """
    rng = np.random.default_rng(seed)
    pitched, drums = _parts_of(pieces)
    jobs = [(f, p) for f, programs in FAMILIES.items() for p in programs]
    jobs += [("drums", 128)] * 8
    for family, program in jobs:
        source = drums if family == "drums" else pitched
        low, high = PITCH_RANGES.get(family, (33, 96))
        for soundfont in soundfonts:
            for _ in range(per_program):
                piece, notes = _draw(source, seconds, rng)
                if family != "drums":
                    notes = transposed(_vary(notes, rng), low, high)
                yield Phrase(family, program, soundfont, tuple(notes), piece)


def _parts_of(
    pieces: list[Path],
) -> tuple[list[tuple[str, list[Note]]], list[tuple[str, list[Note]]]]:
    """The pitched parts and the drum parts of pieces, each with the name of its piece."""
    pitched: list[tuple[str, list[Note]]] = []
    drums: list[tuple[str, list[Note]]] = []
    for piece in pieces:
        for _, is_drums, notes in read_piece(piece):
            (drums if is_drums else pitched).append((piece.stem, notes))
    return pitched, drums


def _draw(
    source: list[tuple[str, list[Note]]], seconds: float, rng: np.random.Generator
) -> tuple[str, list[Note]]:
    """A random excerpt of a random part, with the name of its piece."""
    for _ in range(1000):
        piece, notes = source[int(rng.integers(len(source)))]
        if chosen := _busy_excerpt(notes, seconds, rng):
            return piece, chosen
    raise RecipeError("MIDI: no part with enough notes; name a folder with real pieces")


def _vary(notes: list[Note], rng: np.random.Generator) -> list[Note]:
    """The notes in another key, octave, tempo, loudness and articulation."""
    shift = int(rng.integers(-17, 18))
    pace = float(rng.uniform(0.7, 1.6))
    length = float(rng.choice([0.4, 1.0, 1.0, 1.8]))
    loud = float(rng.uniform(0.6, 1.2))
    return [
        Note(
            n.start * pace,
            n.start * pace + max(0.08, (n.end - n.start) * pace * length),
            min(max(n.pitch + shift, 12), 110),
            int(np.clip(n.velocity * loud, 20, 127)),
        )
        for n in notes
    ]


RATE = 32000
"""Hz of the renderings."""
SLOT_SECONDS = 18.0
"""Seconds between the starts of two phrases in one rendering; the rest is for their decay."""
PHRASES_PER_RENDERING = 15
"""Phrases in one rendering, because loading a soundfont takes longer than rendering a phrase."""


def render_all(
    wanted: list[Phrase], folder: Path, progress: Callable[[int, int], None] | None = None
) -> list[tuple[Phrase, Path]]:
    """Renders the phrases that `folder` does not have; returns each with its WAV (32 kHz, mono).

    Phrases on which FluidSynth fails are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [p for p in wanted if not (folder / p.name).exists()]
    missing.sort(key=lambda p: p.soundfont)
    groups = [
        missing[i : i + PHRASES_PER_RENDERING]
        for _, same in itertools.groupby(missing, key=lambda p: p.soundfont)
        for missing in [list(same)]
        for i in range(0, len(missing), PHRASES_PER_RENDERING)
    ]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for i, _ in enumerate(pool.map(lambda g: _render_group(g, folder), groups)):
            if progress:
                progress(i + 1, len(groups))
    return [(p, path) for p in wanted if (path := folder / p.name).exists()]


def _render_group(group: list[Phrase], folder: Path) -> None:
    played = [[(p.program, p.family == "drums", list(p.notes))] for p in group]
    try:
        audio = render_joined(played, [SLOT_SECONDS] * len(group), group[0].soundfont)
    except RecipeError:
        return
    for phrase, samples in zip(group, audio, strict=True):
        save_wav(folder / phrase.name, samples, RATE)


def render_joined(
    pieces: Sequence[Sequence[MidiPart]],
    seconds: Sequence[float],
    soundfont: Path,
    *,
    room: bool = False,
) -> list[np.ndarray]:
    """Renders pieces in a single call of FluidSynth, (n,) float32 at `RATE` each.

    Args:
        pieces: the parts of each; all together have at most 15 pitched ones.
        seconds: of the audio of each, with room for the decay of its last notes.
        soundfont: a file.
        room: adds FluidSynth's reverberation and chorus.

    Raises:
        RecipeError: fluidsynth is missing, failed, or took more than two minutes.
    """
    starts = np.concatenate([[0.0], np.cumsum(seconds)]).tolist()
    tracks = [
        (program, drums, moved(notes, start))
        for parts, start in zip(pieces, starts, strict=False)
        for program, drums, notes in parts
    ]
    with tempfile.TemporaryDirectory() as scratch:
        midi, wav = Path(scratch) / "pieces.mid", Path(scratch) / "pieces.wav"
        write_midi(midi, tracks)
        render(midi, soundfont, wav, RATE, room=room)
        with wave.open(str(wav)) as file:
            stereo = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    mono = stereo.astype(np.float32).mean(axis=1) / 32768
    edges = [round(start * RATE) for start in starts]
    return [mono[first:end] for first, end in itertools.pairwise(edges)]


def save_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Writes (n,) float32 samples atomically as a mono 16-bit WAV."""
    with atomic_file(path) as partial, wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.clip(samples * 32767, -32768, 32767).astype("<i2").tobytes())


def save_flac(path: Path, samples: np.ndarray, rate: int) -> None:
    """Writes (n,) float32 samples atomically as a mono 16-bit FLAC file; folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        soundfile.write(partial, samples, rate, "PCM_16", format="FLAC")
