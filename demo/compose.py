"""Writes the demo piece: six short scenes with different instruments, and its timeline.

The notes below were written for this project. They are rendered by FluidSynth with the soundfont
FluidR3 GM (MIT licence; Debian: fluid-soundfont-gm). Run it from a checkout to make `piece.ogg` and
`timeline.json` again:

    python demo/compose.py SOUNDFONT.sf2
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from streamtag.sources.ffmpeg import ffmpeg_path
from streamtag.train.synthesis.midi import Note, write_midi
from streamtag.train.synthesis.renders import FAMILIES, render

HERE = Path(__file__).resolve().parent
BEAT = 0.625  # seconds: 96 beats a minute
BAR = 4 * BEAT
SCENE = 5 * BAR  # 12.5 seconds

CHORDS = {  # root in octave 3, then the triad above it
    "Dm": (50, 53, 57),
    "Bb": (46, 50, 53),
    "F": (53, 57, 60),
    "C": (48, 52, 55),
    "Gm": (43, 46, 50),
    "A": (45, 49, 52),
}
MINOR = ("Dm", "Bb", "F", "C", "Dm")
TURN = ("Dm", "Gm", "Bb", "A", "Dm")

# (beat, length in beats, pitch): the tune, five bars of four beats
TUNE = [
    (0, 1.5, 74), (1.5, 0.5, 76), (2, 1, 77), (3, 1, 81),
    (4, 2, 82), (6, 1, 81), (7, 1, 77),
    (8, 1.5, 79), (9.5, 0.5, 77), (10, 1, 76), (11, 1, 72),
    (12, 1, 76), (13, 1, 79), (14, 1.5, 77), (15.5, 0.5, 76),
    (16, 4, 74),
]  # fmt: skip
ANSWER = [
    (0, 1, 69), (1, 0.5, 74), (1.5, 0.5, 77), (2, 2, 81),
    (4, 0.5, 82), (4.5, 0.5, 81), (5, 1, 79), (6, 2, 74),
    (8, 1, 77), (9, 1, 74), (10, 1, 70), (11, 1, 74),
    (12, 1, 73), (13, 1, 76), (14, 1, 81), (15, 1, 79),
    (16, 1, 77), (17, 3, 74),
]  # fmt: skip


def melody(tune: list[tuple[float, float, int]], start: float, shift: int, loud: int) -> list[Note]:
    """A tune that begins at `start` seconds, moved by `shift` semitones."""
    return [
        Note(start + b * BEAT, start + (b + n * 0.95) * BEAT, p + shift, loud) for b, n, p in tune
    ]


def block_chords(names: tuple[str, ...], start: float, shift: int, loud: int) -> list[Note]:
    """One held chord per bar."""
    return [
        Note(start + i * BAR, start + (i + 0.98) * BAR, pitch + shift, loud)
        for i, name in enumerate(names)
        for pitch in CHORDS[name]
    ]


def arpeggio(names: tuple[str, ...], start: float, shift: int, loud: int) -> list[Note]:
    """Eighth notes up and down each chord."""
    notes = []
    for i, name in enumerate(names):
        a, b, c = CHORDS[name]
        for k, pitch in enumerate((a, b, c, a + 12, c, b + 12, a + 12, c)):
            at = start + i * BAR + k * BEAT / 2
            notes.append(Note(at, at + BEAT * 0.9, pitch + shift, loud - 6 * (k % 2)))
    return notes


def bass_line(names: tuple[str, ...], start: float, loud: int) -> list[Note]:
    """Root, root, fifth, root: a quarter note each."""
    return [
        Note(start + (4 * i + k) * BEAT, start + (4 * i + k + 0.85) * BEAT, pitch - 12, loud)
        for i, name in enumerate(names)
        for k, pitch in enumerate(
            (CHORDS[name][0], CHORDS[name][0], CHORDS[name][2], CHORDS[name][0])
        )
    ]


def drums(bars: int, start: float, loud: int) -> list[Note]:
    """Bass drum, snare, closed hi-hat, and a crash to begin with (General MIDI percussion)."""
    hits = [(0.0, 49)]
    for bar in range(bars):
        hits += [(4 * bar + b, 36) for b in (0, 1.5, 2)]
        hits += [(4 * bar + b, 38) for b in (1, 3)]
        hits += [(4 * bar + b / 2, 42) for b in range(8)]
    return [Note(start + b * BEAT, start + b * BEAT + 0.1, pitch, loud) for b, pitch in hits]


def score() -> list[tuple[str, int, list[Note]]]:
    """(tag, General MIDI program, notes) of every part."""
    s = [i * SCENE for i in range(6)]
    return [
        ("piano", 0, melody(TUNE, s[0], 0, 92) + arpeggio(MINOR, s[0], 0, 66)),
        ("strings", 48, block_chords(TURN, s[1], 12, 84)),
        ("strings", 42, melody(ANSWER, s[1], -24, 96)),
        ("woodwind", 73, melody(TUNE, s[2], 0, 100)),
        ("guitar", 24, arpeggio(MINOR, s[2], 0, 88)),
        ("brass", 61, block_chords(TURN, s[3], 12, 96)),
        ("brass", 56, melody(ANSWER, s[3], 0, 104)),
        ("drums", 128, drums(5, s[3], 96)),
        ("organ", 19, melody(TUNE, s[4], 0, 92) + block_chords(MINOR, s[4], 0, 80)),
        ("strings", 48, melody(ANSWER, s[5], 0, 104) + block_chords(TURN, s[5], 12, 88)),
        ("piano", 0, arpeggio(TURN, s[5], 12, 92)),
        ("bass", 33, bass_line(TURN, s[5], 104)),
        ("drums", 128, drums(5, s[5], 92)),
    ]


def timeline(parts: list[tuple[str, int, list[Note]]]) -> list[dict[str, object]]:
    """The true interval of each tag: the whole scene in which its instrument plays."""
    spans = set()
    for tag, _, notes in parts:
        scene = int(notes[0].start / SCENE + 1e-6)
        spans.add((scene * SCENE, (scene + 1) * SCENE, tag))
    return [{"tag": tag, "on": on, "off": off} for on, off, tag in sorted(spans)]


def main(soundfont: Path) -> None:
    """Writes `piece.ogg` and `timeline.json` beside this file."""
    parts = score()
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        write_midi(midi, [(p, p == 128, notes) for _, p, notes in parts])
        render(midi, soundfont, wav, 44100, room=True)
        command = [ffmpeg_path(), "-v", "error", "-y", "-i", wav, "-t", str(6 * SCENE + 2)]
        command += ["-af", "loudnorm=I=-18:TP=-1.5", "-ar", "44100", "-c:a", "libvorbis"]
        command += ["-q:a", "3", "-map_metadata", "-1", HERE / "piece.ogg"]
        subprocess.run([str(word) for word in command], check=True)
    truth = {
        "piece": "piece.ogg",
        "seconds": 6 * SCENE,
        "known": [*FAMILIES, "drums"],
        "tags": timeline(parts),
    }
    (HERE / "timeline.json").write_text(json.dumps(truth, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
