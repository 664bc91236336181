"""What systemd wants to hear of a `Type=notify` service (sd_notify(3)), without its library.

Nothing is sent where `NOTIFY_SOCKET` is not set.
"""

import logging
import os
import socket
from collections.abc import Mapping

from streamtag.daemon.ops.monitor import Monitor

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
"""How long to wait for the first audio before the service is ready without: a radio that is off the
air must not keep systemd from starting the others."""


class Service:
    """Readiness, status and watchdog of this process; call `tick` a few times a second.

    Args:
        monitor: knows whether the engine makes progress.
        now: `time.monotonic`, when the models were warm.
        environment: where systemd's variables are; None means this process's.
    """

    def __init__(
        self, monitor: Monitor, now: float, environment: Mapping[str, str] | None = None
    ) -> None:
        variables = os.environ if environment is None else environment
        self._monitor, self._began = monitor, now
        self._address = variables.get("NOTIFY_SOCKET", "")
        self._interval = _watchdog_seconds(variables) / 2
        self._ready, self._status, self._refused = False, "", ""
        self._fed_at, self._fed_round = now, monitor.rounds
        self.say("models are warm, waiting for audio")

    def tick(self, now: float) -> None:
        """Says what there is to say; `now` is `time.monotonic`."""
        if not self._ready and (self._monitor.heard or now - self._began >= READY_SECONDS):
            self._ready = True
            self._send("READY=1")
        if self._ready:
            self.say(self._summary())
        # A round ends only when every batch in it was scored and handed on: a model, a feed or a
        # lock that hangs keeps the count where it is, and systemd starts us anew.
        due = self._interval and now - self._fed_at >= self._interval
        if due and self._monitor.rounds != self._fed_round:
            self._send("WATCHDOG=1")
            self._fed_at, self._fed_round = now, self._monitor.rounds

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1")
        self.say("stopping")

    def reloading(self, now_microseconds: int) -> None:
        """A new configuration is being read; `reloaded` follows. The clock is CLOCK_MONOTONIC."""
        if self._ready:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={now_microseconds}")

    def reloaded(self, refused: str = "") -> None:
        """The end of `reloading`, from any thread.

        Args:
            refused: what is wrong with the configuration, if anything; the status says so until
                one is taken.
        """
        self._refused = refused.partition("\n")[0]
        if self._ready:
            self._send("READY=1")

    def say(self, status: str) -> None:
        """One line for `systemctl status`; sent if it is another one."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def _summary(self) -> str:
        states = list(self._monitor.states.values())
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        words = ", ".join(f"{count} {state}" for state, count in counts.items())
        silent = f", {n} silent" if (n := len(self._monitor.silent)) else ""
        refused = f"; new configuration refused: {self._refused}" if self._refused else ""
        return f"streams: {words or 'none yet'}{silent}{refused}"

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)  # a notification must not hold up what it tells of
                out.sendto(message.encode(), address)
        except OSError as error:
            log.warning("systemd at %s: cannot be told %r: %s", self._address, message, error)


def _watchdog_seconds(variables: Mapping[str, str]) -> float:
    """How often systemd wants to hear from this process at least; 0 if it does not."""
    if variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(0.0, int(variables.get("WATCHDOG_USEC", "0")) / 1e6)
    except ValueError:
        log.warning("WATCHDOG_USEC: expected a number, got %r", variables["WATCHDOG_USEC"])
        return 0.0
