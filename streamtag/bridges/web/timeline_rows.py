"""The time line of a stream as the rows that its page draws.

A row has bars of one paint each: a name of a colour in `pages.css`, or nothing for that of the tag.
Spans are in milliseconds since 1970; those of titles have a label.
"""

import re
from collections.abc import Mapping
from typing import Any

from streamtag.bridges.web.texts import Texts

MOST_TAGS = 24
"""Rows of tags: those that were on longest."""
PLACES = ("speech", "kind", "mood", "genre", "instrument")
"""Where tags stand, in this order."""
KINDS = ("music", "speech", "silence")
"""Tags that say what is heard at all, whatever their category."""
SECTIONS = {
    "music": "kind", "speech": "speech", "silence": "silence", "other": "sound", "lost": "lost",
}  # fmt: skip
"""Paints by kind."""


def timeline_rows(
    past: Mapping[str, Any], about: Mapping[str, Mapping[str, Any]], texts: Texts
) -> list[dict[str, Any]]:
    """The rows of `timeline_json`; `about` as in `TagVocabulary.descriptions`."""
    states = [(begin, end) for begin, end, state in past["states"] if state != "paused"]
    signal = [
        _bar("line", [(past["from"], past["to"])]),
        _bar("lost", states),
        _bar("good", past["received"], 5.5),
        _bar("warn", past["silences"]),
        _bar("lost", past["gaps"]),
    ]
    rows = [
        {"name": texts["stream_signal"], "bars": signal},
        {"name": texts["desk_column_title"], "bars": [_bar("line", past["titles"], 1.5)]},
    ]
    sections: dict[str, list[tuple[int, int]]] = {}
    for begin, end, kind in past["sections"]:
        sections.setdefault(SECTIONS.get(kind, "line"), []).append((begin, end))
    if sections:
        bars = [_bar(paint, spans) for paint, spans in sections.items()]
        rows.append({"name": texts["stream_sections"], "bars": bars})
    longest = sorted(past["tags"], key=lambda one: -sum(b - a for a, b in one["spans"]))
    for one in sorted(longest[:MOST_TAGS], key=lambda one: _order(one["tag"], about)):
        known = about.get(one["tag"], {})
        name = known.get("name") or texts.tag(one["tag"])
        head = {"name": name, "tagger": one["tagger"], "tag": one["tag"]}
        rows.append({**head, "bars": [_bar("", one["spans"])]})
    return rows


def place_of(tag: str, category: str) -> str:
    """Where a tag stands: one of `PLACES`."""
    bare = tag.rpartition("---")[2].lower()
    if bare == "speech":
        return "speech"
    if category == "kind" or bare in KINDS:
        return "kind"
    if re.search("mood|theme|emotion", category, re.IGNORECASE):
        return "mood"
    return "instrument" if re.search("instrument|voice", category, re.IGNORECASE) else "genre"


def _order(tag: str, about: Mapping[str, Mapping[str, Any]]) -> int:
    return PLACES.index(place_of(tag, about.get(tag, {}).get("category", "")))


def _bar(paint: str, spans: list[Any], inset: float = 3) -> dict[str, Any]:
    """`inset` is the distance from the edges of the row, in pixels."""
    return {"paint": paint, "inset": inset, "spans": spans}
