"""Rules over a feed: each condition, grouping, cooldown, quiet hours, and restarts."""

from collections.abc import Sequence
from typing import Any

import pytest

from streamtag.config.alerts import AlertConfig
from streamtag.feed.current_state import CurrentState
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.messages import (
    AlertCleared,
    AlertRaised,
    Channels,
    Clipping,
    Gap,
    Message,
    SilenceOff,
    SilenceOn,
    Stats,
    StreamDown,
    StreamStatus,
    StreamUp,
    TagOff,
    TagOn,
    Title,
    dump,
    parse,
)
from streamtag.feed.timestamps import ns_of, rfc3339
from streamtag.monitoring.alerts import AlertEngine
from streamtag.monitoring.derivation import Derivation, JournalPast

START = ns_of("2026-03-02T12:00:00.000000Z")
S = 1_000_000_000


def at(seconds: float) -> int:
    return START + round(seconds * S)


def head(seconds: float, stream: str = "a") -> dict[str, Any]:
    return {"epoch": "0", "seq": 1, "stream": stream, "t": seconds, "utc": rfc3339(at(seconds))}


def up(seconds: float = 0, stream: str = "a") -> Message:
    return StreamUp(**head(seconds, stream), rate=8000, taggers=("toy",))


def down(
    seconds: float, reason: str = "stream_lost", stream: str = "a", detail: str = ""
) -> Message:
    return StreamDown(**head(seconds, stream), reason=reason, detail=detail)


def status(seconds: float, state: str, stream: str = "a") -> Message:
    return StreamStatus(
        **head(seconds, stream), state=state, cause="timeout", detail="", retry_seconds=0
    )


def on(seconds: float, tag: str = "speech", stream: str = "a", late: float = 0) -> Message:
    return TagOn(
        **head(seconds, stream),
        tagger="toy",
        tag=tag,
        decided=seconds + late,
        probability=0.9,
        provisional=False,
    )


def off(seconds: float, tag: str = "speech", stream: str = "a", why: str = "silence") -> Message:
    return TagOff(
        **head(seconds, stream),
        tagger="toy",
        tag=tag,
        decided=seconds,
        since=0.0,
        since_utc=rfc3339(START),
        peak=0.9,
        reason=why,
    )


def title(seconds: float, text: str) -> Message:
    return Title(**head(seconds), title=text)


def rule(when: str, **keys: Any) -> AlertConfig:
    return AlertConfig.model_validate({"name": "r", "when": when, "group_seconds": 0} | keys)


class Feed:
    """Rules in an engine, with what they have published."""

    def __init__(self, *rules: AlertConfig, streams: Sequence[str] | None = None) -> None:
        self.rules, self.streams = rules, streams
        self.journal: list[Message] = []
        self.start()

    def start(self) -> None:
        """Another life, with the journal of the last ones."""
        self.engine = AlertEngine(self.rules, ("mail",), {"speech": "kind"}, self.streams)
        state = CurrentState()
        state.update_all(self.journal, map(dump, self.journal))
        in_force = sorted((parse(row.body) for row in state), key=lambda message: message.utc)
        newest = max((ns_of(message.utc) for message in self.journal), default=0)
        since = rfc3339(newest - round(self.engine.horizon_seconds * S)) if newest else ""
        past = [(m, 0) for m in self.journal if self.engine.horizon_seconds and m.utc >= since]
        self.engine.restore(JournalPast(in_force, past))
        numbers = iter(range(10**9))
        encoder = EventEncoder({}, START)
        self.derivation = Derivation([self.engine], encoder.number)
        next(numbers)

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.journal += self.derivation.extend([message], 0)

    def tick(self, seconds: float) -> None:
        self.journal += self.derivation.tick(at(seconds))

    @property
    def made(self) -> list[tuple[str, float, tuple[str, ...]]]:
        """The alerts: raised (+) or cleared (-), when, and the streams."""
        return [
            ("+" if isinstance(m, AlertRaised) else "-", (ns_of(m.utc) - START) / S, m.streams)
            for m in self.journal
            if isinstance(m, AlertRaised | AlertCleared)
        ]


A = ("a",)


def test_a_tag_that_is_on_for_long() -> None:
    feed = Feed(rule("tag_on", tags=["spee*"], for_seconds=300))
    feed.send(up(), on(10), off(200), on(250))
    feed.tick(549)
    assert feed.made == []
    feed.tick(551)
    assert feed.made == [("+", 550, A)]
    feed.send(off(600))
    feed.tick(600.5)
    assert len(feed.made) == 1
    feed.tick(602)
    assert feed.made == [("+", 550, A), ("-", 601, A)]
    raised = next(m for m in feed.journal if isinstance(m, AlertRaised))
    assert raised.since_utc == rfc3339(at(250))
    assert raised.detail == "a: speech for 5 min"
    assert (raised.stream, raised.t, raised.topic) == ("a", 550.0, "alert/r/")


