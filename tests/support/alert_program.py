"""Publishes events of several streams with rules over them, without audio, until it is killed.

    python alert_program.py JOURNAL SEED [SECONDS]

With seconds, all streams stay well for so long, and it ends by itself.
"""

import random
import sys
import time

from streamtag.config.alerts import AlertConfig
from streamtag.config.feed import FeedConfig
from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.output import EventOutput
from streamtag.engine import events
from streamtag.feed.event_encoder import TaggerInfo
from streamtag.monitoring import alerts, conditions
from streamtag.monitoring.alerts import AlertEngine

STREAMS = tuple(f"s{i}" for i in range(6))
HOLD, GROUP, RATE = 0.1, 0.03, 1000
RULES = [
    AlertConfig(name="silent", when="silence", for_seconds=HOLD, group_seconds=GROUP),
    AlertConfig(name="speech", when="tag_on", tags=("a",), for_seconds=HOLD, group_seconds=0),
]


def hurry() -> None:
    """Makes the fixed times of rules short."""
    alerts.SETTLE = 20_000_000
    conditions.RESUME_SECONDS = 0.2


class Program:
    """Random events, at the times at which they are published."""

    def __init__(self, journal: str, seed: int) -> None:
        hurry()
        config = FeedConfig(bind="tcp://127.0.0.1:0", journal=journal)
        self.output = EventOutput(config, Monitor(), [AlertEngine(RULES, (), {}, STREAMS)])
        self.output._encoder.taggers["m"] = TaggerInfo(("a",))
        self.rng, self.began = random.Random(seed), time.time_ns()
        self.silent: dict[str, int] = {}
        self.on: dict[str, int] = {}
        for name in STREAMS:
            self.output.publish([events.StreamOpened(name, 0, RATE, self.began, ("m",))])

    def step(self, *, well: bool) -> None:
        """One event, or none, and the time."""
        at = (time.time_ns() - self.began) * RATE // 10**9
        stream = self.rng.choice(STREAMS)
        if self.rng.random() < 0.5:
            since = self.silent.pop(stream, None)
            if since is not None:
                self.output.publish([events.SilenceEnded(stream, at, at, since)])
            elif not well:
                self.silent[stream] = at
                self.output.publish([events.SilenceStarted(stream, at, at)])
        else:
            since = self.on.pop(stream, None)
            why = events.Reason.BELOW_THRESHOLD
            if since is not None:
                self.output.publish([events.TagEnded(stream, "m", "a", at, at, since, 0.5, why)])
            elif not well:
                self.on[stream] = at
                self.output.publish([events.TagStarted(stream, "m", "a", at, at, 0.5, False)])
        self.output.tick()


def main(journal: str, seed: int, seconds: float = 0.0) -> None:
    """Publishes until the process is killed, or for some seconds."""
    program = Program(journal, seed)
    print("ready", flush=True)
    end = time.monotonic() + seconds
    while not seconds or time.monotonic() < end:
        program.step(well=seconds > 0)
        time.sleep(program.rng.expovariate(60))
    program.output.publish([events.StreamClosed(s, 10**9, events.Reason.SHUTDOWN) for s in STREAMS])
    program.output.close(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:]))
