"""The loop learns, stops, averages, and goes on where it was."""

import copy
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support import toy_training
from support.forked import Forked
from support.peers import training_group
from support.toy_training import ToySamples, toy_fit, toy_recipe
from support.toy_training import toy_training as prepared

from streamtag.errors import RecipeError
from streamtag.train.data.loader import BatchShare, Loader
from streamtag.train.data.samples import TrainingSample
from streamtag.train.nets.model import Model, new_model
from streamtag.train.recipes.recipe import Recipe
from streamtag.train.run_folder import result
from streamtag.train.training import loop as fit
from streamtag.train.training.loop import (
    cpu_weights,
    criterion_of,
    running_mean,
    with_statistics,
)
from streamtag.train.training.predictions import Predictions, cross_entropy, predict

STAGES = (
    'fit.stages=[{epochs=2,lr=3e-3,schedule="plateau",plateau_patience=0},'
    '{epochs=2,lr=1e-2,optimizer="sgd",reload_best=true}]'
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def same(one: Model, other: Model) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.complete
def test_it_learns(tmp_path: Path) -> None:
    model, _ = toy_fit(toy_recipe("fit.stages.0.epochs=12", "fit.select=loss"), tmp_path)
    verdict = predict(model, ToySamples(64, 3))
    assert ((verdict.logits[:, :2] > 0) == (verdict.truth[:, :2] > 0.5)).mean() > 0.95
    lines = log_of(tmp_path)
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert lines[-1]["validation_loss"] < lines[0]["validation_loss"]
    assert max(line["pr_auc"] for line in lines) > 0.95
    assert (tmp_path / "curves.png").stat().st_size > 5000


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 300.0], ids=["within an epoch", "between epochs"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    recipe = toy_recipe(STAGES)
    whole, _ = toy_fit(recipe, tmp_path / "whole")
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", seconds)
    real, calls = fit.training_step, 0

    def failing(*args: object) -> float:
        nonlocal calls
        calls += 1
        if calls in (3, 9, 15):
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fit, "training_step", failing)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            toy_fit(recipe, tmp_path / "cut")
    cut, _ = toy_fit(recipe, tmp_path / "cut")
    assert same(whole, cut)
    assert calls == 16 + 3 + (0 if seconds == 0 else 2 + 2 + 0)
    kept = [[{k: v for k, v in line.items() if k != "seconds"} for line in log_of(tmp_path / name)]
            for name in ("whole", "cut")]  # fmt: skip
    assert kept[0] == kept[1]


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    changes = ("fit.stages.0.epochs=7", "fit.swa_start=2", "fit.snapshots=2", "fit.per_tag=false")
    recipe, fourth_epoch = toy_recipe(*changes), 3 * 4 + 2
    whole, _ = toy_fit(recipe, tmp_path / "whole")
    command = [toy_training.__file__, str(tmp_path / "cut"), *changes]
    environment = os.environ | {toy_training.HANGS_AT: str(fourth_epoch)}
    with Forked(*command, stderr=subprocess.PIPE, env=environment) as process:
        log, deadline = tmp_path / "cut" / "log.jsonl", time.monotonic() + 120
        while not (log.exists() and log.read_text().count("\n") >= 3):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "cut" / "weights.pt").exists()
    cut, _ = toy_fit(recipe, tmp_path / "cut")
    assert same(whole, cut)
    assert [line["epoch"] for line in log_of(tmp_path / "cut")] == list(range(1, 8))


def test_a_run_of_another_recipe_is_not_resumed(tmp_path: Path) -> None:
    toy_fit(toy_recipe("fit.stages.0.epochs=1"), tmp_path)
    with pytest.raises(RecipeError, match=r"checkpoint\.pt: expected a run of this recipe"):
        toy_fit(toy_recipe("fit.stages.0.epochs=2"), tmp_path)


def test_a_finished_run_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = toy_fit(toy_recipe(), tmp_path)
    monkeypatch.setattr(fit, "training_step", lambda *args: pytest.fail("learned again"))
    again, _ = toy_fit(toy_recipe(), tmp_path)
    assert same(first, again)


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """Each computes its half of a batch in two parts, and they exchange gradients once."""
    changes = ("net.name=plain", "augment.band_masks=0", "augment.level_db=0.0",
               "augment.colour_db=0.0")  # fmt: skip
    _, alone = toy_fit(toy_recipe(*changes), tmp_path / "alone")
    words = [toy_training.__file__, str(tmp_path / "two"), *changes, "fit.accumulate=2"]
    assert training_group(*words, log=(log := tmp_path / "log")) == [0, 0], log.read_text()
    members, _ = result(tmp_path / "two")
    for name, value in alone.members[0].items():
        torch.testing.assert_close(members[0][name], value, rtol=1e-4, atol=1e-6)
    assert len(log_of(tmp_path / "two")) == 3


