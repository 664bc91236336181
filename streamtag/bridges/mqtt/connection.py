"""A connection to an MQTT broker that comes back by itself, each time as a new one.

paho would send again what it could not deliver before a break, perhaps after newer news; so every
connection is a client of its own that knows nothing of the one before.
"""

import contextlib
import logging
import socket
import ssl
import threading
import typing
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from streamtag.bridges.mqtt.topics import OFFLINE, bridge_topic
from streamtag.config.backoff import Backoff, BackoffPolicy
from streamtag.config.bridges import MqttConfig

log = logging.getLogger(__name__)

ROOM = 200
"""Messages that the broker has not acknowledged, at most."""
CONNECT_SECONDS = 10.0


class Link:
    """Looks after one connection at a time, in a thread.

    Args:
        config: where and how.
        password: of the account; empty for none.
        listens: topics to subscribe to at every connection.
    """

    def __init__(self, config: MqttConfig, password: str, listens: tuple[str, ...]) -> None:
        self._config, self._password, self._listens = config, password, listens
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._client: paho.Client | None = None
        self._unacked = 0
        self._heard: list[tuple[str, bytes, bool]] = []
        self.generation = 0
        """Counts the connections that the broker has accepted."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begins to connect."""
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether the broker is there."""
        return self._client is not None

    @property
    def room(self) -> int:
        """How many messages may be handed over now."""
        return ROOM - self._unacked if self._client else 0

    @property
    def unacknowledged(self) -> int:
        """Messages that the broker has not confirmed yet."""
        return self._unacked

    def heard(self) -> list[tuple[str, bytes, bool]]:
        """What the broker said since the last look: topic, payload, whether it was retained."""
        with self._lock:
            found, self._heard = self._heard, []
        return found

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> bool:
        """Hands a message over, at QoS 1; whether there is somebody to take it."""
        with self._lock:
            if (client := self._client) is None:
                return False
            self._unacked += 1
        done = client.publish(topic, payload, qos=1, retain=retain)
        return done.rc == paho.MQTT_ERR_SUCCESS

    def unsubscribe(self) -> None:
        """Listens no more, until the next connection."""
        if client := self._client:
            client.unsubscribe(list(self._listens))

    def close(self, seconds: float = 1.0) -> None:
        """Says goodbye to the broker, so that the last will stays unsaid."""
        self._closing.set()
        if client := self._client:
            client.disconnect()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        config = self._config
        backoff = Backoff(BackoffPolicy(config.retry_seconds, config.longest_retry_seconds))
        while not self._closing.is_set():
            before = self.generation
            fault = self._connection()
            if self._closing.is_set():
                return
            if self.generation > before:
                backoff.worked()
            wait, (host, port) = backoff.failed(), config.address
            log.warning("mqtt %s:%d: %s; again in %.1f s", host, port, fault, wait)
            self._closing.wait(wait)

    def _connection(self) -> str:
        """One connection from its beginning to its end; why it ended."""
        ended = _End()
        try:
            client = self._made(ended)
            client.connect(*self._config.address, keepalive=self._config.keepalive_seconds)
        except (OSError, ValueError) as error:
            return f"not reached: {error}"
        client.loop_start()
        try:
            if not ended.accepted.wait(CONNECT_SECONDS) and not ended.gone.is_set():
                return "no answer to the connection"
            ended.gone.wait()
        finally:
            self._let_go(client)
        return ended.why

    def _made(self, ended: "_End") -> paho.Client:
        config = self._config
        name = config.client_id or f"streamtag-{config.prefix}"
        client = paho.Client(CallbackAPIVersion.VERSION2, name, reconnect_on_failure=False)
        client.connect_timeout = CONNECT_SECONDS
        if config.user:
            client.username_pw_set(config.user, self._password or None)
        if config.tls:
            client.tls_set_context(self._context())
        client.will_set(bridge_topic(config.prefix), OFFLINE, qos=1, retain=True)

        def connected(client: paho.Client, _: Any, __: Any, code: ReasonCode, ___: Any) -> None:
            if code.is_failure:
                ended.end(f"refused: {code}")
                return
            if self._listens:
                client.subscribe([(topic, 1) for topic in self._listens])
            with self._lock:
                self._client, self._unacked, self._heard = client, 0, []
                self.generation += 1
            ended.accepted.set()

        client.on_connect = connected
        client.on_disconnect = lambda _, __, ___, code, ____: ended.end(f"lost: {code}")
        client.on_publish = lambda *_: self._acknowledged(client)
        client.on_message = lambda _, __, message: self._take(message)
        return client

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._config.ca_file or None)
        if self._config.certificate_file:
            context.load_cert_chain(self._config.certificate_file, self._config.key_file or None)
        return context

    def _acknowledged(self, client: paho.Client) -> None:
        with self._lock:
            if client is self._client:
                self._unacked = max(0, self._unacked - 1)

    def _take(self, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._heard.append((message.topic, bytes(message.payload), message.retain))

    def _let_go(self, client: paho.Client) -> None:
        with self._lock:
            self._client = None
        if (held := client.socket()) is not None:
            with contextlib.suppress(OSError):
                typing.cast(socket.socket, held).shutdown(socket.SHUT_RDWR)
        client.disconnect()
        client.loop_stop()


class _End:
    """What becomes of a connection."""

    def __init__(self) -> None:
        self.accepted, self.gone = threading.Event(), threading.Event()
        self.why = "lost"

    def end(self, why: str) -> None:
        """It is over; the first reason counts."""
        if not self.gone.is_set():
            self.why = why
            self.gone.set()
        self.accepted.set()
