"""Arrangements of genres that are rare in open collections: drums, bass, chords and a melody.

A `Style` has the patterns of a genre, as books for drummers and arrangers teach them: steps of a
bar, of which chance takes some. Everything is General MIDI, rendered by FluidSynth. The truth of
genre and instruments is what was written.

Most styles are here because published taggers hear their genre in them; pop and soul were tried,
and were taken for blues and jazz. Reggae and world are here because recordings of them are missing.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.known import NO_VOICE, KnownItem
from streamtag.train.data.samples import ProgressCallback
from streamtag.train.synthesis.midi import MidiPart, Note
from streamtag.train.synthesis.pieces import instrument_truth
from streamtag.train.synthesis.renders import RATE, render_joined, save_flac
from streamtag.train.synthesis.stems import soundfont

T = TypeVar("T")
KICK, STICK, SNARE, CLAP, HAT, PEDAL, OPEN = 36, 37, 38, 39, 42, 44, 46
CRASH, RIDE, TAMBOURINE, COWBELL, CONGA_HIGH, CONGA_LOW = 49, 51, 54, 56, 63, 64
MARACAS, CLAVES, TOM_LOW, TOM_HIGH = 70, 75, 45, 48
"""General MIDI percussion notes."""
STANDARD, ROOM, POWER, ELECTRONIC, TR808, JAZZ, BRUSH = 0, 8, 16, 24, 25, 32, 40
"""Drum kits of Roland GS, as programs of the drum channel."""
CHORDS: Mapping[str, tuple[int, ...]] = {
    "": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10), "9": (0, 4, 10, 14), "5": (0, 7, 12),
}  # fmt: skip
"""Semitones above the root."""
SCALES = {
    "major": (0, 2, 4, 7, 9), "minor": (0, 3, 5, 7, 10), "in": (0, 1, 5, 7, 8),
    "hijaz": (0, 1, 4, 5, 7, 8, 10), "bhairav": (0, 1, 4, 5, 7, 8, 11),
}  # fmt: skip
"""Scales of melodies: the pentatonic ones fit every chord, the others are for drones."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a genre is played. A pattern is a bar: a character per step."""

    genre: str
    tempo: tuple[float, float]
    """Beats a minute, from … to; a bar has four."""
    drums: Mapping[int, tuple[str, ...]]
    """Patterns by percussion note: `x` a hit, `o` a soft one, `?` one by chance, `.` none."""
    bass: tuple[str, ...]
    """`r` root, `5` fifth, `8` octave, `3` third, `w` a step to the next root, `-` holds on."""
    bass_programs: tuple[int, ...]
    comping: tuple[str, ...]
    """Chords: `x` a short one, `X` one that is held, `a` the next note of a broken one."""
    comping_programs: tuple[int, ...]
    chords: tuple[str, ...]
    """Progressions: semitones above the key and kind, a bar each: `0 5 7 0m7`."""
    scale: str = "major"
    melody_programs: tuple[int, ...] = ()
    kits: tuple[int, ...] = (STANDARD,)
    swing: float = 0.0
    """By how much of a step every second one comes later."""
    tight: bool = False
    """Played by a machine: no jitter, even loudness."""


