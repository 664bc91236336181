"""What stands under which OSC address: a stream's state as datagrams."""

import unicodedata
from collections.abc import Iterable, Mapping

from pythonosc.osc_message_builder import OscMessageBuilder

from streamtag.config.bridges import RESERVED
from streamtag.feed.client.stream_state import StreamState

LONGEST_TEXT = 500
"""Characters of a title; a datagram must not become too long."""
Value = int | float | str


def datagram(address: str, *values: Value) -> bytes:
    """One OSC message: integers as `i`, other numbers as `f`, text as `s` (UTF-8, cut)."""
    builder = OscMessageBuilder(address)
    for value in values:
        if isinstance(value, str):
            builder.add_arg(value.replace("\0", " ")[:LONGEST_TEXT], "s")
        else:
            builder.add_arg(value, "i" if isinstance(value, int) else "f")
    return bytes(builder.build().dgram)


def clean(name: str) -> str:
    """A name as part of an OSC address: accents go, what else may not be there becomes `_`."""
    plain = unicodedata.normalize("NFKD", name)
    kept = "".join(
        c if "!" <= c <= "~" and c != "/" and c not in RESERVED else "_"
        for c in plain
        if not unicodedata.combining(c)
    )
    return kept or "_"


class Names:
    """Parts of addresses for tags, a different one for each: the first to come has its own name,
    a later one of the same name gets a number."""

    def __init__(self) -> None:
        self._by_tag: dict[str, str] = {}
        self._taken: set[str] = set()

    def __getitem__(self, tag: str) -> str:
        if tag not in self._by_tag:
            name, number = clean(tag), 1
            while (unique := f"{name}_{number}" if number > 1 else name) in self._taken:
                number += 1
            self._by_tag[tag] = unique
            self._taken.add(unique)
        return self._by_tag[tag]


def stream_state(
    prefix: str, name: str, now: StreamState, tags: Iterable[str], names: Names, *, heard: bool
) -> dict[str, bytes]:
    """All addresses of a stream, and the datagrams for them.

    Args:
        prefix: how addresses begin.
        name: of the stream.
        now: what is known of it.
        tags: that may be on.
        names: of the tags.
        heard: the daemon lives; otherwise nothing is on, whatever was last said.
    """
    base = f"{prefix}/{clean(name)}"
    values: dict[str, Value] = {
        f"{base}/up": int(heard and now.up),
        f"{base}/status": now.status if heard else "unknown",
        f"{base}/silence": int(heard and now.silent),
        f"{base}/title": now.title if heard else "",
    }
    for tag in tags:
        values[f"{base}/tag/{names[tag]}"] = int(heard and tag in now.on)
    return {address: datagram(address, value) for address, value in values.items()}


def scores_state(
    prefix: str, name: str, scores: Mapping[str, float], names: Names
) -> dict[str, bytes]:
    """Smoothed probabilities by tag."""
    found = {}
    for tag, value in scores.items():
        address = f"{prefix}/{clean(name)}/score/{names[tag]}"
        found[address] = datagram(address, float(value))
    return found


def mood_state(prefix: str, name: str, valence: float, arousal: float) -> dict[str, bytes]:
    """Where a stream stands on the mood plane."""
    address = f"{prefix}/{clean(name)}/mood"
    return {address: datagram(address, float(valence), float(arousal))}
