"""Recipes: strict reading, errors that name the file and the key, variants of variants."""

import dataclasses
import json
from pathlib import Path

import pytest

from streamtag.errors import RecipeError
from streamtag.model.card import PastPadding
from streamtag.train.recipes.file import (
    RECIPES,
    find_recipe,
    from_dict,
    known_recipes,
    load_any,
    load_recipe,
    read_table,
    to_dict,
)
from streamtag.train.recipes.recipe import Cut, Ensemble, Schedule

TEXT = (RECIPES / "instruments.toml").read_text(encoding="utf-8")


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in TEXT
    path = tmp_path / "changed.toml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    return path


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


# -- reading ---------------------------------------------------------------------------------------


def test_the_recipe_of_the_shipped_model_is_read() -> None:
    recipe = load_recipe("instruments")
    assert recipe.name == "instruments-1"
    assert recipe.net.name == "small"
    assert recipe.padding is PastPadding.SILENCE
    assert recipe.fit.stages[0].schedule is Schedule.COSINE
    assert recipe.recordings.train is Cut.RANDOM
    assert 0.4 <= recipe.hop_frames / recipe.features.frame_rate <= 0.6
    mixtures = recipe.mixtures
    assert mixtures is not None
    assert mixtures.unseen_soundfonts
    assert not set(mixtures.soundfonts) & set(mixtures.unseen_soundfonts)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "batch_size",
            "batch_sise",
            "unknown key fit.batch_sise; allowed here: batch_size",
        ),
        ("batch_size = ", "# batch_size = ", "missing key fit.batch_size"),
        ("epochs = ", "# epochs = ", "missing key fit.stages.0.epochs"),
        ("lr = 3e-3", 'lr = "fast"', "fit.stages.0.lr: expected a valid number, got 'fast'"),
        ("lr = 3e-3", "lr = 0.0", "fit.stages.0.lr: expected greater than 0, got 0.0"),
        (
            '"adamw"',
            '"lion"',
            "fit.stages.0.optimizer: expected 'adam', 'amsgrad'",
        ),
        ('"cosine"', '"sine"', "fit.stages.0.schedule: expected 'constant', 'cosine'"),
        ("warmup = 0.1", "warmup = 1.0", "fit.stages.0.warmup: expected less than 1, got 1.0"),
        (
            "lr = 3e-3",
            "lr = 3e-3\nkeep_optimizer = true",
            "fit.stages.0.keep_optimizer: expected fal",
        ),
        (
            "batch_size = ",
            "trainings = 2\nper_tag = true\nbatch_size = ",
            "fit.trainings: expected 1 with fit.per_tag",
        ),
        (
            "batch_size = ",
            "trainings = 0\nbatch_size = ",
            "fit.trainings: expected greater than or equal",
        ),
        ("[[fit.stages]]", "[fit.stages]", "fit.stages: expected a valid array, got"),
        (
            'select = "pr_auc"',
            'select = "f1"',
            "fit.select: expected 'pr_auc', 'roc_auc'",
        ),
        ("seed = 1", "seed = 1.5", "seed: expected a valid integer, got 1.5"),
        ("seed = 1", "seed = true", "seed: expected a valid integer, got True"),
        ('padding = "silence"', 'padding = "zeros"', "padding: expected 'silence', 'zero'"),
        ('padding = "silence"', 'padding = "wrap"', "padding: expected 'silence'"),
        ('"piano", ', "1, ", "tags.0: expected a valid string, got 1"),
        ('"piano", ', '"drums", ', "tags: expected no name twice"),
        ("n_fft = 1024", "n_fft = 1000", "features.n_fft: expected a power of two"),
        ("hop = 512", "hopp = 512", "unknown key features.hopp; allowed here"),
        ("first_frames = 42", "first_frames = 999", "first_frames: expected 1 to window_frames"),
        (
            "off_ratio = ",
            "off_ratio = 9 #",
            "thresholds.off_ratio: expected less than",
        ),
        (
            "[thresholds]",
            '[thresholds]\nrule = "best"',
            "thresholds.rule: expected 'f_beta'",
        ),
        (
            "[thresholds]",
            "[thresholds]\nsettled_odds_of = { instruments = 20.0 }",
            "thresholds.settled_odds_of.instruments: expected one of kind, voice, genre",
        ),
        ('name = "small"', "size = 3", "net: expected a table with a name, got"),
        ("[augment]", "[augment]\ncrop_area = [0.8]", "missing key augment.crop_area.1"),
        (
            "[augment]",
            '[augment]\ncodecs = ["mp3:64"]',
            "augment.audio_variants: expected at least 1",
        ),
        (
            "[augment]",
            "[recordings]\nside = 3\n[augment]\nmixup_alpha = 0.3",
            "augment.mixup_alpha: expected 0 with recordings.side",
        ),
        (
            "[augment]",
            '[augment]\ncodecs = "mp3"',
            "augment.codecs: expected a valid array",
        ),
        ('log = "ln"', 'log = "db"', "features.log: expected 'ln', which augment.mix_share"),
        ("seed = 1", "seed = 1 1", "expected TOML, got"),
        ("seed = 1", 'like = "changed"', "like: expected a recipe that does not lead back"),
    ],
)
def test_a_slip_is_named_with_file_and_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(RecipeError, match=f"changed.toml: {words}"):
        load_recipe(path)


