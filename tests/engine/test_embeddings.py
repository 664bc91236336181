"""Streaming nets: embeddings are computed once, and the events are those of whole windows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.streaming_toy import Boastful, streaming_tagger
from support.toy import FEATURES, TAGS, alone, cut, events_of, music, tagger

from streamtag.audio.block import Block
from streamtag.audio.front_end import frames_of
from streamtag.engine.embeddings import EmbeddingBuffer, Stretch, cheap_sizes
from streamtag.engine.engine import Engine, LagPolicy
from streamtag.engine.events import Event, Reason, TagEnded, TagStarted, WindowScored
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import BundleError
from streamtag.model.card import PastPadding
from streamtag.model.tagger import Tagger
from streamtag.train.nets.model import StreamingModel

SIZES = [1, 2, 4]
NEAR = 1e-5
"""Largest difference of two probabilities of one window."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """Without context; its windows and hops are whole strides, so it equals whole windows."""
    return streaming_tagger(tmp_path_factory.mktemp("plain"), on_thresholds=(0.5,) * 3)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """With seven frames of context on both sides, and windows of 63 frames."""
    folder = tmp_path_factory.mktemp("wide")
    return streaming_tagger(
        folder, 7, window_frames=63, hop_frames=7, first_frames=21, padding=PastPadding.WRAP
    )


def whole_strides(seconds: float, seed: int = 0) -> np.ndarray:
    """Music whose frames are a multiple of 5, so that the last window ends with an embedding."""
    return music(seconds + 1, seed=seed)[: 400 * round(20 * seconds) + 176]


def play(engine: Engine, name: str, samples: np.ndarray, sizes: list[int]) -> list[Event]:
    """Opens a stream, feeds it in blocks, and closes it."""
    events = engine.open(name, 8000)
    for block in cut(samples, 8000, sizes):
        events += engine.feed(name, block)
        events += engine.step()
    return events + engine.close(name)


def values(events: list[Event], stream: str = "a") -> np.ndarray:
    """(n_windows, n_tags) probabilities."""
    return np.array(
        [e.values for e in events if isinstance(e, WindowScored) and e.stream == stream]
    )


def switches(events: list[Event]) -> list[tuple[object, ...]]:
    """What went on and off, and where."""
    return [
        (type(e).__name__, e.stream, e.tag, e.at, e.decided)
        for e in events
        if isinstance(e, TagStarted | TagEnded)
    ]


def assert_same(got: list[Event], expected: list[Event]) -> None:
    assert [type(e) for e in got] == [type(e) for e in expected]
    names = sorted({e.stream for e in expected})
    for name in names:
        np.testing.assert_allclose(values(got, name), values(expected, name), atol=NEAR)
    assert switches(got) == switches(expected)
    assert switches(expected)


def test_the_card_says_what_the_trunk_needs(plain: Tagger, wide: Tagger) -> None:
    assert plain.card.trunk is not None
    assert wide.card.trunk is not None
    assert (plain.card.trunk.stride, plain.card.trunk.left, plain.card.trunk.right) == (5, 0, 0)
    assert (wide.card.trunk.left, wide.card.trunk.right, wide.card.trunk.columns) == (7, 7, 12)


@pytest.mark.parametrize("sizes", [[1], SIZES])
def test_without_context_it_equals_whole_windows(plain: Tagger, sizes: list[int]) -> None:
    """The first windows too, whose past is padded, and the last one."""
    samples = whole_strides(4.0)
    found = [
        play(Engine({"x": plain}, exact=exact, sizes=sizes), "a", samples, [800])
        for exact in (False, True)
    ]
    assert len(values(found[0])) > 35
    assert_same(*found)


def run_a_day(engine: Engine) -> list[Event]:
    """Two streams with a gap, other settings, and a tagger that leaves and returns."""
    events = engine.open("a", 8000) + engine.open("b", 8000)
    one, two = music(6.0, seed=1), music(6.0, seed=2)
    for i in range(0, 16000, 640):
        events += engine.feed_many(
            [("a", Block(one[i : i + 640], i, 8000)), ("b", Block(two[i : i + 640], i, 8000))]
        )
        events += engine.step()
    events += engine.update_settings("a", "x", TaggerSettings(hop_seconds=0.05))
    events += engine.detach("b", "x", Reason.CONFIGURATION)
    events += engine.feed("a", Block(one[16000:20176], 16000, 8000)) + engine.step()
    events += engine.feed("b", Block(two[16000:19000], 16000, 8000)) + engine.step()
    engine.attach("b", "x", TaggerSettings())
    events += engine.feed("a", Block(one[24000:36176], 24000, 8000)) + engine.step()  # a gap
    events += engine.update_settings("a", "x", TaggerSettings(hop_seconds=0.3))
    events += engine.feed("b", Block(two[19000:40176], 19000, 8000)) + engine.step()
    events += engine.mark_lost("a")
    events += engine.feed("a", Block(one[36176:44352], 36176, 8000)) + engine.step()
    return events + engine.close_many(["a", "b"])


def test_gaps_settings_and_taggers_that_come_and_go(plain: Tagger) -> None:
    keep = {"x": plain, "other": plain}  # the front end of b stays while x is away
    found = [run_a_day(Engine(keep, exact=exact)) for exact in (False, True)]
    got, expected = ([e for e in events if getattr(e, "tagger", "") == "x"] for events in found)
    assert_same(got, expected)
    assert len(values(got)) >= 60


@pytest.mark.parametrize("context", [0, 7])
def test_any_cutting_and_any_company_give_the_same(
    plain: Tagger, wide: Tagger, context: int
) -> None:
    one = {"x": wide if context else plain}
    samples = music(3.0, seed=4)
    whole = play(Engine(one, sizes=[1]), "a", samples, [len(samples)])
    rng = np.random.default_rng(0)
    pieces = play(Engine(one, sizes=[1]), "a", samples, [int(n) for n in rng.integers(1, 3000, 40)])
    np.testing.assert_array_equal(values(pieces), values(whole))
    assert events_of(pieces, "a", "x") == events_of(whole, "a", "x")
    engine = Engine(one, sizes=SIZES)
    events = [e for k in range(5) for e in engine.open(f"s{k}", 8000)] + engine.open("a", 8000)
    for i in range(0, len(samples), 1000):
        blocks = [(f"s{k}", Block(music(3.0, seed=k)[i : i + 1000], i, 8000)) for k in range(5)]
        events += engine.feed_many([*blocks, ("a", Block(samples[i : i + 1000], i, 8000))])
        events += engine.step(0.0) if i % 3000 else engine.step()
    events += engine.close("a")
    np.testing.assert_allclose(values(events), values(whole), atol=NEAR)


def test_inside_a_stream_windows_see_their_real_neighbours(wide: Tagger) -> None:
    """A window's embeddings are those of one call over everything up to its end."""
    samples = music(4.0, seed=5)
    events = alone({"x": wide}, samples, 8000)
    frames = frames_of(samples, FEATURES)
    trunk = wide.card.trunk
    assert trunk is not None
    found = [e for e in events if isinstance(e, WindowScored) and not e.provisional]
    assert len(found) > 30
    for i, event in enumerate(found[:-1]):
        n_frames = 63 + 7 * i
        strides = n_frames // trunk.stride
        every = wide.trunk(frames[None, : strides * trunk.stride])[:, -trunk.columns :]
        expected = wide.head(np.ascontiguousarray(every))[0]
        np.testing.assert_allclose(event.values, expected, atol=NEAR)


def counted(monkeypatch: pytest.MonkeyPatch, one: Tagger) -> list[tuple[str, int]]:
    """Notes which part of a tagger is called, and with how many frames or embeddings."""
    calls: list[tuple[str, int]] = []

    def note(name: str, real: Callable[[np.ndarray], np.ndarray]) -> None:
        def call(inputs: np.ndarray) -> np.ndarray:
            calls.append((name, inputs.shape[1]))
            return real(inputs)

        monkeypatch.setattr(one, name, call)

    note("trunk", one.trunk)
    note("head", one.head)
    return calls


def test_each_stretch_goes_through_the_trunk_once(
    monkeypatch: pytest.MonkeyPatch, plain: Tagger, wide: Tagger
) -> None:
    for one, once in ((plain, {10}), (wide, {25, 30})):  # context, new ones, and not final yet
        engine = Engine({"x": one}, sizes=[1])
        with monkeypatch.context() as patch:
            calls = counted(patch, one)
            events = play(engine, "a", music(6.0), [800])
        lengths = [n for name, n in calls if name == "trunk"]
        assert set(lengths[12:-1]) == once
        assert [name for name, _ in calls].count("head") == len(values(events))


def test_a_hop_that_is_too_long_uses_whole_windows(plain: Tagger) -> None:
    settings = {"x": TaggerSettings(hop_seconds=0.7)}
    found = []
    for exact in (False, True):
        engine = Engine({"x": plain}, exact=exact)
        events = engine.open("a", 8000, taggers=settings)
        events += engine.feed("a", Block(whole_strides(6.0), 0, 8000)) + engine.step()
        found.append(values(events + engine.close("a")))
    np.testing.assert_allclose(*found, atol=NEAR)
    assert len(found[0]) > 7


