"""The table `[report]`: reports that are sent on a schedule."""

from datetime import datetime, time
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from streamtag.config.fields import ConfigTable, FilePath, Name, Text


class ReportConfig(ConfigTable):
    """A table `[report]`. See docs/reports.md."""

    every: Literal["day", "week", "month"]
    """The period; its report is sent after its end."""
    at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "06:00"
    """When it is sent, on the day after the period."""
    zone: Text = "UTC"
    """Time zone of that time, and of the days, such as `Europe/Berlin`."""
    streams: Annotated[tuple[str, ...], Field(strict=False)] = ("*",)
    """Names of the streams, with `*` and `?`."""
    notify: tuple[Name, ...] | None = Field(default=None, strict=False)
    """Targets of `[notify]` that get it. None for all."""
    lang: Literal["en", "de", "es", "fr"] = "en"
    """Language of the pages."""
    folder: FilePath = ""
    """Path, relative to the configuration file, of the folder that keeps the pages. Empty for
    `reports` in the folder of `notify.state`."""

    @property
    def time(self) -> time:
        """When it is sent."""
        return datetime.strptime(self.at, "%H:%M").time()

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        try:
            ZoneInfo(self.zone)
        except (ValueError, OSError, KeyError):
            raise ValueError(
                f"zone: expected a time zone such as Europe/Berlin, got {self.zone!r:.60}"
            ) from None
        return self
