"""Metrics for Prometheus and health for load balancers, on a small HTTP server of their own.

`/metrics` is the text that Prometheus reads, `/healthz` says whether the engine makes progress,
`/readyz` whether models are warm and audio has come.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamtag.errors import ConfigError
from streamtag.monitor import Monitor
from streamtag.rehearsal import rehearsed
from streamtag.stats import Histogram

log = logging.getLogger(__name__)

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
PER_TAGGER = {
    "windows": "Windows scored.",
    "batches": "Model calls.",
    "dropped": "Windows dropped because the model was too slow.",
    "failed": "Windows that the model failed on.",
    "fallbacks": "Times that a GPU was lost and the CPU took over.",
}
OF_SHADOWS = {
    "shadow_windows": "Windows on which a model that listens beside another was compared with it.",
    "shadow_equal_decisions": "Share of its decisions that were equal.",
}
_WHOSE = ["tagger", "shadow"]
TOTALS = {
    "blocks": "Blocks of audio taken.",
    "frames": "Frames made of them.",
    "gaps": "Gaps in the audio.",
    "losses": "Times that a source was lost.",
    "nonfinite": "Samples that were no finite number.",
    "intake.dropped_blocks": "Blocks that did not fit into the queue before the engine.",
    "streams.lost": "Streams that ended because their source failed.",
    "feed.sent": "Messages sent.",
    "feed.refused": "Connections refused for want of an authorised key.",
    "feed.dropped_scores": "Scores given up because the feed was too slow.",
    "feed.dropped_events": "Events given up because the feed was too slow.",
}


class Metrics(Collector):
    """Everything that is known, as Prometheus wants it, at the moment of asking.

    Args:
        monitor: of the daemon.
        counters: gives all counters by name.
        histograms: gives histograms by name; a tagger's have its name before a dot.
        gpu_bytes: gives the memory that models hold on each GPU.
    """

    def __init__(
        self,
        monitor: Monitor,
        counters: Callable[[], Mapping[str, float]],
        histograms: Callable[[], Mapping[str, Histogram]],
        gpu_bytes: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._monitor, self._counters = monitor, counters
        self._histograms, self._gpu_bytes = histograms, gpu_bytes

    def text(self) -> bytes:
        """The page."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        counters = self._counters()
        yield from self._streams()
        yield from self._of_taggers(counters)
        for name, help_text in TOTALS.items():
            yield CounterMetricFamily(_name(name), help_text, counters.get(name, 0))
        causes = CounterMetricFamily(
            "streamtag_reconnects", "Connections lost, by cause.", labels=["cause"]
        )
        for name, count in counters.items():
            if name.startswith("sources.lost."):
                causes.add_metric([name.removeprefix("sources.lost.")], count)
        yield causes
        yield GaugeMetricFamily(
            "streamtag_windows_waiting", "Windows to be scored.", counters.get("waiting", 0)
        )
        yield from self._times()

    def _streams(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("streamtag_streams", "Streams by state.", labels=["state"])
        every = list(self._monitor.states.values())
        for state in sorted({"up", "down", *every}):
            states.add_metric([state], every.count(state))
        yield states
        yield GaugeMetricFamily(
            "streamtag_streams_silent", "Streams in a silence.", len(self._monitor.silent)
        )
        events = CounterMetricFamily(
            "streamtag_events", "Events by type and reason.", labels=["type", "reason"]
        )
        for (kind, reason), count in self._monitor.events.copy().items():
            events.add_metric([kind, reason], count)
        yield events

    def _of_taggers(self, counters: Mapping[str, float]) -> Iterator[Metric]:
        histograms = self._histograms()
        present = {name.rpartition(".")[0] for name in histograms}
        for suffix, help_text in PER_TAGGER.items():
            family = CounterMetricFamily(f"streamtag_{suffix}", help_text, labels=_WHOSE)
            for name, count in counters.items():
                tagger, _, what = name.rpartition(".")
                if what == suffix and tagger in present:
                    family.add_metric(_whose(tagger), count)
            yield family
        for suffix, help_text in OF_SHADOWS.items():
            gauge = GaugeMetricFamily(f"streamtag_{suffix}", help_text, labels=["tagger"])
            for name, value in counters.items():
                tagger, _, what = name.rpartition(".")
                if what == suffix:
                    gauge.add_metric([tagger], value)
            yield gauge
        families = {
            "batch_size": HistogramMetricFamily(
                "streamtag_batch_size", "Windows per model call.", labels=_WHOSE
            ),
            "wait_seconds": HistogramMetricFamily(
                "streamtag_queue_seconds",
                "From a window being due to its batch being run.",
                labels=_WHOSE,
            ),
        }
        for name, histogram in histograms.items():
            tagger, _, what = name.rpartition(".")
            if what in families:
                families[what].add_metric(_whose(tagger), _buckets(histogram), histogram.sum)
        yield from families.values()

    def _times(self) -> Iterator[Metric]:
        monitor, histograms = self._monitor, self._histograms()
        busy, audio = monitor.busy_seconds, monitor.audio_seconds
        yield CounterMetricFamily("streamtag_busy_seconds", "Work of the engine's thread.", busy)
        yield CounterMetricFamily("streamtag_audio_seconds", "Audio taken, of all streams.", audio)
        yield GaugeMetricFamily(
            "streamtag_real_time_factor",
            "Seconds of work per second of audio since the start; how much one thread can take "
            "is its inverse.",
            busy / audio if audio else 0.0,
        )
        yield _histogram(
            "streamtag_latency_seconds",
            "From a live window's last sample to its result being handed to the feed.",
            monitor.latency,
        )
        if "publish_seconds" in histograms:
            yield _histogram(
                "streamtag_publish_seconds",
                "From a message being handed to the feed to its being sent; each batch's oldest.",
                histograms["publish_seconds"],
            )
        memory = GaugeMetricFamily(
            "streamtag_gpu_memory_bytes", "Memory that torch holds.", labels=["device"]
        )
        for device, size in self._gpu_bytes().items():
            memory.add_metric([device], size)
        yield memory


class Exposition:
    """The HTTP server.

    Args:
        bind: `HOST:PORT`; a port of 0 takes a free one.
        metrics: of the daemon.
        monitor: of the daemon.

    Raises:
        ConfigError: the address cannot be used.
    """

    def __init__(self, bind: str, metrics: Metrics, monitor: Monitor) -> None:
        host, port = split_address(bind)
        answer = {
            "/metrics": lambda: (200, metrics.text()),
            "/healthz": lambda: _verdict(monitor.alive(time.monotonic()), "the engine is stuck"),
            "/readyz": lambda: _verdict(monitor.heard, "no audio has come yet"),
        }
        try:
            self._server = _Server((host, port), _handler(answer))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"metrics.bind: expected an address to listen on, such as 127.0.0.1:9464, "
                f"got {bind!r}: {error}; is another daemon running there?"
            ) from None
        self.address = f"{host}:{self._server.server_address[1]}"
        """`HOST:PORT`, with the port that was taken."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()
        log.info("metrics on http://%s/metrics", self.address)

    def close(self) -> None:
        """Answers nobody any more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    """Somebody who connects and says nothing does not hold up the end."""


