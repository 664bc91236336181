"""A connection to an MQTT broker that reconnects, each time with a new client.

paho could reconnect by itself (`reconnect_delay_set`), but then it first sends again what it could
not deliver before the break, which may be outdated. It waits without jitter, and it does not report
why a connection failed. So every connection has a client of its own.
"""

import contextlib
import logging
import queue
import socket
import ssl
import threading
import typing
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from streamtag.bridges.mqtt.topics import OFFLINE, bridge_topic
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.bridges import MqttConfig

log = logging.getLogger(__name__)

MAX_UNACKNOWLEDGED = 200
"""Number of messages that may wait for the broker's acknowledgement."""
CONNECT_SECONDS = 10.0
"""How long the broker may take to accept a connection."""


class BrokerConnection:
    """Keeps one connection at a time open, in a thread, and subscribes to the topic filters.

    The password is empty for none.
    """

    def __init__(self, config: MqttConfig, password: str, topics: Sequence[str]) -> None:
        self._config, self._password, self._topics = config, password, topics
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._client: paho.Client | None = None
        self.n_unacknowledged = 0
        """Number of messages that the broker has not acknowledged yet."""
        self._received: list[tuple[str, bytes, bool]] = []
        self.generation = 0
        """Number of connections that the broker has accepted."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether the broker is connected."""
        return self._client is not None

    @property
    def room(self) -> int:
        """Number of messages that may be published now."""
        return MAX_UNACKNOWLEDGED - self.n_unacknowledged if self._client else 0

    def received(self) -> list[tuple[str, bytes, bool]]:
        """The messages received since the last call: topic, payload, whether it was retained."""
        with self._lock:
            found, self._received = self._received, []
        return found

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> bool:
        """Publishes a message at QoS 1; returns whether there is a connection."""
        with self._lock:
            if (client := self._client) is None:
                return False
            self.n_unacknowledged += 1
        result = client.publish(topic, payload, qos=1, retain=retain)
        return result.rc == paho.MQTT_ERR_SUCCESS

    def unsubscribe(self) -> None:
        """Unsubscribes from the topics until the next connection."""
        if client := self._client:
            client.unsubscribe(list(self._topics))

    def close(self, seconds: float = 1.0) -> None:
        """Disconnects properly, so that the broker does not publish the last will."""
        self._closing.set()
        if client := self._client:
            client.disconnect()
        self._thread.join(seconds)

    def _run(self) -> None:
        config = self._config
        backoff = Backoff(BackoffPolicy(config.retry_seconds, config.longest_retry_seconds))
        while not self._closing.is_set():
            before = self.generation
            reason = self._connect_once()
            if self._closing.is_set():
                return
            if self.generation > before:
                backoff.worked()
            wait, (host, port) = backoff.failed(), config.address
            log.warning("mqtt %s:%d: %s; trying again in %.1f s", host, port, reason, wait)
            self._closing.wait(wait)

    def _connect_once(self) -> str:
        """Runs one connection until it ends; returns the reason."""
        outcomes: queue.SimpleQueue[str] = queue.SimpleQueue()  # empty text: connected
        try:
            client = self._make_client(outcomes)
            client.connect(*self._config.address, keepalive=self._config.keepalive_seconds)
        except (OSError, ValueError) as error:
            return f"cannot connect: {error}"
        client.loop_start()
        try:
            return outcomes.get(timeout=CONNECT_SECONDS) or outcomes.get()
        except queue.Empty:
            return "no answer to the connection request"
        finally:
            self._drop(client)

    def _make_client(self, outcomes: "queue.SimpleQueue[str]") -> paho.Client:
        config = self._config
        name = config.client_id or f"streamtag-{config.prefix}"
        client = paho.Client(CallbackAPIVersion.VERSION2, name, reconnect_on_failure=False)
        client.connect_timeout = CONNECT_SECONDS
        if config.user:
            client.username_pw_set(config.user, self._password or None)
        if config.tls:
            context = ssl.create_default_context(cafile=config.ca_file or None)
            if config.certificate_file:
                context.load_cert_chain(config.certificate_file, config.key_file or None)
            client.tls_set_context(context)
        client.will_set(bridge_topic(config.prefix), OFFLINE, qos=1, retain=True)

        def connected(client: paho.Client, _: Any, __: Any, code: ReasonCode, ___: Any) -> None:
            if code.is_failure:
                outcomes.put(f"refused: {code}")
                return
            if self._topics:
                client.subscribe([(topic, 1) for topic in self._topics])
            with self._lock:
                self._client, self.n_unacknowledged, self._received = client, 0, []
                self.generation += 1
            outcomes.put("")

        client.on_connect = connected
        client.on_disconnect = lambda _, __, ___, code, ____: outcomes.put(f"lost: {code}")
        client.on_publish = lambda *_: self._acknowledged(client)
        client.on_message = lambda _, __, message: self._receive(message)
        return client

    def _acknowledged(self, client: paho.Client) -> None:
        with self._lock:
            if client is self._client:
                self.n_unacknowledged = max(0, self.n_unacknowledged - 1)

    def _receive(self, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._received.append((message.topic, bytes(message.payload), message.retain))

    def _drop(self, client: paho.Client) -> None:
        with self._lock:
            self._client = None
        if (held := client.socket()) is not None:
            with contextlib.suppress(OSError):
                typing.cast(socket.socket, held).shutdown(socket.SHUT_RDWR)
        client.disconnect()
        client.loop_stop()
