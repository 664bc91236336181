"""A card for people: calibration in words, scores, and lines of at most 80 columns."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from streamtag.cli.card import calibration_words, card_page
from streamtag.model.bundle import read_card
from streamtag.model.card import Settling
from streamtag.model.shipped import default_bundle
from streamtag.train.evaluation.reliability import reliability


def table(p: np.ndarray, happens: np.ndarray, n: int = 20_000, **more: Any) -> dict[str, Any]:
    """The calibration of probabilities `p` for what happens with the probabilities `happens`."""
    rng = np.random.default_rng(1)
    which = rng.integers(len(p), size=n)
    truth = (rng.random(n) < happens[which]).astype(np.float32)
    return reliability(truth[:, None], p[which][:, None], **more)


P = np.linspace(0.05, 0.95, 10)


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (P, "well calibrated"),
        (P * 0.8, "too high by 9.9 "),
        (P + (1 - P) * 0.2, "too low by "),
        (0.5 + (P - 0.5) * 0.5, "overconfident by 12"),
        (np.clip(0.5 + (P - 0.5) * 1.4, 0, 1), "underconfident by "),
    ],
)
def test_calibration_in_words(happens: np.ndarray, words: str) -> None:
    assert calibration_words(table(P, happens)).startswith(words)


def test_few_recordings_show_nothing() -> None:
    few = table(P, P, 40)
    assert few["error"] > 0.05
    assert calibration_words(few).startswith("well calibrated")
    assert calibration_words({"error": None, "bins": []}) == "unknown: no recordings"


def shown(bundle: Path, settling: Settling | None = None, **scores: Any) -> str:
    """The page of a bundle at 80 columns, with other scores."""
    file = io.StringIO()
    card = dataclasses.replace(read_card(bundle), settling=settling)
    card = dataclasses.replace(card, scores=scores) if scores else card
    Console(file=file, width=80).print(card_page(bundle, card, "abc", "unknown"), highlight=False)
    return file.getvalue()


def test_thresholds_of_settled_tags_are_shown(toy_bundle: Path) -> None:
    n = len(read_card(toy_bundle).tags)
    later = Settling(
        change=0.1, seconds=4.0, on_thresholds=(0.876,) * n, off_thresholds=(0.123,) * n
    )
    page = shown(toy_bundle, later)
    assert "other thresholds 4 s after the last change" in page
    held = dataclasses.replace(later, again_seconds=20.0, start_seconds=3.0)
    words = " ".join(shown(toy_bundle, held).split())
    assert "what plays, for 20 s to come on again, for 3 s after the first window" in words
    assert "come on again" not in page
    assert "0.876  " in page
    assert "0.123" in page
    assert "settled" not in shown(toy_bundle)


def test_the_worst_tags_are_named(toy_bundle: Path) -> None:
    rng = np.random.default_rng(2)
    p = rng.random((4000, 2))
    truth = (rng.random((4000, 2)) < p * [1, 0.6]).astype(np.float32)
    calibration = reliability(truth, p, tags=["low", "high"])
    text = shown(toy_bundle, calibration=calibration, validation={"roc_auc": 0.9, "pr_auc": 0.5})
    assert "  high: too high by " in text
    assert "  low:" not in text
    assert "it says" in text
    assert "{" not in text
    assert ["validation", "0.900", "0.500", "–"] in [line.split() for line in text.splitlines()]


def test_the_card_of_the_default_model_fits_80_columns() -> None:
    text = shown(default_bundle())
    assert max(map(len, text.splitlines())) <= 80
    assert "{" not in text
    lines = [line.split("  ")[0].strip() for line in text.splitlines()]
    assert {"acoustic guitar", "electric guitar"} <= set(lines)
