"""The card: the metadata of a bundle.

It is a JSON member of the TorchScript file. So a model cannot be separated from its front end, its
tags, its thresholds, its scores and its licence.
"""

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator
from pydantic.dataclasses import dataclass

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FEATURES_VERSION
from streamtag.errors import BundleError, raises

LONGEST_SAMPLES = 2**25
"""The most samples of one window: 12 minutes at 48 kHz."""
LARGEST_WINDOW = 2**26
"""The most numbers in one window: 256 MiB."""
MOST_TAGS = 10_000
DIMENSIONS = ("valence", "arousal")
"""The dimensions of the mood plane, which a net may give besides the probabilities of its tags."""


class PastPadding(StrEnum):
    """The frames of a window before the beginning of the stream, as the net was trained."""

    SILENCE = "silence"
    """The frame of digital silence."""
    ZERO = "zero"
    """The number 0."""
    MINIMUM = "minimum"
    """The smallest value of the window."""
    WRAP = "wrap"
    """The frames of the stream so far, repeated."""


def _unchanged(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    validate(value)
    return value


Number = Annotated[float, WrapValidator(_unchanged), Field(strict=True)]
"""An integer stays one, so that a card is written as it was read."""
Seconds = Annotated[Number, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=MOST_TAGS)]
"""One per tag. A longer list is refused before it is read to its end."""


NO_OTHER_KEYS = ConfigDict(extra="forbid")


@raises(BundleError, "golden answer: ")
@dataclass(frozen=True, slots=True, config=NO_OTHER_KEYS)
class Golden:
    """The exporting machine's answer to the built-in signal (`bundle.golden_signal`)."""

    probabilities: Numbers
    """One per tag, in their order."""
    tolerance: Annotated[Number, Field(ge=0, le=0.1)] = 2e-3
    """Largest difference that a replay may have."""
    dimensions: tuple[Number, ...] = ()
    """The further outputs of a card with `dimensions`, in their order."""


@raises(BundleError, "card: trunk: ")
@dataclass(frozen=True, slots=True, kw_only=True, config=NO_OTHER_KEYS)
class Trunk:
    """How the bundle's method `trunk` makes embeddings of frames, for streaming.

    `trunk` maps (n, m * stride, width) frames to (n, m - short, size) embeddings. Embedding k
    depends on the frames [k * stride - left, (k + 1) * stride + right). For frames beyond the ends
    the net pads. `head` maps the embeddings of a window to its probabilities. Over a window's own
    embeddings this equals `forward`.

    With a state, embeddings depend on all frames before. `trunk` begins a stream, and `advance`
    goes on with it: it maps (n, m * stride, width) frames and the (n, state) state before them to
    (n, m, size) embeddings and the next state.
    """

    stride: Count
    """Frames from one embedding to the next."""
    left: Annotated[int, Field(strict=True, ge=0)]
    """Frames of context before."""
    right: Annotated[int, Field(strict=True, ge=0)]
    """Frames of context after."""
    short: Annotated[int, Field(strict=True, ge=0)]
    """Embeddings fewer than strides, where the net does not pad."""
    columns: Count
    """Embeddings of a window."""
    size: Count
    """Values of an embedding."""
    state: Annotated[int, Field(strict=True, ge=0, le=LARGEST_WINDOW)] = 0
    """Values that it remembers from one call to the next; 0 if embeddings have a context."""

    @property
    def once(self) -> bool:
        """Whether an embedding depends on none of the frames around its own, but by the state."""
        return not (self.left or self.right or self.short)


