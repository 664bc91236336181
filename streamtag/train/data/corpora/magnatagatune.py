"""MagnaTagATune (Law et al., Evaluation of algorithms using games, 2009).

The folder holds `annotations_final.csv`, optionally `clip_info_final.csv`, and the clips as
`f/NAME-30-59.mp3` in itself or in `mp3`, `audio` or `clips`. Three clips whose files are empty are
left out.

`subset` selects the tags:

* `50` (or another number): the most frequent ones after the merge of the Polimi music tagger
  (urzino/MusicTagger, 2018), rarest first: 17 negations dropped, 48 synonyms joined to others by
  OR, 123 left. Empty: all 123. Tags with as many clips stay in alphabetical order (pandas' own
  order of ties, which the authors have, depends on its version).
* `50-unmerged`: the most frequent ones of the 188 as they are, most frequent first, as in the
  literature. Tags with as many clips stay in the order of the file.

`split` selects the training clips:

* `random` (or empty): the split of the Polimi tagger, by clips: 20,480 / 1,920 / 3,460. Parts of
  one song are on both sides, so its scores are too high. It equals scikit-learn's
  `train_test_split` with `random_state=42`, applied twice. This assumes the clips in the order of
  the table, and NumPy's legacy generator, which never changes.
* `folders`: 0-b, c, d-f, without clips that have none of the tags, as in the literature.
* `folders-0c`: 0-c, d, e-f, likewise (Hung et al., MediaEval 2019).
* `artists`: no artist on both sides; 8 to 1 to 1 of the clips; needs `clip_info_final.csv`.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import (
    SPLITS,
    Corpus,
    Item,
    clean_name,
    make_corpus,
    read_rows,
)

ANNOTATIONS = "annotations_final.csv"
CLIPS = "clip_info_final.csv"
WAYS = ("random", "folders", "folders-0c", "artists")
ROOTS = (".", "mp3", "audio", "clips")
EMPTY = frozenset((
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_"
    "couperin-88-117.mp3",
))  # fmt: skip
"""Clips whose files have no audio."""
NEGATIVE = frozenset(
    [f"no {what}" for what in (
        "flute", "guitar", "piano", "strings", "violin", "beat", "singer", "drums", "singing",
        "vocal", "vocals", "voice", "voices",
    )] + [f"not {what}" for what in ("classical", "english", "opera", "rock")]
)  # fmt: skip
SYNONYMS = {
    "drum": ("beat", "beats", "drums"),
    "chant": ("chanting",),
    "choir": ("choral",),
    "classical": ("clasical", "classic"),
    "electro": ("electronic", "electronica", "electric"),
    "fast": ("fast beat", "quick"),
    "female": ("female singer", "female singing", "female vocals", "female vocal", "female voice",
               "woman", "woman singing", "women"),
    "flute": ("flutes",),
    "guitar": ("guitars",),
    "hard": ("hard rock",),
    "harpsichord": ("harpsicord",),
    "heavy": ("heavy metal", "metal"),
    "horn": ("horns",),
    "india": ("indian",),
    "jazz": ("jazzy",),
    "male": ("male singer", "male vocal", "male vocals", "male voice", "man", "man singing", "men"),
    "opera": ("operatic",),
    "orchestra": ("orchestral",),
    "quiet": ("silence",),
    "singer": ("singing",),
    "space": ("spacey",),
    "string": ("strings",),
    "synth": ("synthesizer",),
    "violin": ("violins",),
    "vocal": ("vocals", "voice", "voices"),
    "strange": ("weird",),
}  # fmt: skip
"""The tags that are merged into each of these tags."""
TRAINING, LEARNING = 0.866203, 0.91429
"""Shares of the Polimi split: of all clips those not in the test, and of these those not in
validation."""
_SUBSET = re.compile(r"(\d*)-?(unmerged)?")


@dataclass(frozen=True, slots=True)
class Annotations:
    """The tags of every clip."""

    clips: tuple[str, ...]
    """Ids of the clips."""
    paths: tuple[str, ...]
    """`f/NAME-30-59.mp3`."""
    tags: tuple[str, ...]
    on: np.ndarray
    """(n_clips, n_tags) bool."""


def read(folder: Path, *, subset: str = "", split: str = "") -> Corpus:
    """The data set with some of its tags and one split.

    Raises:
        RecipeError: the subset or split does not exist, a table has a fault, or there are no clips.
    """
    match, way = _SUBSET.fullmatch(subset), split or WAYS[0]
    if match is None:
        raise RecipeError(
            f"{folder}: subset: expected a number of tags such as '50' or '50-unmerged', or "
            f"nothing, got {subset!r}"
        )
    if way not in WAYS:
        raise RecipeError(f"{folder}: split: expected one of {', '.join(WAYS)}, got {split!r}")
    whole = read_annotations(folder / ANNOTATIONS)
    chosen = most_frequent(whole if match[2] else merged(whole), int(match[1] or 0), bool(match[2]))
    artists = read_artists(folder / CLIPS) if (folder / CLIPS).exists() else {}
    if way == "artists" and not artists:
        raise RecipeError(f"{folder / CLIPS}: expected it for the split 'artists', got nothing")
    groups = [artists.get(c) or _artist(p) for c, p in zip(chosen.clips, chosen.paths, strict=True)]
    root = _root(folder, chosen.paths)
    items = [
        Item(clean_name(path.removesuffix(".mp3")), root / path, tuple(np.flatnonzero(on).tolist()),
             part, group)
        for path, part, group, on in zip(
            chosen.paths, _parts(way, chosen, groups), groups, chosen.on, strict=True
        )
        if on.any() or not way.startswith("folders")
    ]  # fmt: skip
    name = f"MagnaTagATune {subset or 'all'}, {way}"
    return make_corpus(name, chosen.tags, items, name)


def read_annotations(path: Path) -> Annotations:
    """The table of tags without the empty clips.

    Raises:
        RecipeError: the table has a fault.
    """
    rows = read_rows(path, "\t")
    header = next(rows, None)
    names = header.cells if header else ()
    if header is None or names[0] != "clip_id" or names[-1] != "mp3_path" or len(names) < 3:
        raise RecipeError(
            f"{path}: line 1, column 1: expected a header clip_id, tags, mp3_path, separated by "
            f"tabs, got {' '.join(names):.60}; fetch the table again"
        )
    clips, paths, on = [], [], []
    for row in rows:
        cells = row.cells
        if len(cells) != len(names):
            raise row.fault(len(cells), "the row", f"{len(names)} columns, not {len(cells)}")
        if strange := [i for i, cell in enumerate(cells[1:-1], 1) if cell not in ("0", "1")]:
            raise row.fault(strange[0], names[strange[0]], "0 or 1")
        if not re.fullmatch(r"[0-9a-f]/[^/]+\.mp3", cells[-1]):
            raise row.fault(len(cells) - 1, "mp3_path", "a path like f/NAME-30-59.mp3")
        if cells[-1] not in EMPTY:
            clips.append(cells[0])
            paths.append(cells[-1])
            on.append(np.array(cells[1:-1]) == "1")
    matrix = np.stack(on) if on else np.zeros((0, len(names) - 2), bool)
    return Annotations(tuple(clips), tuple(paths), tuple(names[1:-1]), matrix)


def merged(whole: Annotations) -> Annotations:
    """The tags without negations, with synonyms joined by OR, in alphabetical order."""
    first = {other: name for name, others in SYNONYMS.items() for other in others}
    kept = [first.get(tag, tag) for tag in whole.tags if tag not in NEGATIVE]
    tags = tuple(sorted(set(kept)))
    on = np.zeros((len(whole.clips), len(tags)), bool)
    for column, tag in enumerate(whole.tags):
        if tag not in NEGATIVE:
            on[:, tags.index(first.get(tag, tag))] |= whole.on[:, column]
    return Annotations(whole.clips, whole.paths, tags, on)


def most_frequent(whole: Annotations, count: int, first: bool) -> Annotations:
    """The `count` most frequent tags, or all if it is 0.

    Args:
        whole: all tags.
        count: how many to keep.
        first: the most frequent one comes first, not last.

    Raises:
        RecipeError: there are not so many.
    """
    if count > len(whole.tags):
        raise RecipeError(f"subset: expected at most {len(whole.tags)} tags, got {count}")
    counts = whole.on.sum(axis=0)
    order = np.argsort(-counts if first else counts, kind="stable")
    order = order[: count or None] if first else order[-count:]
    tags = tuple(whole.tags[i] for i in order)
    return Annotations(whole.clips, whole.paths, tags, whole.on[:, order])


def read_artists(path: Path) -> dict[str, str]:
    """The artist of each clip by its id; the title where no artist is given.

    Raises:
        RecipeError: a column is missing.
    """
    rows = read_rows(path, "\t", lenient=True)
    header = next(rows, None)
    names = header.cells if header else ()
    for name in ("clip_id", "title", "artist"):
        if name not in names:
            raise RecipeError(
                f"{path}: line 1, column {len(names) + 1}: expected a column {name!r}, got "
                f"{', '.join(names):.80}; fetch the table again"
            )
    clip, title, artist = (names.index(name) for name in ("clip_id", "title", "artist"))
    found = {}
    for row in rows:
        if len(row.cells) <= max(clip, title, artist):
            raise row.fault(len(row.cells), "the row", f"{len(names)} columns")
        found[row.cells[clip]] = row.cells[artist] or row.cells[title]
    return found


def random_parts(n: int) -> list[str]:
    """The Polimi split of `n` clips."""
    rest, test = _train_test(np.arange(n), TRAINING)
    _, validation = _train_test(rest, LEARNING)
    parts = np.full(n, SPLITS[0], dtype=object)
    parts[test], parts[validation] = SPLITS[2], SPLITS[1]
    return [str(part) for part in parts]


def _train_test(rows: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's `train_test_split(rows, train_size=share, test_size=1 - share,
    random_state=42)`: a permutation, of which the first part is the test."""
    n = len(rows)
    n_train, n_test = math.floor(share * n), math.ceil((1 - share) * n)
    order = np.random.RandomState(42).permutation(n)
    return rows[order[n_test : n_test + n_train]], rows[order[:n_test]]


