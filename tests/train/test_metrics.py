"""Areas under curves, precision, recall and F: published figures, scikit-learn, known cases."""

import csv
import itertools

import numpy as np
import pytest
from support.paths import SHARED

from streamtag.train.evaluation.metrics import (
    areas,
    f1,
    macro,
    per_tag,
    pooled,
    pr_auc,
    rates,
    roc_auc,
)

OFFICIAL = SHARED / "data" / "metrics"
RUNS = {
    "baseline": ("popular", "vggish"),
    "CP-JKU": ("1_shakefaresnet", "2_faresnet", "3_avg_ensemble", "4_crnn", "5_resnet34"),
}


def official(folder: str, run: str) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Predictions, decisions and figures of the organisers of MediaEval 2019."""
    if not OFFICIAL.is_dir():
        pytest.skip(f"{OFFICIAL} is not on this machine")
    arrays = []
    for kind in ("predictions", "decisions"):
        nested = OFFICIAL / folder / run / f"{kind}.npy"
        arrays.append(
            np.load(nested if nested.exists() else OFFICIAL / folder / f"{run}_{kind}.npy")
        )
    with (OFFICIAL / f"{folder}.tsv").open() as file:
        published = {row.pop(""): row for row in csv.DictReader(file, delimiter="\t")}
    assert set(published) == set(RUNS[folder])
    return arrays[0], arrays[1], published[run]


@pytest.mark.parametrize(
    ("folder", "run"), [(folder, run) for folder, runs in RUNS.items() for run in runs]
)
def test_every_published_figure_of_mediaeval_2019(folder: str, run: str) -> None:
    """Floats of both sizes, booleans, constant columns, ties and tags never predicted."""
    scores, decisions, published = official(folder, run)
    truth = np.load(OFFICIAL / "groundtruth.npy")
    means = {}
    for mean, shape in (("macro", np.asarray), ("micro", pooled)):
        found, said = areas(shape(truth), shape(scores)), rates(shape(truth), shape(decisions))
        means |= {
            f"ROC-AUC-{mean}": found.roc_auc.mean(),
            f"PR-AUC-{mean}": found.pr_auc.mean(),
            f"precision-{mean}": said.precision.mean(),
            f"recall-{mean}": said.recall.mean(),
            f"F-score-{mean}": said.f.mean(),
        }
    assert {name: f"{value:.6f}" for name, value in means.items()} == published


def awkward(dtype: type, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores with ties within and between the classes, and constant columns."""
    rng = np.random.default_rng(seed)
    truth = rng.random((300, 6)) < [0.5, 0.2, 0.02, 0.3, 0.3, 0.9]
    scores = rng.normal(size=(300, 6)) + truth
    scores[:, 1] = np.round(scores[:, 1])
    scores[:, 3] = 0.25
    scores[:, 4] = scores[:, 4] > 0.5
    scores[:, 5] = 1e-3 * scores[:, 5] + 1000  # in float16 all but a few are equal
    return truth, scores.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, bool, np.int64])
def test_areas_are_those_of_scikit_learn(dtype: type) -> None:
    from sklearn import metrics as sklearn

    truth, scores = awkward(dtype)
    found, micro = areas(truth, scores), areas(pooled(truth), pooled(scores))
    roc = [sklearn.roc_auc_score(truth[:, i], scores[:, i]) for i in range(6)]
    pr = [sklearn.average_precision_score(truth[:, i], scores[:, i]) for i in range(6)]
    assert found.roc_auc == pytest.approx(roc, abs=1e-12)
    assert found.pr_auc == pytest.approx(pr, abs=1e-12)
    assert micro.roc_auc[0] == pytest.approx(
        sklearn.roc_auc_score(truth.ravel(), scores.ravel()), abs=1e-12
    )
    assert micro.pr_auc[0] == pytest.approx(
        sklearn.average_precision_score(truth.ravel(), scores.ravel()), abs=1e-12
    )
    assert roc_auc(truth[:, 1], scores[:, 1]) == pytest.approx(roc[1], abs=1e-12)
    assert pr_auc(truth[:, 1], scores[:, 1]) == pytest.approx(pr[1], abs=1e-12)


