"""The examples of docs/alerts.md: every rule of the recipes is raised by what it is for."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from monitoring.test_alerts import Feed, at, down, head, off, on, status, up
from support.paths import ROOT

from streamtag.config.alerts import AlertConfig
from streamtag.config.config import load_config
from streamtag.daemon.check import complaints_about
from streamtag.feed.messages import (
    AlertRaised,
    Channels,
    Clipping,
    Gap,
    Message,
    SilenceOn,
    Stats,
    Title,
)

PAGE = (ROOT / "docs" / "alerts.md").read_text()


def recipe(heading: str) -> str:
    """The configuration below a heading."""
    return PAGE.partition(f"## {heading}\n")[2].partition("```toml\n")[2].partition("```")[0]


RADIO, VENUE = recipe("A radio monitor"), recipe("A venue")


def causes(name: str, stream: str) -> list[Message]:
    """What a rule is for, in the first hours of a stream."""
    h = lambda seconds: head(seconds, stream)  # noqa: E731
    begin = up(0, stream)
    match name:
        case "off-air":
            return [begin, status(10, "retrying", stream), down(10, stream=stream)]
        case "dead-air":
            return [begin, SilenceOn(**h(10), decided=13)]
        case "one-sided" | "one-speaker":
            return [begin, Channels(**h(10), balance="left_silent", decided=20)]
        case "talks-too-long":
            return [begin, on(10, "speech", stream)]
        case "little-music":
            return [begin, on(10, "music", stream), off(600, "music", stream)]
        case "title-stuck" | "no-music":
            return [begin]
        case "unstable":
            return [begin, *[Gap(**h(60 * i), end=60 * i + 1) for i in range(1, 11)]]
        case "too-loud":
            return [begin, *[Clipping(**h(60 + i), samples=500) for i in (1, 2)]]
        case "too-aggressive":
            return [begin, on(60, "aggressive", stream)]
    return [Stats(**head(i * 10, ""), counters={"feed.unkept": i}) for i in range(20)]


def rules(text: str) -> list[Any]:
    tables = tomllib.loads(text)["alert"]
    return [pytest.param(AlertConfig.model_validate(one), id=one["name"]) for one in tables]


@pytest.mark.parametrize("rule", [*rules(RADIO), *rules(VENUE)])
def test_every_rule_of_the_recipes_is_raised_by_its_cause(rule: AlertConfig) -> None:
    feed = Feed(rule)
    for message in causes(rule.name, "pop1"):
        feed.send(message)
    for minute in range(150):
        feed.tick(60 * minute)
    (raised,) = [m for m in feed.journal if isinstance(m, AlertRaised)]
    assert raised.streams == (() if rule.when == "health" else ("pop1",))


@pytest.mark.parametrize("rule", [*rules(RADIO), *rules(VENUE)])
def test_no_rule_of_the_recipes_is_raised_by_a_good_hour(rule: AlertConfig) -> None:
    feed = Feed(rule)
    feed.send(up(0, "pop1"), on(5, "music", "pop1"))
    for minute in range(120):
        if not minute % 4:
            feed.send(Title(**head(60 * minute, "pop1"), title=f"Song {minute}"))
        feed.send(Stats(**head(60 * minute, ""), counters={"feed.unkept": 0}))
        feed.tick(60 * minute)
    assert feed.made == []


@pytest.mark.parametrize("text", [RADIO, VENUE], ids=["radio", "venue"])
def test_the_recipes_are_complete(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pager.url", "mail.url"):
        (tmp_path / name).write_text("json://localhost/")
    monkeypatch.setenv("MANAGER_URL", "json://localhost/")
    path = tmp_path / "my.toml"
    path.write_text(text)
    assert complaints_about(path) == []
    assert load_config(path).alert


def test_quiet_hours_of_the_venue() -> None:
    rule = next(one.values[0] for one in rules(VENUE) if one.id == "no-music")
    assert rule.quiet_until(at(-4 * 3600)) == at(-3 * 3600)  # 9:00 there, until 10:00
    assert rule.quiet_until(at(0)) == 0
