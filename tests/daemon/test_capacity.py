"""`streamtag check --capacity`: what a stream costs, and how many a machine bears."""

from pathlib import Path

import pytest
from support.commands import run_here

from streamtag.daemon import capacity as module
from streamtag.daemon.capacity import Capacity, Measurement, capacity
from streamtag.errors import StreamtagError

COST = Measurement(model=0.0019, rest=0.0015, decoding=0.0015, memory=1.0, decoder_memory=9.0)


@pytest.mark.parametrize(
    ("changes", "cpus", "workers", "free", "expected"),
    [
        ({}, 2, 1, 1e6, Capacity(205, 205, "model")),
        ({}, 2, 2, 1e6, Capacity(205, 285, "model")),
        ({}, 8, 8, 1e6, Capacity(205, 1142, "model")),
        ({"decoding": 0.01}, 2, 2, 1e6, Capacity(205, 104, "decoding")),
        ({"model": 0.0004, "decoding": 0.0001}, 4, 1, 1e6, Capacity(368, 368, "engine")),
        ({}, 2, 2, 505.0, Capacity(205, 50, "memory")),
    ],
)
def test_the_least_of_cores_workers_and_memory_bounds(
    changes: dict[str, float], cpus: int, workers: int, free: float, expected: Capacity
) -> None:
    fields = {name: getattr(COST, name) for name in COST.__slots__} | changes
    assert capacity(Measurement(**fields), cpus, workers, free) == expected


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.02)
    monkeypatch.setattr(module, "DECODED_SECONDS", 2)
    monkeypatch.setattr(module, "N_STREAMS", 3)


@pytest.mark.usefixtures("quick")
def test_the_command_measures_with_the_models_of_the_configuration(
    tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'[taggers.toy]\nbundle = "{toy_bundle}"\n[streams.a]\nsource = "device:"\n')
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2})
    done = run_here("check", "--capacity", path)
    assert done.exit_code == 0
    first, second, third, *_ = done.stdout.splitlines()
    assert all(line.startswith(f"{path}: ") for line in done.stdout.splitlines())
    assert "% of a core (model 0." in first
    core = int(second.split()[-2])
    assert core > 0
    assert "this machine (3 CPUs, 1 workers, " in third
    assert 0 < int(third.split("bears about ")[1].split()[0]) <= core


def test_a_faulty_configuration_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[taggers.toy]\nbundle = "none.pt"\n[streams.a]\nsource = "device:"\n')
    done = run_here("check", "--capacity", path)
    assert done.exit_code == 1
    assert "a core" not in done.stdout


@pytest.mark.usefixtures("quick")
def test_an_ffmpeg_without_mp3_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RATE", 7)  # no encoder takes it
    with pytest.raises(StreamtagError, match="expected an ffmpeg that makes and decodes MP3, got"):
        module._decoding_cost()
