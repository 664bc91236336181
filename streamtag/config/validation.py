"""What pydantic has to say about a table, in our words: key, what is allowed, what was there."""

import re
import types
import typing
from typing import Any

from pydantic import BaseModel

LONGEST = 400
"""Characters of what is quoted."""


def complaint(fault: dict[str, Any], root: type[BaseModel]) -> str:
    """One pydantic error in our words.

    Args:
        fault: what pydantic says.
        root: the table that its keys begin in.
    """
    kind = fault["type"]
    is_named = kind == "extra_forbidden"  # then "[key]" is somebody's key, else pydantic's mark
    loc = [str(part) for part in fault["loc"] if is_named or part != "[key]"]
    key = ".".join(_shown(part) for part in loc)
    got = f"{fault['input']!r:.{LONGEST}}"
    if kind == "extra_forbidden":
        allowed = ", ".join(_model_at(root, loc[:-1]).model_fields)
        return f"unknown key {key}; allowed here: {allowed}"
    if kind == "missing":
        return f"missing key {key}"
    if kind == "value_error":
        lines = str(fault["ctx"]["error"]).splitlines()
        words = "\n".join(f"{line:.{LONGEST}}" for line in lines)
        between = ": " if words.startswith("expected") else "."
        return f"{key}{between if key else ''}{words}"
    if kind == "string_pattern_mismatch":
        return f"{key}: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -, got {got}"
    if kind == "too_short":
        return f"{key}: expected at least one, got none"
    words = re.sub(r"^Input should (be|have) ", "", fault["msg"])
    words = re.sub(r" or instance of \w+", "", words.replace("dictionary", "table"))
    return f"{key}: expected {words}, got {got}"


def _shown(part: str) -> str:
    """A key as people can read it."""
    return part if part.isprintable() and len(part) <= LONGEST else f"{part!r:.{LONGEST}}"


def _model_at(root: type[BaseModel], loc: list[str]) -> type[BaseModel]:
    """The table that a path of keys leads to."""
    at: Any = root
    for part in loc:
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = _table_of(at.model_fields[part].annotation)
        else:  # dict[Name, table] or tuple[table, ...]
            at = typing.get_args(at)[1 if typing.get_origin(at) is dict else 0]
    return typing.cast(type[BaseModel], at)


def _table_of(annotation: Any) -> Any:
    """`table | None` is a table."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation
