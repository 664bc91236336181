"""Recipes: strict reading, errors that name the file and the key."""

import dataclasses
from pathlib import Path

import pytest

from streamtag.card import PastPadding
from streamtag.errors import RecipeError
from streamtag.train.nets import NETS
from streamtag.train.recipe import RECIPES, load_recipe, to_dict

TEXT = (RECIPES / "instruments.toml").read_text()


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in TEXT
    path = tmp_path / "changed.toml"
    path.write_text(TEXT.replace(old, new, 1))
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_that_comes_along_is_whole(path: Path) -> None:
    recipe = load_recipe(path)
    assert load_recipe(path.stem) == recipe
    assert recipe.net in NETS
    assert recipe.licence
    assert recipe.data
    assert recipe.padding is PastPadding.SILENCE
    assert 0.4 <= recipe.hop_frames / recipe.features.frame_rate <= 0.6


def test_the_recipe_of_the_shipped_model_has_no_training_data_among_its_unseen_soundfonts() -> None:
    mixtures = load_recipe("instruments").mixtures
    assert mixtures.unseen_soundfonts
    assert not set(mixtures.soundfonts) & set(mixtures.unseen_soundfonts)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("peak_lr", "peak_rl", "unknown key fit.peak_rl; known here: epochs, batch_size"),
        ("epochs = ", "# epochs = ", "missing key fit.epochs"),
        ("seed = 1", "seed = 1.5", "seed: expected int, got 1.5"),
        ("seed = 1", "seed = true", "seed: expected int, got True"),
        ('padding = "silence"', 'padding = "zeros"', "padding: expected one of silence, zero"),
        ('padding = "silence"', 'padding = "wrap"', "padding: expected 'silence'"),
        ('"piano", ', "1, ", r"tags\[0\]: expected str, got 1"),
        ('"piano", ', '"drums", ', "tags: expected at least one, none twice"),
        ("n_fft = 1024", "n_fft = 1000", "features: n_fft: expected a power of two"),
        ("hop = 512", "hopp = 512", "features: unknown key 'hopp'"),
        ("first_frames = 42", "first_frames = 999", "first_frames: expected 1 to window_frames"),
        ("warmup = 0.1", "warmup = 1.0", "fit.warmup: expected a share"),
        ("off_ratio = ", "off_ratio = 9 #", "thresholds.off_ratio: expected a ratio"),
        ('net = "small"', 'net = "small', "expected TOML, got"),
    ],
)
def test_a_slip_is_named_with_file_and_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(RecipeError, match=f"changed.toml: {words}"):
        load_recipe(path)


def test_a_missing_file_says_which_recipes_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing.toml: expected a recipe, got: .*instruments"):
        load_recipe(tmp_path / "nothing.toml")
    with pytest.raises(RecipeError, match=r"piano\.toml: expected a recipe"):
        load_recipe("piano")


def test_integers_serve_as_numbers_but_nothing_else_is_converted(tmp_path: Path) -> None:
    recipe = load_recipe(changed(tmp_path, "phrase_seconds = 14", "phrase_seconds = 15"))
    assert recipe.mixtures.phrase_seconds == 15.0
    assert isinstance(recipe.mixtures.phrase_seconds, float)


def test_a_recipe_is_a_value() -> None:
    recipe = load_recipe("instruments")
    assert hash(recipe) == hash(load_recipe("instruments"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 2  # type: ignore[misc]
    assert to_dict(recipe)["features"]["n_mels"] == recipe.features.n_mels
