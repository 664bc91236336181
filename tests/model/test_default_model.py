"""The model that comes along: small, quick to answer, honest on its card, sane on air."""

from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT, SHARED

from streamtag.audio.block import Block
from streamtag.audio.feature_config import FeatureConfig
from streamtag.engine.mood import mood_of_outputs
from streamtag.engine.offline import TaggerResult, tag_blocks
from streamtag.model.bundle import checksum
from streamtag.model.shipped import default_bundle
from streamtag.model.tagger import Tagger
from streamtag.sources.file import FileSource
from streamtag.train.data.vocabulary import CATEGORIES, read_vocabulary
from streamtag.train.evaluation.thresholds import SOUND_KINDS
from streamtag.train.recipes.file import from_dict, load_recipe

MUSIC = SHARED / "data" / "music"
RATE = 22050


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load(default_bundle(), "cpu")


def tagged(tagger: Tagger, samples: np.ndarray, rate: int = RATE) -> TaggerResult:
    return tag_blocks([Block(samples, 0, rate)], rate, {"m": tagger})["m"]


def audio(path: Path, seconds: float = 40) -> tuple[np.ndarray, int]:
    source = FileSource(path)
    samples = np.concatenate([block.samples for block in source])
    return samples[: round(seconds * source.rate)], source.rate


def shared(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


def share_on(result: TaggerResult, tag: str) -> float:
    """Of the recording during which a tag is on."""
    return sum(e.off - e.on for e in result.events if e.tag == tag) / result.seconds


def content(result: TaggerResult) -> list[str]:
    return [event.tag for event in result.events if event.tag not in SOUND_KINDS]


def arousal_and_valence(tagger: Tagger, path: Path) -> tuple[float, float]:
    result = tagged(tagger, *audio(path))
    found = mood_of_outputs([row.dimensions for row in result.scores])
    valence, arousal, _ = np.mean(found, axis=0)
    return float(arousal), float(valence)


BUNDLES = sorted(default_bundle().parent.glob("*.pt"))


@pytest.mark.parametrize("path", BUNDLES, ids=[path.stem for path in BUNDLES])
def test_a_bundle_is_small_and_its_table_is_of_this_very_file(path: Path) -> None:
    table = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    assert path.stat().st_size <= 8_000_000
    assert checksum(path) in table
    assert f"{path.stat().st_size:,}" in table
    assert Tagger.load(path, "cpu").card.name == path.stem


def test_the_small_one_has_the_same_tags_and_hears_each_second_once(tagger: Tagger) -> None:
    card = Tagger.load(default_bundle().with_name("general-2-small.pt"), "cpu").card
    assert card.tags == tagger.card.tags
    assert card.dimensions == tagger.card.dimensions
    assert card.categories == tagger.card.categories
    assert not {"singing", "speech", "music"} & set(card.off_by_default)
    assert card.hop_seconds <= 2.0
    assert card.trunk is not None
    assert (card.trunk.right, card.trunk.short) == (0, 0)  # no segment overlaps another one
    assert card.trunk.stride == card.hop_frames


@pytest.mark.parametrize("name", ["general-2", "general-2-small", "general-2-free"])
def test_it_answers_after_a_second_and_then_at_least_every_two(name: str) -> None:
    tagger = Tagger.load(default_bundle().with_name(f"{name}.pt"), "cpu")
    assert tagger.card.window_seconds <= 10.0
    rate = tagger.card.features.sample_rate
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 5 * rate).astype(np.float32)
    scores = tag_blocks([Block(noise, 0, rate)], rate, {"m": tagger})["m"].scores
    ends = np.array([row.end for row in scores])
    assert 0.9 < ends[0] < 1.05
    assert np.diff(ends).max() < 2.0
    assert all(row.provisional for row in scores)


def test_every_tag_has_a_category_and_comes_from_the_recipes_vocabulary(tagger: Tagger) -> None:
    card, recipe = tagger.card, load_recipe("general-2")
    words = read_vocabulary("general-2")
    assert card.tags == tuple(word.tag for word in words)
    assert card.dimensions == ("valence", "arousal")
    assert card.categories == {word.tag: word.category for word in words}
    assert set(card.categories.values()) <= set(CATEGORIES)
    assert set(SOUND_KINDS) <= set(card.tags) - set(card.off_by_default)
    assert recipe.distil is not None
    assert from_dict(card.extra["recipe"]).distil == recipe.distil
    assert FeatureConfig(**card.extra["recipe"]["features"]) == recipe.features


