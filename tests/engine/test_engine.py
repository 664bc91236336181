import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import FEATURES, Bands, cut, events_of, music, tagger
from torch import Tensor

from streamtag.audio.block import Block
from streamtag.audio.feature_config import FeatureConfig
from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import (
    Event,
    GapFound,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
    WindowsDropped,
)
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import ConfigError, StreamError
from streamtag.model.tagger import Tagger

RATE = 8000


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    on = {"on_thresholds": (0.35, 0.4, 0.5), "off_thresholds": (0.33, 0.38, 0.48)}
    return tagger(tmp_path_factory.mktemp("taggers"), **on)


def block(start: int, n: int, rate: int = RATE) -> Block:
    return Block(np.zeros(n, np.float32), start, rate)


def scored(events: list[Event]) -> int:
    return sum(isinstance(e, WindowScored) for e in events)


def play(engine: Engine, name: str, samples: np.ndarray, settings: TaggerSettings) -> list[Event]:
    tagger = next(iter(engine._batchers))
    events = engine.open(name, RATE, taggers={tagger: settings})
    events += engine.feed(name, Block(samples, 0, RATE))
    return events + engine.close(name)


def test_opening_says_who_listens(toy: Tagger) -> None:
    engine = Engine({"a": toy, "b": toy})
    assert engine.open("x", RATE, 99, start=5) == [StreamOpened("x", 5, RATE, 99, ("a", "b"))]
    assert engine.open("y", RATE, taggers={"b": TaggerSettings()}) == [
        StreamOpened("y", 0, RATE, 0, ("b",))
    ]
    assert engine.streams == ("x", "y")
    assert engine.close("x") == [StreamClosed("x", 5, "stream_closed")]  # type: ignore[arg-type]


def test_a_stream_that_cannot_be_opened_says_why(toy: Tagger) -> None:
    engine = Engine({"toy": toy})
    engine.open("x", RATE)
    with pytest.raises(StreamError, match="stream 'x': expected a new name, got one that is open"):
        engine.open("x", RATE)
    with pytest.raises(StreamError, match="got 0 and 0"):
        engine.open("y", 0)
    with pytest.raises(ConfigError, match="stream 'y': unknown tagger 'tyo'; there are: toy"):
        engine.open("y", RATE, taggers={"tyo": TaggerSettings()})
    with pytest.raises(ConfigError, match="unknown tag 'lwo'; it knows low, high, loud"):
        engine.open("y", RATE, taggers={"toy": TaggerSettings(tags=("lwo",))})
    assert engine.streams == ("x",)


@pytest.mark.parametrize(
    "number",
    [
        {"max_batch": 0},
        {"max_wait": -1},
        {"sizes": ()},
        {"sizes": (0,)},
        {"slack": -1},
        {"slack": math.inf},
    ],
)
def test_numbers_out_of_range_are_refused(toy: Tagger, number: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Engine({"toy": toy}, **number)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (block(149, 10), "stream 'x': expected a block that begins at sample 150 or later, got"),
        (block(0, 150), "begins at sample 150 or later, got one at 0"),
        (block(150, 10, 44100), "stream 'x': expected blocks at 8000 Hz, got 44100 Hz"),
    ],
)
def test_a_block_that_does_not_fit_disturbs_nobody(toy: Tagger, bad: Block, message: str) -> None:
    engine = Engine({"toy": toy})
    engine.open("x", RATE)
    engine.open("y", RATE)
    engine.feed("x", block(0, 100))
    with pytest.raises(StreamError, match=message) as caught:
        engine.feed_many([("y", block(0, 5000)), ("x", block(100, 50)), ("x", bad)])
    assert caught.value.stream == "x"
    assert engine.next_deadline() is None  # nothing of it was taken
    assert engine.feed("x", block(100, 10)) == []
    assert engine.feed("y", block(0, 10)) == []
    with pytest.raises(StreamError, match="stream 'z': expected an open stream"):
        engine.feed("z", block(0, 10))
    with pytest.raises(StreamError, match="stream 'z': expected an open stream"):
        engine.close("z")


def test_a_due_window_waits_for_company_until_its_deadline(toy: Tagger) -> None:
    engine = Engine({"toy": toy}, sizes=(1, 2, 4), max_wait=0.5)
    for name in "xy":
        engine.open(name, RATE)
    assert engine.next_deadline() is None
    engine.feed("x", block(0, 2400), now=10.0)  # 27 frames: one window
    assert engine.next_deadline() == 10.5
    engine.feed("y", block(0, 2400), now=10.3)
    assert engine.next_deadline() == 10.5
    assert engine.step(10.4) == []
    assert [(e.stream, type(e)) for e in engine.step(10.5)] == [
        ("x", WindowScored),
        ("y", WindowScored),
    ]
    assert engine.next_deadline() is None
    assert engine.counters.get("batches", tagger="toy") == 1


