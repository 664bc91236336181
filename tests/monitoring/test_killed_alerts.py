"""Killed with -9 at random moments: no alert is lost, and none is doubled.

STREAMTAG_ALERT_KILLS=200 python -m pytest tests/monitoring/test_killed_alerts.py
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from support.alert_program import GROUP, HOLD, STREAMS
from support.forked import Forked
from support.paths import SUPPORT

from streamtag.feed.messages import (
    AlertCleared,
    AlertMessage,
    AlertRaised,
    Message,
    SilenceOff,
    SilenceOn,
    TagOff,
    TagOn,
)
from streamtag.feed.timestamps import ns_of
from streamtag.history.history import History
from streamtag.history.query import Query

KILLS = int(os.environ.get("STREAMTAG_ALERT_KILLS", "6"))
PROGRAM = SUPPORT / "alert_program.py"
OF_RULES: dict[str, tuple[type[Message], type[Message]]] = {
    "silent": (SilenceOn, SilenceOff),
    "speech": (TagOn, TagOff),
}
S = 10**9


def life(journal: Path, seed: int, seconds: float = 0) -> Forked:
    """A process that publishes; it has opened its streams."""
    arguments = [PROGRAM, str(journal), str(seed), *([str(seconds)] if seconds else [])]
    process = Forked(*arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_random_moments(tmp_path: Path) -> None:
    journal, rng = tmp_path / "j.db", random.Random(5)
    for seed in range(KILLS):
        process = life(journal, seed)
        time.sleep(rng.uniform(0, 1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    last = life(journal, KILLS, 3.0)
    assert last.wait(120) == 0
    history = History(journal)
    messages = [entry.message for entry in history.entries(Query())]
    assert not history.current_state()[0]
    history.close()
    raised = sum(check(messages, rule, stream) for rule in OF_RULES for stream in STREAMS)
    assert raised > 0
    ids = [m.id for m in messages if isinstance(m, AlertRaised)]
    assert len(set(ids)) == len(ids)
    for rule in OF_RULES:
        numbers = [m.seq for m in messages if m.topic == f"alert/{rule}/"]
        assert numbers == list(range(1, len(numbers) + 1))
    print(f"{KILLS} kills, {len(messages)} messages, {raised} alerts")


def check(messages: list[Message], rule: str, stream: str) -> int:
    """Checks the alerts of a rule and a stream against the events; returns how many there were."""
    began_type, ended_type = OF_RULES[rule]
    open_id, began, due, count, owed = "", 0, 0, 0, ""
    for message in messages:
        utc = ns_of(message.utc)
        if isinstance(message, AlertMessage):
            if message.alert != rule or stream not in message.streams:  # type: ignore[attr-defined]
                continue
            if isinstance(message, AlertRaised):
                assert not open_id, f"doubled: {message}"
                assert due, f"without a cause: {message}"
                open_id, count, owed = message.id, count + 1, ""
            elif isinstance(message, AlertCleared):
                assert open_id == message.id, f"cleared twice, or never raised: {message}"
                # What has just begun is published first, though it is later.
                assert not began or utc <= began, f"cleared while it holds: {message}"
                open_id, due = "", began and began + round(HOLD * S)
        elif message.stream != stream:
            continue
        elif isinstance(message, began_type):
            assert not owed, owed
            began = utc
            due = due if open_id else began + round(HOLD * S)
        elif isinstance(message, ended_type):
            # The process must have lived long enough to decide, and to wait for others.
            lasted = utc - began
            if lasted >= (HOLD + GROUP + 0.5) * S and not open_id:
                owed = f"lost: {rule} of {stream} for {lasted / S:.3f} s until {message}"
            began = 0
    assert not owed, owed
    assert not open_id, f"never cleared: {open_id}"
    return count
