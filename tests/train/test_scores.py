"""Reports: what they hold, what they are called, what is refused and how."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.paths import SHARED

from streamtag.errors import RecipeError, StreamtagError
from streamtag.train.evaluation.metrics import rates
from streamtag.train.evaluation.reliability import plot, reliability
from streamtag.train.evaluation.scores import report, score_files, summary, table
from streamtag.train.evaluation.thresholds import decide, rule_thresholds
from streamtag.train.recipes.recipe import Thresholds

OFFICIAL = SHARED / "data" / "metrics"
TAGS = ("mood---a", "mood---b", "mood---c")


def some(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 3)) < [0.4, 0.1, 0.6]
    return truth, (rng.random((n, 3)) + 0.5 * truth).astype(np.float32)


def shown(body: dict[str, object]) -> str:
    text = io.StringIO()
    Console(file=text, width=100).print(table(body))
    return text.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Good ones; every test spoils one."""
    truth, scores = some()
    arrays = {"truth": truth, "predictions": scores, "decisions": scores > 0.6}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "tags.txt").write_bytes("\r\n".join(TAGS).encode() + b"\r\n\r\n")
    return {name: tmp_path / f"{name}.npy" for name in arrays} | {"tags": tmp_path / "tags.txt"}


def test_the_published_figures_come_out_of_the_files() -> None:
    if not OFFICIAL.is_dir():
        pytest.skip(f"{OFFICIAL} is not on this machine")
    body = score_files(
        OFFICIAL / "groundtruth.npy",
        OFFICIAL / "CP-JKU" / "4_crnn" / "predictions.npy",
        OFFICIAL / "CP-JKU" / "4_crnn" / "decisions.npy",
        OFFICIAL / "tags.txt",
    )
    flat = summary(body, 6)
    assert (flat["pr_auc"], flat["roc_auc"]) == (0.117181, 0.738059)
    assert (flat["pr_auc_micro"], flat["roc_auc_micro"]) == (0.14534, 0.788761)
    assert (flat["f_macro"], flat["f_micro"]) == (0.173994, 0.164905)
    assert flat["oracle_f_macro"] == flat["f_macro"]  # thresholds from the test labels
    text = shown(body)
    for figure in ("0.117181", "0.738059", "0.173994", "0.164905", "0.350112", "0.102799"):
        assert figure in text
    assert " action " in text  # without the category that all have in common
    assert "oracle, on these very labels" in text


def test_without_decisions_the_rule_and_its_data_are_named() -> None:
    truth, scores = some()
    body = report(TAGS, truth, scores)
    assert body["decisions"] is None
    assert body["oracle"]["by"] == "largest F, oracle, on these very labels"
    assert "given" not in shown(body)
    later = report(TAGS, truth, scores, validation=some(seed=1), rule=Thresholds(rule="roc_elbow"))
    assert later["decisions"]["by"] == "elbow of the ROC curve, on validation data"
    assert later["oracle"]["by"] == "elbow of the ROC curve, oracle, on these very labels"
    text = shown(later)
    assert text.index("on validation data") < text.index("oracle")


@pytest.mark.parametrize("rule", ["f_beta", "roc_elbow", "equal_error"])
def test_thresholds_come_from_validation_and_the_oracle_from_the_test(rule: str) -> None:
    (truth, scores), validation = some(), some(seed=1)
    body = report(TAGS, truth, scores, validation=validation, rule=Thresholds(rule=rule))
    for side, source in (("decisions", validation), ("oracle", (truth, scores))):
        decided = decide(scores, rule_thresholds(*source, rule))
        assert body[side]["macro"]["f"] == pytest.approx(rates(truth, decided).f.mean())
        assert body[side]["tags_per_row"] == decided.sum() / 200
        assert body[side] == body["rules"][rule]["validation" if side == "decisions" else side]
    thresholds = rule_thresholds(*validation, rule)
    assert [row["threshold"] for row in body["tags"].values()] == thresholds.tolist()
    at_point = rates(truth, scores >= rule_thresholds(truth, scores, rule))
    assert body["oracle"]["point"]["recall"] == pytest.approx(at_point.recall.mean())


def test_at_the_point_of_equal_error_both_rates_are_equal() -> None:
    """As the SampleCNN paper's table reports them: TPR and FPR add up to 1."""
    point = report(TAGS, *some(4000), rule=Thresholds(rule="equal_error"))["oracle"]["point"]
    assert point["recall"] + point["false_positive_rate"] == pytest.approx(1, abs=2e-3)


def test_a_report_is_json_whatever_is_undefined() -> None:
    truth, scores = some()
    partly = truth.astype(np.float32)
    partly[:, 0] = 0
    partly[:, 1] = np.nan
    partly[3, 2] = np.nan
    body = json.loads(json.dumps(report(TAGS, partly, scores), allow_nan=False))
    assert body["undefined"] == ["mood---a", "mood---b"]
    assert body["tags"]["mood---a"]["pr_auc"] is None
    assert body["tags"]["mood---b"] | {"n": 0, "prior": None} == body["tags"]["mood---b"]
    assert body["tags"]["mood---a"]["threshold"] is None
    assert body["macro"]["pr_auc"] == body["tags"]["mood---c"]["pr_auc"]
    assert body["tags"]["mood---c"]["n"] == 199
    assert "left out of the means: mood---a, mood---b" in shown(body)


