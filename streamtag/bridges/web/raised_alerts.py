"""The alerts that are raised, as the pages show them."""

from typing import Any

from streamtag.feed.messages import AlertAcknowledged, AlertCleared, AlertRaised, Message


class RaisedAlerts:
    """What is raised at present."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}  # by id

    def update(self, message: Message) -> None:
        """Takes the next message; only those about alerts count."""
        match message:
            case AlertRaised():
                self._rows[message.id] = {
                    "id": message.id,
                    "alert": message.alert,
                    "utc": message.utc,
                    "since_utc": message.since_utc,
                    "severity": message.severity,
                    "streams": list(message.streams),
                    "detail": message.detail,
                    "acknowledged_by": "",
                    "note": "",
                }
            case AlertCleared() if message.id in self._rows:
                self._rows[message.id]["streams"] = list(message.remaining)
                if not message.remaining:
                    del self._rows[message.id]
            case AlertAcknowledged() if message.id in self._rows:
                seen = {"acknowledged_by": message.by, "note": message.note}
                self._rows[message.id] |= seen

    def rows(self) -> list[dict[str, Any]]:
        """All of them, the newest first."""
        return sorted(self._rows.values(), key=lambda row: str(row["utc"]), reverse=True)
