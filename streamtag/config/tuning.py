"""The tables `tuning`: settings of a tagger that differ from its card."""

from typing import Annotated

from pydantic import Field

from streamtag.config.fields import ConfigTable, Probability, Seconds, merge
from streamtag.engine.settings import TaggerSettings


class TagTuning(ConfigTable):
    """The times of one tag. None keeps those of all tags."""

    smoothing_seconds: Seconds | None = None
    min_on_seconds: Seconds | None = None
    min_off_seconds: Seconds | None = None


class Tuning(ConfigTable):
    """Settings that differ from those of the card. None keeps the card's."""

    smoothing_seconds: Seconds | None = None
    min_on_seconds: Seconds | None = None
    min_off_seconds: Seconds | None = None
    hop_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only tags that make events."""
    deny: tuple[str, ...] | None = Field(default=None, strict=False)
    """Tags that never make events."""
    on_thresholds: dict[str, Probability] = Field(default={})
    """By tag."""
    off_thresholds: dict[str, Probability] = Field(default={})
    """By tag."""
    tag: dict[str, TagTuning] = Field(default={})
    """Times by tag."""

    def over(self, other: "Tuning") -> "Tuning":
        """These settings where they are set, else the other ones."""
        below, above = (one.model_dump(exclude_none=True) for one in (other, self))
        return Tuning.model_validate(merge(below, above))

    def named(self) -> set[str]:
        """Every tag that the table names."""
        lists = {*(self.tags or ()), *(self.deny or ())}
        return lists | self.on_thresholds.keys() | self.off_thresholds.keys() | self.tag.keys()

    def known(self, tags: tuple[str, ...]) -> "Tuning":
        """The same without settings of tags that are not among a tagger's."""
        changes: dict[str, object] = {
            key: {tag: value for tag, value in getattr(self, key).items() if tag in tags}
            for key in ("on_thresholds", "off_thresholds", "tag")
        }
        for key in ("tags", "deny"):
            names = getattr(self, key)
            changes[key] = None if names is None else tuple(n for n in names if n in tags)
        return self.model_copy(update=changes)

    def settings(self) -> TaggerSettings:
        """The same as the engine's settings."""
        return TaggerSettings(**self.model_dump(exclude_none=True))
