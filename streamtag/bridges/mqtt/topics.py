"""What stands under which MQTT topic: a stream's state as retained messages.

An empty payload takes a retained message away, so what is not known is left out.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from streamtag.feed.client.stream_state import StreamState
from streamtag.feed.messages import dump

ONLINE, OFFLINE = b"online", b"offline"
ON, OFF = b"ON", b"OFF"
_PLAIN = "".join(chr(c) for c in range(32, 127) if chr(c) not in "%/+#")


def level(tag: str) -> str:
    """A tag as one level of a topic: `/`, `+`, `#`, `%` and control characters become `%XX`."""
    return "".join(c if ord(c) > 159 else quote(c, safe=_PLAIN) for c in tag)


def bridge_topic(prefix: str) -> str:
    """Where the bridge says whether it is there."""
    return f"{prefix}/status"


def daemon_topic(prefix: str) -> str:
    """Where the bridge says whether it hears the daemon."""
    return f"{prefix}/daemon"


def tag_topic(prefix: str, stream: str, tag: str) -> str:
    """Below it: `state` and `event`."""
    return f"{prefix}/{stream}/tag/{level(tag)}"


def stream_topics(
    prefix: str, name: str, now: StreamState, tags: Iterable[str], *, heard: bool
) -> dict[str, bytes]:
    """All topics of a stream, and what stands there.

    Args:
        prefix: how topics begin.
        name: of the stream.
        now: what is known of it.
        tags: that may be on; what is on beside them is not told.
        heard: the daemon lives; otherwise nothing is on, whatever was last said.
    """
    base = f"{prefix}/{name}"
    known = list(tags)
    on = [tag for tag in known if heard and tag in now.on]
    found = {
        f"{base}/availability": ONLINE if heard and now.up else OFFLINE,
        f"{base}/status": (now.status if heard else "unknown").encode(),
        f"{base}/detail": _json({"cause": now.cause, "detail": now.detail}),
        f"{base}/silence": ON if heard and now.silent else OFF,
        f"{base}/tags": _json(on),
    }
    if now.title:
        found[f"{base}/title"] = now.title.encode()
    for tag in known:
        topic = tag_topic(prefix, name, tag)
        found[f"{topic}/state"] = ON if tag in on else OFF
        if tag in now.last:
            found[f"{topic}/event"] = dump(now.last[tag])
    return found


def measured_topics(
    prefix: str, name: str, now: StreamState, tags: Iterable[str], *, scores: bool, mood: bool
) -> dict[str, bytes]:
    """What changes all the time: scores and mood, as far as they are wanted and known."""
    found = {}
    if scores and now.scores:
        wanted = set(tags)
        values: dict[str, float] = {}
        for message in now.scores.values():
            pairs = zip(message.tags, message.smoothed, strict=True)
            values |= {tag: round(value, 3) for tag, value in pairs if tag in wanted}
        found[f"{prefix}/{name}/scores"] = _json(values)
    if mood and now.mood is not None:
        parts = {key: getattr(now.mood, key) for key in ("valence", "arousal", "certainty")}
        found[f"{prefix}/{name}/mood"] = _json({k: round(v, 3) for k, v in parts.items()})
    return found


def _json(value: Mapping[str, Any] | list[str]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
