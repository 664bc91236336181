"""Messages about alerts, for pages that show them."""

import time
from typing import Any

from streamtag.feed.messages import AlertAcknowledged, AlertCleared, AlertRaised
from streamtag.feed.timestamps import rfc3339


def raised(
    name: str, detail: str, streams: tuple[str, ...], severity: str = "warning"
) -> AlertRaised:
    """An alert about some streams."""
    return AlertRaised(
        **_head(name), streams=streams, severity=severity, since_utc=_now(), detail=detail,
        notify=(), quiet_until="", remind_seconds=0.0,
    )  # fmt: skip


def acknowledged(name: str, by: str) -> AlertAcknowledged:
    """Somebody has seen it."""
    return AlertAcknowledged(**_head(name), by=by, note="")


def cleared(name: str, streams: tuple[str, ...]) -> AlertCleared:
    """It is over."""
    return AlertCleared(
        **_head(name), streams=streams, remaining=(), since_utc=_now(), why="over", detail="",
        notify=(),
    )  # fmt: skip


def _head(name: str) -> dict[str, Any]:
    about = {"alert": name, "id": f"{name}-1"}
    return {"epoch": "", "seq": 0, "stream": "", "t": 0.0, "utc": _now(), **about}


def _now() -> str:
    return rfc3339(time.time_ns())
