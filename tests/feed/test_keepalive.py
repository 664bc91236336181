"""No socket of the feed has heartbeats and a bound for what came: libzmq would end the process."""

import zmq

from streamtag import Subscriber
from streamtag.feed.sockets import GONE_SECONDS, SUBSCRIPTIONS, replay_socket, xpub_socket


def watched_by_the_system(socket: zmq.Socket[bytes]) -> bool:
    return socket.tcp_keepalive == 1 and socket.tcp_maxrt == 1000 * GONE_SECONDS


def test_a_bound_and_no_heartbeats() -> None:
    with zmq.Context() as context:
        with xpub_socket(context, 1000, None) as feed:
            assert (feed.heartbeat_ivl, feed.rcvhwm) == (0, SUBSCRIPTIONS)
            assert watched_by_the_system(feed)
        with replay_socket(context, None) as replay:
            assert replay.rcvhwm > 0
            assert replay.heartbeat_ivl == 0
            assert watched_by_the_system(replay)


def test_a_subscriber_has_a_bound_and_no_heartbeats() -> None:
    with Subscriber("tcp://127.0.0.1:1", high_water=123) as subscriber:
        assert subscriber._socket.rcvhwm == 123
        assert subscriber._socket.heartbeat_ivl == 0
        assert watched_by_the_system(subscriber._socket)


def test_the_bound_holds_back_what_nobody_takes() -> None:
    """The other side's queue fills then, and drops: it is asked for later."""
    with zmq.Context() as context, xpub_socket(context, 10, None) as feed:
        port = feed.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}", high_water=10) as subscriber:
            while not feed.recv().startswith(b"\x01hello/"):
                pass
            sent = 20_000
            for _ in range(sent):
                feed.send_multipart([b"event/a/", bytes(10_000)])  # 200 MB
            taken = 0
            while subscriber._socket.poll(500):
                subscriber._socket.recv_multipart()
                taken += 1
        assert 0 < taken < sent
