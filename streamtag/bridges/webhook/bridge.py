"""`streamtag webhook`: posts events by HTTP, in order and at least once each.

Each webhook has a thread and a subscriber of its own, so a slow or dead receiver holds up no other.
What it has not accepted yet waits in the daemon's journal, not in memory.
"""

import json
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from streamtag.bridges.bridge import (
    feed_access,
    load_running_config,
    required_table,
    run_until_shutdown,
    shutdown_on_signals,
)
from streamtag.bridges.webhook.delivery import Delivery, Outcome, body_of, key_of
from streamtag.config.bridges import ALERTS, EVENTS, WebhookConfig
from streamtag.config.config import Config
from streamtag.config.fields import read_secret
from streamtag.errors import StreamtagError
from streamtag.feed.atomic_file import atomic_file
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.client.tracker import FeedItem, MissedMessages, Positions, positions_in
from streamtag.feed.messages import AlertMessage, Other, TagOff, TagOn
from streamtag.feed.rights import matches

log = logging.getLogger(__name__)

HIGH_WATER = 1000
"""Number of messages that wait in memory for a slow receiver; others stay in the journal."""
WAIT_SECONDS = 0.2
"""How long to wait for a message before a stop is noticed."""
SAVE_SECONDS = 1.0
"""How often a position is written while no message is delivered."""
RETRY_SECONDS = 5.0
"""How long to wait after a feed or a disk could not be used."""
STOP_SECONDS = 1.0
"""How long the threads may take to end."""


@dataclass(slots=True)
class DeliveryPosition:
    """How far a webhook has come, in a file: the next bridge continues exactly there."""

    path: Path
    topics: Positions = field(default_factory=dict)
    n_delivered: int = 0
    """Messages delivered since the file was created."""
    n_given_up: int = 0
    """Messages that the receiver refused or that were tried for too long."""
    saved: str = ""
    """Content of the file."""

    def save(self) -> None:
        """Replaces the file if something has changed.

        Raises:
            StreamtagError: the file cannot be written.
        """
        counts = {"delivered": self.n_delivered, "given_up": self.n_given_up}
        text = json.dumps({"v": 1, **counts, "topics": self.topics}, indent=1)
        if text == self.saved:
            return
        try:
            with atomic_file(self.path, durable=True) as partial:
                partial.write_text(text)
        except OSError as error:
            raise StreamtagError(
                f"{self.path}: expected a file to write a webhook's position to, "
                f"got {error.strerror}; set webhook.position"
            ) from None
        self.saved = text


