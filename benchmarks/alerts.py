"""What alerts cost: the CPU time of rules over a feed, as a share of one core.

    python benchmarks/alerts.py [--streams 500] [--seconds 300] [--json FILE]

Every stream has 20 rules, two of each condition (one of `health`). Its messages are those of a
station: some tags go on and off each minute, a title comes every four minutes, sometimes it falls
silent, has a gap, clips or is lost for a while. Scores pass by at one a second. The messages are
made beforehand. What is timed is the step between encoder and publisher (`Derivation`), with a tick
each tenth of a second of the feed, with rules and without.

- alerts/share_of_core: CPU seconds per second of the feed, with rules less without.
- alerts/messages_per_second: of the feed, without scores.
"""

import random
import time
from collections.abc import Iterator
from typing import Any

from rows import Row, parser, write

from streamtag.config.alerts import AlertConfig
from streamtag.feed.messages import (
    Channels,
    Clipping,
    Gap,
    Message,
    Scores,
    SilenceOff,
    SilenceOn,
    StreamStatus,
    StreamUp,
    TagOff,
    TagOn,
    Title,
)
from streamtag.feed.timestamps import rfc3339
from streamtag.monitoring.alerts import AlertEngine
from streamtag.monitoring.derivation import Derivation

START, SECOND = 1_790_000_000_000_000_000, 1_000_000_000
TAGS = ("speech", "music", "piano", "drums", "guitar", "happy", "calm", "rock", "pop", "strings")
TAG_EVENTS_PER_SECOND = 0.6
"""Of one stream: what the demo piece has with the default model."""
CONDITIONS: list[dict[str, Any]] = [
    {"when": "tag_on", "tags": ["speech"], "for_seconds": 300},
    {"when": "tag_on", "tags": ["drums", "guitar"], "for_seconds": 60},
    {"when": "tag_off", "tags": ["music"], "for_seconds": 600},
    {"when": "tag_off", "tags": ["speech", "music"], "for_seconds": 120},
    {"when": "silence", "for_seconds": 10},
    {"when": "silence", "for_seconds": 60},
    {"when": "one_sided", "for_seconds": 60},
    {"when": "one_sided", "for_seconds": 300, "balances": ["mono"]},
    {"when": "clipping", "at_least": 100, "within_seconds": 60},
    {"when": "clipping", "at_least": 10_000},
    {"when": "stream_lost", "for_seconds": 30},
    {"when": "stream_lost", "for_seconds": 300, "states": ["failed"]},
    {"when": "gaps", "at_least": 3},
    {"when": "gaps", "at_least": 10},
    {"when": "no_title", "for_seconds": 3600},
    {"when": "title", "title": "news|advert"},
    {"when": "title", "title": "^song 9"},
    {"when": "share_below", "tags": ["music"], "share": 0.4},
    {"when": "share_above", "tags": ["speech"], "share": 0.6, "within_seconds": 900},
    {"when": "health"},
]


def station(name: str, seconds: int, rng: random.Random) -> Iterator[tuple[float, Message]]:
    """The messages of a stream with their moments, in seconds."""
    on: set[str] = set()
    yield 0.0, StreamUp(**head(name, 0.0), rate=44_100, taggers=("t",))
    moment = 0.0
    while (moment := moment + rng.expovariate(TAG_EVENTS_PER_SECOND * 1.05)) < seconds:
        if rng.random() < 0.05:
            yield from ((moment, one) for one in _rare(name, moment, rng))
            continue
        tag = rng.choice(TAGS)
        common = head(name, moment) | {"tagger": "t", "tag": tag, "decided": moment}
        if tag in on:
            on.remove(tag)
            ended = {"since": 0.0, "since_utc": "", "peak": 0.9, "reason": "below_threshold"}
            yield moment, TagOff(**common, **ended)
        else:
            on.add(tag)
            yield moment, TagOn(**common, probability=0.8, provisional=False)


def _rare(name: str, moment: float, rng: random.Random) -> list[Message]:
    at = head(name, moment)
    status = {"cause": "timeout", "detail": "", "retry_seconds": 1.0}
    kinds: list[list[Message]] = [
        [Title(**at, title=f"song {rng.randrange(99)}")],
        [SilenceOn(**at, decided=moment)],
        [SilenceOff(**at, decided=moment, since=0.0, since_utc="")],
        [Gap(**at, end=moment + 1)],
        [Clipping(**at, samples=50)],
        [Channels(**at, balance=rng.choice(["stereo", "left_silent"]), decided=moment)],
        [StreamStatus(**at, state=state, **status) for state in ("retrying", "up")],
    ]
    return rng.choice(kinds)


def head(name: str, moment: float) -> dict[str, Any]:
    utc = rfc3339(START + round(moment * SECOND))
    return {"epoch": "0", "seq": 1, "stream": name, "t": moment, "utc": utc}


def rounds(streams: int, seconds: int) -> list[list[Message]]:
    """The messages of each tenth of a second."""
    rng = random.Random(0)
    tenths: list[list[Message]] = [[] for _ in range(seconds * 10)]
    for i in range(streams):
        for moment, message in station(f"s{i}", seconds, rng):
            tenths[int(moment * 10)].append(message)
    scores = Scores(
        **head("s0", 0.0), tagger="t", start=0.0, provisional=False, tags=(), values=(), smoothed=()
    )
    for tenth in tenths:
        tenth += [scores] * (streams // 10)
    return tenths


def cpu_seconds(derivation: Derivation, tenths: list[list[Message]]) -> tuple[float, int]:
    """CPU time of the whole feed, and how many messages were derived."""
    derived, began = 0, time.process_time()
    for i, messages in enumerate(tenths):
        now = START + (i + 1) * SECOND // 10
        derived += len(derivation.extend(messages, now)) - len(messages)
        derived += len(derivation.tick(now))
    return time.process_time() - began, derived


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--streams", type=int, default=500)
    arguments.add_argument("--seconds", type=int, default=300, help="of the feed")
    given = arguments.parse_args()
    rules = [
        AlertConfig.model_validate({"name": f"r{i}"} | keys) for i, keys in enumerate(CONDITIONS)
    ]
    tenths = rounds(given.streams, given.seconds)
    without, _ = cpu_seconds(Derivation(), tenths)
    with_rules, derived = cpu_seconds(Derivation([AlertEngine(rules)]), tenths)
    n = sum(not isinstance(m, Scores) for tenth in tenths for m in tenth)
    print(f"{given.streams} streams, {len(rules)} rules each: {derived} messages about alerts")
    rows = [
        Row("alerts/share_of_core", (with_rules - without) / given.seconds, "cores"),
        Row("alerts/messages_per_second", n / given.seconds, "1/s"),
    ]
    for row in rows:
        print(f"{row.name} {row.value:.4g} {row.unit}")
    write(rows, given.json)


if __name__ == "__main__":
    main()
