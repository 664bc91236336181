"""Pictures of a training: `curves.png`, and scalars for TensorBoard."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamtag.feed.atomic_file import atomic_file

SCALARS = ("loss", "validation_loss", "pr_auc", "roc_auc", "swa_pr_auc", "swa_roc_auc", "lr")
"""The values of a log line that TensorBoard shows."""
PANELS = {
    "loss": {"loss": "training", "validation_loss": "validation"},
    "validation score": {
        "roc_auc": "ROC-AUC",
        "pr_auc": "PR-AUC",
        "swa_roc_auc": "ROC-AUC of averaged weights",
        "swa_pr_auc": "PR-AUC of averaged weights",
    },
    "learning rate": {"lr": ""},
}
"""The panels of `curves.png`: the values of a log line in each, and their names."""


class CurveWriter:
    """Writes scalars per epoch for TensorBoard; does nothing if that is not installed.

    Args:
        folder: the run folder.
        epoch: later epochs that were written before are hidden, because they are repeated.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self._writer: Any = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1)

    def show(self, line: dict[str, Any]) -> None:
        """Writes the log line of an epoch."""
        if self._writer is None:
            return
        for name in SCALARS:
            if name in line:
                self._writer.add_scalar(name, line[name], line["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()


def draw(path: Path, title: str, lines: Sequence[dict[str, Any]], best_epoch: int = 0) -> None:
    """Writes a PNG of loss, scores and learning rate against epochs.

    The file is replaced as a whole, so that a viewer never reads half of one.

    Args:
        path: the file.
        title: above the panels.
        lines: the lines of `log.jsonl`.
        best_epoch: marked by a line; 0 for none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 7))
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 1))
    for (heading, names), panel in zip(PANELS.items(), panels, strict=True):
        for name, label in names.items():
            points = [(line["epoch"], line[name]) for line in lines if name in line]
            if points:
                panel.plot(*zip(*points, strict=True), marker=".", label=label)
        if best_epoch:
            panel.axvline(best_epoch, color="0.6", linestyle=":")
        panel.set_ylabel(heading)
        panel.grid(alpha=0.3)
        if any(panel.get_legend_handles_labels()[1]):
            panel.legend(loc="best", fontsize="small")
    panels[0].set_title(f"{title}: best at epoch {best_epoch}" if best_epoch else title)
    panels[-1].set_yscale("log")
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()
    figure.subplots_adjust(left=0.12, right=0.97, top=0.95, bottom=0.07)
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
