"""`streamtag recipes`: the list and a recipe, at any width and in a pipe."""

import pytest
from support.commands import run_process
from typer.testing import CliRunner

from streamtag.cli import main
from streamtag.errors import RecipeError
from streamtag.train.recipe_table import recipe_rows
from streamtag.train.recipes.file import RECIPES, known_recipes


def recipes(*words: str, columns: int = 80) -> str:
    """What the command prints on a terminal of so many columns."""
    result = CliRunner().invoke(main.app, ["recipes", *words], env={"COLUMNS": str(columns)})
    if isinstance(result.exception, RecipeError):
        raise result.exception
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_no_name_is_broken(columns: int) -> None:
    lines = recipes(columns=columns).splitlines()
    assert max(len(line) for line in lines) <= columns
    rows = {line.split()[0]: line for line in lines if line.strip()}
    for row in recipe_rows():
        shown = rows[row.name]
        assert row.net in shown
        assert f"{row.parameters / 1e6:.2f} M" in shown
        assert f"{row.window_seconds:.1f} s" in shown
        if "roc_auc" in row.published:
            assert f"{row.published['roc_auc']:.4f} / " in shown
    assert "…" not in "".join(lines)


def test_a_pipe_gets_a_line_per_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = run_process("recipes").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert rows.keys() >= set(known_recipes())
    assert "submission 2: MobileNetV2 with self-attention" in rows["amlag-2"]
    assert "MTG-Jamendo mood/theme, split-0" in rows["amlag-2"]


def test_a_recipe_shows_values_and_where_they_come_from() -> None:
    lines = [line.split() for line in recipes("amlag-2", "--set", "fit.batch_size=4").splitlines()]
    assert ["batch_size", "4", "--set"] in lines
    assert ["f_max", "6000.0", "amlag-1"] in lines
    assert ["name", '"mobilenet-attention"', "amlag-2"] in lines
    assert any(line[:3] == ["hop_frames", "94", "amlag-1"] for line in lines)
    assert any("section" in line for line in lines)
    for width in (60, 80, 140):
        assert max(map(len, recipes("amlag-2", columns=width).splitlines())) <= width


def test_an_ensemble_shows_its_members() -> None:
    assert all(f'"cpjku-fa-{rho}"' in recipes("cpjku-2-faresnet") for rho in range(4, 9))


def test_raw_prints_the_file() -> None:
    assert recipes("amlag-2", "--raw") == (RECIPES / "amlag-2.toml").read_text(encoding="utf-8")


def test_an_unknown_recipe_is_refused() -> None:
    for words in (["nothing"], ["nothing", "--raw"]):
        with pytest.raises(RecipeError, match=r"nothing.*expected a recipe"):
            recipes(*words)