# -- stages ----------------------------------------------------------------------------------------


def test_a_stage_ends_when_its_patience_does(tmp_path: Path) -> None:
    recipe = toy_recipe("fit.stages.0.epochs=20", "fit.stages.0.patience=2",
                        "fit.stages.0.lr=1e-12")  # fmt: skip
    toy_fit(recipe, tmp_path, train_set=ToySamples(32, 1, gain=0), validation=ToySamples(32, 2, 0))
    lines = log_of(tmp_path)
    best = max(range(len(lines)), key=lambda i: (lines[i]["pr_auc"], -i))
    assert len(lines) == best + 3 < 20


def test_restarts_share_a_budget_of_epochs(tmp_path: Path) -> None:
    """P3: reload the best, a smaller rate, and count on from the best epoch."""
    stages = [
        f'{{epochs=9,lr={0.5 * 0.2**n},optimizer="sgd",patience=2,reload_best=true,rewind=true}}'
        for n in range(3)
    ]
    recipe = toy_recipe(f"fit.stages=[{','.join(stages)}]", "fit.max_epochs=8", "fit.select=loss")
    training = prepared(recipe, tmp_path)
    fit.fit(training)
    lines = log_of(tmp_path)
    for number, line in enumerate(lines):
        assert line["lr"] == pytest.approx(0.5 * 0.2 ** line["stage"]), number
    assert training.run.counted <= 8
    assert training.run.counted < len(lines) or max(x["stage"] for x in lines) == 0


def test_the_best_is_reloaded_for_the_next_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe("fit.stages=[{epochs=3,lr=3e-3},{epochs=1,lr=1e-12,reload_best=true}]")
    scores = iter([0.5, 0.9, 0.4, 0.3])
    kept: list[dict[str, torch.Tensor]] = []
    real = fit.validate

    def scored(t: fit.Training) -> dict[str, object]:
        kept.append(cpu_weights(t.model))
        return real(t) | {"pr_auc": next(scores)}

    monkeypatch.setattr(fit, "validate", scored)
    _, found = toy_fit(recipe, tmp_path)
    assert all(torch.equal(kept[1][k], found.members[0][k]) for k in kept[1])
    weights = [k for k in kept[1] if k.endswith("weight")]
    assert all(torch.allclose(kept[3][k], kept[1][k], atol=1e-6) for k in weights)
    assert not all(torch.allclose(kept[3][k], kept[2][k], atol=1e-6) for k in weights)


class Programmes(ToySamples):
    """Windows that are programmes of one moment, and mixtures as well."""

    def mixtures(self) -> Iterator[TrainingSample]:
        rows = zip(self.frames, self.targets, strict=True)
        return (TrainingSample(frames, targets) for frames, targets in rows)


EMBEDDED = (
    'net.name="efficientat-stream"', "net.segment_frames=16", "net.stride_frames=8",
    "net.scales=[16,32]", "augment.band_masks=0", "fit.select=last",
    "fit.stages=[{epochs=1,lr=1e-3},{epochs=1,lr=1e-2,embedded=20}]",
)  # fmt: skip


def test_a_stage_teaches_the_head_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    real = fit.validate

    def noted(t: fit.Training) -> dict[str, object]:
        kept.append(cpu_weights(t.model))
        return real(t)

    monkeypatch.setattr(fit, "validate", noted)
    changes = (*EMBEDDED, "fit.swa_start=1", "fit.swa_every=1")
    _, found = toy_fit(toy_recipe(*changes), tmp_path, train_set=Programmes(24, 1))
    before, after = kept
    name = "net.dense.weight"
    mean = (before[name] + after[name]) / 2
    torch.testing.assert_close(found.members[-1][name], mean)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert {"net.dense.weight", "net.base.classifier.2.weight"} <= changed
    assert not [k for k in changed if k.startswith("net.base.features")]
    assert all(np.isfinite(line["loss"]) for line in log_of(tmp_path))


