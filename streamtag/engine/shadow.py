"""Shadows: a model that runs beside a tagger without publishing, and how far the two agree."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamtag.engine.events import Event, StreamClosed, TagEnded, TagStarted, WindowScored
from streamtag.model.card import Card

_SUFFIX = "~"
_MAX_WAITING = 256
"""Windows of one stream that wait for the other model's at most. The oldest are forgotten."""


def shadow_name(tagger: str) -> str:
    """The name of the shadow of a tagger. No tagger in a configuration can have it."""
    return tagger + _SUFFIX


def shadowed_tagger(name: str) -> str | None:
    """The tagger whose shadow has this name; None for a name that is no shadow's."""
    return name.removesuffix(_SUFFIX) if name.endswith(_SUFFIX) else None


@dataclass(frozen=True, slots=True)
class _Decision:
    """The result of one model for one window."""

    end: int
    values: Sequence[float]
    on: frozenset[str]


@dataclass(slots=True)
class _ModelResults:
    """The results of one model on one stream."""

    on: set[str] = field(default_factory=set)
    latest: WindowScored | None = None
    decisions: deque[_Decision] = field(default_factory=lambda: deque(maxlen=_MAX_WAITING))

    def update(self, event: Event) -> None:
        """Switches follow the scores of their window, so the next scores complete a decision."""
        if isinstance(event, TagStarted):
            self.on.add(event.tag)
        elif isinstance(event, TagEnded):
            self.on.discard(event.tag)
        elif isinstance(event, WindowScored):
            if (last := self.latest) is not None:
                self.decisions.append(_Decision(last.end, last.values, frozenset(self.on)))
            self.latest = event


def merged_reports(reports: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The reports of several engines as one for each tagger: means are weighted by windows."""
    merged: dict[str, dict[str, Any]] = {}
    for tagger, report in ((t, one) for some in reports for t, one in some.items()):
        known = merged.setdefault(
            tagger, {"windows": 0, "equal_decisions": 0.0, "mean_differences": {}}
        )
        n, more = known["windows"], report["windows"]
        share = more / (n + more) if more else 0.0
        known["windows"] = n + more
        known["equal_decisions"] += share * (report["equal_decisions"] - known["equal_decisions"])
        differences = known["mean_differences"]
        for tag, mean in report["mean_differences"].items():
            before = differences.get(tag, 0.0)
            differences[tag] = before + share * (mean - before)
    return merged


class ShadowComparison:
    """Compares two models, a tagger and its shadow, on the same windows, or on those that end
    nearest to each other."""

    def __init__(self, old: Card, new: Card) -> None:
        self._common = [
            (t, old.tags.index(t), new.tags.index(t)) for t in old.tags if t in new.tags
        ]
        self._streams: dict[str, tuple[_ModelResults, _ModelResults]] = {}
        self._differences = [0.0] * len(self._common)
        self._equal = 0
        self.windows = 0
        """Windows compared so far."""

    def start_stream(self, stream: str, on: frozenset[str]) -> None:
        """The shadow starts on a stream, on which the tagger has these tags on."""
        self._streams[stream] = (_ModelResults(on=set(on)), _ModelResults())

    def end_stream(self, closed: StreamClosed) -> None:
        """A stream has ended."""
        self._streams.pop(closed.stream, None)

    def update(self, event: Event, *, new: bool) -> None:
        """Takes an event of the tagger, or of its shadow (`new`)."""
        results = self._streams.setdefault(event.stream, (_ModelResults(), _ModelResults()))
        results[new].update(event)
        if isinstance(event, WindowScored):
            self._match(*results)

    @property
    def share_equal(self) -> float:
        """Decisions that were equal, of all, in [0, 1]; 0 before the first."""
        return self._equal / max(1, self.windows * len(self._common))

    @property
    def mean_differences(self) -> dict[str, float]:
        """Per common tag, the mean absolute difference of the probabilities."""
        n = max(1, self.windows)
        return {tag: d / n for (tag, *_), d in zip(self._common, self._differences, strict=True)}

    def report(self) -> dict[str, object]:
        """The comparison as JSON."""
        return {
            "windows": self.windows,
            "equal_decisions": self.share_equal,
            "mean_differences": self.mean_differences,
        }

    def _match(self, old: _ModelResults, new: _ModelResults) -> None:
        """Compares each decision of the shadow with the nearest one of the tagger.

        Two windows may end half the distance of two of the tagger's windows apart.
        """
        while new.decisions and old.decisions and old.decisions[-1].end >= new.decisions[0].end:
            mine = new.decisions.popleft()
            nearest = min(old.decisions, key=lambda one: abs(one.end - mine.end))
            hop = old.decisions[-1].end - old.decisions[-2].end if len(old.decisions) > 1 else 0
            if abs(nearest.end - mine.end) <= hop / 2:
                self._compare(nearest, mine)

    def _compare(self, old: _Decision, new: _Decision) -> None:
        self.windows += 1
        for k, (tag, i, j) in enumerate(self._common):
            self._equal += (tag in old.on) == (tag in new.on)
            self._differences[k] += abs(old.values[i] - new.values[j])
