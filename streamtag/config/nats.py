"""The table `[nats]`: messages in NATS JetStream, and where that is."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from streamtag.config.fields import (
    ConfigTable,
    ExistingFile,
    Text,
    check_one_secret,
    read_secret,
)
from streamtag.config.rights import Pattern
from streamtag.errors import FeedError
from streamtag.feed.nats.connection import NatsOptions, options_of
from streamtag.feed.nats.subjects import KEPT, PASSING, PREFIX

NatsTopicKind = Literal["event", "alert", "clip", "section", "scores", "mood", "level", "stats"]


class NatsConfig(ConfigTable):
    """The table `[nats]`: messages in NATS JetStream. See docs/nats.md."""

    servers: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] = (
        "nats://127.0.0.1:4222",
    )
    """Servers of a cluster, `nats://HOST:PORT` or `tls://HOST:PORT` each. One is enough: it names
    the others."""
    prefix: Annotated[str, Field(pattern=PREFIX)] = "streamtag"
    """The first token of all subjects, and the beginning of the names of streams and buckets.
    Two fleets on one NATS need different ones."""
    user: Text = ""
    """Name of an account at the server; empty for none."""
    password: Text = ""
    """Its password. Better in a file or a variable."""
    password_file: ExistingFile = ""
    """Path, relative to the configuration file, of a file that holds nothing but the password."""
    password_env: Text = ""
    """Name of an environment variable that holds the password."""
    token: Text = ""
    """A token instead of user and password. Better in a file or a variable."""
    token_file: ExistingFile = ""
    """Path, relative to the configuration file, of a file that holds nothing but the token."""
    token_env: Text = ""
    """Name of an environment variable that holds the token."""
    credentials_file: ExistingFile = ""
    """Path of a `.creds` file of NATS: a JWT and a seed."""
    nkey_file: ExistingFile = ""
    """Path of a file that holds the seed of an nkey."""
    ca_file: ExistingFile = ""
    """Path of the certificates that the server's must lead to; empty for the system's."""
    certificate_file: ExistingFile = ""
    """Path of a certificate of our own, if the server wants one."""
    key_file: ExistingFile = ""
    """Path of its key, if that is not in the same file."""
    inbox: Text = ""
    """Beginning of the subjects of answers; empty for `_INBOX`. A user with limited permissions
    needs one of its own."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Number of servers that keep each message: 1, or 3 in a cluster of three."""
    topics: tuple[NatsTopicKind, ...] = Field(
        default=("event", "alert", "clip", "section", "scores", "mood"), strict=False
    )
    """Kinds of topics that are published."""
    streams: tuple[Pattern, ...] | None = Field(default=None, strict=False)
    """The only streams whose messages are published: names, or beginnings of names with a star.
    None for all."""
    days: Annotated[float, Field(gt=0, le=36500)] = 30.0
    """How long JetStream keeps events, alerts, clips and sections."""
    megabytes: Annotated[float, Field(ge=0)] = 0.0
    """The most that JetStream keeps of them. The oldest are removed sooner if it is reached. 0 for
    as much as the server has."""
    live_minutes: Annotated[float, Field(ge=1, le=14400)] = 15.0
    """How long JetStream keeps scores, moods, levels and counters."""
    live_megabytes: Annotated[float, Field(ge=0)] = 0.0
    """The most that JetStream keeps of them; 0 for as much as the server has."""

    def options(self) -> NatsOptions:
        """The same for a connection.

        Raises:
            ConfigError: a secret cannot be read.
        """
        secrets: dict[str, Any] = {
            name: read_secret(
                f"nats.{name}",
                getattr(self, name),
                getattr(self, f"{name}_file"),
                getattr(self, f"{name}_env"),
            )
            for name in ("password", "token")
        }
        return NatsOptions(
            self.servers,
            self.prefix,
            self.user,
            credentials=self.credentials_file,
            nkey=self.nkey_file,
            ca_file=self.ca_file,
            certificate_file=self.certificate_file,
            key_file=self.key_file,
            inbox=self.inbox,
            **secrets,
        )

    @property
    def kept(self) -> tuple[str, ...]:
        """Kinds that are kept for days."""
        return tuple(one for one in KEPT if one in self.topics)

    @property
    def passing(self) -> tuple[str, ...]:
        """Kinds that are kept for minutes."""
        return tuple(one for one in PASSING if one in self.topics)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in ("password", "token"):
            given = [getattr(self, f"{name}{end}") for end in ("", "_file", "_env")]
            check_one_secret(name, *given)
        if (self.password or self.password_file or self.password_env) and not self.user:
            raise ValueError("user: expected with a password, got none")
        ways = [self.user, self.token or self.token_file or self.token_env]
        if sum(map(bool, [*ways, self.credentials_file, self.nkey_file])) > 1:
            raise ValueError(
                "user: expected one of user, token, credentials_file, nkey_file, got several"
            )
        if self.key_file and not self.certificate_file:
            raise ValueError("certificate_file: expected with key_file, got none")
        if any(c in self.inbox for c in " *>") or self.inbox.endswith("."):
            raise ValueError(
                f"inbox: expected a subject such as _INBOX_radio1, got {self.inbox!r:.60}"
            )
        self._check_servers()
        return self

    def _check_servers(self) -> None:
        for server in self.servers:
            try:
                found = options_of(server)
            except FeedError as error:
                raise ValueError(str(error).replace("feed:", "servers:", 1)) from None
            if found.user or "," in server or found.prefix != "streamtag":
                raise ValueError(
                    "servers: expected nats://HOST:PORT without user and prefix, which have keys "
                    f"of their own, got {server.rpartition('@')[2]!r:.60}"
                )
