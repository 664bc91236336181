"""models/README.md: short, and its tables are what was measured."""

import json
from typing import Any

import pytest
from support.paths import ROOT

RESULTS = ROOT / "benchmarks" / "default_model.json"
FEW = {
    "agreement": {
        "roc_auc": {"value": 0.9, "low": 0.8, "high": 0.95},
        "rank": {"value": 0.8, "low": 0.7, "high": 0.9},
        "moods": {"happy": 0.5, "sad": 0.7, "mean": 0.6},
        "calibration": {"genre": 0.02, "kind": 0.07},
        "tags": {f"t{i}": {"roc_auc": i / 20} for i in range(1, 15)} | {"x": {"roc_auc": None}},
    },
    "live": {"flapping": {"per_hour": 12.34}, "detection": {"p90": 7.0, "share": 0.5}},
}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `benchmarks/model_page.py`."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import model_page  # type: ignore[import-not-found]

    return model_page


def test_the_page_is_short_and_has_the_measured_tables(page: Any) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    shown = text.partition(page.BEGIN)[2].partition(page.END)[0].strip()
    assert shown == "\n\n".join(page.tables(json.loads(RESULTS.read_text())))


def test_what_a_model_lacks_is_a_dash_and_what_it_has_is_shown(page: Any) -> None:
    brief, figures, *rest = page.tables({"instruments-1": {"checksum": "a"}, "general-1": FEW})
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in figures.splitlines()}
    assert [cell.strip(" |") for cell in rows["what"][2:]] == ["general-1", "instruments-1"]
    first = rows["combined teachers, unseen sources: macro ROC-AUC"]
    assert [cell.strip(" |") for cell in first[2:]] == ["0.90 (0.80–0.95)", "–"]
    assert rows["from a cut to 90 % of what will be on"][2] == "7.0 s (50% come)"
    assert rows["from a cut to 90 % off of what was"][2] == "–"
    assert rows["calibration error, worst category"][2] == "0.07"
    assert rows["moods, teachers: mean rank correlation (smallest)"][2] == "0.60 (0.50)"
    assert "95 %" in brief
    worst = rest[-1]
    assert worst.count(", ") == 9
    assert "t1 0.05" in worst
    assert "t14" not in worst


def test_a_model_that_was_judged_as_nothing_gives_no_tables_of_moods(page: Any) -> None:
    assert "sad" not in "".join(page.tables({"instruments-1": {}}))


@pytest.mark.parametrize(("cell", "shown"), [(None, "–"), (0.12345, "0.123"), (3, "3"), ("a", "a")])
def test_cells(page: Any, cell: object, shown: str) -> None:
    assert page.table(["h"], [[cell]]).splitlines()[-1] == f"| {shown} |"
