"""The alerts of a daemon: its rules with what they need to know of models and streams."""

from collections.abc import Iterator, Mapping

from streamtag.config.alerts import TAG_CONDITIONS, AlertConfig
from streamtag.config.config import Config
from streamtag.config.model_fit import bundle_of
from streamtag.model.bundle import read_card
from streamtag.model.card import Card
from streamtag.monitoring.alerts import AlertEngine
from streamtag.monitoring.conditions import Condition

_WITHOUT_TITLES = {"device", "stdin", "sdp", "tcp", "udp", "rtp", "zmq+tcp", "zmq+ipc"}
"""Kinds of sources that have no titles."""


def open_alerts(config: Config) -> AlertEngine:
    """The alerts of a configuration that was checked."""
    return AlertEngine(config.alert, _targets(config), categories_of(config), config.streams)


def change_alerts(alerts: AlertEngine, config: Config) -> None:
    """Gives alerts another configuration."""
    alerts.configure(config.alert, _targets(config), categories_of(config), config.streams)


def _targets(config: Config) -> tuple[str, ...]:
    return tuple(config.notify.targets) if config.notify else ()


def categories_of(config: Config) -> dict[str, str]:
    """The categories of the tags of all models; nothing is read where no rule needs it."""
    if not any(alert.categories for alert in config.alert):
        return {}
    cards = [read_card(bundle_of(tagger)) for tagger in config.taggers.values()]
    return {tag: category for card in cards for tag, category in card.categories.items()}


def idle_alerts(config: Config, cards: Mapping[str, Card]) -> Iterator[str]:
    """A complaint about each alert that cannot fire."""
    for alert in config.alert:
        if why := _why_idle(config, alert, cards):
            yield f"alert {alert.name!r}: cannot fire: {why}"


def _why_idle(config: Config, alert: AlertConfig, cards: Mapping[str, Card]) -> str:
    """Why an alert cannot be raised; empty if it can."""
    if alert.when == "health":
        return "" if config.feed.stats_seconds else "expected feed.stats_seconds above 0, got 0"
    categories = {t: c for card in cards.values() for t, c in card.categories.items()}
    condition = Condition(alert, categories)
    streams = [name for name in config.streams if condition.matches_stream(name)]
    if not streams and not config.exit_when_done and not config.streams:
        return ""  # streams are added later
    if not streams:
        known = ", ".join(config.streams)
        return f"streams: expected patterns of {known:.200}, got {', '.join(alert.streams)}"
    if alert.when in TAG_CONDITIONS:
        return _why_no_tag(config, alert, condition, streams, cards)
    kinds = {config.streams[name].kind for name in streams}
    if alert.when in ("title", "no_title") and kinds <= _WITHOUT_TITLES:
        return f"expected streams that have titles, got {', '.join(streams):.200}"
    if alert.when == "share_below" and alert.share == 0:
        return "share: expected more than 0, got 0"
    return ""


def _why_no_tag(
    config: Config,
    alert: AlertConfig,
    condition: Condition,
    streams: list[str],
    cards: Mapping[str, Card],
) -> str:
    known = {tag for card in cards.values() for tag in card.tags}
    wanted = {tag for tag in known if condition.matches_tag(tag)}
    subject = ", ".join((*alert.tags, *alert.categories))
    if not wanted:
        return f"tags: no tagger knows {subject!r}; known: {', '.join(sorted(known)):.300}"
    if alert.when in ("share_below", "tag_off"):
        return "share: expected more than 0, got 0" if alert.share == 0 else ""
    enabled = {tag for name in streams for tag in _enabled(config, name, cards)}
    if not wanted & enabled:
        return f"tags: expected one that can go on, got {subject!r}, which is off in these streams"
    return ""


def _enabled(config: Config, stream: str, cards: Mapping[str, Card]) -> Iterator[str]:
    """The tags of a stream that can go on."""
    for tagger, settings in config.settings(stream, cards).items():
        high, _ = settings.thresholds(cards[tagger])
        for tag, on in zip(cards[tagger].tags, high, strict=True):
            if on < 1:
                yield tag
