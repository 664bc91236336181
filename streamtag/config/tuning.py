"""How a tagger may be told to listen otherwise than its card says: tables of the configuration."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from streamtag.engine.settings import TaggerSettings

NAME = r"^[A-Za-z0-9._-]{1,64}$"
"""What streams and taggers may be called: names are parts of topics."""

Name = Annotated[str, Field(pattern=NAME)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1)]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"expected text without NUL, got {text!r}")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
"""What may become a path or an address."""


class Table(BaseModel):
    """A table of the configuration: no other keys, no other types, never changed."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class TagTuning(Table):
    """The times of one tag; None keeps those of all tags."""

    smoothing_seconds: Seconds | None = None
    min_on_seconds: Seconds | None = None
    min_off_seconds: Seconds | None = None


class Tuning(Table):
    """What of a bundle's own settings is to be different; None keeps the card's."""

    smoothing_seconds: Seconds | None = None
    min_on_seconds: Seconds | None = None
    min_off_seconds: Seconds | None = None
    hop_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only tags that make events."""
    deny: tuple[str, ...] | None = Field(default=None, strict=False)
    """Tags that make none, whatever else is said."""
    on_thresholds: dict[str, Probability] = {}
    """By tag."""
    off_thresholds: dict[str, Probability] = {}
    """By tag."""
    tag: dict[str, TagTuning] = {}
    """Times by tag."""

    def over(self, other: "Tuning") -> "Tuning":
        """These settings where they are set, else the other's."""
        own = self.model_dump(exclude_none=True)
        merged = other.model_dump(exclude_none=True) | own
        for key in ("on_thresholds", "off_thresholds"):
            merged[key] = getattr(other, key) | getattr(self, key)
        both = (other.model_dump(exclude_none=True)["tag"], own["tag"])
        merged["tag"] = {
            name: both[0].get(name, {}) | both[1].get(name, {}) for name in _names(both)
        }
        return Tuning.model_validate(merged)

    def named(self) -> set[str]:
        """Every tag that is spoken of."""
        lists = {*(self.tags or ()), *(self.deny or ())}
        return lists | self.on_thresholds.keys() | self.off_thresholds.keys() | self.tag.keys()

    def known(self, tags: tuple[str, ...]) -> "Tuning":
        """Without what is said of tags that a tagger does not have."""
        changes: dict[str, object] = {
            key: {tag: value for tag, value in getattr(self, key).items() if tag in tags}
            for key in ("on_thresholds", "off_thresholds", "tag")
        }
        for key in ("tags", "deny"):
            names = getattr(self, key)
            changes[key] = None if names is None else tuple(n for n in names if n in tags)
        return self.model_copy(update=changes)

    def settings(self) -> TaggerSettings:
        """The same in the engine's words."""
        times = ("smoothing_seconds", "min_on_seconds", "min_off_seconds")
        by_tag: dict[str, Any] = {
            f"tag_{key}": {
                tag: value
                for tag, table in self.tag.items()
                if (value := getattr(table, key)) is not None
            }
            for key in times
        }
        plain = self.model_dump(exclude={"tag", "deny"})
        return TaggerSettings(**plain, deny=self.deny or (), **by_tag)


def _names(tables: tuple[dict[str, object], ...]) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name in table))
