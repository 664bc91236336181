"""The difference between two configurations, and which differences need a restart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamtag.config.bridge_kinds import KINDS
from streamtag.config.config import Config

_NEED_RESTART = ("feed", "engine", "control", "metrics", "log", "clips", "fleet")
"""Tables that a running daemon cannot change."""
_CHANGEABLE = {"scores", "mood", "levels", "loudness", "stats_seconds"}
"""Keys of those tables that it can change."""
_TAGGING = {"taggers", "language", "tuning"}
"""Keys of a stream that do not concern its source."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of what a running daemon must change. Everything else goes on as it was."""

    added: tuple[str, ...] = ()
    """Streams."""
    removed: tuple[str, ...] = ()
    """Streams."""
    restarted: tuple[str, ...] = ()
    """Streams whose source is opened again."""
    kept: tuple[str, ...] = ()
    """Streams whose source goes on. Their taggers or settings may differ."""
    retuned: tuple[str, ...] = ()
    """Those of the kept streams whose taggers, settings or names for people differ."""
    taggers_added: tuple[str, ...] = ()
    taggers_removed: tuple[str, ...] = ()
    taggers_swapped: tuple[str, ...] = ()
    """Taggers that get another model."""
    bridges_started: tuple[str, ...] = ()
    bridges_ended: tuple[str, ...] = ()
    bridges_restarted: tuple[str, ...] = ()
    """Bridges whose tables are new, gone, or differ."""

    def summary(self) -> dict[str, list[str]]:
        """All names by kind of change, without the streams that are kept."""
        names = [name for name in self.__slots__ if name != "kept"]
        return {name: list(found) for name in names if (found := getattr(self, name))}


def restart_needed(old: Config, new: Config) -> Iterator[str]:
    """A complaint about each difference that needs a restart of the daemon."""
    for table in _NEED_RESTART:
        before, after = getattr(old, table), getattr(new, table)
        if before is None or after is None:
            if before is not after:
                had, got = ("no table" if one is None else "one" for one in (before, after))
                yield f"{table}: expected {had} as long as the daemon runs, got {got}; restart it"
            continue
        for key in [key for key in type(before).model_fields if key not in _CHANGEABLE]:
            was, wanted = getattr(before, key), getattr(after, key)
            if was != wanted:
                yield (
                    f"{table}.{key}: expected {was!r} as long as the daemon runs, got {wanted!r}; "
                    "restart it"
                )
    if new.alert and not old.alert:
        yield "alert: expected no rule as long as a daemon without rules runs, got some; restart it"


def changes(old: Config, new: Config, stale: frozenset[str] = frozenset()) -> Changes:
    """The difference from the configuration that runs to the one that is to run.

    `stale` are the taggers whose bundle's file has been replaced.
    """
    both = [name for name in new.streams if name in old.streams]
    restarted = tuple(name for name in both if _source(old, name) != _source(new, name))
    kept = tuple(name for name in both if name not in restarted)
    taggers = [name for name in new.taggers if name in old.taggers]
    bridges = [
        (kind.name, kind.configured(old), kind.configured(new))
        for kind in KINDS
        if any(getattr(old, name) != getattr(new, name) for name in (kind.name, *kind.more))
    ]
    return Changes(
        added=tuple(name for name in new.streams if name not in old.streams),
        removed=tuple(name for name in old.streams if name not in new.streams),
        restarted=restarted,
        kept=kept,
        retuned=tuple(name for name in kept if _tagging(old, name) != _tagging(new, name)),
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


def _tagging(config: Config, name: str) -> object:
    """Everything that decides which taggers a stream has, and with which settings."""
    stream = config.stream(name)
    taggers = config.taggers if stream.taggers is None else stream.taggers
    tuned = {tagger: config.taggers[tagger].tuning for tagger in taggers}
    names = config.languages.get(stream.language or "")
    return tuned, stream.tuning, config.defaults.tuning, stream.language, names


def _source(config: Config, name: str) -> object:
    """Everything that concerns a stream's source or its level meter."""
    stream = config.stream(name)
    return stream.model_dump(exclude=_TAGGING | {"level"}), stream.level.over(config.level)


def missing_keys(below: Mapping[str, Any], above: Mapping[str, Any], under: str = "") -> list[str]:
    """The keys that `merge` would remove, and that are not there."""
    found: list[str] = []
    for key, value in above.items():
        if value is None and key not in below:
            found.append(under + key)
        elif isinstance(value, Mapping):
            lower = below.get(key)
            found += missing_keys(
                lower if isinstance(lower, Mapping) else {}, value, f"{under}{key}."
            )
    return found