def test_its_card_describes_purpose_and_data(tagger: Tagger) -> None:
    card = tagger.card
    for word in ("EfficientAT", "MTG-Jamendo", "MagnaTagATune", "Philharmonia", "EMOPIA", "CC BY"):
        assert word in card.data, word
    assert "non-commercial" in card.licence
    assert "Florian Schmid" in card.licence
    assert "not" in card.description
    assert card.scores["false alarms, noise and speech"]["hours"] > 0.1
    test = card.scores["music, unseen sources"]
    assert test["roc_auc"] > 0.9
    assert test["pr_auc"] > 2 * test["prior"]


def test_what_the_evidence_does_not_support_is_off_by_default(tagger: Tagger) -> None:
    card = tagger.card
    believed, rules = card.scores["validation"]["tags"], load_recipe("general-2").thresholds
    for tag, on in zip(card.tags, card.on_thresholds, strict=True):
        if on < rules.smallest_threshold:
            assert tag in card.off_by_default, tag
        row = believed.get(tag)
        if row is None or row["roc_auc"] < 0.6 or row["pr_auc"] <= row["prior"]:
            assert tag in card.off_by_default, tag
        if card.scores["validation f1"][tag] < rules.smallest_f1:
            assert tag in card.off_by_default, tag
    moods = {tag for tag, category in card.categories.items() if category == "mood/theme"}
    assert not moods & set(card.off_by_default)
    assert {"singing", "speech"} <= set(card.tags) - set(card.off_by_default)


def test_silence_is_silence(tagger: Tagger) -> None:
    result = tagged(tagger, np.zeros(20 * RATE, np.float32))
    assert {event.tag for event in result.events} == {"silence"}
    assert share_on(result, "silence") > 0.85


def test_noise_is_not_music(tagger: Tagger) -> None:
    rng = np.random.default_rng(0)
    for level in (1e-2, 0.3):
        hiss = (level * rng.standard_normal(20 * RATE)).astype(np.float32).clip(-1, 1)
        result = tagged(tagger, hiss)
        assert share_on(result, "music") < 0.2, level
        assert len(content(result)) <= 1, (level, content(result))


def test_speech_is_speech(tagger: Tagger) -> None:
    """A reading: nobody learned from it, but that an earlier model failed on it was seen."""
    samples = np.load(shared(SHARED / "data" / "weights" / "sota" / "speech_16k.npy"))
    result = tagged(tagger, samples.astype(np.float32), 16000)
    assert share_on(result, "speech") > 0.6
    assert share_on(result, "music") < 0.3


def test_music_is_music(tagger: Tagger) -> None:
    result = tagged(tagger, *audio(ROOT / "demo" / "piece.ogg", 75))
    assert share_on(result, "music") > 0.8
    assert share_on(result, "speech") < 0.1


def test_ten_decibels_change_little(tagger: Tagger) -> None:
    samples, rate = audio(ROOT / "demo" / "piece.ogg", 75)
    on = np.array(tagger.card.on_thresholds)
    one, other = (
        np.array([row.smoothed for row in tagged(tagger, samples * np.float32(gain), rate).scores])
        for gain in (1, 10 ** (-10 / 20))
    )
    assert float(np.abs(one - other).mean()) < 0.05
    assert float(((one >= on) == (other >= on)).mean()) > 0.95


def test_calm_piano_against_loud_metal(tagger: Tagger) -> None:
    calm = shared(MUSIC / "Bertram25-ValyriaTear__sad_moment.opus")
    metal = shared(next(MUSIC.glob("Draevon-space-station-14__*.opus")))
    calm_arousal, _ = arousal_and_valence(tagger, calm)
    metal_arousal, _ = arousal_and_valence(tagger, metal)
    assert calm_arousal < -0.1
    assert metal_arousal > 0.2
