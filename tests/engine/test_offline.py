from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import Bands, alone, cut, events_of, music, tagger
from torch import Tensor

from streamtag.audio.block import Block
from streamtag.engine.engine import Engine
from streamtag.engine.events import TagEnded, TagStarted, WindowScored
from streamtag.engine.offline import read_ahead, tag_blocks
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import StreamError, StreamtagError
from streamtag.model.tagger import Tagger

RATE = 22050
ON = {"on_thresholds": (0.35, 0.4, 0.5), "off_thresholds": (0.33, 0.38, 0.48)}


@pytest.fixture(scope="module")
def taggers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tagger]:
    folder = tmp_path_factory.mktemp("taggers")
    return {
        "one": tagger(folder, name="one", **ON),
        "two": tagger(folder, name="two", window_frames=100, **ON),
    }


def test_a_file_gets_the_events_of_the_engine(taggers: dict[str, Tagger]) -> None:
    samples = music(6.0, RATE, 3)
    results = tag_blocks(cut(samples, RATE, [4096]), RATE, taggers)
    assert list(results) == ["one", "two"]
    events = alone(taggers, samples, RATE)
    for name, result in results.items():
        scores = [e for e in events_of(events, "a", name) if isinstance(e, WindowScored)]
        assert [(r.values, r.smoothed, r.provisional) for r in result.scores] == [
            (tuple(e.values), tuple(e.smoothed), e.provisional) for e in scores
        ]
        assert [(r.start, r.end) for r in result.scores] == [
            (e.start / RATE, e.end / RATE) for e in scores
        ]
        on = [e for e in events_of(events, "a", name) if isinstance(e, TagStarted)]
        off = [e for e in events_of(events, "a", name) if isinstance(e, TagEnded)]
        assert len(on) >= 2
        assert {(s.tag, s.on, s.off, s.peak, s.reason) for s in result.events} == {
            (e.tag, e.since / RATE, e.at / RATE, e.peak, e.reason) for e in off
        }
        assert [s.on for s in result.events] == sorted(e.at / RATE for e in on)
        assert (result.seconds, result.hop_seconds) == (6.0, 0.1)


def test_any_blocks_and_settings_and_progress(taggers: dict[str, Tagger]) -> None:
    samples = music(2.0, RATE, 1)
    settings = {"one": TaggerSettings(hop_seconds=0.2, tags=("low",))}
    done: list[float] = []
    one = {"one": taggers["one"]}
    result = tag_blocks(
        cut(samples, RATE, [RATE]), RATE, one, settings=settings, on_progress=done.append
    )["one"]
    assert done == [1.0, 2.0]
    assert result.hop_seconds == 0.2
    assert result.scores[1].end - result.scores[0].end == pytest.approx(0.2, abs=1e-4)
    assert {s.tag for s in result.events} <= {"low"}
    assert tag_blocks(cut(samples, RATE, [77]), RATE, one, settings=settings)["one"] == result


def test_threads_and_reading_ahead_change_nothing(taggers: dict[str, Tagger]) -> None:
    samples, before = music(8.0, RATE, 5), torch.get_num_threads()
    expected = tag_blocks([Block(samples, 0, RATE)], RATE, taggers)
    ahead = read_ahead(cut(samples, RATE, [RATE, 500]))
    assert tag_blocks(ahead, RATE, taggers, threads=3) == expected
    assert torch.get_num_threads() == before


def test_an_error_of_the_source_comes_through_the_reader() -> None:
    def blocks() -> Iterator[Block]:
        yield Block(music(1, RATE), 0, RATE)
        raise StreamtagError("the disk is gone")

    reading = read_ahead(blocks())
    assert next(reading).end == RATE
    with pytest.raises(StreamtagError, match="the disk is gone"):
        next(reading)


@pytest.mark.parametrize("n", [0, 2, 500, 5000])
def test_a_short_file_is_not_refused(taggers: dict[str, Tagger], n: int) -> None:
    result = tag_blocks([Block(music(1, RATE)[:n], 0, RATE)], RATE, taggers)["one"]
    assert result.seconds == n / RATE
    assert len(result.scores) == (n > 0)
    assert all(row.provisional for row in result.scores)
    assert tag_blocks([], RATE, taggers)["one"].scores == ()


def test_a_failing_model_fails_the_file(tmp_path: Path) -> None:
    class Fragile(Bands):
        def forward(self, x: Tensor) -> Tensor:
            if float(x.max()) > 2:
                raise RuntimeError("too loud for me")
            return torch.sigmoid((x.mean(dim=1, keepdim=True) * self.weight).sum(dim=-1))

    fragile = {"fragile": tagger(tmp_path, Fragile(8, 3))}
    loud = np.random.default_rng(0).normal(0, 9, RATE).astype(np.float32)
    with pytest.raises(StreamtagError, match=r"tagger 'fragile': .* failed: .*too loud for me"):
        tag_blocks([Block(loud, 0, RATE)], RATE, fragile)


def test_blocks_that_do_not_fit_are_refused(taggers: dict[str, Tagger]) -> None:
    with pytest.raises(StreamError, match="expected blocks at 22050 Hz, got 8000 Hz"):
        tag_blocks([Block(music(1), 0, 8000)], RATE, taggers)


def test_the_engine_is_the_one_that_serves_streams(taggers: dict[str, Tagger]) -> None:
    """A file in company of others still gets its own events (the engine's own tests say more)."""
    engine = Engine(taggers)
    samples = [music(1.5, RATE, seed) for seed in range(3)]
    for i in range(3):
        engine.open(f"s{i}", RATE)
    events = engine.feed_many([(f"s{i}", Block(samples[i], 0, RATE)) for i in range(3)])
    events += engine.close_many(["s0", "s1", "s2"])
    for i in range(3):
        result = tag_blocks([Block(samples[i], 0, RATE)], RATE, taggers)["two"]
        scores = [
            tuple(e.values)
            for e in events_of(events, f"s{i}", "two")
            if isinstance(e, WindowScored)
        ]
        assert [row.values for row in result.scores] == scores
