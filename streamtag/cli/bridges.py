"""`streamtag mqtt` and its like: the feed, told elsewhere. Like `cli`, it may exit."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from streamtag.config.bridge_kinds import KINDS
from streamtag.errors import ConfigError

Configuration = Annotated[Path, typer.Argument(help="The daemon's configuration, a TOML file.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]


def _set_up(path: Path, verbose: bool, name: str) -> None:
    from streamtag.bridges.bridge import config_of
    from streamtag.daemon.ops.logs import configure_logging

    if fault := next(kind for kind in KINDS if kind.name == name).missing():
        raise ConfigError(f"{path}: {fault}")
    configure_logging(config_of(path).log.style, verbose=verbose)


def _mqtt(config: Configuration, verbose: Verbose = False) -> None:
    """Tells an MQTT broker what a daemon hears (its table mqtt); the daemon starts this itself.

    Retained topics per stream and tag, and Home Assistant's discovery.
    """
    _set_up(config, verbose, "mqtt")
    from streamtag.bridges.mqtt.bridge import run_mqtt

    raise typer.Exit(run_mqtt(config))


def _web(config: Configuration, verbose: Verbose = False) -> None:
    """Serves a daemon's feed over HTTP (its table web); the daemon starts this itself.

    State, history, server-sent events, WebSocket, and a page to hang on a wall.
    """
    _set_up(config, verbose, "web")
    from streamtag.bridges.web.server import run_web

    raise typer.Exit(run_web(config))


def _webhook(config: Configuration, verbose: Verbose = False) -> None:
    """Posts what a daemon hears by HTTP (its tables webhook); the daemon starts this itself.

    At least once each and in order; a restart of anything loses nothing.
    """
    _set_up(config, verbose, "webhook")
    from streamtag.bridges.webhook.bridge import run_webhooks

    raise typer.Exit(run_webhooks(config))


def _osc(config: Configuration, verbose: Verbose = False) -> None:
    """Tells lights and desks what a daemon hears, by OSC (its table osc); the daemon starts this
    itself.
    """
    _set_up(config, verbose, "osc")
    from streamtag.bridges.osc.bridge import run_osc

    raise typer.Exit(run_osc(config))


def add_bridges_to(app: typer.Typer, panel: str) -> None:
    """Adds the commands."""
    commands: dict[str, Callable[..., None]] = {
        "web": _web,
        "mqtt": _mqtt,
        "webhook": _webhook,
        "osc": _osc,
    }
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)
