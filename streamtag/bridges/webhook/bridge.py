"""`streamtag webhook`: events posted by HTTP, at least once each and in order.

Each webhook has a thread and a subscriber of its own: one that is slow or dead holds up nobody.
What it has not taken yet waits in the daemon's journal, not here.
"""

import logging
import threading
import time
from pathlib import Path

from streamtag.bridges.bridge import configured, ending, load_running_config, subscribe
from streamtag.bridges.webhook.body import Positions, body_of, key_of, wants
from streamtag.bridges.webhook.delivery import Delivery, Outcome
from streamtag.bridges.webhook.position import Position, load_position
from streamtag.config.bridges import WebhookConfig
from streamtag.config.config import Config
from streamtag.config.fields import read_secret
from streamtag.errors import StreamtagError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.client.tracker import FeedItem
from streamtag.feed.messages import Message

log = logging.getLogger(__name__)

HIGH_WATER = 1000
"""Messages that wait here for a slow receiver; all others wait in the journal."""
WAIT_SECONDS = 0.2
SAVE_SECONDS = 1.0
"""How often a position is written while nothing that is told happens."""
AGAIN_SECONDS = 5.0
"""After a feed or a disk that cannot be used."""
FAREWELL_SECONDS = 1.0


class Webhook:
    """One receiver.

    Args:
        whole: the daemon's configuration.
        config: of the webhook.
        stop: ends it.

    Raises:
        StreamtagError: its secret or its position cannot be read.
    """

    def __init__(self, whole: Config, config: WebhookConfig, stop: threading.Event) -> None:
        self._whole, self._config, self._stop = whole, config, stop
        secret = read_secret(
            f"webhook {config.name!r}.secret", config.secret, config.secret_file, config.secret_env
        )
        self.position: Position = load_position(Path(config.position))
        self._delivery = Delivery(config, secret, stop)
        self._next_save = 0.0

    def run(self) -> None:
        """Until it is stopped."""
        while not self._stop.is_set():
            try:
                with self._feed() as feed:
                    self._follow(feed)
            except StreamtagError as error:
                log.error("webhook %s: %s", self._config.name, error)
                self._stop.wait(AGAIN_SECONDS)
        self._delivery.close()
        counts = self.position.counts
        log.info(
            "webhook %s: %d messages delivered, %d given up so far",
            *(self._config.name, counts.delivered, counts.given_up),
        )

    def _feed(self) -> Subscriber:
        chosen = self._config.events or ()
        return subscribe(
            self._whole,
            streams=self._config.streams,
            scores="scores" in chosen,
            mood="mood" in chosen,
            high_water=HIGH_WATER,
            since=self.position.topics,
        )

    def _follow(self, feed: Subscriber) -> None:
        while not self._stop.is_set():
            told, keys, behind = self._gathered(feed)
            if told and not self._tell(told, keys):
                return
            self.position.topics = behind
            now = time.monotonic()
            if told or now >= self._next_save:
                self._next_save = now + SAVE_SECONDS
                self.position.save()

    def _gathered(self, feed: Subscriber) -> tuple[list[FeedItem], list[str], Positions]:
        """What is there to be told, a batch at most, with keys; and the position behind it."""
        told: list[FeedItem] = []
        keys: list[str] = []
        message = feed.receive(WAIT_SECONDS)
        behind = dict(self.position.topics) if message is not None else self.position.topics
        while message is not None:
            if wants(self._config, message):
                told.append(message)
                keys.append(key_of(message, behind))
            _pass(message, behind)
            if len(told) >= self._config.batch or self._stop.is_set():
                break
            message = feed.receive(0)
        return told, keys, behind

    def _tell(self, told: list[FeedItem], keys: list[str]) -> bool:
        """Whether it is settled; otherwise the position stays where it was."""
        body = body_of(told, keys, as_list=self._config.batch > 1)
        key = keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}"
        what = str(told[0]) if len(told) == 1 else f"{len(told)} messages from {told[0]}"
        outcome = self._delivery.deliver(body, key, what)
        if outcome is Outcome.STOPPED:
            return False
        if outcome is Outcome.DELIVERED:
            self.position.counts.delivered += len(told)
        else:
            self.position.counts.given_up += len(told)
            log.error(
                "webhook %s: %d messages given up so far",
                *(self._config.name, self.position.counts.given_up),
            )
        return True


def _pass(message: FeedItem, topics: Positions) -> None:
    if isinstance(message, Message):
        topics[message.topic] = (message.epoch, message.seq)
    elif message.restarted:
        topics.pop(message.topic, None)


def run(path: Path) -> int:
    """Runs all webhooks of a configuration until told to end; the exit code.

    Raises:
        StreamtagError: the configuration, a secret or a position cannot be used.
    """
    whole = load_running_config(path)
    configs = configured(whole.webhook, path, "[[webhook]]", "webhooks.md")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every request
    with ending() as end:
        webhooks = [Webhook(whole, config, end.event) for config in configs]
        threads = [threading.Thread(target=webhook.run, daemon=True) for webhook in webhooks]
        for thread in threads:
            thread.start()
        while not end:
            end.event.wait(WAIT_SECONDS)
        end.event.set()
        deadline = time.monotonic() + FAREWELL_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return 0
