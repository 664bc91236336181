"""Pieces whose mood people have judged, rendered on pianos.

EMOPIA (Hung et al., "EMOPIA: A multi-modal pop piano dataset for emotion recognition and
emotion-based music generation", ISMIR 2021; CC BY 4.0) has pop songs played on a piano, as MIDI,
and the quadrant of Russell's plane in which its authors hear each clip. The first rendering of a
clip is on a grand piano, as it was played; further ones are in other keys, since no mood belongs to
a key. Velocities are kept: much of the arousal is in them.
"""

import csv
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.known import NO_VOICE, KnownItem
from streamtag.train.data.samples import ProgressCallback
from streamtag.train.synthesis.midi import MidiPart, sustained
from streamtag.train.synthesis.pieces import instrument_truth
from streamtag.train.synthesis.renders import RATE, render_joined, save_flac
from streamtag.train.synthesis.stems import soundfont

LABELS = Path("labels") / "emopia"
"""The folder of the clips and of `labels.tsv` below the data folder."""
LICENCE = "CC BY 4.0"
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.1
"""Shares of the songs that nothing is learned from."""
QUADRANTS: dict[str, dict[str, float]] = {
    "Q1": {"happy": 1, "energetic": 1, "party": 1, "sad": 0, "melancholic": 0, "calm": 0,
           "dark": 0, "tender": 0},
    "Q2": {"energetic": 1, "aggressive": 1, "dark": 1, "happy": 0, "calm": 0, "tender": 0,
           "dreamy": 0, "funny": 0},
    "Q3": {"sad": 1, "melancholic": 1, "happy": 0, "energetic": 0, "party": 0, "aggressive": 0,
           "funny": 0},
    "Q4": {"calm": 1, "tender": 1, "energetic": 0, "aggressive": 0, "party": 0, "dark": 0},
}  # fmt: skip
"""What a quadrant says of moods: Q1 is happy and excited, Q2 tense and angry, Q3 sad, Q4 calm. What
it does not say is left out: sad music may be calm or not."""
PIANOS = (
    ("FluidR3_GM", 0), ("TimGM6mb", 0), ("MuseScore_General_Lite", 0), ("FluidR3_GM", 1),
    ("MuseScore_General_Lite", 2), ("TimGM6mb", 4),
)  # fmt: skip
"""Soundfonts and General MIDI programs; the first three are grand pianos."""
KEYS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6)
"""Semitones by which further renderings are transposed; no two of a clip by the same number."""
TAIL = 3.0
"""Seconds of decay after the last note."""
JOINED = 7
"""Clips in one call of FluidSynth, which has 15 pitched channels."""
QUIETEST_DB = -9.0
"""The most dB by which renderings are made quieter, at random."""


@dataclass(frozen=True, slots=True)
class RatedClip:
    """A clip of EMOPIA."""

    path: Path
    quadrant: str
    """`Q1` to `Q4`."""
    valence: float
    """−1 or 1."""
    arousal: float
    """−1 or 1."""
    song: str

    @property
    def split(self) -> str:
        """The split of its song, by a checksum."""
        draw = _draw(self.song)
        held = draw < TEST_SHARE + VALIDATION_SHARE
        return "test" if draw < TEST_SHARE else "validation" if held else "train"


@dataclass(frozen=True, slots=True)
class Rendering:
    """A clip on a piano."""

    clip: RatedClip
    font: str
    program: int
    key: int = 0
    """Semitones by which it is transposed."""

    @property
    def name(self) -> str:
        """Unique; `emopia/CLIP-SOUNDFONT-PROGRAM`, and the semitones."""
        key = f"{self.key:+d}".replace("+", "up") if self.key else ""
        return f"emopia/{self.clip.path.stem}-{self.font}-{self.program}{key}"


