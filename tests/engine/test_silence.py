"""In a silence every tag is off, in any blocks and with any tagger."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy import cut, events_of, music, tagger

from streamtag.audio.block import Block
from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.level import LevelSettings
from streamtag.engine.engine import Engine
from streamtag.engine.events import (
    ChannelsChanged,
    ClippingFound,
    Event,
    SilenceEnded,
    SilenceStarted,
    TagEnded,
    TagStarted,
    WindowScored,
)
from streamtag.engine.settings import LagPolicy
from streamtag.model.tagger import Tagger

SHORT = LevelSettings(silence_seconds=1.0)
LOW = {"on_thresholds": (0.1, 0.1, 0.5), "off_thresholds": (0.01, 0.01, 0.48)}
"""Two tags that are always on unless something switches them off."""


@pytest.fixture(scope="module")
def taggers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tagger]:
    folder = tmp_path_factory.mktemp("taggers")
    other = FeatureConfig(sample_rate=11025, n_fft=512, hop=128, n_mels=8)
    return {
        "eager": tagger(folder, name="eager", **LOW),
        "other": tagger(folder, name="other", features=other, window_frames=170, **LOW),
    }


def with_pauses(rate: int, seed: int, *pauses: float) -> np.ndarray:
    """Music, a pause, music, a pause … music."""
    parts = [music(1.3, rate, seed)]
    for i, pause in enumerate(pauses):
        parts += [np.zeros(round(pause * rate), np.float32), music(1.3, rate, seed + i)]
    return np.concatenate(parts)


def play(
    taggers: dict[str, Tagger], samples: np.ndarray, rate: int, sizes: list[int], steps: int = 0
) -> list[Event]:
    """All events; `steps` blocks lie between two calls of `step`, 0 for none at all."""
    engine = Engine(taggers, slack=30.0)
    events = engine.open("a", rate, level=SHORT)
    for i, block in enumerate(cut(samples, rate, sizes)):
        events += engine.feed("a", block)
        if steps and i % steps == 0:
            events += engine.step()
    return events + engine.close("a")


def check_silences(events: list[Event]) -> None:
    """In the order in which they come: nothing is on in a silence; every ON has one OFF."""
    on: set[tuple[str, str]] = set()
    silent = False
    for event in events:
        if isinstance(event, SilenceStarted):
            assert not silent
            silent = True
        elif isinstance(event, SilenceEnded):
            assert silent
            assert not on
            silent = False
        elif isinstance(event, TagStarted):
            assert not silent
            assert (event.tagger, event.tag) not in on
            on.add((event.tagger, event.tag))
        elif isinstance(event, TagEnded):
            on.remove((event.tagger, event.tag))
            assert event.since <= event.at <= event.decided
            assert (event.reason == "silence") or not silent
    assert not on
    assert not silent


def test_tags_go_off_and_come_back(taggers: dict[str, Tagger]) -> None:
    samples = with_pauses(8000, 0, 3.0)
    events = play(taggers, samples, 8000, [800], 1)
    check_silences(events)
    (begin,) = [e for e in events if isinstance(e, SilenceStarted)]
    (end,) = [e for e in events if isinstance(e, SilenceEnded)]
    assert (begin.at, begin.decided) == (10400, 18400)
    assert 34400 <= end.at < 34400 + 1600
    assert end.since == begin.at
    for name in taggers:
        offs = [e for e in events_of(events, "a", name) if isinstance(e, TagEnded)]
        silenced = [e for e in offs if e.reason == "silence"]
        assert {e.tag for e in silenced} >= {"low", "high"}
        assert all(e.decided == begin.decided and e.at >= begin.at for e in silenced)
        again = [
            e
            for e in events_of(events, "a", name)
            if isinstance(e, TagStarted) and e.decided > end.decided
        ]
        assert {e.tag for e in again} >= {"low", "high"}


def test_scores_go_on_in_a_silence(taggers: dict[str, Tagger]) -> None:
    events = play(taggers, with_pauses(8000, 0, 3.0), 8000, [800], 1)
    ends = [e.end for e in events_of(events, "a", "eager") if isinstance(e, WindowScored)]
    assert max(np.diff(ends)) == 800


@given(
    seed=st.integers(0, 99),
    sizes=st.lists(st.integers(100, 40000), min_size=1, max_size=5),
    rate=st.sampled_from([8000, 16000, 44100]),
    steps=st.integers(0, 3),
    pauses=st.lists(st.sampled_from([0.7, 1.01, 1.3, 2.0]), min_size=1, max_size=3),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_cutting_gives_equal_events(
    taggers: dict[str, Tagger],
    seed: int,
    sizes: list[int],
    rate: int,
    steps: int,
    pauses: list[float],
) -> None:
    samples = with_pauses(rate, seed, *pauses)
    whole = play(taggers, samples, rate, [len(samples)])
    pieces = play(taggers, samples, rate, sizes, steps)
    check_silences(whole)
    check_silences(pieces)
    for name in taggers:
        assert events_of(pieces, "a", name) == events_of(whole, "a", name)
    for kinds in ((SilenceStarted, SilenceEnded), (ClippingFound,)):
        expected = [e for e in whole if isinstance(e, kinds)]
        assert [e for e in pieces if isinstance(e, kinds)] == expected


def test_a_silence_that_was_known_when_the_audio_ended(taggers: dict[str, Tagger]) -> None:
    samples = np.concatenate([music(1.3), np.zeros(8100, np.float32)])
    for sizes in ([len(samples)], [77]):
        events = play(taggers, samples, 8000, sizes)
        check_silences(events)
        assert [e.at for e in events if isinstance(e, SilenceEnded)] == [len(samples)]


def test_a_gap_inside_a_silence(taggers: dict[str, Tagger]) -> None:
    engine = Engine(taggers)
    events = engine.open("a", 8000, level=SHORT)
    quiet = np.zeros(12000, np.float32)
    events += engine.feed("a", Block(music(1.3), 0, 8000))
    events += engine.feed("a", Block(quiet, 10400, 8000))
    events += engine.feed("a", Block(quiet, 50000, 8000))
    events += engine.feed("a", Block(music(1.3), 62000, 8000))
    events += engine.close("a")
    check_silences(events)
    assert sum(isinstance(e, SilenceStarted) for e in events) == 1


def test_a_silent_stream_leaves_its_neighbour_alone(taggers: dict[str, Tagger]) -> None:
    samples = music(4.0, 8000, 3)
    expected = play(taggers, samples, 8000, [800], 1)
    engine = Engine(taggers, slack=30.0)
    events = engine.open("quiet", 8000, level=SHORT) + engine.open("a", 8000, level=SHORT)
    for block in cut(samples, 8000, [800]):
        hush = Block(np.zeros_like(block.samples), block.start, 8000)
        events += engine.feed_many([("quiet", hush), ("a", block)])
        events += engine.step()
    events += engine.close_many(["quiet", "a"])
    assert any(isinstance(e, SilenceStarted) and e.stream == "quiet" for e in events)
    for name in taggers:
        assert events_of(events, "a", name) == events_of(expected, "a", name)


def test_with_a_model_that_is_too_slow(taggers: dict[str, Tagger]) -> None:
    """Windows are dropped, but never a silence."""
    engine = Engine(taggers, slack=0.5, lag_policy=LagPolicy.DROP)
    events = engine.open("a", 8000, level=SHORT)
    for i, block in enumerate(cut(with_pauses(8000, 1, 3.0, 2.0), 8000, [400])):
        events += engine.feed("a", block, i * 0.05)
        if i % 10 == 0:
            events += engine.step(i * 0.05)
    events += engine.close("a")
    check_silences(events)
    assert sum(isinstance(e, SilenceStarted) for e in events) == 2
    assert engine.stats()["level.silent"] == 2


def test_clipping_is_an_event(taggers: dict[str, Tagger]) -> None:
    loud = np.clip(4 * music(2.0), -1, 1).astype(np.float32)
    events = play(taggers, loud, 8000, [100])
    told = [e for e in events if isinstance(e, ClippingFound)]
    assert told
    assert loud[told[0].at] in (-1.0, 1.0)
    assert told[0].samples >= 3


def test_a_source_that_is_lost_in_a_silence_ends_it(taggers: dict[str, Tagger]) -> None:
    engine = Engine(taggers)
    events = engine.open("a", 8000, level=SHORT)
    for start in (0, 50000):
        events += engine.feed("a", Block(music(1.3), start, 8000))
        events += engine.feed("a", Block(np.zeros(16000, np.float32), start + 10400, 8000))
        events += engine.mark_lost("a")
    events += engine.close("a")
    check_silences(events)
    assert [(e.since, e.at) for e in events if isinstance(e, SilenceEnded)] == [
        (10400, 26400),
        (60400, 76400),
    ]


class HearsSilence(torch.nn.Module):
    """`low` and `loud` where there is sound, `silence` where there is none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sound = torch.sigmoid(x.amax(dim=2).mean(dim=1) + 8).clamp(0.01, 0.99)
        return torch.stack([sound, 1 - sound, sound], 1)


