"""The configuration of a stream: which kinds of sources there are, and which keys each has."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from streamtag.audio.level import LevelSettings
from streamtag.config.tuning import Name, Seconds, Table, Text, Tuning


class StreamKeys(Table):
    """What `[defaults]` may say for all streams, and each stream for itself."""

    taggers: tuple[Name, ...] | None = Field(default=None, strict=False)
    """Who listens; None for all."""
    language: str | None = None
    """Of the names that tags have for people: `en` as the model says, or one of `languages`."""
    pace: bool = False
    """Files and folders: play like a live stream instead of as fast as possible."""
    loop: bool = False
    """Files and folders: begin again at the end, for ever."""
    connect_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Until the first audio of a new connection."""
    stall_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Without audio, after which a source counts as lost."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Before a lost source is tried again; doubles with every failure."""
    longest_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """The longest such time."""
    slow_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """The same once waiting has not helped: not found, wrong password, no audio."""
    decoder_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    """Address space of a URL's decoder; 0 for no limit."""
    tls_verify: bool = True
    """https, rtsps: refuse certificates that are not to be trusted."""
    ca_file: str = ""
    """https, rtsps: certificates (PEM) of whom to trust; empty for those that the system knows."""

    def at_home(self, folder: Path) -> Self:
        """With paths that are relative to a folder made absolute."""
        changes = {"ca_file": str(folder / self.ca_file)} if self.ca_file else {}
        return self.model_copy(update=changes) if changes else self


class Defaults(StreamKeys):
    """What holds for every stream that does not say otherwise, where its kind has such a key."""

    tuning: Tuning = Tuning()
    """Of every tagger that does not say otherwise; tags that one does not have are left out."""


class LevelConfig(Table):
    """What counts as silence and clipping; None is as in `[level]`, or else as `LevelSettings`."""

    threshold_dbfs: Annotated[float, Field(ge=-120, le=0)] | None = None
    silence_seconds: Seconds | None = None
    sound_seconds: Seconds | None = None
    clipping_seconds: Seconds | None = None
    channels_seconds: Seconds | None = None
    mono_db: Annotated[float, Field(ge=-120, le=0)] | None = None

    def over(self, other: "LevelConfig") -> LevelSettings:
        """These where they are set, else the other's, else the usual."""
        return LevelSettings(
            **other.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)
        )


class StreamConfig(StreamKeys):
    """A source of audio under a name."""

    source: Text
    """`file:PATH`, `folder:PATH`, `device:` (the default one), `device:NAME`, `stdin:`, `sdp:PATH`
    or a URL: http, https, rtsp, rtsps, rtp, udp, srt; tcp, zmq+tcp and zmq+ipc for raw samples."""
    watch: bool = False
    """Folders: wait for new files after the last one."""
    format: Literal["s16le", "f32le"] = "s16le"
    """Raw samples."""
    rate: Annotated[int, Field(ge=1000, le=768_000)] | None = None
    """Hz. Needed for raw samples; devices have their own, URLs are decoded to 48 kHz."""
    channels: Annotated[int, Field(ge=1, le=256)] | None = None
    """Raw samples (1 if not given) and devices."""
    tuning: dict[Name, Tuning] = Field(default={})
    """By tagger."""
    level: LevelConfig = LevelConfig()

    def at_home(self, folder: Path) -> Self:
        """With paths that are relative to a folder made absolute."""
        known = super().at_home(folder)
        if self.kind not in PATHS:
            return known
        return known.model_copy(update={"source": f"{self.kind}:{folder / self.place}"})

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
            raise ValueError(f"source: expected {_SOURCES}, got {self.source!r:.200}")
        wrong = self.model_fields_set - _KEYS[kind] - ANY_KIND
        if wrong:
            allowed = ", ".join(sorted(_KEYS[kind]))
            raise ValueError(
                f"{min(wrong)}: not for a source of kind {kind!r}, which has {allowed}"
            )
        if "format" in _KEYS[kind] and self.rate is None:
            what = "standard input" if kind == "stdin" else "raw samples"
            raise ValueError(f"rate: expected for {what}, in Hz, got nothing")
        return self

    def over(self, defaults: Defaults) -> "StreamConfig":
        """With the defaults for what is not said and its kind has a key for."""
        keys = defaults.model_fields_set & (_KEYS[self.kind] | {"taggers", "language"})
        own = {key: getattr(self, key) for key in self.model_fields_set}
        return StreamConfig(**{key: getattr(defaults, key) for key in keys} | own)


ANY_KIND = {"source", "taggers", "language", "tuning", "level"}
"""Keys of all kinds."""
_LASTING = {"stall_seconds", "retry_seconds", "longest_retry_seconds", "slow_retry_seconds"}
_PCM = {"format", "rate", "channels"}
_TLS = {"tls_verify", "ca_file"}
_URL = {"http", "rtsp", "rtp", "udp", "sdp", "srt"}
_SECURE = {"https", "rtsps"}
_RAW = {"tcp", "zmq+tcp", "zmq+ipc"}
_KEYS: dict[str, set[str]] = {
    "file": {"pace", "loop"},
    "folder": {"pace", "loop", "watch", "rate"},
    "device": {"rate", "channels"} | _LASTING,
    "stdin": _PCM,
    **{kind: {"rate", "connect_seconds", "decoder_mb"} | _LASTING for kind in _URL},
    **{kind: {"rate", "connect_seconds", "decoder_mb"} | _LASTING | _TLS for kind in _SECURE},
    **{kind: {"connect_seconds"} | _PCM | _LASTING for kind in _RAW},
}
"""Kinds of sources, and the keys that each has."""
_SOURCES = (
    "'file:PATH', 'folder:PATH', 'device:', 'device:NAME', 'stdin:', 'sdp:PATH' or a URL: "
    "http, https, rtsp, rtsps, zmq+ipc, or with HOST:PORT rtp, udp, srt, tcp, zmq+tcp"
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
        needs_port = kind in ("tcp", "zmq+tcp", "udp", "rtp", "srt")
        return bool(url.netloc) and (url.port is not None or not needs_port)
    except ValueError:
        return False