def load_position(path: Path) -> DeliveryPosition:
    """The position in a file; a new one if there is no file.

    A damaged file is renamed and logged; the webhook then starts with the current state.

    Raises:
        StreamtagError: the file cannot be read.
    """
    try:
        body = json.loads(path.read_bytes())
        topics = positions_in(body["topics"])
        return DeliveryPosition(path, topics, int(body["delivered"]), int(body["given_up"]))
    except FileNotFoundError:
        return DeliveryPosition(path)
    except OSError as error:
        raise StreamtagError(
            f"{path}: expected a webhook's position, got {error.strerror}"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        log.error("%s: expected a webhook's position, got %r; renamed to %s", path, error, aside)
        return DeliveryPosition(path)


def wants(config: WebhookConfig, message: FeedItem) -> bool:
    """Whether a webhook chooses a message."""
    if isinstance(message, AlertMessage):
        about = getattr(message, "streams", (message.stream,))
        concerns = config.streams is None or any(matches(config.streams, one) for one in about)
        return concerns and message.type in (config.events or ())
    if isinstance(message, MissedMessages):
        name, stream = "missed", message.topic.split("/")[1]
    else:
        name = message.kind if isinstance(message, Other) else message.type
        stream = message.stream
    if not stream or (config.streams is not None and not matches(config.streams, stream)):
        return False
    if config.events is None:
        chosen = name in EVENTS or isinstance(message, Other)
    else:
        chosen = name in config.events
    if config.tags is not None and isinstance(message, TagOn | TagOff):
        return chosen and message.tag in config.tags
    return chosen


class Webhook:
    """One receiver, until `stop` is set.

    Raises:
        StreamtagError: its secret or its position cannot be read.
    """

    def __init__(self, daemon: Config, config: WebhookConfig, stop: threading.Event) -> None:
        self._daemon, self._config, self._stop = daemon, config, stop
        secret = read_secret(
            f"webhook {config.name!r}.secret", config.secret, config.secret_file, config.secret_env
        )
        self.position = load_position(Path(config.position))
        self._delivery = Delivery(config, secret, stop)
        self._next_save = 0.0

    def run(self) -> None:
        """Delivers messages until it is stopped."""
        while not self._stop.is_set():
            chosen = self._config.events or ()
            try:
                with Subscriber(
                    **feed_access(self._daemon),
                    streams=self._config.streams,
                    scores="scores" in chosen,
                    mood="mood" in chosen,
                    derived=("clip", *["alert"] * (not set(ALERTS).isdisjoint(chosen))),
                    high_water=HIGH_WATER,
                    since=self.position.topics,
                ) as feed:
                    self._follow(feed)
            except StreamtagError as error:
                log.error("webhook %s: %s", self._config.name, error)
                self._stop.wait(RETRY_SECONDS)
        self._delivery.close()
        log.info(
            "webhook %s: %d messages delivered and %d given up so far",
            *(self._config.name, self.position.n_delivered, self.position.n_given_up),
        )

    def _follow(self, feed: Subscriber) -> None:
        while not self._stop.is_set():
            messages, keys, positions = self._receive_batch(feed)
            if messages and not self._deliver(messages, keys):
                return
            self.position.topics = positions
            now = time.monotonic()
            if messages or now >= self._next_save:
                self._next_save = now + SAVE_SECONDS
                self.position.save()

    def _receive_batch(self, feed: Subscriber) -> tuple[list[FeedItem], list[str], Positions]:
        """The messages to deliver that are there, one batch at most; their keys, and the positions
        after them."""
        messages: list[FeedItem] = []
        keys: list[str] = []
        message = feed.receive(WAIT_SECONDS)
        positions = dict(self.position.topics) if message is not None else self.position.topics
        while message is not None:
            if wants(self._config, message):
                messages.append(message)
                keys.append(key_of(message, positions))
            if not isinstance(message, MissedMessages):
                positions[message.topic] = (message.epoch, message.seq)
            elif message.restarted:
                positions.pop(message.topic, None)
            if len(messages) >= self._config.batch or self._stop.is_set():
                break
            message = feed.receive(0)
        return messages, keys, positions

    def _deliver(self, messages: list[FeedItem], keys: list[str]) -> bool:
        """Delivers a batch; returns whether it is settled, so that the position may move on."""
        body = body_of(messages, keys, as_batch=self._config.batch > 1)
        key = keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}"
        first = str(messages[0])
        what = first if len(messages) == 1 else f"{len(messages)} messages from {first}"
        outcome = self._delivery.deliver(body, key, what)
        if outcome is Outcome.STOPPED:
            return False
        if outcome is Outcome.DELIVERED:
            self.position.n_delivered += len(messages)
        else:
            self.position.n_given_up += len(messages)
            log.error(
                "webhook %s: %d messages given up so far",
                *(self._config.name, self.position.n_given_up),
            )
        return True


def run(path: Path) -> int:
    """Runs all webhooks of a daemon's configuration until asked to end; returns the exit code.

    Raises:
        StreamtagError: the configuration, a secret or a position cannot be used.
    """
    daemon = load_running_config(path)
    configs = required_table(daemon.webhook, path, "[[webhook]]", "webhooks.md")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every request
    with shutdown_on_signals() as shutdown:
        webhooks = [Webhook(daemon, config, shutdown.event) for config in configs]
        run_until_shutdown([webhook.run for webhook in webhooks], shutdown, STOP_SECONDS)
    return 0
