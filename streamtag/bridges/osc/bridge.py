"""`streamtag osc`: sends the state of all streams as OSC, for lights and sound desks."""

import logging
import time
from pathlib import Path

from streamtag.bridges.bridge import required_table, shutdown_on_signals
from streamtag.bridges.osc.messages import (
    TagNames,
    UdpTargets,
    datagram,
    mood_message,
    scores_messages,
    stream_messages,
)
from streamtag.bridges.state_bridge import StateBridge
from streamtag.bridges.vocabulary import TagVocabulary
from streamtag.config.bridges import OscConfig
from streamtag.feed.messages import Mood, Scores

log = logging.getLogger(__name__)

BURST = 100
"""Number of datagrams sent at once; small devices have small buffers."""
WAIT_SECONDS = 0.05
"""Longest time between two bursts."""


class OscBridge(StateBridge):
    """Sends changes at once, and repeats everything regularly because UDP loses datagrams.

    Args:
        config: of the bridge.
        vocabulary: the tags of each stream.
        targets: that receive the datagrams.
    """

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
        if f"mood {stream}" in self._state:
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
    """Runs the bridge until it is asked to end; returns the exit code.

    Args:
        path: of the daemon's configuration.

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
