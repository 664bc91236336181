"""The MQTT topics of a stream and their payloads, and Home Assistant's discovery.

All messages are retained. An empty payload removes a retained message, so unknown values have no
topic. Home Assistant learns of each stream as a device, in the format of
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload (release 2024.12 on).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from streamtag import __version__
from streamtag.feed.client.stream_state import StreamState
from streamtag.feed.messages import Mood, dump

ONLINE, OFFLINE = b"online", b"offline"
ON, OFF = b"ON", b"OFF"
_SAFE = "".join(chr(c) for c in range(32, 127) if chr(c) not in "%/+#")
"""Characters that stay as they are in a level of a topic."""
_STATES = ["connecting", "up", "stalled", "retrying", "failed", "paused", "down", "unknown"]
"""All values of the topic `status`."""
_MAX_STATE = 250
"""Characters of a state that are shown; Home Assistant allows 255."""


def level(tag: str) -> str:
    """A tag as one level of a topic: `/`, `+`, `#`, `%` and control characters become `%XX`."""
    return "".join(c if ord(c) > 159 else quote(c, safe=_SAFE) for c in tag)


def bridge_topic(prefix: str) -> str:
    """The topic with the state of the bridge."""
    return f"{prefix}/status"


def daemon_topic(prefix: str) -> str:
    """The topic with the state of the daemon."""
    return f"{prefix}/daemon"


def tag_topic(prefix: str, stream: str, tag: str) -> str:
    """The topic below which a tag's `state` and `event` are."""
    return f"{prefix}/{stream}/tag/{level(tag)}"


def stream_topics(
    prefix: str, name: str, state: StreamState, tags: Iterable[str], *, alive: bool
) -> dict[str, bytes]:
    """The topics of a stream and their payloads; nothing is on if the daemon is not alive."""
    base = f"{prefix}/{name}"
    known = list(tags)
    on = [tag for tag in known if alive and tag in state.on]
    found = {
        f"{base}/availability": ONLINE if alive and state.up else OFFLINE,
        f"{base}/status": (state.status if alive else "unknown").encode(),
        f"{base}/detail": _json({"cause": state.cause, "detail": state.detail}),
        f"{base}/silence": ON if alive and state.silent else OFF,
        f"{base}/tags": _json(on),
    }
    if state.title:
        found[f"{base}/title"] = state.title.encode()
    for tag in known:
        topic = tag_topic(prefix, name, tag)
        found[f"{topic}/state"] = ON if tag in on else OFF
        if tag in state.last:
            found[f"{topic}/event"] = dump(state.last[tag])
    return found


def scores_topic(prefix: str, name: str, scores: Mapping[str, float]) -> dict[str, bytes]:
    """The topic of a stream's smoothed probabilities."""
    return {f"{prefix}/{name}/scores": _json({t: round(v, 3) for t, v in scores.items()})}


def mood_topic(prefix: str, name: str, mood: Mood) -> dict[str, bytes]:
    """The topic of a stream's mood."""
    parts = {key: getattr(mood, key) for key in ("valence", "arousal", "certainty")}
    return {f"{prefix}/{name}/mood": _json({key: round(v, 3) for key, v in parts.items()})}


def slug(text: str) -> str:
    """Text escaped to A-Z a-z 0-9 _ - only; different texts stay different."""
    return "".join(
        c if c.isascii() and (c.isalnum() or c == "-") else "__" if c == "_" else _hex(c)
        for c in text
    )


def discovery_topic(discovery: str, prefix: str, stream: str) -> str:
    """The topic of a stream's device; `+` is any. The escaped prefix distinguishes daemons."""
    name = stream if stream == "+" else slug(stream)
    return f"{discovery}/device/{slug(prefix)}/{name}/config"


def device_payload(
    prefix: str,
    stream: str,
    tags: Mapping[str, str],
    models: tuple[str, ...] = (),
    *,
    mood: bool = False,
) -> bytes:
    """The description of a stream's device; `tags` are those it can have, with display names."""
    identity = f"{slug(prefix)}_{slug(stream)}"
    about: dict[str, Any] = {"identifiers": [identity], "name": stream, "manufacturer": "streamtag"}
    if named := [model for model in models if model]:
        about["model"] = ", ".join(named)
    body = {
        "device": about,
        "origin": {"name": "streamtag", "sw_version": __version__},
        "availability": [{"topic": bridge_topic(prefix)}],
        "qos": 1,
        "components": _components(prefix, stream, identity, tags, mood),
    }
    return _json(body)


def device_updates(old: bytes, new: bytes) -> list[bytes]:
    """The payloads to publish one after the other to replace the description of a device.

    Home Assistant removes a component only if it is named once more with nothing but its platform.
    Empty payloads stand for no description.
    """
    platforms = _platforms(old) if new else {}
    kept = _platforms(new)
    removed = {name: {"platform": p} for name, p in platforms.items() if name not in kept}
    if not removed:
        return [new]
    body = json.loads(new)
    body["components"] |= removed
    return [_json(body), new]


def _components(
    prefix: str, stream: str, identity: str, tags: Mapping[str, str], mood: bool
) -> dict[str, dict[str, Any]]:
    base = f"{prefix}/{stream}"
    up = {
        "availability": [{"topic": bridge_topic(prefix)}, {"topic": f"{base}/availability"}],
        "availability_mode": "all",
    }
    listed = f"{{{{ (value_json | join(', '))[:{_MAX_STATE}] or 'none' }}}}"
    found: dict[str, dict[str, Any]] = {
        "status": _sensor("Status", f"{base}/status", icon="mdi:radio-tower")
        | {"device_class": "enum", "options": _STATES, "entity_category": "diagnostic"}
        | {"json_attributes_topic": f"{base}/detail"},
        "tags": _sensor("Tags", f"{base}/tags", listed, icon="mdi:tag-multiple") | up,
        "title": _sensor(
            "Title",
            f"{base}/title",
            f"{{{{ value[:{_MAX_STATE}] or 'None' }}}}",
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


def _platforms(payload: bytes) -> dict[str, str]:
    """The platforms of a device's components; empty if the payload describes no device."""
    try:
        components = json.loads(payload)["components"]
        return {str(name): str(body["platform"]) for name, body in components.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _hex(character: str) -> str:
    return "".join(f"_{byte:02x}" for byte in character.encode())


def _json(value: Mapping[str, Any] | list[str]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
