"""The daemon's configuration: one TOML file, checked before anything starts.

Every complaint names the file, the key, what was allowed and what was there.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from streamtag.config.feed import FeedConfig
from streamtag.config.mqtt import MqttConfig
from streamtag.config.osc import OscConfig
from streamtag.config.stream import Defaults, LevelConfig, StreamConfig
from streamtag.config.tuning import Name, Table, TagTuning, Text, Tuning
from streamtag.config.web import WebConfig, is_public
from streamtag.config.webhook import WebhookConfig, names_twice
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import ConfigError
from streamtag.model.card import Card
from streamtag.validation import complaint

__all__ = [
    "Config",
    "ControlConfig",
    "Defaults",
    "EngineConfig",
    "FeedConfig",
    "LevelConfig",
    "StreamConfig",
    "TagTuning",
    "TaggerConfig",
    "Tuning",
    "load_config",
    "parse_config",
]


class EngineConfig(Table):
    """How windows are put together for the model."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_batch: Annotated[int, Field(ge=1, le=4096)] = 32
    """Windows in one model call."""
    max_wait_ms: Annotated[float, Field(ge=0, le=60_000)] = 50.0
    """How long a window may wait for others to join it."""
    batch_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None, Field(strict=False)
    ] = None
    """The sizes that batches are padded to; None: powers of two on a GPU, single windows on a CPU,
    where other sizes are faster but make a result's last bits depend on its company."""
    slack_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """How late a live stream's result may be before its oldest windows are dropped."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads for models on a CPU: windows scored side by side, or with `batch_sizes` what a call
    may use; 0 for `OMP_NUM_THREADS`, else one CPU less than there are, 16 at most."""


class ControlConfig(Table):
    """Where a running daemon takes commands (`streamtag ctl`)."""

    enabled: bool = True
    socket: Text = ""
    """Path, relative to the configuration file, of a Unix-domain socket that only this user may
    use; empty for `streamtag.sock` in the runtime directory, if no other daemon is there."""


class MetricsConfig(Table):
    """How the daemon is looked after."""

    bind: Text = ""
    """`HOST:PORT` of `/metrics`, `/healthz` and `/readyz`, such as 127.0.0.1:9464; empty for none.
    Port 0 takes a free one."""
    no_token_on_public_address: bool = False
    """Let everybody who can reach the machine read along."""

    @model_validator(mode="after")
    def _is_an_address(self) -> Self:
        host, _, port = self.bind.rpartition(":")
        if self.bind and not (host and re.fullmatch(r"[0-9]{1,5}", port) and int(port) < 65536):
            raise ValueError(f"bind: expected HOST:PORT, or nothing, got {self.bind!r}")
        if self.bind and is_public(host.strip("[]")) and not self.no_token_on_public_address:
            raise ValueError(
                "bind: expected an address of this machine alone, such as 127.0.0.1:9464, or "
                f"no_token_on_public_address = true; got {self.bind!r} without it"
            )
        return self


class LogConfig(Table):
    """How log lines look."""

    style: Literal["text", "keyvalue", "json"] = "text"


class TaggerConfig(Table):
    """A model under a name."""

    bundle: Text = ""
    """Path, relative to the configuration file; empty for the model that comes with streamtag."""
    tuning: Tuning = Tuning()


