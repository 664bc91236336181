"""Subscriptions without end, made faster than any library does: the feed stays small."""

import subprocess
import sys

from support.paths import SUPPORT

FLOOD_PROGRAM = SUPPORT / "flood_program.py"
SECONDS = 120
RENEWALS = 4
MOST_MB = 400
"""Above what it is without. A bound of none takes gigabytes."""

FEED = """
import resource, sys, time
import zmq
from streamtag.feed import sockets

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # a mistake must not take the machine

def megabytes():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000

renewals = 0
def warning(*words):
    global renewals
    renewals += 1
sockets.log.warning = warning
feed = sockets.PublisherSocket(zmq.Context(), "tcp://127.0.0.1:0", 10_000)
print(feed.address.rpartition(":")[2], flush=True)
before = megabytes()
while renewals < int(sys.argv[1]):
    feed.subscriptions()
    feed.send(b"event/a/", [b"{}"])
    time.sleep(0.1)
print(megabytes() - before, flush=True)
"""


def test_a_flood_of_subscriptions_is_bounded() -> None:
    command = [sys.executable, "-c", FEED, str(RENEWALS)]
    floods: list[subprocess.Popen[bytes]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as feed:
        assert feed.stdout is not None
        try:
            port = feed.stdout.readline().strip()
            for seed in ("1", "2"):
                floods.append(subprocess.Popen([sys.executable, str(FLOOD_PROGRAM), port, seed]))
            grown, _ = feed.communicate(timeout=SECONDS)
        finally:
            feed.kill()
            for flood in floods:
                flood.kill()
                flood.wait()
    assert feed.returncode == 0
    assert float(grown) < MOST_MB