STYLES: Mapping[str, Style] = {
    "rock": Style("rock", (105, 150), {
        KICK: ("x.......x.x.....", "x..x....x.x...?."), SNARE: ("....x.......x...",),
        HAT: ("x.x.x.x.x.x.x.x.",), OPEN: ("................", "..............x."),
    }, ("r-r-r-r-r-r-r-r-",), (34, 33), ("x.x.x.x.x.x.x.x.", "X.....x.X.....x."), (30, 29),
        ("05 105 55 05", "05 55 75 55", "05 35 105 55"), "minor", (30, 29), (ROOM, POWER)),
    "metal": Style("metal", (130, 190), {
        KICK: ("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx"), SNARE: ("....x.......x...",),
        CRASH: ("x...............", "x.......x......."), RIDE: ("x.x.x.x.x.x.x.x.",),
    }, ("rrrrrrrrrrrrrrrr",), (34,), ("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx"), (30,),
        ("05 05 15 35", "05 85 105 05"), "minor", (30,), (POWER,)),
    "punk": Style("punk", (165, 210), {
        KICK: ("x...x.x.x...x.x.",), SNARE: ("..x...x...x...x.", "....x.......x..."),
        HAT: ("x.x.x.x.x.x.x.x.",), CRASH: ("x...............",),
    }, ("r-r-r-r-r-r-r-r-",), (34,), ("x.x.x.x.x.x.x.x.",), (30,), ("05 55 75 55", "05 95 55 75"),
        kits=(POWER, ROOM)),
    "funk": Style("funk", (92, 114), {
        KICK: ("x..x....?.x..x..", "x.x...?...x....."), SNARE: ("....x..o.o..x..o",),
        HAT: ("xoxoxoxoxoxoxoxo",),
    }, ("r..8..r.r..8.5..", "r.r..8...5r..8.."), (36, 33, 37),
        ("..x..xx...x..x..", "x..x..x...xx...."),
        (27, 7, 17), ("09 09 09 59", "0m7 0m7 57 57"), "minor", (61, 65), (STANDARD, ROOM)),
    "disco": Style("disco", (112, 126), {
        KICK: ("x...x...x...x...",), SNARE: ("....x.......x...",), CLAP: ("....x.......x...",),
        OPEN: ("..x...x...x...x.",), HAT: ("xx.xxx.xxx.xxx.x",),
    }, ("r.8.r.8.r.8.r.8.",), (33, 37), ("..x..x..x.x..x..", "X..............."), (27, 48, 4),
        ("0m7 57 10maj7 3maj7", "0m7 0m7 5m7 57"), "minor", (48, 61, 50), tight=True),
    "house": Style("house", (118, 128), {
        KICK: ("x...x...x...x...",), CLAP: ("....x.......x...",), OPEN: ("..x...x...x...x.",),
        HAT: ("x.?.x.?.x.?.x.?.",),
    }, ("..r...r...r..8r.", "r..r..r...r..r.."), (38, 39), ("x..x..x...x..x..", "..x..x....x..x.."),
        (16, 4, 90, 0), ("0m7 0m7 10maj7 8maj7", "0m7 5m7"), "minor", (81, 54), (ELECTRONIC, TR808),
        tight=True),
    "techno": Style("techno", (126, 140), {
        KICK: ("x...x...x...x...",), HAT: ("..x...x...x...x.", "xxxxxxxxxxxxxxxx"),
        CLAP: ("................", "....x.......x..."),
        TOM_LOW: ("................", "...x..x....x...."),
    }, ("..rr..rr..rr..rr", "rrrrrrrrrrrrrrrr"), (38, 39), ("...x......x.....", "................"),
        (81, 90), ("0m 0m 0m 0m", "0m 0m 1 0m"), "minor", (), (ELECTRONIC, TR808), tight=True),
    "trance": Style("trance", (132, 142), {
        KICK: ("x...x...x...x...",), OPEN: ("..x...x...x...x.",), CLAP: ("....x.......x...",),
    }, ("..r...r...r...r.", ".rrr.rrr.rrr.rrr"), (38, 39), ("aaaaaaaaaaaaaaaa",), (81, 90),
        ("0m 8 3 10", "0m 0m 8 10"), "minor", (81, 62), (ELECTRONIC,), tight=True),
    "drum and bass": Style("drum and bass", (168, 178), {
        KICK: ("x.........x.....", "x..x......x....."),
        SNARE: ("....x..o.o..x...", "....x.......x..o"),
        HAT: ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx"), RIDE: ("................",),
    }, ("r-------r---r---", "r-----r-....8-5-"), (38, 39), ("X...............",), (90, 89, 95),
        ("0m7 0m7 8maj7 8maj7",), "minor", (), (ELECTRONIC, STANDARD), tight=True),
    "hip-hop": Style("hip-hop", (82, 98), {
        KICK: ("x......x..x.....", "x.x.......x..x.."), SNARE: ("....x.......x...",),
        HAT: ("x.x.x.x.x.x.x.x.", "x.x.x.xxx.x.x.xx"),
    }, ("r-----....r-r-..", "r---....r-......"), (38, 33), ("x.......x.......", "X..............."),
        (4, 0, 11, 48), ("0m7 5m7", "0m7 8maj7 5m7 7m7"), "minor", (73, 11), (TR808, ELECTRONIC),
        0.2, tight=True),
    "latin": Style("latin", (90, 112), {
        CLAVES: ("x..x..x...x.x...", "..x.x...x..x..x."), CONGA_HIGH: ("..x...xx..x...xx",),
        CONGA_LOW: ("......x.......xx",), MARACAS: ("x.xxx.xxx.xxx.xx",),
        COWBELL: ("x...x...x...x...",),
    }, ("......r.....5...", "r.....5.....8..."), (32, 33), ("x..x..x...x.x.x.", "aa.aa.a.aa.aa.a."),
        (0, 24), ("0m7 57 57 0m7", "07 57 77 57"), "minor", (56, 57, 73)),
    "bossa nova": Style("latin", (62, 78), {
        STICK: ("x..x..x...x..x..", "x..x..x...x.x..."), KICK: ("x..xx..xx..xx..x",),
        HAT: ("xoxoxoxoxoxoxoxo",),
    }, ("r.....5-5.....r-",), (32,), ("x..x..x...x..x..", "..x..x..x..x...."), (24,),
        ("0maj7 2m7 77 0maj7", "0m7 57 10maj7 3maj7"), "major", (73, 65, 0), (BRUSH, STANDARD)),
    "jazz": Style("jazz", (110, 210), {
        RIDE: ("x..x.xx..x.x", "x..x.xx..x.x", "x..x..x..x.x"), PEDAL: ("...x.....x..",),
        SNARE: ("........?...", "..?.....?..?"), KICK: ("o.....o.....",),
    }, ("r--3--5--w--", "r--5--3--w--"), (32,), ("...x.......x", "x....x......", "..x.....x..."),
        (0, 0, 26), ("2m7 77 0maj7 97", "0m7 57 10maj7 3maj7"), "major", (65, 66, 56, 0),
        (JAZZ, BRUSH)),
    "blues": Style("blues", (70, 120), {
        KICK: ("x.....x.....",), SNARE: ("...x.....x..",), RIDE: ("x.xx.xx.xx.x",),
    }, ("r-rr-r5-55-5", "r--3--5--8--"), (33, 32), ("x.xx.xx.xx.x", "X.....X....."), (26, 17, 0),
        ("07 07 07 07 57 57 07 07 77 57 07 77",), "minor", (27, 22, 29)),
    "country": Style("country", (100, 130), {
        KICK: ("x.......x.......",), SNARE: ("....x.......x...", "..o.x.o...o.x.o."),
        HAT: ("x.x.x.x.x.x.x.x.",),
    }, ("r...5-..r...5-..",), (32, 33), ("..x...x...x...x.", "..xx..xx..xx..xx"), (25, 25, 105),
        ("0 0 5 0", "0 5 0 7"), "major", (105, 110, 26), (STANDARD, BRUSH)),
    "reggae": Style("reggae", (68, 84), {
        KICK: ("....x.......x...", "x...x...x...x..."), STICK: ("....x.......x...",),
        HAT: ("x.x.x.x.x.x.x.x.", "x.xxx.xxx.xxx.xx"),
    }, ("r..r..5.....r.8.", "....r.r.5...8.5.", "r-..r-..5-..8-.."), (33, 35),
        ("..x...x...x...x.", "..x...x...x..xx."), (27, 28, 16),
        ("0m 0m 5m 5m", "0 5 0 7", "0m 10 0m 10"), "minor", (17, 57, 56), swing=0.2),
    "middle eastern": Style("world", (80, 126), {
        CONGA_LOW: ("x.......x.......", "x..x....x......."), CONGA_HIGH: ("..x...x.....x...",),
        TAMBOURINE: ("x.xxx.xxx.xxx.x?", "................"),
    }, ("r...............", "r.......r......."), (43, 32), ("aa.aaaa.aa.aaa..", "X..............."),
        (15, 48, 105), ("05 05 05 05", "05 05 15 05"), "hijaz", (111, 110, 73, 68)),
    "indian": Style("world", (70, 130), {
        CONGA_LOW: ("x..x........x..x", "x.......x.x....."),
        CONGA_HIGH: ("..x.x.xxx.x.x.x.", "x.xxx.xx..xxx.xx"),
    }, ("r---------------",), (43,), ("aaaaaaaaaaaaaaaa", "a...a...a...a..."), (104, 15),
        ("05 05 05 05",), "bhairav", (104, 73, 111)),
    "japanese": Style("world", (56, 96), {
        TOM_LOW: ("x.......x.......", "x......x..x....."), STICK: ("..............x.",),
    }, ("r...............",), (116, 43), ("a..a..aa........", "a.a.....a..a...."), (107, 106),
        ("05 05 55 05", "05 05 05 05"), "in", (77, 107, 106)),
    "chinese": Style("world", (66, 112), {
        TOM_HIGH: ("x.......x..x....",), STICK: ("....x.......x...", "x...x...x...x..."),
    }, ("r.......5.......",), (43, 45), ("a.aaa.aaa.aaa.a.", "X..............."), (107, 15, 46),
        ("0 0 7 0", "05 05 75 05"), "major", (110, 75, 73, 106)),
    "african": Style("world", (92, 124), {
        COWBELL: ("x.x.xx.x.x.x", "x.x.x.xx.x.x"), CONGA_LOW: ("x..x..x..x..",),
        CONGA_HIGH: (".xx.xx.xx.xx", "..x.xx..x.xx"), MARACAS: ("x.xx.xx.xx.x",),
    }, ("r..5.r..5.8.", "r.....5....."), (33, 12), ("a.aa.aa.aa.a", "aaaaaaaaaaaa"),
        (108, 12, 24), ("0 5 7 5", "0 0 7 7"), "major", (108, 12, 75)),
}  # fmt: skip
"""Styles by name."""
LICENCE = "Apache-2.0"
"""Of the arrangements; they are made here."""
SECONDS, TAIL = 30.0, 2.0
"""Length of a piece, and of the decay after it."""
JOINED = 3
"""Pieces in one call of FluidSynth, which has 15 pitched channels."""
FONTS = {
    "train": ("FluidR3_GM", "TimGM6mb"), "validation": ("MuseScore_General_Lite",),
    "test": ("MuseScore_General_Lite",),
}  # fmt: skip
"""Soundfonts by split, so that no test has the sounds of the training."""
HELD_BACK = 8
"""One of this number of pieces is for validation, another one for the test."""


