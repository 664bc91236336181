"""Folders: one per tag with its recordings inside, `FOLDER/TAG/…/NAME.wav`.

Folders `train`, `validation`, `test` above the tags define the splits. Without them `split` may be

* empty: by a checksum of the path, 8 to 1 to 1;
* `fold=K`: names begin with the number of their fold (`3-1234.wav`). Fold K is for the test, the
  next one (after the last comes the first) for validation, the others for training.

`subset` may be `fold=K` too.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import (
    AUDIO,
    SPLITS,
    Corpus,
    Item,
    clean_name,
    hashed_split,
    make_corpus,
)

_FOLD = re.compile(r"fold=(\d+)")
_LEADING = re.compile(r"(\d+)(?=\D)")


def read(folder: Path, *, subset: str = "", split: str = "") -> Corpus:
    """The recordings of a folder with one folder per tag.

    Raises:
        RecipeError: there are no recordings, some are outside the folders of tags, only some
            folders are named like splits, or the fold does not exist.
    """
    fold = _fold(folder, subset, split)
    top = _folders(folder)
    levels = [path for path in top if path.name in SPLITS]
    if levels and len(levels) < len(top):
        other = next(path for path in top if path not in levels)
        raise RecipeError(
            f"{folder}: expected folders of tags or of splits, got {levels[0].name!r} beside "
            f"{other.name!r}; put the tags into {', '.join(SPLITS)}"
        )
    found: list[tuple[str, str, Path]] = []
    for level in levels or [folder]:
        part = level.name if levels else ""
        for tag in _folders(level):
            found += [(part, tag.name, path) for path in _recordings(tag)]
    _refuse_loose(folder, levels)
    return _corpus(folder, found, fold)


def _corpus(folder: Path, found: list[tuple[str, str, Path]], fold: int) -> Corpus:
    """The corpus of (split or empty, tag, path) each."""
    if not found:
        raise RecipeError(
            f"{folder}: expected folders of recordings, one per tag ({', '.join(sorted(AUDIO))}), "
            "got none"
        )
    tags = sorted({tag for _, tag, _ in found})
    parts = _by_fold(folder, [path for *_, path in found], fold) if fold else {}
    items = []
    for part, tag, path in found:
        inside = path.relative_to(folder).as_posix()
        split = parts.get(path) or part or hashed_split(inside)
        items.append(Item(clean_name(inside), path, (tags.index(tag),), split))
    way = f"fold {fold}" if fold else "as its folders say" if found[0][0] else "split by checksum"
    return make_corpus(folder.resolve().name, tags, items, f"{folder.resolve().name}, {way}")


def _fold(folder: Path, subset: str, split: str) -> int:
    """K of `fold=K`; 0 if none is given."""
    for key, text in (("subset", subset), ("split", split)):
        if text and not _FOLD.fullmatch(text):
            raise RecipeError(
                f"{folder}: {key}: expected 'fold=K' or nothing for folders of recordings, got "
                f"{text!r}; use --set recordings.{key}="
            )
    match = _FOLD.fullmatch(split or subset)
    return int(match[1]) if match else 0


def _by_fold(folder: Path, paths: list[Path], fold: int) -> dict[Path, str]:
    """The split of every recording: one fold for the test, the next one for validation."""
    of: dict[Path, int] = {}
    for path in paths:
        if (match := _LEADING.match(path.name)) is None:
            raise RecipeError(
                f"{path}: expected a name that begins with the number of its fold, such as "
                "'1-NAME.wav'; rename it, or leave fold= out"
            )
        of[path] = int(match[1])
    folds = sorted(set(of.values()))
    if fold not in folds or len(folds) < 3:
        raise RecipeError(
            f"{folder}: expected one of at least three folds, got fold={fold}; the names begin "
            f"with {', '.join(map(str, folds[:10]))}"
        )
    following = folds[(folds.index(fold) + 1) % len(folds)]
    names = {fold: "test", following: "validation"}
    return {path: names.get(number, "train") for path, number in of.items()}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _recordings(folder: Path) -> Iterator[Path]:
    """The recordings of a folder and all folders in it, in order."""
    for inner, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in AUDIO and not name.startswith("."):
                yield Path(inner) / name


def _refuse_loose(folder: Path, levels: list[Path]) -> None:
    """Refuses recordings outside the folders of tags."""
    for level in [folder, *levels]:
        for path in sorted(level.iterdir()):
            if path.is_file() and path.suffix.lower() in AUDIO:
                raise RecipeError(
                    f"{path}: expected recordings inside folders named after their tags, got one "
                    "beside them; move it, or write a manifest (file,tags,split)"
                )
