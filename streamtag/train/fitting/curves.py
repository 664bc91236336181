"""Pictures of a training: a PNG in the run folder, and TensorBoard where it is installed."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCALARS = ("loss", "validation_loss", "pr_auc", "roc_auc", "swa_pr_auc", "swa_roc_auc", "lr")


class CurveWriter:
    """Scalars per epoch for TensorBoard; does nothing where that is not installed.

    Args:
        folder: of the run.
        epoch: what was written for later ones is hidden: they come again.
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
        """Adds an epoch's line of the log."""
        if self._writer is None:
            return
        for name in SCALARS:
            if name in line:
                self._writer.add_scalar(name, line[name], line["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()


def draw(path: Path, title: str, lines: Sequence[dict[str, Any]]) -> None:
    """Loss, scores and learning rate against epochs, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 1))
    for names, panel in zip(
        (("loss", "validation_loss"), ("roc_auc", "pr_auc", "swa_roc_auc", "swa_pr_auc"), ("lr",)),
        panels,
        strict=True,
    ):
        for name in names:
            points = [(line["epoch"], line[name]) for line in lines if name in line]
            if points:
                panel.plot(*zip(*points, strict=True), marker=".", label=name.replace("_", " "))
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(loc="best", fontsize="small")
    panels[0].set_title(title)
    panels[-1].set_yscale("log")
    panels[-1].set_xlabel("epoch")
    figure.savefig(path, dpi=110)
