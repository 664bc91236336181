"""Whole pieces from MIDI files, rendered, with the truth about what sounds when.

Pieces are rendered as written. Folk tunes are given random orchestrations that change every few
seconds. Real pieces have unbalanced labels (in one collection nearly all have drums and hardly any
a piano), and mixtures of unrelated phrases have no common harmony. A tune's melody and chords,
given to random instruments section by section, have harmony and balanced labels.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.train.synthesis.midi import MidiPart, Note, excerpt, moved, transposed, write_midi
from streamtag.train.synthesis.notes import read
from streamtag.train.synthesis.renders import FAMILIES, PITCH_RANGES, render
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
"""Programs that listeners may name differently. The tags that they may be have no truth."""
AMBIGUOUS |= {p: ("synth", "choir", "strings") for p in range(83, 104) if p not in
              FAMILIES["synth"]}  # fmt: skip
AMBIGUOUS |= {p: ("drums", "synth") for p in range(112, 128)}

NAMED: dict[str, tuple[int, ...]] = {
    "accordion": (21, 22, 23),
    "acoustic guitar": (24, 25),
    "electric guitar": (26, 27, 28, 29, 30, 31),
    "harp": (46,),
    "violin": (40,),
    "cello": (42,),
    "trumpet": (56, 59),
    "flute": (72, 73, 74, 75, 77),
    "saxophone": (64, 65, 66, 67),
}
"""General MIDI programs of instruments that have a name of their own in general-2."""

RELEASE = 0.3
"""Seconds for which a note sounds after its end."""
HIT = 0.5
"""Seconds for which a hit sounds."""
LONGEST = 120.0
"""The most seconds of a piece that are used."""

_FAMILY = {program: family for family, some in FAMILIES.items() for program in some}


@dataclass(frozen=True, slots=True)
class RenderedPiece:
    """A rendered piece."""

    piece: str
    audio: np.ndarray
    """(n,) float32 at the given rate, with a peak of 0.9."""
    truth: np.ndarray
    """(n_ticks, n_tags) float32: 1 where the tag sounds, 0 where not, NaN where unknown."""


def truth(written: Sequence[MidiPart], tags: Sequence[str], seconds: float) -> np.ndarray:
    """What sounds when in a piece's parts, as in `RenderedPiece.truth`."""
    table = np.zeros((round(seconds / TICK), len(tags)), np.float32)
    sounding = [
        (_sounding_families(program, drums), drums, notes) for program, drums, notes in written
    ]
    for (families, value), drums, notes in sorted(sounding, key=lambda s: s[0][1] == 1):
        for column in (tags.index(family) for family in families if family in tags):
            for n in notes:
                end = n.start + HIT if drums else n.end + RELEASE
                first, last = round(n.start / TICK), round(min(end, seconds) / TICK)
                table[first:last, column] = value
    return table


def _sounding_families(program: int, drums: bool) -> tuple[tuple[str, ...], float]:
    """The families that a part may sound like, and their truth: 1, or NaN if ambiguous."""
    if drums:
        return ("drums",), 1.0
    if program in _FAMILY:
        return (_FAMILY[program],), 1.0
    return AMBIGUOUS.get(program, ()), float("nan")


def instrument_truth(parts: Sequence[tuple[int, bool]]) -> dict[str, float]:
    """What sounds in a piece by family and instrument: 1, 0, or NaN if listeners may disagree.

    Args:
        parts: program and whether it is a drum kit, of each part.
    """
    found = dict.fromkeys((*FAMILIES, "drums", *NAMED), 0.0)
    for (families, value), name in sorted(
        ((_sounding_families(*part), _name(part)) for part in parts), key=lambda s: s[0][1] == 1
    ):
        found |= dict.fromkeys(families, value)
        if name:
            found[name] = 1.0
    return found


def _name(part: tuple[int, bool]) -> str:
    """The name of its own that an instrument has, if any."""
    program, drums = part
    return "" if drums else next((name for name, some in NAMED.items() if program in some), "")


def render_piece(
    name: str, written: list[MidiPart], font: str, tags: Sequence[str], rate: int
) -> RenderedPiece | None:
    """Renders parts with FluidSynth's reverberation; None if there is nothing to play.

    Parts of the same program share a channel; at most 15 programs are kept.
    """
    written = merge_parts(written)
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
    return RenderedPiece(name, audio, truth(written, tags, len(audio) / rate))


def merge_parts(written: list[MidiPart]) -> list[MidiPart]:
    """One part per program within the first `LONGEST` seconds: the 15 with most notes and the
    drums."""
    together: dict[tuple[int, bool], list[Note]] = {}
    for program, drums, notes in written:
        kept = [n for n in notes if n.start < LONGEST]
        together.setdefault((0 if drums else program, drums), []).extend(kept)
    fullest = sorted(together.items(), key=lambda item: -len(item[1]))
    pitched = [(p, d, n) for (p, d), n in fullest if not d and n][:15]
    return pitched + [(p, d, n) for (p, d), n in fullest if d and n]


