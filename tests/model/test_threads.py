"""Threads of model calls."""

import threading

import pytest
import torch

from streamtag.model.threads import one_thread, side_by_side, usable_threads


def test_one_thread_within_and_as_before_after() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_results_come_in_their_order_from_threads_with_one_thread_of_torch_each() -> None:
    together = threading.Barrier(3)

    def call(item: int) -> tuple[int, int]:
        together.wait(30)  # three run at the same time
        return item, torch.get_num_threads()

    assert list(side_by_side(call, range(6), 3)) == [(item, 1) for item in range(6)]


def test_what_has_not_begun_is_given_up_with_the_caller() -> None:
    called: list[int] = []
    go_on = threading.Event()

    def call(item: int) -> int:
        if item:
            go_on.wait(30)
        called.append(item)
        return item

    results = side_by_side(call, range(100), 2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    go_on.set()
    assert len(called) < 5


@pytest.mark.parametrize(("variable", "threads"), [("3", 3), ("0", 2), ("", 2), ("many", 2)])
def test_the_environment_or_the_cpus_say_how_many(
    monkeypatch: pytest.MonkeyPatch, variable: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {4, 7})
    assert usable_threads() == threads
