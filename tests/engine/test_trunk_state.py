"""Trunks that see each frame once: with a state that goes with the stream, or by segments."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from support.streaming_toy import SEGMENT, Leaky, Segments, streaming_tagger
from support.toy import FEATURES, TAGS, alone, cut, music

from streamtag.audio.block import Block
from streamtag.audio.front_end import frames_of
from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import Event, Reason, WindowScored
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import BundleError
from streamtag.model.bundle import save_bundle
from streamtag.model.card import PastPadding
from streamtag.model.tagger import Tagger
from streamtag.train.nets.model import StreamingModel

NEAR = 1e-5


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """Its embeddings depend on the whole past; ten of them are a window."""
    folder = tmp_path_factory.mktemp("leaky")
    return streaming_tagger(folder, net=Leaky(), padding=PastPadding.WRAP)


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """Four segments are a window; five windows end in each of them."""
    return streaming_tagger(
        tmp_path_factory.mktemp("segments"), net=Segments(), window_frames=4 * SEGMENT,
        hop_frames=10, first_frames=SEGMENT, padding=PastPadding.WRAP,
    )  # fmt: skip


def scored(events: list[Event], stream: str = "a") -> list[WindowScored]:
    return [e for e in events if isinstance(e, WindowScored) and e.stream == stream]


def values(events: list[Event], stream: str = "a") -> np.ndarray:
    return np.array([e.values for e in scored(events, stream)])


def play(engine: Engine, samples: np.ndarray, sizes: list[int]) -> list[Event]:
    """Opens stream a, feeds it in blocks, and closes it."""
    events = engine.open("a", 8000)
    for block in cut(samples, 8000, sizes):
        events += engine.feed("a", block) + engine.step()
    return events + engine.close("a")


def end_frame(sample: int) -> int:
    """One past the last frame that is complete at a sample."""
    return (sample - FEATURES.n_fft) // FEATURES.hop + 1


def expected(one: Tagger, frames: np.ndarray, end: int, first: int = 0) -> np.ndarray:
    """The score of the window that ends with a frame, of a trunk that began with `first`."""
    trunk = one.card.trunk
    assert trunk is not None
    strides = end // trunk.stride
    every = one.trunk(frames[None, first : strides * trunk.stride])[0, -trunk.columns :]
    row = every[np.arange(-trunk.columns, 0) % len(every)] if len(every) < trunk.columns else every
    out: np.ndarray = one.head(np.ascontiguousarray(row[None]))[0]
    return out


def test_the_card_says_that_there_is_a_state(leaky: Tagger, segments: Tagger) -> None:
    for one, stride, state in ((leaky, 5, 6), (segments, SEGMENT, 0)):
        trunk = one.card.trunk
        assert trunk is not None
        assert trunk.once
        assert (trunk.stride, trunk.state) == (stride, state)


@pytest.mark.parametrize("which", ["leaky", "segments"])
def test_each_window_sees_the_whole_past(which: str, request: pytest.FixtureRequest) -> None:
    """The first windows too: what there is of the stream is repeated."""
    one: Tagger = request.getfixturevalue(which)
    samples = music(5.0, seed=1)
    frames = frames_of(samples, FEATURES)
    found = scored(play(Engine({"x": one}, sizes=[1]), samples, [800]))
    assert len(found) > 40
    for event in found[:-1]:
        np.testing.assert_allclose(
            event.values, expected(one, frames, end_frame(event.end)), atol=NEAR
        )


@pytest.mark.parametrize("which", ["leaky", "segments"])
def test_any_cutting_and_any_company_give_the_same(
    which: str, request: pytest.FixtureRequest
) -> None:
    one = {"x": request.getfixturevalue(which)}
    samples = music(4.0, seed=2)
    whole = values(play(Engine(one, sizes=[1]), samples, [800]))
    rng = np.random.default_rng(0)
    pieces = play(Engine(one, sizes=[1]), samples, [int(n) for n in rng.integers(1, 800, 40)])
    np.testing.assert_array_equal(values(pieces), whole)
    np.testing.assert_allclose(values(alone(one, samples, 8000)), whole, atol=NEAR)
    engine = Engine(one, sizes=[1, 2, 4])
    events = [e for name in ("s0", "s1", "s2", "a") for e in engine.open(name, 8000)]
    for i in range(0, len(samples), 1000):
        blocks = [(f"s{k}", Block(music(4.0, seed=k)[i : i + 1000], i, 8000)) for k in range(3)]
        events += engine.feed_many([*blocks, ("a", Block(samples[i : i + 1000], i, 8000))])
        events += engine.step(0.0) if i % 3000 else engine.step()
    np.testing.assert_allclose(values(events + engine.close("a")), whole, atol=NEAR)


@pytest.mark.parametrize("which", ["leaky", "segments"])
def test_a_batch_may_have_more_windows_of_a_stream_than_its_ring_is_for(
    which: str, request: pytest.FixtureRequest
) -> None:
    one = {"x": request.getfixturevalue(which)}
    samples = music(20.0, seed=3)
    small = values(play(Engine(one, sizes=[4]), samples, [800]))
    assert len(small) > 2 * 64
    large = play(Engine(one, max_batch=256, sizes=[256], slack=30.0), samples, [len(samples)])
    np.testing.assert_allclose(values(large), small, atol=NEAR)


@pytest.mark.parametrize("which", ["leaky", "segments"])
def test_each_frame_goes_through_the_trunk_once(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    one: Tagger = request.getfixturevalue(which)
    part = "advance" if which == "leaky" else "trunk"
    engine, real, lengths = Engine({"x": one}, sizes=[1]), getattr(one, part), list[int]()

    def noted(frames: np.ndarray, *state: np.ndarray) -> object:
        lengths.append(frames.shape[1])
        return real(frames, *state)

    monkeypatch.setattr(one, part, noted)
    samples = music(5.0)
    events = play(engine, samples, [800])
    trunk = one.card.trunk
    assert trunk is not None
    n_frames = len(frames_of(samples, FEATURES))
    assert sum(lengths) == n_frames // trunk.stride * trunk.stride
    assert len(scored(events)) == -(-(n_frames - one.card.first_frames) // 10) + 1


def test_a_gap_begins_anew(leaky: Tagger) -> None:
    first, second = music(2.0, seed=3), music(3.0, seed=4)
    engine = Engine({"x": leaky}, sizes=[1])
    events = engine.open("a", 8000) + engine.feed("a", Block(first, 0, 8000))
    events += engine.feed("a", Block(second, 40_000, 8000)) + engine.step()
    after = [e for e in scored(events + engine.close("a")) if e.start >= 40_000]
    fresh = scored(play(Engine({"x": leaky}, sizes=[1]), second, [24_000]))
    np.testing.assert_array_equal([e.values for e in after], [e.values for e in fresh])


def test_another_hop_changes_when_but_not_what(leaky: Tagger) -> None:
    samples = music(6.0, seed=5)
    frames = frames_of(samples, FEATURES)
    engine = Engine({"x": leaky}, sizes=[1])
    events = engine.open("a", 8000)
    for i, hop in enumerate((0.1, 0.05, 0.23, 0.3, 0.1)):
        events += engine.update_settings("a", "x", TaggerSettings(hop_seconds=hop))
        part = samples[i * 9600 : (i + 1) * 9600]
        events += engine.feed("a", Block(part, i * 9600, 8000)) + engine.step()
    found = scored(events)
    assert len(found) > 50
    for event in found:
        want = expected(leaky, frames, end_frame(event.end))
        np.testing.assert_allclose(event.values, want, atol=NEAR)


def test_a_tagger_that_comes_later_begins_with_its_first_window(leaky: Tagger) -> None:
    """It leaves, and returns while another one keeps the frames."""
    samples = music(20.0, seed=6)
    frames = frames_of(samples, FEATURES)
    engine = Engine({"x": leaky, "other": leaky}, sizes=[1], slack=1.0)
    events = engine.open("a", 8000)
    events += engine.feed("a", Block(samples[:48_000], 0, 8000)) + engine.step()
    events += engine.detach("a", "x", Reason.CONFIGURATION)
    events += engine.feed("a", Block(samples[48_000:96_000], 48_000, 8000)) + engine.step()
    engine.attach("a", "x", TaggerSettings())
    events += engine.feed("a", Block(samples[96_000:], 96_000, 8000)) + engine.step()
    back = [e for e in scored(events) if e.tagger == "x" and e.end > 96_000]
    assert len(back) > 70
    trunk = leaky.card.trunk
    assert trunk is not None
    first = (end_frame(back[0].end) // 5 - trunk.columns) * 5
    for event in back:
        want = expected(leaky, frames, end_frame(event.end), first)
        np.testing.assert_allclose(event.values, want, atol=NEAR)


def test_a_tagger_takes_its_state_along_when_it_replaces_another(leaky: Tagger) -> None:
    samples = music(6.0, seed=7)
    frames = frames_of(samples, FEATURES)
    engine = Engine({"old": leaky, "new": leaky}, sizes=[1])
    events = engine.open("a", 8000, taggers={"old": TaggerSettings(), "new": TaggerSettings()})
    events += engine.feed("a", Block(samples[:24_000], 0, 8000)) + engine.step()
    last, first = engine.replace_tagger("old", "new")
    events += last + first
    events += engine.feed("a", Block(samples[24_000:], 24_000, 8000)) + engine.step()
    found = [e for e in scored(events) if e.end > 24_000]
    assert len(found) > 25
    for event in found:
        want = expected(leaky, frames, end_frame(event.end))
        np.testing.assert_allclose(event.values, want, atol=NEAR)


def test_where_windows_were_dropped_it_begins_with_the_next_window(leaky: Tagger) -> None:
    samples = music(8.0, seed=8)
    frames = frames_of(samples, FEATURES)
    engine = Engine({"x": leaky}, lag_policy=LagPolicy.DROP, slack=0.5, sizes=[1])
    events = engine.open("a", 8000)
    for i in range(0, len(samples), 16_000):
        events += engine.feed("a", Block(samples[i : i + 16_000], i, 8000))
        if i % 32_000:
            events += engine.step()
    assert any(type(e).__name__ == "WindowsDropped" for e in events)
    begun, before = 0, 0
    for event in scored(events):
        end = end_frame(event.end)
        if end - before > 50:  # the window's first frames have never been seen
            begun = (end // 5 - 10) * 5
        before = end
        want = expected(leaky, frames, end, begun)
        np.testing.assert_allclose(event.values, want, atol=NEAR)
    assert begun


def test_a_failing_call_does_not_change_the_state(
    leaky: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = music(4.0, seed=9)
    want = values(play(Engine({"x": leaky}, sizes=[1]), samples, [800]))
    real, calls = leaky.head, [0]

    def head(embeddings: np.ndarray) -> np.ndarray:
        calls[0] += 1
        if calls[0] == 15:
            raise RuntimeError("out of luck")
        return real(embeddings)

    engine = Engine({"x": leaky}, sizes=[1])
    monkeypatch.setattr(leaky, "head", head)
    got = values(play(engine, samples, [800]))
    np.testing.assert_allclose(got, np.delete(want, 14, axis=0), atol=NEAR)


def test_a_state_that_is_no_number_is_forgotten(
    leaky: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = music(4.0, seed=11)
    frames = frames_of(samples, FEATURES)
    real, calls = leaky.advance, [0]

    def advance(new: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls[0] += 1
        values, after = real(new, state)
        return (values * np.nan, after * np.nan) if calls[0] == 15 else (values, after)

    engine = Engine({"x": leaky}, sizes=[1])
    monkeypatch.setattr(leaky, "advance", advance)
    found = scored(play(engine, samples, [800]))
    failed = next(i for i, (a, b) in enumerate(itertools.pairwise(found)) if b.end - a.end > 800)
    begun = (end_frame(found[failed + 1].end) // 5 - 10) * 5
    assert failed == 13
    for event in found[14:]:
        want = expected(leaky, frames, end_frame(event.end), begun)
        np.testing.assert_allclose(event.values, want, atol=NEAR)


def test_exact_scores_whole_windows_from_no_state(leaky: Tagger) -> None:
    samples = music(3.0, seed=10)
    frames = frames_of(samples, FEATURES)
    found = scored(play(Engine({"x": leaky}, exact=True), samples, [800]))
    full = [e for e in found if not e.provisional][:-1]
    assert len(full) > 20
    for event in full:
        end = end_frame(event.end)
        np.testing.assert_array_equal(event.values, leaky(frames[None, end - 50 : end])[0])


def test_a_state_that_is_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"in two pieces differ .* correct the state"):
        streaming_tagger(tmp_path, net=Leaky(kept=0.5))


def test_a_bundle_that_cannot_go_on_is_refused(tmp_path: Path, leaky: Tagger) -> None:
    model = StreamingModel(Leaky(), len(TAGS), FEATURES.width).eval()
    save_bundle(path := tmp_path / "x.pt", torch.jit.script(model), leaky.card)
    with pytest.raises(BundleError, match=r"its trunk and head fail[\s\S]*no attribute 'advance'"):
        Tagger.load(path, "cpu")