@raises(BundleError, "card: settling: ")
@dataclass(frozen=True, slots=True, kw_only=True, config=NO_OTHER_KEYS)
class Settling:
    """When the tags of a stream have settled, and the wider hysteresis that they have then.

    After a cut, new tags should come and old ones go at once; later, what is on should stay on, and
    what has not come should stay away unless it is sure.
    """

    change: Annotated[Number, Field(gt=0, le=1)]
    """What plays has changed when the smoothed probabilities differ by more than this, on the mean
    over all tags, from their average of the last three seconds."""
    seconds: Seconds
    """After a change, from which on the tags have settled."""
    on_thresholds: Numbers
    """Per tag, at least those of the card."""
    off_thresholds: Numbers
    """Per tag, at most those of the card."""
    again_seconds: Seconds = 0.0
    """After a tag has gone off, how long it needs the settled threshold to come on again."""
    start_seconds: Seconds = 0.0
    """After the first window of a stream, how long tags need the settled thresholds to come on."""


@raises(BundleError, "card: ")
@dataclass(frozen=True, slots=True, kw_only=True, config=NO_OTHER_KEYS)
class Card:
    """Everything that the daemon must know about a bundle.

    Raises:
        BundleError: a field contradicts another one, or is out of its range.
    """

    name: str
    """Short and unique, such as `instruments-1`."""
    net: str
    """Architecture, for information."""
    features: FeatureConfig
    features_version: Annotated[int, Field(strict=True)] = FEATURES_VERSION
    """`FEATURES_VERSION` of the exporter; another one is refused."""
    window_frames: Count
    hop_frames: Count
    """Frames between the ends of two windows."""
    first_frames: Count
    """Frames needed for the first, provisional answer; at most `window_frames`."""
    padding: PastPadding
    tags: Annotated[tuple[Annotated[str, Field(max_length=1000)], ...], Field(max_length=MOST_TAGS)]
    """In the order of the outputs."""
    on_thresholds: Numbers
    """Per tag, in (0, 1): the tag switches on at this smoothed probability or above."""
    off_thresholds: Numbers
    """Per tag, in (0, on]: the tag switches off below it."""
    settling: Settling | None = None
    """Wider thresholds while what plays stays the same; None for the same at all times."""
    trunk: Trunk | None = None
    """How to compute each stretch of a stream once; None for nets that see whole windows only."""
    dimensions: tuple[str, ...] = ()
    """`DIMENSIONS` if the net gives them too; else none. After the probabilities it then gives the
    value of each dimension, from -1 to 1, and after these the standard deviation of each."""
    golden: Golden | None = None
    """`train.exporting.bundle.export` fills it in; a bundle without it is refused."""
    smoothing_seconds: Seconds = 1.0
    """Time constant of the exponential smoothing; 0 turns it off."""
    min_on_seconds: Seconds = 0.5
    """How long a tag must stay above its on threshold before it switches on."""
    min_off_seconds: Seconds = 1.0
    """How long a tag must stay below its off threshold before it switches off."""
    display: dict[str, str] = dataclasses.field(default_factory=dict)
    """Names of tags for display (`female vocals` for `female vocal`). Several may share a name."""
    categories: dict[str, str] = dataclasses.field(default_factory=dict)
    """Category of each tag (`genre`, `instrument` …), where it is known."""
    off_by_default: tuple[str, ...] = ()
    """Tags that the evidence does not support. They have scores but make no events."""
    scores: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Scores on data that the net never saw."""
    data: str = ""
    """The data that it was trained on."""
    licence: str = ""
    description: str = ""
    """Purpose, limits and known biases."""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Anything else that the exporter records: recipe, revision, source."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for key, expected, got in (*_bad_frames(self), *_bad_tags(self), *_bad_thresholds(self)):
            raise BundleError(
                f"card {self.name!r:.60}: {key}: expected {expected}, got {got!r:.60}"
            )
        return self

    @property
    def window_seconds(self) -> float:
        """Audio that one window covers."""
        start, end = self.features.span(0, self.window_frames)
        return (end - start) / self.features.sample_rate

    @property
    def stream_bytes(self) -> int:
        """Memory for the frames and embeddings that a stream keeps, and for a window, about."""
        frames = 2 * self.window_frames + 2 * self.hop_frames
        numbers = frames * self.features.width
        if self.trunk is not None:
            numbers += self.trunk.columns * self.trunk.size + self.trunk.state
        return 4 * numbers

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that the net gives for a window."""
        deviations = (f"deviation of {name}" for name in self.dimensions)
        return (*self.tags, *self.dimensions, *deviations)

    @property
    def counted_outputs(self) -> str:
        """What a message says of the number of outputs."""
        more = f" and {2 * len(self.dimensions)} further values" if self.dimensions else ""
        return f"{len(self.tags)} probabilities{more}"

    @property
    def hop_seconds(self) -> float:
        """Time between the ends of two windows."""
        return self.hop_frames / self.features.frame_rate

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return dataclasses.asdict(self)


