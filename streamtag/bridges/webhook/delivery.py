"""Requests of a webhook: their body, key and signature, and trying until one is delivered."""

import hashlib
import hmac
import json
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

import httpx

import streamtag
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.bridges import WebhookConfig
from streamtag.feed.client.tracker import FeedItem, MissedMessages
from streamtag.feed.messages import VERSION, Other, dump

log = logging.getLogger(__name__)

RETRIED_STATUSES = {408, 425, 429}
"""Status codes below 500 after which a request is tried again."""
MAX_RESPONSE = 65_536
"""Bytes of a response that are read so that the connection can be used again."""


def key_of(message: FeedItem, positions: Mapping[str, tuple[str, int]]) -> str:
    """The idempotency key of a message, `EPOCH/TOPIC/SEQ`: the same for every try.

    `positions` are epoch and number of the message before it, per topic.
    """
    if isinstance(message, MissedMessages):
        epoch, seq = positions.get(message.topic, ("", 0))
        return f"{epoch}/{message.topic}{seq}+missed"
    return f"{message.epoch}/{message.topic}{message.seq}"


def body_of(messages: Sequence[FeedItem], keys: Sequence[str], *, as_batch: bool) -> bytes:
    """The body of a request: one message as it is on the feed, or a batch."""
    if not as_batch:
        return _payload(messages[0])
    ids = json.dumps(list(keys), separators=(",", ":"))
    joined = b",".join(map(_payload, messages)).decode()
    return f'{{"v":{VERSION},"type":"batch","ids":{ids},"messages":[{joined}]}}'.encode()


def _payload(message: FeedItem) -> bytes:
    if isinstance(message, MissedMessages):
        body: dict[str, Any] = {"v": VERSION, "type": "missed", "topic": message.topic}
        body |= {"count": message.count, "restarted": message.restarted, "reason": message.reason}
    elif isinstance(message, Other):
        body = {"v": VERSION, "type": message.kind, "epoch": message.epoch, "seq": message.seq}
        body |= {"stream": message.stream, "t": message.t, "utc": message.utc} | message.fields
    else:
        return dump(message)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secret: str, body: bytes, now: int) -> str:
    """The signature header: HMAC-SHA256 over the time, in seconds since 1970, and the body.

    The receiver, which has the same secret, refuses old ones.
    """
    digest = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={digest}"


class Outcome(Enum):
    """The result of a delivery."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """The receiver will never accept it."""
    GIVEN_UP = "given up"
    """It was tried for too long."""
    STOPPED = "stopped"
    """The bridge ends; the next one tries again."""


class Delivery:
    """Requests to one receiver, one after the other, signed if there is a secret.

    `stop` interrupts a wait. `jitter` gives a number in [0, 1).
    """

    def __init__(
        self,
        config: WebhookConfig,
        secret: str,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config, self._secret, self._stop = config, secret, stop
        self._clock, self._jitter = clock, jitter
        context = ssl.create_default_context(cafile=config.ca_file) if config.ca_file else True
        self._client = httpx.Client(timeout=config.timeout_seconds, verify=context)

    def deliver(self, body: bytes, key: str, what: str) -> Outcome:
        """Posts JSON under an idempotency key until it is delivered, refused or too old; `what`
        names it in the log."""
        config, started_at, failures = self._config, self._clock(), 0
        policy = BackoffPolicy(config.retry_seconds, config.longest_retry_seconds)
        backoff = Backoff(policy, self._jitter)
        while not self._stop.is_set():
            status, why, retry_after = self._post(body, key)
            if 200 <= status < 300:
                return Outcome.DELIVERED
            if 0 < status < 500 and status not in RETRIED_STATUSES:
                log.error("webhook %s: refused %s: %s", config.name, what, why)
                return Outcome.REFUSED
            wait = max(backoff.failed(), retry_after)
            failures += 1
            elapsed = self._clock() - started_at
            if config.give_up_seconds and elapsed + wait > config.give_up_seconds:
                log.error(
                    "webhook %s: gave up %s after %d tries in %.0f s: %s",
                    *(config.name, what, failures, elapsed, why),
                )
                return Outcome.GIVEN_UP
            log.warning("webhook %s: %s: %s; trying again in %.1f s", config.name, what, why, wait)
            self._stop.wait(wait)
        return Outcome.STOPPED

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _post(self, body: bytes, key: str) -> tuple[int, str, float]:
        """Tries once: the status code (0 without a response), what is wrong, and how many seconds
        `Retry-After` asks for."""
        headers = {
            **self._config.headers,
            "Content-Type": "application/json",
            "User-Agent": f"streamtag/{streamtag.__version__}",
            "Idempotency-Key": key,
        }
        if self._secret:
            headers["X-Streamtag-Signature"] = signature(self._secret, body, int(time.time()))
        deadline = self._clock() + self._config.timeout_seconds
        try:
            with self._client.stream(
                "POST", self._config.url, content=body, headers=headers
            ) as response:
                self._read(response, deadline)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            return 0, f"{type(error).__name__}: {error}".rstrip(": "), 0.0
        why = f"{response.status_code} {response.reason_phrase}".strip()
        if response.is_redirect:
            why += f" to {response.headers.get('Location', 'nowhere')[:200]}, which is not followed"
        return response.status_code, why, _retry_after(response)

    def _read(self, response: httpx.Response, deadline: float) -> None:
        """Reads a short response, so that its connection can be used again."""
        length = 0
        try:
            for part in response.iter_raw():
                length += len(part)
                if length > MAX_RESPONSE or self._clock() > deadline:
                    return
        except httpx.HTTPError as error:  # the status code has arrived, and only it matters
            log.debug("webhook %s: the response broke off: %s", self._config.name, error)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the header `Retry-After` asks to wait; 0 without a valid one."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
