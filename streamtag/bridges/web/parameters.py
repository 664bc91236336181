"""Parameters of requests, and the errors for wrong ones."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse

from streamtag.feed.messages import TYPES
from streamtag.feed.rights import EVERYTHING, Rights
from streamtag.feed.timestamps import parse_moment
from streamtag.history.days import find_zone, local_zone
from streamtag.history.query import Query

MAX_LIMIT = 1000
"""Number of entries in one answer, at most."""
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="streamtag"'}
SETTINGS_COOKIE = "streamtag-settings"
"""The cookie with what somebody chose on the page of settings, as a query."""
MODES = ("auto", "light", "dark")
CLOCKS = ("12", "24")
"""Of the settings; without one, it is what is usual in the language."""

T = TypeVar("T")


def error_response(status: int, parameter: str, expected: str, got: str) -> JSONResponse:
    """An answer with the error of a request."""
    body = {"error": {"parameter": parameter, "expected": expected, "got": got[:200]}}
    return JSONResponse(body, status, CHALLENGE if status == 401 else None)


class BadParameter(Exception):
    """A parameter of a request is wrong."""

    def __init__(self, parameter: str, expected: str, got: str) -> None:
        super().__init__(f"{parameter}: expected {expected}, got {got!r}")
        self.response = error_response(400, parameter, expected, got)


def check_names(params: QueryParams, known: Iterable[str]) -> None:
    """Refuses unknown parameters.

    Raises:
        BadParameter: for the first one.
    """
    allowed = (*known, "token")
    for name in params:
        if name not in allowed:
            raise BadParameter(name[:60], f"one of the parameters {', '.join(allowed)}", name)


def read_query(params: QueryParams, rights: Rights = EVERYTHING) -> Query:
    """The messages that `stream`, `tag`, `type`, `from` and `to` choose of those that may be seen.

    Raises:
        BadParameter: a type or a time is not valid.
    """
    types = frozenset(params.getlist("type"))
    for kind in types - TYPES.keys():
        raise BadParameter("type", f"one of {', '.join(sorted(TYPES))}", kind)
    now = time.time_ns()
    since = single(params, "from", lambda text: parse_moment(text, now))
    until = single(params, "to", lambda text: parse_moment(text, now))
    if since is not None and until is not None and until < since:
        raise BadParameter("to", "a moment not before `from`", params["to"])
    streams, tags = frozenset(params.getlist("stream")), frozenset(params.getlist("tag"))
    return Query(streams, tags, types, since, until, rights)


def single(params: QueryParams, name: str, parse: Callable[[str], T]) -> T | None:
    """The value of a parameter that may be given once; None if it is not given.

    Raises:
        BadParameter: it is given twice or is not valid.
    """
    values = params.getlist(name)
    if len(values) > 1:
        raise BadParameter(name, "one value", ", ".join(values))
    return checked(name, values[0], parse) if values else None


def checked(name: str, text: str, parse: Callable[[str], T]) -> T:
    """Parses a value; a ValueError of the form `expected …, got …` becomes a BadParameter."""
    try:
        return parse(text)
    except ValueError as error:
        expected = str(error).removeprefix("expected ").rpartition(", got ")[0]
        raise BadParameter(name, expected or "another value", text) from None


def read_limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise ValueError(f"expected a number from 1 to {MAX_LIMIT}, got {text!r}")
    return int(text)


def read_settings(cookies: Mapping[str, str]) -> dict[str, str]:
    """What somebody chose on the page of settings."""
    return dict(parse_qsl(cookies.get(SETTINGS_COOKIE, "")[:1000]))


def kept_settings(cookies: Mapping[str, str]) -> dict[str, str]:
    """The settings for a page in the browser, which knows what stands for an empty one."""
    kept = read_settings(cookies)
    mode, clock = kept.get("mode", ""), kept.get("clock", "")
    zone = "" if kept.get("own") else kept.get("zone", "")
    return {
        "lang": kept.get("lang", ""),
        "mode": mode if mode in MODES else MODES[0],
        "zone": zone if str(chosen_zone(zone)) == zone else "",
        "clock": clock if clock in CLOCKS else "",
    }


def settings_cookie(form: Mapping[str, str]) -> str:
    """What is kept of the form of the settings. Reports need the zone of a browser, too."""
    zone, own = (form.get(key, "") for key in ("zone", "own"))
    kept = {key: form.get(key, "") for key in ("mode", "clock")}
    kept |= {"lang": form.get("language", ""), "zone": zone or own, "own": "" if zone else "1"}
    return urlencode({key: value[:64] for key, value in kept.items()})


def chosen_zone(name: str) -> tzinfo:
    """The time zone of the settings; that of this machine if there is none."""
    try:
        return find_zone(name) if name else local_zone()
    except ValueError:
        return local_zone()
