"""What several test modules need: where shared data is, and a small bundle."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from support.paths import SHARED
from torch import Tensor, nn

from streamtag import _core
from streamtag.audio.feature_config import FeatureConfig
from streamtag.model.card import Card, PastPadding
from streamtag.train.exporting.bundle import export

settings.register_profile("same every time", derandomize=True, deadline=None)
settings.load_profile("same every time")


def pytest_report_header() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return f"torch {torch.__version__}, device {device}, front end {_core.isa()}"


SLOW = [
    "every_recipe_trains",
    "sanitizers",
    "nets",
    "streaming_nets",
    "nets_live",
    "loop",
    "job",
    "training_pages",
    "notebook",
    "resuming",
    "dry_run",
    "changed_tables",
    "wall",
    "stream_page",
    "desk",
    "notifier",
    "scheduled_reports",
    "killed_alerts",
    "daemon_alerts",
    "accessibility",
    "firefox",
    "web_control",
    "mqtt",
    "web_events",
    "export_with_front_end",
    "real_peers",
    "same_events_everywhere",
    "published_weights",
    "url",
    "papers",
    "running_changes",
    "cache",
    "killed_daemon",
    "neighbours",
    "importer",
    "fuzzed_sockets",
    "reload",
    "daemon",
    "workers",
    "train_commands",
    "soundcard_peers",
    "score_arrays",
    "pretrained",
    "acousticbrainz",
    "pretrained_page",
    "any_input",
    "feed_network",
    "nets_cpjku",
    "supervision",
    "malformed_input",
    "memory",
    "demo",
    "nets_innsbruck",
    "osc",
    "python_page",
    "codec",
    "systemd",
    "nothing_is_lost",
    "front_end",
    "web",
    "scan",
    "webhook",
    "nets_mobilenet",
    "schema",
    "hostile_bundles",
    "trial",
    "instruments_model",
    "mood",
    "documentation",
    "lost_streams",
    "shutdown",
    "nets_cpjku_baselines",
    "soak",
    "demo_piece",
    "soundcard",
    "authentication",
    "config_tables",
    "live",
    "stereo",
    "nets_vqvae",
    "tag",
    "torchaudio_loader",
    "file",
    "models",
    "default_model",
    "playlist",
    "augment",
    "corpora_jamendo",
    "mqtt_topics",
]
"""Files (`test_NAME.py`) that take seconds to minutes, longest first: workers begin with them, and
`make quick` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file run on one worker, which makes their fixtures once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker(pytest.mark.slow)
    rank = {f"test_{name}.py": i for i, name in enumerate(SLOW)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


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