Fault = tuple[str, str, object]
"""A key, what was expected, and what was got."""


def _bad_frames(card: Card) -> Iterator[Fault]:
    if card.first_frames > card.window_frames:
        yield "first_frames", f"at most {card.window_frames}", card.first_frames
    most = LARGEST_WINDOW // card.features.width
    if card.window_frames > most:
        yield "window_frames", f"at most {most}", card.window_frames
    hop = card.features.frame_hop
    most = LONGEST_SAMPLES // hop
    for key in ("window_frames", "hop_frames"):
        if getattr(card, key) > max(1, most):
            yield key, f"at most {most} of {hop} samples", getattr(card, key)
    if (trunk := card.trunk) is not None:
        most = -(-card.window_frames // trunk.stride)
        for key in ("columns", "short"):
            if getattr(trunk, key) > most:
                yield f"trunk.{key}", f"at most {most}", getattr(trunk, key)
        if trunk.columns * trunk.size > LARGEST_WINDOW:
            yield "trunk.size", f"at most {LARGEST_WINDOW // trunk.columns}", trunk.size
        if trunk.state and not trunk.once:
            yield "trunk.state", "0 for a net with left, right or short", trunk.state
        for key in ("left", "right"):
            if getattr(trunk, key) > card.window_frames:
                yield f"trunk.{key}", f"at most {card.window_frames}", getattr(trunk, key)


def _bad_tags(card: Card) -> Iterator[Fault]:
    if not card.tags or len(set(card.tags)) != len(card.tags):
        yield "tags", "at least one, and no name twice", card.tags
    if card.dimensions not in ((), DIMENSIONS):
        yield "dimensions", f"none, or {', '.join(DIMENSIONS)}", card.dimensions
    for key in ("off_by_default", "display", "categories"):
        if unknown := sorted(set(getattr(card, key)) - set(card.tags)):
            yield key, "only names of tags", unknown[0]


def _bad_thresholds(card: Card) -> Iterator[Fault]:
    n = len(card.tags)
    tables = {"on_thresholds": card.on_thresholds, "off_thresholds": card.off_thresholds}
    if card.settling:
        tables["settling.on_thresholds"] = card.settling.on_thresholds
        tables["settling.off_thresholds"] = card.settling.off_thresholds
    if card.golden:
        tables["golden.probabilities"] = card.golden.probabilities
    for key, numbers in tables.items():
        if len(numbers) != n:
            yield key, f"{n} numbers, one per tag", len(numbers)
    if card.golden and len(card.golden.dimensions) != (further := len(card.outputs) - n):
        yield "golden.dimensions", f"{further} numbers", len(card.golden.dimensions)
    if later := card.settling:
        rows = zip(
            card.tags, card.on_thresholds, card.off_thresholds, later.on_thresholds,
            later.off_thresholds, strict=False,
        )  # fmt: skip
        for tag, on, off, late_on, late_off in rows:
            if not 0 < late_off <= off <= on <= late_on < 1:
                expected = f"0 < off <= {off} and {on} <= on < 1"
                yield f"settling thresholds of {tag!r}", expected, f"on={late_on}, off={late_off}"
    for tag, on, off in zip(card.tags, card.on_thresholds, card.off_thresholds, strict=False):
        if not 0 < off <= on < 1:
            yield f"thresholds of {tag!r}", "0 < off <= on < 1", f"on={on}, off={off}"
