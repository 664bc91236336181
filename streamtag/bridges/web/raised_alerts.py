"""The alerts that are raised, for the desk."""

from collections.abc import Iterable
from typing import Any

from streamtag.feed.messages import AlertAcknowledged, AlertCleared, AlertMessage, AlertRaised


class RaisedAlerts:
    """Follows the messages about alerts."""

    def __init__(self) -> None:
        self._raised: dict[str, dict[str, Any]] = {}  # by id

    def update(self, message: AlertMessage) -> None:
        """Takes a message."""
        known = self._raised.get(message.id)
        if isinstance(message, AlertRaised):
            self._raised[message.id] = {
                "id": message.id,
                "alert": message.alert,
                "severity": message.severity,
                "streams": list(message.streams),
                "detail": message.detail,
                "utc": message.utc,
                "acknowledged_by": "",
            }
        elif known is None:
            return
        elif isinstance(message, AlertAcknowledged):
            known["acknowledged_by"] = message.by
        elif isinstance(message, AlertCleared) and message.remaining:
            known["streams"] = list(message.remaining)
        else:
            del self._raised[message.id]

    def of(self, streams: Iterable[str] = ()) -> list[dict[str, Any]]:
        """The alerts about some streams, or all, for JSON; the oldest first."""
        wanted = set(streams)
        found = [one for one in self._raised.values() if not wanted or wanted & {*one["streams"]}]
        return sorted(found, key=lambda one: one["utc"])
