"""Messages back from their bytes, every field checked: they come from strangers."""

import dataclasses
from collections.abc import Callable
from typing import Any, get_type_hints

from streamtag.errors import FeedError
from streamtag.feed.codec import TYPES, decode
from streamtag.feed.message import VERSION, Message, Other
from streamtag.feed.tag_messages import Scores

_LARGEST = 2**63
"""No number of a message is further from 0."""


class _Misfit(Exception):
    """A value is not of the type that it should be."""


def _text(value: object) -> object:
    if type(value) is not str:
        raise _Misfit
    return value


def _flag(value: object) -> object:
    if type(value) is not bool:
        raise _Misfit
    return value


def _number(value: Any) -> object:
    if type(value) not in (float, int) or not -_LARGEST <= value <= _LARGEST:
        raise _Misfit
    return value


def _whole(value: Any) -> object:
    if type(value) is not int or not -_LARGEST <= value <= _LARGEST:
        raise _Misfit
    return value


def _texts(value: object) -> object:
    if type(value) is not list:
        raise _Misfit
    return tuple(map(_text, value))


def _numbers(value: object) -> object:
    if type(value) is not list:
        raise _Misfit
    return tuple(map(_number, value))


def _named_numbers(value: object) -> object:
    if type(value) is not dict:
        raise _Misfit
    for number in value.values():
        _number(number)
    return value


_READERS: dict[Any, Callable[[Any], object]] = {
    str: _text,
    bool: _flag,
    float: _number,
    int: _whole,
    tuple[str, ...]: _texts,
    tuple[float, ...]: _numbers,
    dict[str, float]: _named_numbers,
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    name: str
    read: Callable[[Any], object]
    hint: Any
    later: bool
    """An older daemon of the same contract does not send it; it has a default."""


def _fields(kind: type[Message]) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    return tuple(
        _Field(f.name, _READERS[hints[f.name]], hints[f.name], f.default is not dataclasses.MISSING)
        for f in dataclasses.fields(kind)
    )


_COMMON = _fields(Message)
_FIELDS = {name: (kind, _fields(kind)) for name, kind in TYPES.items()}


def parse(payload: bytes) -> Message:
    """A message from its payload.

    Raises:
        FeedError: it is not JSON (or MessagePack), of another version, or a field is missing or of
            a wrong type.
    """
    body = decode(payload)
    if (version := body.get("v")) != VERSION:
        raise FeedError(
            f"message: expected contract version {VERSION}, got {version!r:.60}; "
            "use the same version of streamtag on both sides"
        )
    name = body.get("type")
    if not isinstance(name, str):
        raise FeedError(f"message: expected a string in field 'type', got {name!r:.60}")
    if name not in _FIELDS:
        common = _take(body, _COMMON, name)
        known = {"v", "type", *common}
        rest = {key: value for key, value in body.items() if key not in known}
        return Other(kind=name, fields=rest, **common)
    kind, fields = _FIELDS[name]
    message = kind(**_take(body, fields, name))
    if isinstance(message, Scores):
        _check_lengths(message)
    return message


def _take(body: dict[str, Any], fields: tuple[_Field, ...], name: str) -> dict[str, Any]:
    """The fields of a message, checked."""
    found: dict[str, Any] = {}
    for field in fields:
        if field.name in body:
            try:
                found[field.name] = field.read(body[field.name])
            except _Misfit:
                raise _misfit(field, body[field.name], name) from None
        elif not field.later:
            raise FeedError(f"message of type {name!r:.60}: field {field.name!r} is missing")
    return found


def _misfit(field: _Field, value: object, name: str) -> FeedError:
    plain = isinstance(field.hint, type) and not hasattr(field.hint, "__args__")
    expected = field.hint.__name__ if plain else str(field.hint)
    return FeedError(
        f"message of type {name!r:.60}: expected {expected} in field {field.name!r}, "
        f"got {value!r:.60}"
    )


def _check_lengths(scores: Scores) -> None:
    n = len(scores.tags)
    for field in ("values", "smoothed"):
        if (got := len(getattr(scores, field))) != n:
            raise FeedError(
                f"message of type 'scores': expected {n} numbers in field {field!r}, one per tag, "
                f"got {got}"
            )
