"""From probabilities to switches: exponential smoothing, and hysteresis with minimum times.

What plays changes at once, and is then the same for minutes. So a stream may have two pairs of
thresholds: near ones for a while after a change, so that new tags come and old ones go at once, and
wider ones when its tags have settled, so that they stay. A tag that has just gone off needs the
wider one to come on again, and so do all tags of a stream that has just begun.

A bank keeps a few numbers per tag for all streams of one tagger, a row for each stream, and takes
a window of many streams at once. Positions are sample indices at a stream's own rate, so that
times do not depend on the hop.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streamtag.engine.settings import TaggerSettings
from streamtag.model.card import Card

SLOW_SECONDS = 3.0
"""Time constant of the average that tells whether what plays has changed."""
_TOLERANCE = 0.95
"""A tag has stayed beyond a threshold long enough after this share of the minimum time. A hop is a
whole number of frames, so half a second may be asked of windows that come every 0.49 s."""
_MAX_WEIGHTS = 64
"""Number of distances of windows whose weights are cached. Most streams have one or two."""


class Settled(NamedTuple):
    """How the tags of a stream switch once they have settled. Times are in samples of the stream.

    A change is a window at which the smoothed probabilities differ from their slower average by
    more than `change`, on the mean over all tags.
    """

    high: np.ndarray
    """(n_tags,) switch-on thresholds."""
    low: np.ndarray
    """(n_tags,) switch-off thresholds."""
    change: float
    after: float
    """How long after a change the tags count as settled."""
    slow: float
    """Time constant of the slower average."""
    again: float = 0.0
    """How long a tag that has gone off needs `high` to come on again."""
    start: float = 0.0
    """How long a tag needs `high` after the first window of a stream, or after missing audio: such
    a window repeats the little that it has."""

    @classmethod
    def of(cls, settings: TaggerSettings, card: Card, rate: float) -> "Settled | None":
        """Those of a card with the settings of a stream of `rate` Hz; None if it has none."""
        if card.settling is None:
            return None
        high, low = settings.settled_thresholds(card)
        change, after = card.settling.change, _TOLERANCE * rate * card.settling.seconds
        again, start = rate * card.settling.again_seconds, rate * card.settling.start_seconds
        return cls(high, low, change, after, rate * SLOW_SECONDS, again, start)


class SwitchSettings:
    """How the tags of one stream are smoothed and switched. Times are in samples of the stream.

    Two thresholds keep a probability that hovers around one of them from toggling the tag at every
    window (Canny 1986, in one dimension). How long a tag has stayed beyond a threshold is measured
    between the ends of windows.

    Args:
        high: (n_tags,) switch-on thresholds in (0, 1); infinite for a tag that never switches.
        low: (n_tags,) switch-off thresholds, each at most its `high`.
        min_on: how long a probability must stay at `high` or above; one number, or per tag.
        min_off: how long it must stay below `low`; one number, or per tag.
        smoothing: time constant of the low-pass; one number, or per tag; 0 for none.
        settled: thresholds after a while without a change; None for the same at all times.
    """

    def __init__(
        self,
        high: np.ndarray,
        low: np.ndarray,
        min_on: float | np.ndarray = 0.0,
        min_off: float | np.ndarray = 0.0,
        smoothing: float | np.ndarray = 0.0,
        settled: Settled | None = None,
    ) -> None:
        later = Settled(high, low, math.inf, 0.0, 0.0) if settled is None else settled
        for on, off in ((high, low), (later.high, later.low)):
            if on.shape != off.shape or on.ndim != 1 or not np.all((off > 0) & (off <= on)):
                raise ValueError(f"hysteresis: expected 0 < low <= high per tag, got {off}, {on}")
        values, which = np.unique(np.broadcast_to(smoothing, high.shape), return_inverse=True)
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise ValueError(f"smoothing: expected at least 0, got {smoothing}")
        self.high, self.low, self.settled = high, low, later
        self.needed_on, self.needed_off = _TOLERANCE * min_on - 1, _TOLERANCE * min_off - 1
        self._times, self._which = values.tolist(), which.reshape(-1)
        self._weights: dict[int, tuple[np.ndarray, float]] = {}

    def weights(self, samples: int) -> tuple[np.ndarray, float]:
        """The weights of new values in the moving averages, after `samples`: (n_tags,) in the
        smoothing, and one in the slower average.

        A first-order low-pass: after the time constant a step has been followed to 1 - 1/e.
        """
        if (known := self._weights.get(samples)) is None:
            if len(self._weights) >= _MAX_WEIGHTS:
                self._weights.clear()
            *alphas, slow = (_weight(samples, t) for t in (*self._times, self.settled.slow))
            known = self._weights[samples] = np.array(alphas)[self._which], slow
        return known


def _weight(samples: int, time_constant: float) -> float:
    return -math.expm1(-samples / time_constant) if time_constant else 1.0


class Switch(NamedTuple):
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


class SwitchBank:
    """Smoothing, and a switch with two thresholds per tag: on at `high`, off below `low`.

    The state is in arrays with a row for each stream (`add`, `release`) and a column for each tag.
    """

    _smoothed: np.ndarray
    _on: np.ndarray
    _since: np.ndarray
    _peak: np.ndarray
    _pending: np.ndarray  # beyond the threshold, but not for long enough
    _pending_at: np.ndarray  # `at` and `end` of the first such window
    _pending_end: np.ndarray
    _high: np.ndarray
    _low: np.ndarray
    _settled_high: np.ndarray
    _settled_low: np.ndarray
    _slow: np.ndarray  # the slower average
    _held: np.ndarray  # until then a tag that is off needs the settled threshold
    _needed_on: np.ndarray
    _needed_off: np.ndarray

    def __init__(self, n_tags: int) -> None:
        self._n_tags, self._ones = n_tags, np.ones(n_tags)
        self._settles = False  # whether any stream has other thresholds later
        self._change = self._after = np.zeros(0)  # by row, as the next five
        self._again = self._start = np.zeros(0)
        self._changed = np.zeros(0, np.int64)  # end of the window of the last change
        self._settings: list[SwitchSettings | None] = []
        self._ends: list[int | None] = []  # of the newest window; None before the first
        self._free: list[int] = []

    def add(self, settings: SwitchSettings) -> int:
        """A row for another stream: everything is off, and its next value passes unchanged."""
        if not self._free:
            self._grow()
        row = self._free.pop()
        for name in _COLUMNS:
            getattr(self, name)[row] = 0
        self._ends[row] = None
        self._set(row, settings)
        return row

    def release(self, row: int) -> None:
        """Forgets a stream. Its row may become another's."""
        self._settings[row] = None
        self._free.append(row)

    def on(self, row: int) -> np.ndarray:
        """(n_tags,) bool: which are on."""
        on: np.ndarray = self._on[row].copy()
        return on

    def update(
        self,
        rows: Sequence[int],
        probabilities: np.ndarray,
        at: Sequence[int],
        ends: Sequence[int],
        only: Mapping[int, np.ndarray],
    ) -> tuple[np.ndarray, list[list[Switch]]]:
        """Takes one window of each of several streams.

        Args:
            rows: of the streams, no row twice.
            probabilities: (n, n_tags) float64 of their windows.
            at: samples that stand for the windows' times.
            ends: one past the windows' last samples.
            only: (n_tags,) bool by place in `rows`: the tags that may change, if not all.

        Returns:
            The smoothed probabilities, (n, n_tags) float64, and what changed in each stream.
        """
        # A slice makes views, which a single stream gets three times as fast.
        index = slice(rows[0], rows[0] + 1) if len(rows) == 1 else np.array(rows)
        smoothed, slow_weights = self._smooth(rows, index, probabilities, ends)
        high, low = self._high[index], self._low[index]
        if self._settles:
            settled = self._settled(rows, index, smoothed, ends, slow_weights)
            held = np.array(ends)[:, None] < self._held[index]
            high = np.where(settled | held, self._settled_high[index], high)
            low = np.where(settled, self._settled_low[index], low)
        on: np.ndarray = self._on[index]
        beyond = np.where(on, smoothed < low, smoothed >= high)
        for i, tags in only.items():
            beyond[i] &= tags
        begins = beyond & ~self._pending[index]
        self._pending[index] = beyond
        rises = begins & ~on
        self._peak[index] = np.where(rises, smoothed, np.maximum(self._peak[index], smoothed))
        switches: list[list[Switch]] = [[] for _ in rows]
        which, tags = np.nonzero(beyond)
        if not len(which):
            return smoothed, switches
        places = np.array(rows)[which], tags
        first, end, is_on = begins[which, tags], np.array(ends)[which], on[which, tags]
        since = np.where(first, end, self._pending_end[places])
        self._pending_end[places] = since
        self._pending_at[places] = np.where(first, np.array(at)[which], self._pending_at[places])
        needed = np.where(is_on, self._needed_off[places], self._needed_on[places])
        for k in np.flatnonzero(end - since >= needed).tolist():
            i, tag = int(which[k]), int(tags[k])
            switch = self._flip(rows[i], tag, int(self._pending_at[rows[i], tag]))
            if not switch.on:
                self._held[rows[i], tag] = ends[i] + self._again[rows[i]]
            switches[i].append(switch)
        return smoothed, switches

    def update_settings(self, row: int, settings: SwitchSettings, at: int) -> list[Switch]:
        """Other settings of a stream from its next window on.

        Tags whose thresholds stay the same are not disturbed.

        Returns:
            What goes off at sample `at`, because it may not be on any more.
        """
        changed = (settings.high != self._high[row]) | (settings.low != self._low[row])
        changed |= settings.settled.high != self._settled_high[row]
        changed |= settings.settled.low != self._settled_low[row]
        self._set(row, settings)
        self._pending[row, changed] = False
        disabled = np.flatnonzero(self._on[row] & np.isinf(settings.high)).tolist()
        return [self._flip(row, tag, at) for tag in disabled]

    def restart(self, row: int) -> None:
        """Audio is missing: what is on stays on, no time beyond a threshold counts, and the next
        value is not smoothed and counts as a change."""
        self._pending[row], self._ends[row] = False, None

    def restate(self, row: int, at: int) -> list[Switch]:
        """Returns switch-ons at sample `at` for everything that is on, as if it began there."""
        on = self._on[row]
        self._pending[row] = False
        self._since[row, on], self._peak[row, on] = at, self._smoothed[row, on]
        tags = np.flatnonzero(on).tolist()
        return [Switch(tag, True, at, at, float(self._peak[row, tag])) for tag in tags]

    def close(self, row: int, at: int, but: np.ndarray | None = None) -> list[Switch]:
        """Switches everything off at sample `at`, because the stream ends or falls silent.

        The tags of `but`, (n_tags,) bool, stay as they are.
        """
        going = np.ones(self._n_tags, bool) if but is None else ~but
        self._pending[row, going] = False
        return [self._flip(row, tag, at) for tag in np.flatnonzero(self._on[row] & going).tolist()]

    def _smooth(
        self,
        rows: Sequence[int],
        index: slice | np.ndarray,
        new: np.ndarray,
        ends: Sequence[int],
    ) -> tuple[np.ndarray, np.ndarray]:
        """The moving averages with the new values, (n, n_tags) float64, and the weights of these in
        the slower averages, (n,): infinite for the first value of a stream."""
        weights, slow_weights = [], []
        for row, end in zip(rows, ends, strict=True):
            settings, last = self._settings[row], self._ends[row]
            assert settings is not None
            first = self._ones, math.inf
            tags, slow = first if last is None else settings.weights(end - last)
            weights.append(tags)
            slow_weights.append(slow)
            self._ends[row] = end
        alpha, old = np.concatenate(weights).reshape(new.shape), self._smoothed[index]
        smoothed = np.where(alpha == 1, new, old + alpha * (new - old))
        self._smoothed[index] = smoothed
        return smoothed, np.array(slow_weights)

    def _settled(
        self,
        rows: Sequence[int],
        index: slice | np.ndarray,
        smoothed: np.ndarray,
        ends: Sequence[int],
        weights: np.ndarray,
    ) -> np.ndarray:
        """Whether the tags of each stream have settled, (n, 1) bool; moves the slower averages,
        which begin anew at a change, and holds the tags of streams that begin."""
        slow: np.ndarray = self._slow[index]
        begins = np.isinf(weights)
        new = (np.abs(smoothed - slow).mean(axis=1) > self._change[index]) | begins
        if begins.any():
            until = np.where(begins, ends + self._start[index], 0)[:, None]
            self._held[index] = np.maximum(self._held[index], until)
        towards = np.where(new, 1.0, weights)[:, None]
        self._slow[index] = slow + towards * (smoothed - slow)
        changed = self._changed[index] = np.where(new, ends, self._changed[index])
        settled: np.ndarray = (ends - changed >= self._after[index])[:, None]
        return settled

    def _flip(self, row: int, tag: int, at: int) -> Switch:
        on = not self._on[row, tag]
        self._on[row, tag], self._pending[row, tag] = on, False
        if on:
            self._since[row, tag] = at
        since = int(self._since[row, tag])
        at = max(at, since)  # windows of two models may overlap
        return Switch(tag, on, at, since, float(self._peak[row, tag]))

    def _set(self, row: int, settings: SwitchSettings) -> None:
        self._settings[row] = settings
        self._high[row], self._low[row] = settings.high, settings.low
        later = settings.settled
        self._settled_high[row], self._settled_low[row] = later.high, later.low
        self._change[row], self._after[row] = later.change, later.after
        self._again[row], self._start[row] = later.again, later.start
        self._settles |= later.change < math.inf
        self._needed_on[row] = settings.needed_on
        self._needed_off[row] = settings.needed_off

    def _grow(self) -> None:
        """Doubles the number of rows."""
        n = len(self._settings)
        more = max(4, n)
        for name, kind in _COLUMNS.items():
            known = [getattr(self, name)] if n else []
            setattr(self, name, np.concatenate([*known, np.zeros((more, self._n_tags), kind)]))
        self._settings += [None] * more
        self._change, self._after, self._again, self._start = (
            np.append(x, np.zeros(more))
            for x in (self._change, self._after, self._again, self._start)
        )
        self._changed = np.append(self._changed, np.zeros(more, np.int64))
        self._ends += [None] * more
        self._free += range(n + more - 1, n - 1, -1)


_COLUMNS: dict[str, type] = {
    "_smoothed": float, "_on": bool, "_since": np.int64, "_peak": float,
    "_pending": bool, "_pending_at": np.int64, "_pending_end": np.int64,
    "_high": float, "_low": float, "_settled_high": float, "_settled_low": float, "_slow": float,
    "_held": float, "_needed_on": float, "_needed_off": float,
}  # fmt: skip
"""The arrays of a bank and their types."""
