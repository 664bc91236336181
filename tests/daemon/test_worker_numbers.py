"""The numbers of several workers together; those of processes that have ended stay in them."""

from streamtag.daemon.worker_channel import Report
from streamtag.daemon.worker_numbers import WorkerNumbers
from streamtag.engine.counters import Histogram, Series

BLOCKS, STREAMS, WAITS = Series("blocks"), Series("streams"), Series("wait_seconds")


def report(blocks: int, wait: float) -> Report:
    waits = Histogram((1, 2))
    waits.add(wait)
    shadow = {"windows": blocks, "equal_decisions": wait / 4, "mean_differences": {"low": wait}}
    return Report(
        audio_seconds=10.0 * blocks,
        busy_seconds=blocks,
        series={BLOCKS: blocks, STREAMS: 2},
        histograms={WAITS: waits},
        shadows={"toy": shadow},
    )


def test_counters_of_the_dead_stay_and_their_gauges_do_not() -> None:
    numbers, present = WorkerNumbers(), [report(3, 0.5), report(1, 1.5)]
    numbers.retire(report(100, 5.0))
    series = numbers.series(present)
    assert (series[BLOCKS], series[STREAMS]) == (104, 4)
    assert numbers.audio_seconds(present) == 1040
    assert numbers.busy_seconds(present) == 104
    waits = numbers.histograms(present)[WAITS]
    assert waits.cumulative() == [(1, 1), (2, 2), (float("inf"), 3)]
    assert waits.sum == 7.0
    assert numbers.histograms(present)[WAITS].sum == 7.0  # looking changes nothing


def test_the_agreement_of_a_shadow_is_weighted_by_windows() -> None:
    series = WorkerNumbers().series([report(3, 0.5), report(1, 1.5)])
    assert series[Series("shadow_windows", (("tagger", "toy"),))] == 4
    assert series[Series("shadow_equal_decisions", (("tagger", "toy"),))] == 0.1875
    assert series[Series("shadow_difference", (("tag", "low"), ("tagger", "toy")))] == 0.75
