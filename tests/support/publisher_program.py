"""Publishes random events of many streams, with a journal but without audio, until it is killed.
The journal is the record of what was published.

    python publisher_program.py JOURNAL BIND REPLAY SEED
"""

import random
import sys
import time

from streamtag.config.config import FeedConfig
from streamtag.daemon.output import open_feed
from streamtag.engine import events
from streamtag.feed.event_encoder import TaggerInfo

STREAMS, TAGS = 20, ("a", "b", "c")


def main(journal: str, bind: str, replay: str, seed: int) -> None:
    """Publishes until the process is killed."""
    config = FeedConfig(bind=bind, replay=replay, journal=journal, beat_seconds=0.2)
    publisher, wire = open_feed(config)
    wire.taggers["m"] = TaggerInfo(TAGS)
    rng = random.Random(seed)
    on: dict[tuple[str, str], int] = {}
    print("ready", flush=True)
    if not seed:  # so that the first subscriber receives everything
        publisher.wait_for_subscriber(60)
    for i in range(STREAMS):
        publisher.publish(wire.message(events.StreamOpened(f"s{i}", 0, 1000, 10**18, ("m",))))
    at = 0
    while True:
        at += 10
        stream, tag = f"s{rng.randrange(STREAMS)}", rng.choice(TAGS)
        since = on.pop((stream, tag), None)
        if since is None:
            on[stream, tag] = at
            event: events.Event = events.TagStarted(stream, "m", tag, at, at, 0.5, False)
        else:
            why = events.Reason.BELOW_THRESHOLD
            event = events.TagEnded(stream, "m", tag, at, at, since, 0.5, why)
        publisher.publish(wire.message(event))
        time.sleep(rng.expovariate(2000))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
