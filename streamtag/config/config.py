"""The daemon's configuration: one TOML file, checked before anything starts.

Every complaint names the file, the key, what was expected and what was found.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, PlainValidator, ValidationError, model_validator

from streamtag.config.alerts import AlertConfig, NotifyConfig, alert_faults
from streamtag.config.bridges import (
    MqttConfig,
    OscConfig,
    WebConfig,
    WebhookConfig,
    duplicate_names,
)
from streamtag.config.clips import ClipsConfig
from streamtag.config.feed import FeedConfig
from streamtag.config.fields import (
    Checksum,
    ConfigTable,
    FilePath,
    Name,
    PublicKey,
    Text,
    is_public,
    split_host_port,
)
from streamtag.config.fleet import FleetConfig
from streamtag.config.nats import NatsConfig
from streamtag.config.report import ReportConfig
from streamtag.config.stream import Defaults, LevelConfig, StreamConfig
from streamtag.config.tuning import Tuning
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import ConfigError, complaint
from streamtag.model.card import Card

MOST_WORKERS = 256


def _workers(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (is_number and 1 <= cast(int, value) <= MOST_WORKERS):
        return value
    raise ValueError(f"expected a number from 1 to {MOST_WORKERS}, or 'auto', got {value!r:.60}")


Workers = Annotated[
    int | Literal["auto"],
    PlainValidator(_workers, json_schema_input_type=int | Literal["auto"]),
]


class EngineConfig(ConfigTable):
    """The table `[engine]`: how windows are batched for the model."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_batch: Annotated[int, Field(ge=1, le=4096)] = 32
    """The most windows in one model call."""
    max_wait_ms: Annotated[float, Field(ge=0, le=60_000)] = 50.0
    """The longest wait of a window for others in its batch."""
    batch_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None, Field(strict=False)
    ] = None
    """The sizes that batches are padded to. None means powers of two on a GPU and 1 on a CPU, where
    other sizes are faster but make the last bits of a result depend on the rest of the batch. For
    streaming nets on a CPU, None means the sizes that are fastest."""
    exact: bool = False
    """Streaming nets too see whole windows, as the nets of the papers do. It costs several times as
    much."""
    slack_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """A live stream's result may be so late before its oldest windows are dropped."""
    workers: Workers = 1
    """Engine processes that share the streams. 1 is an engine in the daemon's own process. `auto`
    is one per CPU that is left, and 1 on a GPU."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads for models on a CPU. They score windows at the same time, or with `batch_sizes` share
    one call. 0 means `OMP_NUM_THREADS`, else one CPU less than there are, at most 16; with several
    workers it means 1 in each."""


class ControlConfig(ConfigTable):
    """The table `[control]`: where a running daemon takes commands (`streamtag ctl`)."""

    enabled: bool = True
    socket: FilePath = ""
    """Path, relative to the configuration file, of a Unix-domain socket that only this user may
    use. Empty for `streamtag.sock` in the runtime directory, if no other daemon has it."""


class MetricsConfig(ConfigTable):
    """The table `[metrics]`: an HTTP server for metrics and health."""

    bind: Text = ""
    """`HOST:PORT` of `/metrics`, `/healthz` and `/readyz`, such as 127.0.0.1:9464. Empty for none.
    Port 0 takes a free one."""
    no_token_on_public_address: bool = False
    """Allow clients on other machines."""

    @model_validator(mode="after")
    def _is_an_address(self) -> Self:
        if not self.bind:
            return self
        if (place := split_host_port(self.bind)) is None:
            raise ValueError(f"bind: expected HOST:PORT, or nothing, got {self.bind!r}")
        if is_public(place[0]) and not self.no_token_on_public_address:
            raise ValueError(
                "bind: expected an address of this machine alone, such as 127.0.0.1:9464, or "
                f"no_token_on_public_address = true; got {self.bind!r} without it"
            )
        return self


class LogConfig(ConfigTable):
    """The table `[log]`: the format of log lines."""

    style: Literal["text", "keyvalue", "json"] = "text"


class TaggerConfig(ConfigTable):
    """A table `[taggers.NAME]`: a model, and its settings."""

    bundle: FilePath = ""
    """Path, relative to the configuration file. Empty for the model that comes with streamtag."""
    sha256: Checksum = ""
    """The only file that may run: SHA-256 of the bundle. Empty for any."""
    tuning: Tuning = Tuning()


class ModelsConfig(ConfigTable):
    """The table `[models]`: which bundles may run. A bundle is a program."""

    trusted_keys: tuple[PublicKey, ...] = Field(default=(), strict=False)
    """Public keys of minisign. With any, a bundle needs a signature by one of them, unless its
    tagger has a `sha256` or it comes with streamtag."""
    trial: bool = True
    """Try a bundle in a confined process before it is loaded for the first time."""
    trial_seconds: Annotated[float, Field(ge=1, le=3600)] = 20.0
    """CPU time that a trial may take."""
    trial_megabytes: Annotated[int, Field(ge=64, le=2**20)] = 4096
    """Memory that a trial may take."""


