"""`streamtag osc`: the feed as OSC messages by UDP, for lights and sound desks."""

import logging
import time
from pathlib import Path

from streamtag.bridges.bridge import carry, configured, ending
from streamtag.bridges.osc.messages import (
    Names,
    datagram,
    mood_state,
    scores_state,
    stream_state,
)
from streamtag.bridges.osc.targets import Targets
from streamtag.bridges.retained import Retained
from streamtag.bridges.vocabulary import TagVocabulary
from streamtag.config.bridges import OscConfig
from streamtag.feed.client.stream_state import StreamStates
from streamtag.feed.client.tracker import MissedMessages
from streamtag.feed.messages import (
    Message,
    Mood,
    Scores,
    StreamDown,
    StreamUp,
    TaggersChanged,
)

log = logging.getLogger(__name__)

BURST = 100
"""Datagrams sent in one go: small devices have small buffers."""
WAIT_SECONDS = 0.05
"""Between two bursts while nothing comes."""


class OscBridge:
    """Sends what differs at once, and everything again and again.

    Args:
        config: of the bridge.
        vocabulary: the tags of each stream.
        targets: who is told.
    """

    def __init__(self, config: OscConfig, vocabulary: TagVocabulary, targets: Targets) -> None:
        self._config, self._vocabulary, self._targets = config, vocabulary, targets
        self._states, self._told = StreamStates(), Retained()
        self._names: dict[str, Names] = {}
        self._next_scores: dict[str, float] = {}
        self._heard = False
        self._round: list[str] = []  # addresses that are still to be repeated in this round
        self._repeated_at, self._length, self._owed = time.monotonic(), 0, 0.0
        self._say_whether_heard()
        for name in vocabulary.config.streams:
            if self._is_wanted(name):
                self._show(name)

    def take(self, message: Message | MissedMessages) -> None:
        """Learns from one message of the feed."""
        name = self._states.update(message)
        if not name or not self._is_wanted(name):
            return
        match message:
            case Scores():
                self._show_scores(name, message)
                return
            case Mood():
                state = mood_state(self._config.prefix, name, message.valence, message.arousal)
                self._told.want(f"mood {name}", state)
                return
            case StreamUp() | TaggersChanged() | StreamDown():
                self._vocabulary.refresh()
        self._show(name)
        if isinstance(message, StreamDown) and message.removed:
            self._drop(name)

    def tick(self, *, heard: bool) -> None:
        """What is due now.

        Args:
            heard: the daemon lives.
        """
        if heard != self._heard:
            self._heard = heard
            log.info("osc: the daemon is %s", "there" if heard else "gone; nothing is on")
            self._say_whether_heard()
            for name in self._states:
                self._show(name)
        self._flush(BURST)
        self._repeat()

    def close(self) -> None:
        """Leaves nothing on behind."""
        self.tick(heard=False)
        self._flush(None)

    def _is_wanted(self, name: str) -> bool:
        return self._config.streams is None or name in self._config.streams

    def _say_whether_heard(self) -> None:
        address = f"{self._config.prefix}/daemon"
        self._told.want("daemon", {address: datagram(address, int(self._heard))})

    def _tags(self, name: str) -> list[str]:
        now = self._states[name]
        tags = dict.fromkeys(self._vocabulary.of(name, now.taggers)) | dict.fromkeys(now.last)
        return [t for t in tags if self._config.tags is None or t in self._config.tags]

    def _show(self, name: str) -> None:
        now, names = self._states[name], self._names.setdefault(name, Names())
        prefix, tags = self._config.prefix, self._tags(name)
        state = stream_state(prefix, name, now, tags, names, heard=self._heard)
        self._told.want(f"state {name}", state)
        if not (self._heard and now.up):  # faders fall, too
            scores = {tag: 0.0 for tag in tags}
            if name in self._next_scores:
                self._told.want(f"scores {name}", scores_state(prefix, name, scores, names))
            if f"mood {name}" in self._told:
                self._told.want(f"mood {name}", mood_state(prefix, name, 0.0, 0.0))

    def _show_scores(self, name: str, message: Scores) -> None:
        now = time.monotonic()
        if now < self._next_scores.get(name, 0.0):
            return
        self._next_scores[name] = now + self._config.scores_seconds
        tags = set(self._tags(name))
        values: dict[str, float] = {}
        for scores in self._states[name].scores.values():
            pairs = zip(scores.tags, scores.smoothed, strict=True)
            values |= {tag: value for tag, value in pairs if tag in tags}
        names = self._names.setdefault(name, Names())
        self._told.want(f"scores {name}", scores_state(self._config.prefix, name, values, names))

    def _drop(self, name: str) -> None:
        """A stream was removed; its last words have been said."""
        self._flush(None)
        self._states.remove(name)
        self._next_scores.pop(name, None)
        for kind in ("state", "scores", "mood"):
            self._told.want(f"{kind} {name}", {})

    def _flush(self, most: int | None) -> None:
        """Sends what differs, a burst at most."""
        left = most
        while left is None or left > 0:
            if (change := next(self._told.due(), None)) is None:
                return
            address, _, wanted = change
            if wanted:
                self._targets.send(wanted)
                left = None if left is None else left - 1
            self._told.put(address, wanted)

    def _repeat(self) -> None:
        """Everything once more within `repeat_seconds`, spread evenly."""
        now = time.monotonic()
        elapsed, self._repeated_at = now - self._repeated_at, now
        if not self._round:
            self._round = list(self._told.wanted)[::-1]
            self._length, self._owed = len(self._round), 0.0
        self._owed += self._length * min(1.0, elapsed / self._config.repeat_seconds)
        while self._owed >= 1.0 and self._round:
            self._owed -= 1.0
            if payload := self._told.wanted.get(self._round.pop()):
                self._targets.send(payload)


def run(path: Path) -> int:
    """Runs the bridge until it is told to end; its exit code.

    Args:
        path: of the daemon's configuration.

    Raises:
        StreamtagError: the configuration or the feed's keys cannot be used.
    """
    vocabulary = TagVocabulary(path)
    config = configured(vocabulary.config.osc, path, "[osc]", "osc.md")
    targets = Targets(config.addresses)
    bridge = OscBridge(config, vocabulary, targets)
    with ending() as end:
        carry(
            bridge,
            vocabulary.config,
            end,
            WAIT_SECONDS,
            streams=config.streams,
            scores=config.scores_seconds > 0,
            mood=config.mood,
        )
    targets.close()
    log.info("osc: %d datagrams sent, %d could not be", targets.sent, targets.lost)
    return 0
