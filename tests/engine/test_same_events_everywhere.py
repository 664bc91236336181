"""The same audio gives the same events: live or whole, in any blocks, alone or in company."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.toy import FEATURES, Bands, alone, cut, events_of, music, tagger
from torch import nn

from streamtag.audio.block import Block, Resampler
from streamtag.audio.feature_config import FeatureConfig, Framing
from streamtag.audio.front_end import frames_of
from streamtag.engine.engine import Engine
from streamtag.engine.events import (
    Event,
    GapFound,
    StreamClosed,
    StreamOpened,
    TagEnded,
    TagStarted,
    WindowScored,
)
from streamtag.model.bundle import silence_frame
from streamtag.model.card import PastPadding
from streamtag.model.tagger import Tagger

THRESHOLDS = {"on_thresholds": (0.35, 0.4, 0.5), "off_thresholds": (0.33, 0.38, 0.48)}


@pytest.fixture(scope="module")
def taggers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tagger]:
    """Two that share a front end, and a centred one at another rate."""
    folder = tmp_path_factory.mktemp("taggers")
    centred = FeatureConfig(
        sample_rate=11025, n_fft=512, hop=128, n_mels=8, framing=Framing.CENTERED
    )
    return {
        "short": tagger(folder, name="short", **THRESHOLDS),
        "long": tagger(
            folder, name="long", window_frames=170, padding=PastPadding.WRAP, **THRESHOLDS
        ),
        "centred": tagger(
            folder, name="centred", features=centred, padding=PastPadding.MINIMUM, **THRESHOLDS
        ),
    }


@pytest.fixture(scope="module")
def recordings(taggers: dict[str, Tagger]) -> list[tuple[np.ndarray, int, list[Event]]]:
    """Samples, rate, and the events that they get alone, under the name `a`."""
    made = [(8000, 3.1), (44100, 3.0), (16000, 0.3), (11025, 1.7), (8000, 0.01), (48000, 1.0)]
    out = []
    for seed, (rate, seconds) in enumerate(made):
        samples = music(seconds, rate, seed)
        out.append((samples, rate, alone(taggers, samples, rate)))
    return out


def renamed(events: list[Event], name: str) -> list[Event]:
    return [replace(e, stream=name) for e in events]


def assert_same(got: list[Event], expected: list[Event], name: str) -> None:
    """Per tagger the same, in the same order, to the last bit."""
    for tag in ("short", "long", "centred"):
        assert events_of(got, name, tag) == events_of(renamed(expected, name), name, tag)
    for kind in (StreamOpened, StreamClosed, GapFound):
        assert [e for e in got if isinstance(e, kind) and e.stream == name] == [
            e for e in renamed(expected, name) if isinstance(e, kind)
        ]


def test_the_recordings_are_worth_comparing(
    recordings: list[tuple[np.ndarray, int, list[Event]]],
) -> None:
    events = [e for _, _, some in recordings for e in some]
    assert sum(isinstance(e, TagStarted) for e in events) > 20
    assert sum(isinstance(e, TagEnded) and e.reason == "below_threshold" for e in events) >= 8
    assert {e.provisional for e in events if isinstance(e, WindowScored)} == {True, False}


@pytest.mark.parametrize("sizes", [[1], [79, 1, 0, 81], [800], [30011]])
def test_in_blocks_of_any_size(
    taggers: dict[str, Tagger],
    recordings: list[tuple[np.ndarray, int, list[Event]]],
    sizes: list[int],
) -> None:
    for samples, rate, expected in recordings[1:4]:
        engine = Engine(taggers, slack=0.3)
        got = engine.open("a", rate)
        for block in cut(samples, rate, sizes):
            got += engine.feed("a", block)
        assert_same(got + engine.close("a"), expected, "a")


@given(data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_in_any_company(
    taggers: dict[str, Tagger],
    recordings: list[tuple[np.ndarray, int, list[Event]]],
    data: st.DataObject,
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(6)), min_size=1, max_size=5), "recordings")
    sizes = st.lists(st.integers(1, 9000), min_size=1, max_size=4)
    slack, threads = data.draw(st.floats(0, 2), "slack"), data.draw(st.sampled_from([1, 3]))
    engine = Engine(taggers, max_batch=8, slack=slack, threads=threads)
    waiting: dict[str, Iterator[Block]] = {}
    got: list[Event] = []
    for i, k in enumerate(chosen):
        samples, rate, _ = recordings[k]
        waiting[f"s{i}"] = iter(cut(samples, rate, data.draw(sizes, "sizes")))
        got += engine.open(f"s{i}", rate)
    rng = np.random.default_rng(data.draw(st.integers(0, 999), "seed"))
    for now in itertools.count():
        if not waiting:
            break
        names = [n for n in waiting if rng.random() < 0.6]
        fed = []
        for name in names:
            some = list(itertools.islice(waiting[name], int(rng.integers(1, 4))))
            fed += [(name, block) for block in some]
            if not some:
                got += engine.close(name)
                del waiting[name]
        got += engine.feed_many(fed, now * 0.02)
        if rng.random() < 0.5:
            got += engine.step(math.inf if rng.random() < 0.1 else now * 0.02)
    assert engine.stats()["waiting"] == 0
    for i, k in enumerate(chosen):
        assert_same(got, recordings[k][2], f"s{i}")


def test_at_the_end_of_64_bits(
    taggers: dict[str, Tagger], recordings: list[tuple[np.ndarray, int, list[Event]]]
) -> None:
    """Positions beyond 2^53 are no floating point numbers any more."""
    for start in (2**31 - 5, 2**32 - 5, 2**53 - 5, 2**53 + 1):
        for samples, rate, expected in recordings[:2]:
            engine = Engine(taggers)
            got = engine.open("a", rate, start=start)
            for block in cut(samples, rate, [1111], start):
                got += engine.feed("a", block)
            got += engine.close("a")
            shifted = []
            for e in expected:
                fields = {"at", "start", "end", "decided", "since"} & set(e.__struct_fields__)
                moved = {name: getattr(e, name) + start for name in fields}
                shifted.append(replace(e, **moved))
            assert_same(got, shifted, "a")


def test_after_a_gap_like_a_new_recording(taggers: dict[str, Tagger]) -> None:
    """The scores on both sides of a gap are those of the pieces alone, on the grid of windows."""
    rate = 16000
    left, right = music(1.53, rate, 1), music(1.21, rate, 2)
    for sizes in ([10**6], [777]):
        engine = Engine(taggers)
        got = engine.open("a", rate, start=100)
        for block in cut(left, rate, sizes, 100) + cut(right, rate, sizes, 50000):
            got += engine.feed("a", block)
        got += engine.close("a")
        assert [e for e in got if isinstance(e, GapFound)] == [
            GapFound("a", 100 + len(left), 50000)
        ]
        gap = next(i for i, e in enumerate(got) if isinstance(e, GapFound))
        for tag in taggers:
            before = [e for e in events_of(got[:gap], "a", tag) if isinstance(e, WindowScored)]
            whole = [
                e
                for e in events_of(alone(taggers, left, rate, start=100), "a", tag)
                if isinstance(e, WindowScored)
            ]
            assert before == whole[: len(before)]
            assert len(before) in (len(whole), len(whole) - 1)  # off the grid: the last one
            after = [e for e in events_of(got[gap:], "a", tag) if isinstance(e, WindowScored)]
            new = [
                e
                for e in events_of(alone(taggers, right, rate, start=50000), "a", tag)
                if isinstance(e, WindowScored)
            ]
            assert after == new


@pytest.mark.parametrize("rate", [8000, 22050])
@pytest.mark.parametrize("seconds", [0.033, 0.2, 0.25, 0.522, 0.53, 1.234])
def test_the_scores_are_those_of_plain_arithmetic(
    taggers: dict[str, Tagger], rate: int, seconds: float
) -> None:
    """Resample, frame, cut, pad, ask the net itself, smooth: each in one line, on the whole."""
    samples = music(seconds, rate)
    resampler = Resampler(rate, 8000)
    frames = frames_of(np.concatenate([resampler.push(samples), resampler.close()]), FEATURES)
    n = len(frames)
    ends = [e for e in range(10, n + 1, 10) if e >= 20]
    ends += [n] if n and (not ends or ends[-1] < n) else []
    got = [
        e
        for e in events_of(alone(taggers, samples, rate), "a", "short")
        if isinstance(e, WindowScored)
    ]
    assert len(got) == len(ends)
    smoothed, previous = None, 0.0
    for score, end in zip(got, ends, strict=True):
        heard = frames[max(0, end - 50) : end]
        past = np.tile(silence_frame(FEATURES), (50 - len(heard), 1))
        window = np.concatenate([past, heard])[None]
        with torch.inference_mode():
            p = Bands(8, 3)(torch.from_numpy(window)).numpy()[0]
        assert np.abs(np.array(score.values) - p).max() < 1e-6
        start, stop = max(0, end - 50) * 80 / 8000, ((end - 1) * 80 + 256) / 8000
        assert score.start == pytest.approx(start * rate, abs=1)
        assert score.end == pytest.approx(min(stop * rate, len(samples)), abs=1)
        assert score.provisional == (end < 50)
        alpha = 1 if smoothed is None else 1 - math.exp(-(stop - previous) / 0.2)
        smoothed = p if smoothed is None else smoothed + alpha * (p - smoothed)
        previous = stop
        assert np.abs(np.array(score.smoothed) - smoothed).max() < 1e-3


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 335, 336, 256 + 80 * 49, 257 + 80 * 49])
def test_however_short(taggers: dict[str, Tagger], n: int) -> None:
    events = alone(taggers, music(1)[:n], 8000)
    assert isinstance(events[0], StreamOpened)
    assert events[-1] == StreamClosed("a", n, events[-1].reason, "")  # type: ignore[union-attr]
    scores = [e for e in events_of(events, "a", "short") if isinstance(e, WindowScored)]
    assert bool(scores) == (n > 0)
    assert all(0 <= e.start < e.end <= n for e in events if isinstance(e, WindowScored))
    if scores:
        assert scores[-1].end > n - 80
    assert bool([e for e in events_of(events, "a", "centred") if isinstance(e, WindowScored)]) == (
        n > 0
    )


class Conv(nn.Module):
    """Layers whose kernels torch chooses by the size of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        self.gru = nn.GRU(8, 16, batch_first=True)
        self.out = nn.Linear(16 * 24 * 3 + 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.layers(x.unsqueeze(1) / 5), self.gru(x)[0][:, -1]], dim=1)
        return torch.sigmoid(self.out(both))


