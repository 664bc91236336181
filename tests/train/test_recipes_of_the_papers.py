"""The recipes are the papers' runs: nets, sizes, windows, learning rates and published scores."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support.paths import SHARED

from streamtag.audio.feature_config import FrameKind, Framing, Log, Order, Weighting
from streamtag.model.card import PastPadding
from streamtag.train import recipe_table as table
from streamtag.train.data.corpora.jamendo import JAMENDO_MEL
from streamtag.train.evaluation.scores import report, summary
from streamtag.train.importing.published import KINDS
from streamtag.train.nets import innsbruck
from streamtag.train.nets.jamendo import Popularity
from streamtag.train.recipes.file import known_recipes, load_any, load_recipe
from streamtag.train.recipes.recipe import Cut, Ensemble, Recipe, Schedule, Short, Task
from streamtag.train.training.schedule import learning_rate

METRICS = SHARED / "data" / "metrics"

CODEC_1, CODEC_2 = 4_990_208 + 262_144, 5_776_640 + 262_144
"""VQ-VAE of both types, encoder and codebook: what taggers keep of it."""
PARAMETERS = {
    "vggish": 448_122,
    "popularity": 0,
    "taiwan-vqvae-1": CODEC_1 + 4_727_809,
    "taiwan-vqvae-1-mtat": CODEC_1 + 4_727_809,
    "taiwan-vqvae-2": CODEC_2 + 5_514_241,
    "taiwan-run-1": CODEC_1 + 6_714_168,
    "taiwan-run-2": CODEC_1 + 6_714_168,
    "taiwan-run-3": CODEC_1 + 2_804_010,
    "taiwan-run-4": CODEC_1 + 2_804_010,
    "taiwan-run-5": CODEC_2 + 5_534_520,
    "taiwan-mtat": CODEC_1 + 6_714_168 - 6 * 257,  # 50 tags instead of 56
    "taiwan-chain-mtat": CODEC_1 + 6_714_168 - 6 * 257,
    "taiwan-chain-run-1": CODEC_1 + 6_714_168,
    "taiwan-gru-paper": CODEC_1 + 3_181_624,
    "taiwan-cnn-1d": CODEC_1 + 3_040_372,
    "amlag-1": 2_295_663,
    "amlag-1-single": 2_295_663,
    "amlag-2": 11_274_895 - 1_281_000,  # without the 1000 classes that nothing uses
    "innsbruck-run-1": 394_296,
    "innsbruck-run-1-8ep": 394_296,
    "innsbruck-run-2": 394_296,
    "innsbruck-run-3": 394_329,
    "innsbruck-run-4": 411_632,
    "innsbruck-run-4-8ep": 411_632,
    "innsbruck-run-5": 411_665,
    "innsbruck-own-features": 411_632,
    "innsbruck-paper-head": 403_896,
    "innsbruck-paper-head-23": 406_840,
    "polimi-samplecnn": 2_119_858,
    "polimi-samplecnn-folders": 2_119_858,
    "polimi-cnn2d": 361_970,
    "polimi-cnn2d-folders": 361_970,
    "polimi-bilstm": 1_023_300,
    "polimi-bilstm-folders": 1_023_300,
    "polimi-bilstm-early": 1_023_300 - 50 * 50 * (221 - 177),  # of 183 frames 177 are left
    "cpjku-cp-resnet": 3_587_056,
    # The paper has no table of these: with rho_time = 5 the isotropic net's 3,600,368 or 7,003,120,
    # else convolutions 5 … 8 are 3 by 1 or 1 by 3.
    "cpjku-fa-4": 3_600_368 - 6 * 129 * 128,
    "cpjku-fa-5": 3_600_368,
    "cpjku-fa-as-submitted": 3_600_368,
    "cpjku-fa-6": 3_600_368 + 2 * 129 * 128,
    "cpjku-fa-7": 3_600_368 + 2 * (129 * 128 + 129 * 256),
    "cpjku-fa-8": 3_600_368 + 2 * (129 * 128 + 129 * 256 + 257 * 256),
    "cpjku-shake-4": 7_003_120 - 2 * 6 * 129 * 128,
    "cpjku-shake-5": 7_003_120,
    "cpjku-shake-6": 7_003_120 + 4 * 129 * 128,
    "cpjku-shake-7": 7_003_120 + 4 * (129 * 128 + 129 * 256),
    "cpjku-shake-8": 7_003_120 + 4 * (129 * 128 + 129 * 256 + 257 * 256),
    "cpjku-crnn": 394_488 + 2 * (256 - 96),  # normalises 256 bands instead of 96
    "cpjku-resnet34": 21_307_128,
    "instruments": 275_979,
    "general": 901_816,
    "general-2": 1_658_596,
    "general-2-free": 1_658_596,
    "general-2-small": 1_279_553,
    "small": 287_544,
    "streaming": 316_216,
    "musicnn": 784_300 + 6 * 201,  # 56 tags instead of 50
}
WINDOWS = {"taiwan": 23.8, "amlag-1": 140.6, "amlag-2": 87.4, "innsbruck": 29.1, "vggish": 29.1,
           "popularity": 29.1, "polimi-samplecnn": 29.1, "polimi-cnn2d": 29.2,
           "polimi-bilstm-early": 29.3,
           "polimi-bilstm": 7.3,
           "cpjku": 10.0}  # fmt: skip
"""Seconds, to a tenth, by the beginning of the name."""
SCORES = {
    # pr_auc, roc_auc, f_macro, f_micro on the official test set of MediaEval 2019
    "cpjku-1-shakefaresnet": (0.1480, 0.7717, 0.2083, 0.1904),
    "cpjku-2-faresnet": (0.1463, 0.7575, 0.2035, 0.1856),
    "cpjku-3-average": (0.1546, 0.7729, 0.2124, 0.1896),
    "cpjku-crnn": (0.1172, 0.7381, 0.1740, 0.1649),
    "cpjku-resnet34": (0.1021, 0.7168, 0.1579, 0.1415),
    "amlag-1": (0.1183, 0.7324, 0.1519, 0.1523),
    "amlag-2": (0.1259, 0.7529, 0.1830, 0.1644),
    "innsbruck-run-1": (0.0795, 0.6998, 0.1057, 0.1035),
    "innsbruck-run-2": (0.1103, 0.7186, 0.1142, 0.1037),
    "innsbruck-run-3": (0.1103, 0.7230, 0.1114, 0.1076),
    "innsbruck-run-4": (0.0897, 0.6852, 0.1015, 0.0946),
    "innsbruck-run-5": (0.0891, 0.6839, 0.1017, 0.0993),
    "taiwan-run-1": (0.0984, 0.7103, 0.1183, 0.1439),
    "taiwan-run-2": (0.1037, 0.7141, 0.0901, 0.1184),
    "taiwan-run-3": (0.0994, 0.7147, 0.1013, 0.1233),
    "taiwan-run-4": (0.1077, 0.7207, 0.1068, 0.1522),
    "taiwan-run-5": (0.0860, 0.6916, 0.0884, 0.1209),
    "vggish": (0.1077, 0.7258, 0.1657, 0.1771),
    "popularity": (0.0319, 0.5000, 0.0026, 0.0573),
}
RATES = {"polimi-samplecnn": (0.880, 0.812, 0.187), "polimi-cnn2d": (0.894, 0.827, 0.173),
         "polimi-bilstm": (0.870, 0.800, 0.203)}  # fmt: skip
"""roc_auc, and true and false positive rates, on the paper's own test clips."""


