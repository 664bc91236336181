"""What somebody may see, in tables of the configuration."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from streamtag.config.fields import ConfigTable
from streamtag.feed.rights import OF_STREAMS, OF_THE_DAEMON, PATTERN, TOPICS, Rights

Pattern = Annotated[str, Field(pattern=PATTERN)]
"""A stream's name, or the beginning of names and a star."""
Topic = Literal["event", "scores", "mood", "level", "alert", "clip", "section", "stats"]


class RightsConfig(ConfigTable):
    """What somebody may see."""

    streams: tuple[Pattern, ...] = Field(strict=False)
    """Names of streams, or beginnings of names with a star."""
    topics: tuple[Topic, ...] | None = Field(default=None, strict=False)
    """Kinds of topics, such as event and scores. None for all that the streams allow: `alert`
    and `stats`, which are about all streams, only with `*`."""

    @property
    def rights(self) -> Rights:
        """The same for the feed."""
        streams = ("*",) if "*" in self.streams else self.streams
        if self.topics is not None:
            return Rights(streams, tuple(one for one in TOPICS if one in self.topics))
        return Rights(streams, TOPICS if streams == ("*",) else OF_STREAMS)

    @model_validator(mode="after")
    def _hides_totals(self) -> Self:
        about_all = [one for one in OF_THE_DAEMON if one in (self.topics or ())]
        if about_all and "*" not in self.streams:
            raise ValueError(
                f'topics: expected "{about_all[0]}" only with streams = ["*"], got it with '
                f"{', '.join(self.streams) or 'none'}; it is about all streams"
            )
        return self