class Segmented(Programmes):
    """Programmes that also give groups of two segments of 16 frames with a family."""

    def segments(self, count: int) -> ToySamples:
        rng = np.random.default_rng(0)
        targets = rng.integers(0, 2, (count // 2, 2, 1)).astype(np.float32)
        targets[0, 0] = np.nan
        frames = rng.normal(0, 1, (count // 2, 32, self.frames.shape[2])).astype(np.float32)
        made = ToySamples(count // 2, 1)
        made.tags, made.frames, made.targets = ("piano",), frames, targets
        return made


SEGMENTS = (
    *EMBEDDED, "net.families=1", "fit.swa_start=2",
    "fit.stages=[{epochs=1,lr=1e-2,segments=16},{epochs=1,lr=1e-3}]",
)  # fmt: skip


def test_a_stage_teaches_the_small_net_alone_and_later_ones_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    real = fit.validate

    def noted(t: fit.Training) -> dict[str, object]:
        kept.append(cpu_weights(t.model))
        return real(t)

    monkeypatch.setattr(fit, "validate", noted)
    train = Segmented(24, 1)
    fresh = cpu_weights(prepared(toy_recipe(*SEGMENTS), tmp_path / "a", train_set=train).model)
    _, found = toy_fit(toy_recipe(*SEGMENTS), tmp_path / "b", train_set=train)
    changed = {k for k in fresh if not torch.equal(fresh[k], kept[0][k])}
    assert changed
    assert all(k.startswith("net.beside.") for k in changed)
    beside = [k for k in kept[1] if k.startswith("net.beside.")]
    assert all(torch.equal(kept[0][k], kept[1][k]) for k in beside)
    assert all(torch.equal(kept[0][k], found.members[-1][k]) for k in beside)
    told = kept[1]["net.dense.weight"][:, -1] - kept[0]["net.dense.weight"][:, -1]
    assert told.any()  # the head listens to it


def test_trainings_whose_weights_are_averaged_have_the_same_small_net(tmp_path: Path) -> None:
    found = [
        toy_fit(toy_recipe(*SEGMENTS, f"fit.draw={draw}"), tmp_path / str(draw),
                train_set=Segmented(24, 1))[1].members[-1]
        for draw in (0, 1)
    ]  # fmt: skip
    one, other = found
    beside = [k for k in one if k.startswith("net.beside.")]
    assert all(torch.equal(one[k], other[k]) for k in beside)
    assert not torch.equal(one["net.dense.weight"], other["net.dense.weight"])


def test_a_net_without_families_has_no_such_stage(tmp_path: Path) -> None:
    changes = [c for c in SEGMENTS if not c.startswith("net.families")]
    with pytest.raises(RecipeError, match=r"segments: expected a net with net\.families"):
        toy_fit(toy_recipe(*changes), tmp_path, train_set=Segmented(24, 1))


def test_windows_without_programmes_cannot_teach_the_head_alone(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="embedded: expected a net with a trunk"):
        toy_fit(toy_recipe(*EMBEDDED), tmp_path)


def test_epochs_that_differ_in_the_fourth_digit_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.1231, 0.1234, 0.1232])

    def scored(*args: object, **options: object) -> Predictions:
        """Areas as wanted: one positive among negatives, so far from the top."""
        n, area = 10_000, next(found)
        truth, logits = np.zeros((n, 3), np.float32), np.linspace(5, -5, n)[:, None].repeat(3, 1)
        truth[round(n * (1 - area))] = 1
        return Predictions(truth, logits)

    monkeypatch.setattr(fit, "predict", scored)
    training = prepared(toy_recipe("fit.select=roc_auc"), tmp_path)
    fit.fit(training)
    assert [line["roc_auc"] for line in log_of(tmp_path)] == pytest.approx(
        [0.1231, 0.1234, 0.1232], abs=1e-4
    )
    assert training.run.best_epoch == 2


@pytest.mark.parametrize("keeps", [True, False])
def test_momentum_goes_on_in_the_next_stage_if_the_recipe_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    """The baseline's authors change the rate of one SGD; also after a kill between the stages."""
    stage = '{epochs=1,lr=1e-2,optimizer="sgd"%s}'
    second = stage % f",keep_optimizer={str(keeps).lower()}"
    recipe = toy_recipe(f"fit.stages=[{stage % ''},{second}]")
    seen: list[dict[str, object]] = []
    real = fit.run_epoch

    def noted(training: fit.Training, step: object, optimizer: torch.optim.Optimizer,
              *rest: object) -> object:  # fmt: skip
        seen.append(copy.deepcopy(optimizer.state_dict()["state"]))
        if len(seen) == 2 and not resumed:
            raise KeyboardInterrupt
        return real(training, step, optimizer, *rest)  # type: ignore[arg-type]

    resumed = False
    monkeypatch.setattr(fit, "run_epoch", noted)
    with pytest.raises(KeyboardInterrupt):
        toy_fit(recipe, tmp_path)
    resumed = True
    toy_fit(recipe, tmp_path)
    assert [bool(state) for state in seen] == [False, keeps, keeps]
    if keeps:
        buffers = [state[0]["momentum_buffer"] for state in seen[1:]]  # type: ignore[index]
        assert torch.equal(*buffers)


# -- averages --------------------------------------------------------------------------------------


def test_every_tag_keeps_its_own_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = [[0.5, 0.9, 0.7], [0.4, 0.8, 0.9], [0.6, 0.7, 0.9], [0.6, 0.75, 0.8]]
    losses = iter(table)
    real = fit.validate
    monkeypatch.setattr(fit, "validate", lambda t: real(t) | {"tag_losses": next(losses)})
    recipe = toy_recipe("fit.stages.0.epochs=4", "fit.per_tag=true")
    model, found = toy_fit(recipe, tmp_path)
    assert found.shares is not None
    assert found.shares.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]  # epochs 1, 2, 3
    samples = ToySamples(8, 5)
    own = [predict(fit_member(recipe, w), samples).scores for w in found.members]
    expected = np.stack([own[1][:, 0], own[2][:, 1], own[0][:, 2]], axis=1)
    assert predict(model, samples).scores == pytest.approx(expected, abs=1e-6)


def fit_member(recipe: Recipe, weights: dict[str, torch.Tensor]) -> Model:
    model = new_model(recipe, 3)
    model.load_state_dict(weights)
    return model.eval()


def test_few_epochs_can_serve_all_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([[0.5, 0.9, 0.7], [0.4, 0.8, 0.9], [0.6, 0.7, 0.9]])
    real = fit.validate
    monkeypatch.setattr(fit, "validate", lambda t: real(t) | {"tag_losses": next(losses)})
    recipe = toy_recipe("fit.per_tag=true", "fit.per_tag_members=2")
    _, found = toy_fit(recipe, tmp_path)
    assert found.shares is not None
    # Without epoch 2 the losses grow by 0.1, without 3 by 0.1, without 1 by 0.2.
    assert found.shares.shape == (2, 3)
    assert found.shares[0].tolist()[2] == 1


def test_the_mean_of_weights_is_the_mean() -> None:
    states = [{"w": torch.tensor([float(i)]), "n": torch.tensor(i)} for i in (1, 2, 6)]
    mean: dict[str, torch.Tensor] = {}
    for done, state in enumerate(states):
        mean = running_mean(mean, done, state)
    assert mean["w"].item() == pytest.approx(3)
    assert mean["n"].item() == 6


def test_batch_statistics_are_those_of_the_new_weights(tmp_path: Path) -> None:
    recipe = toy_recipe("fit.batch_size=64")
    samples = ToySamples(64, 1)
    model = new_model(recipe, 3)
    batches = list(Loader(samples, recipe, plain=True).epoch(0))
    twin = with_statistics(model, cpu_weights(model), batches, 32)
    norm, before = twin.get_submodule("net.norm"), model.get_submodule("net.norm")
    with torch.no_grad():
        heard = twin.net.stem(torch.from_numpy(samples.frames).unsqueeze(1))  # type: ignore[operator]
    torch.testing.assert_close(norm.running_mean, heard.mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert before.running_mean.abs().max() == 0
    assert norm.momentum == before.momentum


def test_batch_statistics_of_programmes_are_those_of_the_window_at_their_end(
    tmp_path: Path,
) -> None:
    recipe, samples = toy_recipe("fit.batch_size=64"), ToySamples(64, 1)
    model, known = new_model(recipe, 3), ToySamples(64, 1)
    samples.frames = np.concatenate([9 + samples.frames[:, :20], samples.frames], axis=1)
    found = []
    for some in (samples, known):
        batches = Loader(some, recipe, plain=True).epoch(0)
        twin = with_statistics(model, cpu_weights(model), batches, 32)
        found.append(twin.get_submodule("net.norm").running_mean)
    torch.testing.assert_close(found[0], found[1])


def test_snapshots_are_averaged_with_the_best(tmp_path: Path) -> None:
    recipe = toy_recipe("fit.stages.0.epochs=7", "fit.swa_start=2", "fit.swa_every=2",
                        "fit.snapshots=2")  # fmt: skip
    model, found = toy_fit(recipe, tmp_path)
    assert len(found.members) == 3
    lines = log_of(tmp_path)
    assert [line["epoch"] for line in lines if "swa_pr_auc" in line] == [2, 4, 6]
    samples = ToySamples(8, 5)
    own = [predict(fit_member(recipe, w), samples).scores for w in found.members]
    assert predict(model, samples).scores == pytest.approx(np.mean(own, axis=0), abs=1e-6)


# -- losses and batches ----------------------------------------------------------------------------


def test_what_nobody_knows_is_not_learned() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    cross_entropy(logits, torch.tensor([[1.0, float("nan")]])).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-0.5, 0.0]]


def test_positives_weigh_more_where_they_are_rare(tmp_path: Path) -> None:
    training = prepared(toy_recipe("fit.balanced=true", "fit.pos_weight=2.0"), tmp_path)
    training.train_set.targets[:] = 0  # type: ignore[attr-defined]
    training.train_set.targets[:16, 0] = 1  # type: ignore[attr-defined]
    training.train_set.targets[:32, 1] = 1  # type: ignore[attr-defined]
    criterion = criterion_of(training)
    for tag, weight in enumerate((6.0, 2.0, 100.0)):
        logits = torch.zeros(1, 3)
        one = torch.zeros(1, 3)
        one[0, tag] = 1
        base = float(criterion(logits, torch.zeros(1, 3)))
        assert float(criterion(logits, one)) - base == pytest.approx(
            (weight - 1) * np.log(2) / 3, rel=1e-4
        )


def test_logits_of_soft_targets_keep_the_order_of_small_probabilities(tmp_path: Path) -> None:
    plain, both = (criterion_of(prepared(toy_recipe(change), tmp_path / change))
                   for change in ("fit.logit_weight=0", "fit.logit_weight=0.5"))  # fmt: skip
    soft, unknown = torch.tensor([[0.001, 0.01, 0.6]]), float("nan")
    assert float(both(torch.logit(soft), soft)) == pytest.approx(float(plain(soft.logit(), soft)))
    wrong = torch.logit(soft.flip(1))
    assert float(both(wrong, soft) - plain(wrong, soft)) == pytest.approx(
        0.5 * (2 * (7.312 - 0.5) + 0) / 3, rel=1e-3
    )
    pull = []
    for criterion in (plain, both):
        logits = torch.tensor([[-3.0, -3.0, 0.0]], requires_grad=True)
        criterion(logits, soft).backward()
        assert logits.grad is not None
        pull.append(logits.grad[0, 0] / logits.grad[0, 2].abs())
    assert pull[1] > 2 * pull[0]
    for certain in ([0.0, 1.0, 0.0], [1.0, unknown, 0.0]):  # the truth has no logits
        truth, said = torch.tensor([certain]), torch.tensor([[-20.0, 3.0, 9.0]])
        assert float(both(said, truth)) == float(plain(said, truth))
    extreme = torch.tensor([[1e-9, 1 - 1e-7, 0.5]])  # no further than a sure yes or no
    assert torch.isfinite(both(torch.tensor([[-40.0, 40.0, 0.0]]), extreme))


def test_every_window_comes_once_per_epoch_in_another_order() -> None:
    recipe, samples = toy_recipe(), ToySamples(40, 1)
    samples.targets[:, 2] = np.arange(40)
    loader = Loader(samples, recipe)
    epochs = [torch.cat([b.targets[:, 2] for b in loader.epoch(e)]) for e in (0, 1, 0)]
    assert sorted(epochs[0].tolist()) == list(range(40))
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[0], epochs[2])


