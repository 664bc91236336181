"""How a socket of the feed notices that the other side has gone without a word (power cut).

ZeroMQ's own heartbeats end the whole process, `Assertion failed: !_io_error` or `_input_stopped`
(libzmq 4.3.5, issues 3937, 4364 and 4767 there), where they are on for a socket whose queue of what
came is full when the connection breaks: the next heartbeat is due on a connection that is no more.
Without a bound for what comes a flood takes all memory. So no socket of ours has heartbeats.
"""

import zmq

IDLE_SECONDS = 10
"""After which the system asks the other side whether it is there."""
PROBE_SECONDS = 5
GONE_SECONDS = 20
"""Without an answer of the other side's system, after which the connection is given up."""


def by_the_system(socket: zmq.Socket[bytes], bound: int) -> None:
    """Asks the other side's system, and gives up who takes nothing for so long.

    Args:
        socket: not connected or bound yet.
        bound: messages that may wait to be taken.
    """
    socket.rcvhwm = bound
    socket.tcp_keepalive, socket.tcp_keepalive_idle = 1, IDLE_SECONDS
    socket.tcp_keepalive_intvl = PROBE_SECONDS
    socket.tcp_keepalive_cnt = (GONE_SECONDS - IDLE_SECONDS) // PROBE_SECONDS
    socket.tcp_maxrt = 1000 * GONE_SECONDS
