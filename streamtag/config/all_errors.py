"""All errors of a configuration, not only those that one validation finds.

Some errors hide others. The values of a table are compared with each other only when each is valid,
the names in streams only after that, and files are looked for only when the whole is valid. So
faulty parts are removed, and the rest is validated again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamtag.config.alerts import OWN_KEYS
from streamtag.config.config import Config, validate
from streamtag.config.stream import ANY_KIND

ROUNDS = 100
"""The most times that a faulty part is removed."""
_MISSING = "missing key "
_NAMED = (["taggers"], ["languages"], ["notify", "targets"])
"""Tables of tables that others name."""
OWN = {key for keys in OWN_KEYS.values() for key in keys}
"""Keys that only some rules have."""


def validate_all(
    table: dict[str, Any], folder: Path | None = None
) -> tuple[Config | None, list[str]]:
    """A complaint about each error, and the configuration without its faulty parts.

    Args:
        table: of the file. Its faulty parts are removed.
        folder: that relative paths are relative to; None leaves them relative.
    """
    lines: list[str] = []
    removed: set[str] = set()
    for _ in range(ROUNDS):
        config, faults = validate(table, folder)
        new = [line for _, text in faults for line in text.splitlines()]
        # A required key that was removed is missing now. That is no error of its own.
        lines += [line for line in new if line not in lines and _key(line) not in removed]
        if config is not None:
            return config, lines
        paths: set[str] = set()
        for loc, text in faults:
            if not any(_dotted(loc[: i + 1]) in paths for i in range(len(loc))):
                paths.add(_remove(table, loc, text))
        removed |= paths
        _add_placeholders(table)
    return None, lines


def _key(line: str) -> str:
    """The key that a complaint is about."""
    return line.removeprefix(_MISSING).split(":")[0]


def _remove(table: dict[str, Any], loc: tuple[int | str, ...], text: str) -> str:
    """Removes the smallest part that contains a fault, and returns its path."""
    if text.startswith(_MISSING):
        return _dotted(loc)
    if not loc:
        _remove_unknown_names(table)
        return ""
    path = _path_to(table, loc, text)
    inner: Any = table
    for part in path[:-1]:
        inner = inner[part]
    if isinstance(inner, list) or path[:-1] in _NAMED:
        inner[path[-1]] = {}  # other tables may name it
    else:
        inner.pop(path[-1], None)
    return _dotted(path)


def _path_to(table: dict[str, Any], loc: tuple[int | str, ...], text: str) -> list[Any]:
    """The keys that lead to a fault, as far as they exist."""
    path: list[Any] = []
    at: Any = table
    for part in loc:
        # Other lists contain values. They are removed as a whole.
        if not (_holds(at, part) and (isinstance(at, dict) or path in (["webhook"], ["alert"]))):
            break
        path.append(part)
        at = at[part]
    # A complaint about several values of a table begins with the key of one of them.
    named = _key(text).removeprefix(_dotted(path) + ".")
    return [*path, named] if isinstance(at, dict) and named in at else path or [loc[0]]


def _holds(at: Any, part: int | str) -> bool:
    """Whether this is a key of a table, or the index of a table in a list."""
    if isinstance(at, list) and isinstance(part, int):
        return part < len(at) and isinstance(at[part], dict)
    return isinstance(at, dict) and part in at


def _dotted(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))


def _add_placeholders(table: dict[str, Any]) -> None:
    """Adds valid values for required keys that were removed."""
    if table.get("streams") in (None, {}):
        table |= {"streams": {}, "exit_when_done": False}
    for name, stream in _tables(table, "streams"):
        if "source" not in stream:  # the source decides which other keys are allowed
            kept = {key: stream[key] for key in stream if key in ANY_KIND}
            table["streams"][name] = {"source": "device:"} | kept
    if isinstance(osc := table.get("osc"), dict):
        osc.setdefault("targets", ["localhost:1"])
    for i, alert in _tables(table, "alert"):
        alert.setdefault("name", f"alert-{i}")
        if "when" not in alert:  # the condition decides which other keys are allowed
            table["alert"][i] = {"when": "silence"} | {k: alert[k] for k in alert.keys() - OWN}
    if isinstance(notify := table.get("notify"), dict):
        for target in notify.setdefault("targets", {"any": {}}).values():
            if isinstance(target, dict) and not target:
                target["url"] = "json://localhost"
    if isinstance(report := table.get("report"), dict):
        report.setdefault("every", "day")
    if isinstance(table.get("fleet"), dict):  # it needs the events of all streams
        nats = table["nats"] if isinstance(table.get("nats"), dict) else {}
        table["nats"] = {key: nats[key] for key in nats if key not in ("streams", "topics")}
    for i, webhook in _tables(table, "webhook"):
        webhook.setdefault("name", f"webhook-{i}")
        webhook.setdefault("url", "http://localhost")


def _tables(table: dict[str, Any], key: str) -> list[tuple[Any, dict[str, Any]]]:
    """The tables in a table or a list, by key or index."""
    found = table.get(key, {})
    rows = found.items() if isinstance(found, dict) else enumerate(found)
    return [(name, inner) for name, inner in rows if isinstance(inner, dict)]


def _remove_unknown_names(table: dict[str, Any]) -> None:
    """Removes names that no other table defines. Every single value is valid."""
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
    targets = (table.get("notify") or {}).get("targets") or {}
    for alert in table.get("alert", []):
        if alert.get("notify"):
            alert["notify"] = [name for name in alert["notify"] if name in targets]
    if report := table.get("report"):
        if report.get("notify"):
            report["notify"] = [name for name in report["notify"] if name in targets]
        if not targets or not table.get("feed", {}).get("journal"):
            del table["report"]
    if table.get("alert"):
        table["alert"] = list({alert["name"]: alert for alert in table["alert"]}.values())
    hooks = table.get("webhook", [])
    hooks[:] = {hook["name"]: hook for hook in hooks}.values()
