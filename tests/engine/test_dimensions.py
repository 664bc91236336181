"""Valence, arousal and their deviations as outputs of a net: from the bundle to the mood."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.streaming_toy import Patches
from support.toy import FEATURES, TAGS, card, events_of, music, tagger
from torch import nn

from streamtag.audio.block import Block
from streamtag.engine.engine import Engine
from streamtag.engine.events import WindowScored
from streamtag.engine.mood import MoodPlane, mood_of_outputs
from streamtag.engine.offline import tag_blocks
from streamtag.engine.settings import TaggerSettings
from streamtag.errors import BundleError
from streamtag.model.bundle import golden_window, read_card
from streamtag.model.card import DIMENSIONS
from streamtag.model.tagger import Tagger
from streamtag.train.exporting.bundle import export
from streamtag.train.exporting.ensemble import mean_of_bundles
from streamtag.train.exporting.front_end import with_front_end
from streamtag.train.nets.model import Gate, model_of

RATE = FEATURES.sample_rate
N = len(TAGS)


def dimensional(
    folder: Path, name: str = "plane", gate: Gate | None = None, open_gate: float = 0.0
) -> Tagger:
    """A streaming bundle with dimensions; `open_gate` is added to the logit of tag 0."""
    net = Patches()
    net.dense = nn.Linear(6, N + 4)
    torch.manual_seed(len(name))
    nn.init.normal_(net.dense.weight, 0, 2.0)
    nn.init.constant_(net.dense.bias[:1], open_gate)
    model = model_of(net.eval(), N, FEATURES.width, gate, 2).eval()
    return tagger(folder, model, name=name, dimensions=DIMENSIONS)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return dimensional(tmp_path_factory.mktemp("plane"))


def scored(model: Tagger, *, exact: bool = False) -> list[WindowScored]:
    engine = Engine({"m": model}, exact=exact)
    events = engine.open("a", RATE)
    events += engine.feed("a", Block(music(4.0), 0, RATE))
    events += engine.close("a")
    return [e for e in events_of(events, "a", "m") if isinstance(e, WindowScored)]


def test_the_card_keeps_them_and_the_golden_answer_has_them(plane: Tagger) -> None:
    assert plane.card.dimensions == DIMENSIONS
    assert plane.card.golden is not None
    assert len(plane.card.golden.probabilities) == N
    window = golden_window(plane.card)
    said = plane.outputs(window)[0]
    assert said[N:] == pytest.approx(plane.card.golden.dimensions, abs=1e-5)
    assert (said[N + 2 :] >= 0.05).all()
    assert plane(window).shape == (1, N)
    np.testing.assert_array_equal(plane(window)[0], said[:N])


def test_another_answer_is_refused_with_the_name_of_the_output(plane: Tagger) -> None:
    golden = plane.card.golden
    assert golden is not None
    wrong = (*golden.dimensions[:3], golden.dimensions[3] + 0.5)
    other = dataclasses.replace(plane.card, golden=dataclasses.replace(golden, dimensions=wrong))
    changed = Tagger(plane._module, other, "", torch.device("cpu"))
    changed.path = Path("x.pt")
    with pytest.raises(BundleError, match=r"by 0.5 for output 'deviation of arousal'"):
        changed(golden_window(other))


def test_the_card_refuses_other_dimensions() -> None:
    with pytest.raises(BundleError, match="dimensions: expected none, or valence, arousal"):
        card(dimensions=("valence",))
    with pytest.raises(BundleError, match=r"golden.dimensions: expected 4 numbers, got 0"):
        card(dimensions=DIMENSIONS, golden={"probabilities": (0.5,) * 3})


def test_a_net_without_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected 3 probabilities and 4 further values"):
        tagger(tmp_path, dimensions=DIMENSIONS)


def test_deviations_must_be_positive(tmp_path: Path) -> None:
    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(x.shape[0], 7) + 0 * x.mean()

    with pytest.raises(BundleError, match=r"expected values in .* positive deviations"):
        export(Sure(), card(dimensions=DIMENSIONS), tmp_path / "sure.pt")


def test_windows_carry_them_whether_by_embeddings_or_whole(plane: Tagger) -> None:
    streamed, whole = scored(plane), scored(plane, exact=True)
    assert [len(e.dimensions) for e in streamed] == [4] * len(whole)
    np.testing.assert_allclose(
        [e.dimensions for e in streamed[:-1]], [e.dimensions for e in whole[:-1]], atol=1e-5
    )
    assert len(streamed[0].values) == N


def test_the_plane_takes_them_instead_of_the_table(plane: Tagger) -> None:
    events = scored(plane)
    (mood, *_) = MoodPlane(plane.card).moods(events)
    valence, arousal, *deviations = events[0].dimensions
    spread = math.sqrt(np.mean(np.square(deviations)))
    assert mood == pytest.approx([valence, arousal, max(0.0, 1 - spread)])


def test_certainty_is_none_where_a_value_may_be_anything_and_whole_where_it_is_exact() -> None:
    unsure, exact, half = mood_of_outputs([[0.1, 0.2, 1, 1], [1, -1, 0, 0], [0, 0, 0.5, 0.5]])
    assert unsure.tolist() == pytest.approx([0.1, 0.2, 0])
    assert exact.tolist() == [1, -1, 1]
    assert half[2] == pytest.approx(0.5)
    assert mood_of_outputs([0, 0, 3, 3])[2] == 0


def test_without_what_the_gate_waits_for_nothing_is_known(tmp_path: Path) -> None:
    """Tag 0 gates: with it improbable, values are near 0 and deviations near 1."""
    window = golden_window(card())
    free = dimensional(tmp_path, "free").outputs(window)[0]
    closed = dimensional(tmp_path, "shut", Gate(0, (1,)), -40.0).outputs(window)[0]
    wide = dimensional(tmp_path, "wide", Gate(0, (1,)), 40.0).outputs(window)[0]
    assert closed[N:] == pytest.approx([0, 0, 1, 1], abs=1e-4)
    assert wide[N:] == pytest.approx(free[N:], abs=1e-4)
    assert abs(free[N]) > 0.01


def test_a_recording_has_a_mood_as_a_whole_and_over_time(plane: Tagger) -> None:
    result = tag_blocks([Block(music(9.0), 0, RATE)], RATE, {"m": plane})["m"]
    assert result.mood is not None
    full = [row.dimensions for row in result.scores if not row.provisional]
    assert result.mood.valence == pytest.approx(np.mean([d[0] for d in full]))
    assert result.mood.arousal == pytest.approx(np.mean([d[1] for d in full]))
    times = [point.t for point in result.mood.over_time]
    assert len(times) == pytest.approx(9, abs=1)
    assert times == sorted(times)
    json.dumps(dataclasses.asdict(result.mood))


def test_a_recording_without_words_for_moods_has_none(tmp_path: Path) -> None:
    plain = tagger(tmp_path, tags=("a", "b", "c"))
    result = tag_blocks([Block(music(2.0), 0, RATE)], RATE, {"m": plain})["m"]
    assert result.mood is None


def test_a_mean_of_bundles_has_them_if_all_have(plane: Tagger, tmp_path: Path) -> None:
    other = dimensional(tmp_path, "other")
    assert plane.path is not None
    assert other.path is not None
    mean_of_bundles([plane.path, other.path], tmp_path / "mean.pt")
    mean, window = Tagger.load(tmp_path / "mean.pt", "cpu"), golden_window(plane.card)
    expected = (plane.outputs(window) + other.outputs(window)) / 2
    np.testing.assert_allclose(mean.outputs(window), expected, atol=1e-5)
    plain = tagger(tmp_path, name="plain").path
    assert plain is not None
    assert mean_of_bundles([plane.path, plain], tmp_path / "less.pt").dimensions == ()


def test_a_model_with_its_own_front_end_gives_them_too(plane: Tagger, tmp_path: Path) -> None:
    assert plane.path is not None
    with_front_end(plane.path, tmp_path / "audio.pt")
    module = torch.jit.load(str(tmp_path / "audio.pt"))  # type: ignore[no-untyped-call]
    said = module(torch.from_numpy(music(3.0))[None])
    assert said.shape[2] == N + 4
    assert list(module.outputs) == list(read_card(plane.path).outputs)


def test_a_model_that_takes_over_brings_its_own(plane: Tagger, tmp_path: Path) -> None:
    """Another model in a tagger's place: the windows after it have other values."""
    engine = Engine({"m": tagger(tmp_path, name="plain")})
    engine.open("a", RATE)
    before = engine.feed("a", Block(music(2.0), 0, RATE)) + engine.step()
    engine.add_tagger(engine.prepare("m~", plane))
    engine.attach("a", "m~", TaggerSettings())
    engine.feed("a", Block(music(4.0, seed=1), 2 * RATE, RATE))
    engine.step()
    engine.replace_tagger("m", "m~")
    after = engine.feed("a", Block(music(1.0), 6 * RATE, RATE)) + engine.close("a")
    for events, n in ((before, 0), (after, 4)):
        assert {len(e.dimensions) for e in events if isinstance(e, WindowScored)} == {n}
