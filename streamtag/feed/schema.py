"""JSON Schema of everything that goes over the feed, made from the types that the program uses."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from streamtag.audio.stereo import ChannelState
from streamtag.engine.events import Cause, Reason, SourceState
from streamtag.feed.message import VERSION, Message
from streamtag.feed.messages import TYPES
from streamtag.feed.protocol import FeedState as StateHead
from streamtag.feed.protocol import Refusal, ReplayAnswer, ReplayRequest

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_UNIT = {"minimum": 0, "maximum": 1}
_PLANE = {"minimum": -1, "maximum": 1}
_NARROWER: dict[str, dict[str, Any]] = {
    "epoch": {"pattern": "^[0-9a-f]{16}$"},
    "seq": {"minimum": 1},
    "stream": {"pattern": "^([A-Za-z0-9._-]{1,64})?$"},
    "utc": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"},
    "since_utc": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"},
    "state": {"enum": [state.value for state in SourceState]},
    "cause": {"enum": [cause.value for cause in Cause]},
    "balance": {"enum": [balance.value for balance in ChannelState]},
    "reason": {"enum": [reason.value for reason in Reason]},
    "probability": _UNIT,
    "peak": _UNIT,
    "certainty": _UNIT,
    "valence": _PLANE,
    "arousal": _PLANE,
    "rate": {"minimum": 1},
    "samples": {"minimum": 0},
    "windows": {"minimum": 0},
    "unkept": {"minimum": 0},
    "retry_seconds": {"minimum": 0},
}
"""What the types do not say, by field."""


def messages_schema() -> dict[str, Any]:
    """The schema of one message; those of each type, and of state and requests, in `$defs`.

    Fields that it does not know are allowed, for readers have to ignore them.
    """
    defs = {name: _message(kind) for name, kind in sorted(TYPES.items())}
    heads = {
        "state": StateHead,
        "replay_request": ReplayRequest,
        "replay_answer": ReplayAnswer,
        "replay_error": Refusal,
    }
    return {
        "$schema": DIALECT,
        "title": f"Messages of a streamtag feed, contract version {VERSION}",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in defs],
        "$defs": defs | {name: _head(kind) for name, kind in heads.items()},
    }


def _message(kind: type[Message]) -> dict[str, Any]:
    common = TypeAdapter(Message).json_schema()["properties"]
    own = TypeAdapter(kind).json_schema()
    properties = {
        "v": {"const": VERSION, "description": "Version of the contract."},
        "type": {"const": kind.type},
        **{name: common.get(name, field) for name, field in own["properties"].items()},
    }
    return {
        "title": kind.type,
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": {name: _narrowed(name, field) for name, field in properties.items()},
        "required": list(properties),
    }


def _head(kind: Any) -> dict[str, Any]:
    described: dict[str, Any] = TypeAdapter(kind).json_schema()
    properties = {name: _narrowed(name, field) for name, field in described["properties"].items()}
    return described | {"properties": properties}


def _narrowed(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    without = {key: value for key, value in field.items() if key not in ("title", "default")}
    return without | _NARROWER.get(name, {})
