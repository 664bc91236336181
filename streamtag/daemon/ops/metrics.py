"""Metrics and health on a small HTTP server: the exporter for Prometheus and two health checks.

`/metrics` is the text that Prometheus reads. `/healthz` says whether the engine makes progress.
`/readyz` says whether the models are warm and audio has arrived, or a fleet was joined, or a
gateway hears daemons.
"""

import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamtag.config.fields import split_host_port
from streamtag.daemon.ops.monitor import Monitor
from streamtag.engine.counters import Histogram, Series, series
from streamtag.engine.shadow import shadowed_tagger
from streamtag.errors import ConfigError

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricSpec(NamedTuple):
    """How a series appears at `/metrics`."""

    help: str
    labels: Sequence[str] = ()
    family: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily
    name: str = ""
    """After `streamtag_`. Empty for the name of the series, with `_` for each dot."""

    def full_name(self, series: str) -> str:
        """The metric's name."""
        return f"streamtag_{self.name or series.replace('.', '_')}"


_TAGGER, _WORKER, _GAUGE = ("tagger", "shadow"), ("worker",), GaugeMetricFamily
METRICS = {
    "blocks": MetricSpec("Blocks of audio taken."),
    "frames": MetricSpec("Frames made of them."),
    "gaps": MetricSpec("Gaps in the audio."),
    "losses": MetricSpec("Times that a source was lost."),
    "nonfinite": MetricSpec("Samples that were no finite number."),
    "intake.dropped_blocks": MetricSpec("Blocks that did not fit into the engine's queue."),
    "streams.lost": MetricSpec("Streams that ended because their source failed."),
    "sources.lost": MetricSpec("Connections lost, by cause.", ["cause"], name="reconnects"),
    "feed.sent": MetricSpec("Messages sent."),
    "feed.refused": MetricSpec("Connections refused for want of an authorised key."),
    "feed.dropped_scores": MetricSpec("Scores given up because the feed was too slow."),
    "feed.dropped_events": MetricSpec("Events given up because the feed was too slow."),
    "waiting": MetricSpec("Windows to be scored.", (), _GAUGE, "windows_waiting"),
    "windows": MetricSpec("Windows scored.", _TAGGER),
    "batches": MetricSpec("Model calls.", _TAGGER),
    "model_cpu_seconds": MetricSpec("CPU time of model calls.", _TAGGER),
    "dropped": MetricSpec("Windows dropped because the model was too slow.", _TAGGER),
    "failed": MetricSpec("Windows that the model failed on.", _TAGGER),
    "model_stuck": MetricSpec("Times that a call of the model did not return.", _TAGGER),
    "model_restarts": MetricSpec("Times that a model was loaded anew because it hung.", _TAGGER),
    "fallbacks": MetricSpec("Times that a GPU was lost and the CPU took over.", _TAGGER),
    "shadow_windows": MetricSpec(
        "Windows on which a shadow model was compared with its tagger.", ["tagger"], _GAUGE
    ),
    "shadow_equal_decisions": MetricSpec(
        "Share of equal decisions of a shadow model and its tagger.", ["tagger"], _GAUGE
    ),
    "running": MetricSpec(
        "1 while a bridge's process runs, 0 while it waits to.",
        ["bridge"],
        _GAUGE,
        "bridge_running",
    ),
    "running_seconds": MetricSpec(
        "For how long it has run; 0 while it waits.", ["bridge"], _GAUGE, "bridge_running_seconds"
    ),
    "restarts": MetricSpec(
        "Times that it ended by itself and was started again.",
        ["bridge"],
        name="bridge_restarts",
    ),
    "worker_running": MetricSpec(
        "1 while an engine process is ready, 0 while it is started.", _WORKER, _GAUGE
    ),
    "worker_restarts": MetricSpec("Times that it ended and was started again.", _WORKER),
    "worker_streams": MetricSpec("Streams that it has.", _WORKER, _GAUGE),
    "worker_busy_seconds": MetricSpec("Work of its engine since it was started.", _WORKER),
    "worker_audio_seconds": MetricSpec("Audio taken since it was started.", _WORKER),
    "worker_memory_bytes": MetricSpec("Memory that it shares with no other.", _WORKER, _GAUGE),
    "states": MetricSpec("Streams by state.", ["state"], _GAUGE, "streams"),
    "streams_silent": MetricSpec("Streams in a silence.", (), _GAUGE),
    "loudness_lufs": MetricSpec(
        "Momentary loudness by EBU R 128, with feed.loudness.", ["stream"], _GAUGE
    ),
    "events": MetricSpec("Events by type and reason.", ["type", "reason"]),
    "busy_seconds": MetricSpec("Work of the engine's thread."),
    "audio_seconds": MetricSpec("Audio taken, of all streams."),
    "real_time_factor": MetricSpec(
        "Seconds of work per second of audio since the start; how much one thread can take is its "
        "inverse.",
        (),
        _GAUGE,
    ),
    "gpu_memory_bytes": MetricSpec("Memory that torch holds on a GPU.", ["device"], _GAUGE),
}
"""By name of the series. A metric without labels is exported from the start, as 0."""
HISTOGRAMS = {
    "batch_size": MetricSpec("Windows per model call.", _TAGGER),
    "wait_seconds": MetricSpec(
        "From a window being due to its batch being run.", _TAGGER, name="queue_seconds"
    ),
    "publish_seconds": MetricSpec(
        "From a message being handed to the feed to its being sent; each batch's oldest."
    ),
    "latency_seconds": MetricSpec(
        "From a live window's last sample to its result being handed to the feed."
    ),
}
"""By name of the series."""


