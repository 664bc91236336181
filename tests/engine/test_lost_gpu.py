"""A GPU that is lost in the middle of a batch: the CPU goes on, and no window is lost."""

import logging
from pathlib import Path

import numpy as np
import pytest
from support.toy import cut, events_of, music, tagger

from streamtag.daemon.model_registry import threads_for
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, WindowScored, WindowsDropped
from streamtag.errors import BundleError
from streamtag.model.tagger import Tagger, is_fatal_gpu_error

RATE = 8000


class Losing:
    """Looks like a tagger on a GPU, which is lost after some calls; not a real GPU."""

    device, cpu_seconds = "cuda", 0.0

    def __init__(self, cpu: Tagger, calls: int, words: str) -> None:
        self._cpu, self._left, self._words = cpu, calls, words
        self.card, self.staging, self.on_cpu = cpu.card, cpu.staging, cpu.on_cpu

    def warm_up(self, sizes: list[int]) -> None:
        self._cpu.warm_up(sizes)

    def outputs(self, windows: np.ndarray) -> np.ndarray:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError(self._words)
        return self._cpu(windows)


def play(some: object) -> tuple[list[Event], Engine]:
    engine = Engine({"toy": some}, max_batch=4, max_wait=0.0)  # type: ignore[dict-item]
    events: list[Event] = []
    blocks = {name: cut(music(3.0, RATE, k), RATE, [800]) for k, name in enumerate("abc")}
    for name in blocks:
        events += engine.open(name, RATE)
    for k in range(30):
        events += engine.feed_many([(name, blocks[name][k]) for name in blocks])
        events += engine.step()
    return events + engine.close_many("abc"), engine


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: unspecified launch failure\nCUDA kernel errors might be …",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_the_cpu_goes_on_with_the_same_windows(
    tmp_path: Path, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    toy = tagger(tmp_path)
    expected, _ = play(toy)
    with caplog.at_level(logging.ERROR):
        events, engine = play(Losing(toy, 7, words))
    assert not any(isinstance(e, WindowsDropped) for e in events)
    for name in "abc":
        mine = [e for e in events_of(events, name, "toy") if isinstance(e, WindowScored)]
        theirs = [e for e in events_of(expected, name, "toy") if isinstance(e, WindowScored)]
        assert [e.end for e in mine] == [e.end for e in theirs]
        assert np.allclose([e.values for e in mine], [e.values for e in theirs], atol=1e-6)
    assert engine.counters.get("fallbacks", tagger="toy") == 1
    (notice,) = engine.notices()
    assert notice.startswith("tagger toy: cuda is lost, the CPU goes on: ")
    assert notice in caplog.text
    assert engine.notices() == []


def test_another_error_is_the_models_own(tmp_path: Path) -> None:
    events, engine = play(Losing(tagger(tmp_path), 5, "expected a tensor of another shape"))
    assert any(isinstance(e, WindowsDropped) for e in events)
    assert engine.counters.get("fallbacks", tagger="toy") == 0
    assert not is_fatal_gpu_error(ValueError("CUDA error: but not of torch"))


def test_without_its_file_the_windows_fail_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toy = tagger(tmp_path)
    assert toy.path is not None
    toy.path.write_bytes(b"another")
    with pytest.raises(BundleError, match=r"expected the bundle that runs, .* it was replaced"):
        toy.on_cpu()
    events, _ = play(Losing(toy, 5, "CUDA error: device lost"))
    assert any(isinstance(e, WindowsDropped) for e in events)
    assert "no CPU takes over" in caplog.text


@pytest.mark.parametrize(
    ("asked", "environment", "cpus", "threads"),
    [
        (0, {}, 1, 1),
        (0, {}, 2, 1),
        (0, {}, 4, 3),
        (0, {}, 64, 16),
        (9, {}, 2, 9),
        (0, {"OMP_NUM_THREADS": "3"}, 8, 3),
        (0, {"OMP_NUM_THREADS": "nonsense"}, 8, 7),
        (5, {"OMP_NUM_THREADS": "3"}, 8, 5),
    ],
)
def test_threads_leave_a_cpu_to_the_rest(
    asked: int, environment: dict[str, str], cpus: int, threads: int
) -> None:
    assert threads_for(asked, environment, cpus) == threads
