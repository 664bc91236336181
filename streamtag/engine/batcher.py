"""Batches: due windows of many streams, scored by one model call."""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future

import numpy as np

from streamtag._core import gather
from streamtag.engine.counters import SIZES, Counters, Histogram
from streamtag.engine.embeddings import (
    BufferedWindow,
    cheap_sizes,
    past_embedding,
    saves_work,
    score_by_embeddings,
    warm_up_parts,
)
from streamtag.engine.smoothing import SwitchBank
from streamtag.engine.stream_tagger import PendingWindow, StreamTagger
from streamtag.engine.windows import pad_past
from streamtag.errors import BundleError, ConfigError, StreamtagError
from streamtag.model.bundle import silence_frame
from streamtag.model.tagger import Tagger, is_fatal_gpu_error
from streamtag.model.threads import one_thread
from streamtag.model.watchdog import CallLimits, ModelStuckError

logger = logging.getLogger(__name__)

_CPU_WAIT = 0.02
"""Seconds; the windows of a streaming net wait no longer for others on a CPU. Alone, a call of so
small a net is mostly overhead: it costs as much as four windows in a batch."""
MOST_RESTARTS = 3
"""So often in one process: each time leaves a thread behind that cannot be ended."""
_MAX_LOGGED = 20
"""So many different errors of a model are logged. The events report all of them."""


