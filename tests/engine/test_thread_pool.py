import gc
import threading
import weakref

import pytest
import torch

from streamtag.engine.thread_pool import ThreadPool


def test_answers_come_in_order_and_calls_run_side_by_side() -> None:
    crew, together = ThreadPool(3), threading.Barrier(3)

    def call(i: int) -> int:
        together.wait(30)  # breaks unless three are here at once
        return i * i

    assert crew.map(call, [3, 1, 2]) == [9, 1, 4]
    assert crew.map(str, range(100)) == [str(i) for i in range(100)]
    assert crew.map(str, []) == []


def test_torch_has_one_thread_in_each() -> None:
    assert set(ThreadPool(2).map(lambda _: torch.get_num_threads(), range(8))) == {1}


def test_the_first_failure_is_raised_when_all_have_ended() -> None:
    ended = []

    def call(i: int) -> None:
        ended.append(i)
        if i in (2, 5):
            raise ValueError(f"item {i}")

    crew = ThreadPool(2)
    with pytest.raises(ValueError, match="item 2"):
        crew.map(call, range(8))
    assert sorted(ended) == list(range(8))
    assert crew.map(str, [1]) == ["1"]


def test_the_threads_end_with_the_crew() -> None:
    crew = ThreadPool(2)
    crew.map(str, range(4))
    threads = [t for t in threading.enumerate() if t.name.startswith("model ")]
    gone = weakref.ref(crew)
    del crew
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
