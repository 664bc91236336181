"""The instruments model: small, whole, honest on its card, and quiet where there is no music."""

import numpy as np
import pytest
from support.paths import ROOT

from streamtag.audio.block import Block
from streamtag.audio.front_end import frames_of
from streamtag.engine.offline import TaggerResult, tag_blocks
from streamtag.model.bundle import checksum
from streamtag.model.tagger import Tagger
from streamtag.sources.file import FileSource
from streamtag.train.evaluation.live import false_alarms
from streamtag.train.recipes.file import load_recipe, to_dict
from streamtag.train.synthesis.prepared import judged_sets

DATA = ROOT.parent / "shared" / "data"
BUNDLE = ROOT / "models" / "instruments-1.pt"


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load(BUNDLE, "cpu")


def tagged(tagger: Tagger, samples: np.ndarray, rate: int = 22050) -> TaggerResult:
    return tag_blocks([Block(samples, 0, rate)], rate, {"model": tagger})["model"]


def piece() -> tuple[np.ndarray, int]:
    source = FileSource(ROOT / "demo" / "piece.ogg")
    return np.concatenate([block.samples for block in source]), source.rate


def test_it_is_small_and_its_table_is_of_this_very_file(tagger: Tagger) -> None:
    path = BUNDLE
    table = (path.parent / "README.md").read_text()
    assert path.stat().st_size <= 4_000_000
    assert checksum(path) in table
    assert f"{path.stat().st_size:,}" in table
    assert tagger.card.name in table


def test_its_card_has_data_licence_and_scores_on_what_it_never_saw(tagger: Tagger) -> None:
    card = tagger.card
    assert "CC BY-SA" in card.data
    assert card.licence
    assert card.description
    recipe = load_recipe("instruments")
    assert set(judged_sets(recipe)) <= set(card.scores)
    assert card.scores["false alarms, noise and speech"]["hours"] > 0.1
    judged = card.scores["unseen pieces, known soundfonts"]["tags"]
    for row in judged.values():
        assert row["pr_auc"] > row["prior"]
    assert card.features == recipe.features
    assert card.tags == recipe.tags
    assert card.extra["recipe"]["mixtures"] == _plain(to_dict(recipe)["mixtures"])


def test_silence_and_noise_switch_nothing_on(tagger: Tagger) -> None:
    rng = np.random.default_rng(0)
    n = 20 * 22050
    assert tagged(tagger, np.zeros(n, np.float32)).events == ()
    for level in (1e-4, 1e-2, 0.3):
        hiss = (level * rng.standard_normal(n)).astype(np.float32).clip(-1, 1)
        assert tagged(tagger, hiss).events == (), level


def test_the_level_matters_little(tagger: Tagger) -> None:
    """Ten decibels less: what is on stays on, in all but a few windows."""
    samples, rate = piece()
    loud = tagged(tagger, samples, rate)
    soft = tagged(tagger, samples * np.float32(10 ** (-10 / 20)), rate)
    one = np.array([row.values for row in loud.scores])
    other = np.array([row.values for row in soft.scores])
    assert float(np.abs(one - other).mean()) < 0.05
    assert float(((one > 0.5) == (other > 0.5)).mean()) > 0.95


def test_batches_and_single_windows_agree(tagger: Tagger) -> None:
    samples, rate = piece()
    frames = frames_of(samples[: 20 * rate], tagger.card.features)  # at a wrong rate: never mind
    size = tagger.card.window_frames
    windows = np.stack([frames[i : i + size] for i in range(0, 600, 60)])
    single = np.concatenate([tagger(window[None]) for window in windows])
    assert tagger(windows) == pytest.approx(single, abs=1e-4)


def test_speech_and_noise_seldom_sound_like_instruments(tagger: Tagger) -> None:
    """The card's figure can be had again from the same sounds."""
    if not (DATA / "esc10").is_dir():
        pytest.skip(f"{DATA} is not on this machine")
    stated = tagger.card.scores["false alarms, noise and speech"]["events_per_hour"]
    again = false_alarms(tagger, DATA)["events_per_hour"]
    assert again == pytest.approx(stated, abs=0.1 * stated + 10)


def _plain(table: dict[str, object]) -> dict[str, object]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in table.items()}