def test_a_tag_called_silence_stays_on_in_it(tmp_path: Path) -> None:
    model = tagger(tmp_path, HearsSilence(), tags=("low", "silence", "loud"))
    events = play({"m": model}, with_pauses(8000, 0, 3.0), 8000, [800], 1)
    (begin,) = [e for e in events if isinstance(e, SilenceStarted)]
    (end,) = [e for e in events if isinstance(e, SilenceEnded)]
    mine = [e for e in events if isinstance(e, TagStarted | TagEnded) and e.tag == "silence"]
    before = [e for e in mine if e.decided < begin.decided]
    assert isinstance(before[-1], TagStarted)
    assert not [e for e in mine if begin.decided <= e.decided <= end.at]
    assert {e.reason for e in mine if isinstance(e, TagEnded)} <= {
        "below_threshold",
        "stream_closed",
    }
    others = [e for e in events if isinstance(e, TagEnded) and e.reason == "silence"]
    assert {e.tag for e in others} <= {"low", "loud"}


def test_a_channel_that_falls_silent_is_an_event(taggers: dict[str, Tagger]) -> None:
    """After the block's other events, and only for streams that watch their channels."""
    samples = music(3.0)
    sides = np.stack([samples, np.where(np.arange(len(samples)) < 8000, samples[::-1], 0)], 1)
    engine = Engine(taggers)
    events = engine.open("watched", 8000, level=LevelSettings(channels_seconds=1.0))
    events += engine.open("other", 8000, level=SHORT)
    for start in range(0, len(samples), 4000):
        part = slice(start, start + 4000)
        block = Block(samples[part], start, 8000, sides[part].astype(np.float32))
        events += engine.feed_many([("watched", block), ("other", block)])
    found = [e for e in events if isinstance(e, ChannelsChanged)]
    assert found == [ChannelsChanged("watched", 8000, 16000, "right_silent")]
    assert engine.feed("watched", Block(samples, 24000, 8000))[-1:] == [
        ChannelsChanged("watched", 24000, 24000, "stereo")
    ]