OWN = {"instruments", "general", "general-2", "general-2-free", "general-2-small", "small",
       "streaming", "musicnn"}  # fmt: skip
"""Recipes of no paper."""


def singles() -> dict[str, Recipe]:
    found = {name: load_any(name) for name in known_recipes()}
    return {name: recipe for name, recipe in found.items() if isinstance(recipe, Recipe)}


def named(beginning: str) -> list[Recipe]:
    return [recipe for name, recipe in singles().items() if name.startswith(beginning)]


def rates(recipe: Recipe, stage: int, epochs: list[float], steps: int = 100) -> list[float]:
    """The learning rate of a stage at some epochs."""
    return [
        learning_rate(recipe.fit.stages[stage], round(epoch * steps), steps) for epoch in epochs
    ]


# -- all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", known_recipes())
def test_every_recipe_has_a_description(name: str) -> None:
    recipe = load_any(name)
    assert recipe.description
    assert recipe.name in (name, f"{name}-1")
    if name in OWN:
        return
    assert recipe.run
    assert table.short_citation(recipe.paper)[-4:] in ("2018", "2019")
    if isinstance(recipe, Recipe):
        assert "not settled" in recipe.licence or recipe.task is Task.RECONSTRUCT
        assert 0.9 <= recipe.hop_frames / recipe.features.frame_rate <= 2.1
        assert 2.8 <= recipe.first_frames / recipe.features.frame_rate <= 3.2
        assert recipe.padding in (PastPadding.WRAP, PastPadding.MINIMUM)


