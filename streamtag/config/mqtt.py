"""The table `[mqtt]`: a broker, and what is told there."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from streamtag.config.secret import one_at_most
from streamtag.config.tuning import Name, Seconds, Table, Text

_FILES = ("ca_file", "certificate_file", "key_file", "password_file")


class MqttConfig(Table):
    """Where the broker is, and what is told there; see docs/mqtt.md."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Of the broker."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None for 1883, or 8883 with TLS."""
    user: Text = ""
    """Name of an account at the broker; empty for none."""
    password: Text = ""
    """Its password; better in a file or a variable."""
    password_file: Text = ""
    """Path, relative to the configuration file, of a file that holds nothing but the password."""
    password_env: Text = ""
    """Name of an environment variable that holds the password."""
    tls: bool = False
    """Encrypt, and check the broker's certificate and name."""
    ca_file: Text = ""
    """Path of the certificates that the broker's must lead to; empty for the system's."""
    certificate_file: Text = ""
    """Path of a certificate of our own, if the broker wants one."""
    key_file: Text = ""
    """Path of its key, if that is not in the same file."""
    client_id: Text = ""
    """How the broker knows this bridge; empty for `streamtag-` and the prefix. Never two alike."""
    prefix: Text = "streamtag"
    """How all topics begin; never the same for two daemons at one broker."""
    discovery: Text = "homeassistant"
    """Where Home Assistant looks for devices; empty for no discovery."""
    streams: tuple[Name, ...] | None = Field(default=None, strict=False)
    """The only ones that are told; None for all."""
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only ones that are told; None for all that may switch."""
    scores_seconds: Seconds = 0.0
    """How often scores are told, at most; 0 for never."""
    mood_seconds: Seconds = 0.0
    """How often the mood is told, at most; 0 for never."""
    keepalive_seconds: Annotated[int, Field(ge=5, le=3600)] = 30
    """Silence after which either side looks whether the other is there; a bridge that has vanished
    is `offline` after one and a half times as long."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Before a lost broker is tried again; doubles with every failure."""
    longest_retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """The longest such time."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or (8883 if self.tls else 1883)

    def at_home(self, folder: Path) -> Self:
        """The same with absolute paths."""
        paths = {key: str(folder / getattr(self, key)) for key in _FILES if getattr(self, key)}
        return self.model_copy(update=paths)

    def missing_files(self) -> list[str]:
        """Complaints about files that are not there."""
        return [
            f"mqtt.{key}: expected an existing file, got {getattr(self, key)!r}"
            for key in _FILES
            if getattr(self, key) and not Path(getattr(self, key)).is_file()
        ]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        one_at_most("password", self.password, self.password_file, self.password_env)
        if (self.password or self.password_file or self.password_env) and not self.user:
            raise ValueError("user: expected with a password, got none")
        if not self.tls and (self.ca_file or self.certificate_file or self.key_file):
            raise ValueError("tls: expected true with certificates, got false")
        if self.key_file and not self.certificate_file:
            raise ValueError("certificate_file: expected with key_file, got none")
        _check_levels("prefix", self.prefix)
        if self.discovery:
            _check_levels("discovery", self.discovery)
        return self


def _check_levels(key: str, topic: str) -> None:
    levels = topic.split("/")
    if not all(levels) or topic.startswith("$") or any(c in "+#" for c in topic):
        raise ValueError(
            f"{key}: expected levels of a topic such as streamtag or home/audio, without + and #, "
            f"got {topic!r:.60}"
        )
