"""What differs between two configurations, as far as a running daemon can follow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamtag.config.bridge_kinds import KINDS
from streamtag.config.config import Config

_FIXED = {
    "feed": (
        "bind",
        "secret_key",
        "authorised_keys",
        "plaintext_on_public_address",
        "encoding",
        "high_water",
        "wait_for_subscriber_seconds",
        "journal",
        "journal_days",
        "journal_megabytes",
        "journal_scores",
        "journal_durable",
        "replay",
        "beat_seconds",
    ),
    "engine": None,
    "control": None,
    "metrics": None,
    "log": None,
}
"""Tables, and which of their keys (None: all) a running daemon cannot change."""
_LISTENING = {"taggers", "language", "tuning"}
"""Keys of a stream that its source does not notice."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of what a running daemon must touch; everything else goes on as it was."""

    added: tuple[str, ...] = ()
    """Streams."""
    removed: tuple[str, ...] = ()
    """Streams."""
    restarted: tuple[str, ...] = ()
    """Streams whose source is opened anew."""
    kept: tuple[str, ...] = ()
    """Streams whose source goes on; they may be listened to otherwise."""
    retuned: tuple[str, ...] = ()
    """Of those, the ones whose listeners, their settings or names for people differ."""
    taggers_added: tuple[str, ...] = ()
    taggers_removed: tuple[str, ...] = ()
    taggers_swapped: tuple[str, ...] = ()
    """Taggers that get another model."""
    bridges_started: tuple[str, ...] = ()
    bridges_ended: tuple[str, ...] = ()
    bridges_restarted: tuple[str, ...] = ()
    """Bridges whose tables are new, gone, or differ."""

    def summary(self) -> dict[str, list[str]]:
        """What is not empty, but for what is kept."""
        names = [name for name in self.__slots__ if name != "kept"]
        return {name: list(found) for name in names if (found := getattr(self, name))}


def refused(old: Config, new: Config) -> Iterator[str]:
    """What only a restart of the daemon can change, a line each."""
    for table, keys in _FIXED.items():
        before, after = getattr(old, table), getattr(new, table)
        for key in keys or type(before).model_fields:
            was, wanted = getattr(before, key), getattr(after, key)
            if was != wanted:
                yield (
                    f"{table}.{key}: expected {was!r} as long as the daemon runs, got {wanted!r}; "
                    "restart it"
                )


def changes(old: Config, new: Config, stale: frozenset[str] = frozenset()) -> Changes:
    """The difference.

    Args:
        old: what runs.
        new: what is to run.
        stale: taggers whose bundle's file has been exchanged.
    """
    both = [name for name in new.streams if name in old.streams]
    restarted = tuple(name for name in both if _source(old, name) != _source(new, name))
    kept = tuple(name for name in both if name not in restarted)
    taggers = [name for name in new.taggers if name in old.taggers]
    bridges = [
        (kind.name, kind.configured(old), kind.configured(new))
        for kind in KINDS
        if getattr(old, kind.name) != getattr(new, kind.name)
    ]
    return Changes(
        added=tuple(name for name in new.streams if name not in old.streams),
        removed=tuple(name for name in old.streams if name not in new.streams),
        restarted=restarted,
        kept=kept,
        retuned=tuple(name for name in kept if _listening(old, name) != _listening(new, name)),
        taggers_added=tuple(name for name in new.taggers if name not in old.taggers),
        taggers_removed=tuple(name for name in old.taggers if name not in new.taggers),
        taggers_swapped=tuple(
            name
            for name in taggers
            if name in stale or old.taggers[name].bundle != new.taggers[name].bundle
        ),
        bridges_started=tuple(name for name, before, after in bridges if after and not before),
        bridges_ended=tuple(name for name, before, after in bridges if before and not after),
        bridges_restarted=tuple(name for name, before, after in bridges if before and after),
    )


def _listening(config: Config, name: str) -> object:
    """Everything about a stream that decides who listens to it, and how."""
    stream = config.stream(name)
    taggers = config.taggers if stream.taggers is None else stream.taggers
    tuned = {tagger: config.taggers[tagger].tuning for tagger in taggers}
    names = config.languages.get(stream.language or "")
    return tuned, stream.tuning, config.defaults.tuning, stream.language, names


def _source(config: Config, name: str) -> object:
    """Everything about a stream that its source or its level meter notices."""
    stream = config.stream(name)
    return stream.model_dump(exclude=_LISTENING | {"level"}), stream.level.over(config.level)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A table laid over another one; None takes a key away."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(under, Mapping) and isinstance(value, Mapping):
            merged[key] = laid_over(under, value)
        else:
            merged[key] = value
    return merged


def not_set(below: Mapping[str, Any], above: Mapping[str, Any], under: str = "") -> list[str]:
    """The keys that a table laid over another would take away, and that are not there."""
    found: list[str] = []
    for key, value in above.items():
        if value is None and key not in below:
            found.append(under + key)
        elif isinstance(value, Mapping):
            lower = below.get(key)
            found += not_set(lower if isinstance(lower, Mapping) else {}, value, f"{under}{key}.")
    return found
