"""Reading and writing the notes of MIDI files."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np


@dataclass(frozen=True, slots=True)
class Note:
    """One note of a part."""

    start: float
    """Begin in seconds."""
    end: float
    """End in seconds."""
    pitch: int
    velocity: int


MidiPart = tuple[int, bool, list[Note]]
"""(General MIDI program counted from 0, whether it is a drum kit, notes by start)."""


def parts(path: Path) -> list[MidiPart]:
    """The parts of a MIDI file: (program, is drums, notes by start), one per track and channel."""
    found: dict[tuple[int, int, int], list[Note]] = {}
    file = mido.MidiFile(path)
    for index, track in enumerate(file.tracks):
        for key, note in _notes(track, _clock(file)):
            found.setdefault((index, *key), []).append(note)
    return [(p, c == 9, sorted(n, key=lambda x: x.start)) for (_, c, p), n in found.items()]


def read_piece(path: Path) -> list[MidiPart]:
    """The parts of a MIDI file; none if it cannot be read. Controllers are ignored."""
    try:
        return parts(path)
    except (OSError, ValueError, EOFError, KeyError):  # some public MIDI files are broken
        return []


def _clock(file: mido.MidiFile) -> Callable[[int], float]:
    """A function from ticks to seconds; the tempo may change in any track."""
    changes = [(0, 500_000)]
    for track in file.tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == "set_tempo":
                changes.append((now, message.tempo))
    changes.sort(key=lambda change: change[0])
    ticks = np.array([tick for tick, _ in changes])
    per_tick = np.array([tempo for _, tempo in changes]) / 1e6 / file.ticks_per_beat
    seconds = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * per_tick[:-1])])

    def at(tick: int) -> float:
        i = int(np.searchsorted(ticks, tick, side="right")) - 1
        return float(seconds[i] + (tick - ticks[i]) * per_tick[i])

    return at


def _notes(
    track: mido.MidiTrack, at: Callable[[int], float]
) -> Iterator[tuple[tuple[int, int], Note]]:
    """((channel, program), note) of one track."""
    now, programs = 0, dict.fromkeys(range(16), 0)
    sounding: dict[tuple[int, int], tuple[int, int, int]] = {}
    for message in track:
        now += message.time
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            if key in sounding:
                begin, velocity, program = sounding.pop(key)
                yield (message.channel, program), Note(at(begin), at(now), message.note, velocity)
            if message.type == "note_on" and message.velocity:
                sounding[key] = (now, message.velocity, programs[message.channel])


PEDAL, PEDAL_DOWN = 64, 64
"""The controller of the sustaining pedal, and its smallest value that sustains (MIDI 1.0)."""


def sustained(path: Path) -> list[Note]:
    """The notes of a piece for one piano, by start, each as long as the pedal holds it.

    A note that is struck again ends there.

    Args:
        path: a MIDI file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no MIDI file.
    """
    file = mido.MidiFile(path)
    notes = [note for track in file.tracks for _, note in _notes(track, _clock(file))]
    releases = _pedal_releases(file)
    again: dict[int, float] = {}
    out = []
    for note in sorted(notes, key=lambda n: n.start, reverse=True):
        end = next((up for down, up in releases if down <= note.end < up), note.end)
        end = max(note.end, min(end, again.get(note.pitch, end)))
        out.append(Note(note.start, end, note.pitch, note.velocity))
        again[note.pitch] = note.start
    return out[::-1]


def _pedal_releases(file: mido.MidiFile) -> list[tuple[float, float]]:
    """The spans in seconds in which the pedal is down."""
    at, down, spans = _clock(file), -1.0, []
    for track in file.tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == "control_change" and message.control == PEDAL:
                if message.value >= PEDAL_DOWN and down < 0:
                    down = at(now)
                elif message.value < PEDAL_DOWN and down >= 0:
                    spans.append((down, at(now)))
                    down = -1.0
    return spans


def excerpt(notes: list[Note], start: float, seconds: float) -> list[Note]:
    """The notes that begin in an excerpt of a part; its start becomes time 0."""
    return [
        Note(n.start - start, min(n.end - start, seconds), n.pitch, n.velocity)
        for n in notes
        if start <= n.start < start + seconds
    ]


def moved(notes: Iterable[Note], seconds: float) -> list[Note]:
    """The notes, later by some seconds."""
    return [Note(n.start + seconds, n.end + seconds, n.pitch, n.velocity) for n in notes]


def transposed(notes: list[Note], low: int, high: int) -> list[Note]:
    """The notes, each moved by whole octaves into [low, high]."""
    moved = []
    for n in notes:
        pitch = n.pitch
        while pitch < low:
            pitch += 12
        while pitch > high:
            pitch -= 12
        moved.append(Note(n.start, n.end, pitch, n.velocity))
    return moved


def write_midi(path: Path, tracks: list[MidiPart]) -> None:
    """Writes parts to a MIDI file; at most 15 of them may be pitched."""
    file = mido.MidiFile(ticks_per_beat=480)
    channels = iter(c for c in range(16) if c != 9)
    for program, drums, notes in tracks:
        track, channel = mido.MidiTrack(), 9 if drums else next(channels)
        program = 0 if program > 127 else program  # 128 is any kit
        track.append(mido.Message("program_change", channel=channel, program=program))
        moments = [(n.start, 1, n.pitch, n.velocity) for n in notes]
        moments += [(max(n.end, n.start + 0.02), 0, n.pitch, 0) for n in notes]
        last = 0
        for when, _, pitch, velocity in sorted(moments):
            tick = round(when * 960)  # 120 beats a minute, 480 ticks a beat
            message = mido.Message(
                "note_on", channel=channel, note=pitch, velocity=velocity, time=tick - last
            )
            track.append(message)
            last = tick
        file.tracks.append(track)
    file.save(path)
