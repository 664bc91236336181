"""Journal, wire and publisher, put together as the configuration says."""

import time
from pathlib import Path

from streamtag.config.feed import FeedConfig
from streamtag.feed.authentication import CurveKeys
from streamtag.feed.event_encoder import EventEncoder, SequenceNumbers
from streamtag.feed.journal.journal import Journal
from streamtag.feed.journal.recovery import recover
from streamtag.feed.journal.retention import Retention
from streamtag.feed.keys import read_pair
from streamtag.feed.publisher import Publisher

SCORES = ("scores/", "mood/")
"""How the topics begin that are kept only if somebody says so."""


def open_feed(config: FeedConfig) -> tuple[Publisher, EventEncoder]:
    """A feed that listens, whose numbers go on where its journal ends.

    What a crash left open is closed and published first.

    Raises:
        FeedError: the address, the keys or the journal cannot be used.
    """
    start_ns = time.time_ns()
    curve = None
    if config.secret_key:
        curve = CurveKeys(read_pair(Path(config.secret_key)), Path(config.authorised_keys))
    retention = Retention(config.journal_days * 86400, int(config.journal_megabytes * 1e6))
    path = Path(config.journal) if config.journal else None
    journal = Journal(path, retention, now_ns=start_ns, durable=config.journal_durable)
    keeps = ("event/", *(SCORES if config.journal_scores else ()))
    try:
        endings, last = recover(journal)
        kept = {topic: n for topic, n in last.items() if topic.startswith(keeps)}
        numbering = SequenceNumbers(journal.epoch, kept, keeps, journal.epochs())
        publisher = Publisher(
            config.bind,
            high_water=config.high_water,
            journal=journal,
            kept=keeps,
            replay=config.replay,
            beat_seconds=config.beat_seconds,
            run_epoch=f"{journal.run_ns:016x}",
            curve=curve,
            encoding=config.encoding,
        )
    except BaseException:
        journal.close()
        raise
    for message in endings:
        publisher.publish(message)
    return publisher, EventEncoder({}, journal.run_ns, numbering)
