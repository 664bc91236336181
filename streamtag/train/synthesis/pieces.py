"""Whole pieces: MIDI files as they were written, rendered, with what truly sounds when."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.train.synthesis.midi import Note, Part, parts, write_midi
from streamtag.train.synthesis.notes import read
from streamtag.train.synthesis.renders import FAMILIES, render
from streamtag.train.synthesis.stems import TICK, soundfont

AMBIGUOUS: dict[int, tuple[str, ...]] = {
    6: ("piano", "guitar"), 7: ("piano", "guitar"), 15: ("mallets", "guitar"),
    21: ("organ", "woodwind"), 22: ("organ", "woodwind"), 23: ("organ", "woodwind"),
    31: ("guitar",), 45: ("strings", "guitar"), 46: ("guitar",), 47: ("drums",),
    50: ("strings", "synth"), 51: ("strings", "synth"), 54: ("choir", "synth"),
    55: ("strings", "brass", "drums"), 62: ("brass", "synth"), 63: ("brass", "synth"),
    76: ("woodwind",), 77: ("woodwind",), 78: ("woodwind",), 79: ("woodwind",),
    104: ("guitar",), 105: ("guitar",), 106: ("guitar",), 107: ("guitar",), 108: ("mallets",),
    109: ("woodwind",), 110: ("strings",), 111: ("woodwind",),
}  # fmt: skip
"""Programs of which two listeners would not say the same: what they may be is not judged."""
AMBIGUOUS |= {p: ("synth", "choir", "strings") for p in range(83, 104) if p not in
              FAMILIES["synth"]}  # fmt: skip
AMBIGUOUS |= {p: ("drums", "synth") for p in range(112, 128)}

RELEASE = 0.3
"""Seconds that a note is heard after its end."""
HIT = 0.5
"""Seconds that a hit is heard."""
LONGEST = 120.0
"""Seconds of a piece that are used."""

_FAMILY = {program: family for family, some in FAMILIES.items() for program in some}


@dataclass(frozen=True, slots=True)
class Performance:
    """A rendered piece."""

    piece: str
    audio: np.ndarray
    """(n,) float32, at the rate asked for, peak 0.9."""
    truth: np.ndarray
    """(n_ticks, n_tags) float32: 1 where the tag sounds, 0 where not, NaN where none can say."""


def truth(written: Sequence[Part], tags: Sequence[str], seconds: float) -> np.ndarray:
    """What sounds when in a piece's parts, as in `Performance.truth`."""
    table = np.zeros((round(seconds / TICK), len(tags)), np.float32)
    sounding = [(_heard(program, drums), drums, notes) for program, drums, notes in written]
    for (families, value), drums, notes in sorted(sounding, key=lambda s: s[0][1] == 1):
        for column in (tags.index(family) for family in families if family in tags):
            for n in notes:
                end = n.start + HIT if drums else n.end + RELEASE
                first, last = round(n.start / TICK), round(min(end, seconds) / TICK)
                table[first:last, column] = value
    return table


def _heard(program: int, drums: bool) -> tuple[tuple[str, ...], float]:
    """What a part is heard as, and the truth of it: 1, or NaN where none can say."""
    if drums:
        return ("drums",), 1.0
    if program in _FAMILY:
        return (_FAMILY[program],), 1.0
    return AMBIGUOUS.get(program, ()), float("nan")


def read_piece(path: Path) -> list[Part]:
    """The parts of a MIDI file; none where it cannot be read. Controllers are left out."""
    try:
        return parts(path)
    except (OSError, ValueError, EOFError, KeyError):  # some public MIDI files are broken
        return []


def perform(
    name: str, written: list[Part], font: str, tags: Sequence[str], rate: int
) -> Performance | None:
    """Renders parts with FluidSynth's reverberation; None if there is nothing to play.

    Parts of the same program share a channel; at most 15 programs are kept.
    """
    written = merged(written)
    if not any(notes for _, _, notes in written):
        return None
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        write_midi(midi, written)
        render(midi, soundfont(font), wav, 32000, room=True)
        audio = read(wav, rate)[: round(LONGEST * rate)]
    peak = float(np.abs(audio).max(initial=0.0))
    if peak < 1e-3:
        return None
    audio = audio * np.float32(0.9 / peak)
    return Performance(name, audio, truth(written, tags, len(audio) / rate))


def merged(written: list[Part]) -> list[Part]:
    """One part per program, within the first `LONGEST` seconds; the 15 fullest and the drums."""
    together: dict[tuple[int, bool], list[Note]] = {}
    for program, drums, notes in written:
        kept = [n for n in notes if n.start < LONGEST]
        together.setdefault((0 if drums else program, drums), []).extend(kept)
    fullest = sorted(together.items(), key=lambda item: -len(item[1]))
    pitched = [(p, d, n) for (p, d), n in fullest if not d and n][:15]
    return pitched + [(p, d, n) for (p, d), n in fullest if d and n]
