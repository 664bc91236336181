"""MTG-Jamendo (Bogdanov et al., The MTG-Jamendo dataset for automatic music tagging, 2019).

The folder is the data set's repository (`data/splits/split-0/autotagging_moodtheme-train.tsv` …),
its `data` or `splits`, or one that holds the tables of one split. `subset` is the category of tags:
`mood/theme`, `genre`, `instrument`, `top50tags` or `all` (empty: `all`, or the only one that
exists). `split` is `split-0` … `split-4` (empty: the first one that exists; MediaEval 2019 used
`split-0`).

The tables are tab separated with CRLF and ragged: every column from the sixth on is a tag.
Recordings are searched in the folder itself, `audio`, `audio-low` and `melspecs`, as `24/3524.mp3`,
`24/3524.low.mp3`, with another ending of audio, or as `24/3524.npy`: the published mels. Tags are
in the order of `tags/moodtheme_split.txt` if that exists, else alphabetical.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from streamtag.audio.feature_config import (
    FeatureConfig,
    Framing,
    Log,
    MelNorm,
    MelScale,
    Padding,
    Tail,
    WindowFunction,
)
from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import (
    AUDIO,
    SPLITS,
    Corpus,
    Item,
    TableRow,
    make_corpus,
    read_rows,
)

SUBSETS = {
    "all": "autotagging",
    "genre": "autotagging_genre",
    "instrument": "autotagging_instrument",
    "mood/theme": "autotagging_moodtheme",
    "top50tags": "autotagging_top50tags",
}
"""The beginning of the file names of each subset, before `-train.tsv`."""
_SPELLINGS = {"moodtheme": "mood/theme", "top50": "top50tags"}
CATEGORIES = ("genre", "instrument", "mood/theme")
HEADER = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
ROOTS = ("audio", "audio-low", ".", "raw_30s/audio", "raw_30s/audio-low", "melspecs",
         "raw_30s/melspecs")  # fmt: skip
"""Folders that may hold recordings, below the data folder or its `data`."""
ENDINGS = (".mp3", ".low.mp3", *sorted(AUDIO - {".mp3"}))
_TABLE = re.compile(r"(autotagging(?:_\w+)?)-(?:train|validation|test)\.tsv")


@dataclass(frozen=True, slots=True)
class JamendoTrack:
    """A row of a table."""

    stem: str
    """`24/3524`."""
    artist: str
    seconds: float
    tags: tuple[str, ...]
    """Full names: `mood/theme---happy`."""
    split: str


def is_table(path: Path) -> bool:
    """Whether a file has the name of one of the tables."""
    return _TABLE.fullmatch(path.name) is not None


def tables(folder: Path) -> dict[str, Path]:
    """The folders with tables by split; tables in the folder itself have an empty split."""
    found: dict[str, Path] = {}
    for base in (folder / "data" / "splits", folder / "splits", folder):
        for name in (f"split-{n}" for n in range(5)):
            if any(map(is_table, (base / name).glob("autotagging*.tsv"))):
                found.setdefault(name, base / name)
    if any(map(is_table, folder.glob("autotagging*.tsv"))):
        found.setdefault(folder.name if folder.name.startswith("split-") else "", folder)
    return found


def read(folder: Path, *, subset: str = "", split: str = "") -> Corpus:
    """One subset of the data set with one split.

    Raises:
        RecipeError: the subset or split does not exist, a table has a fault, or there are no
            recordings.
    """
    split, place = _place(folder, split)
    subset = _subset(place, subset)
    tracks = read_tracks(place, subset)
    files = _Files(folder)
    names = _tag_names(folder, place, subset, tracks)
    column = {name: i for i, name in enumerate(names)}
    items = []
    for track in tracks:
        audio, mels = files.find(track.stem, ENDINGS), files.find(track.stem, (".npy",))
        tags = tuple(sorted(column[tag] for tag in track.tags))
        path = audio or mels or folder / f"{track.stem}.mp3"
        items.append(Item(track.stem, path, tags, track.split, track.artist, mels=mels))
    if items and not files.found:
        raise RecipeError(
            f"{folder}: expected recordings such as {tracks[0].stem}.mp3 or .npy in "
            f"{', '.join(ROOTS[:3])} or melspecs, got none; link their folder as {folder / 'audio'}"
        )
    short = subset not in ("all", "top50tags")
    shown = [name.partition("---")[2] for name in names] if short else names
    name = f"MTG-Jamendo {subset}, {split or 'one split'}"
    return make_corpus(name, shown, items, name)


def read_tracks(place: Path, subset: str) -> list[JamendoTrack]:
    """The rows of the three tables of one subset in one folder, in their order.

    Raises:
        RecipeError: a table is missing, or there is a fault in it.
    """
    tracks: list[JamendoTrack] = []
    for part in SPLITS:
        path = place / f"{SUBSETS[subset]}-{part}.tsv"
        if not path.exists():
            raise RecipeError(f"{path}: expected the table of this part, got nothing; fetch it")
        tracks += _tracks(path, part, subset)
    return tracks


def _tracks(path: Path, part: str, subset: str) -> Iterator[JamendoTrack]:
    rows = read_rows(path, "\t", quoted=False)
    header = next(rows, None)
    if header is None or header.cells[:6] != HEADER:
        got = "an empty file" if header is None else repr("\t".join(header.cells))
        raise RecipeError(
            f"{path}: line 1, column 1: expected the header {' '.join(HEADER)}, got {got:.80}; "
            "fetch the table again"
        )
    for row in rows:
        yield _track(row, part, subset)


def _track(row: TableRow, part: str, subset: str) -> JamendoTrack:
    """A row of a table, checked."""
    if len(row.cells) < 6:
        raise row.fault(len(row.cells), HEADER[len(row.cells)], "at least 6 columns")
    _, artist, _, path, seconds, *tags = row.cells
    if not re.fullmatch(r"[0-9A-Za-z_-]+/[0-9A-Za-z_-]+\.mp3", path):
        raise row.fault(3, "PATH", "a path like 24/3524.mp3")
    if not re.fullmatch(r"\d+(\.\d+)?", seconds):
        raise row.fault(4, "DURATION", "seconds")
    for column, tag in enumerate(tags, 5):
        category, _, name = tag.partition("---")
        wanted = (subset,) if subset in CATEGORIES else CATEGORIES
        if tag and (category not in wanted or not name):
            raise row.fault(column, "TAGS", f"a tag like {wanted[-1]}---NAME")
    if not any(tags):
        raise row.fault(5, "TAGS", "at least one tag")
    named = tuple(dict.fromkeys(tag for tag in tags if tag))
    return JamendoTrack(path.removesuffix(".mp3"), artist, float(seconds), named, part)


def _place(folder: Path, split: str) -> tuple[str, Path]:
    """The split's name and the folder of its tables."""
    places = tables(folder)
    wanted = f"split-{split}" if split.isdecimal() else split
    if not wanted:
        return next(iter(places.items()))
    if wanted in places:
        return wanted, places[wanted]
    if wanted == "split-0" and "" in places:
        return wanted, places[""]
    raise RecipeError(
        f"{folder}: split: expected one of {', '.join(name or 'split-0' for name in places)}, "
        f"got {split!r}"
    )


