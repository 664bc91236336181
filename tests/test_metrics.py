"""Areas under curves and F1, against published figures, definitions and known cases."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest

from streamtag.train.metrics import best_f, curve, f1, known, macro, per_tag, pr_auc, roc_auc

OFFICIAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "metrics"


@pytest.mark.parametrize(
    ("folder", "run"),
    [("baseline", "popular"), ("baseline", "vggish"), ("CP-JKU", "3_avg_ensemble")],
)
def test_the_published_scores_of_mediaeval_2019(folder: str, run: str) -> None:
    """Predictions and figures of the organisers: ties and constant columns included."""
    if not OFFICIAL.is_dir():
        pytest.skip(f"{OFFICIAL} is not on this machine")
    nested = OFFICIAL / folder / run / "predictions.npy"
    flat = OFFICIAL / folder / f"{run}_predictions.npy"
    scores = np.load(nested if nested.exists() else flat)
    truth = np.load(OFFICIAL / "groundtruth.npy").astype(np.float32)
    table = per_tag([str(i) for i in range(truth.shape[1])], truth, scores)
    with (OFFICIAL / f"{folder}.tsv").open() as file:
        published = {row[""]: row for row in csv.DictReader(file, delimiter="\t")}[run]
    assert len(table) == 56
    assert macro(table, "roc_auc") == pytest.approx(float(published["ROC-AUC-macro"]), abs=1e-3)
    assert macro(table, "pr_auc") == pytest.approx(float(published["PR-AUC-macro"]), abs=1e-3)


def test_roc_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(1)
    truth, scores = rng.random(60) < 0.3, rng.integers(0, 8, 60) / 8
    pairs = list(itertools.product(scores[truth], scores[~truth]))
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert roc_auc(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_pr_auc_sums_precision_where_recall_grows() -> None:
    truth = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    assert pr_auc(truth, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert pr_auc(truth, np.zeros(4)) == pytest.approx(0.5)  # all tied: the prior


def test_without_positives_there_is_no_area() -> None:
    nothing = np.zeros(5, bool)
    assert np.isnan(roc_auc(nothing, np.arange(5.0)))
    assert np.isnan(roc_auc(~nothing, np.arange(5.0)))
    assert np.isnan(pr_auc(nothing, np.arange(5.0)))
    assert best_f(nothing, np.arange(5.0)) == (1.0, 0.0)


def test_best_f1_is_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(200) < 0.2
    scores = rng.normal(size=200) + truth
    threshold, value = best_f(truth, scores)
    all_values = [f1(truth, scores >= t) for t in scores]
    assert value == pytest.approx(max(all_values))
    assert f1(truth, scores >= threshold) == pytest.approx(value)


def test_a_small_beta_favours_precision() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(500) < 0.3
    scores = rng.normal(size=500) + 1.5 * truth
    careful, usual, bold = (best_f(truth, scores, beta)[0] for beta in (0.3, 1.0, 3.0))
    assert careful > usual > bold


def test_the_curve_has_one_point_per_distinct_score() -> None:
    precision, recall, thresholds = curve(
        np.array([True, False, True, True]), np.array([0.2, 0.5, 0.5, 0.9])
    )
    assert thresholds.tolist() == [0.9, 0.5, 0.2]
    assert precision.tolist() == [1.0, 2 / 3, 0.75]
    assert recall.tolist() == [1 / 3, 2 / 3, 1.0]


def test_what_nobody_knows_is_not_judged() -> None:
    truth, scores = known(np.array([1, np.nan, 0.4, 0.5]), np.array([1.0, 2, 3, 4]))
    assert truth.tolist() == [True, False, True]
    assert scores.tolist() == [1.0, 3.0, 4.0]
    table = per_tag(["a", "b"], np.array([[1, 1], [0, np.nan], [np.nan, 1]]), np.eye(3, 2))
    assert set(table) == {"a"}  # b has no negative
    assert table["a"]["n"] == 2


def test_f1_of_nothing_decided_and_nothing_true_is_unknown() -> None:
    assert np.isnan(f1(np.zeros(3, bool), np.zeros(3, bool)))
    assert f1(np.array([True, True]), np.array([True, False])) == pytest.approx(2 / 3)
    assert np.isnan(macro({}, "roc_auc"))