class Batcher:
    """The windows of one tagger that wait, and their batches. It alone owns pending windows.

    Ready when constructed: every batch size has been run once, so that none is slow the first time.
    With given `sizes`, as for recordings, a streaming net on a CPU compiles for whole windows when
    it gets one. Few recordings have one, and it takes .4 s.

    A GPU gets a few fixed batch sizes. A CPU gets whole windows one by one and at once, unless
    `sizes` says otherwise: the kernels that torch picks there depend on the batch size, and even on
    the row. So a window's last bits (1e-7 to 1e-5 of a probability) would depend on the other
    windows of its batch and, rarely, an event with them. Fused as `model.optimise` does it, nets
    gain little from batches of whole windows. Streaming nets gain much, because their calls are
    small: they get the sizes that make a window cheaper, and their windows wait a moment.

    Streams take turns, each with its oldest window: when the model is too slow for all, all get
    the same share. (First come, first served would starve those that come last each time.)

    Args:
        name: of the tagger, for messages and counters.
        tagger: the model.
        max_batch: windows to run together at most; the largest of `sizes` if there are any.
        max_wait: seconds that a due window may wait for others.
        sizes: batch sizes that the model gets; batches are cut and padded to them.
        counters: where to count.
        threads: windows to score at the same time where the batch size on a CPU is 1.
        pool: executor with this number of threads; None for one thread.
        notices: gets what people should know and is not about one stream.
        exact: a streaming net too sees whole windows.
        calls: how long a call of the model may take before its windows are dropped, and before the
            model is loaded anew. None waits for ever.

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
        threads: int = 1,
        pool: Executor | None = None,
        notices: list[str] | None = None,
        exact: bool = False,
        calls: CallLimits | None = None,
    ) -> None:
        if max_batch < 1 or not max_wait >= 0:
            raise ConfigError(
                f"tagger {name!r}: expected max_batch >= 1 and max_wait >= 0 seconds, "
                f"got {max_batch} and {max_wait}"
            )
        self.name, self.tagger, self._call_limits = name, tagger, calls
        self._watch(tagger)
        self.restarts, self._hangs = 0, False
        """How often the model was loaded anew because it hung."""
        self.worn_out = False
        """Whether it hung again after it was loaded anew as often as it may be."""
        self._restart: Future[Tagger] | None = None
        self.streaming = not exact and saves_work(tagger.card)
        """Whether windows are scored by embeddings."""
        self._sizes = self._fixed_sizes(max_batch) if sizes is None else sorted(set(sizes))
        if not self._sizes or self._sizes[0] < 1:
            raise ConfigError(f"tagger {name!r}: expected batch sizes of at least 1, got {sizes}")
        self._on_cpu = on_cpu = self.streaming and tagger.device == "cpu"
        self._largest = self._sizes[-1]
        self._max_wait = min(max_wait, _CPU_WAIT) if on_cpu else max_wait
        self._counters, self._threads, self._pool = counters, threads, pool
        self.batch_sizes, self.waits = Histogram(SIZES), Histogram()
        """Windows per model call; seconds from a window being due to its batch being run."""
        # The windows that wait, twice: by stream tagger, where the first has the next turn; and by
        # age, where the first is the oldest.
        self._queues: OrderedDict[StreamTagger, deque[PendingWindow]] = OrderedDict()
        self._by_age: OrderedDict[PendingWindow, None] = OrderedDict()
        self._notices = [] if notices is None else notices
        self.bank = SwitchBank(len(tagger.card.tags))
        """Smoothing and switches of all its streams."""
        self._silence = silence_frame(tagger.card.features)
        self._past = past_embedding(tagger, self._silence) if self.streaming else self._silence
        self._logged: set[str] = set()
        if sizes is None or not on_cpu:
            tagger.warm_up([1] if on_cpu else self._sizes)
        if self.streaming and not on_cpu:
            for size in self._sizes:
                warm_up_parts(tagger, tagger.card.hop_frames, size)

    def __len__(self) -> int:
        return len(self._by_age)

    def add(self, window: PendingWindow) -> None:
        """Queues a window, later than all that its stream tagger has waiting."""
        self._by_age[window] = None
        if (queue := self._queues.get(window.stream_tagger)) is None:
            self._queues[window.stream_tagger] = deque([window])
        else:
            queue.append(window)

    def oldest(self, stream_tagger: StreamTagger) -> PendingWindow | None:
        """The window of a stream tagger that is scored next; None if none waits."""
        queue = self._queues.get(stream_tagger)
        return queue[0] if queue else None

    def drop_overwritten(self, stream_tagger: StreamTagger) -> list[PendingWindow]:
        """Removes and returns the windows of a stream tagger whose frames the ring has lost."""
        dropped: list[PendingWindow] = []
        queue = self._queues.get(stream_tagger)
        while queue and queue[0].overwritten:
            dropped.append(window := queue.popleft())
            del self._by_age[window]
        if dropped and not queue:
            del self._queues[stream_tagger]
        return dropped

    def discard(self, stream_tagger: StreamTagger) -> None:
        """Removes all windows of a stream tagger. Their results are not needed any more."""
        for window in self._queues.pop(stream_tagger, ()):
            del self._by_age[window]

    def deadline(self) -> float | None:
        """When the next batch is to run: at once if one is full; None if no window waits."""
        if not self._by_age:
            return None
        oldest = next(iter(self._by_age)).due_at
        return oldest if len(self._by_age) >= self._largest else oldest + self._max_wait

    def next_batch(self) -> list[PendingWindow]:
        """Removes and returns the next batch; windows of one stream tagger are in their order."""
        batch: list[PendingWindow] = []
        size = self._threads if self._one_by_one else self._largest
        while self._queues and len(batch) < size:
            stream_tagger, queue = self._queues.popitem(last=False)
            batch.append(window := queue.popleft())
            del self._by_age[window]
            if queue:
                self._queues[stream_tagger] = queue
        return batch

    def score(self, windows: Sequence[PendingWindow]) -> list[np.ndarray | str]:
        """Per window of a batch, (n_outputs,) float32 probabilities and what else the model gives,
        or why it gave none."""
        if reason := self._stuck():
            return [reason] * len(windows)
        calls = self._calls(windows)
        tagger, before = self.tagger, self.tagger.cpu_seconds
        for call in calls:
            self.batch_sizes.add(len(call))
        scored = map if self._pool is None or len(calls) == 1 else self._pool.map
        answers = [answer for part in scored(self._call_model, calls) for answer in part]
        self._counters.add("windows", len(windows), tagger=self.name)
        self._counters.add("batches", len(calls), tagger=self.name)
        self._counters.add("model_cpu_seconds", tagger.cpu_seconds - before, tagger=self.name)
        for error in {answer for answer in answers if isinstance(answer, str)} - self._logged:
            if len(self._logged) < _MAX_LOGGED:
                logger.error("tagger %s: its model failed: %s", self.name, error)
                self._logged.add(error)
        return answers

    def _calls(self, windows: Sequence[PendingWindow]) -> list[list[PendingWindow]]:
        """The windows of each model call; those of one stream tagger stay together."""
        if self._one_by_one:
            return [[window] for window in windows]
        if not self.streaming or self._pool is None or self.tagger.device != "cpu":
            return [list(windows)]
        threads: dict[StreamTagger, int] = {}
        calls: list[list[PendingWindow]] = [[] for _ in range(self._threads)]
        for window in windows:
            thread = threads.setdefault(window.stream_tagger, len(threads) % self._threads)
            calls[thread].append(window)
        return [call for call in calls if call]

    def _fixed_sizes(self, max_batch: int) -> list[int]:
        """Batch sizes. A streaming net may get batches on a CPU too: its calls are small."""
        if self.streaming and self.tagger.device == "cpu":
            return cheap_sizes(self.tagger, self.tagger.card.hop_frames, max_batch)
        return fixed_sizes(max_batch, self.tagger.device)

    @property
    def _one_by_one(self) -> bool:
        """Whether several threads each give the model one window at a time."""
        return self._pool is not None and self._largest == 1 and self.tagger.device == "cpu"

    def _call_model(self, batch: Sequence[PendingWindow]) -> list[np.ndarray | str]:
        """One model call; if it fails, one per window, so that a window fails alone."""
        try:
            answers = self._outputs(batch)
        except ModelStuckError as error:
            return [str(error)] * len(batch)
        except Exception as error:  # the model is foreign code: it may raise anything
            lost = self.tagger.device != "cpu" and is_fatal_gpu_error(error)
            if (lost and self._fall_back_to_cpu(error)) or len(batch) > 1:
                return [answer for window in batch for answer in self._call_model([window])]
            return [_last_line(error)]
        fine = np.isfinite(answers).all(axis=1)
        return [answers[i] if fine[i] else "not a finite number" for i in range(len(batch))]

    def _outputs(self, batch: Sequence[PendingWindow]) -> np.ndarray:
        """(n, n_outputs) values, by embeddings where windows have them."""
        streaming: dict[int, BufferedWindow] = {}
        for i, one in enumerate(batch):
            if buffer := one.buffer:
                streaming[i] = BufferedWindow(buffer, one.ring, one.window.end)
        whole = [i for i in range(len(batch)) if i not in streaming]
        answers = np.empty((len(batch), len(self.tagger.card.outputs)), np.float32)
        if whole:
            answers[whole] = self._whole([batch[i] for i in whole])
        if streaming:
            answers[list(streaming)] = score_by_embeddings(
                self.tagger, list(streaming.values()), self._sizes, self._past
            )
        return answers

    def _whole(self, batch: Sequence[PendingWindow]) -> np.ndarray:
        """(n, n_outputs) values of windows that the model sees as a whole."""
        if self.streaming and self.tagger.device == "cpu" and len(batch) > 1:
            return np.concatenate([self._whole([window]) for window in batch])
        size = next(size for size in self._sizes if size >= len(batch))
        return self.tagger.outputs(self._gather(batch, size))[: len(batch)]

    def _fall_back_to_cpu(self, error: Exception) -> bool:
        """Goes on with the CPU, if that works. The windows of the batch are still in the rings."""
        device = self.tagger.device
        try:
            tagger = self.tagger.on_cpu()
            self._watch(tagger)
            tagger.warm_up([1])
        except (StreamtagError, OSError) as reason:
            logger.critical(
                "tagger %s: %s is lost, and no CPU takes over: %s", self.name, device, reason
            )
            return False
        self.tagger = tagger
        self._sizes = self._fixed_sizes(self._largest)
        self._largest = self._sizes[-1]
        self._counters.add("fallbacks", tagger=self.name)
        text = f"tagger {self.name}: {device} is lost, the CPU goes on: {_last_line(error)}"
        self._notices.append(text)
        logger.error("%s", text)
        return True

    def _stuck(self) -> str:
        """Why the model cannot be called now; empty if it can. Starts it anew if it hangs."""
        if self._restart is not None:
            return self._finish_restart(self._restart)
        watchdog = None if self._call_limits is None else self.tagger.watchdog
        if watchdog is None or not (seconds := watchdog.stuck_seconds):
            if self._hangs:
                self._hangs = False
                self._notify(f"tagger {self.name}: its model answers again")
            return ""
        if not self._hangs:
            self._hangs = True
            self._counters.add("model_stuck", tagger=self.name)
            self._notify(f"tagger {self.name}: its model hangs; its windows are dropped")
        if seconds <= watchdog.limit:
            return "its model hangs: a call before has not returned"
        watchdog.abandon()
        self._restart = Future[Tagger]()
        if self.restarts >= MOST_RESTARTS:
            self.worn_out = True
            text = f"it has hung {self.restarts + 1} times; swap the tagger, or restart the daemon"
            self._restart.set_exception(BundleError(text))
        else:
            threading.Thread(
                target=self._load_again, args=(self._restart,), name="model restart", daemon=True
            ).start()
        return "its model hung, and is given up"

    def _load_again(self, answer: "Future[Tagger]") -> None:
        """Loads and warms up the model, in a thread of its own."""
        try:
            with one_thread():
                tagger = self.tagger.again()
                self._watch(tagger)
                tagger.warm_up([1] if self._on_cpu else self._sizes)
                for size in self._sizes if self.streaming else ():
                    warm_up_parts(tagger, tagger.card.hop_frames, size)
        except Exception as error:  # the model is foreign code: it may raise anything
            answer.set_exception(error)
        else:
            answer.set_result(tagger)

    def _finish_restart(self, answer: "Future[Tagger]") -> str:
        """Takes the model that was loaded anew, once it is there; why not, if it is not."""
        if not answer.done():
            return "its model hung, and is started anew"
        if (error := answer.exception()) is not None:
            return f"its model hung, and cannot be started anew: {_last_line(error)}"
        self.tagger, self._restart, self._hangs = answer.result(), None, False
        self.restarts += 1
        self._counters.add("model_restarts", tagger=self.name)
        self._notify(f"tagger {self.name}: its model hung; it is started anew")
        return ""

    def _watch(self, tagger: Tagger) -> None:
        """Has the calls of a model watched, if they are not to be waited for for ever."""
        if self._call_limits is not None:
            tagger.watch(self._call_limits)

    def _notify(self, text: str) -> None:
        self._notices.append(text)
        logger.error("%s", text)

    def _gather(self, batch: Sequence[PendingWindow], size: int) -> np.ndarray:
        """Copies the windows into the rows of a batch. Rows without a window are not changed."""
        rows = self.tagger.staging(size)
        windows = [pending.window for pending in batch]
        gather(
            [pending.ring for pending in batch],
            [window.first for window in windows],
            [window.count for window in windows],
            rows[: len(batch)],
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


def _last_line(error: BaseException) -> str:
    """The last line of an error. TorchScript puts a traceback before it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
