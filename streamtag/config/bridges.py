"""The tables of the bridges: `[web]`, `[mqtt]`, `[osc]` and `[[webhook]]`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from streamtag.config.fields import (
    ConfigTable,
    ExistingFile,
    FilePath,
    Name,
    Seconds,
    Text,
    check_one_secret,
    is_public,
    split_host_port,
)
from streamtag.config.rights import Pattern, RightsConfig
from streamtag.feed.messages import TYPES

_ORIGIN = re.compile(r"https?://(\*\.)?[A-Za-z0-9.-]+(:[0-9]{1,5}|:\*)?")


class WebTokenConfig(RightsConfig):
    """A table `[web.tokens.NAME]`: a token that shows only some streams."""

    token: Text = ""
    """Clients send it. Better in a file or a variable."""
    token_file: ExistingFile = ""
    """Path, relative to the configuration file, of a file that holds nothing but the token."""
    token_env: Text = ""
    """Name of an environment variable that holds the token."""

    @model_validator(mode="after")
    def _is_one_secret(self) -> Self:
        check_one_secret("token", self.token, self.token_file, self.token_env)
        if not (self.token or self.token_file or self.token_env):
            raise ValueError("token: expected one of token, token_file, token_env, got none")
        return self


class WebConfig(ConfigTable):
    """The table `[web]`: the feed over HTTP. See docs/web.md."""

    bind: Text = "127.0.0.1:8080"
    """`HOST:PORT`. Port 0 takes a free one."""
    token: Text = ""
    """Clients must send it. Empty for no token. Better in a file or a variable."""
    token_file: ExistingFile = ""
    """Path, relative to the configuration file, of a file that holds nothing but the token."""
    token_env: Text = ""
    """Name of an environment variable that holds the token."""
    tokens: dict[Text, WebTokenConfig] = Field(default={})
    """Further tokens that show only some streams, by name. With one, everybody needs a token."""
    no_token_on_public_address: bool = False
    """Allow clients on other machines without a token."""
    control: bool = False
    """Whether those who have signed in with the control token may pause, resume, add and remove
    streams, try sources and change thresholds."""
    control_token: Text = ""
    """The token that allows this. Better in a file or a variable."""
    control_token_file: ExistingFile = ""
    """Path, relative to the configuration file, of a file that holds nothing but this token."""
    control_token_env: Text = ""
    """Name of an environment variable that holds this token."""
    cors_origins: tuple[str, ...] = Field(default=(), strict=False)
    """Other sites whose pages may read, such as https://example.org. `*` for all."""
    hosts: tuple[str, ...] = Field(default=(), strict=False)
    """Further host names of this server, for example at a proxy. They only matter without a token,
    to keep the pages of other sites out."""
    frame_origins: tuple[str, ...] = Field(default=(), strict=False)
    """Other sites that may show the pages in an iframe, such as https://example.org."""
    logos: FilePath = ""
    """Path, relative to the configuration file, of a folder of images for the wall's `?logo=`.
    Anybody who reaches the server can read them. Empty for none."""
    clients: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Number of clients at the same time, /events and /ws together."""
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Messages that may wait for one client before it is disconnected as too slow."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        place = split_host_port(self.bind)
        assert place is not None  # checked below
        return place

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if split_host_port(self.bind) is None:
            raise ValueError(f"bind: expected HOST:PORT, such as 127.0.0.1:8080, got {self.bind!r}")
        check_one_secret("token", self.token, self.token_file, self.token_env)
        check_one_secret(
            "control_token", self.control_token, self.control_token_file, self.control_token_env
        )
        control_token = self.control_token or self.control_token_file or self.control_token_env
        if self.control != bool(control_token):
            raise ValueError(
                "control: expected true together with one of control_token, control_token_file, "
                f"control_token_env, got {'true' if self.control else 'false'} "
                f"with{'' if control_token else 'out'} one"
            )
        has_token = self.token or self.token_file or self.token_env or self.tokens
        if is_public(self.address[0]) and not has_token and not self.no_token_on_public_address:
            raise ValueError(
                "bind: expected an address of this machine alone, such as 127.0.0.1:8080, or a "
                f"token, or no_token_on_public_address = true; got {self.bind!r} without any of "
                "them"
            )
        for origin in self.frame_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"frame_origins: expected such as https://example.org, got {origin!r:.200}"
                )
        return self

    def missing_files(self, key: str) -> list[str]:
        """Complaints about files and folders that do not exist."""
        found = super().missing_files(key)
        for name, table in self.tokens.items():
            found += table.missing_files(f"{key}.tokens.{name}")
        if self.logos and not Path(self.logos).is_dir():
            found.append(f"{key}.logos: expected a folder that exists, got {self.logos!r}")
        return found


class MqttConfig(ConfigTable):
    """The table `[mqtt]`: a broker, and what is published there. See docs/mqtt.md."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Of the broker."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None for 1883, or 8883 with TLS."""
    user: Text = ""
    """Name of an account at the broker; empty for none."""
    password: Text = ""
    """Its password. Better in a file or a variable."""
    password_file: ExistingFile = ""
    """Path, relative to the configuration file, of a file that holds nothing but the password."""
    password_env: Text = ""
    """Name of an environment variable that holds the password."""
    tls: bool = False
    """Encrypt, and check the broker's certificate and name."""
    ca_file: ExistingFile = ""
    """Path of the certificates that the broker's must lead to; empty for the system's."""
    certificate_file: ExistingFile = ""
    """Path of a certificate of our own, if the broker wants one."""
    key_file: ExistingFile = ""
    """Path of its key, if that is not in the same file."""
    client_id: Text = ""
    """The bridge's unique name at the broker. Empty for `streamtag-` and the prefix."""
    prefix: Text = "streamtag"
    """The first levels of all topics. Two daemons at one broker need different ones."""
    discovery: Text = "homeassistant"
    """Where Home Assistant looks for devices; empty for no discovery."""
    streams: tuple[Pattern, ...] | None = Field(default=None, strict=False)
    """The only streams that are published: names, or beginnings of names with a star. None for
    all."""
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only tags that are published. None for all that can become active."""
    scores_seconds: Seconds = 0.0
    """The shortest time between two publications of scores; 0 for never."""
    mood_seconds: Seconds = 0.0
    """The shortest time between two publications of the mood; 0 for never."""
    keepalive_seconds: Annotated[int, Field(ge=5, le=3600)] = 30
    """Silence after which either side looks whether the other is there; a bridge that has vanished
    is `offline` after one and a half times as long."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Wait before the first new try to connect. It doubles with every failure."""
    longest_retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """The longest such wait."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or (8883 if self.tls else 1883)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_one_secret("password", self.password, self.password_file, self.password_env)
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
    """Refuses what is no beginning of an MQTT topic."""
    levels = topic.split("/")
    if not all(levels) or topic.startswith("$") or any(c in "+#" for c in topic):
        raise ValueError(
            f"{key}: expected levels of a topic such as streamtag or home/audio, without + and #, "
            f"got {topic!r:.60}"
        )


_PREFIX = re.compile(r"(/[!-~]+)*")
RESERVED = " #*,?[]{}"
"""Characters that OSC addresses may not hold, beside the slash between their parts."""


class OscConfig(ConfigTable):
    """The table `[osc]`: lights and sound desks that get the state by UDP. See docs/osc.md."""

    targets: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
    """`HOST:PORT` each. Broadcast and multicast addresses are possible."""
    prefix: Text = "/streamtag"
    """The first part of all OSC addresses. It may be empty."""
    streams: tuple[Pattern, ...] | None = Field(default=None, strict=False)
    """The only streams that are sent: names, or beginnings of names with a star. None for all."""
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only tags that are sent. None for all that can become active."""
    scores_seconds: Seconds = 0.0
    """The shortest time between two scores of a tag; 0 for never."""
    mood: bool = True
    """Also send the mood of each stream, once a second."""
    repeat_seconds: Annotated[float, Field(ge=0.5, le=3600)] = 5.0
    """Everything is sent again within this time, since datagrams get lost."""

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports."""
        return [place for target in self.targets if (place := split_host_port(target))]

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        for target in self.targets:
            place = split_host_port(target)
            bare_ipv6 = target.count(":") > 1 and target[0] != "["
            if place is None or place[1] == 0 or bare_ipv6:
                raise ValueError(f"targets: expected HOST:PORT, got {target!r:.200}")
        parts = _PREFIX.fullmatch(self.prefix)
        if parts is None or "//" in self.prefix or set(self.prefix) & set(RESERVED):
            raise ValueError(
                f"prefix: expected parts such as /streamtag, without any of {RESERVED!r}, "
                f"got {self.prefix!r:.60}"
            )
        if self.prefix.endswith("/"):
            raise ValueError(f"prefix: expected no slash at its end, got {self.prefix!r:.60}")
        return self


_NOT_SENT = {"level", "beat", "goodbye", "journal", "stats", "notice"}
_MEASURED = ("scores", "mood")
ALERTS = ("alert_raised", "alert_cleared", "alert_acknowledged")
"""The types of messages about alerts."""
EVENTS = (*(name for name in TYPES if name not in {*_NOT_SENT, *_MEASURED, *ALERTS}), "missed")
"""The types of messages that are sent unless `events` says others."""
CHOICES = (*EVENTS, *_MEASURED, *ALERTS)
"""All types that `events` may name."""


class WebhookConfig(ConfigTable):
    """A table `[[webhook]]`: a receiver of events by HTTP. See docs/webhooks.md."""

    name: Name
    """Its unique name, for logs and its position."""
    url: Text
    """Where messages are posted."""
    streams: tuple[Pattern, ...] | None = Field(default=None, strict=False)
    """The only streams whose events are sent: names, or beginnings of names with a star. None for
    all."""
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only tags whose `tag_on` and `tag_off` are sent. None for all."""
    events: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only types of messages that are sent. None for all but scores and moods."""
    secret: Text = ""
    """Signs every request. Better in a file or a variable."""
    secret_file: ExistingFile = ""
    """Path, relative to the configuration file, of a file that holds nothing but the secret."""
    secret_env: Text = ""
    """Name of an environment variable that holds the secret."""
    headers: dict[str, str] = Field(default={})
    """Further headers of every request."""
    ca_file: ExistingFile = ""
    """Path of the certificates (PEM) to trust; empty for the usual ones."""
    batch: Annotated[int, Field(ge=1, le=1000)] = 1
    """The most messages in one request. With more than one, the body is always a list."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """Time limit of each of connecting, sending and the response."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Wait before a failed request is sent again. It doubles with every failure."""
    longest_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """The longest such wait."""
    give_up_seconds: Seconds = 3600.0
    """How long to try to send a request before it is given up; 0 for ever."""
    position: FilePath = ""
    """Path, relative to the configuration file, of the file that records what was delivered. Empty
    for one beside the journal, or beside the configuration file where there is none."""

    def with_position(self, folder: Path, journal: str) -> Self:
        """The same with the position's path. `journal` is absolute; empty for none."""
        if self.position:
            return self
        beside = f"{journal}." if journal else f"{folder}/"
        return self.model_copy(update={"position": f"{beside}webhook-{self.name}.position"})

    def missing_files(self, key: str) -> list[str]:
        """Complaints about files and folders that do not exist."""
        found = super().missing_files(key)
        if not Path(self.position).parent.is_dir():
            expected = "a path in a folder that exists"
            found.append(f"{key}.position: expected {expected}, got {self.position!r}")
        return found

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        check_one_secret("secret", self.secret, self.secret_file, self.secret_env)
        try:
            url = urlsplit(self.url)
            sound = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            sound = False
        if not sound or any(c.isspace() or not c.isprintable() for c in self.url):
            raise ValueError(f"url: expected http://… or https://…, got {self.url!r:.200}")
        for event in self.events or ():
            if event not in CHOICES:
                raise ValueError(
                    f"events: expected some of {', '.join(CHOICES)}; got {event!r:.60}"
                )
        for name, value in self.headers.items():
            if not (name.isascii() and value.isascii() and (name + value).isprintable()):
                raise ValueError(f"headers: expected printable ASCII, got {name!r:.60}")
        return self


def duplicate_names(webhooks: tuple[WebhookConfig, ...]) -> Iterator[str]:
    """A complaint about each name that two webhooks have."""
    names = [webhook.name for webhook in webhooks]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"webhook: expected different names, got {name!r} twice"
