"""The commands that carry the feed elsewhere; `streamtag run` starts the same ones by itself."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from streamtag.bridge_kinds import KINDS, Kind
from streamtag.errors import ConfigError


def add_bridges(app: typer.Typer, panel: str) -> None:
    """A command for each kind of bridge there is."""
    for kind in KINDS:
        app.command(kind.name, rich_help_panel=panel, help=kind.summary)(_command(kind))


def _command(kind: Kind) -> Callable[..., None]:
    def command(
        config: Annotated[Path, typer.Argument(help="The daemon's configuration, a TOML file.")],
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    ) -> None:
        run_bridge(kind, config, verbose=verbose)

    return command


def run_bridge(kind: Kind, path: Path, *, verbose: bool = False) -> None:
    """Runs a bridge until it ends.

    Raises:
        StreamtagError: it is not configured, or cannot run.
    """
    from streamtag.bridge import end_with_daemon, place_of
    from streamtag.config import load_config
    from streamtag.logs import set_up

    config = load_config(path)
    if not kind.configured(config):
        raise ConfigError(f"{path}: {kind.name}: expected this table, got none")
    if fault := kind.missing():
        raise ConfigError(f"{path}: {fault}")
    set_up(config.log.style, verbose=verbose)
    place = place_of(config)
    if place.by_daemon:
        end_with_daemon()
    importlib.import_module(kind.module).serve(config, place)
