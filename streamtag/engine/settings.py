"""Settings of one tagger on one stream, where they differ from the tagger's card."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from streamtag.errors import ConfigError
from streamtag.model.card import Card


class LagPolicy(StrEnum):
    """What happens when audio arrives faster than the models can score it."""

    WAIT = "wait"
    """`Engine.feed` scores windows before it overwrites them. Nothing is lost: for files."""
    DROP = "drop"
    """The oldest windows are dropped and counted. Nothing is late: for live audio."""


def _odds(p: np.ndarray) -> np.ndarray:
    out: np.ndarray = p / (1 - p)
    return out


_TIMES = ("smoothing_seconds", "min_on_seconds", "min_off_seconds")


def _check_seconds(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise ConfigError(f"{name}: expected at least 0, got {value!r}")


@dataclass(frozen=True, slots=True)
class TaggerSettings:
    """Settings of one tagger on one stream. What is None or missing is as its card says.

    Raises:
        ConfigError: a time is negative.
    """

    on_thresholds: Mapping[str, float] = field(default_factory=dict)
    """Per tag, in (0, 1)."""
    off_thresholds: Mapping[str, float] = field(default_factory=dict)
    """Per tag; where only the on threshold is given, it moves in proportion."""
    smoothing_seconds: float | None = None
    min_on_seconds: float | None = None
    min_off_seconds: float | None = None
    hop_seconds: float | None = None
    """Between the ends of two windows; rounded to whole frames."""
    tags: tuple[str, ...] | None = None
    """The tags that may switch; None means all but the card's `off_by_default`."""
    deny: tuple[str, ...] = ()
    """The tags that may not switch, even if they are in `tags`."""
    tag: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By tag and name, times that go before the three above."""

    def __post_init__(self) -> None:
        for name in (*_TIMES, "hop_seconds"):
            _check_seconds(name, getattr(self, name))
        for tag, times in self.tag.items():
            for name, value in times.items():
                _check_seconds(f"{name} of tag {tag!r}", value)
        if self.hop_seconds == 0:
            raise ConfigError("hop_seconds: expected more than 0, got 0")

    def times(self, card: Card) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Seconds of smoothing, least on and least off, (n_tags,) float64 each."""
        smoothing, on, off = (self._seconds(card, name) for name in _TIMES)
        return smoothing, on, off

    def _seconds(self, card: Card, name: str) -> np.ndarray:
        value = getattr(self, name)
        usual = getattr(card, name) if value is None else value
        return np.array([self.tag.get(tag, {}).get(name, usual) for tag in card.tags], np.float64)

    def hop_frames(self, card: Card) -> int:
        """Frames between the ends of two windows."""
        if self.hop_seconds is None:
            return card.hop_frames
        return max(1, round(self.hop_seconds * card.features.frame_rate))

    def thresholds(self, card: Card) -> tuple[np.ndarray, np.ndarray]:
        """On and off thresholds, (n_tags,) each; on is infinite for tags that may not switch.

        Raises:
            ConfigError: a tag that the card does not have, or thresholds in the wrong order.
        """
        enabled = set(card.tags) - set(card.off_by_default) if self.tags is None else self.tags
        self._check_names(card, enabled)
        enabled = set(enabled) - set(self.deny)
        high, low = np.array([self._pair(card, i, tag) for i, tag in enumerate(card.tags)]).T
        return np.where([tag in enabled for tag in card.tags], high, math.inf), low

    def settled_thresholds(self, card: Card) -> tuple[np.ndarray, np.ndarray]:
        """The thresholds of tags that have settled, (n_tags,) each.

        Where a threshold is not the card's, this one's odds change in the same proportion.

        Raises:
            ConfigError: as `thresholds` does.
        """
        high, low = self.thresholds(card)
        if card.settling is None:
            return high, low
        near_on, near_off = np.array(card.on_thresholds), np.array(card.off_thresholds)
        may, wider = np.isfinite(high), np.array(card.settling.on_thresholds)
        on = _odds(wider) / _odds(near_on) * _odds(np.where(may, high, near_on))
        off = np.array(card.settling.off_thresholds) / near_off * low
        return np.where(may, np.maximum(on / (1 + on), high), high), off

    def _check_names(self, card: Card, enabled: Iterable[str]) -> None:
        timed = [tag for tag, times in self.tag.items() if times]
        named = (*self.on_thresholds, *self.off_thresholds, *enabled, *self.deny, *timed)
        if unknown := dict.fromkeys(name for name in named if name not in card.tags):
            raise ConfigError(
                f"tagger {card.name!r}: unknown tag {', '.join(map(repr, unknown))}; "
                f"it knows {', '.join(card.tags)}"
            )

    def _pair(self, card: Card, i: int, tag: str) -> tuple[float, float]:
        on, off = card.on_thresholds[i], card.off_thresholds[i]
        if tag in self.on_thresholds:
            off *= self.on_thresholds[tag] / on
            on = self.on_thresholds[tag]
        off = self.off_thresholds.get(tag, off)
        if not 0 < off <= on < 1:
            raise ConfigError(
                f"tagger {card.name!r}: thresholds of {tag!r}: expected 0 < off <= on < 1, "
                f"got on={on:g}, off={off:g}"
            )
        return on, off
