"""The tables `[[webhook]]`: who is told by HTTP, and of what."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from streamtag.config.secret import one_at_most
from streamtag.config.tuning import Name, Seconds, Table, Text
from streamtag.feed.messages import TYPES

_NOT_TOLD = {"beat", "goodbye", "journal", "stats", "notice"}
_MEASURED = ("scores", "mood")
EVENTS = (*(name for name in TYPES if name not in {*_NOT_TOLD, *_MEASURED}), "missed")
"""What a webhook is told that does not choose."""
CHOICES = (*EVENTS, *_MEASURED)


class WebhookConfig(Table):
    """A receiver of events by HTTP; see docs/webhooks.md."""

    name: Name
    """For logs and its position; every webhook has its own."""
    url: Text
    """Where messages are posted."""
    streams: tuple[Name, ...] | None = Field(default=None, strict=False)
    """The only ones that are told; None for all."""
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only ones whose `tag_on` and `tag_off` are told; None for all."""
    events: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only types of messages that are told; None for all but scores and moods."""
    secret: Text = ""
    """Signs every request; better in a file or a variable."""
    secret_file: Text = ""
    """Path, relative to the configuration file, of a file that holds nothing but the secret."""
    secret_env: Text = ""
    """Name of an environment variable that holds the secret."""
    headers: dict[str, str] = Field(default={})
    """Further headers of every request."""
    ca_file: Text = ""
    """Path of the certificates that the receiver's must lead to; empty for the usual ones."""
    batch: Annotated[int, Field(ge=1, le=1000)] = 1
    """Messages in one request at the most; with more than one, the body is always a list."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """For each of connecting, sending and the answer."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Before a failed request is tried again; doubles with every failure."""
    longest_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """The longest such time."""
    give_up_seconds: Seconds = 3600.0
    """How long one request is tried before the next one gets its turn; 0 for ever."""
    position: Text = ""
    """Path, relative to the configuration file, of the file that says what was delivered; empty for
    one beside the journal, or beside the configuration file where there is none."""

    def at_home(self, folder: Path, journal: str) -> Self:
        """The same with absolute paths.

        Args:
            folder: of the configuration file.
            journal: absolute; empty for none.
        """
        keys = [key for key in ("secret_file", "ca_file", "position") if getattr(self, key)]
        paths = {key: str(folder / getattr(self, key)) for key in keys}
        beside = f"{journal}." if journal else f"{folder}/"
        return self.model_copy(update={"position": f"{beside}webhook-{self.name}.position"} | paths)

    def faults(self) -> list[str]:
        """Complaints about files and folders that are not there."""
        key, found = f"webhook {self.name!r}", []
        for file in ("secret_file", "ca_file"):
            if (path := getattr(self, file)) and not Path(path).is_file():
                found.append(f"{key}.{file}: expected an existing file, got {path!r}")
        if not Path(self.position).parent.is_dir():
            found.append(
                f"{key}.position: expected a path in a folder that exists, got {self.position!r}"
            )
        return found

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        one_at_most("secret", self.secret, self.secret_file, self.secret_env)
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


def names_twice(webhooks: tuple[WebhookConfig, ...]) -> Iterator[str]:
    """A complaint about each name that is there twice."""
    names = [webhook.name for webhook in webhooks]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"webhook: expected different names, got {name!r} twice"