def test_messages_alone_advance_a_stream_that_is_faster_than_the_clock() -> None:
    feed = Feed(rule("tag_on", categories=["kind"], for_seconds=300))
    feed.send(up(), on(10), off(400))
    assert feed.made == [("+", 310, A)]
    feed.send(on(500, "music"))
    assert feed.made == [("+", 310, A), ("-", 401, A)]


def test_a_tag_that_is_off_for_long() -> None:
    feed = Feed(rule("tag_off", tags=["music"], for_seconds=600))
    feed.send(up(), on(5, "music"), off(100, "music"), on(150, "speech"))
    feed.tick(699)
    assert feed.made == []
    feed.tick(701)
    feed.send(on(800, "music"), off(810, "speech"))
    assert feed.made == [("+", 700, A), ("-", 801, A)]


def test_silence_and_one_sided_channels() -> None:
    silence = rule("silence", for_seconds=30, name="s")
    sided = rule("one_sided", for_seconds=60, name="o")
    feed = Feed(silence, sided)
    quiet = SilenceOn(**head(10), decided=13)
    sound = SilenceOff(**head(50), decided=51, since=10, since_utc=rfc3339(at(10)))
    feed.send(up(), quiet, sound, Channels(**head(60), balance="left_silent", decided=70))
    feed.send(Channels(**head(200), balance="stereo", decided=205))
    feed.tick(207)
    assert feed.made == [("+", 40, A), ("-", 52, A), ("+", 120, A), ("-", 206, A)]


def test_clipping_and_gaps_in_a_sliding_time() -> None:
    clipping = rule("clipping", at_least=100, within_seconds=60, name="c")
    gaps = rule("gaps", at_least=3, within_seconds=3600, name="g")
    feed = Feed(clipping, gaps)
    feed.send(up(), Clipping(**head(10), samples=60), Clipping(**head(65), samples=60))
    feed.send(*[Gap(**head(s), end=s + 1) for s in (100, 200, 3000)])
    feed.tick(3699)
    assert feed.made == [("+", 65, A), ("-", 71, A), ("+", 3000, A)]
    feed.tick(3702)
    assert feed.made[-1] == ("-", 3701, A)


def test_a_lost_stream() -> None:
    feed = Feed(rule("stream_lost", for_seconds=60))
    feed.send(status(0, "connecting"), up(1), status(100, "stalled"), status(110, "up"))
    feed.send(status(200, "retrying"), down(200), status(220, "connecting"))
    feed.send(status(230, "retrying"), status(245, "connecting"))
    feed.tick(261)
    feed.send(status(290, "connecting"), up(300))
    feed.tick(302)
    assert feed.made == [("+", 260, A), ("-", 301, A)]


def test_titles() -> None:
    news = rule("title", title="^news|advert", name="t", clear_seconds=5)
    none = rule("no_title", for_seconds=3600, name="n")
    feed = Feed(news, none)
    feed.send(up(), title(10, "Song"), title(20, "NEWS at ten"), title(80, "Song"))
    feed.tick(86)
    assert feed.made == [("+", 20, A), ("-", 85, A)]
    feed.send(title(3000, "Song"))  # the same again is not new
    feed.tick(3681)
    feed.send(title(4000, "Another"))
    feed.tick(4002)
    assert feed.made[2:] == [("+", 3680, A), ("-", 4001, A)]


def test_a_share_of_a_sliding_hour() -> None:
    feed = Feed(rule("share_below", tags=["music"], share=0.4))
    feed.send(up(), on(0, "music"))
    for minute in range(1, 30):
        feed.tick(minute * 60)
    feed.send(off(1800, "music"))
    for minute in range(30, 100):
        feed.tick(minute * 60)
    (made,) = feed.made
    # Of the hour before the moment x, (1800 - (x - 3600)) s are music: 40 % at x = 3960.
    assert made[0] == "+"
    assert 3960 <= made[1] <= 3960 + 60
    feed.send(on(6000, "music"))
    for minute in range(100, 140):
        feed.tick(minute * 60)
    assert feed.made[1][0] == "-"
    assert 6000 + 0.4 * 3600 <= feed.made[1][1] <= 6000 + 0.4 * 3600 + 61


