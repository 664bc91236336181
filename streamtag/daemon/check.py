"""What can be said against a configuration without starting anything."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamtag.bridges.supervision import missing_libraries
from streamtag.config.all_errors import mended
from streamtag.config.config import Config, FeedConfig, at_home, read_toml
from streamtag.config.model_fit import bundle_of, misfits
from streamtag.errors import BundleError, ConfigError, FeedError
from streamtag.feed.journal.database import path_problem
from streamtag.feed.keys import read_authorised, read_pair
from streamtag.model.bundle import read_card
from streamtag.model.card import Card
from streamtag.sources.tls import UNVERIFIED_SEGMENTS

_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):(\d{1,5}|\*)|ipc://.+|inproc://.+")
LONGEST_SOCKET = 107
"""Bytes of a Unix-domain socket's path, on Linux."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is to be said against a configuration file."""

    refusals: tuple[str, ...]
    """Why no daemon runs with it, a line each."""
    doubts: tuple[str, ...] = ()
    """What ends single streams or bridges of a daemon only: a file that is not there."""
    config: Config | None = None
    """With absolute paths; None where there is too little left."""


def examine(path: Path, also: Callable[[Config], Iterable[str]] | None = None) -> Findings:
    """All that can be said against a file; every line begins with its name.

    Args:
        path: of the file.
        also: further reasons to refuse what is sound so far.
    """
    try:
        table = read_toml(path)
    except ConfigError as error:
        return Findings(tuple(str(error).splitlines()))
    config, refusals = mended(table)
    doubts: list[str] = []
    if config is not None:
        config = at_home(config, path.resolve().parent)
        if also is not None and not refusals:  # else it is not the file's configuration
            refusals += also(config)
        refusals += _refusals(config)
        doubts += _doubts(config)
    return Findings(
        tuple(f"{path}: {line}" for line in refusals),
        tuple(f"{path}: {line}" for line in doubts),
        config,
    )


def complaints_about(path: Path) -> list[str]:
    """All of them, a line each, which begin with the file's name; empty for a sound one."""
    found = examine(path)
    return [*found.refusals, *found.doubts]


def sound_config(path: Path, also: Callable[[Config], Iterable[str]] | None = None) -> Config:
    """The configuration in a file, for a daemon.

    Args:
        path: of the file.
        also: further reasons to refuse what is sound so far.

    Raises:
        ConfigError: no daemon runs with it; all that there is to be said.
    """
    found = examine(path, also)
    if found.config is None or found.refusals:
        raise ConfigError("\n".join([*found.refusals, *found.doubts]))
    return found.config


def address_is_sound(address: str) -> bool:
    """Whether a feed can be bound there, as far as its words tell."""
    found = _ADDRESS.fullmatch(address)
    return found is not None and (not (found[2] or "").isdigit() or int(found[2]) < 65_536)


def _refusals(config: Config) -> Iterator[str]:
    if not address_is_sound(config.feed.bind):
        yield (
            "feed.bind: expected an address such as tcp://127.0.0.1:5757 or ipc:///path, "
            f"got {config.feed.bind!r:.200}"
        )
    yield from _key_faults(config.feed)
    if config.feed.journal and (fault := path_problem(Path(config.feed.journal))):
        yield f"feed.journal: {fault}"
    if config.control.enabled:
        yield from _socket_faults(config.control.socket)
    yield from missing_libraries(config)
    cards: dict[str, Card] = {}
    for name, tagger in config.taggers.items():
        try:
            cards[name] = read_card(bundle_of(tagger))
        except BundleError as error:
            yield f"taggers.{name}.bundle: {error}"
    if cards.keys() == config.taggers.keys():
        yield from misfits(config, cards)


def _doubts(config: Config) -> Iterator[str]:
    yield from _missing(config)
    if config.feed.secret_key:
        with suppress(FeedError):  # a refusal
            for line in read_authorised(Path(config.feed.authorised_keys))[1]:
                yield f"feed.authorised_keys: {line}"
    if config.web:
        yield from config.web.missing_files()
    if config.mqtt:
        yield from config.mqtt.missing_files()
    for webhook in config.webhook:
        yield from webhook.faults()


def _key_faults(feed: FeedConfig) -> Iterator[str]:
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


def _socket_faults(socket: str) -> Iterator[str]:
    if len(socket.encode(errors="replace")) > LONGEST_SOCKET:
        most = f"a path of at most {LONGEST_SOCKET} bytes"
        yield f"control.socket: expected {most}, got {socket!r:.200}"
    elif socket and not os.path.isdir(Path(socket).parent):
        yield f"control.socket: expected a path in a folder that exists, got {socket!r:.200}"


def _missing(config: Config) -> Iterator[str]:
    """Files and folders that are not there, and what does nothing."""
    for name, stream in config.streams.items():
        if stream.kind in ("file", "sdp") and not os.path.isfile(stream.place):
            yield f"streams.{name}.source: expected an existing file, got {stream.place!r:.200}"
        if stream.kind == "folder" and not os.path.isdir(stream.place):
            yield f"streams.{name}.source: expected an existing folder, got {stream.place!r:.200}"
        if not stream.tls_verify and ".m3u8" in stream.place:
            got = f"expected true for a playlist, got false; {UNVERIFIED_SEGMENTS}"
            yield f"streams.{name}.tls_verify: {got}"
        if stream.ca_file and not os.path.isfile(stream.ca_file):
            yield f"streams.{name}.ca_file: expected an existing file, got {stream.ca_file!r:.200}"
