"""What several test modules need: where shared data is, and a small bundle."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from support.nats_server import NatsServer
from support.paths import SHARED
from torch import Tensor, nn

from streamtag import _core
from streamtag.audio.feature_config import FeatureConfig
from streamtag.model.card import Card, PastPadding
from streamtag.train.exporting.bundle import export
from streamtag.train.training.distributed import keep_freed_memory

settings.register_profile("same every time", derandomize=True, deadline=None)
settings.load_profile("same every time")


def pytest_configure() -> None:
    """A shell starts what it runs in the background with Ctrl-C ignored, as would all processes of
    the tests."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return f"torch {torch.__version__}, device {device}, front end {_core.isa()}"


SLOW = [
    "streaming_nets",
    "every_recipe_trains",
    "archive_cluster",
    "nets",
    "wall",
    "loop",
    "job",
    "fleet_commands",
    "url",
    "nets_live",
    "training_pages",
    "real_peers",
    "published_weights",
    "sanitizers",
    "fleet",
    "workers",
    "pretrained_page",
    "killed_daemon",
    "resuming",
    "export_with_front_end",
    "notifier",
    "accessibility",
    "hostile_bundles",
    "clips",
    "acousticbrainz",
    "demo",
    "any_input",
    "running_changes",
    "importer",
    "daemon",
    "daemon_alerts",
    "soundcard_peers",
    "reload",
    "python_page",
    "firefox",
    "documentation",
    "desk",
    "changed_tables",
    "systemd",
    "fuzzed_sockets",
    "nets_cpjku",
    "fuzz",
    "cache",
    "same_events_everywhere",
    "neighbours",
    "mqtt",
    "main",
    "pretrained",
    "notebook",
    "web_events",
    "memory",
    "recipes",
    "feed_network",
    "stream_page",
    "trial",
    "nats_cluster",
    "codec",
    "scan",
    "torchaudio_loader",
    "scheduled_reports",
    "lost_streams",
    "webhook",
    "killed_alerts",
    "dry_run",
    "authentication",
    "train_commands",
    "supervision",
    "shutdown",
    "nets_cpjku_baselines",
    "front_end",
    "soak",
    "nets_vqvae",
    "gateway",
    "nats_subscriber",
    "osc",
    "access",
    "live",
    "papers",
    "nothing_is_lost",
    "malformed_input",
    "nets_innsbruck",
    "soundcard",
    "relay",
    "instruments_model",
    "schema",
    "nats",
    "score_arrays",
    "nets_mobilenet",
    "file",
    "default_model",
    "playlist",
    "archive_query",
    "recipes_of_the_papers",
    "web_control",
    "config_tables",
    "corpora_jamendo",
    "stereo",
    "augment",
    "tag",
    "demo_piece",
    "web_access",
    "web",
    "mood",
    "mqtt_topics",
    "models",
]
"""Files (`test_NAME.py`) that take seconds to minutes, longest first: workers begin
with them, and `make quick` leaves them out."""
SPLIT = {"test_sanitizers.py", "test_training_pages.py"}
"""Files whose tests share nothing and take long: any worker may run each of them."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist writes the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file run on one worker, which makes their fixtures once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            group = item.name if item.path.name in SPLIT else item.path.name
            item.add_marker(pytest.mark.xdist_group(group))
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker(pytest.mark.slow)
    rank = {f"test_{name}.py": i for i, name in enumerate(SLOW)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """Garbage collections need not look at torch and at 5,000 tests again and again, and the large
    blocks of nets need not be cleared by the system for every one of them."""
    keep_freed_memory()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Takes the group from the name of a test that a worker has run. With it, `--last-failed` finds
    none of them again, and runs all tests."""
    if "PYTEST_XDIST_WORKER" not in os.environ and "@" in report.nodeid.rpartition("]")[2]:
        report.nodeid = report.nodeid.rpartition("@")[0]


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Daemons of the tests meet none that runs here anyway, and leave nothing behind if killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder := tmp_path_factory.mktemp("tmp")))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(tempfile, "tempdir", str(folder))
        for name in (
            "XDG_RUNTIME_DIR",
            "RUNTIME_DIRECTORY",
            "NOTIFY_SOCKET",
            "CACHE_DIRECTORY",
            "WATCHDOG_USEC",
        ):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make nets three times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def decoder_cases() -> Path:
    if not (folder := SHARED / "data" / "decoder-cases").is_dir():
        pytest.skip(f"{folder} is not on this machine")
    return folder


class ToyNet(nn.Module):
    """Hears tones: `low` below 700 Hz, `high` above 2 kHz; `never` stays off."""

    def forward(self, windows: Tensor) -> Tensor:
        low = windows[:, :, :8].amax(2).mean(1)
        high = windows[:, :, 20:].amax(2).mean(1)
        logits = torch.stack([low + 3, high + 3, 0 * low - 8], 1)
        return torch.sigmoid(2 * logits.clamp(-5, 5))


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that answers at once: windows of 1 s every 0.25 s, tags low, high and never."""
    path = tmp_path_factory.mktemp("models") / "toy.pt"
    card = Card(
        name="toy-1",
        net="ToyNet",
        features=FeatureConfig(n_mels=32),
        window_frames=100,
        hop_frames=25,
        first_frames=25,
        padding=PastPadding.SILENCE,
        tags=("low", "high", "never"),
        on_thresholds=(0.5, 0.5, 0.5),
        off_thresholds=(0.4, 0.4, 0.4),
        smoothing_seconds=0.2,
        min_on_seconds=0.2,
        min_off_seconds=0.2,
        scores={"accuracy": 1.0},
        licence="Apache-2.0",
        description="For tests.",
    )
    export(ToyNet(), card, path)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """NATS with JetStream."""
    made = NatsServer(tmp_path / "nats")
    yield made
    made.close()
