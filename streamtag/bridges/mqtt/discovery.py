"""Home Assistant's discovery: a device per stream, told by one retained message each.

Format: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, understood from
release 2024.12 on. A component that goes has to be named once more with nothing but its platform.
"""

import json
from collections.abc import Mapping
from typing import Any

import streamtag
from streamtag.bridges.mqtt.topics import bridge_topic, tag_topic

_STATES = ["connecting", "up", "stalled", "retrying", "failed", "paused", "down", "unknown"]
_LONGEST = 250
"""Characters of a state; Home Assistant takes 255."""


def slug(text: str) -> str:
    """Text as A-Z a-z 0-9 _ - only, different for different texts."""
    return "".join(
        c if c.isascii() and (c.isalnum() or c == "-") else "__" if c == "_" else _hex(c)
        for c in text
    )


def node(prefix: str) -> str:
    """The part of discovery topics that tells one daemon's from another's."""
    return slug(prefix)


def config_topic(discovery: str, prefix: str, stream: str) -> str:
    """Where a stream's device is told."""
    return f"{discovery}/device/{node(prefix)}/{slug(stream)}/config"


def device(
    prefix: str,
    stream: str,
    tags: Mapping[str, str],
    models: tuple[str, ...] = (),
    *,
    mood: bool = False,
) -> bytes:
    """A stream's device.

    Args:
        prefix: how topics begin.
        stream: its name.
        tags: that may be on, and their names for people.
        models: names of what listens.
        mood: the mood is told, too.
    """
    identity = f"{node(prefix)}_{slug(stream)}"
    about: dict[str, Any] = {"identifiers": [identity], "name": stream, "manufacturer": "streamtag"}
    if named := [model for model in models if model]:
        about["model"] = ", ".join(named)
    body = {
        "device": about,
        "origin": {"name": "streamtag", "sw_version": streamtag.__version__},
        "availability": [{"topic": bridge_topic(prefix)}],
        "qos": 1,
        "components": _components(prefix, stream, identity, tags, mood),
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def steps(old: bytes, new: bytes) -> list[bytes]:
    """What to publish one after the other so that components that went are taken away.

    Args:
        old: what stands there; empty for nothing.
        new: what is to stand there; empty for nothing.
    """
    gone = _names(old) if new else {}
    gone = {name: platform for name, platform in gone.items() if name not in _names(new)}
    if not gone:
        return [new]
    body = json.loads(new)
    body["components"] |= {name: {"platform": platform} for name, platform in gone.items()}
    return [json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), new]


def _components(
    prefix: str, stream: str, identity: str, tags: Mapping[str, str], mood: bool
) -> dict[str, dict[str, Any]]:
    base = f"{prefix}/{stream}"
    up = {
        "availability": [{"topic": bridge_topic(prefix)}, {"topic": f"{base}/availability"}],
        "availability_mode": "all",
    }
    listed = f"{{{{ (value_json | join(', '))[:{_LONGEST}] or 'none' }}}}"
    found: dict[str, dict[str, Any]] = {
        "status": _sensor("Status", f"{base}/status", icon="mdi:radio-tower")
        | {"device_class": "enum", "options": _STATES, "entity_category": "diagnostic"}
        | {"json_attributes_topic": f"{base}/detail"},
        "tags": _sensor("Tags", f"{base}/tags", listed, icon="mdi:tag-multiple") | up,
        "title": _sensor(
            "Title",
            f"{base}/title",
            f"{{{{ value[:{_LONGEST}] or 'None' }}}}",
            icon="mdi:music-box",
        )
        | up,
        "silence": _binary("Silence", f"{base}/silence", "mdi:volume-off") | up,
    }
    for tag, display in tags.items():
        topic = tag_topic(prefix, stream, tag)
        found[f"tag_{slug(tag)}"] = (
            _binary(display, f"{topic}/state", "mdi:tag")
            | {"json_attributes_topic": f"{topic}/event"}
            | up
        )
    for axis in ("valence", "arousal") if mood else ():
        found[axis] = (
            _sensor(axis.capitalize(), f"{base}/mood", f"{{{{ value_json.{axis} }}}}", "mdi:heart")
            | {"state_class": "measurement"}
            | up
        )
    return {
        name: {"unique_id": f"{identity}_{name}"} | component for name, component in found.items()
    }


def _sensor(name: str, topic: str, template: str = "", icon: str = "") -> dict[str, Any]:
    body = {"platform": "sensor", "name": name, "state_topic": topic, "icon": icon}
    return body | ({"value_template": template} if template else {})


def _binary(name: str, topic: str, icon: str) -> dict[str, Any]:
    return {"platform": "binary_sensor", "name": name, "state_topic": topic, "icon": icon}


def _names(payload: bytes) -> dict[str, str]:
    """Components of a device and their platforms; none if it is something else."""
    try:
        components = json.loads(payload)["components"]
        return {str(name): str(body["platform"]) for name, body in components.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _hex(character: str) -> str:
    return "".join(f"_{byte:02x}" for byte in character.encode())
