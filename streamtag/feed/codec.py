"""How messages are spelt: one compact UTF-8 JSON object each, or the same as MessagePack.

The fields `v`, `type`, `epoch`, `seq`, `stream`, `t` and `utc` come first, in this order; the
fields of the type follow. The first byte tells a reader which it is: JSON begins with `{`,
MessagePack with a map (0x80 to 0x8f, 0xde, 0xdf).
"""

import dataclasses
import json
from collections.abc import Callable
from operator import attrgetter
from types import ModuleType
from typing import Any, Literal, get_type_hints

import orjson

from streamtag._core import Speller
from streamtag.errors import FeedError
from streamtag.feed import feed_messages, stream_messages, tag_messages
from streamtag.feed.message import VERSION, Message

Encoding = Literal["json", "msgpack"]

_KINDS: list[type[Message]] = [
    stream_messages.StreamUp,
    stream_messages.TaggersChanged,
    stream_messages.StreamDown,
    stream_messages.StreamStatus,
    stream_messages.Title,
    tag_messages.TagOn,
    tag_messages.TagOff,
    stream_messages.Gap,
    stream_messages.Dropped,
    stream_messages.SilenceOn,
    stream_messages.SilenceOff,
    stream_messages.Clipping,
    stream_messages.Channels,
    tag_messages.Scores,
    tag_messages.Mood,
    feed_messages.Stats,
    feed_messages.Beat,
    feed_messages.Goodbye,
    feed_messages.JournalStatus,
    feed_messages.Notice,
]
HEAD = f'{{"v":{VERSION}'
"""How the JSON of every message begins."""
TYPES = {kind.type: kind for kind in _KINDS}
"""All messages that there are, by `type`."""


def _hints(kind: type[Message]) -> dict[str, Any]:
    """Types of a message's fields, by name."""
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


_HINTS = {kind: _hints(kind) for kind in _KINDS}


class _Shape:
    """How the fields of a kind of message are taken out of it."""

    def __init__(self, kind: type[Message]) -> None:
        hints: dict[str, Any] = {"type": str} | _HINTS[kind]
        self.json = Speller(HEAD, [(name, name, False, "") for name in hints]).spell
        self.names = ("v", *hints)
        self.values: Callable[[Message], tuple[Any, ...]] = attrgetter(*hints)
        deep = (tuple[float, ...], dict[str, float])
        self.floats = [i for i, hint in enumerate(hints.values()) if hint is float]
        self.deep = [i for i, hint in enumerate(hints.values()) if hint in deep]


_SHAPES = {kind: _Shape(kind) for kind in _KINDS}


def dump(message: Message, encoding: Encoding = "json") -> bytes:
    """The payload of a message: seconds to the microsecond and probabilities to the millionth, so
    that lines stay short."""
    shape = _SHAPES[type(message)]
    if encoding == "json" and (body := shape.json(message)) is not None:
        return body
    values = list(shape.values(message))
    for i in shape.floats:
        values[i] = round(values[i], 6)
    for i in shape.deep:
        values[i] = _rounded(values[i])
    return encode(dict(zip(shape.names, (VERSION, *values), strict=True)), encoding)


def encode(body: Any, encoding: Encoding = "json") -> bytes:
    """A table of names and values as bytes.

    Raises:
        FeedError: MessagePack is wanted and not installed.
    """
    if encoding == "msgpack":
        packed = _msgpack().packb(body, unicode_errors="replace")
        assert isinstance(packed, bytes)
        return packed
    try:
        return orjson.dumps(body)
    except TypeError:  # names of files need not be text, and integers may be large
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="replace")


def _rounded(value: tuple[float, ...] | dict[str, float]) -> list[float] | dict[str, float]:
    if isinstance(value, dict):
        return {k: round(v, 6) for k, v in value.items()}
    return [round(v, 6) for v in value]


def is_msgpack(payload: bytes) -> bool:
    """Whether a payload is MessagePack, as its first byte tells."""
    return payload[:1] in (b"\xde", b"\xdf") or b"\x80" <= payload[:1] <= b"\x8f"


def decode(payload: bytes) -> dict[str, Any]:
    """The table in a payload, of either encoding.

    Raises:
        FeedError: there is none, or it is MessagePack and that is not installed.
    """
    try:
        body = _msgpack().unpackb(payload) if is_msgpack(payload) else json.loads(payload)
    except (ValueError, RecursionError) as error:  # all that both of them raise
        raise FeedError(f"message: expected a JSON object, got {payload[:60]!r}: {error}") from None
    if not isinstance(body, dict):
        raise FeedError(f"message: expected a JSON object, got {payload[:60]!r}")
    return body


def _msgpack() -> ModuleType:
    try:
        import msgpack
    except ImportError:
        raise FeedError(
            "feed: expected the package msgpack, because the feed is in MessagePack; got none: "
            'pip install "streamtag[msgpack]"'
        ) from None
    assert isinstance(msgpack, ModuleType)
    return msgpack