def _subset(place: Path, subset: str) -> str:
    """The subset's canonical name."""
    wanted = _SPELLINGS.get(subset, subset)
    there = [name for name, stem in SUBSETS.items() if (place / f"{stem}-train.tsv").exists()]
    if not wanted and ("all" in there or len(there) == 1):
        return there[0]
    if wanted in there:
        return wanted
    raise RecipeError(
        f"{place}: subset: expected one whose tables are here ({', '.join(there) or 'none'}), "
        f"got {subset!r}; fetch {SUBSETS.get(wanted, 'autotagging')}-train.tsv and the others"
    )


def _tag_names(
    folder: Path, place: Path, subset: str, tracks: Iterable[JamendoTrack]
) -> tuple[str, ...]:
    """Full names of the tags in the order of the columns: as published, else alphabetical."""
    used = sorted({tag for track in tracks for tag in track.tags})
    name = f"{SUBSETS[subset].partition('_')[2]}_split.txt"
    for base in (folder / "data" / "tags", folder / "tags", place, place.parent.parent / "tags"):
        if subset in CATEGORIES and (path := base / name).exists():
            return _listed(path, used)
    return tuple(used)


def _listed(path: Path, used: list[str]) -> tuple[str, ...]:
    rows = list(read_rows(path, "\t", quoted=False))
    names = tuple(row.cells[0] for row in rows)
    if twice := [row for i, row in enumerate(rows) if row.cells[0] in names[:i]]:
        raise twice[0].fault(0, "tag", "every tag once")
    if missing := sorted(set(used) - set(names)):
        raise RecipeError(
            f"{path}: expected every tag of the tables, got none called {missing[0]!r}; "
            "fetch tables and tags of the same version"
        )
    return names


