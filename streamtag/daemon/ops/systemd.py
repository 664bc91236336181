"""Notifications to systemd for a service of `Type=notify`, by the protocol of sd_notify(3).

Nothing is sent where `NOTIFY_SOCKET` is not set.
"""

import logging
import os
import socket
from collections.abc import Mapping

from streamtag.daemon.ops.monitor import Monitor

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
"""How long the service waits for the first audio before it is ready without: a radio station that
is off the air must not keep systemd from starting the other services."""


class SystemdNotifier:
    """Readiness, status and watchdog of this process. Call `tick` a few times a second.

    Args:
        monitor: knows whether the engine makes progress.
        now: `time.monotonic`, when the models were warm.
        environment: the variables that systemd sets. None means those of this process.
    """

    def __init__(
        self, monitor: Monitor, now: float, environment: Mapping[str, str] | None = None
    ) -> None:
        variables = os.environ if environment is None else environment
        self._monitor, self._began = monitor, now
        self._address = variables.get("NOTIFY_SOCKET", "")
        self._interval = _watchdog_seconds(variables) / 2
        self._ready, self._status, self._refused = False, "", ""
        self._fed_at = now
        self._send_status("models are warm, waiting for audio")

    def tick(self, now: float) -> None:
        """Sends what has changed. `now` is `time.monotonic`."""
        if not self._ready and (self._monitor.has_audio or now - self._began >= READY_SECONDS):
            self._ready = True
            self._send("READY=1")
        if self._ready:
            self._send_status(self._summary())
        # A round ends when every batch in it was scored and handed on. A model, a feed or a lock
        # that hangs keeps `last_round` where it is, and systemd restarts the daemon.
        due = self._interval and now - self._fed_at >= self._interval
        if due and self._monitor.last_round > self._fed_at:
            self._send("WATCHDOG=1")
            self._fed_at = now

    def stopping(self) -> None:
        """The daemon begins to stop."""
        self._send("STOPPING=1")
        self._send_status("stopping")

    def reloading(self, now_microseconds: int) -> None:
        """The daemon reads its configuration again. `reloaded` follows. The clock is
        CLOCK_MONOTONIC."""
        if self._ready:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={now_microseconds}")

    def reloaded(self, refused: str = "") -> None:
        """The end of `reloading`. Any thread may call it.

        If the configuration is refused, the status says why until one is accepted.
        """
        self._refused = refused.partition("\n")[0]
        if self._ready:
            self._send("READY=1")

    def _send_status(self, status: str) -> None:
        """Sends one line for `systemctl status` if it has changed."""
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
                out.setblocking(False)  # a notification must not delay what it reports
                out.sendto(message.encode(), address)
        except OSError as error:
            log.warning("systemd at %s: cannot be told %r: %s", self._address, message, error)


def _watchdog_seconds(variables: Mapping[str, str]) -> float:
    """How often systemd expects a notification of this process. 0 if it expects none."""
    if variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(0.0, int(variables.get("WATCHDOG_USEC", "0")) / 1e6)
    except ValueError:
        log.warning("WATCHDOG_USEC: expected a number, got %r", variables["WATCHDOG_USEC"])
        return 0.0