def test_a_share_goes_on_after_a_restart() -> None:
    feed = Feed(rule("share_below", tags=["music"], share=0.4))
    feed.send(up(), on(0, "music"), off(1800, "music"), on(1900))
    feed.start()
    for minute in range(32, 100):
        feed.tick(minute * 60)
    (made,) = feed.made
    assert 3960 <= made[1] <= 3960 + 60


def test_the_health_of_the_daemon() -> None:
    feed = Feed(rule("health"))
    for second, counters in enumerate(
        [
            {"feed.unkept": 0, "bridges.mqtt.running": 1},
            {"feed.unkept": 3, "bridges.mqtt.running": 0},
            {"feed.unkept": 3, "bridges.mqtt.running": 0},
            {"feed.unkept": 3, "bridges.mqtt.running": 1},
        ]
    ):
        feed.send(Stats(**head(second * 10, ""), counters=counters))
    feed.tick(33)
    assert feed.made == [("+", 10, ()), ("-", 31, ())]
    raised = next(m for m in feed.journal if isinstance(m, AlertRaised))
    assert raised.detail == "messages are not written to the journal"


def test_forty_streams_lost_at_once_are_one_alert() -> None:
    names = [f"s{i:02}" for i in range(40)]
    feed = Feed(rule("stream_lost", for_seconds=60, group_seconds=10))
    for i, name in enumerate(names):
        feed.send(up(0, name), status(100 + i / 10, "retrying", name))
    feed.tick(169)
    assert feed.made == []
    feed.tick(170.1)
    assert feed.made == [("+", 170, tuple(names))]
    raised = next(m for m in feed.journal if isinstance(m, AlertRaised))
    assert raised.detail.startswith("40 streams (s00, s01, ")
    assert raised.detail.endswith("s19 and 20 more): retrying (timeout) for 1 min")
    feed.send(*[up(300 + i / 10, name) for i, name in enumerate(names[:30])])
    feed.tick(320)
    feed.send(*[up(400, name) for name in names[30:]])
    feed.tick(420)
    cleared = [m for m in feed.journal if isinstance(m, AlertCleared)]
    assert [(m.streams, m.remaining) for m in cleared] == [
        (tuple(names[:30]), tuple(names[30:])),
        (tuple(names[30:]), ()),
    ]


def test_cooldown_delays_the_next_alert() -> None:
    feed = Feed(rule("tag_on", tags=["speech"], for_seconds=10, cooldown_seconds=600))
    feed.send(up(), on(10), off(30), on(100), off(200), on(300))
    feed.tick(619)
    assert feed.made == [("+", 20, A), ("-", 31, A)]
    feed.tick(621)
    assert feed.made[2:] == [("+", 620, A)]


def test_quiet_hours_have_a_zone() -> None:
    quiet = rule("silence", quiet=["22:00-06:30", "sat,sun 00:00-24:00"], zone="Europe/Berlin")

    def until(utc: str) -> str:
        end = quiet.quiet_until(ns_of(f"{utc}:00.000000Z"))
        return rfc3339(end)[:16] if end else ""

    assert until("2026-03-02T20:59") == ""  # Monday, 21:59 there
    assert until("2026-03-02T21:00") == "2026-03-03T05:30"
    assert until("2026-03-03T05:29") == "2026-03-03T05:30"
    assert until("2026-03-03T05:30") == ""
    assert until("2026-03-06T22:00") == "2026-03-09T05:30"  # Friday night to Monday morning
    assert until("2026-03-28T12:00") == "2026-03-30T04:30"  # summer time begins in between


def test_a_stream_that_is_removed_ends_its_alert() -> None:
    feed = Feed(rule("silence", for_seconds=5))
    feed.send(up(), SilenceOn(**head(10), decided=11))
    feed.tick(16)
    feed.send(down(20, "stream_closed", detail="removed"))
    feed.tick(21)
    assert [kind for kind, *_ in feed.made] == ["+", "-"]
    assert isinstance(cleared := feed.journal[-1], AlertCleared)
    assert cleared.why == "removed"


ENDINGS = [off(400, why="recovered"), down(400, "recovered")]


def test_a_restart_neither_doubles_nor_loses_an_alert() -> None:
    feed = Feed(rule("tag_on", tags=["speech"], for_seconds=300), streams=["a"])
    feed.send(up(), on(10))
    feed.start()  # before it is due: a crash, whose recovery ends the tag at 400 s
    feed.send(*ENDINGS)
    feed.tick(500)
    assert feed.made == [("+", 310, A)]
    feed.start()
    feed.tick(510)
    feed.send(up(520), on(525))
    feed.tick(560)
    assert len(feed.made) == 1
    feed.send(off(600))
    feed.tick(602)
    assert feed.made == [("+", 310, A), ("-", 601, A)]
    feed.start()
    feed.tick(700)
    assert len(feed.made) == 2