class _Files:
    """Finds recordings with one listing per folder."""

    def __init__(self, folder: Path) -> None:
        bases = [folder, folder / "data"]
        if folder.name.startswith("split"):  # of a repository: data/splits/split-0
            bases += list(folder.parents)[:3]
        self._roots = [base / root for base in bases for root in ROOTS if (base / root).is_dir()]
        self._names = cache(lambda folder: frozenset(p.name for p in folder.glob("*")))
        self.found = 0

    def find(self, stem: str, endings: Iterable[str]) -> Path | None:
        """The first file of this stem with one of the endings."""
        inner = PurePosixPath(stem)
        for ending in endings:
            for root in self._roots:
                if inner.name + ending in self._names(root / inner.parent):
                    self.found += 1
                    return root / f"{stem}{ending}"
        return None


JAMENDO_MEL = FeatureConfig(
    sample_rate=12000,
    n_fft=512,
    hop=256,
    window=WindowFunction.HANN_SYMMETRIC,
    n_mels=96,
    f_max=6000.0,
    mel_scale=MelScale.ESSENTIA,
    mel_norm=MelNorm.SLANEY,
    log=Log.DB,
    log_multiplier=20.0,
    framing=Framing.CENTERED,
    padding=Padding.ZERO,
    tail=Tail.CEIL,
)
"""The front end of the published mels: 20·log10(mel power), twice the usual decibels."""


def mel_file_fault(path: Path) -> str:
    """What is wrong with a file of published mels; empty if nothing is."""
    try:
        mels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        return f"{path}: expected mels, got: {error}"
    fine = mels.ndim == 2 and mels.shape[0] == JAMENDO_MEL.n_mels and mels.shape[1] > 0
    if fine and mels.dtype.kind == "f":
        return ""
    return f"{path}: expected mels of shape (96, T), got {mels.dtype} of shape {mels.shape}"


def is_published_front_end(config: FeatureConfig) -> bool:
    """Whether a front end computes the published mels, however it is written."""

    def normalised(config: FeatureConfig) -> FeatureConfig:
        return dataclasses.replace(
            config,
            f_max=config.f_max or config.sample_rate / 2,
            win_length=config.win_length or config.n_fft,
        )

    return normalised(config) == normalised(JAMENDO_MEL)


def mel_frames(path: Path, start: float, end: float) -> np.ndarray:
    """Frames of [start, end) seconds, (n, 96) as a memory map; an end of 0 means the last one."""
    rate = JAMENDO_MEL.frame_rate
    whole: np.ndarray = np.load(path, mmap_mode="r").T
    return whole[round(start * rate) : round(end * rate) or None]
