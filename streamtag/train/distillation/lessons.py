"""The vocabulary of a distilled model, and what its teachers and our own material say of each tag.

A teacher's probability means little by itself: one that hears "jazz" once in fifty tracks says 0.2
when it is sure. So each is held against the threshold at which that teacher would switch the tag
on, and what the student learns is a soft decision:

    q = sigmoid(sharpness · (leniency + mean over teachers of (logit p - logit threshold)))

which passes one half where the teachers, on the whole, come near to switching. All tags then mean
the same. Of tags that are rare in the music at hand the teachers are asked for less, within limits:
see `leniencies`. Whoever tagged for one vocabulary named what stands out, for another all that
sounds; an instrument sounds if those of either say so, so there the mean is taken per vocabulary,
and the largest counts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtag.errors import RecipeError
from streamtag.model.card import Card
from streamtag.train.distillation.teachers import Opinion
from streamtag.train.importing.vocabulary import FOLDER
from streamtag.train.recipes.data import Distil

CATEGORIES = ("kind", "genre", "instrument", "mood/theme")
SURE = 1e-5
"""Probabilities are kept so far from 0 and 1."""


@dataclass(frozen=True, slots=True)
class Word:
    """One tag of the student."""

    tag: str
    category: str
    """One of `CATEGORIES`."""
    heard: tuple[tuple[str, str], ...]
    """(vocabulary, tag) of the teachers' outputs that mean it; none for what only truth teaches."""
    family: str
    """Of made-up mixtures and MIDI programs (`notes`, `pieces`); empty for none."""


def read_words(name: str) -> tuple[Word, ...]:
    """A table of `vocabularies/`.

    Raises:
        RecipeError: no such table, or a line that is none of it.
    """
    path = FOLDER / f"{name}.tsv"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RecipeError(f"{path}: expected a vocabulary, got: {error.strerror}") from error
    rows = [line.split("\t") for line in lines if not line.startswith("#")][1:]
    words = tuple(_word(row, path) for row in rows)
    if len({word.tag for word in words}) != len(words):
        raise RecipeError(f"{path}: expected every tag once")
    return words


def _word(row: list[str], path: Path) -> Word:
    if len(row) != 4 or row[1] not in CATEGORIES:
        raise RecipeError(
            f"{path}: expected lines of tag, category ({', '.join(CATEGORIES)}), heard, family; "
            f"got {row!r}"
        )
    tag, category, heard, family = (text if text != "-" else "" for text in row)
    pairs = [tuple(re.split(r":\s*", part, maxsplit=1)) for part in heard.split("; ") if part]
    return Word(tag, category, tuple((v, t) for v, t in pairs), family)


def odds(
    words: tuple[Word, ...],
    opinions: Mapping[str, Opinion],
    cards: Mapping[str, Card],
    moments: np.ndarray,
) -> np.ndarray:
    """How far the teachers are above their thresholds at given moments, (n, n_tags) in logits.

    NaN for tags of which no teacher has heard.

    Args:
        words: the student's tags.
        opinions: of each teacher, by name `VOCABULARY-NET`.
        cards: of the teachers, for their tags and thresholds.
        moments: (n,) seconds.
    """
    out = np.full((len(moments), len(words)), np.nan, np.float32)
    relative = {name: _relative(opinions[name], cards[name], moments) for name in opinions}
    for i, word in enumerate(words):
        said: dict[str, list[np.ndarray]] = {}
        for name, table in relative.items():
            vocabulary = name.partition("-")[0]
            if own := [_column(cards[name], t) for v, t in word.heard if v == vocabulary]:
                said.setdefault(vocabulary, []).append(table[:, own].max(axis=1))
        if said:
            out[:, i] = _together(word, said)
    return out


def leniencies(training: np.ndarray, want: Distil) -> np.ndarray:
    """Per tag, by how many logits its teachers may stay below their thresholds, (n_tags,).

    So many that the tag is on in a share `common` of the training material, but at least the first
    and at most the second of `leniency`.

    Args:
        training: `odds` of all moments of the training recordings, (n, n_tags).
        want: the recipe's limits.
    """
    least, most = want.leniency
    reached = np.quantile(np.nan_to_num(training, nan=-99.0), 1 - want.common, axis=0)
    out: np.ndarray = np.clip(-reached, least, most).astype(np.float32)
    return out


def decisions(odds: np.ndarray, leniency: np.ndarray, sharpness: float) -> np.ndarray:
    """Soft decisions in [0, 1], (n, n_tags) float32; NaN stays NaN."""
    out: np.ndarray = 1 / (1 + np.exp(-sharpness * (odds + leniency)))
    return out.astype(np.float32)


def _together(word: Word, said: Mapping[str, list[np.ndarray]]) -> np.ndarray:
    """One opinion of several teachers', by vocabulary."""
    if word.category == "instrument":
        out: np.ndarray = np.max([np.mean(some, axis=0) for some in said.values()], axis=0)
        return out
    everyone: np.ndarray = np.mean([one for some in said.values() for one in some], axis=0)
    return everyone


def _relative(opinion: Opinion, card: Card, moments: np.ndarray) -> np.ndarray:
    """Logits above each tag's own threshold, (n, n_tags)."""
    scores = np.clip(opinion.at(moments), SURE, 1 - SURE).astype(np.float64)
    on = np.array(card.on_thresholds)
    out: np.ndarray = np.log(scores / (1 - scores)) - np.log(on / (1 - on))
    return out


def _column(card: Card, tag: str) -> int:
    """Of a teacher's output, by its short name (`rock` for `genre---rock`)."""
    for i, name in enumerate(card.tags):
        if name == tag or name.rpartition("---")[2] == tag:
            return i
    raise RecipeError(f"teacher {card.name!r}: expected a tag {tag!r}, got {', '.join(card.tags)}")
