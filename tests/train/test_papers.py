"""`make papers`: every figure is as published or stated, and docs/papers.md has the same ones."""

import importlib.util
import sys
from dataclasses import replace
from typing import Any

import pytest
from support.paths import ROOT

from streamtag.train.recipes.file import known_recipes, load_any

PATH = ROOT / "docs" / "papers.py"


def loaded() -> Any:
    """docs/papers.py as a module."""
    spec = importlib.util.spec_from_file_location("papers", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


papers = loaded()


@pytest.mark.parametrize("part", papers.PARTS, ids=lambda part: part.name)
def test_every_figure_is_as_published_or_said_to_differ(part: Any) -> None:
    if not part.is_possible:
        pytest.skip(f"no {papers.SHARED / part.needs} on this machine")
    figures = list(part.figures())
    assert [figure for figure in figures if figure.is_wrong] == []
    page = papers.PAGE.read_text(encoding="utf-8")
    fresh = papers.page_with(page, replace(part, figures=lambda: iter(figures)))
    assert page == fresh, "run: python docs/papers.py --write"


def test_there_are_as_many_as_the_papers_have() -> None:
    """60 numbers of weights (and that of MobileNetV2 in the second net), 13 receptive fields."""
    found = {part.name: part for part in papers.PARTS}
    assert len(list(found["weights"].figures())) == 61
    fields = [f for f in found["fields"].figures() if f.system == "CP-ResNet"]
    assert [f.published for f in fields][5:8] == ["87 × 87", "103 × 103", "135 × 135"]
    assert len(fields) == 13
    if found["scores"].is_possible:
        assert len(list(found["scores"].figures())) == 70


def test_every_published_run_is_compared() -> None:
    compared = {figure.system for figure in papers.system_figures()}
    scored = {name for name in known_recipes() if load_any(name).published}
    variants = {"amlag-1-single", "innsbruck-run-4-8ep", "taiwan-mtat", "polimi-bilstm-early"}
    assert scored - compared == variants


def test_what_differs_in_silence_is_wrong_and_so_is_what_is_stated_in_vain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = papers.Figure("toy", "batch", "64", "64")
    assert not figure.is_wrong
    silent, vain = replace(figure, ours="32"), replace(figure, stated="It is smaller.")
    assert silent.is_wrong
    assert vain.is_wrong
    assert not replace(silent, stated="It is smaller.").is_wrong
    assert replace(silent, published="not stated").verdict == "our reading"
    for figures, code in (([figure], 0), ([figure, silent], 1)):
        part = papers.Part("toy", "Toys", lambda some=figures: iter(some))
        monkeypatch.setattr(papers, "PARTS", (part, papers.Part("no", "No", iter, "nowhere")))
        assert papers.main([]) == code
        assert "No: skipped, no" in capsys.readouterr().out
