"""Recordings of several collections, split by source and artist.

Two recordings belong together if they have an artist in common, or if they come from one source:
an album, a game, a data set. Sources that collect pieces of many artists do not tie their artists
together. Whole groups go to one split, so no test hears an artist or a production of the training.
"""

import csv
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamtag.errors import RecipeError

TABLES = {"music": "train.tsv", "songs": "tracks.tsv"}
"""Folders of recordings below the data folder, and the table in each."""
MANY_ARTISTS = 8
"""The least number of named artists of a source that is a collection."""
NO_ARTIST = re.compile(r"various|see |taken |us marine|\?$|license$|content$")
"""Beginnings of entries that name nobody."""
TEST = (
    # seven of the eight sources that general-1 never saw
    "C-C-Minetest-Server/phonograph_album_helena",
    "xonotic/xonotic-music.pk3dir",
    "MegaGlest/megaglest-data",
    "openclonk/openclonk",
    "osslugaru/lugaru",
    "UltraStar-Deluxe/songs",
    "Draevon/space-station-14",
    # songs with and without singers, and kinds of music that those sources lack
    "software-entwicklungskit",
    "josh woodward",
    "brad sucks",
    "steven m bryant",
    "nagoya institute of technology",
    "adèle bérard",
    "coro santa pazienza",
    "ensamble escénico vocal",
    "enrico caruso",
    "magdalen kadel",
    "u.s. army blues",
    "john dope",
    "dub alta fidelidad",
    "emegeme",
    "mark boas",
    "joe rosey",
    "mr smith",
    "araki kodo iii",
    "john michel",
    "aaron dunn",
)
"""The test of general-2, chosen before anything was trained. No choice is made on it. The
source `draphael123/bannerline`, unseen by general-1, is not in it: it shares an artist with an
hour of the training."""
VALIDATION_SHARE = 0.15
"""Share of the groups outside the test that choices are made on."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording and what its table says of it."""

    path: Path
    source: str
    """Repository or package that it comes from."""
    artists: tuple[str, ...]
    """Lower case; empty where unknown."""
    licence: str
    seconds: float
    vocals: str = ""
    """`yes`, `no`, `likely` or `unknown`; empty where the table does not say."""
    voice: str = ""
    """Who sings, where the table says: `female`, `male`, `choir` …"""
    words: tuple[str, ...] = ()
    """Words for its genre."""


def read_recordings(data: Path) -> tuple[Recording, ...]:
    """The recordings of all `TABLES` below a folder.

    Raises:
        RecipeError: a table is missing, or lacks a column.
    """
    found = []
    for folder, table in TABLES.items():
        path = data / folder / table
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            found += [_recording(data / folder, row) for row in rows]
        except (OSError, KeyError, ValueError) as error:
            raise RecipeError(
                f"{path}: expected a table with file, source, author, licence and seconds, "
                f"got: {error}"
            ) from error
    return tuple(found)


def split_recordings(
    recordings: Iterable[Recording], test: Collection[str]
) -> dict[str, tuple[Recording, ...]]:
    """The recordings of `train`, `validation` and `test`.

    Args:
        recordings: of all splits.
        test: sources and artists (lower case) whose groups are kept for the test.

    Raises:
        RecipeError: nobody and nothing has one of the names in `test`.
    """
    recordings = tuple(recordings)
    group_of = groups(recordings)
    names = {name for r in recordings for name in (r.source, *r.artists)}
    if unknown := sorted(set(test) - names):
        raise RecipeError(f"test: expected sources or artists, got {unknown[0]!r}")
    kept = {group_of[r.path] for r in recordings if r.source in test or set(r.artists) & set(test)}
    found: dict[str, list[Recording]] = {"train": [], "validation": [], "test": []}
    for recording in recordings:
        group = group_of[recording.path]
        draw = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32
        split = "validation" if draw < VALIDATION_SHARE else "train"
        found["test" if group in kept else split].append(recording)
    return {split: tuple(some) for split, some in found.items()}


def groups(recordings: Iterable[Recording]) -> Mapping[Path, str]:
    """The group of each recording: the first name, in order, of those that belong together."""
    recordings = tuple(recordings)
    artists: dict[str, set[str]] = {}
    for recording in recordings:
        artists.setdefault(recording.source, set()).update(recording.artists)
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    own = {}
    for recording in recordings:
        names = [f"artist {artist}" for artist in recording.artists]
        if not names or len(artists[recording.source]) < MANY_ARTISTS:
            names.append(f"source {recording.source}")
        own[recording.path] = names[0]
        for name in names[1:]:
            first, last = sorted((root(names[0]), root(name)))
            parent[last] = first
    return {path: root(name) for path, name in own.items()}


def _recording(folder: Path, row: Mapping[str, str]) -> Recording:
    vocals, _, voice = (row.get("vocals") or "").partition(" ")
    return Recording(
        folder / row["file"],
        row["source"],
        _artists(row["author"] or ""),
        row["licence"],
        float(row["seconds"]),
        vocals,
        voice.strip("()"),
        tuple(word.strip() for word in re.split("[,;]", row.get("genre") or "") if word.strip()),
    )


def _artists(text: str) -> tuple[str, ...]:
    """The artists in a field such as `by A & B (remix) | license`."""
    text = re.sub(r"\(.*?\)|\|.*|https?:.*", "", text.lower())
    text = re.sub(r"^(by|from|created by) ", "", text.strip())
    parts = (part.strip(" .-") for part in re.split(r",|&| and | / ", text))
    return tuple(part for part in parts if part and not NO_ARTIST.match(part))
