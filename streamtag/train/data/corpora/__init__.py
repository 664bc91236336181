"""Corpora: labelled recordings in the formats of their owners.

There is one module per format; `read_corpus` recognises the format.
"""

import dataclasses
from pathlib import Path

from streamtag.errors import RecipeError
from streamtag.train.data.corpora import folders, jamendo, magnatagatune, manifest
from streamtag.train.data.corpora.corpus import SPLITS, Corpus, Item

__all__ = ["SPLITS", "Corpus", "Item", "read_corpus"]

OWN = "own"
"""`Corpus.form` of folders and manifests, which are nobody's publication."""


def read_corpus(path: Path | str, *, subset: str = "", split: str = "") -> Corpus:
    """Reads the labels of recordings, not their audio.

    Args:
        path: a folder of MTG-Jamendo or MagnaTagATune, a manifest (`.csv`, `.tsv`, `.jsonl`), or a
            folder with one folder of recordings per tag.
        subset: which tags; the module of the format documents the values.
        split: which split; the module of the format documents the values.

    Raises:
        RecipeError: the format is none of these, or the data has a fault, named by file, line and
            column.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in manifest.ENDINGS and not _table_of_a_set(path):
        return _of(OWN, manifest.read(path, subset=subset, split=split))
    folder = path.parent if path.is_file() else path
    if (folder / magnatagatune.ANNOTATIONS).exists():
        return _of("MagnaTagATune", magnatagatune.read(folder, subset=subset, split=split))
    if jamendo.tables(folder):
        return _of("MTG-Jamendo", jamendo.read(folder, subset=subset, split=split))
    if path.is_dir():
        return _of(OWN, folders.read(path, subset=subset, split=split))
    got = "another file" if path.exists() else "nothing there"
    raise RecipeError(
        f"{path}: expected a folder of MTG-Jamendo, of MagnaTagATune or of one folder per tag, or "
        f"a manifest ({', '.join(manifest.ENDINGS)}), got {got}"
    )


def _of(form: str, corpus: Corpus) -> Corpus:
    return dataclasses.replace(corpus, form=form)


def _table_of_a_set(path: Path) -> bool:
    """Whether a file is one of the tables of MagnaTagATune or MTG-Jamendo."""
    known = magnatagatune.ANNOTATIONS, magnatagatune.CLIPS
    return path.name in known or jamendo.is_table(path)
