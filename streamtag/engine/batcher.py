"""Batches: due windows of many streams, scored by one model call."""

import logging
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from streamtag._core import gather
from streamtag.engine.counters import SIZES, Counters, Histogram
from streamtag.engine.stream_tagger import PendingWindow, StreamTagger
from streamtag.engine.thread_pool import ThreadPool
from streamtag.engine.windows import pad_past
from streamtag.errors import ConfigError, StreamtagError
from streamtag.model.bundle import silence_frame
from streamtag.model.tagger import Tagger, lost_device

logger = logging.getLogger(__name__)

_MOST_LOGGED = 20


class Batcher:
    """The due windows of one tagger: when to run them, and running them.

    A GPU gets a few fixed batch sizes. A CPU gets windows one by one unless told otherwise, and at
    once: the kernels that torch picks there depend on the batch size, and even on the row, so that
    a window's last bits (1e-7 to 1e-5 of a probability) would depend on its company and, rarely,
    an event with them. Fused as `fusing` does it, convolutional nets gain less than a tenth from
    batches there; recurrent ones gain more, and `sizes` buys it where last bits do not matter.

    Streams take turns, each with its oldest window: when the model is too slow for all, all get
    the same share. (First come, first served would starve those that come last each time.)

    Args:
        name: of the tagger, for messages and counters.
        tagger: the model.
        max_batch: windows to run together at most; the largest of `sizes` if there are any.
        max_wait: seconds that a due window may wait for company.
        sizes: batch sizes that the model gets; batches are cut and padded to them.
        counters: where to count.
        crew: calls the model for several windows at once where it gets them one by one.

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
        crew: ThreadPool | None = None,
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
        self._counters, self._crew = counters, crew
        self.sizes, self.waits = Histogram(SIZES), Histogram()
        """Windows per model call; seconds from a window being due to its batch being run."""
        self._waiting: OrderedDict[PendingWindow, None] = OrderedDict()  # oldest first
        self._turns: OrderedDict[StreamTagger, None] = OrderedDict()  # whose turn is next first
        self.notices: list[str] = []
        """For people: what happened and is not about one stream."""
        self._silence = silence_frame(tagger.card.features)
        self._logged: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def warm_up(self) -> None:
        """Runs every batch size, so that none is slow the first time."""
        self.tagger.warm_up(self._sizes)

    def offer(self, due: PendingWindow) -> None:
        """Adds a window, later than all that its listener has waiting."""
        self._waiting[due] = None
        self._turns.setdefault(due.listener)
        due.listener.pending.append(due)

    def drop_overwritten(self, listener: StreamTagger) -> list[PendingWindow]:
        """Takes out the windows of a listener whose frames the ring has lost; returns them."""
        lost = []
        while listener.pending and listener.pending[0].overwritten:
            lost.append(self._take_from(listener))
        if not listener.pending:
            self._turns.pop(listener, None)
        return lost

    def forget(self, listener: StreamTagger) -> None:
        """Takes out all that a listener has waiting: nobody wants it any more."""
        while listener.pending:
            self._take_from(listener)
        self._turns.pop(listener, None)

    def deadline(self) -> float | None:
        """When the next batch is to run: at once if one is full; None if no window waits."""
        if not self._waiting:
            return None
        oldest = next(iter(self._waiting)).offered
        return oldest if len(self._waiting) >= self._largest else oldest + self._max_wait

    def take(self) -> list[PendingWindow]:
        """The next batch; windows of one listener are in their order."""
        dues: list[PendingWindow] = []
        most = self._largest if self._apart is None else self._apart.size
        while self._turns and len(dues) < most:
            listener, _ = self._turns.popitem(last=False)
            dues.append(self._take_from(listener))
            if listener.pending:
                self._turns[listener] = None
        return dues

    def _take_from(self, listener: StreamTagger) -> PendingWindow:
        due = listener.pending.popleft()
        del self._waiting[due]
        return due

    def score(self, dues: Sequence[PendingWindow]) -> list[np.ndarray | str]:
        """Per window, (n_tags,) float32 probabilities, or why the model gave none.

        Args:
            dues: what `take` gave.
        """
        batches: list[Sequence[PendingWindow]]
        batches = [dues] if self._apart is None else [[due] for due in dues]
        for batch in batches:
            self.sizes.add(len(batch))
        answers = self._scored(batches)
        self._counters.add("windows", len(dues), tagger=self.name)
        self._counters.add("batches", len(batches), tagger=self.name)
        for error in {answer for answer in answers if isinstance(answer, str)} - self._logged:
            if len(self._logged) < _MOST_LOGGED:
                logger.error("tagger %s: its model failed: %s", self.name, error)
                self._logged.add(error)
        return answers

    @property
    def _apart(self) -> ThreadPool | None:
        """Who scores windows that the model gets one by one; None where nobody does."""
        return self._crew if self._largest == 1 and self.tagger.device == "cpu" else None

    def _scored(self, batches: list[Sequence[PendingWindow]]) -> list[np.ndarray | str]:
        if self._crew is None or len(batches) == 1:
            return [answer for batch in batches for answer in self._attempt(batch)]
        parts = self._crew.map(self._attempt, batches)
        return [answer for part in parts for answer in part]

    def _attempt(self, dues: Sequence[PendingWindow]) -> list[np.ndarray | str]:
        """One model call; if it fails, one per window, so that a window fails alone."""
        windows = self._gather(dues, next(size for size in self._sizes if size >= len(dues)))
        try:
            answers = self.tagger(windows)[: len(dues)]
        except Exception as error:  # the model is foreign code: it may raise anything
            if self.tagger.device != "cpu" and lost_device(error) and self._fall_back(error):
                return [answer for due in dues for answer in self._attempt([due])]
            if len(dues) > 1:
                return [answer for due in dues for answer in self._attempt([due])]
            return [_last_line(error)]
        fine = np.isfinite(answers).all(axis=1)
        return [answers[i] if fine[i] else "not a finite number" for i in range(len(dues))]

    def _fall_back(self, error: Exception) -> bool:
        """Goes on on the CPU; the windows of the batch are still in their rings. False if not."""
        device = self.tagger.device
        try:
            tagger = self.tagger.on_cpu()
            sizes = fixed_sizes(self._largest, "cpu")
            tagger.warm_up(sizes)
        except (StreamtagError, OSError) as reason:
            logger.critical(
                "tagger %s: %s is lost, and no CPU takes over: %s", self.name, device, reason
            )
            return False
        self.tagger, self._sizes, self._largest = tagger, sizes, sizes[-1]
        self._counters.add("fallbacks", tagger=self.name)
        text = f"tagger {self.name}: {device} is lost, the CPU goes on: {_last_line(error)}"
        self.notices.append(text)
        logger.error("%s", text)
        return True

    def _gather(self, dues: Sequence[PendingWindow], size: int) -> np.ndarray:
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


def _last_line(error: Exception) -> str:
    """What an error says; TorchScript puts a traceback before it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