def test_a_full_batch_waits_for_nobody(toy: Tagger) -> None:
    engine = Engine({"toy": toy}, sizes=(1, 2), max_wait=100.0)
    engine.open("x", RATE)
    engine.feed("x", block(0, 4000), now=7.0)  # 47 frames: three windows
    assert engine.next_deadline() == 7.0
    assert scored(engine.step(7.0)) == 2
    assert engine.next_deadline() == 107.0
    assert engine.step(50.0) == []
    assert scored(engine.step()) == 1


def test_a_step_runs_one_batch_so_that_audio_is_taken_in_between(toy: Tagger) -> None:
    engine = Engine({"toy": toy}, max_wait=0.0)
    engine.open("x", RATE)
    engine.feed("x", block(0, 4000), now=1.0)
    assert [scored(engine.step(1.0)) for _ in range(4)] == [1, 1, 1, 0]


def test_streams_share_batches(toy: Tagger) -> None:
    engine = Engine({"toy": toy}, sizes=(8,))
    for k in range(8):
        engine.open(f"s{k}", RATE)
    engine.feed_many([(f"s{k}", block(0, 2400)) for k in range(8)])
    assert scored(engine.step()) == 8
    assert engine.counters.get("batches", tagger="toy") == 1
    assert engine.counters.get("windows", tagger="toy") == 8


def test_equal_front_ends_are_shared_and_others_are_not(toy: Tagger, tmp_path: Path) -> None:
    other = tagger(tmp_path, features=FeatureConfig(n_mels=8))
    engine = Engine({"a": toy, "b": toy, "other": other})
    engine.open("x", RATE)
    stream = engine._streams["x"]
    assert [[x.tagger for x in one.stream_taggers] for one in stream.front_ends] == [
        ["a", "b"],
        ["other"],
    ]
    assert [one.config for one in stream.front_ends] == [FEATURES, other.card.features]


def test_a_gap_is_reported_and_what_is_on_stays_on(toy: Tagger) -> None:
    samples = music(3.0, RATE, 0)
    engine = Engine({"toy": toy})
    events = engine.open("x", RATE)
    events += engine.feed("x", Block(samples, 0, RATE))
    events += engine.step()
    last = {e.tag: type(e) for e in events if isinstance(e, TagStarted | TagEnded)}
    on = {tag for tag, kind in last.items() if kind is TagStarted}
    assert on
    gap = engine.feed("x", Block(samples[:100], 90000, RATE))
    assert gap[-1] == GapFound("x", 24000, 90000)
    assert not any(isinstance(e, TagEnded) for e in gap)
    end = engine.close("x")
    assert {e.tag for e in end if isinstance(e, TagEnded)} == on
    assert end[-1].at == 90100  # type: ignore[union-attr]
    assert engine.counters.get("gaps") == 1


def test_an_empty_block_may_announce_a_gap(toy: Tagger) -> None:
    engine = Engine({"toy": toy})
    engine.open("x", RATE)
    assert engine.feed("x", block(0, 0)) == []
    assert engine.feed("x", block(500, 0)) == [GapFound("x", 0, 500)]
    assert engine.feed("x", block(500, 10)) == []


def test_samples_that_are_no_numbers_are_silence_and_counted(toy: Tagger) -> None:
    samples = music(1.0, 44100, 1)
    dirty = samples.copy()
    clean = samples.copy()
    for i, value in ((100, np.nan), (101, np.inf), (20000, -np.inf)):
        dirty[i], clean[i] = value, 0
    results = []
    for x in (clean, dirty):
        engine = Engine({"toy": toy})
        engine.open("x", 44100)
        events = engine.feed("x", Block(x, 0, 44100))
        live = engine.stats()["nonfinite"]
        results.append((events + engine.close("x"), live, engine.stats()["nonfinite"]))
    assert results[0][0] == results[1][0]
    assert [r[1:] for r in results] == [(0, 0), (3, 3)]


