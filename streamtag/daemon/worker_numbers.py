"""The numbers of all workers together, those of processes that have ended included."""

from collections.abc import Iterable, Mapping, Sequence

from streamtag.daemon.output import shadow_series
from streamtag.daemon.worker_channel import Report
from streamtag.engine.counters import Histogram, Series, merged
from streamtag.engine.shadow import merged_reports

_GAUGES = frozenset({"streams", "waiting"})
"""Series that do not count on when a worker is started again."""


class WorkerNumbers:
    """Sums over the reports of the present processes, and of those that have ended."""

    def __init__(self) -> None:
        self._gone = Report()

    def retire(self, report: Report) -> None:
        """Keeps what a process had counted when it ended."""
        counters = {k: v for k, v in report.series.items() if k.name not in _GAUGES}
        gone = self._gone
        self._gone = Report(
            audio_seconds=gone.audio_seconds + report.audio_seconds,
            busy_seconds=gone.busy_seconds + report.busy_seconds,
            series=_sums([gone.series, counters]),
            histograms=_merged([gone.histograms, report.histograms]),
        )

    def audio_seconds(self, reports: Iterable[Report]) -> float:
        """How much audio was taken."""
        return sum((one.audio_seconds for one in reports), self._gone.audio_seconds)

    def busy_seconds(self, reports: Iterable[Report]) -> float:
        """How long all engines together have worked."""
        return sum((one.busy_seconds for one in reports), self._gone.busy_seconds)

    def series(self, reports: Sequence[Report]) -> dict[Series, float]:
        """All counters and gauges."""
        shadows = merged_reports([one.shadows for one in reports])
        return _sums([self._gone.series, *(r.series for r in reports)]) | shadow_series(shadows)

    def histograms(self, reports: Iterable[Report]) -> dict[Series, Histogram]:
        """Sizes of batches and waits of windows."""
        return _merged([self._gone.histograms, *(one.histograms for one in reports)])


def _sums(parts: Iterable[Mapping[Series, float]]) -> dict[Series, float]:
    total: dict[Series, float] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return total


def _merged(parts: Iterable[Mapping[Series, Histogram]]) -> dict[Series, Histogram]:
    found: dict[Series, list[Histogram]] = {}
    for part in parts:
        for key, histogram in part.items():
            found.setdefault(key, []).append(histogram)
    return {key: merged(some) for key, some in found.items()}
