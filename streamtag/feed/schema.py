"""JSON Schema of everything that goes over the feed, made from the definitions of the messages."""

import ast
import inspect
import itertools
from typing import Any

import msgspec

from streamtag.audio.stereo import ChannelState
from streamtag.engine.events import Cause, Reason, SourceState
from streamtag.feed import messages
from streamtag.feed.messages import TYPES, VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PROBABILITY = {"minimum": 0, "maximum": 1}
_PLANE = {"minimum": -1, "maximum": 1}
_COUNT = {"minimum": 0}
_UTC = {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"}
_NARROWER: dict[str, dict[str, Any]] = {
    "v": {"description": "Version of the contract."},
    "epoch": {"pattern": "^[0-9a-f]{16}$"},
    "seq": {"minimum": 1},
    "lease": {"minimum": 1},
    "stream": {"pattern": "^([A-Za-z0-9._-]{1,64})?$"},
    "utc": _UTC,
    "since_utc": _UTC,
    "severity": {"enum": ["info", "warning", "critical"]},
    "why": {"enum": ["over", "removed", "configuration"]},
    "remind_seconds": _COUNT,
    "state": {"enum": [state.value for state in SourceState]},
    "cause": {"enum": [cause.value for cause in Cause]},
    "balance": {"enum": [balance.value for balance in ChannelState]},
    "reason": {"enum": [reason.value for reason in Reason]},
    "probability": _PROBABILITY,
    "peak": _PROBABILITY,
    "certainty": _PROBABILITY,
    "valence": _PLANE,
    "arousal": _PLANE,
    "stage": {"enum": ["begun", "ready", "missing"]},
    "sha256": {"pattern": "^([0-9a-f]{64})?$"},
    "bytes": {"minimum": 0},
    "rate": {"minimum": 1},
    "samples": _COUNT,
    "windows": _COUNT,
    "unkept": _COUNT,
    "retry_seconds": _COUNT,
}
"""What the daemon keeps to beyond the types, by field; a reader accepts more."""


def messages_schema() -> dict[str, Any]:
    """The schema of one message; those of each type, and of state and requests, in `$defs`.

    Fields that it does not know are allowed, for readers have to ignore them.
    """
    heads: dict[str, type[messages.Wire]] = {
        "state": messages.FeedState,
        "replay_request": messages.ReplayRequest,
        "replay_answer": messages.ReplayAnswer,
        "replay_error": messages.Refusal,
    }
    kinds = heads | dict(sorted(TYPES.items()))
    _, made = msgspec.json.schema_components(kinds.values())
    texts = _field_descriptions()
    defs = {name: _definition(name, made[kind.__name__], texts) for name, kind in kinds.items()}
    return {
        "$schema": DIALECT,
        "title": f"Messages of a streamtag feed, contract version {VERSION}",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in sorted(TYPES)],
        "$defs": defs,
    }


def _definition(name: str, made: dict[str, Any], texts: dict[str, dict[str, str]]) -> Any:
    """The schema of one struct; the daemon sends all its fields, also those with a default."""
    described = texts["Message"] | texts[made["title"]]
    properties = {
        field: {"description": described[field]} | _plain(schema)
        if field in described
        else _plain(schema)
        for field, schema in made["properties"].items()
    }
    for field in properties.keys() & _NARROWER.keys():
        properties[field] |= _NARROWER[field]
    optional = {"id", "lease"} if name == "replay_request" else {"lease"}
    return {
        "title": name,
        "description": made["description"],
        "type": "object",
        "properties": properties,
        "required": [field for field in properties if field not in optional],
    }


def _plain(schema: Any) -> Any:
    """A schema without defaults, and without the bounds of 64 bits that parsing needs."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema:  # whole numbers and others, in counters
        return {"type": "number"}
    left_out = {"default"} | ({"items"} if schema.get("items") is False else set())
    if abs(schema.get("minimum", 0)) >= 2**62 or schema.get("maximum", 0) >= 2**62:
        left_out |= {"minimum", "maximum"}
    return {key: _plain(value) for key, value in schema.items() if key not in left_out}


def _field_descriptions() -> dict[str, dict[str, str]]:
    """The docstrings beneath the fields, by class."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(messages)).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {
                field.target.id: " ".join(below.value.value.split())
                for field, below in itertools.pairwise(node.body)
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            }
    return found