def groove_items(folder: Path, count: int, progress: ProgressCallback) -> list[KnownItem]:
    """Pieces in every style, as FLAC files at `RATE`, with what is known of them.

    Args:
        folder: keeps the renderings.
        count: pieces of each style; the first ones stay the same with more.
        progress: reports progress.

    Raises:
        RecipeError: a soundfont or FluidSynth is missing.
    """
    wanted = [(name, i) for name in STYLES for i in range(count)]
    missing = [w for w in wanted if not _file(folder, *w).exists()]
    missing.sort(key=lambda w: _font(*w))
    groups = [
        same[i : i + JOINED]
        for _, found in itertools.groupby(missing, key=lambda w: _font(*w))
        for same in [list(found)]
        for i in range(0, len(same), JOINED)
    ]
    for i, group in enumerate(groups):
        played = [_piece(*w) for w in group]
        lengths = [max(n.end for _, _, notes in p for n in notes) + TAIL for p in played]
        audio = render_joined(played, lengths, soundfont(_font(*group[0])), room=True)
        for w, samples in zip(group, audio, strict=True):
            save_flac(_file(folder, *w), samples, RATE)
        progress("render arrangements", i + 1, len(groups))
    return [_known(folder, *w) for w in wanted]


def _piece(name: str, number: int) -> list[MidiPart]:
    return arrangement(STYLES[name], SECONDS, np.random.default_rng([number, *name.encode()]))


