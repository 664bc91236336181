"""The daemon's configuration: one TOML file, checked before anything starts.

Every complaint names the file, the key, what was allowed and what was there.
"""

import re
import tomllib
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamtag.errors import ConfigError
from streamtag.level import LevelSettings

NAME = r"^[A-Za-z0-9._-]{1,64}$"
"""What streams and taggers may be called: names are parts of topics."""

Name = Annotated[str, Field(pattern=NAME)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FeedConfig(_Table):
    """Where and what to publish."""

    bind: str = "tcp://127.0.0.1:5757"
    """ZeroMQ address; the default is for this machine only, because the feed is not encrypted."""
    scores: bool = True
    """Also publish what each single window got."""
    mood: bool = True
    """Also publish where each stream stands on the mood plane, once a second, for taggers whose
    tags say something of moods."""
    stats_seconds: Seconds = 10.0
    """How often counters are published; 0 for never."""
    wait_for_subscriber_seconds: Seconds = 0.0
    """Wait so long, at most, for somebody to listen before the first stream is opened."""
    high_water: Annotated[int, Field(ge=1)] = 10_000
    """Messages kept for a slow subscriber before it loses some."""


class EngineConfig(_Table):
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
    """Threads of one model call on a CPU; 0 leaves it to PyTorch."""


class Tuning(_Table):
    """What of a bundle's own settings is to be different; None keeps the card's."""

    smoothing_seconds: Seconds | None = None
    min_on_seconds: Seconds | None = None
    min_off_seconds: Seconds | None = None
    hop_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only tags that make events."""
    on_thresholds: dict[str, Probability] = {}
    """By tag."""
    off_thresholds: dict[str, Probability] = {}
    """By tag."""

    def over(self, other: "Tuning") -> "Tuning":
        """These settings where they are set, else the other's."""
        own = self.model_dump(exclude_none=True)
        merged = other.model_dump(exclude_none=True) | own
        for key in ("on_thresholds", "off_thresholds"):
            merged[key] = getattr(other, key) | getattr(self, key)
        return Tuning(**merged)


class MetricsConfig(_Table):
    """How the daemon is looked after."""

    bind: Annotated[str, Field(pattern=r"^$|^[^\s/]+:\d{1,5}$")] = ""
    """`HOST:PORT` of `/metrics`, `/healthz` and `/readyz`, such as 127.0.0.1:9464; empty for none.
    Port 0 takes a free one."""


class LogConfig(_Table):
    """How log lines look."""

    style: Literal["text", "keyvalue", "json"] = "text"


class LevelConfig(_Table):
    """What counts as silence and clipping; None is as in `[level]`, or else as `LevelSettings`."""

    threshold_dbfs: Annotated[float, Field(ge=-120, le=0)] | None = None
    silence_seconds: Seconds | None = None
    sound_seconds: Seconds | None = None
    clipping_seconds: Seconds | None = None

    def over(self, other: "LevelConfig") -> LevelSettings:
        """These where they are set, else the other's, else the usual."""
        return LevelSettings(
            **other.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)
        )


class TaggerConfig(_Table):
    """A model under a name."""

    bundle: str = ""
    """Path, relative to the configuration file; empty for the model that comes with streamtag."""
    tuning: Tuning = Tuning()


class StreamConfig(_Table):
    """A source of audio under a name."""

    source: str
    """`file:PATH`, `folder:PATH`, `device:` (the default one), `device:NAME`, `stdin:`, `sdp:PATH`
    or a URL: http, https, rtsp, rtsps, rtp, udp; tcp, zmq+tcp and zmq+ipc for raw samples."""
    taggers: tuple[Name, ...] | None = Field(default=None, strict=False)
    """Who listens; None for all."""
    pace: bool = False
    """Files and folders: play like a live stream instead of as fast as possible."""
    loop: bool = False
    """Files and folders: begin again at the end, for ever."""
    watch: bool = False
    """Folders: wait for new files after the last one."""
    format: Literal["s16le", "f32le"] = "s16le"
    """Raw samples."""
    rate: Annotated[int, Field(ge=1000, le=768_000)] | None = None
    """Hz. Needed for raw samples; devices have their own, URLs are decoded to 48 kHz."""
    channels: Annotated[int, Field(ge=1, le=256)] | None = None
    """Raw samples (1 if not given) and devices."""
    connect_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Until the first audio of a new connection."""
    stall_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Without audio, after which a source counts as lost."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Before a lost source is tried again; doubles with every failure."""
    longest_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    slow_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """The same once waiting has not helped: not found, wrong password, no audio."""
    decoder_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    """Address space of a URL's decoder; 0 for no limit."""
    tuning: dict[Name, Tuning] = {}
    """By tagger."""
    level: LevelConfig = LevelConfig()

    @property
    def kind(self) -> str:
        """One of `_KEYS`."""
        return self.source.partition(":")[0]

    @property
    def place(self) -> str:
        """The part of `source` after the colon."""
        return self.source.partition(":")[2]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        kind, colon, place = self.source.partition(":")
        if not colon or kind not in _KEYS or not _fits(kind, place):
            raise ValueError(f"source: expected {_SOURCES}, got {self.source!r}")
        wrong = self.model_fields_set - _KEYS[kind] - {"source", "taggers", "tuning", "level"}
        if wrong:
            allowed = ", ".join(sorted(_KEYS[kind]))
            raise ValueError(
                f"{min(wrong)}: not for a source of kind {kind!r}, which has {allowed}"
            )
        if "format" in _KEYS[kind] and self.rate is None:
            what = "standard input" if kind == "stdin" else "raw samples"
            raise ValueError(f"rate: expected for {what}, in Hz, got nothing")
        return self


