"""From probabilities to switches: exponential smoothing, and hysteresis with minimum times.

Both keep a few numbers per tag and work on all tags at once. Positions are sample indices at the
stream's own rate, so that times do not depend on the hop.
"""

import math
from dataclasses import dataclass

import numpy as np

_TOLERANCE = 0.95
"""A tag has stayed beyond a threshold long enough after this share of the minimum time. A hop is a
whole number of frames, so half a second may be asked of windows that come every 0.49 s."""


class Smoother:
    """Exponential moving average with a time constant, whatever the distance of the windows.

    A first-order low-pass: after the time constant a step has been followed to 1 - 1/e. The first
    value passes unchanged.

    Args:
        seconds: time constant, or one per tag; 0 passes everything unchanged.
        rate: Hz of the positions.
    """

    def __init__(self, seconds: float | np.ndarray, rate: int) -> None:
        self._rate = rate
        self.set_time_constants(seconds)
        self.reset()

    def set_time_constants(self, seconds: float | np.ndarray) -> None:
        """Other time constants from the next window on."""
        values, which = np.unique(np.atleast_1d(seconds), return_inverse=True)
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise ValueError(f"smoothing: expected at least 0 seconds, got {seconds}")
        self._samples = [float(value) * self._rate for value in values]
        self._which = which.reshape(-1)

    def reset(self) -> None:
        """The next value is the first again."""
        self._value: np.ndarray | None = None
        self._end = 0

    def update(self, probabilities: np.ndarray, end: int) -> np.ndarray:
        """Takes one window and returns the smoothed probabilities, (n_tags,) float64.

        Args:
            probabilities: (n_tags,) of the window.
            end: one past its last sample.
        """
        new = probabilities.astype(np.float64)
        if self._value is not None and self._samples[-1] > 0:
            alpha = self._alpha(end - self._end)
            new = np.where(alpha == 1, new, self._value + alpha * (new - self._value))
        self._value, self._end = new, end
        return new

    def _alpha(self, samples: int) -> np.ndarray:
        """Weight of a new value after so many samples: (1,) or (n_tags,)."""
        alphas = [-math.expm1(-samples / tau) if tau else 1.0 for tau in self._samples]
        return np.array(alphas)[self._which]


@dataclass(frozen=True, slots=True)
class Switch:
    """A tag changed."""

    tag: int
    """Its index."""
    on: bool
    at: int
    """Sample at which it changed: `at` of the first window beyond the threshold."""
    since: int
    """`at` of the switch-on; equals `at` if `on`."""
    peak: float
    """Largest smoothed probability since the switch-on, inclusive."""


class Hysteresis:
    """Double-threshold switch per tag: on at `high` for `min_on`, off below `low` for `min_off`.

    Two thresholds keep a probability that hovers around one of them from toggling the tag at every
    window (Canny 1986, in one dimension). How long a tag has stayed beyond a threshold is measured
    between the ends of windows.

    Args:
        high: (n_tags,) switch-on thresholds in (0, 1); infinite for a tag that never switches.
        low: (n_tags,) switch-off thresholds, each at most its `high`.
        min_on: samples that a probability must stay at `high` or above; one number, or per tag.
        min_off: samples that it must stay below `low`; one number, or per tag.
    """

    def __init__(
        self,
        high: np.ndarray,
        low: np.ndarray,
        min_on: float | np.ndarray,
        min_off: float | np.ndarray,
    ) -> None:
        if high.shape != low.shape or high.ndim != 1 or not np.all((low > 0) & (low <= high)):
            raise ValueError(f"hysteresis: expected 0 < low <= high per tag, got {low} and {high}")
        self._high, self._low = high.astype(np.float64), low.astype(np.float64)
        self._min_on, self._min_off = _TOLERANCE * min_on - 1, _TOLERANCE * min_off - 1
        self._on = np.zeros(len(high), bool)
        self._since = np.zeros(len(high), np.int64)
        self._peak = np.zeros(len(high))
        self.interrupt()

    @property
    def on(self) -> np.ndarray:
        """(n_tags,) bool: which are on."""
        return self._on.copy()

    def update_settings(self, other: "Hysteresis", at: int) -> list[Switch]:
        """Takes the settings of another one, for as many tags, from the next window on.

        Tags whose thresholds stay the same are not disturbed.

        Returns:
            What goes off at sample `at`, because it may not be on any more.
        """
        changed = (other._high != self._high) | (other._low != self._low)
        self._high, self._low = other._high, other._low
        self._min_on, self._min_off = other._min_on, other._min_off
        self._pending[changed] = False
        disabled = np.flatnonzero(self._on & np.isinf(self._high))
        return [self._flip(int(tag), max(at, int(self._since[tag]))) for tag in disabled]

    def interrupt(self) -> None:
        """Audio is missing: what was on stays on, but no time beyond a threshold counts."""
        n = len(self._high)
        self._pending = np.zeros(n, bool)  # beyond the threshold, but not for long enough
        self._pending_at = np.zeros(n, np.int64)  # `at` and `end` of the first such window
        self._pending_end = np.zeros(n, np.int64)

    def restate(self, smoothed: np.ndarray, at: int) -> list[Switch]:
        """Returns switch-ons at sample `at` for everything that is on, as if it began there."""
        self.interrupt()
        self._since[self._on], self._peak[self._on] = at, smoothed[self._on]
        return [
            Switch(int(tag), True, at, at, float(smoothed[tag])) for tag in np.flatnonzero(self._on)
        ]

    def update(
        self, smoothed: np.ndarray, at: int, end: int, only: np.ndarray | None = None
    ) -> list[Switch]:
        """Takes one window and returns what changed.

        Args:
            smoothed: (n_tags,) probabilities.
            at: sample that stands for the window's time.
            end: one past its last sample.
            only: (n_tags,) bool, the tags that may change; None for all.
        """
        beyond = np.where(self._on, smoothed < self._low, smoothed >= self._high)
        if only is not None:
            beyond &= only
        begins = beyond & ~self._pending
        self._pending = beyond
        self._pending_at[begins] = at
        self._pending_end[begins] = end
        rises = begins & ~self._on
        self._peak = np.where(rises, smoothed, np.maximum(self._peak, smoothed))
        if not beyond.any():
            return []
        needed = np.where(self._on, self._min_off, self._min_on)
        flips = np.flatnonzero(beyond & (end - self._pending_end >= needed))
        return [self._flip(int(tag), int(self._pending_at[tag])) for tag in flips]

    def close(self, at: int, but: np.ndarray | None = None) -> list[Switch]:
        """Switches everything off at sample `at`, because the stream ends or falls silent.

        The tags of `but`, (n_tags,) bool, stay as they are.
        """
        if but is None:
            self.interrupt()
            but = np.zeros_like(self._on)
        self._pending &= but
        return [self._flip(int(tag), at) for tag in np.flatnonzero(self._on & ~but)]

    def _flip(self, tag: int, at: int) -> Switch:
        on = not self._on[tag]
        self._on[tag] = on
        self._pending[tag] = False
        if on:
            self._since[tag] = at
        at = max(at, int(self._since[tag]))  # windows of two models may overlap
        return Switch(tag, on, at, int(self._since[tag]), float(self._peak[tag]))
