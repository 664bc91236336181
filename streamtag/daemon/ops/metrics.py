"""Everything that is counted, as Prometheus reads it."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamtag.daemon.ops.monitor import Monitor
from streamtag.engine.counters import Histogram
from streamtag.engine.shadow import shadowed_tagger

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
OF_BRIDGES: dict[str, tuple[type[CounterMetricFamily | GaugeMetricFamily], str]] = {
    "running": (GaugeMetricFamily, "1 while a bridge's process runs, 0 while it waits to."),
    "running_seconds": (GaugeMetricFamily, "For how long it has run; 0 while it waits."),
    "restarts": (CounterMetricFamily, "Times that it ended by itself and was started again."),
}
"""Of the processes beside the daemon."""
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
        yield from _of_bridges(counters)
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


def _of_bridges(counters: Mapping[str, float]) -> Iterator[Metric]:
    for what, (family, help_text) in OF_BRIDGES.items():
        metric = family(f"streamtag_bridge_{what}", help_text, labels=["bridge"])
        for name, value in counters.items():
            if name.startswith("bridges.") and name.endswith(f".{what}"):
                metric.add_metric([name.split(".")[1]], value)
        yield metric


def _whose(tagger: str) -> list[str]:
    """Labels of a tagger's metrics: its name, and whether it only listens beside the other."""
    return [
        shadowed_tagger(tagger) or tagger,
        "false" if shadowed_tagger(tagger) is None else "true",
    ]


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
