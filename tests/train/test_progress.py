"""What a training shows: lines per epoch, the bar, and the time left over the whole run."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.toy_training import ToySamples, toy_fit, toy_recipe

from streamtag.train.progress import TrainingProgress, duration, epoch_text

LINE = {"epoch": 3, "loss": 0.5, "validation_loss": 0.25, "pr_auc": 0.75, "roc_auc": 0.875}


class Screen:
    """A console whose text can be read, and a clock that goes a second per look at it."""

    def __init__(self, *, terminal: bool) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, force_terminal=terminal, width=80)
        self.seconds = 0.0

    def clock(self) -> float:
        self.seconds += 1
        return self.seconds

    def progress(self) -> TrainingProgress:
        return TrainingProgress(self.console, self.clock)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_an_epoch_has_names_and_signs_that_mean_something() -> None:
    assert epoch_text(LINE, "pr_auc", 2, 20) == (
        "epoch  3/20  loss 0.500  val loss 0.250  val PR-AUC 0.7500  best at epoch 2"
    )
    assert "val ROC-AUC 0.8750  best" in epoch_text(LINE, "roc_auc", 3, 20)
    by_loss = epoch_text(LINE, "loss", 3, 20)
    assert "val loss 0.250  val PR-AUC 0.7500  best at epoch 3" in by_loss
    assert "-0" not in by_loss
    assert "best" not in epoch_text(LINE, "last", 3, 20)
    assert epoch_text({"epoch": 21, "loss": 1.0}, "pr_auc", 0, 20) == "epoch 21  loss 1.000"
    assert "val PR-AUC –" in epoch_text(LINE | {"pr_auc": float("nan")}, "pr_auc", 0, 20)
    assert "averaged val PR-AUC 0.8000" in epoch_text(LINE | {"swa_pr_auc": 0.8}, "last", 0, 20)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "1 h"), (12_000, "3 h 20 min"),
     (180_000, "2 d 2 h"), (172_800, "2 d")],
)  # fmt: skip
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_time_left_is_that_of_all_members() -> None:
    screen = Screen(terminal=False)
    progress = screen.progress()
    progress.member(1, 3, "a")
    progress.begin(2, (10, 10))
    progress.learned(10, 0.7)  # a second for 30 units
    assert progress.time_left() == "7 s left"  # of 3 x 2 epochs of 40 units 210 are left
    progress.predicted(10)
    assert progress.time_left() == "10 s left"  # 200 units, at 40 in two seconds
    progress.member(2, 3, "b")
    progress.begin(2, (10, 10), 2)  # this one was trained before
    progress.member(3, 3, "c")
    progress.begin(2, (10, 10), 1, may_stop=True)
    assert progress.time_left() == "at most 2 s left"
    assert screen.lines == ["member 1 of 3: a", "member 2 of 3: b", "member 3 of 3: c",
                            "continues after epoch 1 of 2"]  # fmt: skip


def test_a_pipe_gets_plain_lines() -> None:
    screen = Screen(terminal=False)
    with screen.progress() as progress:
        for done in range(1, 101):
            progress.prepared("features", done, 100)
        progress.begin(2, (10, 0))
        progress.learned(10, 0.5)
        progress.epoch_done({"epoch": 1, "loss": 0.5}, "last", 0, 1)
        progress.warn("one [recording] is broken")
        progress.warn("one [recording] is broken")  # as every member of an ensemble says
    *work, epoch, warning = screen.lines
    assert 2 <= len(work) <= 10
    assert work[-1] == "features: 100 of 100"
    assert epoch == "epoch 1/2  loss 0.500  1 s left"
    assert warning == "one [recording] is broken"


def test_validation_moves_the_bar_of_a_terminal(tmp_path: Path) -> None:
    screen = Screen(terminal=True)
    with screen.progress() as progress:
        toy_fit(toy_recipe("fit.stages.0.epochs=2"), tmp_path, progress=progress)
        (task,) = progress._bar.tasks
        assert task.completed == task.total == 2 * (3 * 64 + 48)
        assert "validation" in task.fields["text"]
        progress.finishing()
    assert task.fields["text"] == "calibration, scores, bundle"
    shown = screen.file.getvalue()
    assert "epoch 1/2  loss" in shown
    assert "best at epoch" in shown


def test_a_validation_part_without_positives_is_named_and_the_loss_decides(tmp_path: Path) -> None:
    screen = Screen(terminal=False)
    validation = ToySamples(16, 2)
    validation.targets[:] = 0
    with screen.progress() as progress:
        toy_fit(toy_recipe(), tmp_path, progress=progress, validation=validation)
    *_, first, one, two, three = screen.lines
    epochs = [one, two, three]
    assert "to choose the best epoch by PR-AUC, got none in 16 recordings" in first
    losses = [float(line.partition("val loss ")[2].split()[0]) for line in epochs]
    assert f"best at epoch {1 + losses.index(min(losses))}" in epochs[-1]


def test_nothing_is_shown_without_a_console(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress() as progress:
        progress.prepared("features", 1, 1)
        progress.warn("loud")
    assert capsys.readouterr() == ("", "")