class Config(ConfigTable):
    """The whole file."""

    streams: dict[Name, StreamConfig]
    taggers: dict[Name, TaggerConfig] = Field(default={"default": TaggerConfig()})
    feed: FeedConfig = FeedConfig()
    engine: EngineConfig = EngineConfig()
    models: ModelsConfig = ModelsConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
    level: LevelConfig = LevelConfig()
    """For streams that have no such values."""
    defaults: Defaults = Defaults()
    control: ControlConfig = ControlConfig()
    web: WebConfig | None = None
    """None for no web server."""
    mqtt: MqttConfig | None = None
    """None for no MQTT."""
    osc: OscConfig | None = None
    """None for no OSC."""
    webhook: tuple[WebhookConfig, ...] = Field(default=(), strict=False)
    """Receivers of events by HTTP."""
    nats: NatsConfig | None = None
    """None for no NATS JetStream."""
    fleet: FleetConfig | None = None
    """None for a daemon that has all streams itself."""
    clips: ClipsConfig | None = None
    """None for no clips."""
    alert: tuple[AlertConfig, ...] = Field(default=(), strict=False)
    """Rules: what is worth telling somebody."""
    notify: NotifyConfig | None = None
    """Who is notified of alerts. None for nobody: alerts are only on the feed."""
    report: ReportConfig | None = None
    """Reports that are sent. None for none."""
    languages: dict[Name, dict[str, str]] = Field(default={})
    """Names of tags for people, by language and tag."""
    exit_when_done: bool = True
    """End the daemon when all streams have ended."""

    def stream(self, name: str) -> StreamConfig:
        """The configuration of a stream, with the defaults for keys that it has not set."""
        return self.streams[name].over(self.defaults)

    def settings(self, name: str, cards: Mapping[str, Card]) -> dict[str, TaggerSettings]:
        """The settings of each of a stream's taggers, whose cards are given by tagger."""
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
            *self._unknown_taggers(),
            *self._unknown_languages(),
            *duplicate_names(self.webhook),
            *alert_faults(self.alert, self.notify),
            *self._report_faults(),
            *self._fleet_faults(),
        ]:
            raise ValueError("\n".join(found))
        return self

    def _unknown_taggers(self) -> Iterator[str]:
        if not self.taggers:
            yield "taggers: expected at least one, got none"
        if not self.streams and self.exit_when_done and self.fleet is None:
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

    def _report_faults(self) -> Iterator[str]:
        if self.report is None:
            return
        if self.notify is None:
            yield "notify: expected a table, whose targets get the reports, got none"
        if not self.feed.journal:
            yield "feed.journal: expected a path, since reports are made of the journal, got none"
        targets = self.notify.targets if self.notify else {}
        for name in self.report.notify or ():
            if name not in targets:
                known = ", ".join(targets) or "none"
                yield f"report.notify: no target {name!r}; there are: {known}"

    def _fleet_faults(self) -> Iterator[str]:
        if self.fleet is None:
            return
        if self.nats is None:
            yield "nats: expected a table, which says where the fleet's JetStream is, got none"
        elif self.nats.streams is not None or "event" not in self.nats.topics:
            yield "nats: expected the topic event of all streams in a fleet, got some only"

    def _unknown_languages(self) -> Iterator[str]:
        known = sorted({"en", *self.languages})
        tables = {"defaults": self.defaults} | {f"streams.{n}": s for n, s in self.streams.items()}
        for key, table in tables.items():
            if table.language is not None and table.language not in known:
                yield (
                    f"{key}.language: expected one of {', '.join(known)}, got {table.language!r}; "
                    f"others need a table languages.{table.language}"
                )


def load_config(path: Path) -> Config:
    """Reads a configuration file. Paths in it are relative to its folder.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong.
    """
    table = read_toml(path)
    try:
        return parse_config(table, path.resolve().parent)
    except ConfigError as error:
        lines = [f"{path}: {line}" for line in str(error).splitlines()]
        raise ConfigError("\n".join(lines)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Reads the table in a TOML file.

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
    """Checks a configuration. Paths in it are relative to the folder.

    Raises:
        ConfigError: something in it is wrong, a line for each complaint.
    """
    config, faults = validate(table, folder)
    if config is None:
        raise ConfigError("\n".join(line for _, line in faults))
    return config


Fault = tuple[tuple[int | str, ...], str]
"""The keys that lead to the fault, and the complaint."""


def validate(
    table: Mapping[str, Any], folder: Path | None = None
) -> tuple[Config | None, list[Fault]]:
    """A configuration, or what is wrong with it. Without a folder relative paths stay relative."""
    try:
        config = Config.model_validate(table, context={"folder": folder})
    except ValidationError as error:
        faults = [(fault["loc"], complaint(dict(fault), Config)) for fault in error.errors()]
        return None, faults
    if folder and config.webhook:
        hooks = tuple(hook.with_position(folder, config.feed.journal) for hook in config.webhook)
        config = config.model_copy(update={"webhook": hooks})
    if folder and config.notify:
        notify = config.notify.with_state(str(folder), config.feed.journal)
        config = config.model_copy(update={"notify": notify})
    return config, []
