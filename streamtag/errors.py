"""What streamtag raises when it was given something it cannot use.

A message says which thing, what was expected, what was got, and what to do if that is known.
What pydantic finds wrong in a configuration, a card or a recipe is put into the same words:
`complaint` has the text, `raises` lets a dataclass raise one of these errors.
"""

import re
import types
import typing
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_LINE = 2000
"""The most characters of one line of a message."""
LONGEST_VALUE = 400
"""The most characters of a value that a message quotes."""


class StreamtagError(Exception):
    """Any error that a user can cause and mend.

    Its text quotes what strangers wrote, and goes to terminals, logs and the feed: control
    characters are spelt out, and the middle of endless lines is left out.
    """

    def __str__(self) -> str:
        return "\n".join(map(_legible, super().__str__().split("\n")))


def _legible(line: str) -> str:
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


class ConfigError(StreamtagError, ValueError):
    """An option, a configuration file or a front end's description is wrong."""


class RecipeError(StreamtagError, ValueError):
    """A training recipe or its data is wrong."""


class BundleError(StreamtagError):
    """A bundle cannot be read, or must not be trusted."""


class SourceError(StreamtagError):
    """Audio could not be opened, decoded or captured."""


class FeedError(StreamtagError):
    """The feed cannot be published or reached, or a message in it cannot be understood."""


class ControlError(StreamtagError):
    """A running daemon cannot be reached, or refuses a command."""


class FleetError(StreamtagError):
    """A fleet cannot be joined or changed, or its records cannot be understood."""


class StreamError(StreamtagError):
    """A stream cannot be opened, or a block does not fit it.

    Args:
        stream: its name.
        message: what was expected and what was got.
    """

    def __init__(self, stream: str, message: str) -> None:
        super().__init__(f"stream {stream!r}: {message}")
        self.stream = stream


def raises(kind: type[StreamtagError], subject: str = "") -> Callable[[type[T]], type[T]]:
    """Lets the constructor of a pydantic dataclass raise one of our errors, for the first fault.

    Args:
        kind: what is raised instead of pydantic's own error.
        subject: begins the message.
    """

    def decorate(cls: type[T]) -> type[T]:
        from pydantic import ValidationError  # a subscriber needs no pydantic

        construct = cls.__init__

        @wraps(construct)
        def checked(self: T, *args: Any, **kwargs: Any) -> None:
            try:
                construct(self, *args, **kwargs)
            except ValidationError as error:
                raise kind(subject + complaint(dict(error.errors()[0]), cls)) from None

        cls.__init__ = checked  # type: ignore[assignment]
        return cls

    return decorate


def complaint(fault: dict[str, Any], root: type) -> str:
    """One pydantic error in our words.

    Args:
        fault: an item of `ValidationError.errors()`.
        root: the pydantic model or dataclass that the keys begin in.
    """
    kind = fault["type"]
    is_named = kind in ("extra_forbidden", "unexpected_keyword_argument")
    # "[key]" can be an unknown key that somebody wrote; elsewhere it is pydantic's mark.
    loc = [str(part) for part in fault["loc"] if is_named or part != "[key]"]
    key = ".".join(_shown(part) for part in loc)
    got = f"{fault['input']!r:.{LONGEST_VALUE}}"
    if is_named:
        allowed = ", ".join(fields_of(_table_at(root, loc[:-1])))
        return f"unknown key {key}; allowed here: {allowed}"
    if kind == "missing":
        return f"missing key {key}"
    if kind == "value_error":
        lines = str(fault["ctx"]["error"]).splitlines()
        words = "\n".join(f"{line:.{LONGEST_VALUE}}" for line in lines)
        between = ": " if words.startswith("expected") else "."
        return f"{key}{between if key else ''}{words}"
    if kind == "string_pattern_mismatch":
        return f"{key}: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -, got {got}"
    if kind == "too_short":
        return f"{key}: expected at least one, got none"
    words = re.sub(r"^Input should (be|have) ", "", fault["msg"])
    words = re.sub(r" or (an )?instance of \w+", "", words)
    words = words.replace("dictionary", "table").replace("tuple", "list")
    return f"{key}: expected {words}, got {got}"


def fields_of(table: type) -> dict[str, Any]:
    """Pydantic's description of each field of a model or dataclass, by name."""
    found: dict[str, Any] = table.__pydantic_fields__  # type: ignore[attr-defined]
    return found


def table_of(annotation: Any) -> Any:
    """The table in `table | None`; any other annotation as it is."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation


def _shown(part: str) -> str:
    """A key as people can read it."""
    return (
        part if part.isprintable() and len(part) <= LONGEST_VALUE else f"{part!r:.{LONGEST_VALUE}}"
    )


def _table_at(root: type, loc: list[str]) -> type:
    """The model or dataclass that a path of keys leads to."""
    at: Any = root
    for part in loc:
        if hasattr(at, "__pydantic_fields__"):
            at = table_of(fields_of(at)[part].annotation)
        else:  # dict[Name, table] or tuple[table, ...]
            at = typing.get_args(at)[1 if typing.get_origin(at) is dict else 0]
    return typing.cast(type, at)