SECTION = (8.0, 16.0)
"""Range of the seconds between two changes of instruments."""
RING_SECONDS = {"mallets": 1.0, "guitar": 2.5, "piano": 4.0, "bass": 3.0}
"""The most seconds for which a struck or plucked note of a family is audible."""
KICK, SNARE, HAT, RIDE, CRASH, TOM = 36, 38, 42, 51, 49, 45
"""General MIDI percussion notes."""


def orchestrated(
    parts: Sequence[MidiPart], tags: Sequence[str], rng: np.random.Generator
) -> list[MidiPart]:
    """The first minute of a tune (its melody and chords as parts) with new instruments."""
    written = [notes for _, drums, notes in parts if not drums and len(notes) > 8]
    if not written:
        return []
    tune = sorted(written, key=lambda notes: -float(np.mean([n.pitch for n in notes])))
    shift = int(rng.integers(-5, 7))
    melody, chords = (_shifted(notes, shift) for notes in (tune[0], tune[-1]))
    seconds = min(60.0, max(n.end for n in melody))
    made: list[MidiPart] = []
    start = 0.0
    while start < seconds - 2:
        length = min(float(rng.uniform(*SECTION)), seconds - start)
        made += _section(melody, chords, start, length, tags, rng)
        start += length
    return made


def _section(
    melody: list[Note],
    chords: list[Note],
    start: float,
    length: float,
    tags: Sequence[str],
    rng: np.random.Generator,
) -> list[MidiPart]:
    """The parts of one section: none to three families on melody and chords, bass, drums."""
    pitched = [tag for tag in tags if tag not in ("bass", "drums")]
    count = int(rng.choice([0, 1, 2, 3], p=[0.08, 0.4, 0.36, 0.16]))
    chosen = rng.choice(pitched, size=min(count, len(pitched)), replace=False)
    roles = [melody, chords] if rng.random() < 0.6 else [chords, melody]
    made: list[MidiPart] = []
    for i, family in enumerate(chosen):
        octaves = 12 * int(rng.integers(0, 3)) if roles[i % 2] is chords else 0
        notes = _shifted(_clip(roles[i % 2], start, length), octaves)
        made.append(_instrument_part(str(family), notes, rng))
    if "bass" in tags and rng.random() < 0.35:
        made.append(_instrument_part("bass", _roots(_clip(chords, start, length)), rng))
    if "drums" in tags and rng.random() < 0.35:
        made.append((0, True, _beat(start, length, rng)))
    return [part for part in made if part[2]]


def _clip(notes: list[Note], start: float, length: float) -> list[Note]:
    """The notes that begin in a section, none longer than it, at their own times."""
    return moved(excerpt(notes, start, length), start)


def _shifted(notes: list[Note], semitones: int) -> list[Note]:
    return [Note(n.start, n.end, n.pitch + semitones, n.velocity) for n in notes]


def _instrument_part(family: str, notes: list[Note], rng: np.random.Generator) -> MidiPart:
    """A part for a random instrument of a family, within its pitch range and decay."""
    programs = FAMILIES[family]
    ring, loud = RING_SECONDS.get(family, 60.0), int(rng.integers(70, 115))
    sounding = [Note(n.start, min(n.end, n.start + ring), n.pitch, loud) for n in notes]
    low, high = PITCH_RANGES.get(family, (33, 96))
    return programs[int(rng.integers(len(programs)))], False, transposed(sounding, low, high)


def _roots(chords: list[Note]) -> list[Note]:
    """The lowest note of each group of notes that begin together."""
    lowest: dict[int, Note] = {}
    for n in chords:
        moment = round(n.start / 0.03)
        if moment not in lowest or n.pitch < lowest[moment].pitch:
            lowest[moment] = n
    return list(lowest.values())


def _beat(start: float, length: float, rng: np.random.Generator) -> list[Note]:
    """A drum rhythm of eight steps that repeats (General MIDI percussion)."""
    step, loud = float(rng.uniform(0.14, 0.3)), int(rng.integers(70, 115))
    pattern = [(0, KICK), (4, SNARE)]
    pattern += [(int(rng.integers(8)), int(rng.choice([KICK, SNARE, TOM]))) for _ in range(2)]
    ticking = int(rng.choice([HAT, HAT, RIDE]))
    pattern += [(i, ticking) for i in range(0, 8, int(rng.choice([1, 2, 2])))]
    notes = [Note(start, start + 0.1, CRASH, loud)]
    for i in range(int(length / step) - 1):
        at = start + i * step
        notes += [Note(at, at + 0.1, pitch, loud) for k, pitch in pattern if k == i % 8]
    return notes