def test_batches_do_not_depend_on_workers_or_on_where_one_begins() -> None:
    recipe, samples = (
        toy_recipe("augment.shift_frames=5", "augment.mixup_alpha=0.3"),
        ToySamples(40, 1),
    )
    here = list(Loader(samples, recipe).epoch(3))
    for other in (
        Loader(samples, recipe, workers=2).epoch(3, 1),
        Loader(samples, recipe).epoch(3, 1),
    ):
        for a, b in zip(here[1:], other, strict=True):
            assert torch.equal(a.frames, b.frames)
            assert torch.equal(a.targets, b.targets)


def test_processes_share_every_batch() -> None:
    recipe, samples = toy_recipe("augment.band_masks=0"), ToySamples(34, 1)
    samples.targets[:, 2] = np.arange(34)
    whole = [b.targets[:, 2].tolist() for b in Loader(samples, recipe).epoch(0)]
    parts = [
        [b.targets[:, 2].tolist() for b in Loader(samples, recipe, BatchShare(rank, 2)).epoch(0)]
        for rank in (0, 1)
    ]
    assert [len(batch) for batch in whole] == [16, 16, 2]
    for batch, one, other in zip(whole, *parts, strict=False):
        assert sorted(batch) == sorted(one + other)


@pytest.mark.parametrize("shuffle", ["windows", "recordings", "batches"])
def test_windows_recordings_or_batches_are_shuffled(shuffle: str) -> None:
    """Polimi's nets learn from the same clips together in each epoch; only the order of batches
    changes. Batches of the BiLSTM have all four segments of a clip."""
    samples = ToySamples(160, 1)
    samples.owners = np.arange(160) // 4
    samples.targets[:, 2] = samples.owners
    recipe = toy_recipe(f"recordings.shuffle={shuffle}")
    orders = [[sorted(b.targets[:, 2].tolist()) for b in Loader(samples, recipe).epoch(e)]
              for e in (0, 1)]  # fmt: skip
    whole = all(batch.count(owner) == 4 for b in orders for batch in b for owner in batch)
    assert whole is (shuffle != "windows")
    assert orders[0] != orders[1]
    assert (sorted(orders[0]) == sorted(orders[1])) is (shuffle == "batches")
    assert sorted(owner for batch in orders[0] for owner in batch) == sorted(samples.owners)
    after = list(Loader(samples, recipe).epoch(1, 7))
    assert [sorted(b.targets[:, 2].tolist()) for b in after] == orders[1][7:]


