"""How long to wait before something that failed is tried again."""

import numpy as np

from streamtag.config.backoff import Backoff, BackoffPolicy


def test_waits_double_up_to_the_longest_and_begin_anew_when_it_works() -> None:
    backoff = Backoff(BackoffPolicy(first=1, longest=60, healthy=30), lambda: 1.0)
    waits = [backoff.failed() for _ in range(8)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.worked(29)
    assert backoff.failed() == 60  # it came, but not for long
    backoff.worked(30)
    assert backoff.failed() == 1


def test_a_thousand_streams_do_not_come_back_in_one_moment() -> None:
    random = np.random.default_rng(1).random
    waits = [Backoff(BackoffPolicy(first=8), random).failed() for _ in range(1000)]
    assert 4 <= min(waits) < 4.1
    assert 7.9 < max(waits) < 8
    assert np.std(waits) > 1


def test_the_breaker_opens_for_what_waiting_does_not_cure_and_closes_with_audio() -> None:
    backoff = Backoff(BackoffPolicy(tries=3, slow=300), lambda: 1.0)
    assert [backoff.failed(persistent=True) for _ in range(2)] == [1, 2]
    backoff.failed()  # another kind of failure: it counts from 1 again
    assert [backoff.failed(persistent=True) for _ in range(2)] == [8, 16]
    assert not backoff.open
    assert [backoff.failed(persistent=True) for _ in range(2)] == [300, 300]
    assert backoff.open
    backoff.worked(0.1)
    assert not backoff.open


def test_a_lasting_failure_never_overflows() -> None:
    backoff = Backoff(BackoffPolicy(), lambda: 0.0)
    assert [backoff.failed() for _ in range(5000)][-1] == 30