def artist_parts(groups: Sequence[str]) -> list[str]:
    """A split in which no group is on both sides: 8 to 1 to 1 of the clips.

    Groups in the order of their checksums fill first train, then validation, then test.
    """
    sizes, parts, filled = Counter(groups), {}, 0
    for group in sorted(sizes, key=lambda g: hashlib.sha256(g.encode()).hexdigest()):
        parts[group] = SPLITS[int(np.searchsorted((0.8, 0.9), filled / len(groups), "right"))]
        filled += sizes[group]
    return [parts[group] for group in groups]


def _parts(way: str, chosen: Annotations, groups: Sequence[str]) -> list[str]:
    """The split of every clip."""
    if way == "random":
        return random_parts(len(chosen.paths))
    if way == "artists":
        return artist_parts(groups)
    validation = 0xD if way == "folders-0c" else 0xC
    return [SPLITS[int(np.sign(int(path[0], 16) - validation)) + 1] for path in chosen.paths]


def _artist(path: str) -> str:
    """The artist in the name of a file: `american_bach_soloists`."""
    return path.partition("/")[2].partition("-")[0]


def _root(folder: Path, paths: Sequence[str]) -> Path:
    """The folder of the clips: the first one that has one of the first hundred."""
    for root in (folder / name for name in ROOTS):
        if any((root / path).exists() for path in paths[:100]):
            return root
    raise RecipeError(
        f"{folder}: expected clips such as {paths[0] if paths else 'f/NAME.mp3'} in "
        f"{', '.join(ROOTS)}, got none; unpack them, or link their folder as {folder / 'mp3'}"
    )
