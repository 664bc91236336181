"""What a recipe says of its data: windows of labelled recordings, made-up mixtures, teachers."""

from dataclasses import dataclass
from enum import StrEnum


class Task(StrEnum):
    """What is learned."""

    TAG = "tag"
    RECONSTRUCT = "reconstruct"
    """The input itself, without labels: pre-training of an autoencoder."""


class Cut(StrEnum):
    """Where windows are cut from a recording."""

    RANDOM = "random"
    """Anywhere, new ones in each epoch."""
    DRAWN = "drawn"
    """Anywhere, drawn once before the training."""
    CENTRE = "centre"
    FIRST = "first"
    SEGMENTS = "segments"
    """The first `segments` windows, one after the other."""
    CONSECUTIVE = "consecutive"
    """All of them, one after the other; what is left at the end is dropped unless it is all."""
    STRETCHED = "stretched"
    """The whole recording as one window of its own length, which the net must allow."""


class Short(StrEnum):
    """What becomes of a recording that is shorter than a window."""

    DISCARD = "discard"
    """Not used at all."""
    WRAP = "wrap"
    """Repeated from its beginning until the window is full."""
    MINIMUM = "minimum"
    """In the middle, its smallest value on both sides."""
    EITHER = "either"
    """In the middle; on both sides, by chance, wrapped or its smallest value (P1, 4.1)."""
    SILENCE = "silence"
    """At the right end, the front end's silence before it: as a live stream begins."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """How labelled recordings become windows. Which recordings: the command line says that."""

    subset: str = ""
    """Of MTG-Jamendo the categories of tags (`mood/theme`), of MagnaTagATune how many of the most
    frequent tags (`50`); empty for all."""
    split: str = ""
    """`split-0` … `split-4`; `random` or `folders` of MagnaTagATune; empty for the first."""
    train: Cut = Cut.RANDOM
    validation: Cut = Cut.CENTRE
    test: Cut = Cut.CENTRE
    segments: int = 1
    """Windows per recording and epoch, unless the cut says it."""
    short: Short = Short.WRAP
    """In training."""
    short_judged: Short = Short.WRAP
    """In validation and test."""
    side: int = 0
    """Values per recording from a side file, given to the net beside the frames."""


@dataclass(frozen=True, slots=True)
class Mixtures:
    """What is mixed from single instruments, and which pieces are rendered whole."""

    soundfonts: tuple[str, ...]
    """File names without endings; all are used in training."""
    unseen_soundfonts: tuple[str, ...]
    """Only for a test of what another synthesiser does to the scores."""
    train: int
    """Windows mixed from the stems of the training split."""
    validation: int
    test: int
    """Windows mixed from real notes of the test split alone."""
    strangers: int
    """Windows of noises and speech alone, in training; an eighth as many in validation."""
    phrases_per_program: int
    """Rendered phrases per General MIDI program and soundfont, in training."""
    phrases_per_instrument: int
    """Phrases of real notes per instrument, in training."""
    phrase_seconds: float
    tunes: int
    """Folk tunes in random orchestrations, in training; an eighth as many in the other splits."""
    windows_per_piece: int
    """Windows of each whole piece and tune in training."""


@dataclass(frozen=True, slots=True)
class Distil:
    """What a student learns from larger taggers and from made-up mixtures, noises and speech."""

    vocabulary: str
    """A table of `vocabularies/`, see `lessons`."""
    teachers: tuple[str, ...]
    """`VOCABULARY-NET=KIND:CHECKPOINT`; checkpoints are below the data folder, and their kinds are
    those of `streamtag import`."""
    music: str
    """Folder of recordings below the data folder, with a table `train.tsv`: file, source."""
    unseen_sources: tuple[str, ...]
    """Of that table; all their recordings are for the test."""
    instruments: str
    """Recipe whose made-up windows teach the families of instruments; same front end and window."""
    sharpness: float = 2.0
    """Of soft decisions, see `lessons`."""
    leniency: tuple[float, float] = (0.5, 1.0)
    """Of soft decisions, in logits: of common tags, and of rare ones at most."""
    common: float = 0.025
    """Share of the training music in which a tag is on that is not rare."""
    windows: int = 24000
    """Per epoch."""
    judged: int = 4000
    """Windows of the validation set, and of each test set."""
    shares: tuple[float, float, float, float] = (0.55, 0.25, 0.15, 0.05)
    """Of the windows: of music, mixtures, noises and speech, silence."""
