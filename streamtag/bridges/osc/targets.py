"""Datagrams to several targets; one that is not there is no reason to wait."""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 30.0
"""After which a name that is not known is looked up again."""


@dataclass(slots=True)
class _Target:
    host: str
    port: int
    opened: socket.socket | None = None
    address: tuple[object, ...] = ()
    look: float = 0.0
    """When to look its name up, as of the clock."""
    failing: bool = False


class Targets:
    """Sockets, one per target.

    Args:
        addresses: hosts and ports.
        clock: seconds.
    """

    def __init__(
        self, addresses: list[tuple[str, int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._targets = [_Target(host, port) for host, port in addresses]
        self._clock = clock
        self.sent = 0
        self.lost = 0
        """Datagrams that could not even be handed over."""

    def send(self, datagram: bytes) -> None:
        """To all of them, without waiting."""
        for target in self._targets:
            fault = self._look_up(target)
            if target.opened is None:
                self.lost += 1
            else:
                fault = self._hand_over(target, datagram)
            self._say(target, fault)

    def close(self) -> None:
        """Ends it."""
        for target in self._targets:
            if target.opened is not None:
                target.opened.close()

    def _hand_over(self, target: _Target, datagram: bytes) -> str:
        assert target.opened is not None
        try:
            target.opened.sendto(datagram, target.address)
        except BlockingIOError:  # our own buffer is full
            self.lost += 1
            return ""
        except OSError as error:
            self.lost += 1
            return str(error)
        self.sent += 1
        return ""

    def _look_up(self, target: _Target) -> str:
        """Finds a target's address if that is not known; why it is not."""
        if target.opened is not None or self._clock() < target.look:
            return ""
        target.look = self._clock() + LOOK_AGAIN_SECONDS
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            return str(error)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        target.opened, target.address = made, address
        return ""

    def _say(self, target: _Target, fault: str) -> None:
        """A line when something goes wrong, and one when it is right again."""
        if fault and not target.failing:
            log.warning("osc %s:%d: %s; tried on", target.host, target.port, fault)
            target.failing = True
        elif not fault and target.failing and target.opened is not None:
            log.info("osc %s:%d: works again", target.host, target.port)
            target.failing = False
