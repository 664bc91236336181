"""From a folder of recordings to a bundle on air: what `streamtag train` and its kin do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.narrow_nets import narrow_nets
from support.tones import RATE, RECIPE, tone, write_tones

from streamtag.audio.block import Block
from streamtag.engine.offline import tag_blocks
from streamtag.errors import RecipeError
from streamtag.model.tagger import Tagger
from streamtag.train.job import export_run, train
from streamtag.train.nets.model import new_model
from streamtag.train.recipes.file import load_recipe


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a folder of recordings."""
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tones.toml"
    path.write_text(RECIPE)
    return path


def places(tmp_path: Path) -> dict[str, Path]:
    return {"cache": tmp_path / "cache", "runs": tmp_path / "runs"}


def heard(path: Path, kind: str) -> dict[str, int]:
    """How many events each tag gets for six seconds of a tone."""
    sound = tone(kind, np.random.default_rng(9), 6)
    result = tag_blocks([Block(sound, 0, RATE)], RATE, {"m": Tagger.load(path, "cpu")})["m"]
    return {tag: sum(e.tag == tag for e in result.events) for tag in ("low", "high")}


@pytest.mark.complete
def test_a_recipe_and_a_folder_make_a_working_model(
    tones: Path, recipe: Path, tmp_path: Path
) -> None:
    path = train(recipe, tones, tmp_path / "out.pt", **places(tmp_path))
    card = Tagger.load(path, "cpu").card
    assert card.name == "tones"
    assert sorted(card.tags) == ["high", "low"]
    assert card.scores["test"]["roc_auc"] == 1.0
    assert card.scores["test"]["decisions"]["macro"]["precision"] == 1.0
    assert card.scores["calibration"]["error"] is not None
    assert card.extra["recipe"]["name"] == "tones"
    assert heard(path, "low") == {"low": 1, "high": 0}
    assert heard(path, "high") == {"low": 0, "high": 1}
    run = tmp_path / "runs" / "tones"
    about = json.loads((run / "about.json").read_text())
    assert about["windows"] == 36
    assert "13 train, 8 validation, 8 test" in about["data"]
    assert "1 of them unusable" in about["data"]
    names = {entry.name for entry in run.iterdir()}
    assert names >= {"recipe.json", "log.jsonl", "checkpoint.pt", "weights.pt", "curves.png"}
    assert "reliability.png" in names
    again = export_run(run, tmp_path / "again.pt", data=tones, cache=tmp_path / "cache")
    other = Tagger.load(again, "cpu").card
    assert other.golden == card.golden
    assert other.on_thresholds == card.on_thresholds


def test_a_streaming_net_learns_and_goes_on_air(tones: Path, recipe: Path, tmp_path: Path) -> None:
    net = '[net]\nname = "streaming"\nmultiplier = 0.5\nscales = [16, 48]\nfirst_frames = 24'
    recipe.write_text(
        RECIPE.replace('[net]\nname = "small"', net).replace("= 12\nfirst", "= 16\nfirst")
    )
    path = train(recipe, tones, tmp_path / "out.pt", **places(tmp_path))
    trunk = Tagger.load(path, "cpu").card.trunk
    assert trunk is not None
    assert (trunk.stride, trunk.columns) == (16, 3)
    assert trunk.state > 0
    assert heard(path, "low") == {"low": 1, "high": 0}
    assert heard(path, "high") == {"low": 0, "high": 1}


def test_a_broken_recording_is_reported_and_left_out(
    tones: Path, recipe: Path, tmp_path: Path
) -> None:
    from rich.console import Console

    with (tmp_path / "said").open("w") as said:
        console = Console(file=said, width=200)
        changes = ("fit.stages.0.epochs=1",)
        train(
            recipe, tones, tmp_path / "out.pt", changes=changes, console=console, **places(tmp_path)
        )
    text = (tmp_path / "said").read_text()
    assert "broken" in text
    assert "1 of 29 recordings cannot be used" in text


