"""One request of a webhook, tried until it is taken, refused, or too old."""

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from enum import Enum

import httpx

import streamtag
from streamtag.bridges.webhook.body import signature
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.bridges import WebhookConfig

log = logging.getLogger(__name__)

AGAIN = {408, 425, 429}
"""Statuses below 500 after which it is worth trying again."""
LONGEST_ANSWER = 65_536
"""Bytes of an answer that are read, so that the connection can be used again."""


class Outcome(Enum):
    """What became of a request."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """The receiver will never take it."""
    GIVEN_UP = "given up"
    """Tried for too long."""
    STOPPED = "stopped"
    """The bridge ends: it is tried again by the next one."""


class Delivery:
    """Requests to one receiver, one after the other.

    Args:
        config: of the webhook.
        secret: signs; empty for no signature.
        stop: ends a wait.
        clock: seconds.
        jitter: a number in [0, 1).
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
        self.tries = 0
        """Requests that were made."""

    def deliver(self, body: bytes, key: str, what: str) -> Outcome:
        """Posts a body until something comes of it.

        Args:
            body: JSON.
            key: the same whenever this body is posted.
            what: for the log.
        """
        config, began, failures = self._config, self._clock(), 0
        policy = BackoffPolicy(config.retry_seconds, config.longest_retry_seconds)
        backoff = Backoff(policy, self._jitter)
        while not self._stop.is_set():
            status, why, asked = self._post(body, key)
            if 200 <= status < 300:
                return Outcome.DELIVERED
            if 0 < status < 500 and status not in AGAIN:
                log.error("webhook %s: refused %s: %s", config.name, what, why)
                return Outcome.REFUSED
            wait = max(backoff.failed(), asked)
            failures += 1
            spent = self._clock() - began
            if config.give_up_seconds and spent + wait > config.give_up_seconds:
                log.error(
                    "webhook %s: gave up %s after %d tries in %.0f s: %s",
                    *(config.name, what, failures, spent, why),
                )
                return Outcome.GIVEN_UP
            log.warning("webhook %s: %s: %s; again in %.1f s", config.name, what, why, wait)
            self._stop.wait(wait)
        return Outcome.STOPPED

    def close(self) -> None:
        """Ends its connections."""
        self._client.close()

    def _post(self, body: bytes, key: str) -> tuple[int, str, float]:
        """One try: status (0 for none), why it failed, and how long the receiver wants to be left
        alone."""
        self.tries += 1
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
            ) as answer:
                self._read(answer, deadline)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            return 0, f"{type(error).__name__}: {error}".rstrip(": "), 0.0
        why = f"{answer.status_code} {answer.reason_phrase}".strip()
        if answer.is_redirect:
            why += f" to {answer.headers.get('Location', 'nowhere')[:200]}, which is not followed"
        return answer.status_code, why, _retry_after(answer)

    def _read(self, answer: httpx.Response, deadline: float) -> None:
        """Reads a short answer, so that its connection lives on; a long or slow one is left."""
        length = 0
        try:
            for part in answer.iter_raw():
                length += len(part)
                if length > LONGEST_ANSWER or self._clock() > deadline:
                    return
        except httpx.HTTPError as error:  # the status had come: that counts
            log.debug("webhook %s: the answer broke off: %s", self._config.name, error)


def _retry_after(answer: httpx.Response) -> float:
    """Seconds that a `Retry-After` asks for; 0 without a sensible one."""
    text = answer.headers.get("Retry-After", "")
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