def test_rates_are_those_of_scikit_learn() -> None:
    from sklearn import metrics as sklearn

    truth, scores = awkward(np.float64)
    decisions = scores > 0.4
    decisions[:, 0] = False  # never predicted
    truth[:, 1] = False  # never true
    truth[:, 2] = decisions[:, 2] = False
    for average in ("macro", "micro"):
        expected = sklearn.precision_recall_fscore_support(
            truth, decisions, average=average, zero_division=0
        )[:3]
        shape = np.asarray if average == "macro" else pooled
        found = rates(shape(truth), shape(decisions))
        got = (found.precision.mean(), found.recall.mean(), found.f.mean())
        assert got == pytest.approx(expected, abs=1e-12)
    each = rates(truth, decisions)
    wrong = decisions & ~truth
    assert each.false_positive_rate == pytest.approx(wrong.sum(0) / (~truth).sum(0))


def test_what_nobody_knows_is_as_if_it_were_not_there() -> None:
    truth, scores = awkward(np.float32)
    rng = np.random.default_rng(5)
    unknown = rng.random(truth.shape) < 0.4
    partly = np.where(unknown, np.nan, truth.astype(np.float32))
    found, said = areas(partly, scores), rates(partly, scores > 0.4)
    for i in range(6):
        rows = ~unknown[:, i]
        alone = areas(truth[rows, i : i + 1], scores[rows, i : i + 1])
        assert found.roc_auc[i] == pytest.approx(alone.roc_auc[0], abs=1e-12)
        assert found.pr_auc[i] == pytest.approx(alone.pr_auc[0], abs=1e-12)
        assert (found.prior[i], found.known[i]) == (truth[rows, i].mean(), rows.sum())
        assert said.f[i] == rates(truth[rows, i : i + 1], scores[rows, i : i + 1] > 0.4).f[0]
    nobody = areas(np.full((5, 1), np.nan), np.ones((5, 1)))
    assert np.isnan(nobody.roc_auc).all()
    assert np.isnan(nobody.pr_auc).all()


def test_roc_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(1)
    truth, scores = rng.random(60) < 0.3, rng.integers(0, 8, 60) / 8
    combinations = list(itertools.product(scores[truth], scores[~truth]))
    expected = sum((a > b) + 0.5 * (a == b) for a, b in combinations) / len(combinations)
    assert roc_auc(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_pr_auc_sums_precision_where_recall_grows() -> None:
    truth = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    assert pr_auc(truth, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert pr_auc(truth, np.zeros(4)) == pytest.approx(0.5)  # all tied: the prior


def test_neighbouring_floats_are_no_tie() -> None:
    small = np.float32(1e-38)
    scores = np.array([small, np.nextafter(small, np.float32(1)), small], np.float32)
    assert roc_auc(np.array([False, True, False]), scores) == 1.0
    assert pr_auc(np.array([False, True, False]), scores) == 1.0


def test_without_positives_there_is_no_area() -> None:
    nothing = np.zeros(5, bool)
    assert np.isnan(roc_auc(nothing, np.arange(5.0)))
    assert np.isnan(roc_auc(~nothing, np.arange(5.0)))
    assert np.isnan(pr_auc(nothing, np.arange(5.0)))
    assert pr_auc(~nothing, np.arange(5.0)) == 1.0


def test_the_table_leaves_out_tags_without_positives_or_negatives() -> None:
    table = per_tag(["a", "b"], np.array([[1, 1], [0, np.nan], [np.nan, 1]]), np.eye(3, 2))
    assert set(table) == {"a"}  # b has no negative
    assert table["a"] == {"roc_auc": 1.0, "pr_auc": 1.0, "prior": 0.5, "n": 2}
    assert macro(table, "prior") == 0.5
    assert np.isnan(macro({}, "roc_auc"))


def test_soft_labels_count_from_one_half() -> None:
    found = areas(np.array([[0.5], [0.4], [0.0]]), np.array([[3.0], [2.0], [1.0]]))
    assert (found.positives[0], found.pr_auc[0]) == (1, 1.0)


def test_f1_of_nothing_decided_and_nothing_true_is_unknown() -> None:
    assert np.isnan(f1(np.zeros(3, bool), np.zeros(3, bool)))
    assert f1(np.array([True, True]), np.array([True, False])) == pytest.approx(2 / 3)
