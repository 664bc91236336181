"""The memory of a step is known before it, and a batch in parts is the same batch."""

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy_training import ToySamples, toy_recipe
from support.toy_training import toy_training as prepared

from streamtag.errors import RecipeError
from streamtag.train.data.loader import Batch
from streamtag.train.run_folder import RunFolder
from streamtag.train.training import loop, memory
from streamtag.train.training.loop import LossModule, Training, criterion_of, fit, training_step
from streamtag.train.training.memory import (
    AllocationCounter,
    StepMemory,
    choose_accumulation,
    free_memory,
    split_batch,
    step_memory,
)
from streamtag.train.training.schedule import make_optimizer

GB = 10**9
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def batch_of(n: int, unknown: float = 0.0) -> Batch:
    samples, rng = ToySamples(n, 1), np.random.default_rng(2)
    targets = np.where(rng.random((n, 3)) < unknown, np.nan, samples.targets).astype(np.float32)
    return Batch(torch.from_numpy(samples.frames), torch.from_numpy(targets), None)


@pytest.mark.parametrize("unknown", [0.0, 0.6], ids=["all known", "some unknown"])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_gradients_of_parts_add_up_to_those_of_the_batch(
    tmp_path: Path, parts: int, unknown: float
) -> None:
    found = []
    for accumulate in (1, parts):
        recipe = toy_recipe("net={name='plain'}", "fit.stages.0.optimizer=sgd", "fit.clip_norm=0.0")
        training = prepared(recipe, tmp_path)
        training.run.accumulate = accumulate
        module = LossModule(training.model, criterion_of(training))
        optimizer = make_optimizer(recipe.fit.stages[0], training.model.parameters())
        loss = training_step(training, module, optimizer, 0.1, batch_of(15, unknown))
        grads = [p.grad.clone() for p in training.model.parameters() if p.grad is not None]
        found.append((loss, grads))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert len(found[0][1]) == 4
    for whole, summed in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-5, atol=1e-8)


def test_parts_are_of_two_windows_at_least_and_none_is_lost() -> None:
    for n in range(1, 12):
        for windows in range(1, 13):
            parts = split_batch(batch_of(n), windows)
            assert torch.equal(torch.cat([p.frames for p, _ in parts]), batch_of(n).frames)
            assert math.isclose(sum(weight for _, weight in parts), 1)
            assert min(len(p.frames) for p, _ in parts) >= min(2, n)
            assert max(len(p.frames) for p, _ in parts) <= max(windows, 3)


def test_a_part_without_known_targets_counts_for_nothing() -> None:
    batch = batch_of(4)
    batch.targets[:2] = float("nan")
    (part, weight), = split_batch(batch, 2)  # fmt: skip
    assert weight == 1
    assert torch.equal(part.targets, batch.targets[2:])


