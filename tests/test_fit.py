"""The trainer learns, stops and goes on where it was, and exports what it measured."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import nn

from streamtag.errors import RecipeError
from streamtag.tagger import Tagger
from streamtag.train import fit
from streamtag.train.data import folder_of, load
from streamtag.train.evaluate import describe, sigmoid, summary
from streamtag.train.export import export
from streamtag.train.fit import batches, fitted, learning_rate, loss_of, new_net, statistics
from streamtag.train.nets.small import Small
from streamtag.train.notes import SPLITS
from streamtag.train.recipe import Fit, Recipe, Thresholds, load_recipe
from streamtag.train.thresholds import switches, temperatures
from streamtag.train.trainable import logits_of

TAGS = ("low", "high", "never")
RULES = Thresholds(
    beta=1.0, smallest_roc_auc=0.6, smallest_lift=1.3, off_ratio=0.6, stray_share=1.0
)


def toy_recipe(**changes: float) -> Recipe:
    """Three tags, of which two lie in half the bands each."""
    recipe = load_recipe("instruments")
    mixtures = dataclasses.replace(recipe.mixtures, soundfonts=("A",), unseen_soundfonts=("B",))
    steps = {"epochs": 3, "batch_size": 16, "patience": 9, "band_masks": 2, "peak_lr": 3e-3}
    steps |= {"mix_share": 0.0}
    settings = dataclasses.replace(recipe.fit, **(steps | changes))
    return dataclasses.replace(
        recipe, name="toy", tags=TAGS, window_frames=32, first_frames=8, hop_frames=8,
        mixtures=mixtures, fit=settings,
    )  # fmt: skip


def toy_windows(recipe: Recipe, cache: Path, n: int = 96) -> Path:
    """Prepared data without any audio: noise, louder in the bands of what is on."""
    folder = folder_of(recipe, cache)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    names = ["mixtures-train", "mixtures-validation", "mixtures-test"]
    names += [f"{kind}-{split}-A" for kind in ("pieces", "tunes") for split in SPLITS]
    names += ["strangers-train", "strangers-validation", "pieces-test-B", "tunes-test-B"]
    for name in names:
        targets = np.zeros((n, 3), np.float32)
        targets[:, :2] = rng.random((n, 2)) < 0.5
        frames = rng.normal(-8, 1, (n, 32, 80))
        frames[:, :, :40] += 3 * targets[:, None, :1]
        frames[:, :, 40:] += 3 * targets[:, None, 1:2]
        targets[0, 0] = np.nan
        np.save(folder / f"{name}-frames.npy", frames.astype(np.float16))
        np.save(folder / f"{name}-targets.npy", targets)
    (folder / "done").touch()
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_train_makes_a_bundle_that_knows_its_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe(epochs=8)
    windows = toy_windows(recipe, tmp_path / "cache")
    monkeypatch.setattr(fit, "load_recipe", lambda _: recipe)
    monkeypatch.setattr(fit, "false_alarms", lambda tagger, data: {"events_per_hour": 1.5})
    path = fit.train(
        "toy", tmp_path, tmp_path / "models", cache=tmp_path / "cache", runs=tmp_path / "runs"
    )
    assert path == tmp_path / "models" / "toy.pt"
    tagger = Tagger.load(path, "cpu")
    judged = load(windows, "mixtures-test")
    answers = tagger(judged.frames.astype(np.float32))
    decided = answers >= np.array(tagger.card.on_thresholds, np.float32)
    right = decided[1:, :2] == (judged.targets[1:, :2] > 0.5)
    assert right.mean() > 0.95
    scores = tagger.card.scores
    assert scores["unseen notes, mixed"]["roc_auc"] > 0.95
    assert scores["unseen pieces, unknown soundfont B"]["tags"].keys() == {"low", "high"}
    assert scores["false alarms, noise and speech"] == {"events_per_hour": 1.5}
    assert tagger.card.off_by_default == ("never",)
    assert tagger.card.extra["recipe"]["fit"]["epochs"] == 8
    lines = [json.loads(x) for x in (tmp_path / "runs/toy/log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe()
    windows = toy_windows(recipe, tmp_path / "cache", n=24)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    with Progress(disable=True) as bar:
        whole = fitted(recipe, windows, tmp_path / "whole", bar).state_dict()
        real, calls = fit.learn, 0

        def failing(*args: object) -> float:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise KeyboardInterrupt
            return real(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(fit, "learn", failing)
        with pytest.raises(KeyboardInterrupt):
            fitted(recipe, windows, tmp_path / "cut", bar)
        monkeypatch.setattr(fit, "learn", real)
        cut = fitted(recipe, windows, tmp_path / "cut", bar).state_dict()
    assert calls == 5
    for name, value in whole.items():
        assert torch.equal(value, cut[name]), name


def test_a_run_of_another_recipe_is_not_resumed(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1)
    windows = toy_windows(recipe, tmp_path / "cache", n=16)
    with Progress(disable=True) as bar:
        fitted(recipe, windows, tmp_path, bar)
        other = toy_recipe(epochs=2)
        with pytest.raises(RecipeError, match=r"checkpoint\.pt: expected a run of this recipe"):
            fitted(other, windows, tmp_path, bar)


def test_it_stops_when_validation_gets_no_better(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=20, patience=2, peak_lr=1e-12)
    windows = toy_windows(recipe, tmp_path / "cache", n=16)
    for path in windows.glob("*-validation*-frames.npy"):  # nothing can be learned
        np.save(path, np.zeros((16, 32, 80), np.float16))
    with Progress(disable=True) as bar:
        fitted(recipe, windows, tmp_path, bar)
    epochs = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(epochs) == 3


def test_every_window_comes_once_per_epoch_in_another_order(tmp_path: Path) -> None:
    recipe = toy_recipe()
    folder = toy_windows(recipe, tmp_path / "cache", n=40)
    windows = load(folder, "mixtures-train", "pieces-train-A")
    windows.targets[:, 2] = np.arange(80)
    epochs = [
        torch.cat([targets[:, 2] for _, targets in batches(windows, recipe, epoch)])
        for epoch in (0, 1, 0)
    ]
    assert sorted(epochs[0].tolist()) == list(range(80))
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[0], epochs[2])


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = toy_recipe()
    rates = np.array([learning_rate(recipe, step, 200) for step in range(200)])
    assert rates.argmax() == 20
    assert rates.max() == pytest.approx(recipe.fit.peak_lr)
    assert (np.diff(rates[:20]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[-1] < 1e-3 * recipe.fit.peak_lr


def test_what_nobody_knows_is_not_learned() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    loss_of(logits, torch.tensor([[1.0, float("nan")]])).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-0.5, 0.0]]


def test_statistics_are_those_of_each_band() -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(np.arange(80), 1 + np.arange(80) / 40, (300, 32, 80)).astype(np.float16)
    mean, scale = statistics(frames)
    assert mean.numpy() == pytest.approx(np.arange(80), abs=0.2)
    assert scale.numpy() == pytest.approx(1 + np.arange(80) / 40, rel=0.05)


def test_a_net_that_only_serves_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"net: expected one with logits.*Vggish"):
        new_net(dataclasses.replace(toy_recipe(), net="vggish"))
    with pytest.raises(RecipeError, match=r"net: expected one of vggish, .*small"):
        new_net(dataclasses.replace(toy_recipe(), net="huge"))


# -- thresholds ----------------------------------------------------------------------------------


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
    chosen = switches(("clear", "noise"), targets, probabilities, RULES)
    assert 0.58 <= chosen.on[0] <= 0.62
    assert chosen.off[0] == pytest.approx(0.6 * chosen.on[0], abs=1e-3)
    assert chosen.f1[0] == 1.0
    assert chosen.off_by_default == ("noise",)


def test_sounds_without_any_tag_seldom_reach_a_threshold() -> None:
    targets = np.repeat(np.array([[1.0], [0.0]], np.float32), 100, axis=0)
    probabilities = np.concatenate([np.full((100, 1), 0.9), np.linspace(0, 0.8, 100)[:, None]])
    for share in (0.1, 0.5):
        rules = dataclasses.replace(RULES, stray_share=share)
        noisy = probabilities - 0.5 * targets  # F1 alone would take a low threshold
        on = switches(("a",), targets, noisy, rules).on[0]
        assert (probabilities[100:] >= on).mean() <= share + 0.01


def test_a_threshold_is_never_where_drift_would_hold_it() -> None:
    targets = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    chosen = switches(("always", "never"), targets, np.array([[0.01, 0.0], [0.02, 0.0]]), RULES)
    assert chosen.on == (0.1, 0.95)


# -- the net -------------------------------------------------------------------------------------


def test_the_small_net_is_small_and_any_length_fits() -> None:
    net = Small(11).eval()
    assert sum(p.numel() for p in net.parameters()) < 400_000
    for n_frames in (32, 128, 200):
        assert net(torch.zeros(2, n_frames, 80)).shape == (2, 11)


def test_normalisation_and_temperature_are_inside(tmp_path: Path) -> None:
    net = Small(3).eval()
    frames = torch.randn(2, 64, 80)
    plain = net.logits(frames)
    net.normalise(torch.full((80,), 5.0), torch.full((80,), 2.0))
    assert torch.allclose(net.logits(frames * 2 + 5), plain, atol=1e-4)
    net.calibrate(torch.tensor([1.0, 2.0, 4.0]))
    expected = torch.sigmoid(plain / torch.tensor([1.0, 2.0, 4.0]))
    assert torch.allclose(net(frames * 2 + 5), expected, atol=1e-5)
    assert {"mean", "scale", "temperature"} <= net.state_dict().keys()


def test_the_bundle_answers_as_the_net_did(tmp_path: Path) -> None:
    recipe = toy_recipe()
    windows = toy_windows(recipe, tmp_path, n=24)
    net: nn.Module = new_net(recipe)
    card = describe(recipe, net, windows)
    path = tmp_path / "toy.pt"
    export(net, card, path)
    judged = load(windows, "mixtures-test")
    logits = logits_of(net, judged) / net.get_buffer("temperature").numpy()
    answers = Tagger.load(path, "cpu")(judged.frames.astype(np.float32))
    assert answers == pytest.approx(sigmoid(logits), abs=1e-5)


def test_the_fit_section_is_complete() -> None:
    assert {f.name for f in dataclasses.fields(Fit)} >= {"epochs", "patience", "peak_lr"}


def test_tags_that_hardly_occur_in_a_test_are_not_judged() -> None:
    targets = np.zeros((200, 3), np.float32)
    targets[:60, 0] = targets[:3, 1] = targets[3:, 2] = 1
    judged = summary(TAGS, targets, targets + 0.1)
    assert judged["tags"].keys() == {"low"}
    assert judged["roc_auc"] == 1.0
    assert judged["prior"] == 0.3
