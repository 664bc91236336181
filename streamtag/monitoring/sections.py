"""The sections of a programme: speech, music, silence, other sound, or nothing received.

Tags change from moment to moment. Sections are what people would write into a log: a presenter over
an intro belongs to the music, a breath is no silence, and each kind of section has a least length.
A live stream and its journal give the same sections.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

SPEECH, MUSIC, SILENCE, OTHER, LOST = "speech", "music", "silence", "other", "lost"
BOTH = "both"
"""Speech over music; in sections it is one of the two."""
SHORTEST = {SPEECH: 6.0, MUSIC: 12.0, SILENCE: 4.0, OTHER: 12.0, LOST: 1.0}
"""The least length of a section of each kind, in seconds."""
LONGEST_FADE = 15.0
"""Speech over the end of music counts as music if it lasts longer than this, in seconds. Shorter
overlaps are speech: the model's window still contains music that is over."""


class Piece(NamedTuple):
    """A span of time with its kind; times in seconds."""

    begin: float
    end: float
    kind: str


def merge(pieces: Iterable[Piece], first: str = "") -> list[Piece]:
    """Joins consecutive pieces into sections.

    Args:
        pieces: sorted by time, without holes between them.
        first: the kind of the section that the first piece continues; empty for none.
    """
    found = _joined([Piece(p.begin, p.begin, first) for p in list(pieces)[:1] if first], pieces)
    found = _without_both(found)
    for absorb in (_is_hole, _is_short):
        kept: list[Piece] = []
        for i, piece in enumerate(found):
            after = found[i + 1] if i + 1 < len(found) else None
            if (kept and absorb(kept[-1], piece, after)) or (kept and kept[-1].kind == piece.kind):
                kept[-1] = kept[-1]._replace(end=piece.end)
            else:
                kept.append(piece)
        found = kept
    return [p for p in found if p.begin < p.end]


def _joined(found: list[Piece], pieces: Iterable[Piece]) -> list[Piece]:
    for piece in pieces:
        if found and found[-1].kind == piece.kind:
            found[-1] = found[-1]._replace(end=piece.end)
        else:
            found.append(piece)
    return found


def _without_both(pieces: Sequence[Piece]) -> list[Piece]:
    """Replaces speech over music by one of the two, depending on the pieces around it."""
    found: list[Piece] = []
    for i, piece in enumerate(pieces):
        if piece.kind == BOTH:
            before = found[-1].kind if found else ""
            after = pieces[i + 1].kind if i + 1 < len(pieces) else ""
            fades = after == SPEECH and piece.end - piece.begin < LONGEST_FADE
            kind = SPEECH if fades or (before == after == SPEECH) else MUSIC
            piece = piece._replace(kind=kind)
        found = _joined(found, [piece])
    return found


def _is_hole(before: Piece, piece: Piece, after: Piece | None) -> bool:
    """Whether a piece is too short and lies between two pieces of one kind."""
    return after is not None and before.kind == after.kind and _is_short(before, piece, after)


def _is_short(before: Piece, piece: Piece, after: Piece | None) -> bool:
    return piece.kind != before.kind and piece.end - piece.begin < SHORTEST[piece.kind]
