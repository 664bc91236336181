"""Vocabularies: the names of the tags of published checkpoints and of the distilled model.

A checkpoint tells how many outputs it has, but not their names, and two vocabularies may have the
same size. So names are never guessed. Either the weights are recognised, or the user names the
tags, and both are compared if both are known.
"""

import dataclasses
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from streamtag.errors import BundleError, RecipeError

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "vocabularies"
"""The folder of the built-in tables."""
NAMES = ("moodtheme", "jamendo", "mtat", "audioset", "msd")
"""The built-in vocabularies of published checkpoints; `FOLDER` has a table for each."""


@dataclass(frozen=True, slots=True)
class OutputVocabulary:
    """Tags in the order of a net's outputs."""

    name: str
    """Name of the built-in vocabulary; empty for the user's own."""
    tags: tuple[str, ...]
    rates: tuple[float, ...] = ()
    """Share of the training clips that have the tag; empty where unknown."""
    on: tuple[float, ...] = ()
    """On thresholds; empty where they follow from the rates."""
    display: tuple[str, ...] = ()
    """Names for people, of which several may be equal; empty where unknown."""
    silent: tuple[str, ...] = ()
    """Tags that make no events by default: negations, duplicates, and tags that the net cannot tell
    apart."""
    categories: tuple[str, ...] = ()
    """The category of each tag; empty where unknown."""


def built_in(name: str) -> OutputVocabulary:
    """One of `NAMES`."""
    text = (FOLDER / f"{name}.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    total, keys, rows = rows[0][1], rows[1], rows[2:]
    columns = dict(zip(keys, zip(*rows, strict=True), strict=True))
    pairs = zip(columns["tag"], columns["events"], strict=True)
    return OutputVocabulary(
        name,
        tags=columns["tag"],
        rates=tuple(float(clips) / float(total) for clips in columns.get("clips", ())),
        on=tuple(map(float, columns.get("on", ()))),
        display=columns["display"],
        silent=tuple(tag for tag, events in pairs if events == "no"),
        categories=columns.get("category", ()),
    )


def requested_vocabulary(tags: Path) -> OutputVocabulary:
    """The vocabulary that `--tags` names: one of `NAMES`, or a file with a tag per line.

    Tags may be written as in the data set's own files (`genre---rock`) or short (`rock`).

    Raises:
        BundleError: the file cannot be read, or a name appears twice.
    """
    if str(tags) in NAMES:
        return built_in(str(tags))
    names = _read_tag_file(tags)
    for known in map(built_in, NAMES):
        if tuple(map(short, names)) == tuple(map(short, known.tags)):
            spelt = dict(zip(known.tags, names, strict=True))
            silent = tuple(spelt[tag] for tag in known.silent)
            return dataclasses.replace(known, tags=names, silent=silent)
    return OutputVocabulary("", names, display=tuple(map(short, names)))


def check_agreement(vocabulary: OutputVocabulary, tags: Path, right: str, what: str) -> None:
    """Compares the vocabulary that the user named with the one that is known.

    Args:
        vocabulary: the result of `requested_vocabulary`.
        tags: what the user wrote.
        right: name of the known vocabulary of the checkpoint; empty if unknown.
        what: the checkpoint, for the message.

    Raises:
        BundleError: the names are those of another vocabulary, or in another order.
    """
    if right and vocabulary.name not in ("", right):
        raise BundleError(
            f"{what}: its weights are those of a published checkpoint with the {right!r} tags, "
            f"but {tags} has the {vocabulary.name!r} tags: leave --tags out, or use --tags {right}"
        )
    for name in NAMES:
        if vocabulary.name or not _same_names(vocabulary, name):
            continue
        if right:
            raise BundleError(
                f"{tags}: the {name!r} tags in another order than the outputs of {what}, whose "
                f"published order is known: leave --tags out, or use --tags {right}"
            )
        logger.warning(
            "%s: the %r tags are in another order than usual; this order is used", tags, name
        )


def short(tag: str) -> str:
    """`rock` for `genre---rock`."""
    return tag.rsplit("---", 1)[-1]


def _same_names(vocabulary: OutputVocabulary, name: str) -> bool:
    return sorted(map(short, vocabulary.tags)) == sorted(map(short, built_in(name).tags))


def _read_tag_file(path: Path) -> tuple[str, ...]:
    expected = f"expected a text file with one tag per line, or one of {', '.join(NAMES)}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BundleError(f"{path}: {expected}, got: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: {expected}, got bytes that are no UTF-8: {error}") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if strange := [name for name in names if not name.isprintable()]:
        raise BundleError(f"{path}: {expected}, got the line {strange[0]!r}")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise BundleError(f"{path}: expected every tag once, got {twice[0]!r} twice")
    return names


CATEGORIES = ("kind", "voice", "genre", "instrument", "mood/theme")
"""The categories of tags that a table may name."""


@dataclass(frozen=True, slots=True)
class VocabularyTag:
    """One tag of the distilled model."""

    tag: str
    category: str
    """One of `CATEGORIES`."""
    teacher_tags: tuple[tuple[str, str], ...]
    """(vocabulary, tag) of the outputs of teachers with that meaning; empty if no teacher has
    it."""
    family: str
    """The family of instruments in mixtures and MIDI files; empty if none."""
    synonyms: tuple[str, ...] = ()
    definition: str = ""
    """One sentence; empty in older tables."""


def read_vocabulary(name: str) -> tuple[VocabularyTag, ...]:
    """The tags of the distilled model from a table of `vocabularies/`.

    Raises:
        RecipeError: the table does not exist, or a line of it is wrong.
    """
    path = FOLDER / f"{name}.tsv"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RecipeError(f"{path}: expected a vocabulary, got: {error.strerror}") from error
    rows = [line.split("\t") for line in lines if not line.startswith("#")][1:]
    words = tuple(_vocabulary_tag(row, path) for row in rows)
    if len({word.tag for word in words}) != len(words):
        raise RecipeError(f"{path}: expected every tag once")
    return words


def _vocabulary_tag(row: list[str], path: Path) -> VocabularyTag:
    if len(row) not in (4, 6) or row[1] not in CATEGORIES:
        raise RecipeError(
            f"{path}: expected lines of tag, category ({', '.join(CATEGORIES)}), heard, family, "
            f"and perhaps synonyms, definition; got {row!r}"
        )
    tag, category, outputs, family, *words = (text if text != "-" else "" for text in row)
    pairs = [tuple(re.split(r":\s*", part, maxsplit=1)) for part in outputs.split("; ") if part]
    synonyms, definition = words or ("", "")
    return VocabularyTag(
        tag,
        category,
        tuple((v, t) for v, t in pairs),
        family,
        tuple(filter(None, synonyms.split(", "))),
        definition,
    )
