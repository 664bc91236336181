"""Everything that is wrong with a configuration, not only what shows first.

Some faults hide others: the names in streams are compared when every value is what it must be,
files are looked for when the whole makes sense. So what is faulty is taken out, and the rest is
examined again.
"""

from typing import Any

from streamtag.config import Config, examined

ROUNDS = 30
"""How often faulty parts are taken out, at most."""


def mended(table: dict[str, Any]) -> tuple[Config | None, list[str]]:
    """What is left of a configuration without its faults, and a complaint about each.

    Args:
        table: of the file; changed.
    """
    lines: list[str] = []
    gone: set[str] = set()
    for _ in range(ROUNDS):
        config, faults = examined(table)
        # What was taken out is missing now: that is no fault of its own.
        new = [line for _, text in faults for line in text.splitlines()]
        lines += [line for line in new if line not in lines and line.split(":")[0] not in gone]
        if config is not None:
            return config, lines
        for loc, _ in faults:
            gone.add(_take_out(table, loc))
        if table.get("streams") in (None, {}):
            table |= {"streams": {}, "exit_when_done": False}
    return None, lines


def _take_out(table: dict[str, Any], loc: tuple[int | str, ...]) -> str:
    """Takes out the smallest part that a fault is in; which one."""
    if not loc:
        _take_out_names(table)
        return ""
    path: list[Any] = []
    at: Any = table
    for part in loc:
        if not isinstance(at, dict) or part not in at:
            break
        path.append(part)
        at = at[part]
    *outer, last = path or [loc[0]]
    inner = table
    for part in outer:
        inner = inner[part]
    if outer in (["taggers"], ["languages"]):
        inner[last] = {}  # others may name it
    else:
        inner.pop(last, None)
    return ".".join(map(str, path))


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
