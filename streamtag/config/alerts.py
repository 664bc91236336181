"""The tables `[[alert]]`, the rules of alerts, and `[notify]`, how people are notified."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, model_validator

from streamtag.config.fields import (
    ConfigTable,
    ExistingFile,
    FilePath,
    Name,
    Seconds,
    Text,
    check_one_secret,
)

TextList = Annotated[tuple[str, ...], Field(strict=False)]
Hour = Annotated[float, Field(gt=0, le=31 * 86_400)]

OWN_KEYS: Mapping[str, tuple[str, ...]] = {
    "tag_on": ("tags", "categories"),
    "tag_off": ("tags", "categories"),
    "silence": (),
    "one_sided": ("balances",),
    "clipping": ("at_least", "within_seconds"),
    "stream_lost": ("states",),
    "gaps": ("at_least", "within_seconds"),
    "no_title": (),
    "title": ("title",),
    "share_below": ("tags", "categories", "share", "within_seconds"),
    "share_above": ("tags", "categories", "share", "within_seconds"),
    "health": ("parts",),
}
"""The conditions, and the keys that only some of them have."""
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "title": ("title",),
    "share_below": ("share",),
    "share_above": ("share",),
}
TAG_CONDITIONS = ("tag_on", "tag_off", "share_below", "share_above")
"""Conditions on tags, which need `tags` or `categories`."""
WITHOUT_DURATION = ("share_below", "share_above", "clipping", "gaps")
"""Conditions that have a window of time of their own, `within_seconds`."""
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_QUIET = re.compile(
    r"(?:([a-z]{3}(?:,[a-z]{3})*) )?([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)",
    re.IGNORECASE,
)
LONGEST_QUIET_DAYS = 8
"""Quiet hours that follow on each other are joined up to here."""


class AlertConfig(ConfigTable):
    """A table `[[alert]]`: a rule. See docs/alerts.md."""

    name: Name
    """Its unique name, the second part of the topic of its messages."""
    when: Literal[
        "tag_on",
        "tag_off",
        "silence",
        "one_sided",
        "clipping",
        "stream_lost",
        "gaps",
        "no_title",
        "title",
        "share_below",
        "share_above",
        "health",
    ]
    """The condition."""
    streams: TextList = ("*",)
    """Names of the streams that it applies to; `*` and `?` stand for other characters."""
    for_seconds: Annotated[float, Field(ge=0, le=31 * 86_400)] = 0.0
    """How long the condition must hold."""
    tags: TextList = ()
    """Conditions of tags: names, with `*` and `?`. The condition is about any of them."""
    categories: TextList = ()
    """Conditions of tags: all tags of these categories of the model's card, such as `genre`."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """`share_below`, `share_above`: the part of the time in which one of the tags is on."""
    within_seconds: Hour = 3600.0
    """`share_…`, `gaps`, `clipping`: the sliding time that they look at."""
    at_least: Annotated[int, Field(ge=1, le=10**12)] = 1
    """Number of gaps (`gaps`), or of clipped samples (`clipping`)."""
    title: str = ""
    """`title`: a regular expression that occurs in the title; capitals do not matter."""
    states: Annotated[
        tuple[Literal["stalled", "retrying", "failed", "lost"], ...],
        Field(strict=False, min_length=1),
    ] = ("stalled", "retrying", "failed", "lost")
    """`stream_lost`: states of the source that count."""
    balances: Annotated[
        tuple[Literal["left_silent", "right_silent", "mono"], ...],
        Field(strict=False, min_length=1),
    ] = ("left_silent", "right_silent")
    """`one_sided`: what counts."""
    parts: Annotated[
        tuple[Literal["journal", "feed", "engine", "bridges", "workers"], ...],
        Field(strict=False, min_length=1),
    ] = ("journal", "feed", "engine", "bridges", "workers")
    """`health`: parts of the daemon that are watched."""
    clear_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """How long the condition must not hold before the alert is cleared."""
    cooldown_seconds: Annotated[float, Field(ge=0, le=31 * 86_400)] = 0.0
    """How long after it was raised it is not raised again for the same stream."""
    group_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Streams that meet the condition within this time are one alert. The first waits so long."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """How bad it is."""
    text: str = ""
    """For people, instead of a description of the condition."""
    notify: tuple[Name, ...] | None = Field(default=None, strict=False)
    """Targets of `[notify]` that are notified. None for all."""
    notify_cleared: bool = True
    """Tell them also when it is over."""
    remind_seconds: Annotated[float, Field(ge=0, le=31 * 86_400)] = 0.0
    """How often to send it again, until it is acknowledged or cleared; 0 for never."""
    quiet: TextList = ()
    """Quiet hours, such as `22:00-06:30` or `sat,sun 00:00-24:00`. Alerts raised then are sent
    when they end, unless it is over by then."""
    zone: Text = "UTC"
    """Time zone of the quiet hours, such as `Europe/Berlin`."""

    def quiet_until(self, ns: int) -> int:
        """When the quiet hours end that a moment is in, in nanoseconds since 1970; 0 if in none."""
        if not self.quiet:
            return 0
        zone = ZoneInfo(self.zone)
        begin = at = datetime.fromtimestamp(ns // 10**9, UTC)
        while at - begin < timedelta(days=LONGEST_QUIET_DAYS):
            ends = [end for text in self.quiet if (end := _end_of(text, at.astimezone(zone)))]
            if not ends:
                break
            at = max(ends).astimezone(UTC)
        return 0 if at == begin else int(at.timestamp()) * 10**9

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        given = self.model_fields_set
        own = OWN_KEYS[self.when]
        for key in sorted({k for keys in OWN_KEYS.values() for k in keys}):
            if key in given and key not in own:
                fits = ", ".join(name for name, keys in OWN_KEYS.items() if key in keys)
                raise ValueError(f"{key}: expected when = {fits}, got {self.when!r}")
        for key in REQUIRED.get(self.when, ()):
            if key not in given:
                raise ValueError(f"{key}: expected a value, since when is {self.when!r}, got none")
        if self.when in TAG_CONDITIONS and not (self.tags or self.categories):
            raise ValueError(f"tags: expected tags or categories for {self.when!r}, got neither")
        if self.when in WITHOUT_DURATION and "for_seconds" in given:
            raise ValueError(f"for_seconds: expected within_seconds for {self.when!r}, got both")
        if self.when == "no_title" and not self.for_seconds:
            raise ValueError("for_seconds: expected how long without a title, got none or 0")
        self._check_texts()
        return self

    def _check_texts(self) -> None:
        try:
            re.compile(self.title)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(
                f"title: expected a regular expression, got {self.title!r:.200}: {error}"
            ) from None
        for text in self.quiet:
            found = _QUIET.fullmatch(text)
            days = (found[1] or "").lower().split(",") if found else ["?"]
            if not found or (days != [""] and not set(days) <= set(_DAYS)):
                expected = "22:00-06:30 or sat,sun 00:00-24:00"
                raise ValueError(f"quiet: expected such as {expected}, got {text!r:.60}")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"zone: expected a time zone such as Europe/Berlin, got {self.zone!r:.60}"
            ) from None


def _end_of(text: str, at: datetime) -> datetime | None:
    """The end of one entry of `quiet`, if a moment is in it; the zone is that of the moment."""
    found = _QUIET.fullmatch(text)
    assert found is not None  # checked when the configuration was read
    days = found[1].lower().split(",") if found[1] else _DAYS
    begin = int(found[2]) * 60 + int(found[3])
    end = 1440 if found[4] is None else int(found[4]) * 60 + int(found[5])
    end += 1440 * (end <= begin)
    for back in (0, 1):  # the day on which it began
        day = (at - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
        minutes = at.hour * 60 + at.minute + 1440 * back
        if _DAYS[day.weekday()] in days and begin <= minutes < end:
            over = day + timedelta(days=end // 1440)
            return over.replace(hour=end % 1440 // 60, minute=end % 60)
    return None


class NotifyTarget(ConfigTable):
    """A table `[notify.targets.NAME]`: one address that Apprise knows."""

    url: Text = ""
    """The address, such as `mailtos://…`. It often holds a secret: better in a file."""
    url_file: ExistingFile = ""
    """Path, relative to the configuration file, of a file that holds nothing but the address."""
    url_env: Text = ""
    """Name of an environment variable that holds the address."""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        check_one_secret("url", self.url, self.url_file, self.url_env)
        if not (self.url or self.url_file or self.url_env):
            raise ValueError("url: expected one of url, url_file, url_env, got none")
        if self.url and "://" not in self.url:  # it may hold a secret, so it is not quoted
            raise ValueError("url: expected an address such as mailtos://…, got one without ://")
        return self


class NotifyConfig(ConfigTable):
    """The table `[notify]`: who is notified of alerts, through Apprise. See docs/alerts.md."""

    targets: Annotated[dict[Name, NotifyTarget], Field(min_length=1)]
    """By name."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Wait before a notification that failed is sent again. It doubles with every failure."""
    longest_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """The longest such wait."""
    give_up_seconds: Seconds = 86_400.0
    """How long to try to send a notification before it is given up; 0 for ever."""
    state: FilePath = ""
    """Path, relative to the configuration file, of a folder for the state of notifications.
    Empty for one beside the journal, or beside the configuration file where there is none."""
    link: Text = ""
    """Address of the web page, which every notification ends with. Empty for none."""

    def with_state(self, folder: str, journal: str) -> Self:
        """The same with the path of its state. `journal` is absolute; empty for none."""
        if self.state:
            return self
        path = f"{journal}.notify" if journal else f"{folder}/notify"
        return self.model_copy(update={"state": path})

    def missing_files(self, key: str) -> list[str]:
        """Complaints about files that do not exist."""
        return [
            line
            for name, target in self.targets.items()
            for line in target.missing_files(f"{key}.targets.{name}")
        ]


def alert_faults(alerts: tuple[AlertConfig, ...], notify: NotifyConfig | None) -> Iterator[str]:
    """Complaints about names: of two alerts, or of targets that are not there."""
    names = [alert.name for alert in alerts]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"alert: expected different names, got {name!r} twice"
    targets = notify.targets if notify else {}
    for alert in alerts:
        for name in alert.notify or ():
            if name not in targets:
                known = ", ".join(targets) or "none"
                yield f"alert {alert.name!r}: notify: no target {name!r}; there are: {known}"