def test_numbers_of_half_the_width_are_scored_exactly() -> None:
    truth, scores = some(4000)
    half = scores.astype(np.float16)
    body, wide = report(TAGS, truth, half), report(TAGS, truth, half.astype(np.float64))
    assert body == wide
    assert body["macro"] != report(TAGS, truth, scores)["macro"]


def test_files_of_validation_scores(files: dict[str, Path], tmp_path: Path) -> None:
    truth, scores = some(seed=1)
    np.save(tmp_path / "vt.npy", truth.astype(np.int8))
    np.save(tmp_path / "vp.npy", scores)
    body = score_files(
        files["truth"],
        files["predictions"],
        tags=files["tags"],
        validation_truth=tmp_path / "vt.npy",
        validation_predictions=tmp_path / "vp.npy",
        rule="equal_error",
    )
    expected = report(
        TAGS, *some(), validation=(truth, scores), rule=Thresholds(rule="equal_error")
    )
    assert body == expected
    assert list(body["tags"]) == list(TAGS)
    with pytest.raises(RecipeError, match="validation predictions: expected together"):
        score_files(files["truth"], files["predictions"], validation_truth=tmp_path / "vt.npy")


SPOILS = [
    ("predictions", lambda a: a[:, :2], r"expected shape \(200, 3\), got \(200, 2\)"),
    ("predictions", lambda a: a.T.copy(), r".*\(3, 200\); turn it round"),
    ("predictions", lambda a: a.ravel(), r".*got shape \(600,\); a single tag"),
    ("predictions", lambda a: a.astype(complex), r"expected booleans.*complex128"),
    ("predictions", lambda a: a.astype(str), r"expected booleans.*<U"),
    ("predictions", lambda a: a.astype(object), r"expected a \.npy file .*pickle"),
    ("truth", lambda a: a[:0], r".*got shape \(0, 3\)"),
    ("truth", lambda a: a * 2.5, r"tag 'mood---[abc]', row \d+: expected 0, 1, .*got 2\.5"),
    ("decisions", lambda a: a * 0.5, r"expected decisions, 0 or 1"),
    ("decisions", lambda a: a[1:], r"expected shape \(200, 3\), got \(199, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spoil", "message"), SPOILS)
def test_what_does_not_fit_is_refused_with_its_file(
    files: dict[str, Path], name: str, spoil: object, message: str
) -> None:
    np.save(files[name], spoil(np.load(files[name])), allow_pickle=True)  # type: ignore[operator]
    with pytest.raises(RecipeError, match=rf"{name}\.npy: {message}"):
        score_files(**files)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_refused_with_its_tag(
    files: dict[str, Path], value: float
) -> None:
    scores = np.load(files["predictions"])
    scores[[7, 9], 1] = value
    np.save(files["predictions"], scores)
    expected = rf"predictions\.npy: tag 'mood---b', row 7: .*got {value} \(2 such"
    with pytest.raises(RecipeError, match=expected):
        score_files(**files)


def test_files_that_are_none_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "several.npz", a=np.ones(3))
    (tmp_path / "text.npy").write_text("0 1 0")
    (tmp_path / "short.npy").write_bytes(files["truth"].read_bytes()[:200])
    for name, got in (
        ("missing.npy", "No such file"),
        ("several.npz", "an archive"),
        ("text.npy", "pickle"),
        ("short.npy", "save it with numpy.save"),
    ):
        with pytest.raises(RecipeError, match=rf"{name}: expected a \.npy file .*{got}"):
            score_files(tmp_path / name, files["predictions"])
    files["tags"].write_text("a\nb\na\n")
    with pytest.raises(RecipeError, match=r"tags\.txt: expected 3 different tags.*got 3, 2 of"):
        score_files(**files)
    with pytest.raises(RecipeError, match=r"rule: expected one of f_beta, .*got 'best'"):
        score_files(files["truth"], files["predictions"], rule="best")


# -- calibration ---------------------------------------------------------------------------------


def test_reliability_of_a_hand_made_case() -> None:
    truth = np.array([[1.0], [0.0], [1.0], [1.0], [np.nan]])
    probabilities = np.array([[0.15], [0.15], [0.9], [1.0], [0.5]])
    table = reliability(truth, probabilities)
    assert table["bins"] == [
        {"said": 0.15, "true": 0.5, "n": 2},
        {"said": 0.95, "true": 1.0, "n": 2},
    ]
    assert table["error"] == pytest.approx(0.5 * 0.35 + 0.5 * 0.05)
    assert reliability(truth[4:], probabilities[4:])["error"] is None


def test_a_temperature_makes_the_error_smaller_and_both_are_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(-1, 2, (3000, 2))
    truth = (rng.random((3000, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    sure, hasty = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-3 * logits))
    table = reliability(truth, sure, tags=("a", "b"), before=hasty)
    assert table["error"] < 0.02 < 0.08 < table["error_before"]
    assert table["mean_error"] < 0.03 < 0.08 < table["mean_error_before"]
    for i, tag in enumerate(("a", "b")):
        alone = reliability(truth[:, i : i + 1], sure[:, i : i + 1], before=hasty[:, i : i + 1])
        assert table["tags"][tag] == {k: v for k, v in alone.items() if "mean" not in k}
    assert json.dumps(table)
    for name, body in (("some.png", table), ("none.png", reliability(truth, sure))):
        plot(tmp_path / name, body, "toy")
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(StreamtagError, match="cannot be written"):
        plot(tmp_path / "nowhere" / "a.png", table)
