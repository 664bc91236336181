"""The steps between the engine and the publisher: shadow filter, monitor, mood, selection."""

from collections.abc import Iterator
from typing import Any

import pytest
from support.toy import card

from streamtag.config.feed import FeedConfig
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput, MoodStep, ShadowFilter
from streamtag.engine.counters import dotted
from streamtag.engine.events import (
    Event,
    MoodUpdated,
    Reason,
    StreamClosed,
    StreamOpened,
    TagStarted,
    WindowScored,
)
from streamtag.engine.shadow import ShadowComparison, shadow_name
from streamtag.feed.event_encoder import EventEncoder
from streamtag.model.card import Card

RATE = 8000


def happy() -> Card:
    """A card whose tags say something of moods."""
    return card(tags=("happy", "sad"), on_thresholds=(0.5, 0.5), off_thresholds=(0.4, 0.4))


def opened() -> StreamOpened:
    return StreamOpened("a", 0, RATE, 0, ("toy",))


def scored(second: int, tagger: str = "toy", first: float = 0.9) -> WindowScored:
    end = (second + 1) * RATE
    return WindowScored("a", tagger, end - RATE, end, (first, 0.1), (first, 0.1), False)


def test_events_of_shadows_are_compared_and_not_published() -> None:
    shadows, shadow = ShadowFilter(), shadow_name("toy")
    shadows.comparisons["toy"] = ShadowComparison(happy(), happy())
    events: list[Event] = [opened()]
    for k in range(4):
        events += [scored(k), TagStarted("a", shadow, "happy", k, k, 0.9, False)]
        events += [scored(k, shadow, 0.7)]
    visible = shadows.filter(events)
    assert visible == [event for event in events if getattr(event, "tagger", "") != shadow]
    counters = dotted(shadows.series())
    assert counters["toy.shadow_windows"] >= 2
    assert counters["toy.shadow_difference.happy"] == pytest.approx(0.2)


def test_without_a_shadow_every_event_is_published() -> None:
    events: list[Event] = [opened(), scored(0), StreamClosed("a", RATE, Reason.SHUTDOWN)]
    shadows = ShadowFilter()
    assert shadows.filter(events) == events
    assert shadows.series() == {}


def test_a_mood_follows_the_scores_of_a_tagger_with_moods() -> None:
    moods = MoodStep()
    moods.set_tagger("toy", happy())
    events: list[Event] = [opened(), scored(0), scored(0, "other")]
    first, *rest = moods.add(events)
    assert first == events[0]
    assert [type(event) for event in rest] == [WindowScored, MoodUpdated, WindowScored]
    moods.remove_tagger("toy")
    assert moods.add([scored(1)]) == [scored(1)]


NOWHERE = "ipc:///nowhere"
"""The address of a feed that needs no process for public sockets."""


class Published:
    """A publisher that keeps the messages."""

    def __init__(self) -> None:
        self.types: list[str] = []

    def publish(self, *messages: Any) -> None:
        self.types += [message.type for message in messages]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    made = Published()
    monkeypatch.setattr(
        "streamtag.daemon.output.open_feed", lambda *_, **__: (made, EventEncoder({}))
    )
    return made


@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("mood", [True, False])
def test_scores_and_moods_are_published_as_configured(
    published: Published, scores: bool, mood: bool
) -> None:
    monitor = Monitor()
    output = EventOutput(FeedConfig(bind=NOWHERE, scores=scores, mood=mood), monitor)
    output.set_tagger("toy", happy(), "0" * 64)
    output.publish([opened(), scored(0)])
    wanted = ["stream_up", *["scores"] * scores, *["mood"] * mood]
    assert published.types == wanted
    assert monitor.events["scores", ""] == 1  # metrics count what happened, not what is published


def test_a_message_that_has_its_number_is_sent_though_a_later_one_fails(
    published: Published,
) -> None:
    output = EventOutput(FeedConfig(bind=NOWHERE), Monitor())
    output.set_tagger("toy", happy(), "0" * 64)
    unknown = TagStarted("b", "toy", "happy", 0, 0, 0.9, False)
    with pytest.raises(Exception, match="b"):
        output.publish([opened(), unknown, scored(0)])
    assert published.types == ["stream_up"]