def _split(number: int) -> str:
    return {HELD_BACK - 2: "validation", HELD_BACK - 1: "test"}.get(number % HELD_BACK, "train")


def _font(name: str, number: int) -> str:
    fonts = FONTS[_split(number)]
    return fonts[(number + len(name)) % len(fonts)]


def _file(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name.replace(' ', '-')}-{number:03d}-{_font(name, number)}.flac"


def _known(folder: Path, name: str, number: int) -> KnownItem:
    path = _file(folder, name, number)
    parts = [(program, drums) for program, drums, _ in _piece(name, number)]
    tags = {"music": 1.0, STYLES[name].genre: 1.0} | instrument_truth(parts) | NO_VOICE
    item = Item(f"grooves/{path.stem}", path, (), _split(number), f"groove {name} {number}")
    return KnownItem(item, tags, licence=LICENCE)


def arrangement(style: Style, seconds: float, rng: np.random.Generator) -> list[MidiPart]:
    """The parts of a piece in a style.

    Args:
        style: how it is played.
        seconds: length; the last bar may end later.
        rng: source of all choices.
    """
    bar = 240 / float(rng.uniform(*style.tempo))
    key, bars = int(rng.integers(12)), max(1, round(seconds / bar))
    progression = [_chord(text) for text in _one(style.chords, rng).split()]
    roots = [(key + progression[i % len(progression)][0]) % 12 for i in range(bars + 1)]
    kinds = [progression[i % len(progression)][1] for i in range(bars)]
    parts: list[MidiPart] = [(_one(style.kits, rng), True, _drums(style, bars, bar, rng))]
    parts.append((_one(style.bass_programs, rng), False, _bass(style, roots, kinds, bar, rng)))
    for program in _two(style.comping_programs, rng):
        parts.append((program, False, _comping(style, roots, kinds, bar, rng)))
    if style.melody_programs:
        notes = _melody(style, key, bars, bar, rng)
        parts.append((_one(style.melody_programs, rng), False, notes))
    return [
        (program, drums, _played(style, notes, rng)) for program, drums, notes in parts if notes
    ]