def test_a_smaller_last_batch_can_be_left_out() -> None:
    for drop, steps in ((False, 3), (True, 2)):
        recipe = toy_recipe(f"fit.drop_last={str(drop).lower()}")
        assert Loader(ToySamples(40, 1), recipe).steps == steps
        assert Loader(ToySamples(40, 1), recipe, plain=True).steps == 3
        assert Loader(ToySamples(10, 1), recipe).steps == 1


def test_partners_of_mixup_are_cut_and_masked_anew() -> None:
    """The authors draw them from a loader of their own (Sukhavasi and Adapa 2019)."""
    recipe = toy_recipe("augment.mixup_alpha=1.0", "augment.mixup_two_orders=true",
                        "augment.band_masks=0", "augment.level_db=0.0", "augment.colour_db=0.0",
                        "augment.shift_frames=16")  # fmt: skip
    one = ToySamples(1, 1)  # its own partner
    frames = one.frames[0]
    (batch,) = Loader(one, recipe).epoch(0)
    mixed = batch.frames[0].numpy()
    shifted = [np.roll(frames, by, axis=0) for by in range(-16, 17)]
    assert not any(np.allclose(mixed, window, atol=1e-5) for window in shifted)


def test_a_last_batch_of_one_is_left_out() -> None:
    assert Loader(ToySamples(33, 1), toy_recipe()).steps == 2
    assert Loader(ToySamples(1, 1), toy_recipe()).steps == 1


def test_a_loss_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    samples = ToySamples(32, 1)
    samples.frames[:] = np.inf
    with pytest.raises(
        RecipeError, match=r"recipe 'toy': expected a finite loss in epoch 1, batch 1"
    ):
        toy_fit(toy_recipe(), tmp_path, train_set=samples)


def test_mixed_precision_learns_too(tmp_path: Path) -> None:
    changes = ("fit.amp=true", "fit.stages.0.epochs=12", "fit.select=loss")
    model, _ = toy_fit(toy_recipe(*changes), tmp_path)
    verdict = predict(model, ToySamples(64, 3))
    assert ((verdict.logits[:, :2] > 0) == (verdict.truth[:, :2] > 0.5)).mean() > 0.9
    assert next(model.parameters()).dtype == torch.float32