def test_an_ensemble_is_the_mean_of_its_members(tones: Path, recipe: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        text = RECIPE.replace('name = "tones"', f'name = "tones-{seed}"\nseed = {seed}')
        (tmp_path / f"tones-{seed}.toml").write_text(text)
    both = tmp_path / "both.toml"
    members = [str(tmp_path / f"tones-{seed}.toml") for seed in (1, 2)]
    both.write_text(f'name = "both"\nmembers = {json.dumps(members)}\n')
    changes = ("fit.stages.0.epochs=8",)
    path = train(both, tones, tmp_path / "both.pt", changes=changes, **places(tmp_path))
    card = Tagger.load(path, "cpu").card
    assert card.name == "both"
    assert card.extra["members"] == members
    assert card.scores["test"]["roc_auc"] == 1.0
    assert heard(path, "high")["high"] == 1


def test_the_mean_of_two_trainings(tones: Path, recipe: Path, tmp_path: Path) -> None:
    """They begin with the same weights and end with others; what is averaged was not thrown away:
    the command, given again, only writes the bundle."""
    changes = ("fit.trainings=2", "fit.stages.0.epochs=4")
    out = tmp_path / "mean.pt"
    train(recipe, tones, out, changes=changes, **places(tmp_path))
    runs = tmp_path / "runs"
    one, other, mean = (
        torch.load(runs / name / "weights.pt", weights_only=True)["members"][0]
        for name in ("tones-1", "tones-2", "tones")
    )
    learned = [name for name, _ in new_model(load_recipe(recipe), 2).named_parameters()]
    assert not any(torch.equal(one[name], other[name]) for name in learned)
    for name in learned:
        torch.testing.assert_close(mean[name], (one[name] + other[name]) / 2)
    assert heard(out, "high")["high"] == 1
    before = (runs / "tones-1" / "weights.pt").stat().st_mtime_ns
    out.unlink()
    train(recipe, tones, out, changes=changes, **places(tmp_path))
    assert out.exists()
    assert (runs / "tones-1" / "weights.pt").stat().st_mtime_ns == before


def test_pretrained_weights_are_made_first_and_used(tones: Path, tmp_path: Path) -> None:
    net = '[net]\nname = "{}"\nkind = 1\n{}'
    base = RECIPE.replace("n_mels = 80", 'n_mels = 128\nlog = "ln1p"').replace(
        "log_offset = 1e-6\n", ""
    ).replace("normalise = true\n", "")  # fmt: skip
    first = base.replace('[net]\nname = "small"', net.format("vqvae", "")).replace("tones", "codes")
    (tmp_path / "codes.toml").write_text('task = "reconstruct"\n' + first)
    second = base.replace('[net]\nname = "small"', net.format("vqvae-gru", "frozen = true"))
    codes = tmp_path / "codes.toml"
    (tmp_path / "second.toml").write_text(f'pretrained = "{codes}"\n' + second)
    changes = ("fit.stages.0.epochs=1", "window_frames=32", "first_frames=16",
               "hop_frames=48", "recordings.segments=1", "fit.batch_size=6",
               "fit.accumulate=1")  # fmt: skip
    with narrow_nets():
        path = train(tmp_path / "second.toml", tones, tmp_path / "out.pt", changes=changes,
                     **places(tmp_path))  # fmt: skip
    assert Tagger.load(path, "cpu").card.net == "vqvae-gru"
    weights = [
        torch.load(tmp_path / "runs" / name / "weights.pt", weights_only=True)["members"][0]
        for name in ("codes", "tones")
    ]
    kept = [name for name in weights[1] if name.startswith("net.codec.")]
    assert kept
    for name in kept:
        assert torch.equal(weights[0][name.replace("codec.", "")], weights[1][name])


def test_side_values_must_be_named(tones: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"recipe 'tones': expected a file with 3 values .*--side"
    ):
        train(recipe, tones, tmp_path / "out.pt", changes=["recordings.side=3"], **places(tmp_path))


def test_no_recordings_to_learn_from(recipe: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "empty.csv"
    manifest.write_text("file,tags,split\n")
    with pytest.raises(RecipeError, match=r"empty\.csv"):
        train(recipe, manifest, tmp_path / "out.pt", **places(tmp_path))


def test_popularity_needs_no_training(tones: Path, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.replace('"small"', '"popularity"'))
    changes = ["fit.stages=[]", "thresholds={rule='half'}"]
    path = train(recipe, tones, tmp_path / "out.pt", changes=changes, **places(tmp_path))
    card = Tagger.load(path, "cpu").card
    assert card.scores["test"]["roc_auc"] == 0.5
    assert card.off_by_default == ()
    assert sorted(heard(path, "low").values()) == [0, 1]  # the one that is always on
    assert card.scores["test"]["decisions"]["tags_per_row"] == 1
