"""The data sheet of a model: hours by split, kind and licence, and how much of them has a voice."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LICENCES: tuple[tuple[str, str], ...] = (
    ("BY[ -]NC", "CC BY-NC"),
    ("BY[ -]ND", "CC BY-ND"),
    ("BY[ -]SA.*/.*BY|GPL.*BY[ -]SA|BY[ -]SA.*GPL", "CC BY-SA or another"),
    ("BY[ -]SA", "CC BY-SA"),
    ("CC[ -]BY", "CC BY"),
    ("GPL", "GPL"),
    ("CC0|PUBLIC DOMAIN", "public domain"),
    ("APACHE|MIT|BSD", "MIT, BSD or Apache"),
)
"""Patterns in licences, in capitals, and the class that each means; the first one counts."""
OTHER = "other or not stated"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SheetEntry:
    """Some audio of one kind and licence."""

    kind: str
    """`music`, `speech` …"""
    split: str
    licence: str
    """As its source writes it."""
    seconds: float
    voice: float = math.nan
    """Share of it in which somebody sings, raps or speaks; NaN is unknown."""


def licence_class(text: str) -> str:
    """The class of a licence: `CC BY-SA 4.0 (repo)` is `CC BY-SA`."""
    capitals = text.upper()
    return next((name for pattern, name in LICENCES if re.search(pattern, capitals)), OTHER)


def data_sheet(entries: Iterable[SheetEntry]) -> str:
    """A line of text per split, kind by kind.

    For example: `Train: music 4.90 h (CC BY-SA 40 %, GPL 60 %; voices in 3 %), speech …`.
    """
    some = tuple(entries)
    splits = [split for split in SPLITS if any(entry.split == split for entry in some)]
    return "\n".join(_line(split, [e for e in some if e.split == split]) for split in splits)


def _line(split: str, some: Sequence[SheetEntry]) -> str:
    kinds = list(dict.fromkeys(entry.kind for entry in some))
    parts = [_part(kind, [e for e in some if e.kind == kind]) for kind in kinds]
    return f"{split.capitalize()}: {', '.join(parts)}."


def _part(kind: str, some: Sequence[SheetEntry]) -> str:
    total = sum(entry.seconds for entry in some)
    shares: dict[str, float] = {}
    for entry in some:
        name = licence_class(entry.licence)
        shares[name] = shares.get(name, 0.0) + entry.seconds / max(total, 1e-9)
    largest = sorted(shares.items(), key=lambda share: -share[1])
    text = ", ".join(f"{name} {_percent(share)}" for name, share in largest)
    known = [entry for entry in some if not math.isnan(entry.voice)]
    if known:
        heard = sum(e.seconds * e.voice for e in known) / max(sum(e.seconds for e in known), 1e-9)
        text += f"; voices in {100 * heard:.0f} %"
    return f"{kind} {total / 3600:.2f} h ({text})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "under 1 %"
