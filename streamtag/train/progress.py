"""What a training shows: a line per epoch, and on a terminal a bar with the time left.

The time left is that of the whole run: all epochs of all stages, and all members of an ensemble,
each of which is taken to need as long as the present one.
"""

import math
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

TRAINING_WORK = 3
"""Work of learning from a window, in units of predicting one: forward, and twice that backward."""
QUIET_SECONDS = 30.0
"""How often work on the data is reported if no bar is shown."""
MEASURES = {"pr_auc": "PR-AUC", "roc_auc": "ROC-AUC", "loss": "loss"}
"""`fit.select` in words; all are of the validation part."""


class TrainingProgress:
    """Shows how far a training is. Without a console it is silent.

    Args:
        console: a terminal gets a bar; a pipe, a file or a notebook plain lines.
        clock: returns seconds.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or Console(quiet=True)
        self._clock = clock
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            disable=not self.console.is_terminal or self.console.is_jupyter,
        )
        self._tasks: dict[str, TaskID] = {}
        self._reported: dict[str, float] = {}
        self._warned: set[str] = set()
        self._member, self._members = 1, 1
        self._worked, self._seconds = 0.0, 0.0
        self._epochs, self._epoch, self._epoch_work = 0, 0, 1.0
        self._at_most = False
        self._position, self._last = 0.0, 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Prints a warning; once, as every member of an ensemble reads the same recordings."""
        if text in self._warned:
            return
        self._warned.add(text)
        self.console.print(text, style="yellow", markup=False, soft_wrap=True)

    def prepared(self, what: str, done: int, total: int) -> None:
        """Shows work on the data: `done` of `total`, of a kind named `what`."""
        began = self._reported.setdefault(what, self._clock())
        text = f"{done} of {total}"
        self._bar.update(self._task(what), completed=done, total=total, text=text)
        late = self._clock() - began > QUIET_SECONDS
        if self._bar.disable and (late or done == total):
            self._reported[what] = self._clock()
            self.say(f"{what}: {text}")

    def member(self, number: int, count: int, name: str) -> None:
        """Begins the `number`-th of `count` nets of an ensemble."""
        self._member, self._members = number, count
        self.say(f"member {number} of {count}: {name}")

    def begin(
        self, epochs: int, windows: tuple[float, int], epoch: int = 0, *, may_stop: bool = False
    ) -> None:
        """Begins the training of a net, or continues it.

        Args:
            epochs: the largest number of epochs.
            windows: learned from and predicted in an epoch.
            epoch: number of completed epochs.
            may_stop: whether it may end before the last epoch.
        """
        self._epochs, self._epoch, self._at_most = epochs, epoch, may_stop
        self._epoch_work = max(1.0, TRAINING_WORK * windows[0] + windows[1])
        self._position, self._last = epoch * self._epoch_work, self._clock()
        if 0 < epoch < epochs:
            self.say(f"continues after epoch {epoch} of {epochs}")

    def learned(self, windows: float, loss: float) -> None:
        """Shows that the net learned from some windows; `loss` is the mean of this epoch."""
        self._advance(TRAINING_WORK * windows, f"loss {loss:.3f}")

    def predicted(self, windows: int) -> None:
        """Shows that the net predicted some windows of the validation part."""
        self._advance(windows, "validation")

    def epoch_done(
        self, line: Mapping[str, Any], select: str, best_epoch: int, behind: int
    ) -> None:
        """Prints the line of an epoch, which `log.jsonl` has in full.

        Args:
            line: its values.
            select: `fit.select`.
            best_epoch: the epoch with the best score so far, counted from 1.
            behind: number of epochs that are over; patience and restarts jump.
        """
        self._epoch, self._position = behind, behind * self._epoch_work
        text = epoch_text(line, select, best_epoch, self._epochs)
        self.say(f"{text}  {self.time_left()}".rstrip() if self._bar.disable else text)

    def finishing(self) -> None:
        """Shows that the trained model is calibrated, scored and written."""
        if "train" in self._tasks:
            self._bar.update(self._tasks["train"], text="calibration, scores, bundle")

    def time_left(self) -> str:
        """The time left of the whole run in words."""
        total = self._epochs * self._epoch_work
        work = max(0.0, total - self._position) + (self._members - self._member) * total
        if not self._worked or not work:
            return ""
        limit = "at most " if self._at_most else ""
        return f"{limit}{duration(self._seconds / self._worked * work)} left"

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, text="")
        return self._tasks[name]

    def _advance(self, work: float, text: str) -> None:
        now = self._clock()
        self._seconds, self._last = self._seconds + now - self._last, now
        self._worked, self._position = self._worked + work, self._position + work
        member = f"member {self._member}/{self._members}" if self._members > 1 else "train"
        self._bar.update(
            self._task("train"),
            description=member,
            completed=self._position,
            total=self._epochs * self._epoch_work,
            text=f"epoch {self._epoch + 1}/{self._epochs}  {text}  {self.time_left()}",
        )


def epoch_text(line: Mapping[str, Any], select: str, best_epoch: int, epochs: int) -> str:
    """The line of an epoch for people; a loss is never negated."""
    epoch = line["epoch"]  # restarts may need more than there are
    count = f"{epoch:{len(str(epochs))}}/{epochs}" if epoch <= epochs else f"{epoch}"
    cells = [f"epoch {count}", f"loss {line['loss']:.3f}"]
    if "validation_loss" in line:
        cells.append(f"val loss {line['validation_loss']:.3f}")
    shown = select if select in ("pr_auc", "roc_auc") else "pr_auc"
    for prefix in ("", "swa_"):
        if (value := line.get(prefix + shown)) is not None:
            figure = "–" if math.isnan(value) else f"{value:.4f}"
            cells.append(f"{'averaged ' * bool(prefix)}val {MEASURES[shown]} {figure}")
    if select in MEASURES and "validation_loss" in line:
        cells.append(f"best at epoch {best_epoch}")
    return "  ".join(cells)


def duration(seconds: float) -> str:
    """A length of time with its one or two largest units: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