def rated_clips(data: Path) -> list[RatedClip]:
    """The clips below a data folder.

    Raises:
        RecipeError: there is no table, or it lacks a column.
    """
    folder = data / LABELS
    try:
        with (folder / "labels.tsv").open(encoding="utf-8", newline="") as file:
            return [
                RatedClip(folder / row["file"], row["quadrant"], float(row["valence"]),
                          float(row["arousal"]), row["song"])
                for row in csv.DictReader(file, delimiter="\t")
            ]  # fmt: skip
    except (OSError, KeyError, ValueError) as error:
        raise RecipeError(
            f"{folder}: expected labels.tsv with file, quadrant, valence, arousal and song, "
            f"got: {error}"
        ) from error


def rated_items(
    data: Path, folder: Path, count: int, progress: ProgressCallback
) -> list[KnownItem]:
    """Every clip in `count` renderings, as FLAC files, with what is known of them.

    The name of an item's group is its song, and its split follows from that.

    Args:
        data: the data folder.
        folder: keeps the renderings.
        count: renderings of each clip, up to 12; the first is as it was played.
        progress: reports progress.

    Raises:
        RecipeError: clips, soundfonts or FluidSynth are missing.
    """
    wanted = [rendering for clip in rated_clips(data) for rendering in _renderings(clip, count)]
    missing = [r for r in wanted if not _file(folder, r).exists()]
    missing.sort(key=lambda r: r.font)
    groups = [
        same[i : i + JOINED]
        for _, found in itertools.groupby(missing, key=lambda r: r.font)
        for same in [list(found)]
        for i in range(0, len(same), JOINED)
    ]
    for i, group in enumerate(groups):
        _render(group, folder)
        progress("render rated pieces", i + 1, len(groups))
    return [_known(rendering, _file(folder, rendering)) for rendering in wanted]


def _renderings(clip: RatedClip, count: int) -> list[Rendering]:
    """The renderings of a clip: which ones depends on its name alone."""
    rng = np.random.default_rng(list(clip.path.stem.encode()))
    pianos = [PIANOS[rng.integers(3)], *(PIANOS[i] for i in rng.integers(len(PIANOS), size=11))]
    keys = [0, *rng.permutation(KEYS).tolist()]
    pairs = zip(pianos[:count], keys[:count], strict=True)
    return [Rendering(clip, font, program, key) for (font, program), key in pairs]


def _file(folder: Path, rendering: Rendering) -> Path:
    return folder / f"{rendering.name}.flac"


def _render(group: Sequence[Rendering], folder: Path) -> None:
    played = [_played(rendering) for rendering in group]
    seconds = [max(n.end for _, _, notes in parts for n in notes) + TAIL for parts in played]
    audio = render_joined(played, seconds, soundfont(group[0].font), room=True)
    for rendering, samples in zip(group, audio, strict=True):
        quiet = 10 ** (QUIETEST_DB * _draw(rendering.name) / 20)
        save_flac(_file(folder, rendering), samples * np.float32(quiet), RATE)


def _played(rendering: Rendering) -> list[MidiPart]:
    """A clip's only part, with the pedal.

    Raises:
        RecipeError: the clip has no notes.
    """
    notes = sustained(rendering.clip.path)
    if not notes:
        raise RecipeError(f"{rendering.clip.path}: expected a MIDI file with notes, got none")
    moved = [replace(n, pitch=min(max(n.pitch + rendering.key, 0), 127)) for n in notes]
    return [(rendering.program, False, moved)]


def _known(rendering: Rendering, path: Path) -> KnownItem:
    clip = rendering.clip
    heard = instrument_truth([(rendering.program, False)])
    tags = {"music": 1.0} | heard | NO_VOICE | QUADRANTS[clip.quadrant]
    item = Item(rendering.name, path, (), clip.split, clip.song)
    return KnownItem(item, tags, clip.valence, clip.arousal, LICENCE)


def _draw(text: str) -> float:
    """A number in [0, 1) that depends on a text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