def test_in_company_with_a_net_whose_last_bits_depend_on_the_batch(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """On a CPU the engine's own batch sizes give equal bits; others give nearly equal numbers."""
    torch.manual_seed(1)
    conv = {"conv": tagger(tmp_path_factory.mktemp("conv"), Conv(), **THRESHOLDS)}
    samples = [music(1.5, 8000, seed) for seed in range(6)]
    expected = [
        events_of(alone(conv, x, 8000, f"s{i}"), f"s{i}", "conv") for i, x in enumerate(samples)
    ]
    for sizes, threads in ((None, 1), (None, 4), ((1, 2, 4, 8), 1)):
        engine = Engine(conv, sizes=sizes, threads=threads)
        for i in range(6):
            engine.open(f"s{i}", 8000)
        got = engine.feed_many([(f"s{i}", Block(x, 0, 8000)) for i, x in enumerate(samples)])
        got += engine.close_many(engine.streams)
        for i in range(6):
            mine = events_of(got, f"s{i}", "conv")
            if sizes is None:
                assert mine == expected[i]
            ours = [e.values for e in mine if isinstance(e, WindowScored)]
            alones = [e.values for e in expected[i] if isinstance(e, WindowScored)]
            assert np.abs(np.array(ours) - np.array(alones)).max() < 1e-5
