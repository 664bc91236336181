"""Connects the agent of a fleet to the daemon's commands and output."""

import logging
import pickle
import subprocess
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any

from streamtag.config.config import Config
from streamtag.daemon.command_executor import CommandExecutor, StreamsChange
from streamtag.daemon.fleet.agent import FleetAgent
from streamtag.daemon.fleet.gate import LeaseGate
from streamtag.daemon.output import EventOutput
from streamtag.errors import FleetError
from streamtag.feed.messages import Message

log = logging.getLogger(__name__)


class FleetHost:
    """Gives a `FleetAgent` access to the executor of commands and the output."""

    def __init__(self, executor: CommandExecutor, output: EventOutput) -> None:
        self._executor, self._output = executor, output

    def change(self, add: Mapping[str, Any], remove: Collection[str]) -> Future[object]:
        """Adds, replaces and removes streams."""
        return self._executor.submit(StreamsChange(add, remove))

    def publish(self, messages: list[Message]) -> None:
        """Publishes messages that have no numbers yet."""
        self._output.publish_derived(*messages)

    def numbering(self, topic: str) -> tuple[str, int]:
        """Epoch and newest number of a topic."""
        return self._output.numbering(topic)


def open_fleet(
    config: Config, executor: CommandExecutor, output: EventOutput, gate: LeaseGate
) -> FleetAgent:
    """Joins the fleet of a configuration.

    Raises:
        StreamtagError: JetStream or the fleet cannot be used.
    """
    assert config.fleet is not None
    assert config.nats is not None
    capacity = config.fleet.capacity or _measured(config)
    host = FleetHost(executor, output)
    agent = FleetAgent(
        config.fleet, config.nats, host, gate, capacity, _tables(config), output.address
    )
    agent.join()
    executor.on_reload.append(lambda new: agent.use(_tables(new)))
    return agent


def _tables(config: Config) -> dict[str, Any]:
    """The tables of all streams, with values that JSON has."""
    tables: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True)["streams"]
    return tables


_MEASURE = """
import pickle, sys
from streamtag.daemon.capacity import machine_capacity
print(*machine_capacity(pickle.load(sys.stdin.buffer)))
"""


def _measured(config: Config) -> float:
    """Measures the capacity of this machine in a process of its own; a number of streams.

    Raises:
        FleetError: measuring has failed.
    """
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], input=pickle.dumps(config), capture_output=True
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason"]
        raise FleetError(
            f"fleet.capacity: expected to measure it, got {why[-1]}; set it to a number of streams"
        )
    streams, bound_by = done.stdout.decode().split()
    log.info("fleet: capacity of this machine: about %s streams, limited by %s", streams, bound_by)
    return max(1.0, float(streams))