def test_what_ended_while_the_daemon_was_down_is_cleared_once() -> None:
    feed = Feed(rule("tag_on", tags=["speech"], for_seconds=300), streams=["a"])
    feed.send(up(), on(10))
    feed.tick(311)
    feed.send(off(400, why="shutdown"), down(400, "shutdown"))
    feed.tick(420)
    for _ in range(2):
        feed.start()
        feed.tick(1000)
    feed.send(up(1001), on(1002, "music"))
    feed.tick(1030)
    assert feed.made == [("+", 310, A)]  # the models have not heard enough yet
    feed.tick(1035)
    feed.start()
    feed.tick(1040)
    assert [kind for kind, *_ in feed.made] == ["+", "-"]


def test_a_lost_stream_stays_lost_over_a_restart() -> None:
    feed = Feed(rule("stream_lost", for_seconds=60), streams=["a"])
    feed.send(up(), status(100, "retrying"), down(100))
    feed.send(down(130, "shutdown"))
    feed.start()
    feed.send(status(140, "connecting"))
    feed.tick(161)
    assert feed.made == [("+", 160, A)]
    feed.start()
    feed.send(status(200, "connecting"), status(210, "retrying"))
    feed.tick(220)
    feed.send(up(230))
    feed.tick(240)
    assert feed.made == [("+", 160, A), ("-", 231, A)]


def test_what_is_partly_over_is_cleared_once_after_a_restart() -> None:
    names = ("a", "b", "c")
    feed = Feed(rule("stream_lost", group_seconds=5), streams=names)
    for name in names:
        feed.send(up(0, name), status(10, "retrying", name))
    feed.tick(20)
    for i, name in enumerate(names[:2]):
        feed.send(up(100 + 20 * i, name))
        feed.tick(110 + 20 * i)
    feed.start()
    feed.send(*[down(200, "recovered", name) for name in names])
    feed.send(*[up(210, name) for name in names])
    feed.tick(230)
    cleared = [m.streams for m in feed.journal if isinstance(m, AlertCleared)]
    assert cleared == [("a",), ("b",), ("c",)]


def test_what_waits_for_others_is_raised_after_a_crash() -> None:
    feed = Feed(rule("tag_on", tags=["speech"], for_seconds=10, group_seconds=30))
    feed.send(up(), on(10))
    feed.tick(21)  # decided, waits until 50 s
    feed.start()
    feed.send(off(25, why="recovered"), down(25, "recovered"), up(26))
    feed.tick(60)
    assert [kind for kind, *_ in feed.made] == ["+"]


@pytest.mark.parametrize("change", ["rule", "stream"])
def test_a_rule_or_stream_that_is_gone_after_a_restart_ends_its_alert(change: str) -> None:
    feed = Feed(rule("silence", for_seconds=5), streams=["a"])
    feed.send(up(), SilenceOn(**head(10), decided=11))
    feed.tick(16)
    feed.rules = (rule("silence", name="other"),) if change == "rule" else feed.rules
    feed.streams = ["b"] if change == "stream" else ["a"]
    feed.send(down(50, "shutdown"))
    for _ in range(2):
        feed.start()
        feed.tick(100)
    assert [kind for kind, *_ in feed.made] == ["+", "-"]


def test_a_change_of_the_rules_keeps_those_that_are_as_before() -> None:
    kept, changed = rule("silence", name="kept"), rule("silence", name="changed")
    feed = Feed(kept, changed)
    feed.send(up(), SilenceOn(**head(10), decided=11))
    feed.tick(12)
    assert len(feed.made) == 2
    new = rule("silence", name="changed", for_seconds=60)
    feed.engine.configure([kept, new], ("mail",), {}, ["a"])
    feed.tick(20)
    assert [m.alert for m in feed.journal if isinstance(m, AlertCleared)] == ["changed"]
    feed.tick(71)
    raised = [m.alert for m in feed.journal if isinstance(m, AlertRaised)]
    assert sorted(raised) == ["changed", "changed", "kept"]


def test_acknowledgement() -> None:
    feed = Feed(rule("silence"))
    feed.send(up(), SilenceOn(**head(10), decided=11))
    feed.tick(12)
    assert feed.engine.acknowledge(at(20), "other", None, "ann", "") == []
    (made,) = feed.engine.acknowledge(at(20), "r", "a", "ann", "on it")
    assert str(made).endswith("r: seen by ann: on it")
    assert [one.acknowledged_by for one in feed.engine.raised] == ["ann"]
