import math

import numpy as np
import pytest
from support.one_stream import OneStream, Smoother

from streamtag.engine.smoothing import Settled, Switch, SwitchBank, SwitchSettings

RATE = 1000


def ups(*probabilities: float) -> list[np.ndarray]:
    return [np.array([p], np.float32) for p in probabilities]


def test_a_step_is_followed_to_1_minus_1_over_e_after_the_time_constant() -> None:
    for hop in (10, 100, 500):
        smoother = Smoother(2.0 * RATE)
        smoother.smooth(np.zeros(1, np.float32), 0)
        for end in range(hop, 2001, hop):
            last = smoother.smooth(np.ones(1, np.float32), end)
        assert last[0] == pytest.approx(1 - 1 / math.e, abs=1e-12)


def test_the_distance_of_windows_does_not_matter() -> None:
    often, rarely = Smoother(1.0 * RATE), Smoother(1.0 * RATE)
    often.smooth(np.zeros(1), 0)
    rarely.smooth(np.zeros(1), 0)
    for end in (100, 350, 400, 1700):
        a = often.smooth(np.ones(1), end)
    assert a[0] == pytest.approx(rarely.smooth(np.ones(1), 1700)[0])


def test_the_first_value_is_taken_as_it_is_and_no_constant_passes_all() -> None:
    assert Smoother(9.0 * RATE).smooth(np.array([0.3]), 500)[0] == 0.3
    through = Smoother(0.0 * RATE)
    assert [through.smooth(p, i)[0] for i, p in enumerate(ups(0.5, 0.25))] == [0.5, 0.25]


def test_smoother_after_reset_is_new_and_without_is_not() -> None:
    smoother = Smoother(1.0 * RATE)
    values = ups(0.1, 0.9, 0.4)
    fresh = [smoother.smooth(p, i * 100)[0] for i, p in enumerate(values)]
    stale = [smoother.smooth(p, 300 + i * 100)[0] for i, p in enumerate(values)]
    smoother.bank.restart(smoother.row)
    again = [smoother.smooth(p, i * 100)[0] for i, p in enumerate(values)]
    assert again == fresh != stale


def test_smoother_near_2_to_the_53_is_the_same() -> None:
    near, far = Smoother(1.0 * RATE), Smoother(1.0 * RATE)
    for i, p in enumerate(ups(0.1, 0.9, 0.4, 0.2)):
        assert near.smooth(p, i * 33)[0] == far.smooth(p, 2**53 - 50 + i * 33)[0]


def test_a_negative_time_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Smoother(-1)


def hysteresis(min_on: float = 0, min_off: float = 0, n: int = 1) -> OneStream:
    return OneStream(SwitchSettings(np.full(n, 0.6), np.full(n, 0.4), min_on, min_off))


def run(machine: OneStream, probabilities: list[float], start: int = 0) -> list[Switch]:
    """Windows that end every 100 samples and are heard around 50 samples before."""
    return [
        switch
        for i, p in enumerate(probabilities)
        for switch in machine.update(np.array([p]), start + i * 100 - 50, start + i * 100)
    ]


def test_on_at_the_high_threshold_off_below_the_low_one() -> None:
    switches = run(hysteresis(), [0.59, 0.6, 0.5, 0.4, 0.39, 0.5, 0.59])
    assert switches == [Switch(0, True, 50, 50, 0.6), Switch(0, False, 350, 50, 0.6)]


def test_min_on_is_waited_for_and_the_time_is_that_of_the_first_window() -> None:
    machine = hysteresis(min_on=200)
    assert run(machine, [0.7, 0.8, 0.5, 0.7, 0.9]) == []  # interrupted before its time
    assert run(machine, [0.65], 500) == [Switch(0, True, 250, 250, 0.9)]


def test_min_off_is_waited_for() -> None:
    switches = run(hysteresis(min_off=200), [0.7, 0.3, 0.5, 0.3, 0.3, 0.3])
    assert switches == [Switch(0, True, -50, -50, 0.7), Switch(0, False, 250, -50, 0.7)]


def test_a_hop_that_is_a_little_short_still_counts_as_the_time_asked_for() -> None:
    assert len(run(hysteresis(min_on=104), [0.7, 0.7])) == 1
    assert len(run(hysteresis(min_on=110), [0.7, 0.7])) == 0


def test_the_peak_is_that_of_this_time_on() -> None:
    machine = hysteresis()
    first = run(machine, [0.99, 0.1])
    second = run(machine, [0.7, 0.8, 0.2], 1000)
    assert (first[1].peak, second[1].peak) == (0.99, 0.8)