def test_settings_change_what_the_card_says(toy: Tagger) -> None:
    engine = Engine({"toy": toy})
    samples = music(4.0, RATE, 0)
    usual = play(engine, "x", samples, TaggerSettings())
    n_on = sum(isinstance(e, TagStarted) for e in usual)
    assert n_on > 3
    never = play(
        engine, "x", samples, TaggerSettings(on_thresholds={t: 0.999 for t in toy.card.tags})
    )
    assert not any(isinstance(e, TagStarted) for e in never)
    one = play(engine, "x", samples, TaggerSettings(tags=("high",)))
    assert [e for e in usual if getattr(e, "tag", "high") == "high"] == one
    rare = play(engine, "x", samples, TaggerSettings(hop_seconds=0.5))
    scores = [e for e in rare if isinstance(e, WindowScored)]
    assert scores[0].end < scores[1].end < 0.6 * RATE  # the first answer does not wait for a hop
    assert [e.end - scores[1].end for e in scores[1:4]] == [0, 4000, 8000]
    raw = play(engine, "x", samples, TaggerSettings(smoothing_seconds=0))
    assert all(e.smoothed == pytest.approx(e.values) for e in raw if isinstance(e, WindowScored))
    slow = play(engine, "x", samples, TaggerSettings(min_on_seconds=1.0, min_off_seconds=1.0))
    assert sum(isinstance(e, TagStarted) for e in slow) < n_on
    for e in slow:
        if isinstance(e, TagStarted):
            assert e.decided - e.at >= 0.95 * RATE


def test_tags_that_are_off_by_default_are_scored_but_silent(tmp_path: Path) -> None:
    shy = tagger(
        tmp_path, off_by_default=("high",), on_thresholds=(0.4,) * 3, off_thresholds=(0.3,) * 3
    )
    engine = Engine({"toy": shy})
    samples = music(4.0, RATE, 0)
    events = play(engine, "x", samples, TaggerSettings())
    assert "high" not in {e.tag for e in events if isinstance(e, TagStarted)}
    assert all(len(e.values) == 3 for e in events if isinstance(e, WindowScored))
    events = play(engine, "x", samples, TaggerSettings(tags=("high",)))
    assert {e.tag for e in events if isinstance(e, TagStarted)} == {"high"}


def test_every_on_gets_its_off_and_times_make_sense(toy: Tagger) -> None:
    events = play(Engine({"toy": toy}), "x", music(8.0, RATE, 3), TaggerSettings())
    open_tags: dict[str, TagStarted] = {}
    for e in events:
        if isinstance(e, TagStarted):
            assert e.tag not in open_tags
            assert 0 <= e.at <= e.decided <= 64000
            open_tags[e.tag] = e
        elif isinstance(e, TagEnded):
            on = open_tags.pop(e.tag)
            assert e.since == on.at <= e.at <= e.decided <= 64000
            assert e.peak >= on.probability
    assert not open_tags


class Fragile(Bands):
    """Raises or answers nonsense, depending on what it hears."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x.max()) > 2:
            raise RuntimeError("too loud for me")
        y = (x.mean(dim=1, keepdim=True) * self.weight).sum(dim=-1) * 0.3
        nonsense = x[:, -1:, :1].expand(-1, 3, 1).squeeze(-1) < -23
        return torch.where(nonsense, torch.full_like(y, float("nan")), torch.sigmoid(y))


def test_a_failing_model_loses_its_windows_and_nothing_else(
    toy: Tagger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fragile = tagger(tmp_path, Fragile(8, 3), name="fragile")
    engine = Engine({"fragile": fragile, "toy": toy}, sizes=(1, 4), lag_policy=LagPolicy.WAIT)
    quiet = music(1.0, RATE, 0)
    loud = np.random.default_rng(0).normal(0, 9, RATE).astype(np.float32)
    zeros = np.zeros(RATE, np.float32)
    with caplog.at_level(logging.ERROR):
        events = [e for n in ("quiet", "loud", "zeros") for e in engine.open(n, RATE)]
        for parts in zip(*(cut(x, RATE, [800]) for x in (quiet, loud, zeros)), strict=True):
            pairs = zip(("quiet", "loud", "zeros"), parts, strict=True)
            events += engine.feed_many(list(pairs))
            events += engine.step()
        events += engine.close_many(["quiet", "loud", "zeros"])
    for name in ("quiet", "loud", "zeros"):
        assert not any(isinstance(e, WindowsDropped) for e in events_of(events, name, "toy"))
    assert not any(isinstance(e, WindowsDropped) for e in events_of(events, "quiet", "fragile"))
    assert {e.detail for e in events_of(events, "zeros", "fragile")} == {  # type: ignore[union-attr]
        "not a finite number"
    }
    details = [
        e.detail for e in events_of(events, "loud", "fragile") if isinstance(e, WindowsDropped)
    ]
    assert len(details) == 9
    assert all("too loud for me" in detail for detail in details)
    assert engine.counters.get("failed", tagger="fragile") == 18
    assert "tagger fragile: " in caplog.text
    assert "too loud for me" in caplog.text
