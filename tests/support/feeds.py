"""Publishes events on a feed without a daemon."""

from streamtag.config.config import FeedConfig
from streamtag.daemon.output import open_feed
from streamtag.engine import events
from streamtag.feed.event_encoder import TaggerInfo
from streamtag.history.history import History
from streamtag.history.query import TopicEvents
from streamtag.history.scan import RangeScan

REASON = events.Reason


def on(tag: str, at: int = 1, stream: str = "room") -> events.TagStarted:
    return events.TagStarted(stream, "toy", tag, at, at + 1, 0.5, False)


def off(tag: str, reason: REASON = REASON.BELOW_THRESHOLD, stream: str = "room") -> events.TagEnded:
    return events.TagEnded(stream, "toy", tag, 5, 6, 1, 0.5, reason)


def up(stream: str = "room") -> events.StreamOpened:
    return events.StreamOpened(stream, 0, 1000, 10**18, ("toy",))


class Feed:
    """The feed of a daemon: encodes events and publishes the messages."""

    def __init__(self, config: FeedConfig) -> None:
        self.publisher, self.wire = open_feed(config)
        self.wire.taggers["toy"] = TaggerInfo(("low", "high", "never"))

    def publish(self, *some: events.Event) -> None:
        for event in some:
            self.publisher.publish(self.wire.message(event))

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.close()


def topic_events(history: History, topic: str) -> TopicEvents:
    """Everything that a journal has of a topic, read row by row: the truth for scans of a range."""
    query = "SELECT id, first FROM topic WHERE name=?"
    found = history._db.execute(query, (topic,)).fetchone()
    if found is None:
        return TopicEvents(1, [])
    rows = RangeScan(history._db, history._decompressor, 0, 0).rows(found[0], 0)
    return TopicEvents(found[1], list(rows))
