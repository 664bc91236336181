"""The bridge to NATS JetStream with a cluster of three whose servers are killed under load."""

import itertools
import os
import random
from pathlib import Path

from support.feeds import up
from support.nats_bridge import Station, publish_tags, wait_for_count
from support.nats_server import NatsCluster, require_nats

from streamtag.feed.messages import TagOff

require_nats()

FAULTS = int(os.environ.get("STREAMTAG_NATS_KILLS", "1"))
"""Servers that are killed."""


def test_servers_of_a_cluster_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """Three servers, three copies; one after the other is killed under load, and comes back."""
    choose = random.Random(1)
    cluster = NatsCluster(tmp_path / "cluster")
    station = Station(tmp_path / "station", *cluster.addresses, replicas=3)
    streams = ("a", "b", "c")
    try:
        feed = station.open_feed()
        station.start_bridge()
        feed.publish(*map(up, streams))
        wait_for_count(cluster.addresses[0], 3)
        total = itertools.count(1)
        for _ in range(FAULTS):
            killed = choose.choice(cluster.servers)
            publish_tags(feed, 10, *streams)
            killed.kill()
            publish_tags(feed, 10, *streams)
            other = next(one for one in cluster.servers if one is not killed)
            wait_for_count(other.address, 3 * (1 + 40 * next(total)))
            killed.start()
        count = 1 + 40 * FAULTS
        found = wait_for_count(cluster.addresses[0], 3 * count)  # a late copy may lack the last
        for stream in streams:
            assert [m.seq for m in found if m.stream == stream] == list(range(1, count + 1))
        assert sum(isinstance(one, TagOff) for one in found) == 3 * 20 * FAULTS
    finally:
        station.close()
        cluster.close()
