"""The card: what a bundle says about itself.

It travels inside the TorchScript file as JSON, so a model can never be separated from its front
end, its labels, its thresholds, its scores and its licence.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

from streamtag.audio.front_end import FEATURES_VERSION, FeatureConfig
from streamtag.errors import BundleError

LONGEST_SAMPLES = 2**25
"""Audio that one window may cover: 12 minutes at 48 kHz."""
LARGEST_WINDOW = 2**26
"""Numbers that one window may hold: 256 MiB."""
LOOSEST_TOLERANCE = 0.1


class PastPadding(StrEnum):
    """What stands in a window before the audio that the stream has: as the net was trained."""

    SILENCE = "silence"
    """The front end's answer to digital silence."""
    ZERO = "zero"
    """The number 0."""
    MINIMUM = "minimum"
    """Per window, the smallest value heard so far."""
    WRAP = "wrap"
    """The frames heard so far, repeated."""


@dataclass(frozen=True, slots=True)
class Golden:
    """The exporting machine's answer to the built-in signal (`bundle.golden_signal`)."""

    probabilities: tuple[float, ...]
    """In the order of the tags."""
    tolerance: float = 2e-3
    """Largest difference at which a replay still counts as the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Everything the daemon must know about a bundle.

    Raises:
        BundleError: a field contradicts another one, or is out of its range.
    """

    name: str
    """Short and unique, such as `instruments-1`."""
    net: str
    """Architecture, for people."""
    features: FeatureConfig
    features_version: int = FEATURES_VERSION
    """`features.FEATURES_VERSION` of the exporter; another one is refused."""
    window_frames: int
    hop_frames: int
    """Frames between the ends of two windows."""
    first_frames: int
    """Frames needed for the first, provisional answer; at most `window_frames`."""
    padding: PastPadding
    tags: tuple[str, ...]
    """In the order of the outputs."""
    on_thresholds: tuple[float, ...]
    """Per tag, in (0, 1): switched on at this smoothed probability or above."""
    off_thresholds: tuple[float, ...]
    """Per tag, in (0, on]: switched off below it."""
    golden: Golden | None = None
    """`train.export.export` fills it in; a bundle without it is refused."""
    smoothing_seconds: float = 1.0
    """Time constant of the exponential smoothing; 0 turns it off."""
    min_on_seconds: float = 0.5
    """A tag must stay above its on threshold so long before it is switched on."""
    min_off_seconds: float = 1.0
    """A tag must stay below its off threshold so long before it is switched off."""
    display: dict[str, str] = field(default_factory=dict)
    """Nicer or shared names for tags (`female vocals` for `female vocal`); may merge several."""
    categories: dict[str, str] = field(default_factory=dict)
    """What kind of tag each is (`genre`, `instrument` …), where that is known."""
    off_by_default: tuple[str, ...] = ()
    """Tags that the evidence does not support; they are scored but make no events."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Measured on data the net never saw."""
    data: str = ""
    """What it was trained on."""
    licence: str = ""
    description: str = ""
    """What it is for, what not, known biases."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Whatever else the exporter wants to record: recipe, revision, source."""

    def __post_init__(self) -> None:
        _check_frames(self)
        _check_tags(self)
        _check_thresholds(self)
        for name in ("smoothing_seconds", "min_on_seconds", "min_off_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                _refuse(self, name, "at least 0", getattr(self, name))

    @property
    def window_seconds(self) -> float:
        """Audio that one window covers."""
        start, end = self.features.span(0, self.window_frames)
        return (end - start) / self.features.sample_rate

    @property
    def hop_seconds(self) -> float:
        """Time between the ends of two windows."""
        return self.hop_frames / self.features.frame_rate

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return dataclasses.asdict(self) | {
            "features": self.features.to_dict(),
            "padding": str(self.padding),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Card":
        """Reads what `to_dict` wrote, before or after a trip through JSON.

        Raises:
            BundleError: a missing or unknown key, or a value that does not fit.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        hints = get_type_hints(cls)
        if unknown := sorted(table.keys() - fields.keys()):
            raise BundleError(
                f"card: unknown key {unknown[0]!r:.60}; known here: {', '.join(fields)}"
            )
        needed = {name for name, f in fields.items() if _required(f)}
        if missing := sorted(needed - table.keys()):
            raise BundleError(f"card: expected key {missing[0]!r}, which is missing")
        try:
            return cls(**{name: _value(name, hints[name], v) for name, v in table.items()})
        except ValueError as error:  # of an enumeration or the front end
            raise BundleError(f"card: {error}") from error


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _value(name: str, hint: Any, value: Any) -> Any:
    """A field's value from its JSON form."""
    if hint is FeatureConfig and isinstance(value, dict):
        return FeatureConfig.from_dict(value)
    if hint is PastPadding:
        return _padding(value)
    if hint == Golden | None:
        return None if value is None else _golden(value)
    kind, items = get_origin(hint) or hint, get_args(hint)
    if kind is tuple and isinstance(value, list | tuple) and all(_is(v, items[0]) for v in value):
        return tuple(value)
    if kind is dict and _is(value, dict) and all(_is(v, items[1]) for v in value.values()):
        return value
    if kind in (int, float, str) and _is(value, kind):
        return value
    raise BundleError(f"card: {name}: expected {hint}, got {value!r:.60}")


def _padding(value: Any) -> PastPadding:
    if value not in list(PastPadding):
        known = ", ".join(PastPadding)
        raise BundleError(f"card: padding: expected one of {known}, got {value!r:.60}")
    return PastPadding(value)


def _golden(value: Any) -> Golden:
    if not (isinstance(value, dict) and value.keys() == {"probabilities", "tolerance"}):
        raise BundleError(f"card: golden: expected probabilities and tolerance, got {value!r:.60}")
    return Golden(
        _value("probabilities", tuple[float, ...], value["probabilities"]),
        _value("tolerance", float, value["tolerance"]),
    )


def _is(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a type; integers are floats too, and truth is no number."""
    if kind is Any:
        return True
    wanted = int | float if kind is float else kind
    return isinstance(value, wanted) and not isinstance(value, bool)


def _refuse(card: Card, name: str, expected: str, got: object) -> None:
    raise BundleError(f"card {card.name!r:.60}: {name}: expected {expected}, got {got!r:.60}")


def _check_frames(card: Card) -> None:
    for name in ("window_frames", "hop_frames", "first_frames"):
        if getattr(card, name) < 1:
            _refuse(card, name, "at least 1", getattr(card, name))
    if card.first_frames > card.window_frames:
        _refuse(card, "first_frames", f"at most {card.window_frames}", card.first_frames)
    if card.window_frames * card.features.width > LARGEST_WINDOW:
        most = LARGEST_WINDOW // card.features.width
        _refuse(card, "window_frames", f"at most {most}", card.window_frames)
    for name in ("window_frames", "hop_frames"):
        most = LONGEST_SAMPLES // card.features.frame_hop
        if getattr(card, name) > max(1, most):
            _refuse(
                card,
                name,
                f"at most {most} of {card.features.frame_hop} samples",
                getattr(card, name),
            )


def _check_tags(card: Card) -> None:
    if not card.tags or len(set(card.tags)) != len(card.tags):
        _refuse(card, "tags", "at least one, and no name twice", card.tags)
    lists = (
        ("off_by_default", card.off_by_default),
        ("display", card.display),
        ("categories", card.categories),
    )
    for name, some in lists:
        if unknown := sorted(set(some) - set(card.tags)):
            _refuse(card, name, "only names of tags", unknown[0])


def _check_thresholds(card: Card) -> None:
    n = len(card.tags)
    for name in ("on_thresholds", "off_thresholds"):
        if len(getattr(card, name)) != n:
            _refuse(card, name, f"{n} numbers, one per tag", len(getattr(card, name)))
    for tag, on, off in zip(card.tags, card.on_thresholds, card.off_thresholds, strict=True):
        if not 0 < off <= on < 1:
            _refuse(card, f"thresholds of {tag!r}", "0 < off <= on < 1", f"on={on}, off={off}")
    if card.golden and len(card.golden.probabilities) != n:
        _refuse(card, "golden", f"{n} numbers, one per tag", len(card.golden.probabilities))
    if card.golden and not 0 <= card.golden.tolerance <= LOOSEST_TOLERANCE:
        _refuse(card, "golden.tolerance", f"0 to {LOOSEST_TOLERANCE}", card.golden.tolerance)