def test_close_ends_what_is_on_once() -> None:
    machine = hysteresis(n=3)
    machine.update(np.array([0.9, 0.1, 0.7]), 10, 20)
    assert machine.bank.on(machine.row).tolist() == [True, False, True]
    assert machine.bank.close(machine.row, 99) == [
        Switch(0, False, 99, 10, 0.9),
        Switch(2, False, 99, 10, 0.7),
    ]
    assert machine.bank.close(machine.row, 99) == []


def test_an_interruption_keeps_what_is_on_and_forgets_what_was_about_to_change() -> None:
    machine = hysteresis(min_on=100, min_off=100)
    run(machine, [0.7, 0.7])
    run(machine, [0.3], 200)
    machine.bank.restart(machine.row)
    assert machine.bank.on(machine.row).all()
    assert run(machine, [0.3], 5000) == []
    assert run(machine, [0.3], 5100) == [Switch(0, False, 4950, -50, 0.7)]


def test_every_on_has_its_off_whatever_comes() -> None:
    rng = np.random.default_rng(5)
    n = 20
    machine = hysteresis(150, 250, n)
    values = rng.random((400, n))
    values = 0.5 * values + 0.5 * np.roll(values, 1, axis=0)
    switches = [
        s for i, p in enumerate(values) for s in machine.update(p, i * 100 - 30, i * 100)
    ] + machine.bank.close(machine.row, 40000)
    assert len(switches) > 200
    for tag in range(n):
        mine = [s for s in switches if s.tag == tag]
        assert [s.on for s in mine] == [True, False] * (len(mine) // 2)
        for on, off in zip(mine[::2], mine[1::2], strict=True):
            assert off.since == on.at <= off.at


def test_agrees_with_the_plain_loop() -> None:
    """One tag, one step at a time, in plain Python."""
    rng = np.random.default_rng(6)
    values = rng.random(500)
    machine, on, began = hysteresis(210, 310), False, None
    for i, p in enumerate(values):
        wants = p < 0.4 if on else p >= 0.6
        began = (i if began is None else began) if wants else None
        flips = began is not None and (i - began) * 100 >= (300 if on else 200)
        got = machine.update(np.array([p]), i * 100, i * 100)
        assert len(got) == flips
        if flips:
            on = not on
            assert (got[0].on, got[0].at) == (on, began * 100)
            began = None


def test_an_infinite_threshold_never_switches() -> None:
    machine = OneStream(SwitchSettings(np.array([math.inf]), np.array([0.4])))
    assert run(machine, [1.0, 0.0, 1.0]) == []


@pytest.mark.parametrize(("high", "low"), [([0.4], [0.5]), ([0.5], [0.0]), ([0.5], [0.4, 0.3])])
def test_thresholds_in_the_wrong_order_are_refused(high: list[float], low: list[float]) -> None:
    with pytest.raises(ValueError, match="0 < low <= high"):
        SwitchSettings(np.array(high), np.array(low))


def test_streams_of_a_bank_do_not_disturb_each_other_and_rows_are_used_again() -> None:
    rng = np.random.default_rng(7)
    n, bank = 5, SwitchBank(5)
    alone: list[OneStream] = []
    rows: list[int] = []
    for k in range(9):
        near, wide = (np.full(n, 0.6), np.full(n, 0.5)), (np.full(n, 0.7), np.full(n, 0.2))
        settled = Settled(*wide, 0.2, 100.0 * k, 200.0) if k % 2 else None
        settings = SwitchSettings(*near, 100 * k, 50 * k, 40 * k, settled)
        alone.append(OneStream(settings))
        if k == 4:
            bank.release(rows.pop(2))
            alone.pop(2)
        rows.append(bank.add(settings))
    assert len(set(rows)) == len(rows) == 8
    ends = [0] * 8
    for _ in range(300):
        some = rng.permutation(8)[: rng.integers(1, 9)].tolist()
        values = rng.random((len(some), n))
        silent = {i: rng.random(n) < 0.5 for i in range(len(some)) if rng.random() < 0.2}
        for k in some:
            ends[k] += int(rng.integers(50, 150))
        at, end = [ends[k] - 30 for k in some], [ends[k] for k in some]
        smoothed, switches = bank.update([rows[k] for k in some], values, at, end, silent)
        for i, k in enumerate(some):
            expected = alone[k].take(values[i], at[i], end[i], silent.get(i))
            assert (smoothed[i].tolist(), switches[i]) == (expected[0].tolist(), expected[1])


def settling(change: float = 0.2, again: float = 0.0, start: float = 0.0) -> OneStream:
    """Two tags: on at 0.5 and off below 0.4, or at 0.8 and below 0.1 after 3 s without a change."""
    near, wide = (np.full(2, 0.5), np.full(2, 0.4)), (np.full(2, 0.8), np.full(2, 0.1))
    later = Settled(*wide, change, 3 * RATE, 2 * RATE, again * RATE, start * RATE)
    return OneStream(SwitchSettings(*near, settled=later))


def changes(stream: OneStream, *rows: tuple[float, float]) -> list[tuple[int, int, bool]]:
    """Second, tag and state of each switch, of windows once a second."""
    found = [(k, stream.update(np.array(row), k * RATE, k * RATE)) for k, row in enumerate(rows)]
    return [(k, switch.tag, switch.on) for k, some in found for switch in some]


def test_settled_tags_stay_and_others_come_only_if_they_are_sure() -> None:
    rows = [(0.6, 0.1)] * 4 + [(0.5, 0.3), (0.4, 0.45), (0.3, 0.6), (0.2, 0.7), (0.2, 0.85)]
    assert changes(settling(change=0.4), *rows) == [(0, 0, True), (8, 1, True)]


def test_a_change_makes_the_thresholds_near_again_for_a_while() -> None:
    rows = [(0.9, 0.1)] * 5 + [(0.3, 0.6)]
    assert changes(settling(), *rows) == [(0, 0, True), (5, 0, False), (5, 1, True)]
    assert changes(settling(change=0.7), *rows) == [(0, 0, True)]
    later = rows + [(0.3, 0.6)] * 3 + [(0.5, 0.2)]  # it has settled: 0.5 and 0.2 change nothing
    assert changes(settling(change=0.4), *later) == [(0, 0, True), (5, 0, False), (5, 1, True)]


def test_a_slow_drift_is_no_change() -> None:
    rows = [(0.9 - 0.06 * k, 0.1 + 0.06 * k) for k in range(11)]
    assert changes(settling(), *rows) == [(0, 0, True)]


def test_a_tag_that_has_gone_off_needs_more_to_come_on_again_for_a_while() -> None:
    rows = [(0.6, 0.1), (0.3, 0.1), (0.6, 0.6), (0.7, 0.6), (0.7, 0.6)]
    on, off, other = (0, 0, True), (1, 0, False), (2, 1, True)
    assert changes(settling(0.01), *rows) == [on, off, (2, 0, True), other]
    assert changes(settling(0.01, 3.0), *rows) == [on, off, other, (4, 0, True)]
    assert changes(settling(0.01, 3.5), *rows) == [on, off, other]
    sure = [*rows[:2], (0.8, 0.1)]
    assert changes(settling(0.01, 3.5), *sure) == [on, off, (2, 0, True)]


def test_a_stream_that_has_just_begun_must_be_sure() -> None:
    rows = [(0.6, 0.9), (0.6, 0.9), (0.6, 0.9)]
    assert changes(settling(), *rows) == [(0, 0, True), (0, 1, True)]
    assert changes(settling(start=1.5), *rows) == [(0, 1, True), (2, 0, True)]
    stream = settling(start=1.5)
    changes(stream, *[(0.1, 0.9)] * 6)
    stream.bank.restart(stream.row)  # audio is missing: what is on stays on
    assert stream.update(np.array([0.6, 0.6]), 0, 9 * RATE) == []
    assert [s.tag for s in stream.update(np.array([0.6, 0.6]), 0, 11 * RATE)] == [0]


def test_missing_audio_counts_as_a_change() -> None:
    stream = settling()
    changes(stream, *[(0.9, 0.1)] * 6)
    stream.bank.restart(stream.row)
    assert [switch.tag for switch in stream.update(np.array([0.6, 0.6]), 0, 9 * RATE)] == [1]


def test_other_thresholds_of_settled_tags_are_taken_over() -> None:
    stream = settling()
    changes(stream, *[(0.9, 0.6)] * 6)
    tight = (np.full(2, 0.8), np.full(2, 0.7))
    new = SwitchSettings(np.full(2, 0.5), np.full(2, 0.4), settled=Settled(*tight, 0.2, 0, 1))
    stream.bank.update_settings(stream.row, new, 6 * RATE)
    assert [switch.tag for switch in stream.update(np.array([0.9, 0.6]), 0, 7 * RATE)] == [1]
