"""What may be asked for in an address of the web server, checked."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from starlette.datastructures import QueryParams

from streamtag.feed.messages import TYPES
from streamtag.feed.timestamps import parse_moment
from streamtag.history.query import Query

LONGEST_PAGE = 1000
"""Entries in one answer."""
USUAL_PAGE = 100
EVERYWHERE = ("token",)
FILTERS = ("stream", "tag", "type")

T = TypeVar("T")


class BadInput(Exception):
    """A parameter is wrong.

    Args:
        parameter: its name.
        expected: what would be right.
        got: what was given.
    """

    def __init__(self, parameter: str, expected: str, got: str) -> None:
        super().__init__(f"{parameter}: expected {expected}, got {got!r}")
        self.body = {"parameter": parameter, "expected": expected, "got": got[:200]}
        """As the answer says it."""


def check_names(given: QueryParams, known: Iterable[str]) -> None:
    """Refuses parameters that do not exist.

    Raises:
        BadInput: with the first one.
    """
    allowed = (*known, *EVERYWHERE)
    for name in given:
        if name not in allowed:
            raise BadInput(name[:60], f"one of the parameters {', '.join(allowed)}", name)


def read_filters(given: QueryParams) -> Query:
    """`stream`, `tag`, `type`, each as often as one likes, and `from`, `to`.

    Raises:
        BadInput: a type or a time is none.
    """
    types = frozenset(given.getlist("type"))
    for kind in types - TYPES.keys():
        raise BadInput("type", f"one of {', '.join(sorted(TYPES))}", kind)
    now = time.time_ns()
    since = single(given, "from", lambda text: parse_moment(text, now))
    until = single(given, "to", lambda text: parse_moment(text, now))
    if since is not None and until is not None and until < since:
        raise BadInput("to", "a moment not before `from`", given["to"])
    return Query(
        frozenset(given.getlist("stream")), frozenset(given.getlist("tag")), types, since, until
    )


def read_limit(given: QueryParams) -> int:
    """`limit`, how many entries.

    Raises:
        BadInput: it is none.
    """
    return single(given, "limit", _limit) or USUAL_PAGE


def single(given: QueryParams, name: str, read: Callable[[str], T]) -> T | None:
    """A parameter that is given once at most; None where it is not given.

    Raises:
        BadInput: it is given twice, or `read` refuses it with `expected …, got …`.
    """
    values = given.getlist(name)
    if len(values) > 1:
        raise BadInput(name, "one value", ", ".join(values))
    if not values:
        return None
    try:
        return read(values[0])
    except ValueError as error:
        expected = str(error).removeprefix("expected ").rpartition(", got ")[0]
        raise BadInput(name, expected or "another value", values[0]) from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= LONGEST_PAGE):
        raise ValueError(f"expected a number from 1 to {LONGEST_PAGE}, got {text!r}")
    return int(text)
