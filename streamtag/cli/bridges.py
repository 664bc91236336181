"""The commands of the bridges, such as `streamtag web` and `streamtag mqtt`: each runs one."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from streamtag.config.bridge_kinds import KINDS, BridgeKind
from streamtag.errors import ConfigError

Configuration = Annotated[Path, typer.Argument(help="The daemon's configuration, a TOML file.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]

STARTED_BY = "The daemon starts this command itself."
MODULES_AND_HELP = {
    "web": (
        "streamtag.bridges.web.server",
        "Serves a daemon's feed over HTTP (table web): state, history, server-sent events, "
        "WebSocket and a page to look at.",
    ),
    "mqtt": (
        "streamtag.bridges.mqtt.bridge",
        "Publishes a daemon's state to an MQTT broker (table mqtt): retained topics per "
        "stream and tag, and Home Assistant's discovery.",
    ),
    "webhook": (
        "streamtag.bridges.webhook.bridge",
        "Posts a daemon's events by HTTP (tables webhook), in order and at least once, also "
        "across restarts.",
    ),
    "osc": (
        "streamtag.bridges.osc",
        "Sends a daemon's state to lights and sound desks as OSC (table osc).",
    ),
    "nats": (
        "streamtag.bridges.nats",
        "Publishes a daemon's messages to NATS JetStream (table nats), each once, also across "
        "restarts of either.",
    ),
    "notify": (
        "streamtag.bridges.notifier",
        "Tells people of a daemon's alerts through Apprise (table notify): mail, chat, SMS …",
    ),
}
"""Per bridge: the module whose function `run` runs it, and the help of its command."""


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds the commands to the application."""
    for kind in KINDS:
        module, text = MODULES_AND_HELP[kind.name]
        command = _command(kind, module)
        app.command(kind.name, rich_help_panel=panel, help=f"{text}\n\n{STARTED_BY}")(command)


def _command(kind: BridgeKind, module: str) -> Callable[..., None]:
    def run(config: Configuration, verbose: Verbose = False) -> None:
        from streamtag.bridges.bridge import load_running_config
        from streamtag.daemon.ops.logs import configure_logging

        if fault := kind.missing():
            raise ConfigError(f"{config}: {fault}")
        configure_logging(load_running_config(config).log.style, verbose=verbose)
        raise typer.Exit(import_module(module).run(config))

    return run
