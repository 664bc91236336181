"""The taggers of an engine, each with the batcher that runs it."""

import math
from collections.abc import Iterator, Sequence

from streamtag.engine.batcher import Batcher
from streamtag.engine.counters import Counters, Histogram, Series, series
from streamtag.engine.thread_pool import ThreadPool
from streamtag.errors import ConfigError
from streamtag.model.tagger import Tagger


class Batchers:
    """One for each tagger; they come and go.

    Args:
        max_batch: windows to run together at most.
        max_wait: seconds that a due window may wait for others to fill its batch.
        sizes: batch sizes that the models get; None means powers of two on a GPU, and 1 on a CPU.
        counters: where to count.
        threads: windows that a CPU scores at the same time, where it gets them one by one.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        max_batch: int,
        max_wait: float,
        sizes: Sequence[int] | None,
        counters: Counters,
        threads: int,
    ) -> None:
        if threads < 1:
            raise ConfigError(f"engine: expected at least 1 thread, got {threads}")
        self._options = (max_batch, max_wait, sizes, counters)
        self._crew = ThreadPool(threads) if threads > 1 else None
        self.by_name: dict[str, Batcher] = {}
        """By name of the tagger."""

    def prepare(self, name: str, tagger: Tagger) -> Batcher:
        """One that is warmed up and not among them yet; any thread may do this."""
        batcher = Batcher(name, tagger, *self._options, self._crew)
        batcher.warm_up()
        return batcher

    def of(self, tagger: str, stream: str) -> Batcher:
        """The one of a tagger that a stream wants.

        Raises:
            ConfigError: there is none.
        """
        if tagger not in self.by_name:
            known = ", ".join(self.by_name) or "none"
            raise ConfigError(f"stream {stream!r}: unknown tagger {tagger!r}; there are: {known}")
        return self.by_name[tagger]

    def rename(self, old: str, new: str) -> None:
        """Gives one another name; who had that is gone."""
        self.by_name[new] = self.by_name.pop(old)
        self.by_name[new].name = new

    def due(self, now: float) -> Iterator[Batcher]:
        """Those that are to run now, each once; at the time infinity until nothing waits."""
        for batcher in self.by_name.values():
            while (deadline := batcher.deadline()) is not None and deadline <= now:
                yield batcher
                if now != math.inf:
                    break

    def next_deadline(self) -> float | None:
        """When the next one is to run; None if no window waits."""
        deadlines = [batcher.deadline() for batcher in self.by_name.values()]
        return min((d for d in deadlines if d is not None), default=None)

    def waiting(self) -> int:
        """How many windows wait."""
        return sum(map(len, self.by_name.values()))

    def notices(self) -> list[str]:
        """What has happened since the last call that is not about one stream, for people."""
        told = [text for batcher in self.by_name.values() for text in batcher.notices]
        for batcher in self.by_name.values():
            batcher.notices.clear()
        return told

    def histograms(self) -> dict[Series, Histogram]:
        """Sizes of batches and waits of windows, per tagger."""
        sizes = {series("batch_size", tagger=name): b.sizes for name, b in self.by_name.items()}
        waits = {series("wait_seconds", tagger=name): b.waits for name, b in self.by_name.items()}
        return sizes | waits
