"""Publishes events without audio on request, and writes each message to a file.

    python controlled_publisher.py JOURNAL BIND REPLAY EMITTED

Each line on its standard input is a number of events to publish. It answers with the total so far.
At the end of the input it closes the feed.
"""

import random
import sys
import time
from pathlib import Path
from typing import TextIO

from streamtag.config.config import FeedConfig
from streamtag.daemon.output import open_feed
from streamtag.engine import events
from streamtag.feed.event_encoder import EventEncoder, TaggerInfo
from streamtag.feed.messages import dump
from streamtag.feed.publisher import Publisher

STREAMS, TAGS = 20, ("a", "b", "c")
TITLE = 2000
"""Characters of a title. It is so large that messages to a slow reader overflow the buffers."""


class ControlledPublisher:
    """Streams whose tags start and end at random."""

    def __init__(self, publisher: Publisher, wire: EventEncoder, log: TextIO) -> None:
        self.publisher, self._wire, self._log = publisher, wire, log
        wire.taggers["m"] = TaggerInfo(TAGS)
        self._on: dict[tuple[str, str], int] = {}
        self._rng, self._at, self.count = random.Random(0), 0, 0
        for i in range(STREAMS):
            self._publish(events.StreamOpened(f"s{i}", 0, 1000, 10**18, ("m",)))

    def emit(self, n: int) -> None:
        """Publishes `n` more events."""
        for _ in range(n):
            while len(self.publisher._queue) > 500:
                time.sleep(0.001)
            self._at += 10
            self._publish(self._next())
        self._log.flush()

    def _next(self) -> events.Event:
        stream, tag = f"s{self._rng.randrange(STREAMS)}", self._rng.choice(TAGS)
        if self._rng.random() < 0.5:
            return events.TitleChanged(stream, self._at, f"{self._at} ".ljust(TITLE, "x"))
        since = self._on.pop((stream, tag), None)
        if since is None:
            self._on[stream, tag] = self._at
            return events.TagStarted(stream, "m", tag, self._at, self._at, 0.5, False)
        why = events.Reason.BELOW_THRESHOLD
        return events.TagEnded(stream, "m", tag, self._at, self._at, since, 0.5, why)

    def _publish(self, event: events.Event) -> None:
        message = self._wire.message(event)
        self._log.write(dump(message).decode() + "\n")
        self.publisher.publish(message)
        self.count += 1


def main(journal: str, bind: str, replay: str, emitted: str) -> None:
    """Runs until the input ends."""
    config = FeedConfig(
        bind=bind,
        replay=replay,
        journal=journal,
        beat_seconds=0.2,
        high_water=200,
        plaintext_on_public_address=True,
    )
    publisher, wire = open_feed(config)
    with Path(emitted).open("w") as log:
        print("ready", flush=True)
        publisher.wait_for_subscriber(60)
        streams = ControlledPublisher(publisher, wire, log)
        for line in sys.stdin:
            streams.emit(int(line))
            print(streams.count, flush=True)
    publisher.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
