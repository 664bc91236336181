"""`streamtag osc`: sends the state of all streams as OSC, for lights and sound desks."""

import logging
import socket
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pythonosc.osc_message_builder import OscMessageBuilder

from streamtag.bridges.bridge import required_table, shutdown_on_signals
from streamtag.bridges.state_bridge import StateBridge, TagVocabulary
from streamtag.config.bridges import RESERVED, OscConfig
from streamtag.feed.client.stream_state import StreamState
from streamtag.feed.messages import Mood, Scores

log = logging.getLogger(__name__)

MAX_TEXT = 500
"""Characters of a text that are sent; a datagram must stay short."""
RESOLVE_SECONDS = 30.0
"""How long to wait before a host name that cannot be resolved is looked up again."""
BURST = 100
"""Number of datagrams sent at once; small devices have small buffers."""
WAIT_SECONDS = 0.05
"""Longest time between two bursts."""

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
    """The addresses of a stream and their datagrams; nothing is on if the daemon is not alive."""
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
        """Sends a datagram to all targets, without waiting. Logs the first of several errors."""
        for target in self._targets:
            try:
                sent = self._send_to(target, datagram)
            except (OSError, UnicodeError) as error:
                sent = False
                if not target.failing:
                    log.warning("osc %s:%d: %s; still trying", target.host, target.port, error)
                target.failing = True
            if sent and target.failing:
                log.info("osc %s:%d: works again", target.host, target.port)
                target.failing = False
            self.n_sent += sent
            self.n_lost += not sent

    def close(self) -> None:
        """Closes all sockets."""
        for target in self._targets:
            if target.opened is not None:
                target.opened.close()

    def _send_to(self, target: _Target, datagram: bytes) -> bool:
        """Whether a datagram was sent; first opens the socket if there is none."""
        if target.opened is None:
            if self._clock() < target.resolve_at:
                return False
            target.resolve_at = self._clock() + RESOLVE_SECONDS
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, target.address = found[0]
            target.opened = socket.socket(family, kind, protocol)
            target.opened.setblocking(False)
            target.opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            target.opened.sendto(datagram, target.address)
        except BlockingIOError:  # the buffer of this machine is full
            return False
        return True


class OscBridge(StateBridge):
    """Sends changes at once, and repeats everything regularly because UDP loses datagrams."""

    def __init__(self, config: OscConfig, vocabulary: TagVocabulary, targets: UdpTargets) -> None:
        super().__init__("osc", config.streams, vocabulary)
        self._config, self._targets = config, targets
        self._names: dict[str, TagNames] = {}
        self._next_scores: dict[str, float] = {}
        self._to_repeat: list[str] = []  # addresses that are still to be repeated in this round
        self._repeated_at, self._round_length, self._credit = time.monotonic(), 0, 0.0
        self.set_daemon()
        for name in vocabulary.config.streams:
            if self.is_wanted(name):
                self.set_stream(name)

    def close(self) -> None:
        """Sends that nothing is on, and closes the sockets."""
        self.tick(daemon_alive=False)
        self._send_changes(None)
        self._targets.close()

    def set_daemon(self) -> None:
        """Sets the address about the daemon."""
        address = f"{self._config.prefix}/daemon"
        self._state.set_group("daemon", {address: datagram(address, int(self._daemon_alive))})

    def set_stream(self, stream: str) -> None:
        """Sets the addresses of a stream. Scores and mood become 0 when it is not up."""
        state, prefix, tags = self._states[stream], self._config.prefix, self._tags(stream)
        names = self._names.setdefault(stream, TagNames())
        messages = stream_messages(prefix, stream, state, tags, names, alive=self._daemon_alive)
        self._state.set_group(f"state {stream}", messages)
        if self._daemon_alive and state.up:
            return
        if stream in self._next_scores:
            zeros = scores_messages(prefix, stream, dict.fromkeys(tags, 0.0), names)
            self._state.set_group(f"scores {stream}", zeros)
        if f"mood {stream}" in self._state.groups:
            self._state.set_group(f"mood {stream}", mood_message(prefix, stream, 0.0, 0.0))

    def set_measurement(self, stream: str, message: Scores | Mood) -> None:
        """Sets the addresses of scores, if they are due, or of the mood."""
        prefix = self._config.prefix
        if isinstance(message, Mood):
            mood = mood_message(prefix, stream, message.valence, message.arousal)
            self._state.set_group(f"mood {stream}", mood)
            return
        now = time.monotonic()
        if now < self._next_scores.get(stream, 0.0):
            return
        self._next_scores[stream] = now + self._config.scores_seconds
        names = self._names.setdefault(stream, TagNames())
        scores = self.smoothed_scores(stream, self._tags(stream))
        self._state.set_group(f"scores {stream}", scores_messages(prefix, stream, scores, names))

    def remove_stream(self, stream: str) -> None:
        """Sends the last state of a stream, then removes its addresses."""
        self.set_stream(stream)
        self._send_changes(None)
        self._next_scores.pop(stream, None)
        super().remove_stream(stream)

    def publish(self) -> None:
        """Sends changes, and repeats what is due."""
        self._send_changes(BURST)
        self._repeat()

    def _tags(self, stream: str) -> dict[str, str]:
        state, chosen = self._states[stream], self._config.tags
        tags = self._vocabulary.tags_of(stream, state.taggers) | dict.fromkeys(state.last, "")
        return {t: display for t, display in tags.items() if chosen is None or t in chosen}

    def _send_changes(self, most: int | None) -> None:
        """Sends what has changed: `most` datagrams, or all for None."""
        n_sent = 0
        while most is None or n_sent < most:
            if (change := next(self._state.changes(), None)) is None:
                return
            address, _, payload = change
            if payload:
                self._targets.send(payload)
                n_sent += 1
            self._state.mark_published(address, payload)

    def _repeat(self) -> None:
        """Sends everything once more within `repeat_seconds`, spread evenly."""
        now = time.monotonic()
        elapsed, self._repeated_at = now - self._repeated_at, now
        if not self._to_repeat:
            self._to_repeat = list(self._state.desired)[::-1]
            self._round_length, self._credit = len(self._to_repeat), 0.0
        self._credit += self._round_length * min(1.0, elapsed / self._config.repeat_seconds)
        while self._credit >= 1.0 and self._to_repeat:
            self._credit -= 1.0
            if payload := self._state.desired.get(self._to_repeat.pop()):
                self._targets.send(payload)


def run(path: Path) -> int:
    """Runs the bridge of a daemon's configuration until asked to end; returns the exit code.

    Raises:
        StreamtagError: the configuration or the feed's keys cannot be used.
    """
    vocabulary = TagVocabulary(path)
    config = required_table(vocabulary.config.osc, path, "[osc]", "osc.md")
    targets = UdpTargets(config.addresses)
    bridge = OscBridge(config, vocabulary, targets)
    with shutdown_on_signals() as shutdown:
        scores = config.scores_seconds > 0
        bridge.run(shutdown, WAIT_SECONDS, scores=scores, mood=config.mood)
    log.info("osc: %d datagrams sent, %d not accepted", targets.n_sent, targets.n_lost)
    return 0
