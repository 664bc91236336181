"""Thresholds and temperatures: published ones, brute force over the curves, and the card's."""

import dataclasses

import numpy as np
import pytest
from support.paths import SHARED

from streamtag.train.evaluation.metrics import rates
from streamtag.train.evaluation.thresholds import (
    choose_thresholds,
    decide,
    next_above,
    rule_thresholds,
    temperatures,
)
from streamtag.train.recipes.recipe import Thresholds
from streamtag.train.training.predictions import sigmoid

OFFICIAL = SHARED / "data" / "metrics"
RULES = Thresholds(
    beta=1.0, smallest_roc_auc=0.6, smallest_lift=1.3, off_ratio=0.6, stray_share=1.0
)


def official(name: str) -> np.ndarray:
    if not OFFICIAL.is_dir():
        pytest.skip(f"{OFFICIAL} is not on this machine")
    array: np.ndarray = np.load(OFFICIAL / name)
    return array


def test_the_published_thresholds_of_the_vggish_baseline() -> None:
    truth, scores = official("groundtruth.npy"), official("baseline/vggish_predictions.npy")
    lines = (OFFICIAL / "baseline" / "vggish_thresholds.txt").read_text().splitlines()
    published = [float(line.split("\t")[1]) for line in lines]
    thresholds = rule_thresholds(truth, scores)
    assert thresholds.tolist() == published
    assert decide(scores, thresholds).sum() == 24333
    assert (scores >= thresholds).sum() == 24390  # the sign matters


@pytest.mark.parametrize(
    "run",
    [
        "baseline/vggish_",
        *(
            f"CP-JKU/{run}/"
            for run in ("1_shakefaresnet", "2_faresnet", "3_avg_ensemble", "4_crnn", "5_resnet34")
        ),
    ],
)
def test_published_decisions_were_made_with_the_test_labels(run: str) -> None:
    """For all 56 tags: why the same rule on the judged labels is reported, and called oracle."""
    truth, scores = official("groundtruth.npy"), official(f"{run}predictions.npy")
    assert (decide(scores, rule_thresholds(truth, scores)) == official(f"{run}decisions.npy")).all()