def test_padding_that_has_no_embedding_uses_whole_windows(tmp_path: Path) -> None:
    one = streaming_tagger(tmp_path, padding=PastPadding.MINIMUM)
    found = [
        play(Engine({"x": one}, exact=exact), "a", whole_strides(2.0), [800])
        for exact in (False, True)
    ]
    np.testing.assert_allclose(values(found[0]), values(found[1]), atol=NEAR)


def test_windows_that_were_dropped_leave_no_hole(plain: Tagger) -> None:
    """A model that is too slow: what is scored is still right."""
    samples, found = whole_strides(8.0, seed=6), []
    for exact in (False, True):
        engine = Engine({"x": plain}, exact=exact, lag_policy=LagPolicy.DROP, slack=0.5)
        events = engine.open("a", 8000)
        for i in range(0, len(samples), 16000):
            events += engine.feed("a", Block(samples[i : i + 16000], i, 8000))
            if i % 32000:
                events += engine.step()
        found.append(events + engine.close("a"))
    assert any(type(e).__name__ == "WindowsDropped" for e in found[0])
    np.testing.assert_allclose(values(found[0]), values(found[1]), atol=NEAR)
    assert len(values(found[0])) > 10


def test_a_failing_call_costs_its_window_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, plain: Tagger
) -> None:
    samples = music(4.0, seed=7)
    expected = values(play(Engine({"x": plain}, sizes=[1]), "a", samples, [800]))
    real, calls = plain.head, [0]

    def head(embeddings: np.ndarray) -> np.ndarray:
        calls[0] += 1
        if calls[0] == 15:
            raise RuntimeError("out of luck")
        return real(embeddings)

    engine = Engine({"x": plain}, sizes=[1])
    monkeypatch.setattr(plain, "head", head)
    got = values(play(engine, "a", samples, [800]))
    np.testing.assert_allclose(got, np.delete(expected, 14, axis=0), atol=NEAR)


def test_a_net_that_needs_more_context_than_it_says_is_refused(tmp_path: Path) -> None:
    net = StreamingModel(Boastful().eval(), len(TAGS), FEATURES.width).eval()
    with pytest.raises(BundleError, match=r"embedding \d+ alone differs .* correct the reach"):
        tagger(tmp_path, net)


def test_the_stretches_of_a_stream(wide: Tagger) -> None:
    """Embedding k of this net is final two strides later, and needs two before it."""
    buffer = EmbeddingBuffer(wide.card, 7)
    assert buffer.missing(63, range(0)) == Stretch(0, 12, 0)
    assert buffer.missing(70, range(10)) == Stretch(10, 14, 2)
    assert buffer.frames(Stretch(10, 14, 2)) == (40, 30)
    assert buffer.frames(Stretch(14, 14, 2)) == (60, 0)
    assert buffer.missing(200, range(20)) == Stretch(28, 40, 0)  # too much is missing
    assert buffer.final(14) == 12


def test_batches_on_a_cpu_are_powers_of_two(plain: Tagger) -> None:
    sizes = cheap_sizes(plain, 10, 16)
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert set(sizes) <= {1, 2, 4, 8, 16}
