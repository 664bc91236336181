"""Where the values of a recipe come from."""

import tomllib
from pathlib import Path

import pytest

from streamtag.train.recipes.file import RECIPES, known_recipes, load_any, to_dict
from streamtag.train.recipes.sources import comments, heading_comments, recipe_values

BASE = """# What it is.
name = "base"   # its name
window_frames = 48
hop_frames = 12
first_frames = 24
description = \"\"\"a # that is no comment
[neither] = a table\"\"\"   # after several lines

[net]           # ours
name = "small"
[features]
hop = 128       # a # in it
mel_norm = "a # b"
[fit]
batch_size = 12
# Rounds:
[[fit.stages]]  # first
epochs = 12
lr = 3e-3       # Table 2
[[fit.stages]]
epochs = 1
lr = 1e-3
momentum = 0.8
[published]
roc_auc = 0.5
"""
ABOVE = """like = "base"
name = "above"
[[fit.stages]]
epochs = 2
lr = 1.0        # Table 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = BASE.replace('mel_norm = "a # b"\n', "")
    (tmp_path / "base.toml").write_text(text, encoding="utf-8")
    (tmp_path / "above.toml").write_text(ABOVE, encoding="utf-8")
    return tmp_path


def test_comments_are_found_beside_their_keys() -> None:
    tomllib.loads(BASE)
    assert comments(BASE) == {
        "name": "What it is. its name",
        "description": "after several lines",
        "net.": "ours",
        "features.hop": "a # in it",
        "fit.stages.0.": "Rounds: first",
        "fit.stages.0.lr": "Table 2",
    }


def test_each_value_has_its_file_change_or_default(folder: Path) -> None:
    found = {
        value.key: value
        for value in recipe_values(
            folder / "above.toml", ["fit.batch_size=3", "augment.level_db=1"]
        )
    }
    expected = {
        "name": ("above", "above", ""),
        "window_frames": (48, "base", ""),
        "features.hop": (128, "base", "a # in it"),
        "features.n_fft": (512, "default", ""),
        "net.name": ("small", "base", ""),
        "net.multiplier": (1.0, "default", ""),
        "fit.batch_size": (3, "--set", ""),
        "augment.level_db": (1.0, "--set", ""),
        "fit.stages.0.lr": (1.0, "above", "Table 3"),
        "fit.stages.0.momentum": (0.9, "default", ""),
    }
    for key, (value, source, comment) in expected.items():
        one = found[key]
        assert (one.value, one.source, one.comment) == (value, source, comment), key
    assert not any(key.startswith(("fit.stages.1", "published", "description")) for key in found)
    assert heading_comments(folder / "above.toml") == {"net": "ours"}
    assert heading_comments(folder / "base.toml")["fit.stages.0"] == "Rounds: first"


@pytest.mark.parametrize("name", known_recipes())
def test_every_included_recipe_is_resolved(name: str) -> None:
    """Its values are those that a training gets, and none of its comments is lost."""
    values = {value.key: value for value in recipe_values(name)}
    recipe = to_dict(load_any(name))
    for key in ("name", "seed", "window_frames", "members"):
        if key in recipe:
            assert values[key].value == recipe[key]
    for key in recipe.get("features", {}):
        assert values[f"features.{key}"].value == recipe["features"][key]
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    own = {key for key in comments(text) if not key.endswith(".")}
    own -= {
        key for key in own if key.split(".")[0] in ("like", "published", "licence", "description")
    }
    assert {key for key in own if values[key].source == name and values[key].comment} == own


def test_options_of_another_net_are_not_inherited() -> None:
    found = {value.key: value.source for value in recipe_values("cpjku-fa-6")}
    assert (found["net.rho"], found["net.rho_time"]) == ("default", "cpjku-fa-6")
    assert found["net.channels"] == "default"
