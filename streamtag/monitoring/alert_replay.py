"""Applies alert rules to a journal: the alerts that they would have raised."""

from collections.abc import Mapping, Sequence

from msgspec import structs

from streamtag.config.alerts import AlertConfig
from streamtag.feed.messages import AlertCleared, AlertRaised
from streamtag.feed.timestamps import ns_of
from streamtag.history.history import History
from streamtag.history.query import Query
from streamtag.monitoring.alerts import AlertEngine
from streamtag.monitoring.derivation import Derivation

LEAD_SECONDS = 86_400.0
"""How much of the journal before the range is read at least, for tags that were on then."""


def replay(
    history: History,
    alerts: Sequence[AlertConfig],
    categories: Mapping[str, str],
    since: int,
    until: int,
) -> list[AlertRaised | AlertCleared]:
    """The messages that the rules would have made in [since, until), in nanoseconds since 1970.

    The time is that of the journal's writer, as in a daemon. Rules about the daemon's health raise
    nothing, because a journal has no counters.
    """
    engine = AlertEngine(alerts, (), categories)
    derivation = Derivation([engine])
    begin = since - round(max(LEAD_SECONDS, engine.horizon_seconds) * 1e9)
    made: list[AlertRaised | AlertCleared] = []
    types = frozenset(str(structs.fields(kind)[0].default) for kind in engine.types)
    for entry in history.entries(Query(types=types, since=max(0, begin), until=until)):
        out = [*derivation.tick(entry.written), *derivation.extend([entry.message], entry.written)]
        made += [m for m in out if isinstance(m, AlertRaised | AlertCleared)]
    for message in [*derivation.tick(until), *derivation.close(until)]:
        if isinstance(message, AlertRaised | AlertCleared):
            made.append(message)
    return [message for message in made if since <= ns_of(message.utc) < until]
