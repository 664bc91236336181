"""The tables `[defaults]` and `[streams.NAME]`: kinds of sources, and the keys of each."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from streamtag.audio.level import LevelSettings
from streamtag.config.fields import ConfigTable, ExistingFile, Name, Seconds, Text, resolved
from streamtag.config.tuning import Tuning


class StreamKeys(ConfigTable):
    """Keys that both `[defaults]` and each stream may have."""

    taggers: tuple[Name, ...] | None = Field(default=None, strict=False)
    """The taggers of the stream. None for all."""
    language: str | None = None
    """Language of the tags' names for people: `en` for the model's, or one of `languages`."""
    clips: bool = True
    """Its audio may be kept, in memory and as clips, where there is a table `[clips]`."""
    pace: bool = False
    """Files and folders: play like a live stream instead of as fast as possible."""
    loop: bool = False
    """Files and folders: start again at the end, for ever."""
    connect_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """The longest wait for the first audio of a new connection."""
    stall_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """How long a source may deliver no audio before it counts as lost."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Wait before the first new try to connect. It doubles with every failure."""
    longest_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """The longest such wait."""
    slow_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """The wait after repeated failures that do not pass by themselves, such as a wrong password."""
    decoder_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    """Limit of the address space of a URL's decoder; 0 for none."""
    tls_verify: bool = True
    """https, rtsps: refuse certificates that cannot be verified."""
    ca_file: ExistingFile = ""
    """https, rtsps: path of the certificates (PEM) to trust; empty for the system's."""


class Defaults(StreamKeys):
    """The table `[defaults]`: values for every stream that has none, where its kind has the key."""

    tuning: Tuning = Tuning()
    """Settings of every tagger that has none. Tags that a tagger does not know are left out."""


class LevelConfig(ConfigTable):
    """What counts as silence and clipping. None is as in `[level]`, or else as `LevelSettings`."""

    threshold_dbfs: Annotated[float, Field(ge=-120, le=0)] | None = None
    silence_seconds: Seconds | None = None
    sound_seconds: Seconds | None = None
    clipping_seconds: Seconds | None = None
    channels_seconds: Seconds | None = None
    mono_db: Annotated[float, Field(ge=-120, le=0)] | None = None

    def over(self, other: "LevelConfig") -> LevelSettings:
        """These values where they are set, else the other ones, else the defaults."""
        return LevelSettings(
            **other.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)
        )


PATHS = ("file", "folder", "sdp")
"""Kinds whose place is a path, relative to the configuration file."""


def _resolved_source(source: str, info: ValidationInfo) -> str:
    kind, _, place = source.partition(":")
    return f"{kind}:{resolved(place, info)}" if kind in PATHS and place else source


class StreamConfig(StreamKeys):
    """A source of audio under a name."""

    source: Annotated[Text, AfterValidator(_resolved_source)]
    """`file:PATH`, `folder:PATH`, `device:` (the default one), `device:NAME`, `stdin:`, `sdp:PATH`
    or a URL: http, https, rtsp, rtsps, rtp, udp, srt; tcp, zmq+tcp and zmq+ipc for raw samples."""
    watch: bool = False
    """Folders: wait for new files after the last one."""
    format: Literal["s16le", "f32le"] = "s16le"
    """Format of raw samples."""
    rate: Annotated[int, Field(ge=1000, le=768_000)] | None = None
    """Hz. Required for raw samples. Devices have their own rate, URLs are decoded to 44.1 kHz."""
    channels: Annotated[int, Field(ge=1, le=256)] | None = None
    """Channels of raw samples (1 if not given) and devices."""
    tuning: dict[Name, Tuning] = Field(default={})
    """Settings by tagger."""
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
        """The same with the defaults for keys that are not set, where its kind has the key."""
        keys = defaults.model_fields_set & (_KEYS[self.kind] | {"taggers", "language", "clips"})
        own = {key: getattr(self, key) for key in self.model_fields_set}
        return StreamConfig(**{key: getattr(defaults, key) for key in keys} | own)


ANY_KIND = {"source", "taggers", "language", "clips", "tuning", "level"}
"""Keys that all kinds have."""
_RECONNECT = {"stall_seconds", "retry_seconds", "longest_retry_seconds", "slow_retry_seconds"}
_PCM = {"format", "rate", "channels"}
_TLS = {"tls_verify", "ca_file"}
_URL = {"http", "rtsp", "rtp", "udp", "sdp", "srt"}
_SECURE = {"https", "rtsps"}
_RAW = {"tcp", "zmq+tcp", "zmq+ipc"}
_KEYS: dict[str, set[str]] = {
    "file": {"pace", "loop"},
    "folder": {"pace", "loop", "watch", "rate"},
    "device": {"rate", "channels"} | _RECONNECT,
    "stdin": _PCM,
    **{kind: {"rate", "connect_seconds", "decoder_mb"} | _RECONNECT for kind in _URL},
    **{kind: {"rate", "connect_seconds", "decoder_mb"} | _RECONNECT | _TLS for kind in _SECURE},
    **{kind: {"connect_seconds"} | _PCM | _RECONNECT for kind in _RAW},
}
"""The further keys of each kind of source."""
_SOURCES = (
    "'file:PATH', 'folder:PATH', 'device:', 'device:NAME', 'stdin:', 'sdp:PATH' or a URL: "
    "http, https, rtsp, rtsps, zmq+ipc, or with HOST:PORT rtp, udp, srt, tcp, zmq+tcp"
)


def _fits(kind: str, place: str) -> bool:
    """Whether the part after the colon is possible for this kind."""
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
