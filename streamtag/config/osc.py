"""The table `[osc]`: lights and sound desks that are told what is on, by UDP."""

import re
from typing import Annotated, Self

from pydantic import Field, model_validator

from streamtag.config.tuning import Name, Seconds, Table, Text

_TARGET = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s:/\[\]]+):(\d{1,5})")
_PREFIX = re.compile(r"(/[!-~]+)*")
RESERVED = " #*,?[]{}"
"""Characters that OSC addresses may not hold, beside the slash between their parts."""


class OscConfig(Table):
    """Who is told by OSC, and what; see docs/osc.md."""

    targets: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
    """`HOST:PORT` each; broadcast and multicast addresses, too."""
    prefix: Text = "/streamtag"
    """How all addresses begin; may be empty."""
    streams: tuple[Name, ...] | None = Field(default=None, strict=False)
    """The only ones that are told; None for all."""
    tags: tuple[str, ...] | None = Field(default=None, strict=False)
    """The only ones that are told; None for all that may switch."""
    scores_seconds: Seconds = 0.0
    """How often scores are told, at most; 0 for never."""
    mood: bool = True
    """Also tell where each stream stands on the mood plane, once a second."""
    repeat_seconds: Annotated[float, Field(ge=0.5, le=3600)] = 5.0
    """Within which everything is told once more, since datagrams get lost."""

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports."""
        found = [_TARGET.fullmatch(target) for target in self.targets]
        return [(match[1].strip("[]"), int(match[2])) for match in found if match]

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        for target in self.targets:
            found = _TARGET.fullmatch(target)
            if found is None or not 0 < int(found[2]) < 65_536:
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
