"""The table `[web]`: the feed over HTTP."""

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from streamtag.config.secret import one_at_most
from streamtag.config.tuning import Table, Text


class WebConfig(Table):
    """Where to listen, and who may ask; see docs/web.md."""

    bind: Text = "127.0.0.1:8080"
    """`HOST:PORT`; port 0 takes a free one."""
    token: Text = ""
    """Whoever asks must know it; empty for everybody. Better in a file or a variable."""
    token_file: Text = ""
    """Path, relative to the configuration file, of a file that holds nothing but the token."""
    token_env: Text = ""
    """Name of an environment variable that holds the token."""
    no_token_on_public_address: bool = False
    """Let everybody who can reach the machine read along."""
    cors_origins: tuple[str, ...] = Field(default=(), strict=False)
    """Other sites whose pages may ask, such as https://example.org; `*` for all."""
    hosts: tuple[str, ...] = Field(default=(), strict=False)
    """Further names under which this server is known, say to a proxy; only looked at where there is
    no token, to keep other sites' pages out."""
    clients: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Listeners at once, /events and /ws together."""
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Messages that may wait for one of them before it is told that it is too slow."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.bind.rpartition(":")
        return host.strip("[]"), int(port)

    def at_home(self, folder: Path) -> Self:
        """The same with absolute paths."""
        if not self.token_file:
            return self
        return self.model_copy(update={"token_file": str(folder / self.token_file)})

    def missing_files(self) -> list[str]:
        """Complaints about files that are not there."""
        if not self.token_file or Path(self.token_file).is_file():
            return []
        return [f"web.token_file: expected an existing file, got {self.token_file!r}"]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        host, _, port = self.bind.rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and int(port) < 65536):
            raise ValueError(f"bind: expected HOST:PORT, such as 127.0.0.1:8080, got {self.bind!r}")
        one_at_most("token", self.token, self.token_file, self.token_env)
        has_token = self.token or self.token_file or self.token_env
        if is_public(self.address[0]) and not has_token and not self.no_token_on_public_address:
            raise ValueError(
                "bind: expected an address of this machine alone, such as 127.0.0.1:8080, or a "
                f"token, or no_token_on_public_address = true; got {self.bind!r} without any of "
                "them"
            )
        return self


def is_public(host: str) -> bool:
    """Whether others than this machine's programs could reach it."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
