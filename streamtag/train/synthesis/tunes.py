"""Folk tunes in random orchestrations that change every few seconds: music with balanced labels.

Real multi-instrument pieces are lopsided (in one collection nearly all have drums and hardly any a
piano), and mixtures of unrelated phrases have no common harmony. A tune's melody and chords, given
to random instruments section by section, have both: harmony, and every family equally often.
"""

from collections.abc import Sequence

import numpy as np

from streamtag.train.synthesis.midi import Note, Part, excerpt, transposed
from streamtag.train.synthesis.renders import COMFORT, FAMILIES

SECTION = (8.0, 16.0)
"""Seconds between two changes of instruments."""
RINGS = {"mallets": 1.0, "guitar": 2.5, "piano": 4.0, "bass": 3.0}
"""Seconds after which a struck or plucked note is hardly heard, however long it is written."""
KICK, SNARE, HAT, RIDE, CRASH, TOM = 36, 38, 42, 51, 49, 45


def orchestrated(
    parts: Sequence[Part], tags: Sequence[str], rng: np.random.Generator
) -> list[Part]:
    """The first minute of a tune (its melody and chords as parts), newly orchestrated."""
    written = [notes for _, drums, notes in parts if not drums and len(notes) > 8]
    if not written:
        return []
    tune = sorted(written, key=lambda notes: -float(np.mean([n.pitch for n in notes])))
    shift = int(rng.integers(-5, 7))
    melody, chords = (_shifted(notes, shift) for notes in (tune[0], tune[-1]))
    seconds = min(60.0, max(n.end for n in melody))
    made: list[Part] = []
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
) -> list[Part]:
    """What plays for a while: none to three families on melody and chords, bass, drums."""
    pitched = [tag for tag in tags if tag not in ("bass", "drums")]
    count = int(rng.choice([0, 1, 2, 3], p=[0.08, 0.4, 0.36, 0.16]))
    chosen = rng.choice(pitched, size=min(count, len(pitched)), replace=False)
    roles = [melody, chords] if rng.random() < 0.6 else [chords, melody]
    made: list[Part] = []
    for i, family in enumerate(chosen):
        octaves = 12 * int(rng.integers(0, 3)) if roles[i % 2] is chords else 0
        notes = _shifted(_clip(roles[i % 2], start, length), octaves)
        made.append(_played(str(family), notes, rng))
    if "bass" in tags and rng.random() < 0.35:
        made.append(_played("bass", _roots(_clip(chords, start, length)), rng))
    if "drums" in tags and rng.random() < 0.35:
        made.append((0, True, _beat(start, length, rng)))
    return [part for part in made if part[2]]


def _clip(notes: list[Note], start: float, length: float) -> list[Note]:
    """The notes that begin in a section, none longer than it, at their own times."""
    return _moved(excerpt(notes, start, length), start)


def _moved(notes: list[Note], seconds: float) -> list[Note]:
    return [Note(n.start + seconds, n.end + seconds, n.pitch, n.velocity) for n in notes]


def _shifted(notes: list[Note], semitones: int) -> list[Note]:
    return [Note(n.start, n.end, n.pitch + semitones, n.velocity) for n in notes]


def _played(family: str, notes: list[Note], rng: np.random.Generator) -> Part:
    """A part for a random instrument of a family, in its range, as long as it rings."""
    programs = FAMILIES[family]
    ring, loud = RINGS.get(family, 60.0), int(rng.integers(70, 115))
    sounding = [Note(n.start, min(n.end, n.start + ring), n.pitch, loud) for n in notes]
    low, high = COMFORT.get(family, (33, 96))
    return programs[int(rng.integers(len(programs)))], False, transposed(sounding, low, high)


def _roots(chords: list[Note]) -> list[Note]:
    """The lowest note of everything that begins together."""
    lowest: dict[int, Note] = {}
    for n in chords:
        moment = round(n.start / 0.03)
        if moment not in lowest or n.pitch < lowest[moment].pitch:
            lowest[moment] = n
    return list(lowest.values())


def _beat(start: float, length: float, rng: np.random.Generator) -> list[Note]:
    """A drum rhythm of eight steps that repeat (General MIDI percussion)."""
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
