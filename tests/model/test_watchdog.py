"""Calls that do not return."""

import threading
import time
import weakref

import pytest
from support.peers import wait_until

from streamtag.model.watchdog import CallLimits, ModelStuckError, Watchdog

PATIENT = 300.0


def test_answers_and_errors_are_those_of_the_function() -> None:
    watchdog = Watchdog(CallLimits(PATIENT, PATIENT))
    assert watchdog.call(lambda: 3) == 3
    with pytest.raises(KeyError, match="x"):
        watchdog.call(lambda: {}["x"])
    assert watchdog.stuck_seconds == 0


def test_the_caller_of_a_call_that_does_not_return_goes_on() -> None:
    watchdog, come_back = Watchdog(CallLimits(0.05, PATIENT)), threading.Event()
    try:
        with pytest.raises(ModelStuckError, match=r"a call has not returned in 0\.05 s"):
            watchdog.call(lambda: come_back.wait(PATIENT))
        with pytest.raises(ModelStuckError, match="a call before has not returned"):
            watchdog.call(lambda: True)
        assert watchdog.stuck_seconds > 0
    finally:
        come_back.set()
    wait_until(lambda: watchdog.stuck_seconds == 0, lambda: "it does not come back")
    assert watchdog.call(lambda: "again", slow=True) == "again"  # not the late answer


def test_other_threads_are_not_kept() -> None:
    watchdog, come_back = Watchdog(CallLimits(0.05, PATIENT)), threading.Event()
    try:
        with pytest.raises(ModelStuckError):
            watchdog.call(lambda: come_back.wait(PATIENT))
        answers: list[int] = []
        other = threading.Thread(target=lambda: answers.append(watchdog.call(int, slow=True)))
        other.start()
        other.join(PATIENT)
        assert answers == [0]
        assert watchdog.stuck_seconds > 0
    finally:
        come_back.set()


def test_a_model_that_is_slow_by_nature_is_given_more_time() -> None:
    watchdog = Watchdog(CallLimits(0.001, PATIENT))

    def busy() -> None:
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass

    watchdog.call(busy, slow=True)
    with pytest.raises(ModelStuckError, match=r"in 0\.001 s"):
        watchdog.call(busy)
    runner = watchdog._local.runner
    wait_until(lambda: not runner._answers.empty(), lambda: "it does not come back")
    watchdog.call(busy)  # in ten times as long as it took


def test_threads_end_with_their_watchdog() -> None:
    watchdog = Watchdog(CallLimits(PATIENT, PATIENT))
    thread = watchdog.call(threading.current_thread)
    assert thread is not threading.current_thread()
    del watchdog
    thread.join(PATIENT)
    assert not thread.is_alive()


def test_its_thread_does_not_keep_the_last_answer() -> None:
    """Freed while Python ends, an array of torch's aborts the process."""

    class Answer:
        pass

    watchdog = Watchdog(CallLimits(PATIENT, PATIENT))
    kept = weakref.ref(watchdog.call(Answer))
    wait_until(lambda: kept() is None, lambda: "the answer is still there")
