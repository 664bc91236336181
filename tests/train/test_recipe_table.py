"""The list of recipes: on the screen and in docs/models-method.md."""

import math
from itertools import pairwise

import pytest
from support.paths import ROOT
from train.test_recipes_of_the_papers import PARAMETERS

from streamtag.train import recipe_table as recipes_table
from streamtag.train.recipe_table import markdown, recipe_rows
from streamtag.train.recipes.file import known_recipes

PAGE = ROOT / "docs" / "models-method.md"
BEGIN, END = "<!-- streamtag recipes --markdown -->", "<!-- end -->"


def test_the_list_has_every_recipe_and_papers_together() -> None:
    found = recipe_rows()
    assert sorted(row.name for row in found) == known_recipes()
    papers = [row.paper for row in found]
    assert len(set(papers)) == 7
    changes = sum(a != b for a, b in pairwise(papers))
    assert changes == 6
    ensemble = next(row for row in found if row.name == "cpjku-2-faresnet")
    assert ensemble.parameters == sum(PARAMETERS[f"cpjku-fa-{rho}"] for rho in range(4, 9))
    assert math.isclose(ensemble.window_seconds, 861 * 512 / 44100)


def test_commands_name_the_data() -> None:
    command = {row.name: row.command for row in recipe_rows()}
    assert command["amlag-2"] == "streamtag train amlag-2 --data MTG-JAMENDO"
    assert command["polimi-bilstm"] == "streamtag train polimi-bilstm --data MAGNATAGATUNE"
    assert command["cpjku-3-average"].endswith("cpjku-3-average --data MTG-JAMENDO")
    assert command["innsbruck-run-5"].endswith("--data MTG-JAMENDO --side ACOUSTICBRAINZ")
    assert command["innsbruck-own-features"].endswith("--data MTG-JAMENDO")
    assert command["small"] == "streamtag train small --data FOLDER"


@pytest.mark.parametrize(
    ("paper", "expected"),
    [
        ("", "streamtag"),
        ("Hung: Of one. MediaEval 2019", "Hung 2019"),
        ("Sukhavasi, Adapa: Of two. 2019, arXiv:1911.07041", "Sukhavasi and Adapa 2019"),
        ("A, B, C: Of three. ICML 2019", "A et al. 2019"),
        ("MusicTagger: 2D-CNN. Course, 2017-2018, github.com/x", "MusicTagger 2018"),
    ],
)
def test_papers_in_short(paper: str, expected: str) -> None:
    assert recipes_table.short_citation(paper) == expected


def test_the_list_can_be_drawn() -> None:
    table = recipes_table.table()
    assert table.row_count == len(known_recipes()) + 2 * 7


def test_the_table_in_models_matches_the_recipes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == markdown()
