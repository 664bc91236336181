"""A model that listens beside another one before it may speak: how far the two agree."""

from collections import deque
from dataclasses import dataclass, field

from streamtag.engine.events import Event, StreamClosed, TagEnded, TagStarted, WindowScored
from streamtag.model.card import Card

_MARK = "~"
_KEPT = 256
"""Windows of one stream that wait for their counterparts, at most."""


def shadow_name(tagger: str) -> str:
    """The name under which another model listens beside a tagger; no tagger can have it."""
    return tagger + _MARK


def shadowed_tagger(tagger: str) -> str | None:
    """The tagger beside which this one listens; None for one that speaks for itself."""
    return tagger.removesuffix(_MARK) if tagger.endswith(_MARK) else None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What one model made of one window."""

    end: int
    values: tuple[float, ...]
    on: frozenset[str]


@dataclass(slots=True)
class _Side:
    """One model on one stream."""

    on: set[str] = field(default_factory=set)
    latest: WindowScored | None = None
    verdicts: deque[_Verdict] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def update(self, event: Event) -> None:
        """A window's decisions follow its scores: they are complete when the next scores come."""
        if isinstance(event, TagStarted):
            self.on.add(event.tag)
        elif isinstance(event, TagEnded):
            self.on.discard(event.tag)
        elif isinstance(event, WindowScored):
            if (last := self.latest) is not None:
                self.verdicts.append(_Verdict(last.end, last.values, frozenset(self.on)))
            self.latest = event


class ShadowComparison:
    """Two models on the same windows, or on those that end nearest to each other.

    Args:
        old: card of the one that speaks.
        new: card of the one that rehearses.
    """

    def __init__(self, old: Card, new: Card) -> None:
        self._common = [
            (t, old.tags.index(t), new.tags.index(t)) for t in old.tags if t in new.tags
        ]
        self._sides: dict[str, tuple[_Side, _Side]] = {}
        self._differences = [0.0] * len(self._common)
        self._equal = 0
        self.windows = 0
        """Windows compared so far."""

    def update(self, event: Event, *, new: bool) -> None:
        """An event of either model."""
        sides = self._sides.setdefault(event.stream, (_Side(), _Side()))
        sides[new].update(event)
        if isinstance(event, WindowScored):
            self._match(*sides)

    def start_stream(self, stream: str, on: frozenset[str]) -> None:
        """What the speaking model has on when the other one begins to listen to a stream."""
        self._sides[stream] = (_Side(on=set(on)), _Side())

    def end_stream(self, down: StreamClosed) -> None:
        """A stream has ended."""
        self._sides.pop(down.stream, None)

    @property
    def share_equal(self) -> float:
        """Decisions that were equal, of all, in [0, 1]; 0 before the first."""
        return self._equal / max(1, self.windows * len(self._common))

    @property
    def mean_differences(self) -> dict[str, float]:
        """Per common tag, how far the probabilities were apart on average."""
        tags = [tag for tag, *_ in self._common]
        n = max(1, self.windows)
        return {tag: d / n for tag, d in zip(tags, self._differences, strict=True)}

    def report(self) -> dict[str, object]:
        """For people and programs."""
        return {
            "windows": self.windows,
            "equal_decisions": self.share_equal,
            "mean_differences": self.mean_differences,
        }

    def _match(self, old: _Side, new: _Side) -> None:
        while new.verdicts and old.verdicts and old.verdicts[-1].end >= new.verdicts[0].end:
            verdict = new.verdicts.popleft()
            nearest = min(old.verdicts, key=lambda v: abs(v.end - verdict.end))
            if abs(nearest.end - verdict.end) <= _tolerance(old.verdicts):
                self._compare(nearest, verdict)

    def _compare(self, old: _Verdict, new: _Verdict) -> None:
        self.windows += 1
        for k, (tag, i, j) in enumerate(self._common):
            self._equal += (tag in old.on) == (tag in new.on)
            self._differences[k] += abs(old.values[i] - new.values[j])


def _tolerance(verdicts: deque[_Verdict]) -> float:
    """Samples that two windows may end apart: half the distance of two of the old model's."""
    return (verdicts[-1].end - verdicts[-2].end) / 2 if len(verdicts) > 1 else 0