@pytest.mark.parametrize(
    ("free", "present", "parts"),
    [(0, 0, 1), (100 * GB, 0, 1), (22 * GB, 0, 1), (20 * GB, 0, 2), (2 * GB, 0, 32), (1, 0, 32),
     (100 * GB, 4, 4), (17.2 * GB, 1, 1), (5 * GB, 1, 6)],
)  # fmt: skip
def test_as_few_parts_as_the_memory_allows(free: float, present: int, parts: int) -> None:
    """A step needs 1 GB and 0.25 GB per window, thus 17 GB for 64, and may fill 80 %."""
    chosen = choose_accumulation(StepMemory(GB, GB // 4), 64, round(free), present)
    assert (chosen.parts, chosen.fits) == (parts, free != 1)
    if parts > 1 and not present and chosen.fits:
        assert chosen.needed <= 0.8 * free
        assert StepMemory(GB, GB // 4).of(math.ceil(64 / (parts - 1))) > 0.8 * free


def test_what_is_said_of_it() -> None:
    step = StepMemory(GB, GB // 4)
    assert f"{choose_accumulation(step, 64, 100 * GB)}" == (
        "memory: about 17.0 GB of 100.0 GB free for a batch of 64"
    )
    assert f"{choose_accumulation(step, 64, 12 * GB)}" == (
        "memory: about 17.0 GB of 12.0 GB free for a batch of 64; 2 parts of 32 windows, gradients "
        "added up: the batch stays 64, batch normalisation sees 32, about 9.0 GB"
    )


def test_tensors_are_counted_while_they_live() -> None:
    x = torch.zeros(1000, 50, requires_grad=True)
    with AllocationCounter() as counter:
        y = torch.relu(x + 1)
        assert counter.now == y.nbytes
        assert counter.largest == 2 * y.nbytes
        y.sum().backward()
        del y
    assert x.grad is not None
    assert counter.now == x.grad.nbytes
    assert 2 * x.nbytes < counter.largest < 4 * x.nbytes


def test_an_estimate_grows_with_the_batch_and_changes_nothing(tmp_path: Path) -> None:
    training = prepared(toy_recipe("fit.batch_size=32"), tmp_path)
    module = LossModule(training.model, criterion_of(training))
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    state = torch.get_rng_state()
    found = step_memory(training.recipe, module, training.train_set, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in training.model.state_dict().items())
    assert all(p.grad is None for p in training.model.parameters())
    frames = 4 * 32 * 80
    assert found.per_window > 10 * frames
    assert found.of(64) - found.of(32) == 32 * found.per_window


def test_free_memory_is_what_the_tightest_control_group_leaves(tmp_path: Path) -> None:
    group = tmp_path / "v2" / "a" / "b"
    group.mkdir(parents=True)
    for folder, limit, used in ((group, "max", 5), (group.parent, "1000", 400)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 100\ninactive_file 50\n")
    (tmp_path / "own").write_text("0::/a/b\n")
    assert list(memory._control_group_free(tmp_path / "own", tmp_path / "v2")) == [650]
    old = tmp_path / "v1" / "memory" / "c"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("3000\n")
    (old / "memory.usage_in_bytes").write_text("1000\n")
    (tmp_path / "own").write_text("8:pids:/\n4:memory:/c\n0::/\n")
    assert list(memory._control_group_free(tmp_path / "own", tmp_path / "v1")) == [2000]
    assert not list(memory._control_group_free(tmp_path / "none", tmp_path))
    assert free_memory(CPU) > 0


def test_processes_on_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_system_free", lambda: iter([800]))
    monkeypatch.setattr(memory, "_control_group_free", lambda *_: iter([]))
    monkeypatch.setattr(memory, "_heap_free", lambda: 7)
    assert free_memory(CPU) == 807
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(CPU) == 207


def with_free(monkeypatch: pytest.MonkeyPatch, parts: float) -> None:
    """So much memory that batches of 16 have that many parts."""
    monkeypatch.setattr(loop, "step_memory", lambda *_: StepMemory(0, 1000))
    monkeypatch.setattr(loop, "free_memory", lambda _: round(16 * 1000 / parts / 0.8))


def test_a_run_goes_on_with_the_parts_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parts_of(epochs_done: int) -> int:
        table = json.loads((tmp_path / "about.json").read_text())["memory"]
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["run"]
        assert (table["batch"], state["epoch"]) == (16, epochs_done)
        assert table["parts"] == state["accumulate"]
        return int(table["parts"])

    recipe = toy_recipe()
    for epoch, (has, parts) in enumerate([(4, 4), (1, 4), (8, 8)], 1):
        with_free(monkeypatch, has)
        training = prepared(recipe, tmp_path)
        monkeypatch.setattr(training.interrupt, "is_set", True)
        monkeypatch.setattr(loop, "run_epoch", after_an_epoch(training, loop.run_epoch))
        with pytest.raises(KeyboardInterrupt):
            fit(training)
        monkeypatch.undo()
        torch.set_num_threads(1)
        assert parts_of(epoch) == parts


def after_an_epoch(training: Training, real: object) -> object:
    """`run_epoch` that is not interrupted within the epoch."""

    def run(*args: object) -> object:
        training.interrupt.is_set = False
        found = real(*args)  # type: ignore[operator]
        training.interrupt.is_set = True
        return found

    return run


def test_the_recipe_can_set_the_parts(tmp_path: Path) -> None:
    training = prepared(toy_recipe("fit.accumulate=4", "fit.stages.0.epochs=1"), tmp_path)
    fit(training)
    table = json.loads((tmp_path / "about.json").read_text())["memory"]
    assert (table["parts"], table["windows_per_part"]) == (4, 4)
    RunFolder(tmp_path, toy_recipe("fit.accumulate=2", "fit.stages.0.epochs=1")).check()
    with pytest.raises(RecipeError, match=r"fit\.accumulate: expected 'auto' or a number .* got 0"):
        toy_recipe("fit.accumulate=0")


def test_ctrl_c_ends_after_the_step_and_the_run_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe("fit.stages.0.epochs=2")
    whole = fit(prepared(recipe, tmp_path / "whole"))
    real, calls = loop.training_step, 0

    def interrupted(*args: object) -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="in epoch 1, after batch 2 of 4"):
        fit(prepared(recipe, tmp_path / "cut"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    cut = fit(prepared(recipe, tmp_path / "cut"))
    assert calls == 8
    for name, value in whole.members[0].items():
        assert torch.equal(value, cut.members[0][name])
