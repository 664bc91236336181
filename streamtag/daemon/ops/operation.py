"""How a daemon is looked after: its monitor, shown to Prometheus, load balancers and systemd."""

import time
from collections.abc import Callable, Mapping

from streamtag.daemon.ops.monitor import Monitor
from streamtag.daemon.ops.systemd import Service
from streamtag.engine.counters import Histogram


class Operation:
    """Ready when constructed: models are warm, and the metrics' address is bound.

    Args:
        bind: `HOST:PORT` for metrics and health; empty for none.
        counters: gives all counters by name.
        histograms: gives all histograms by name.
        monitor: who takes note; None for a new one.

    Raises:
        ConfigError: the address cannot be used.
    """

    def __init__(
        self,
        bind: str,
        counters: Callable[[], Mapping[str, float]],
        histograms: Callable[[], Mapping[str, Histogram]],
        monitor: Monitor | None = None,
    ) -> None:
        self.monitor = monitor or Monitor()
        self._exposition = None
        if bind:
            from streamtag.daemon.ops.http import Exposition
            from streamtag.daemon.ops.metrics import Metrics

            metrics = Metrics(self.monitor, counters, histograms, gpu_bytes)
            self._exposition = Exposition(bind, metrics, self.monitor)
        self.address = self._exposition.address if self._exposition else ""
        """Of the metrics, `HOST:PORT`."""
        self.service = Service(self.monitor, time.monotonic())

    def tick(self) -> None:
        """Tells systemd what there is to tell; call it a few times a second."""
        self.service.tick(time.monotonic())

    def close(self) -> None:
        """Answers nobody any more."""
        if self._exposition:
            self._exposition.close()


def gpu_bytes() -> dict[str, int]:
    """The memory that torch holds on each GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {f"cuda:{i}": torch.cuda.memory_reserved(i) for i in range(torch.cuda.device_count())}