def _chord(text: str) -> tuple[int, tuple[int, ...]]:
    """`10maj7` as (10, the semitones of a maj7). Kinds that begin with a digit are one long."""
    for kind in sorted(CHORDS, key=len, reverse=True):
        root = text.removesuffix(kind)
        if text.endswith(kind) and root.isdecimal() and int(root) < 12:
            return int(root), CHORDS[kind]
    raise ValueError(f"chord: expected semitones and kind, as in '9m7', got {text!r}")


def _steps(
    pattern: str, start: float, bar: float, swing: float
) -> Iterator[tuple[int, float, str]]:
    """Index, begin in seconds and character of each step of a bar."""
    step = bar / len(pattern)
    for i, character in enumerate(pattern):
        yield i, start + (i + swing * (i % 2)) * step, character


def _drums(style: Style, bars: int, bar: float, rng: np.random.Generator) -> list[Note]:
    chosen = {note: _one(patterns, rng) for note, patterns in style.drums.items()}
    notes = [Note(0.0, 0.1, CRASH, 90)]
    for i in range(bars):
        fill = i % 8 == 7 and rng.random() < 0.7
        for pitch, pattern in chosen.items():
            for k, at, hit in _steps(pattern, i * bar, bar, style.swing):
                if fill and pitch == SNARE and k >= 3 * len(pattern) // 4:
                    hit = "x"
                if hit in "xo" or (hit == "?" and rng.random() < 0.4):
                    notes.append(Note(at, at + 0.1, pitch, 100 if hit == "x" else 60))
    return notes


