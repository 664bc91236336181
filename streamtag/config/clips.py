"""The table `[clips]`: audio that is kept as evidence. See docs/evidence.md."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from streamtag.config.fields import ConfigTable, FilePath, Seconds, Text

CAUSES = {
    "tag_on": "tag",
    "silence_on": "",
    "clipping": "",
    "gap": "",
    "channels": "balance",
    "stream_status": "state",
    "stream_down": "reason",
    "title": "title",
    "alert_raised": "alert",
}
"""Types of messages that clips are made of, each with the field that a pattern is compared with."""


def _cause(text: str) -> str:
    kind, colon, pattern = text.partition(":")
    if kind not in CAUSES or (colon and not (CAUSES[kind] and pattern)):
        raise ValueError(
            f"expected a type ({', '.join(CAUSES)}), or TYPE:PATTERN for one that has a tag, "
            f"balance, state, reason, title or alert; got {text!r:.100}"
        )
    return text


ClipCause = Annotated[str, AfterValidator(_cause)]


class ClipsConfig(ConfigTable):
    """The table `[clips]`: which audio is kept, and for how long."""

    folder: FilePath = Field(default="clips", validate_default=True)
    """Path, relative to the configuration file, of the clips. The folder is made."""
    on: Annotated[tuple[ClipCause, ...], Field(strict=False, min_length=1)] = (
        "silence_on",
        "alert_raised",
    )
    """The events that make a clip: `TYPE`, or `TYPE:PATTERN` such as `tag_on:speech*`."""
    seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """The last seconds of each stream that are kept in memory."""
    rate: Literal[8000, 12000, 16000, 24000, 48000] = 16000
    """Hz of what is kept; one channel, 16 bits."""
    before_seconds: Seconds = 10.0
    """How long before its event a clip begins."""
    after_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """How long after the end of its event a clip ends."""
    longest_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """A clip is never longer."""
    format: Literal["flac", "opus"] = "flac"
    days: Annotated[float, Field(gt=0, le=36500)] = 30.0
    """How long clips are kept."""
    megabytes: Annotated[float, Field(gt=0)] = 10_000.0
    """The largest size of all clips. The oldest are removed sooner if it is reached."""
    free_megabytes: Annotated[float, Field(ge=0)] = 500.0
    """No clip is made while the disk has less than this left."""
    link: Text = "/clip/"
    """What comes before a clip's name in its address, such as https://monitor.example.org/clip/."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.before_seconds > self.seconds - 0.5:
            raise ValueError(
                "before_seconds: expected at least half a second less than seconds, which are "
                f"{self.seconds:g}, got {self.before_seconds:g}"
            )
        if self.longest_seconds < self.before_seconds:
            raise ValueError(
                "longest_seconds: expected at least before_seconds, which are "
                f"{self.before_seconds:g}, got {self.longest_seconds:g}"
            )
        return self
