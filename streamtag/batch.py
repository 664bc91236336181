"""Batches: due windows of many streams, scored by one model call."""

import logging
import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from streamtag.bundle import silence_frame
from streamtag.errors import ConfigError
from streamtag.features import gather
from streamtag.stats import Counters
from streamtag.stream import Due
from streamtag.tagger import Tagger
from streamtag.window import pad_past

logger = logging.getLogger(__name__)


class Batcher:
    """The due windows of one tagger: when to run them, and running them.

    A GPU gets a few fixed batch sizes. A CPU gets windows one by one unless told otherwise, and at
    once: the kernels that torch picks there depend on the batch size, and even on the row, so that
    a window's last bits (1e-7 to 1e-5 of a probability) would depend on its company and, rarely,
    an event with them. It costs a convolutional net a tenth of its speed, a recurrent one more.

    Args:
        name: of the tagger, for messages and counters.
        tagger: the model.
        max_batch: windows to run together at most; the largest of `sizes` if there are any.
        max_wait: seconds that a due window may wait for company.
        sizes: batch sizes that the model gets; batches are cut and padded to them.
        counters: where to count.

    Raises:
        ConfigError: one of the numbers is out of its range.
    """

    def __init__(
        self,
        name: str,
        tagger: Tagger,
        max_batch: int,
        max_wait: float,
        sizes: Sequence[int] | None,
        counters: Counters,
    ) -> None:
        if max_batch < 1 or not max_wait >= 0:
            raise ConfigError(
                f"tagger {name!r}: expected max_batch >= 1 and max_wait >= 0 seconds, "
                f"got {max_batch} and {max_wait}"
            )
        self.name, self.tagger = name, tagger
        self._sizes = fixed_sizes(max_batch, tagger.device) if sizes is None else sorted(set(sizes))
        if not self._sizes or self._sizes[0] < 1:
            raise ConfigError(f"tagger {name!r}: expected batch sizes of at least 1, got {sizes}")
        self._largest, self._max_wait = self._sizes[-1], max_wait
        self._counters = counters
        self._waiting: OrderedDict[Due, None] = OrderedDict()
        self._silence = silence_frame(tagger.card.features)
        self.error = ""
        """What the model said when it failed last."""

    def __len__(self) -> int:
        return len(self._waiting)

    def warm_up(self) -> None:
        """Runs every batch size, so that none is slow the first time."""
        self.tagger.warm_up(self._sizes)

    def offer(self, due: Due) -> None:
        """Adds a window."""
        self._waiting[due] = None

    def discard(self, due: Due) -> None:
        """Takes a window out again, unscored."""
        del self._waiting[due]

    def deadline(self) -> float | None:
        """When the next batch is to run: at once if one is full; None if no window waits."""
        if not self._waiting:
            return None
        oldest = next(iter(self._waiting)).offered
        return oldest if len(self._waiting) >= self._largest else oldest + self._max_wait

    def take(self) -> list[Due]:
        """The next batch, oldest first."""
        count = min(self._largest, len(self._waiting))
        return [self._waiting.popitem(last=False)[0] for _ in range(count)]

    def score(self, dues: Sequence[Due]) -> np.ndarray:
        """Probabilities, (n, n_tags) float32; not finite in the rows where the model failed.

        Args:
            dues: 1 to the largest batch size.
        """
        self._counters.add(f"{self.name}.windows", len(dues))
        self._counters.add(f"{self.name}.batches")
        return self._attempt(dues)

    def _attempt(self, dues: Sequence[Due]) -> np.ndarray:
        """One model call; if it fails, one per window, so that a window fails alone."""
        windows = self._gather(dues, next(size for size in self._sizes if size >= len(dues)))
        n, n_tags = len(dues), len(self.tagger.card.tags)
        try:
            return self._checked(self.tagger(windows)[:n])
        except Exception as error:  # the model is foreign code: it may raise anything
            self._fail(f"{type(error).__name__}: {error}")
        if n > 1:
            return np.concatenate([self._attempt([due]) for due in dues])
        return np.full((1, n_tags), math.nan, np.float32)

    def _checked(self, answer: np.ndarray) -> np.ndarray:
        """The answer; counted as failed, but handed on, where it is no number."""
        if not np.isfinite(answer).all():
            self._fail("its answer is not a finite number")
        return answer

    def _fail(self, error: str) -> None:
        if error != self.error:
            logger.error("tagger %s: %s", self.name, error)
        self.error = error

    def _gather(self, dues: Sequence[Due], size: int) -> np.ndarray:
        """The windows in the rows of the batch; rows without a window hold whatever they held."""
        rows = self.tagger.staging(size)
        windows = [due.window for due in dues]
        gather(
            [due.ring for due in dues],
            [window.first for window in windows],
            [window.count for window in windows],
            rows[: len(dues)],
        )
        for row, window in zip(rows, windows, strict=False):
            if window.count < len(row):
                pad_past(row, window.count, self.tagger.card.padding, self._silence)
        return rows


def fixed_sizes(max_batch: int, device: str) -> list[int]:
    """Batch sizes for a device: 1 on a CPU, else powers of two up to `max_batch`, and that."""
    if device == "cpu":
        return [1]
    powers = [2**i for i in range(max_batch.bit_length()) if 2**i < max_batch]
    return [*powers, max_batch]