Answer = Callable[[], tuple[int, bytes]]


def split_address(bind: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`.

    Raises:
        ConfigError: it is none.
    """
    host, _, port = bind.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"metrics.bind: expected HOST:PORT, such as 127.0.0.1:9464, got {bind!r}")
    return host.strip("[]"), int(port)


def _handler(answers: Mapping[str, Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0
        server_version = "streamtag"

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            status, body = answer() if answer else (404, b"/metrics /healthz /readyz\n")
            self.send_response(status)
            self.send_header("Content-Type", CONTENT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    return Handler


def _verdict(fine: bool, otherwise: str) -> tuple[int, bytes]:
    return (200, b"ok\n") if fine else (503, f"{otherwise}\n".encode())


def _whose(tagger: str) -> list[str]:
    """Labels of a tagger's metrics: its name, and whether it only listens beside the other."""
    return [rehearsed(tagger) or tagger, "false" if rehearsed(tagger) is None else "true"]


def _name(counter: str) -> str:
    return f"streamtag_{counter.replace('.', '_')}"


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [
        ("+Inf" if bound == float("inf") else repr(float(bound)), float(count))
        for bound, count in histogram.cumulative()
    ]


def _histogram(name: str, help_text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(
        name, help_text, buckets=_buckets(histogram), sum_value=histogram.sum
    )