def awkward(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Few rows and few values, so that ties abound."""
    rng = np.random.default_rng(seed)
    truth = rng.random((24, 4)) < [0.5, 0.3, 0.1, 0.8]
    truth[0], truth[1] = True, False
    return truth, rng.integers(0, 7, (24, 4)).astype(np.float32) / 8 + truth / 8


@pytest.mark.parametrize("seed", range(8))
def test_max_f_is_the_first_largest_point_of_scikit_learns_curve(seed: int) -> None:
    from sklearn import metrics as sklearn

    truth, scores = awkward(seed)
    for i in range(4):
        precision, recall, thresholds = sklearn.precision_recall_curve(truth[:, i], scores[:, i])
        f = np.nan_to_num(2 * precision * recall / np.maximum(precision + recall, 1e-30))
        expected = thresholds[np.argmax(f)]
        assert rule_thresholds(truth[:, i : i + 1], scores[:, i : i + 1])[0] == expected


@pytest.mark.parametrize("seed", range(8))
def test_roc_elbow_is_farthest_from_the_chord_and_the_last_such(seed: int) -> None:
    from sklearn import metrics as sklearn

    truth, scores = awkward(seed)
    scores[:, 0] *= -1  # below the chord counts as well
    for i in range(4):
        fpr, tpr, thresholds = sklearn.roc_curve(truth[:, i], scores[:, i], drop_intermediate=False)
        distances = np.abs((tpr - fpr) / np.sqrt(2))
        expected = thresholds[np.flatnonzero(distances >= distances.max() - 1e-12)[-1]]
        assert rule_thresholds(truth, scores, "roc_elbow")[i] == expected


@pytest.mark.parametrize("seed", range(8))
def test_equal_error_is_where_both_rates_meet(seed: int) -> None:
    from sklearn import metrics as sklearn

    truth, scores = awkward(seed)
    for i in range(4):
        fpr, tpr, thresholds = sklearn.roc_curve(truth[:, i], scores[:, i], drop_intermediate=False)
        distances = np.abs(tpr - (1 - fpr))
        expected = thresholds[np.flatnonzero(distances <= distances.min() + 1e-12)[0]]
        assert rule_thresholds(truth, scores, "equal_error")[i] == expected


@pytest.mark.parametrize("rule", ["f_beta", "roc_elbow", "equal_error"])
def test_thresholds_of_tags_that_cannot_be_learned(rule: str) -> None:
    truth = np.array([[0, 1, 1], [0, 0, 1]], bool)
    scores = np.array([[0.1, 0.5, 0.2], [0.3, 0.5, 0.4]])
    thresholds = rule_thresholds(truth, scores, rule)
    assert thresholds[0] == np.inf
    assert thresholds[1] == 0.5  # constant: strictly above it there is nothing
    assert thresholds[2] == (0.2 if rule == "f_beta" else np.inf)
    assert not decide(scores, thresholds)[:, :2].any()


@pytest.mark.parametrize("rule", ["f_beta", "roc_elbow", "equal_error"])
def test_rows_of_unknown_truth_move_no_threshold(rule: str) -> None:
    truth, scores = awkward(3)
    rng = np.random.default_rng(1)
    more = rng.random((40, 4)).astype(np.float32) * 1.2
    both = np.concatenate([truth.astype(np.float32), np.full((40, 4), np.nan, np.float32)])
    shuffle = rng.permutation(64)
    known = rule_thresholds(truth, scores, rule)
    assert rule_thresholds(
        both[shuffle], np.concatenate([scores, more])[shuffle], rule
    ).tolist() == (known.tolist())


def test_a_small_beta_favours_precision() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((500, 1)) < 0.3
    scores = rng.normal(size=(500, 1)) + 1.5 * truth
    careful, usual, bold = (
        rule_thresholds(truth, scores, beta=beta)[0] for beta in (0.3, 1.0, 3.0)
    )
    assert careful > usual > bold


def test_a_float32_score_is_not_above_itself() -> None:
    scores = np.array([[0.1], [0.3]], np.float32)
    threshold = rule_thresholds(np.array([[True], [True]]), scores)
    assert threshold[0] == float(np.float32(0.1))
    assert decide(scores, threshold).tolist() == [[False], [True]]


def test_half_is_half_whatever_the_data() -> None:
    truth, scores = awkward(0)
    assert rule_thresholds(truth, scores, "half").tolist() == [0.5] * 4
    found = choose_thresholds(
        tuple("abcd"), truth, np.full((24, 4), 0.7), dataclasses.replace(RULES, rule="half")
    )
    assert found.off_by_default == ()
    assert all(0.5 <= on < 0.501 for on in found.on)


# -- the card's thresholds -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.00881162, 0.1, 0.10001, 0.5, 0.9999999, 0.95, 3e-7])
def test_the_next_usable_number_is_larger_by_little(value: float) -> None:
    above = next_above(value)
    assert value < above <= value * 1.002
    assert above == float(f"{above:.4g}")


@pytest.mark.parametrize("rule", ["f_beta", "roc_elbow", "equal_error"])
def test_the_engine_switches_on_where_the_rule_decides(rule: str) -> None:
    """It takes what is equal to its threshold, the rule only what is above."""
    rng = np.random.default_rng(6)
    truth = rng.random((400, 3)) < 0.4
    scores = np.round(np.clip(rng.normal(0.45, 0.12, (400, 3)) + 0.2 * truth, 0.2, 0.9), 3)
    on = np.array(
        choose_thresholds(
            ("a", "b", "c"), truth.astype(float), scores, dataclasses.replace(RULES, rule=rule)
        ).on
    )
    assert ((scores >= on) == decide(scores, rule_thresholds(truth, scores, rule))).all()


def test_temperatures_undo_a_scaling_of_the_logits() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (4000, 2))
    targets = (rng.random((4000, 2)) < sigmoid(logits)).astype(np.float32)
    targets[0] = np.nan
    found = temperatures(targets, logits * [1.0, 2.5])
    assert found == pytest.approx([1.0, 2.5], rel=0.12)


def test_switches_are_at_the_best_f1_and_hopeless_tags_are_off() -> None:
    rng = np.random.default_rng(4)
    targets = (rng.random((500, 2)) < [0.3, 0.02]).astype(np.float32)
    clear = np.where(targets[:, 0] > 0, rng.uniform(0.6, 1, 500), rng.uniform(0, 0.58, 500))
    probabilities = np.stack([clear, rng.random(500)], axis=1)
    chosen_ = choose_thresholds(("clear", "noise"), targets, probabilities, RULES)
    assert 0.6 <= chosen_.on[0] <= 0.62
    assert chosen_.off[0] == pytest.approx(0.6 * chosen_.on[0], abs=1e-3)
    assert chosen_.f1[0] > 0.99
    assert chosen_.off_by_default == ("noise",)


def test_a_tag_must_beat_chance_by_two_standard_errors() -> None:
    """The same scores are believed of many recordings and not of few."""
    rules = dataclasses.replace(RULES, smallest_roc_auc=0.5, smallest_lift=1.0)
    targets = np.array([[1.0], [0.0], [1.0], [0.0]])
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])  # ROC-AUC 0.75
    for times, believed in ((1, False), (30, True)):
        many = (np.tile(targets, (times, 1)), np.tile(scores, (times, 1)))
        assert choose_thresholds(("a",), *many, rules).off_by_default == (
            () if believed else ("a",)
        )


def test_sounds_without_any_tag_seldom_reach_a_threshold() -> None:
    targets = np.repeat(np.array([[1.0], [0.0]], np.float32), 100, axis=0)
    probabilities = np.concatenate([np.full((100, 1), 0.9), np.linspace(0, 0.8, 100)[:, None]])
    for share in (0.1, 0.5):
        rules = dataclasses.replace(RULES, stray_share=share)
        noisy = probabilities - 0.5 * targets  # F1 alone would take a low threshold
        on = choose_thresholds(("a",), targets, noisy, rules).on[0]
        assert (probabilities[100:] >= on).mean() <= share + 0.01


def test_kinds_of_sound_are_neither_missed_nor_held() -> None:
    truth = np.repeat(np.array([[1.0], [0.0]], np.float32), 100, axis=0)
    scores = np.concatenate([np.linspace(0.2, 1, 100), np.linspace(0, 0.25, 99), [0.6]])[:, None]
    rules = dataclasses.replace(RULES, beta=0.1, off_ratio=0.2)
    both = choose_thresholds(("rock", "speech"), *(np.tile(x, 2) for x in (truth, scores)), rules)
    assert both.on[0] > 0.6 > 0.3 > both.on[1] > 0.2
    assert both.off[0] == pytest.approx(0.2 * both.on[0], rel=1e-3)
    assert both.off[1] == pytest.approx(0.6 * both.on[1], rel=1e-3)
    wide = dataclasses.replace(rules, beta=2.0, off_ratio=0.8)
    rock, speech = choose_thresholds(
        ("rock", "speech"), np.tile(truth, 2), np.tile(scores, 2), wide
    ).off
    assert speech == pytest.approx(0.6 / 0.8 * rock, rel=1e-3)


def test_a_rare_tag_is_not_left_with_one_window() -> None:
    truth = np.repeat(np.array([[1.0], [0.0]], np.float32), (10, 90), axis=0)
    scores = np.concatenate([np.linspace(0.5, 0.95, 10), np.linspace(0.1, 0.9, 90)])[:, None]
    rules = dataclasses.replace(RULES, beta=0.1)
    found = [
        choose_thresholds(("rap",), truth, scores, dataclasses.replace(rules, smallest_recall=r))
        for r in (0.0, 0.3, 0.8)
    ]
    reached = [(scores[:10, 0] >= one.on[0]).mean() for one in found]
    assert reached == [0.1, 0.3, 0.8]
    none = choose_thresholds(
        ("rap",), 0 * truth, scores, dataclasses.replace(rules, smallest_recall=0.3)
    )
    assert none.off_by_default == ("rap",)


def test_settled_tags_have_wider_thresholds_but_kinds_of_sound_never_settle() -> None:
    truth = np.repeat(np.array([[1.0], [0.0]], np.float32), 100, axis=0)
    scores = np.concatenate([np.linspace(0.2, 0.7, 100), np.linspace(0, 0.25, 100)])[:, None]
    rules = dataclasses.replace(
        RULES, settling_change=0.05, settling_seconds=4.0, settled_odds=6.0, settled_off_ratio=0.3
    )
    assert choose_thresholds(("a",), truth, scores, RULES).settling is None
    found = choose_thresholds(("rock", "speech"), np.tile(truth, 2), np.tile(scores, 2), rules)
    later = found.settling
    assert later is not None
    assert (later.change, later.seconds) == (0.05, 4.0)
    assert later.on_thresholds[1] == found.on[1]
    assert later.off_thresholds[1] == found.off[1]
    odds = [p / (1 - p) for p in (found.on[0], later.on_thresholds[0])]
    assert odds[1] == pytest.approx(6 * odds[0], rel=1e-3)
    assert later.off_thresholds[0] == pytest.approx(0.3 * found.on[0], rel=1e-3)
    high = choose_thresholds(("rock",), truth, 0.3 + 0.7 * truth, rules)  # hardly ever unsure
    assert high.settling is not None
    assert high.on[0] <= high.settling.on_thresholds[0] <= 0.995


def test_a_category_may_have_its_own_odds_once_its_tags_have_settled() -> None:
    truth = np.repeat(np.array([[1.0], [0.0]], np.float32), 100, axis=0)
    scores = np.concatenate([np.linspace(0.2, 0.7, 100), np.linspace(0, 0.25, 100)])[:, None]
    rules = dataclasses.replace(
        RULES,
        settling_change=0.05,
        settled_odds=50.0,
        settled_odds_of={"instrument": 5.0},
        again_seconds=20.0,
    )
    found = choose_thresholds(
        ("rock", "organ", "other"),
        np.tile(truth, 3),
        np.tile(scores, 3),
        rules,
        {"rock": "genre", "organ": "instrument"},
    )
    assert found.settling is not None
    assert found.settling.again_seconds == 20
    near = found.on[0] / (1 - found.on[0])
    odds = [p / (1 - p) / near for p in found.settling.on_thresholds]
    assert odds == pytest.approx([50, 5, 50], rel=0.01)


def test_a_threshold_is_never_where_drift_would_hold_it() -> None:
    targets = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    found = choose_thresholds(
        ("always", "never"), targets, np.array([[0.01, 0.0], [0.02, 0.0]]), RULES
    )
    assert found.on == (0.1, 0.95)


def test_a_rare_tag_may_have_a_low_threshold() -> None:
    """Moods are true of one recording in thirty, and their probabilities are about that."""
    rng = np.random.default_rng(7)
    truth = rng.random((3000, 1)) < 0.03
    scores = np.clip(rng.normal(0.02, 0.005, (3000, 1)) + 0.02 * truth, 1e-4, 1)
    found = choose_thresholds(("rare",), truth.astype(np.float32), scores, RULES)
    assert 0.02 < found.on[0] < 0.04
    assert 0 < found.off[0] < found.on[0]
    assert found.f1[0] == pytest.approx(rates(truth, scores >= found.on[0]).f[0], abs=5e-4)


def test_a_tag_that_would_switch_on_at_nearly_nothing_is_off_by_default() -> None:
    targets = np.repeat(np.array([[1.0], [0.0]], np.float32), [10, 5000], axis=0)  # it is rare
    faint = np.where(targets == 1, 0.03, 0.001)
    rules = dataclasses.replace(RULES, smallest_threshold=0.05)
    assert choose_thresholds(("a",), targets, faint, rules).off_by_default == ("a",)
    assert choose_thresholds(("a",), targets, 10 * faint, rules).off_by_default == ()
