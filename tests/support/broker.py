"""A real Mosquitto on loopback, and a client that subscribes to all topics."""

import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from support.peers import Processes, start_on_free_port, wait_until

MOSQUITTO = "/usr/sbin/mosquitto"


class Broker:
    """Mosquitto without persistence: when it is killed, its retained messages are lost.

    Args:
        folder: for its configuration and its log.
        more: further lines of its configuration.
    """

    def __init__(self, folder: Path, *more: str) -> None:
        if not Path(MOSQUITTO).exists():
            pytest.skip("mosquitto is not installed; `.ci/peers` lists the packages")
        folder.mkdir()
        self.processes, self._config = Processes(folder), folder / "mosquitto.conf"
        self._lines = ["persistence false", *more]
        self._lines += ["allow_anonymous true"] * (not any("password_file" in x for x in more))
        self._lines += ["user root"] * (os.getuid() == 0)
        self.port = start_on_free_port(self._start_on)

    def start(self) -> None:
        """Starts it, and waits until it accepts connections."""
        assert self._starts(), self.processes.logs()

    def _start_on(self, port: int) -> bool:
        self._config.write_text("\n".join([f"listener {port} 127.0.0.1", *self._lines]) + "\n")
        return self._starts()

    def _starts(self) -> bool:
        self.process = process = self.processes.start(MOSQUITTO, "-v", "-c", str(self._config))
        wait_until(
            lambda: "running" in self.processes.logs() or process.poll() is not None,
            self.processes.logs,
        )
        return process.poll() is None

    def kill(self) -> None:
        """Kills the broker with SIGKILL; all retained messages are lost."""
        self.process.kill()
        self.process.wait()
        for log in self.processes.folder.glob("*.log"):
            log.write_text("")

    def close(self) -> None:
        self.processes.close()


class Client:
    """Subscribes to everything: it receives the retained messages first, then the live ones.

    Args:
        broker: the broker to connect to.
        set_up: sets further options of the client before it connects.
    """

    def __init__(self, broker: Broker, set_up: Callable[[paho.Client], object] = id) -> None:
        self.current: dict[str, str] = {}
        """The current payload of each topic."""
        self.retained: dict[str, str] = {}
        """The messages that were retained before this client connected."""
        self.received: list[tuple[str, str]] = []
        """Topic and payload of every message, in order."""
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _, __, message: self._on_message(message)
        set_up(self._client)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: str, *, retain: bool = True) -> None:
        self._client.publish(topic, payload, 1, retain).wait_for_publish(60)

    def wait(self, **wanted: str | None) -> None:
        """Waits until topics have these payloads; `__` in a name is `/`, None is an empty topic."""
        topics = {name.replace("__", "/"): value for name, value in wanted.items()}
        wait_until(
            lambda: all(self.current.get(topic) == value for topic, value in topics.items()),
            lambda: f"expected {topics}, got {json.dumps(self.current, indent=1)}",
        )

    def json(self, topic: str) -> Any:
        return json.loads(self.current[topic])

    def _on_message(self, message: paho.MQTTMessage) -> None:
        text = message.payload.decode()
        self.received.append((message.topic, text))
        if message.retain:
            self.retained[message.topic] = text
        if text:
            self.current[message.topic] = text
        else:
            self.current.pop(message.topic, None)


def add_user(folder: Path, name: str, password: str) -> Path:
    """Writes a password file for Mosquitto."""
    path = folder / "users"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(path), name, password], check=True, capture_output=True
    )
    return path