@pytest.mark.parametrize("name", sorted(singles()))
def test_every_net_has_the_papers_number_of_weights(name: str) -> None:
    assert table.parameters(load_recipe(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(set(singles()) - OWN))
def test_every_window_is_as_long_as_in_the_paper(name: str) -> None:
    recipe = load_recipe(name)
    seconds = next(s for beginning, s in WINDOWS.items() if name.startswith(beginning))
    assert recipe.window_frames / recipe.features.frame_rate == pytest.approx(seconds, abs=0.06)


DEVIATING = set(known_recipes()) - OWN - {"popularity", "cpjku-1-shakefaresnet",
                                          "cpjku-2-faresnet"}  # fmt: skip
"""Recipes that differ from their paper; what ensembles of recipes do, their members say."""


def test_what_deviates_is_said_in_whole_sentences_and_nowhere_else() -> None:
    for name in known_recipes():
        deviates = load_any(name).deviates
        assert bool(deviates) is (name in DEVIATING), name
        assert len(set(deviates)) == len(deviates)
        for sentence in deviates:
            assert re.match(r"[A-Z1-9].*[.)]$", sentence), (name, sentence)
            assert "  " not in sentence, (name, sentence)
    nets = Path(innsbruck.__file__).parent
    for file in ("cpjku", "innsbruck", "jamendo", "mobilenet", "polimi", "vqvae",
                 "vqvae_classifiers"):  # fmt: skip
        text = (nets / f"{file}.py").read_text()
        (pointed,) = re.findall(r"^Deviates: see `deviates` of the recipes? \(`streamtag recipes "
                                r"([\w-]+)`\)\.$", text, re.M)  # fmt: skip
        assert load_any(pointed).deviates


def test_every_submitted_run_has_a_recipe_with_its_scores() -> None:
    for name, scores in SCORES.items():
        published = load_any(name).published
        found = [published[key] for key in ("pr_auc", "roc_auc", "f_macro", "f_micro")]
        assert found == pytest.approx(scores, abs=5e-5), name
    for name, figures in RATES.items():
        published = load_any(name).published
        assert [published[key] for key in ("roc_auc", "tpr", "fpr")] == list(figures), name


def test_nothing_else_claims_scores() -> None:
    others = {"innsbruck-run-1-8ep", "innsbruck-run-4-8ep", "taiwan-mtat", "cpjku-cp-resnet",
              "amlag-1-single", "polimi-bilstm-early"}  # fmt: skip
    scored = {name for name in known_recipes() if load_any(name).published}
    assert scored == {*SCORES, *RATES, *others}


@pytest.mark.skipif(not METRICS.exists(), reason="no official scores at ../shared/data/metrics")
def test_the_scores_are_the_official_ones() -> None:
    runs = {"1_shakefaresnet": "cpjku-1-shakefaresnet", "2_faresnet": "cpjku-2-faresnet",
            "3_avg_ensemble": "cpjku-3-average", "4_crnn": "cpjku-crnn",
            "5_resnet34": "cpjku-resnet34", "vggish": "vggish",
            "popular": "popularity"}  # fmt: skip
    found = {}
    for file in ("CP-JKU.tsv", "baseline.tsv"):
        with (METRICS / file).open(encoding="utf-8", newline="") as lines:
            found |= {row[""]: row for row in csv.DictReader(lines, delimiter="\t")}
    assert set(found) == set(runs)
    columns = {"roc_auc": "ROC-AUC-macro", "pr_auc": "PR-AUC-macro", "f_macro": "F-score-macro",
               "f_micro": "F-score-micro"}  # fmt: skip
    for run, name in runs.items():
        for key, column in columns.items():
            official = float(found[run][column])
            assert load_any(name).published[key] == pytest.approx(official, abs=5.1e-5), (run, key)


@pytest.mark.skipif(not METRICS.exists(), reason="no official labels at ../shared/data/metrics")
def test_popularity_scores_as_published_on_the_real_labels() -> None:
    """F is not 0: a constant score of 0.98 is above 0.5, if not above itself."""
    truth = np.load(METRICS / "groundtruth.npy")
    recipe = load_recipe("popularity")
    net = Popularity(56)
    net.count(torch.eye(56)[[26]])  # happy
    scores = net(torch.zeros(len(truth), 1, 96)).double().numpy()
    body = report([str(i) for i in range(56)], truth, scores, validation=(truth, scores),
                  rule=recipe.thresholds)  # fmt: skip
    found = summary(body)
    assert {key: found[key] for key in recipe.published} == recipe.published


# -- one paper after the other ---------------------------------------------------------------------


def test_innsbruck_amlag_and_the_baselines_see_the_published_mels() -> None:
    for beginning in ("amlag", "innsbruck", "vggish", "popularity"):
        for recipe in named(beginning):
            assert recipe.features == JAMENDO_MEL
            assert (recipe.recordings.subset, recipe.recordings.split) == ("mood/theme", "split-0")


def test_taiwan() -> None:
    runs = {1: ("vqvae-gru", 1, False), 2: ("vqvae-gru", 1, True), 3: ("vqvae-cnn", 1, False),
            4: ("vqvae-cnn", 1, True), 5: ("vqvae-gru", 2, False)}  # fmt: skip
    for number, (net, kind, frozen) in runs.items():
        recipe = load_recipe(f"taiwan-run-{number}")
        options = recipe.net.options
        assert (recipe.net.name, options["kind"], options["frozen"]) == (net, kind, frozen)
        first = load_recipe(recipe.pretrained)
        assert (first.net.options["kind"], first.task) == (kind, Task.RECONSTRUCT)
        assert first.features == recipe.features
        assert first.window_frames == recipe.window_frames == 1024
        assert (recipe.fit.select, first.fit.select) == ("roc_auc", "loss")
        (stage,) = recipe.fit.stages
        assert (recipe.fit.batch_size, stage.epochs, stage.lr) == (12, 100, 2e-4)
        assert (stage.schedule, stage.factor) == (Schedule.PLATEAU, 0.1)
        assert stage.plateau_patience == 10
        assert recipe.recordings.train is Cut.FIRST
        assert recipe.recordings.short is Short.DISCARD
    features = load_recipe("taiwan-run-1").features
    assert (features.sample_rate, features.n_fft, features.hop) == (22050, 2048, 512)
    assert (features.n_mels, features.log, features.log_gain) == (128, Log.LN1P, 10000)
    chain = ["taiwan-chain-run-1", "taiwan-chain-mtat", "taiwan-vqvae-1"]
    assert [load_recipe(name).pretrained for name in chain] == [*chain[1:], ""]
    assert load_recipe(chain[0]).pretrained_part == "codec"
    mtat = load_recipe("taiwan-mtat")
    assert (mtat.recordings.subset, mtat.recordings.split) == ("50-unmerged", "folders-0c")


def test_musicnn_can_begin_with_the_published_weights() -> None:
    recipe, kind = load_recipe("musicnn"), KINDS["sota-musicnn"]
    assert (recipe.net.name, recipe.features) == (kind.net, kind.features)
    assert recipe.window_frames == kind.window_frames


def test_amlag() -> None:
    """Everything else is in docs/papers.toml, which test_papers.py compares."""
    assert not load_recipe("amlag-1-single").fit.per_tag
    assert not load_recipe("amlag-1").augment.mixup_larger


def test_innsbruck() -> None:
    expected = {"1": (16, "centre", 1, False, 0), "1-8ep": (8, "centre", 1, False, 0),
                "2": (16, "drawn", 5, False, 0), "3": (16, "drawn", 5, True, 0),
                "4": (16, "drawn", 5, False, 22), "4-8ep": (8, "drawn", 5, False, 22),
                "5": (16, "drawn", 5, True, 22)}  # fmt: skip
    for number, (epochs, cut, segments, attention, side) in expected.items():
        recipe = load_recipe(f"innsbruck-run-{number}")
        (stage,) = recipe.fit.stages
        assert (stage.epochs, stage.lr, stage.schedule) == (epochs, 1e-3, Schedule.CONSTANT)
        assert (recipe.fit.batch_size, recipe.fit.select) == (64, "last")
        cuts = recipe.recordings
        assert (cuts.train, cuts.validation, cuts.test) == (cut, cut, "centre")
        assert (cuts.segments, cuts.side) == (segments, side)
        assert recipe.net.options["attention"] is attention
        assert recipe.net.options.get("side", 0) == side
        assert recipe.net.options["head"] == "repo"
        assert recipe.thresholds.rule == "roc_elbow"
        # Each of five windows is a sample of the validation.
        assert recipe.thresholds.per_window is recipe.fit.per_window is (segments == 5)
    own = load_recipe("innsbruck-own-features")
    assert (own.recordings.side, own.net.options["side_source"]) == (0, "own")
    for name, side in (("innsbruck-paper-head", 0), ("innsbruck-paper-head-23", 23)):
        recipe = load_recipe(name)
        assert recipe.net.options["head"] == "paper"
        assert recipe.net.options.get("side", 0) == recipe.recordings.side == side


@pytest.mark.parametrize("net", ["samplecnn", "cnn2d", "bilstm"])
def test_polimi(net: str) -> None:
    recipe, folders = load_recipe(f"polimi-{net}"), load_recipe(f"polimi-{net}-folders")
    assert (recipe.recordings.subset, recipe.recordings.split) == ("50", "random")
    assert folders.recordings.split == "folders"
    assert (folders.fit, folders.net, folders.features) == (recipe.fit, recipe.net, recipe.features)


def test_polimi_sees_the_whole_clip() -> None:
    samples = 465_984
    raw = load_recipe("polimi-samplecnn")
    assert (raw.features.kind, raw.window_frames) == (FrameKind.RAW, samples)
    image = load_recipe("polimi-cnn2d")
    assert image.features.n_frames(samples) == image.window_frames == 261
    segments = load_recipe("polimi-bilstm")
    assert segments.features.n_frames(samples) == 911
    assert segments.recordings.segments * segments.window_frames == 911 - 3
    early = load_recipe("polimi-bilstm-early")
    assert early.features.n_frames(samples) == early.window_frames == 183
    assert (early.features.hop, early.published) == (2560, {"roc_auc": 0.861})
    for recipe in (image, segments, early):
        features = recipe.features
        assert (features.sample_rate, features.n_fft, features.n_mels) == (16000, 2048, 128)
        assert (features.log, features.log_multiplier) == (Log.DB, 10)
        assert features.framing is Framing.CENTERED
    # A window of the BiLSTM is a quarter of the clip, whose largest value the authors' code takes.
    assert (segments.features.top_db, segments.recordings.top_db_from) == (80, "recording")
    assert {r.features.gain for r in named("polimi")} == {32768}  # 16-bit integers
    assert segments.fit.per_window
    assert {r.recordings.shuffle for r in named("polimi")} == {"batches"}


def test_cpjku() -> None:
    for recipe in named("cpjku"):
        (stage,) = recipe.fit.stages
        assert (stage.epochs, stage.optimizer, stage.weight_decay) == (200, "adam", 0)
        times = [0, 5, 10, 40, 70, 95, 120, 199]
        expected = [1e-6, 50.5e-6, 1e-4, 1e-4, 1e-4, 50.5e-6, 1e-6, 1e-6]
        assert rates(recipe, 0, times) == pytest.approx(expected)
        fit = recipe.fit
        assert (fit.batch_size, fit.select, fit.normalise) == (10, "pr_auc", True)
        assert (fit.swa_start, fit.swa_every, fit.snapshots) == (120, 3, 4)
        assert fit.pos_weight == (10 if recipe.name == "cpjku-fa-as-submitted" else 1)
        augment = recipe.augment
        assert (augment.mixup_alpha, augment.mixup_larger, augment.shift_frames) == (0.3, True, 50)
        assert (recipe.recordings.train, recipe.recordings.test) == ("random", "consecutive")
        features = recipe.features
        assert (features.sample_rate, features.n_fft, features.n_mels) == (44100, 2048, 256)
        assert (features.order, features.weighting) == (Order.LOG_MEL, Weighting.A)
        assert (features.log, features.top_db) == (Log.DB, 80)
        assert recipe.recordings.top_db_from == "recording"
        assert stage.interval == "epoch"
        overlap = 1 - features.hop / features.n_fft
        assert overlap == (0.25 if recipe.net.name in ("choi-crnn", "resnet34") else 0.75)


def test_cpjku_ensembles() -> None:
    shake = [f"cpjku-shake-{rho}" for rho in range(4, 9)]
    aware = [f"cpjku-fa-{rho}" for rho in range(4, 9)]
    expected = {"cpjku-1-shakefaresnet": shake, "cpjku-2-faresnet": aware,
                "cpjku-3-average": [*shake, *aware, "cpjku-cp-resnet"]}  # fmt: skip
    for name, members in expected.items():
        found = load_any(name)
        assert isinstance(found, Ensemble)
        assert list(found.members) == members
        assert len({load_recipe(member).features for member in members}) == 1
    for members, net in ((shake, "shake-fa-resnet"), (aware, "fa-resnet")):
        recipes = [load_recipe(member) for member in members]
        assert [dict(r.net.options) for r in recipes] == [
            {"rho_freq": 5, "rho_time": rho} for rho in range(4, 9)
        ]
        assert {r.net.name for r in recipes} == {net}
        assert len({r.seed for r in recipes}) == 5