class Config(Table):
    """The whole file."""

    streams: dict[Name, StreamConfig]
    taggers: dict[Name, TaggerConfig] = Field(default={"default": TaggerConfig()})
    feed: FeedConfig = FeedConfig()
    engine: EngineConfig = EngineConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
    level: LevelConfig = LevelConfig()
    """For streams that do not say."""
    defaults: Defaults = Defaults()
    control: ControlConfig = ControlConfig()
    web: WebConfig | None = None
    """The feed over HTTP; None for not."""
    mqtt: MqttConfig | None = None
    """An MQTT broker that is told what is on; None for none."""
    osc: OscConfig | None = None
    """Lights and desks that are told what is on, by UDP; None for none."""
    webhook: tuple[WebhookConfig, ...] = Field(default=(), strict=False)
    """Who is told of events by HTTP."""
    languages: dict[Name, dict[str, str]] = Field(default={})
    """Names of tags for people, by language and tag."""
    exit_when_done: bool = True
    """End when all streams have ended: none comes back by itself."""

    def stream(self, name: str) -> StreamConfig:
        """A stream as it is to run, with the defaults where it says nothing."""
        return self.streams[name].over(self.defaults)

    def settings(self, name: str, cards: Mapping[str, Card]) -> dict[str, TaggerSettings]:
        """How each of a stream's taggers listens to it.

        Args:
            name: of the stream.
            cards: by tagger.
        """
        stream = self.stream(name)
        names = self.taggers if stream.taggers is None else stream.taggers
        return {
            tagger: stream.tuning.get(tagger, Tuning())
            .over(self.taggers[tagger].tuning)
            .over(self.defaults.tuning.known(cards[tagger].tags))
            .settings()
            for tagger in names
        }

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if found := [
            *self._strange_names(),
            *self._strange_languages(),
            *names_twice(self.webhook),
        ]:
            raise ValueError("\n".join(found))
        return self

    def _strange_names(self) -> Iterator[str]:
        if not self.taggers:
            yield "taggers: expected at least one, got none"
        if not self.streams and self.exit_when_done:
            yield "streams: expected at least one, got none"
        tables = {"defaults": self.defaults.taggers or ()} | {
            f"streams.{name}": [*(stream.taggers or ()), *stream.tuning]
            for name, stream in self.streams.items()
        }
        for key, names in tables.items():
            for tagger in dict.fromkeys(names):
                if tagger not in self.taggers:
                    yield f"{key}: no tagger {tagger!r:.60}; there are: {', '.join(self.taggers)}"
        if sum(stream.kind == "stdin" for stream in self.streams.values()) > 1:
            yield "streams: expected one stream from standard input at most"

    def _strange_languages(self) -> Iterator[str]:
        known = sorted({"en", *self.languages})
        tables = {"defaults": self.defaults} | {f"streams.{n}": s for n, s in self.streams.items()}
        for key, table in tables.items():
            if table.language is not None and table.language not in known:
                yield (
                    f"{key}.language: expected one of {', '.join(known)}, got {table.language!r}; "
                    f"others need a table languages.{table.language}"
                )


def load_config(path: Path) -> Config:
    """Reads a configuration file; relative paths in it become relative to its folder.

    Raises:
        ConfigError: it cannot be read, or something in it is not allowed.
    """
    table = read_toml(path)
    try:
        return parse_config(table, path.resolve().parent)
    except ConfigError as error:
        lines = [f"{path}: {line}" for line in str(error).splitlines()]
        raise ConfigError("\n".join(lines)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a file.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: expected a configuration file, got {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
        raise ConfigError(f"{path}: expected TOML, got a mistake: {error}") from None


def parse_config(table: Mapping[str, Any], folder: Path) -> Config:
    """Checks a configuration; relative paths in it become relative to the folder.

    Raises:
        ConfigError: something in it is not allowed; a line per complaint.
    """
    config, faults = examined(table)
    if config is None:
        raise ConfigError("\n".join(line for _, line in faults))
    return at_home(config, folder)


Fault = tuple[tuple[int | str, ...], str]
"""Keys that lead to the fault, and the complaint."""


def examined(table: Mapping[str, Any]) -> tuple[Config | None, list[Fault]]:
    """A configuration, or what is wrong with it."""
    try:
        return Config.model_validate(table), []
    except ValidationError as error:
        faults = [(fault["loc"], complaint(dict(fault), Config)) for fault in error.errors()]
        return None, faults


def at_home(config: Config, folder: Path) -> Config:
    """The same with absolute paths."""
    streams = {name: stream.at_home(folder) for name, stream in config.streams.items()}
    taggers = {
        name: t.model_copy(update={"bundle": str(folder / t.bundle)}) if t.bundle else t
        for name, t in config.taggers.items()
    }
    defaults = config.defaults.at_home(folder)
    changes: dict[str, object] = {"streams": streams, "defaults": defaults}
    if "taggers" in config.model_fields_set:
        changes["taggers"] = taggers
    paths = {key: str(folder / path) for key, path in config.feed.paths().items()}
    if paths:
        changes["feed"] = config.feed.model_copy(update=paths)
    if config.control.socket:
        socket = str(folder / config.control.socket)
        changes["control"] = config.control.model_copy(update={"socket": socket})
    if config.web:
        changes["web"] = config.web.at_home(folder)
    if config.webhook:
        journal = str(folder / config.feed.journal) if config.feed.journal else ""
        changes["webhook"] = tuple(hook.at_home(folder, journal) for hook in config.webhook)
    if config.mqtt:
        changes["mqtt"] = config.mqtt.at_home(folder)
    return config.model_copy(update=changes)
