"""The alerts and the programme log in a report of a stream, read from its journal."""

from typing import Any

from streamtag.feed.codec import decode
from streamtag.feed.messages import AlertCleared, AlertRaised
from streamtag.feed.rights import EVERYTHING, Rights
from streamtag.feed.timestamps import ns_of
from streamtag.history.history import History
from streamtag.history.query import Query
from streamtag.history.report import ReportedAlert, ReportedSection

EARLIER = 7 * 86_400 * 10**9
"""An alert that was raised this long before a period, in nanoseconds, is still found."""


def alerts_of(
    history: History, stream: str, begin: int, end: int, rights: Rights = EVERYTHING
) -> list[ReportedAlert]:
    """The alerts about a stream that held at some time in [begin, end), by time."""
    kinds = frozenset({"alert_raised", "alert_cleared"})
    raised: dict[str, AlertRaised] = {}
    over: dict[str, int] = {}
    for entry in history.entries(Query(types=kinds, since=max(0, begin - EARLIER), rights=rights)):
        message = entry.message
        if isinstance(message, AlertRaised) and (stream in message.streams or not message.streams):
            if ns_of(message.utc) < end:
                raised[message.id] = message
        elif isinstance(message, AlertCleared) and (
            stream in message.streams or not message.remaining
        ):
            over.setdefault(message.id, ns_of(message.utc))
    found = [
        ReportedAlert(one.alert, id_, ns_of(one.since_utc), over.get(id_), one.severity, one.detail)
        for id_, one in raised.items()
        if over.get(id_, end) >= begin
    ]
    return sorted(found, key=lambda alert: (alert.since, alert.id))


def log_of(
    history: History, stream: str, begin: int, end: int, rights: Rights = EVERYTHING
) -> list[ReportedSection]:
    """The sections of a stream that began in [begin, end), by time."""
    query = Query(
        frozenset({stream}), types=frozenset({"section"}), since=begin, until=end, rights=rights
    )
    found = [_section(decode(entry.body, dict[str, Any])) for entry in history.entries(query)]
    return sorted(found, key=lambda section: section.begin)


def _section(body: dict[str, Any]) -> ReportedSection:
    return ReportedSection(
        ns_of(body["utc"]),
        ns_of(body["end_utc"]),
        body["kind"],
        body["certainty"],
        body["title"],
        body["genre"],
        tuple(body["moods"]),
        tuple(body["instruments"]),
    )