def gpu_bytes() -> dict[str, int]:
    """The memory that torch holds on each GPU. Nothing where this process has not imported it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {f"cuda:{i}": torch.cuda.memory_reserved(i) for i in range(torch.cuda.device_count())}


class Metrics(Collector):
    """The Prometheus metrics of a daemon, collected at the moment of a request.

    `counters` gives the gauges, too, and `gpu_memory` the bytes that models hold on each GPU.
    """

    def __init__(
        self,
        monitor: Monitor,
        counters: Callable[[], Mapping[Series, float]],
        histograms: Callable[[], Mapping[Series, Histogram]],
        gpu_memory: Callable[[], Mapping[str, int]] = gpu_bytes,
    ) -> None:
        self._monitor, self._counters = monitor, counters
        self._histograms, self._gpu_memory = histograms, gpu_memory

    def text(self) -> bytes:
        """The page `/metrics`."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """All metrics. The registry calls it."""
        histograms = {**self._histograms(), Series("latency_seconds"): self._monitor.latency}
        taggers = {key.label("tagger") for key in histograms} | {""}
        present = {k: v for k, v in self._counters().items() if k.label("tagger") in taggers}
        memory = {series("gpu_memory_bytes", device=d): n for d, n in self._gpu_memory().items()}
        yield from _counter_families(present | self._monitor.series() | memory)
        yield from _histogram_families(histograms)


def _counter_families(values: Mapping[Series, float]) -> Iterator[Metric]:
    by_name: defaultdict[str, dict[Series, float]] = defaultdict(dict)
    for key, value in values.items():
        by_name[key.name][key] = value
    for name, spec in METRICS.items():
        family = spec.family(spec.full_name(name), spec.help, labels=spec.labels)
        found = by_name[name] if spec.labels else {Series(name): values.get(Series(name), 0)}
        for key, value in found.items():
            family.add_metric(_labels(key, spec), value)
        yield family


def _histogram_families(histograms: Mapping[Series, Histogram]) -> Iterator[Metric]:
    for name, spec in HISTOGRAMS.items():
        family = HistogramMetricFamily(spec.full_name(name), spec.help, labels=spec.labels)
        for key, histogram in histograms.items():
            if key.name == name:
                family.add_metric(_labels(key, spec), _buckets(histogram), histogram.sum)
        yield family


def _labels(key: Series, spec: MetricSpec) -> list[str]:
    """Label values of a metric. A shadow has the name of its tagger and `shadow="true"`."""
    values = dict(key.labels)
    if "shadow" in spec.labels:
        principal = shadowed_tagger(values["tagger"])
        values["shadow"] = "false" if principal is None else "true"
        values["tagger"] = principal or values["tagger"]
    return [values[label] for label in spec.labels]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [
        ("+Inf" if bound == float("inf") else repr(float(bound)), float(count))
        for bound, count in histogram.cumulative()
    ]


class MetricsServer:
    """The HTTP server at `bind`, which is `HOST:PORT`. Port 0 takes a free one.

    `obstacle` says why a program that needs no audio is not ready; it is empty if it is.

    Raises:
        ConfigError: the address cannot be used.
    """

    def __init__(
        self,
        bind: str,
        metrics: Metrics,
        monitor: Monitor,
        obstacle: Callable[[], str] | None = None,
    ) -> None:
        if (place := split_host_port(bind)) is None:
            raise ConfigError(
                f"metrics.bind: expected HOST:PORT, such as 127.0.0.1:9464, got {bind!r}"
            )
        try:
            self._server = _ThreadingServer(place, _handler(metrics, monitor, obstacle))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"metrics.bind: expected an address to listen on, such as 127.0.0.1:9464, "
                f"got {bind!r}: {error}; is another daemon running there?"
            ) from None
        self.address = f"{place[0]}:{self._server.server_address[1]}"
        """`HOST:PORT`, with the port that was taken."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()
        log.info("metrics on http://%s/metrics", self.address)

    def close(self) -> None:
        """Stops the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _ThreadingServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    """A client that connects and sends nothing does not delay the end."""


def _handler(
    metrics: Metrics, monitor: Monitor, obstacle: Callable[[], str] | None
) -> type[BaseHTTPRequestHandler]:
    def readiness() -> tuple[int, bytes]:
        if obstacle is not None:
            why = obstacle()
        else:
            why = "" if monitor.has_audio else "no audio has come yet"
        return (503, f"{why}\n".encode()) if why else (200, b"ok\n")

    def answer(path: str) -> tuple[int, bytes]:
        match path:
            case "/metrics":
                return 200, metrics.text()
            case "/healthz":
                alive = monitor.alive(time.monotonic())
                return (200, b"ok\n") if alive else (503, b"the engine is stuck\n")
            case "/readyz":
                return readiness()
        return 404, b"/metrics /healthz /readyz\n"

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0
        server_version = "streamtag"

        def do_GET(self) -> None:
            status, body = answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    return Handler
