"""Everything that is wrong with a configuration, not only what shows first.

Some faults hide others: a table's values are held against each other when each is what it must
be, the names in streams are compared after that, files are looked for when the whole makes sense.
So what is faulty is taken out, and the rest is examined again.
"""

from collections.abc import Sequence
from typing import Any

from streamtag.config.config import Config, examined
from streamtag.config.stream import ANY_KIND

ROUNDS = 100
"""How often faulty parts are taken out, at most."""
_MISSING = "missing key "


def mended(table: dict[str, Any]) -> tuple[Config | None, list[str]]:
    """What is left of a configuration without its faults, and a complaint about each.

    Args:
        table: of the file; changed.
    """
    lines: list[str] = []
    gone: set[str] = set()
    for _ in range(ROUNDS):
        config, faults = examined(table)
        new = [line for _, text in faults for line in text.splitlines()]
        # What was taken out is missing now: that is no fault of its own.
        lines += [line for line in new if line not in lines and _key(line) not in gone]
        if config is not None:
            return config, lines
        taken: set[str] = set()
        for loc, text in faults:
            if not any(_dotted(loc[: i + 1]) in taken for i in range(len(loc))):
                taken.add(_take_out(table, loc, text))
        gone |= taken
        _stand_in(table)
    return None, lines


def _key(line: str) -> str:
    """What a complaint is about."""
    return line.removeprefix(_MISSING).split(":")[0]


def _take_out(table: dict[str, Any], loc: tuple[int | str, ...], text: str) -> str:
    """Takes out the smallest part that a fault is in; which one."""
    if text.startswith(_MISSING):
        return _dotted(loc)
    if not loc:
        _take_out_names(table)
        return ""
    path = _path_to(table, loc, text)
    inner: Any = table
    for part in path[:-1]:
        inner = inner[part]
    if isinstance(inner, list) or path[:-1] in (["taggers"], ["languages"]):
        inner[path[-1]] = {}  # others may name it
    else:
        inner.pop(path[-1], None)
    return _dotted(path)


def _path_to(table: dict[str, Any], loc: tuple[int | str, ...], text: str) -> list[Any]:
    """Keys that lead to it, as far as there is something."""
    path: list[Any] = []
    at: Any = table
    for part in loc:
        # Other lists hold values, which go with the whole list.
        if not (_holds(at, part) and (isinstance(at, dict) or path == ["webhook"])):
            break
        path.append(part)
        at = at[part]
    # What a table says of its values as a whole begins with the key of one of them.
    named = _key(text).removeprefix(_dotted(path) + ".")
    return [*path, named] if isinstance(at, dict) and named in at else path or [loc[0]]


def _holds(at: Any, part: int | str) -> bool:
    """Whether this leads to a value in a table, or to a table in a list."""
    if isinstance(at, list) and isinstance(part, int):
        return part < len(at) and isinstance(at[part], dict)
    return isinstance(at, dict) and part in at


def _dotted(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))


def _stand_in(table: dict[str, Any]) -> None:
    """Puts something sound where there must be something, and what there was is gone."""
    if table.get("streams") in (None, {}):
        table |= {"streams": {}, "exit_when_done": False}
    for name, stream in _tables(table, "streams"):
        if "source" not in stream:  # which decides what other keys there may be
            kept = {key: stream[key] for key in stream if key in ANY_KIND}
            table["streams"][name] = {"source": "device:"} | kept
    if isinstance(osc := table.get("osc"), dict):
        osc.setdefault("targets", ["localhost:1"])
    for i, webhook in _tables(table, "webhook"):
        webhook.setdefault("name", f"webhook-{i}")
        webhook.setdefault("url", "http://localhost")


def _tables(table: dict[str, Any], key: str) -> list[tuple[Any, dict[str, Any]]]:
    """The tables in a table or a list, by key or place."""
    found = table.get(key, {})
    rows = found.items() if isinstance(found, dict) else enumerate(found)
    return [(name, inner) for name, inner in rows if isinstance(inner, dict)]


def _take_out_names(table: dict[str, Any]) -> None:
    """What does not fit the rest: every value is what it must be."""
    if not table.get("taggers"):
        table.pop("taggers", None)
    taggers = table.get("taggers", {"default"})
    languages = {"en", *table.get("languages", {})}
    streams = table.get("streams", {})
    for inner in (table.get("defaults", {}), *streams.values()):
        if inner.get("language") not in languages:
            inner.pop("language", None)
        if "taggers" in inner:
            inner["taggers"] = [name for name in inner["taggers"] if name in taggers]
    for inner in streams.values():
        tuning = inner.get("tuning", {})
        inner["tuning"] = {name: tuning[name] for name in tuning if name in taggers}
    piped = [name for name, inner in streams.items() if inner["source"] == "stdin:"]
    for name in piped[1:]:
        del streams[name]
    hooks = table.get("webhook", [])
    hooks[:] = {hook["name"]: hook for hook in hooks}.values()
