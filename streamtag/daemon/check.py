"""All checks of a configuration that need no running daemon: `streamtag check`."""

import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamtag.bridges.supervision import missing_libraries
from streamtag.config.alerts import NotifyConfig
from streamtag.config.all_errors import validate_all
from streamtag.config.config import Config, read_toml
from streamtag.config.feed import FeedConfig
from streamtag.config.model_fit import bundle_of, misfits
from streamtag.daemon.admission import trusted_bundle
from streamtag.daemon.alerting import idle_alerts
from streamtag.errors import BundleError, ConfigError, FeedError
from streamtag.feed.journal.database import path_problem
from streamtag.feed.keys import read_authorised, read_pair
from streamtag.model.card import Card
from streamtag.sources.tls import UNVERIFIED_SEGMENTS

_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):(\d{1,5}|\*)|ipc://.+|inproc://.+")
LONGEST_SOCKET = 107
"""The most bytes of a Unix-domain socket's path on Linux."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with a configuration file."""

    errors: tuple[str, ...]
    """Complaints about what keeps a daemon from running."""
    warnings: tuple[str, ...] = ()
    """Complaints about what affects single streams or bridges only, such as a missing file."""
    config: Config | None = None
    """The configuration without its faulty parts; None if too little is left."""


def examine(path: Path, also: Callable[[Config], Iterable[str]] | None = None) -> Findings:
    """Checks a file. Every complaint begins with the file's name.

    `also` gives further complaints about a configuration that is valid so far.
    """
    try:
        table = read_toml(path)
    except ConfigError as error:
        return Findings(tuple(str(error).splitlines()))
    config, errors = validate_all(table, path.resolve().parent)
    warnings: list[str] = []
    if config is not None:
        if also is not None and not errors:  # else it is not the file's configuration
            errors += also(config)
        errors += _errors(config)
        warnings += _warnings(config)
    return Findings(
        tuple(f"{path}: {line}" for line in errors),
        tuple(f"{path}: {line}" for line in warnings),
        config,
    )


def complaints_about(path: Path) -> list[str]:
    """All complaints about a file. Each line begins with the file's name."""
    found = examine(path)
    return [*found.errors, *found.warnings]


def checked_config(path: Path, also: Callable[[Config], Iterable[str]] | None = None) -> Config:
    """Reads the configuration of a daemon. For `also` see `examine`.

    Raises:
        ConfigError: no daemon can run with it. The message has all complaints.
    """
    found = examine(path, also)
    if found.config is None or found.errors:
        raise ConfigError("\n".join([*found.errors, *found.warnings]))
    return found.config


def is_bindable(address: str) -> bool:
    """Whether this is an address that a feed can be bound to."""
    found = _ADDRESS.fullmatch(address)
    return found is not None and (not (found[2] or "").isdigit() or int(found[2]) < 65_536)


def _errors(config: Config) -> Iterator[str]:
    if not is_bindable(config.feed.bind):
        yield (
            "feed.bind: expected an address such as tcp://127.0.0.1:5757 or ipc:///path, "
            f"got {config.feed.bind!r:.200}"
        )
    yield from _key_errors(config.feed)
    if config.feed.journal and (fault := path_problem(Path(config.feed.journal))):
        yield f"feed.journal: {fault}"
    if config.control.enabled:
        yield from _socket_errors(config.control.socket)
    yield from missing_libraries(config)
    cards: dict[str, Card] = {}
    for name, tagger in config.taggers.items():
        try:
            cards[name] = trusted_bundle(bundle_of(tagger), config.models, tagger.sha256).card
        except BundleError as error:
            yield f"taggers.{name}.bundle: {error}"
    if cards.keys() == config.taggers.keys():
        faults = list(misfits(config, cards))
        yield from faults
        if not faults:
            yield from idle_alerts(config, cards)


def _warnings(config: Config) -> Iterator[str]:
    yield from _stream_warnings(config)
    if config.feed.secret_key:
        with suppress(FeedError):  # it is among the errors
            for line in read_authorised(Path(config.feed.authorised_keys))[1]:
                yield f"feed.authorised_keys: {line}"
    for key, table in (("web", config.web), ("mqtt", config.mqtt), ("nats", config.nats)):
        if table:
            yield from table.missing_files(key)
    if config.notify:
        yield from config.notify.missing_files("notify") or _address_faults(config.notify)
    for webhook in config.webhook:
        yield from webhook.missing_files(f"webhook {webhook.name!r}")


def _address_faults(notify: NotifyConfig) -> Iterator[str]:
    """Addresses that Apprise refuses, or whose secrets cannot be read."""
    if not importlib.util.find_spec("apprise"):
        return  # it is among the errors
    from streamtag.bridges.notifier import address_fault

    for name, target in notify.targets.items():
        if fault := address_fault(name, target):
            yield fault


def _key_errors(feed: FeedConfig) -> Iterator[str]:
    if not feed.secret_key:
        return
    try:
        read_pair(Path(feed.secret_key))
    except FeedError as error:
        yield f"feed.secret_key: {error}"
    try:
        read_authorised(Path(feed.authorised_keys))
    except FeedError as error:
        yield f"feed.authorised_keys: {error}"


def _socket_errors(socket: str) -> Iterator[str]:
    if len(socket.encode(errors="replace")) > LONGEST_SOCKET:
        most = f"a path of at most {LONGEST_SOCKET} bytes"
        yield f"control.socket: expected {most}, got {socket!r:.200}"
    elif socket and not os.path.isdir(Path(socket).parent):
        yield f"control.socket: expected a path in a folder that exists, got {socket!r:.200}"


def _stream_warnings(config: Config) -> Iterator[str]:
    """Files and folders of streams that do not exist, and settings without effect."""
    for name, stream in config.streams.items():
        if stream.kind in ("file", "sdp") and not os.path.isfile(stream.place):
            yield f"streams.{name}.source: expected an existing file, got {stream.place!r:.200}"
        if stream.kind == "folder" and not os.path.isdir(stream.place):
            yield f"streams.{name}.source: expected an existing folder, got {stream.place!r:.200}"
        if not stream.tls_verify and ".m3u8" in stream.place:
            got = f"expected true for a playlist, got false; {UNVERIFIED_SEGMENTS}"
            yield f"streams.{name}.tls_verify: {got}"
        yield from stream.missing_files(f"streams.{name}")
