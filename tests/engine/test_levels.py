"""The level of each half second, for displays."""

import numpy as np
import pytest
from support.toy import cut, tagger

from streamtag.audio.block import Block
from streamtag.engine.engine import Engine
from streamtag.engine.events import Event, LevelMeasured
from streamtag.model.tagger import Tagger

RATE = 8000


@pytest.fixture(scope="module")
def taggers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tagger]:
    return {"toy": tagger(tmp_path_factory.mktemp("taggers"))}


def levels(events: list[Event]) -> list[LevelMeasured]:
    return [event for event in events if isinstance(event, LevelMeasured)]


def played(taggers: dict[str, Tagger], samples: np.ndarray, sizes: list[int]) -> list[Event]:
    engine = Engine(taggers, slack=30.0)
    engine.measure_levels(True)
    events = engine.open("a", RATE)
    for block in cut(samples, RATE, sizes):
        events += engine.feed("a", block)
    return events + engine.close("a")


def test_a_level_is_that_of_half_a_second(taggers: dict[str, Tagger]) -> None:
    sine = np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE) * 0.5
    noise = np.random.default_rng(1).normal(0, 0.01, RATE // 2) + 0.25  # with DC
    samples = np.concatenate([sine, noise, np.zeros(RATE)]).astype(np.float32)
    found = levels(played(taggers, samples, [len(samples)]))
    assert [event.at for event in found] == list(range(RATE // 2, len(samples) + 1, RATE // 2))
    halves = samples.astype(np.float64).reshape(-1, RATE // 2)
    for event, half in zip(found[:3], halves, strict=False):
        assert event.peak_dbfs == pytest.approx(20 * np.log10(np.abs(half).max()), abs=0.051)
        assert event.rms_dbfs == pytest.approx(20 * np.log10(half.std()), abs=0.051)
    assert (found[0].peak_dbfs, found[0].rms_dbfs) == (
        -6.0,
        -9.0,
    )  # that of a sine at half of full scale
    assert {(event.peak_dbfs, event.rms_dbfs) for event in found[3:]} == {(-120.0, -120.0)}


def test_levels_are_the_same_in_blocks_of_any_size(taggers: dict[str, Tagger]) -> None:
    samples = np.random.default_rng(2).normal(0, 0.1, 3 * RATE + 17).astype(np.float32)
    whole = levels(played(taggers, samples, [len(samples)]))
    assert len(whole) == 6
    assert levels(played(taggers, samples, [1, 799, 4000, 4001])) == whole


def test_a_level_begins_anew_after_a_gap(taggers: dict[str, Tagger]) -> None:
    engine = Engine(taggers, slack=30.0)
    engine.measure_levels(True)
    engine.open("a", RATE)
    loud, soft = np.full(3000, 0.5, np.float32), np.full(5000, 0.125, np.float32)
    loud[::2] = -0.5
    assert not levels(engine.feed("a", Block(loud, 0, RATE)))
    (found,) = levels(engine.feed("a", Block(soft, 10_000, RATE)))
    assert (found.at, found.peak_dbfs, found.rms_dbfs) == (14_000, -18.1, -120.0)


def test_loudness_comes_where_it_is_wanted(taggers: dict[str, Tagger]) -> None:
    engine = Engine(taggers, slack=30.0)
    engine.measure_levels(True)
    engine.open("a", RATE)
    turns = 2 * np.pi * 997 / RATE * np.arange(3 * RATE)
    second = [
        Block(part, k * RATE, RATE)
        for k, part in enumerate(np.split(np.sin(turns).astype(np.float32), 3))
    ]
    assert [one.lufs for one in levels(engine.feed("a", second[0]))] == [None] * 2
    engine.measure_levels(True, loudness=True)
    assert [one.lufs for one in levels(engine.feed("a", second[1]))] == [0.0] * 2
    engine.measure_levels(True)
    assert [one.lufs for one in levels(engine.feed("a", second[2]))] == [None] * 2


def test_levels_can_be_turned_on_and_off(taggers: dict[str, Tagger]) -> None:
    engine = Engine(taggers, slack=30.0)
    engine.open("a", RATE)
    second = np.ones(RATE, np.float32)
    assert not levels(engine.feed("a", Block(second, 0, RATE)))
    engine.measure_levels(True)
    assert len(levels(engine.feed("a", Block(second, RATE, RATE)))) == 2
    engine.measure_levels(False)
    assert not levels(engine.feed("a", Block(second, 2 * RATE, RATE)))
