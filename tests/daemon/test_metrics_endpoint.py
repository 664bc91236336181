"""Metrics and health, as Prometheus and a load balancer read them."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamtag.daemon.ops.metrics import Metrics, MetricsServer
from streamtag.daemon.ops.monitor import ALIVE_SECONDS, Monitor
from streamtag.engine.counters import Histogram, Series, series
from streamtag.engine.events import (
    Cause,
    LevelMeasured,
    Reason,
    SilenceEnded,
    SilenceStarted,
    SourceState,
    SourceStatusChanged,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TaggersReplaced,
    TagStarted,
    WindowScored,
)
from streamtag.errors import ConfigError

COUNTERS: dict[Series, float] = {
    series("blocks"): 7,
    series("frames"): 100,
    series("windows", tagger="moods.v2"): 5,
    series("batches", tagger="moods.v2"): 2,
    series("dropped", tagger="moods.v2"): 1,
    series("windows", tagger="moods.v2~"): 3,
    series("shadow_windows", tagger="moods.v2"): 3,
    series("shadow_equal_decisions", tagger="moods.v2"): 0.75,
    series("windows", tagger="gone"): 9,
    series("sources.lost", cause="dns"): 3,
    series("sources.lost", cause="stalled"): 1,
    series("waiting"): 4,
    series("running", bridge="web"): 1.0,
    series("running_seconds", bridge="web"): 12.5,
    series("restarts", bridge="web"): 2.0,
    series("running", bridge="mqtt"): 0.0,
    series("running_seconds", bridge="mqtt"): 0.0,
    series("restarts", bridge="mqtt"): 7.0,
}


@pytest.fixture
def monitor() -> Monitor:
    return Monitor()


@pytest.fixture
def server(monitor: Monitor) -> Iterator[MetricsServer]:
    sizes = Histogram((1, 8))
    for size in (1, 5, 9):
        sizes.add(size)
    metrics = Metrics(
        monitor,
        lambda: COUNTERS,
        lambda: {
            series("batch_size", tagger="moods.v2"): sizes,
            series("batch_size", tagger="moods.v2~"): Histogram(),
            series("publish_seconds"): Histogram(),
        },
        lambda: {"cuda:0": 2**20},
    )
    made = MetricsServer("127.0.0.1:0", metrics, monitor)
    yield made
    made.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(server: MetricsServer) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every value, by name and label values, as Prometheus' own parser reads them."""
    status, text = get(server, "/metrics")
    assert status == 200
    return {
        (s.name, tuple(s.labels[key] for key in sorted(s.labels))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_counters_gauges_and_histograms(server: MetricsServer, monitor: Monitor) -> None:
    monitor.audio_seconds = 100.0
    monitor.record_round(0.0, 2.5)
    got = samples(server)
    for name, labels, value in (
        ("streamtag_blocks_total", (), 7),
        ("streamtag_frames_total", (), 100),
        ("streamtag_gaps_total", (), 0),
        ("streamtag_intake_dropped_blocks_total", (), 0),
        ("streamtag_windows_total", ("false", "moods.v2"), 5),
        ("streamtag_windows_total", ("true", "moods.v2"), 3),
        ("streamtag_shadow_windows", ("moods.v2",), 3),
        ("streamtag_shadow_equal_decisions", ("moods.v2",), 0.75),
        ("streamtag_dropped_total", ("false", "moods.v2"), 1),
        ("streamtag_reconnects_total", ("dns",), 3),
        ("streamtag_reconnects_total", ("stalled",), 1),
        ("streamtag_windows_waiting", (), 4),
        ("streamtag_batch_size_bucket", ("1.0", "false", "moods.v2"), 1),
        ("streamtag_batch_size_bucket", ("8.0", "false", "moods.v2"), 2),
        ("streamtag_batch_size_bucket", ("+Inf", "false", "moods.v2"), 3),
        ("streamtag_batch_size_sum", ("false", "moods.v2"), 15),
        ("streamtag_real_time_factor", (), 0.025),
        ("streamtag_busy_seconds_total", (), 2.5),
        ("streamtag_gpu_memory_bytes", ("cuda:0",), 2**20),
        ("streamtag_publish_seconds_count", (), 0),
        ("streamtag_bridge_running", ("web",), 1),
        ("streamtag_bridge_running", ("mqtt",), 0),
        ("streamtag_bridge_running_seconds", ("web",), 12.5),
        ("streamtag_bridge_restarts_total", ("web",), 2),
        ("streamtag_bridge_restarts_total", ("mqtt",), 7),
    ):
        assert got[name, labels] == value, name
    assert not any("gone" in labels or "moods.v2~" in labels for _, labels in got)


def test_streams_by_state_and_events_by_reason(server: MetricsServer, monitor: Monitor) -> None:
    up = [StreamOpened(name, 0, 8000, 0, ()) for name in "abcd"]
    monitor.observe(up, 0)
    monitor.observe(
        [
            SourceStatusChanged("b", 0, SourceState.RETRYING, Cause.DNS),
            SourceStatusChanged("c", 0, SourceState.FAILED, Cause.AUTH),
            StreamClosed("c", 0, Reason.STREAM_LOST),
            StreamClosed("d", 0, Reason.STREAM_CLOSED),
            TagStarted("a", "t", "x", 0, 0, 0.5, False),
            TagEnded("a", "t", "x", 0, 0, 0, 0.5, Reason.SILENCE),
            SilenceStarted("a", 0, 1),
            LevelMeasured("a", 1, -3.0, -20.0, -18.5),
            LevelMeasured("d", 1, -3.0, -20.0),
            TaggersReplaced("a", 0, ("t",), Reason.MODEL_SWAPPED),
        ],
        0,
    )
    got = samples(server)
    assert got["streamtag_events_total", ("", "taggers_changed")] == 1
    states = {labels[0]: v for (n, labels), v in got.items() if n == "streamtag_streams"}
    assert states == {"up": 1, "retrying": 1, "failed": 1, "down": 1}
    assert got["streamtag_streams_silent", ()] == 1
    assert got["streamtag_loudness_lufs", ("a",)] == -18.5
    assert ("streamtag_loudness_lufs", ("d",)) not in got
    assert got["streamtag_events_total", ("silence", "tag_off")] == 1
    assert got["streamtag_events_total", ("", "tag_on")] == 1
    monitor.observe([SilenceEnded("a", 1, 1, 0)], 0)
    monitor.remove_stream("d")
    monitor.record_unopened("e", Reason.STREAM_LOST)
    got = samples(server)
    assert got["streamtag_streams_silent", ()] == 0
    assert got["streamtag_streams", ("down",)] == 1
    assert got["streamtag_events_total", ("stream_lost", "stream_down")] == 2


def test_latency_is_from_the_last_sample_of_a_live_window(monitor: Monitor) -> None:
    monitor.set_clock("radio", 8000, epoch_ns=10**18)
    for name in ("radio", "file"):
        monitor.observe([WindowScored(name, "t", 0, 16000, (), (), False)], 10**18 + 2_300_000_000)
    assert monitor.latency.cumulative()[-1][1] == 1
    assert monitor.latency.sum == pytest.approx(0.3)
    assert monitor.latency.quantile(0.99) == 0.5


def test_healthz_is_progress_of_the_engine(server: MetricsServer, monitor: Monitor) -> None:
    assert get(server, "/healthz") == (200, "ok\n")
    now = time.monotonic()
    monitor.record_round(now - ALIVE_SECONDS - 1, now - ALIVE_SECONDS)
    assert get(server, "/healthz") == (503, "the engine is stuck\n")
    monitor.record_round(now, time.monotonic())
    assert get(server, "/healthz")[0] == 200


def test_readyz_waits_for_audio(server: MetricsServer, monitor: Monitor) -> None:
    assert get(server, "/readyz") == (503, "no audio has come yet\n")
    monitor.audio_seconds = 0.1
    assert get(server, "/readyz") == (200, "ok\n")
    assert get(server, "/")[0] == 404


def test_a_daemon_of_a_fleet_is_ready_without_audio(monitor: Monitor) -> None:
    obstacles = ["its lease in the fleet has ended"]
    metrics = Metrics(monitor, dict, dict)
    server = MetricsServer("127.0.0.1:0", metrics, monitor, obstacle=lambda: obstacles[0])
    try:
        assert get(server, "/readyz") == (503, "its lease in the fleet has ended\n")
        obstacles[0] = ""
        assert get(server, "/readyz") == (200, "ok\n")
    finally:
        server.close()


def test_an_address_in_use_is_an_error(server: MetricsServer, monitor: Monitor) -> None:
    with pytest.raises(ConfigError, match=r"metrics.bind: expected .* is another daemon running"):
        MetricsServer(server.address, Metrics(monitor, dict, dict), monitor)


@pytest.mark.parametrize("bad", ["", "9464", ":9464", "localhost:", "localhost:99999", "a:-1"])
def test_invalid_addresses(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"metrics.bind: expected HOST:PORT"):
        MetricsServer(bad, Metrics(Monitor(), dict, dict), Monitor())


def test_histograms_count_up_to_the_bound() -> None:
    some = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 3):
        some.add(value)
    assert some.cumulative() == [(1, 2), (2, 4), (float("inf"), 5)]
    assert [some.quantile(q) for q in (0.4, 0.5, 0.8, 0.9)] == [1, 2, 2, float("inf")]
    assert Histogram().quantile(0.99) == 0