def _bass(
    style: Style,
    roots: Sequence[int],
    kinds: Sequence[tuple[int, ...]],
    bar: float,
    rng: np.random.Generator,
) -> list[Note]:
    pattern, notes = _one(style.bass, rng), []
    for i, kind in enumerate(kinds):
        low = 28 + (roots[i] - 4) % 12
        after = 28 + (roots[i + 1] - 4) % 12
        pitches = {"r": low, "3": low + kind[1] % 12, "5": low + 7, "8": low + 12, "w": after - 1}
        for k, at, character in _steps(pattern, i * bar, bar, style.swing):
            if character in pitches:
                held = len(pattern[k + 1 :]) - len(pattern[k + 1 :].lstrip("-"))
                length = (0.8 + held) * bar / len(pattern)
                notes.append(Note(at, at + length, pitches[character], 96))
    return notes


def _comping(
    style: Style,
    roots: Sequence[int],
    kinds: Sequence[tuple[int, ...]],
    bar: float,
    rng: np.random.Generator,
) -> list[Note]:
    pattern, notes, turn = _one(style.comping, rng), [], 0
    for i, kind in enumerate(kinds):
        pitches = [52 + (roots[i] + semitones - 4) % 12 for semitones in kind]
        if kind == CHORDS["5"]:  # power chords are low, and in this order
            pitches = [40 + (roots[i] - 4) % 12 + semitones for semitones in kind]
        for k, at, character in _steps(pattern, i * bar, bar, style.swing):
            rest = pattern[k + 1 :]
            held = len(rest) - len(rest.lstrip("."))
            length = (0.7 if character in "xa" else 0.95 + held) * bar / len(pattern)
            if character in "xX":
                notes += [Note(at, at + length, pitch, 78) for pitch in pitches]
            elif character == "a":
                notes.append(Note(at, at + length, sorted(pitches)[turn % len(pitches)] + 12, 80))
                turn += 1
    return notes


def _melody(style: Style, key: int, bars: int, bar: float, rng: np.random.Generator) -> list[Note]:
    """Two phrases of two bars, which take turns."""
    steps = len(_one(style.bass, rng)) // 2
    scale = [60 + key + octave + s for octave in (0, 12) for s in SCALES[style.scale]]
    phrases = []
    for _ in range(2):
        place, phrase = int(rng.integers(3, 7)), []
        for k in range(2 * steps):
            if rng.random() < 0.45:
                place = int(np.clip(place + rng.integers(-2, 3), 0, len(scale) - 1))
                phrase.append((k * bar / steps, float(rng.uniform(0.5, 2.5)), scale[place]))
        phrases.append(phrase)
    return [
        Note(i * bar + at, i * bar + at + length * bar / steps, pitch, 92)
        for i in range(0, bars, 2)
        if rng.random() < 0.8
        for at, length, pitch in phrases[i // 2 % 2]
    ]


def _played(style: Style, notes: Sequence[Note], rng: np.random.Generator) -> list[Note]:
    """The notes as people play them: a little early, late, loud or soft."""
    late = 0.0 if style.tight else 0.008
    return [
        Note(max(0.0, n.start + moved), n.end + moved, n.pitch, int(np.clip(loud, 25, 127)))
        for n, moved, loud in zip(
            notes,
            rng.normal(0, late, len(notes)).tolist() if late else [0.0] * len(notes),
            [n.velocity for n in notes] + rng.normal(0, 3 if style.tight else 8, len(notes)),
            strict=True,
        )
    ]


def _one(some: Sequence[T], rng: np.random.Generator) -> T:
    return some[int(rng.integers(len(some)))]


def _two(some: Sequence[T], rng: np.random.Generator) -> list[T]:
    """One or two different ones."""
    order = rng.permutation(len(some))[: int(rng.integers(1, 3))]
    return list(dict.fromkeys(some[i] for i in order))
