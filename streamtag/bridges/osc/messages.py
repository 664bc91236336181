"""OSC messages: the addresses of a stream, their datagrams, and sending them by UDP."""

import logging
import socket
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pythonosc.osc_message_builder import OscMessageBuilder

from streamtag.config.bridges import RESERVED
from streamtag.feed.client.stream_state import StreamState

log = logging.getLogger(__name__)

MAX_TEXT = 500
"""Characters of a text that are sent; a datagram must stay short."""
RESOLVE_SECONDS = 30.0
"""How long to wait before a host name that cannot be resolved is looked up again."""

Value = int | float | str


def datagram(address: str, *values: Value) -> bytes:
    """One OSC message: integers as `i`, other numbers as `f`, text as `s` (UTF-8, shortened)."""
    builder = OscMessageBuilder(address)
    for value in values:
        if isinstance(value, str):
            builder.add_arg(value.replace("\0", " ")[:MAX_TEXT], "s")
        else:
            builder.add_arg(value, "i" if isinstance(value, int) else "f")
    return bytes(builder.build().dgram)


def clean(name: str) -> str:
    """A name as part of an OSC address, without accents and with `_` for what is not allowed."""
    plain = unicodedata.normalize("NFKD", name)
    kept = "".join(
        c if "!" <= c <= "~" and c != "/" and c not in RESERVED else "_"
        for c in plain
        if not unicodedata.combining(c)
    )
    return kept or "_"


class TagNames:
    """Different parts of addresses for different tags: those of the same name get numbers."""

    def __init__(self) -> None:
        self._by_tag: dict[str, str] = {}
        self._used: set[str] = set()

    def __getitem__(self, tag: str) -> str:
        if tag not in self._by_tag:
            name, number = clean(tag), 1
            while (unique := f"{name}_{number}" if number > 1 else name) in self._used:
                number += 1
            self._by_tag[tag] = unique
            self._used.add(unique)
        return self._by_tag[tag]


def stream_messages(
    prefix: str, name: str, state: StreamState, tags: Iterable[str], names: TagNames, *, alive: bool
) -> dict[str, bytes]:
    """The addresses of a stream and their datagrams.

    Args:
        prefix: start of all addresses.
        name: of the stream.
        state: of the stream.
        tags: the tags to send.
        names: of the tags.
        alive: whether the daemon is alive; otherwise nothing is on.
    """
    base = f"{prefix}/{clean(name)}"
    values: dict[str, Value] = {
        f"{base}/up": int(alive and state.up),
        f"{base}/status": state.status if alive else "unknown",
        f"{base}/silence": int(alive and state.silent),
        f"{base}/title": state.title if alive else "",
    }
    for tag in tags:
        values[f"{base}/tag/{names[tag]}"] = int(alive and tag in state.on)
    return {address: datagram(address, value) for address, value in values.items()}


def scores_messages(
    prefix: str, name: str, scores: Mapping[str, float], names: TagNames
) -> dict[str, bytes]:
    """The addresses of a stream's smoothed probabilities and their datagrams."""
    base = f"{prefix}/{clean(name)}/score"
    addresses = {f"{base}/{names[tag]}": float(value) for tag, value in scores.items()}
    return {address: datagram(address, value) for address, value in addresses.items()}


def mood_message(prefix: str, name: str, valence: float, arousal: float) -> dict[str, bytes]:
    """The address of a stream's mood and its datagram."""
    address = f"{prefix}/{clean(name)}/mood"
    return {address: datagram(address, float(valence), float(arousal))}


@dataclass(slots=True)
class _Target:
    host: str
    port: int
    opened: socket.socket | None = None
    address: tuple[object, ...] = ()
    resolve_at: float = 0.0
    """Time of the clock at which to look its name up."""
    failing: bool = False


class UdpTargets:
    """Sends datagrams to several targets. None of them can hold up the others.

    Args:
        addresses: host and port of each.
        clock: seconds.
    """

    def __init__(
        self, addresses: list[tuple[str, int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._targets = [_Target(host, port) for host, port in addresses]
        self._clock = clock
        self.n_sent = 0
        self.n_lost = 0
        """Datagrams that the system did not accept."""

    def send(self, datagram: bytes) -> None:
        """Sends a datagram to all targets, without waiting."""
        for target in self._targets:
            fault = self._resolve(target)
            if target.opened is None:
                self.n_lost += 1
            else:
                fault = self._send_to(target, datagram)
            self._log(target, fault)

    def close(self) -> None:
        """Closes all sockets."""
        for target in self._targets:
            if target.opened is not None:
                target.opened.close()

    def _send_to(self, target: _Target, datagram: bytes) -> str:
        assert target.opened is not None
        try:
            target.opened.sendto(datagram, target.address)
        except BlockingIOError:  # the buffer of this machine is full
            self.n_lost += 1
            return ""
        except OSError as error:
            self.n_lost += 1
            return str(error)
        self.n_sent += 1
        return ""

    def _resolve(self, target: _Target) -> str:
        """Opens a target's socket if there is none; returns an error, empty for none."""
        if target.opened is not None or self._clock() < target.resolve_at:
            return ""
        target.resolve_at = self._clock() + RESOLVE_SECONDS
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            return str(error)
        family, kind, protocol, _, address = found[0]
        target.opened, target.address = socket.socket(family, kind, protocol), address
        target.opened.setblocking(False)
        target.opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        return ""

    def _log(self, target: _Target, fault: str) -> None:
        """Logs the first of several errors, and that a target works again."""
        if fault and not target.failing:
            log.warning("osc %s:%d: %s; still trying", target.host, target.port, fault)
            target.failing = True
        elif not fault and target.failing and target.opened is not None:
            log.info("osc %s:%d: works again", target.host, target.port)
            target.failing = False
