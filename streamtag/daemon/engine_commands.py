"""Commands to an engine: what the daemon can request of it while it runs, and the answers.

They say nothing about where the engine is: in a thread of the daemon, or in a process of its own.
A change has three steps, so that several engines make it together or not at all: each loads what is
slow (`LoadChange`), runs new models beside the old ones (`StartSwap`, until `IsSettled`), and makes
the change between two windows (`ApplyChange`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from streamtag.config.config import Config
from streamtag.config.differences import Changes
from streamtag.engine.counters import Histogram, Series


@dataclass(frozen=True, slots=True)
class LoadChange:
    """Loads the models that another configuration needs; the answer is a `LoadedChange`."""

    config: Config
    idle: Mapping[str, str] = field(default_factory=dict)
    """State of each new stream whose source is not to be opened: `paused` or `ended`."""


@dataclass(frozen=True, slots=True)
class StartSwap:
    """Runs the models that were loaded in place of others beside these."""


@dataclass(frozen=True, slots=True)
class IsSettled:
    """Whether those models have had enough audio of every stream."""


@dataclass(frozen=True, slots=True)
class ApplyChange:
    """Makes the change that was loaded. It cannot fail."""


@dataclass(frozen=True, slots=True)
class DiscardChange:
    """Forgets the change that was loaded, because another engine cannot make it."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Closes a stream and its source."""

    stream: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Opens a paused stream again."""

    stream: str


@dataclass(frozen=True, slots=True)
class LoadShadow:
    """Loads another model for a tagger; the answer is its name."""

    tagger: str
    bundle: Path


@dataclass(frozen=True, slots=True)
class StartShadow:
    """Compares the model that was loaded with the one of a tagger."""

    tagger: str


@dataclass(frozen=True, slots=True)
class StopShadow:
    """Ends the comparison; the answer is its report, or None if there was none."""

    tagger: str


@dataclass(frozen=True, slots=True)
class Describe:
    """The answer is an `EngineDescription`."""


EngineCommand = (
    LoadChange
    | StartSwap
    | IsSettled
    | ApplyChange
    | DiscardChange
    | Pause
    | Resume
    | LoadShadow
    | StartShadow
    | StopShadow
    | Describe
)


@dataclass(frozen=True, slots=True)
class TaggerCost:
    """What a model costs."""

    seconds: float
    """Seconds of one call for a whole window."""
    streaming: bool
    """Whether each stretch of a stream goes through the model once, however windows overlap."""


@dataclass(frozen=True, slots=True)
class LoadedChange:
    """A change that an engine can make."""

    changes: Changes
    """What differs for this engine."""
    checksums: Mapping[str, str]
    """Of the bundles that were loaded, by tagger."""
    costs: Mapping[str, TaggerCost] = field(default_factory=dict)
    """Of the same models."""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """The streams and models of an engine, as `list` and `status` report them."""

    streams: list[dict[str, object]] = field(default_factory=list)
    models: dict[str, dict[str, object]] = field(default_factory=dict)
    """By tagger."""
    shadows: dict[str, dict[str, object]] = field(default_factory=dict)
    """Model of each shadow, by tagger."""
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    """How far each shadow agrees with its tagger."""


class Engines(Protocol):
    """The engine of a daemon, or several that share its streams."""

    @property
    def failed(self) -> bool:
        """Whether an engine failed, and its events were lost."""

    @property
    def lost(self) -> int:
        """Number of streams whose source failed."""

    def start(self) -> None:
        """Opens the sources and begins to work."""

    def wait(self, seconds: float) -> bool:
        """Waits a while; False once there is nothing more to do."""

    def stop(self) -> None:
        """Closes every source and stream, within a few seconds."""

    def ask(self, command: EngineCommand) -> list[Any]:
        """Every engine's answer.

        Raises:
            StreamtagError: an engine refuses the command, or it ends.
        """

    def ask_owner(self, stream: str, command: EngineCommand) -> Any:
        """The answer of the engine that has a stream.

        Raises:
            StreamtagError: it refuses the command, or it ends.
        """

    def series(self) -> Mapping[Series, float]:
        """All counters of streams and engines. Any thread may call it."""

    def histograms(self) -> Mapping[Series, Histogram]:
        """Sizes of batches and waits of windows. Any thread may call it."""


def without_password(source: str) -> str:
    """A source with `***` for its password."""
    return re.sub(r"(//[^/@\s]*?):[^/@\s]*@", r"\1:***@", source)
