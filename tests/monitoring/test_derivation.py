"""Derived messages: numbered after their cause, journalled, and remembered over a restart."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.feeds import off, on, up

from streamtag.config.feed import FeedConfig
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput
from streamtag.engine.events import Event
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.event_encoder import TaggerInfo
from streamtag.feed.messages import Message, TagOff, TagOn, Title
from streamtag.feed.timestamps import rfc3339
from streamtag.monitoring.derivation import JournalPast


class TagCounter:
    """Says in a title of stream `count` how many tags went on."""

    types = frozenset({TagOn, TagOff, Title})
    horizon_seconds = 3600.0

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.past = JournalPast()
        self.due = 0

    def restore(self, past: JournalPast) -> None:
        self.past = JournalPast(past.in_force, list(past.messages))

    def observe(self, message: Message, now_ns: int) -> Sequence[Message]:
        self.seen.append(message)
        if not isinstance(message, TagOn):
            return []
        return [self._title(f"{sum(isinstance(m, TagOn) for m in self.seen)}", now_ns)]

    def tick(self, now_ns: int) -> Sequence[Message]:
        due, self.due = self.due, 0
        return [self._title("due", now_ns)] * due

    def close(self, now_ns: int) -> Sequence[Message]:
        return [self._title("closed", now_ns)]

    def _title(self, text: str, now_ns: int) -> Title:
        return Title(epoch="", seq=0, stream="count", t=0.0, utc=rfc3339(now_ns), title=text)


def opened(journal: Path, *observers: TagCounter) -> EventOutput:
    config = FeedConfig(bind=f"ipc://{journal}.feed", journal=str(journal))
    output = EventOutput(config, Monitor(), observers)
    output._encoder.taggers["toy"] = TaggerInfo(("low",))
    return output


def test_derived_messages_follow_their_cause_and_are_shown_too(tmp_path: Path) -> None:
    counter = TagCounter()
    output = opened(tmp_path / "j", counter)
    with Subscriber(output.publisher.address) as feed:
        assert output.publisher.wait_for_subscriber(30)
        events: list[Event] = [up(), on("low"), off("low"), on("low")]
        output.publish(events)
        counter.due = 1
        output.tick()
        expected = ["stream_up", "tag_on", "1", "tag_off", "tag_on", "2", "due"]
        got = [feed.receive(30) for _ in expected]
    assert [m.title if isinstance(m, Title) else m.type for m in got] == expected  # type: ignore[union-attr]
    titles = [m for m in got if isinstance(m, Title)]
    assert [(m.topic, m.seq) for m in titles] == [("event/count/", i + 1) for i in range(3)]
    assert counter.seen == got[1:]
    output.close(0)


def test_a_restart_gives_the_past_back(tmp_path: Path) -> None:
    output = opened(tmp_path / "j", TagCounter())
    output.publish([up(), on("low")])
    output.publisher.close()  # as a crash: nothing ends
    second = TagCounter()
    output = opened(tmp_path / "j", second)
    assert [m.type for m in second.past.in_force] == ["stream_up", "tag_on", "title"]
    assert [m.type for m, _ in second.past.messages] == ["stream_up", "tag_on", "title"]
    assert [m.type for m in second.seen] == ["tag_off"]  # what recovery ends is shown
    output.publisher.close()
    third = TagCounter()
    third.horizon_seconds = 0
    output = opened(tmp_path / "j", third)
    assert list(third.past.messages) == []
    output.publish([up(), on("low")])
    assert [m.seq for m in third.seen if isinstance(m, Title)] == [3]  # after its stream_down
    output.close(0)


def test_an_observer_that_fails_does_not_end_the_feed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, fine = TagCounter(), TagCounter()
    broken.seen = None  # type: ignore[assignment]
    output = opened(tmp_path / "j", broken, fine)
    output.publish([up(), on("low"), off("low")])
    assert [m.type for m in fine.seen] == ["tag_on", "title", "tag_off"]
    assert "TagCounter failed" in caplog.text
    output.close(0)