def test_the_error_of_a_missing_file_lists_the_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing.toml: expected a recipe, got: .*instruments"):
        load_recipe(tmp_path / "nothing.toml")
    with pytest.raises(RecipeError, match=r"piano\.toml: expected a recipe"):
        load_recipe("piano")


def test_integers_serve_as_numbers_but_nothing_else_is_converted(tmp_path: Path) -> None:
    recipe = load_recipe(changed(tmp_path, "phrase_seconds = 14", "phrase_seconds = 15"))
    assert recipe.mixtures is not None
    assert recipe.mixtures.phrase_seconds == 15.0
    assert isinstance(recipe.mixtures.phrase_seconds, float)


@pytest.mark.parametrize("name", known_recipes())
def test_a_recipe_is_a_value_that_survives_json(name: str) -> None:
    recipe = load_any(name)
    assert load_any(find_recipe(name)) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.name = "other"  # type: ignore[misc]
    if not isinstance(recipe, Ensemble):
        assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


# -- changes from the command line -----------------------------------------------------------------


def test_changes_replace_values_of_the_file() -> None:
    recipe = load_recipe(
        "amlag-2",
        ("fit.batch_size=2", "fit.stages.1.lr=0.5", "augment.crop_literal=true", "name=mine",
         "recordings.subset=", "fit.stages.0.schedule=plateau", "net.more=[1, 2]"),
    )  # fmt: skip
    assert recipe.fit.batch_size == 2
    assert [stage.lr for stage in recipe.fit.stages] == [1e-4, 0.5, 1e-4, 1e-5]
    assert recipe.augment.crop_literal
    assert recipe.name == "mine"
    assert recipe.recordings.subset == ""
    assert recipe.fit.stages[0].schedule is Schedule.PLATEAU
    assert recipe.net.options["more"] == [1, 2]


def test_a_wrong_change_is_refused_as_if_it_stood_in_the_file() -> None:
    with pytest.raises(RecipeError, match=r"vggish.toml: unknown key fit.batch; allowed here"):
        load_recipe("vggish", ("fit.batch=2",))
    with pytest.raises(RecipeError, match=r"fit.batch_size: expected a valid integer, got 'two'"):
        load_recipe("vggish", ("fit.batch_size=two",))
    with pytest.raises(RecipeError, match=r"fit.batch_size 2: expected KEY=VALUE"):
        load_recipe("vggish", ("fit.batch_size 2",))
    for key in ("fit.stages.9.lr", "fit.stages.last.lr", "fit.stages.9", "seed.lr", "name.a.b"):
        with pytest.raises(RecipeError, match=rf"{key}=1: expected a key of the recipe, got"):
            load_recipe("amlag-2", ("seed=1", f"{key}=1"))


# -- like ------------------------------------------------------------------------------------------


def test_a_variant_inherits_everything_else(tmp_path: Path) -> None:
    path = written(
        tmp_path, "mine", 'like = "innsbruck-run-5"\nname = "mine"\n[fit]\nbatch_size = 8'
    )
    mine, other = load_recipe(path), load_recipe("innsbruck-run-5")
    assert mine.fit == dataclasses.replace(other.fit, batch_size=8)
    assert dataclasses.replace(
        mine, name=other.name, fit=other.fit, run=other.run, published=other.published
    ) == other  # fmt: skip


def test_published_scores_are_not_inherited(tmp_path: Path) -> None:
    path = written(tmp_path, "mine", 'like = "innsbruck-run-5"\nname = "mine"')
    mine = load_recipe(path)
    assert (mine.run, dict(mine.published)) == ("", {})
    assert mine.paper == load_recipe("innsbruck-run-5").paper


def test_another_net_does_not_inherit_options_and_lists_are_replaced(tmp_path: Path) -> None:
    path = written(tmp_path, "mine", 'like = "innsbruck-run-5"\nname = "m"\n[net]\nname = "vggish"')
    assert dict(load_recipe(path).net.options) == {}
    stages = "[[fit.stages]]\nepochs = 3\nlr = 0.1"
    path = written(tmp_path, "other", f'like = "amlag-2"\nname = "m"\n{stages}')
    assert [(stage.epochs, stage.lr) for stage in load_recipe(path).fit.stages] == [(3, 0.1)]


def test_a_recipe_beside_the_file_comes_before_one_that_comes_along(tmp_path: Path) -> None:
    written(tmp_path, "vggish", 'like = "amlag-1"\nname = "not the baseline"')
    path = written(tmp_path, "mine", 'like = "vggish"\nseed = 7')
    assert load_recipe(path).name == "not the baseline"


def test_circles_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "one", 'like = "two"')
    with pytest.raises(RecipeError, match=r"two.toml: like: expected a recipe that does not lead"):
        read_table(written(tmp_path, "two", 'like = "one"'))


# -- ensembles -------------------------------------------------------------------------------------


def test_an_ensemble_is_no_recipe_of_one_net() -> None:
    found = load_any("cpjku-2-faresnet")
    assert isinstance(found, Ensemble)
    with pytest.raises(RecipeError, match=r"an ensemble of 5: name one of cpjku-fa-4, cpjku-fa-5"):
        load_recipe("cpjku-2-faresnet")


def test_an_ensemble_needs_two_members_none_twice(tmp_path: Path) -> None:
    for members in ('["vggish"]', '["vggish", "vggish"]'):
        path = written(tmp_path, "mine", f'name = "mine"\nmembers = {members}')
        with pytest.raises(RecipeError, match=r"mine.toml: members: expected two or more"):
            load_any(path)
