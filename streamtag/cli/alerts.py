"""The commands `streamtag alerts …`, which try rules and notifications without a daemon."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamtag.cli.output import note, print_json
from streamtag.errors import ConfigError, StreamtagError
from streamtag.feed.timestamps import parse_moment, rfc3339

if TYPE_CHECKING:
    from streamtag.config.alerts import AlertConfig
    from streamtag.config.config import Config
    from streamtag.feed.messages import AlertRaised

alerts = typer.Typer(no_args_is_help=True, help="Tries the rules of a configuration.")
Configuration = Annotated[
    Path,
    typer.Option("--config", "-c", help="The daemon's configuration."),
]
DEFAULT = Path("streamtag.toml")


@alerts.command("test")
def send_test(
    name: Annotated[str, typer.Argument(help="Name of a rule.")],
    config: Configuration = DEFAULT,
) -> None:
    """Sends a notification as the rule would, marked as a test, to each of its targets.

    No daemon has to run. Exits with 1 if one could not be sent.
    """
    from streamtag.bridges.notifier import AppriseSender, text_of
    from streamtag.config.config import load_config

    loaded = load_config(config)
    rule = _rule(loaded, config, name)
    if loaded.notify is None:
        raise ConfigError(f"{config}: expected a table [notify], got none; see docs/alerts.md")
    title, body, kind = text_of(example(rule), loaded.notify.link)
    names = tuple(loaded.notify.targets) if rule.notify is None else rule.notify
    if not names:
        raise ConfigError(f"{config}: alert {name!r}: notify: expected a target, got none")
    failed = False
    for target in names:
        sender = AppriseSender(target, loaded.notify.targets[target])
        why = sender.send(f"[TEST] {title}", body, kind)
        print(f"{target}: {why or 'sent'}")
        failed |= bool(why)
    raise typer.Exit(int(failed))


@alerts.command()
def replay(
    config: Configuration = DEFAULT,
    since: Annotated[
        str, typer.Option("--from", help="Start: 2026-11-21T10:30 (UTC), a date, or -7d.")
    ] = "-7d",
    until: Annotated[str, typer.Option("--to", help="End, not included.")] = "now",
    journal: Annotated[
        Path | None, typer.Option("--journal", "-j", help="Another journal than the daemon's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Prints the alerts that the rules would have raised in the journal. Nobody is notified.

    The daemon's health is not in a journal, and shares need an hour of it before the start.
    """
    import msgspec

    from streamtag.config.config import load_config
    from streamtag.daemon.alerting import categories_of
    from streamtag.history.history import History
    from streamtag.monitoring.alert_replay import replay as replayed

    loaded, now = load_config(config), time.time_ns()
    path = journal or (Path(loaded.feed.journal) if loaded.feed.journal else None)
    if path is None:
        raise ConfigError(f"{config}: feed.journal: expected a path, got none; or give --journal")
    try:
        begin, end = parse_moment(since, now), parse_moment(until, now)
    except ValueError as error:
        raise StreamtagError(f"--from, --to: {error}") from None
    history = History(path)
    try:
        made = replayed(history, loaded.alert, categories_of(loaded), begin, end)
    finally:
        history.close()
    if as_json:
        print_json(msgspec.to_builtins(made))
        return
    table = Table(box=None, header_style="dim")
    for column in ("time (UTC)", "", "alert", ""):
        table.add_column(column, overflow="fold")
    for message in made:
        word = message.type.removeprefix("alert_")
        table.add_row(message.utc[:19], word, message.alert, Text(message.detail))
    Console().print(table)
    note(f"{sum(m.type == 'alert_raised' for m in made)} alerts from {rfc3339(begin)[:19]}")


def _rule(loaded: "Config", path: Path, name: str) -> "AlertConfig":
    for rule in loaded.alert:
        if rule.name == name:
            return rule
    known = ", ".join(rule.name for rule in loaded.alert) or "none"
    raise ConfigError(f"{path}: expected an alert of {known}; got {name!r:.60}")


def example(rule: "AlertConfig") -> "AlertRaised":
    """A message as the rule would make, about no real stream."""
    from streamtag.feed.messages import AlertRaised

    utc = rfc3339(time.time_ns())
    return AlertRaised(
        epoch="",
        seq=0,
        stream="",
        t=0.0,
        utc=utc,
        alert=rule.name,
        id=f"{rule.name}@test",
        streams=rule.streams,
        severity=rule.severity,
        since_utc=utc,
        detail=f"test of rule {rule.name}: {rule.text or rule.when.replace('_', ' ')}",
        notify=(),
        quiet_until="",
        remind_seconds=rule.remind_seconds,
    )