_LASTING = {"stall_seconds", "retry_seconds", "longest_retry_seconds", "slow_retry_seconds"}
_PCM = {"format", "rate", "channels"}
_URL = {"http", "https", "rtsp", "rtsps", "rtp", "udp", "sdp"}
_RAW = {"tcp", "zmq+tcp", "zmq+ipc"}
_KEYS: dict[str, set[str]] = {
    "file": {"pace", "loop"},
    "folder": {"pace", "loop", "watch", "rate"},
    "device": {"rate", "channels"} | _LASTING,
    "stdin": _PCM,
    **{kind: {"rate", "connect_seconds", "decoder_mb"} | _LASTING for kind in _URL},
    **{kind: {"connect_seconds"} | _PCM | _LASTING for kind in _RAW},
}
"""Kinds of sources, and the keys that each has."""
_SOURCES = (
    "'file:PATH', 'folder:PATH', 'device:', 'device:NAME', 'stdin:', 'sdp:PATH' or a URL: "
    "http, https, rtsp, rtsps, rtp, udp, tcp, zmq+tcp, zmq+ipc"
)
PATHS = ("file", "folder", "sdp")
"""Kinds whose place is a path, relative to the configuration file."""


def _fits(kind: str, place: str) -> bool:
    """Whether what follows the colon is one for this kind."""
    if kind in ("device", "stdin"):
        return kind == "device" or not place
    if kind in PATHS:
        return bool(place)
    if any(c.isspace() or not c.isprintable() for c in place) or not place.startswith("//"):
        return False
    if kind == "zmq+ipc":
        return len(place) > 2
    try:
        url = urlsplit(f"{kind}:{place}")
        needs_port = kind in ("tcp", "zmq+tcp", "udp", "rtp")
        return bool(url.netloc) and (url.port is not None or not needs_port)
    except ValueError:
        return False


class Config(_Table):
    """The whole file."""

    streams: Annotated[dict[Name, StreamConfig], Field(min_length=1)]
    taggers: dict[Name, TaggerConfig] = {"default": TaggerConfig()}
    feed: FeedConfig = FeedConfig()
    engine: EngineConfig = EngineConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
    level: LevelConfig = LevelConfig()
    """For streams that do not say."""
    exit_when_done: bool = True
    """End when all streams have ended: none comes back by itself."""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if not self.taggers:
            raise ValueError("taggers: expected at least one, got none")
        for name, stream in self.streams.items():
            for tagger in [*(stream.taggers or ()), *stream.tuning]:
                if tagger not in self.taggers:
                    known = ", ".join(self.taggers)
                    raise ValueError(f"streams.{name}: no tagger {tagger!r}; there are: {known}")
        if sum(stream.kind == "stdin" for stream in self.streams.values()) > 1:
            raise ValueError("streams: expected one stream from standard input at most")
        return self


def load_config(path: Path) -> Config:
    """Reads a configuration file; relative paths in it become relative to its folder.

    Raises:
        ConfigError: it cannot be read, or something in it is not allowed.
    """
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: expected a configuration file, got {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, got a mistake: {error}") from None
    try:
        return _at_home(Config.model_validate(table), path.resolve().parent)
    except ValidationError as error:
        lines = [f"{path}: {_complaint(dict(fault))}" for fault in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _at_home(config: Config, folder: Path) -> Config:
    """The same with absolute paths."""
    streams = {
        name: s.model_copy(update={"source": f"{s.kind}:{folder / s.place}"})
        if s.kind in PATHS
        else s
        for name, s in config.streams.items()
    }
    taggers = {
        name: t.model_copy(update={"bundle": str(folder / t.bundle)}) if t.bundle else t
        for name, t in config.taggers.items()
    }
    return config.model_copy(update={"streams": streams, "taggers": taggers})


def _complaint(fault: dict[str, Any]) -> str:
    """One pydantic error in our words."""
    loc, kind = [str(part) for part in fault["loc"] if part != "[key]"], fault["type"]
    key = ".".join(loc)
    if kind == "extra_forbidden":
        allowed = ", ".join(_model_at(loc[:-1]).model_fields)
        return f"unknown key {key}; allowed here: {allowed}"
    if kind == "missing":
        return f"missing key {key}"
    if kind == "value_error":
        return f"{key}{'.' if key else ''}{fault['ctx']['error']}"
    if kind == "string_pattern_mismatch":
        return (
            f"{key}: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -, got {fault['input']!r}"
        )
    if kind == "too_short":
        return f"{key}: expected at least one, got none"
    words = re.sub(r"^Input should (be|have) ", "", fault["msg"])
    words = words.replace("dictionary", "table")
    return f"{key}: expected {words}, got {fault['input']!r}"


def _model_at(loc: list[str]) -> type[BaseModel]:
    """The table that a path of keys leads to."""
    at: Any = Config
    for part in loc:
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = at.model_fields[part].annotation
        else:  # dict[Name, table]
            at = typing.get_args(at)[1]
    return typing.cast(type[BaseModel], at)
