"""The pictures of a training."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from support.toy_training import toy_fit, toy_recipe

from streamtag.train import curves
from streamtag.train.training import loop

LINES = [{"epoch": i, "loss": 1 / i, "validation_loss": 1.2 / i, "pr_auc": 1 - 0.5 / i, "lr": 1e-3}
         for i in range(1, 9)]  # fmt: skip


def test_curves_are_drawn_and_the_best_epoch_is_marked(tmp_path: Path) -> None:
    curves.draw(tmp_path / "one.png", "toy", LINES)
    curves.draw(tmp_path / "two.png", "toy", LINES, 5)
    one, two = (imread(tmp_path / name)[:, :, :3] for name in ("one.png", "two.png"))
    assert one.shape == (770, 770, 3)
    changed = np.flatnonzero((one != two).any(axis=(0, 2)))
    assert len(changed) > 5
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one.png", "two.png"]


@pytest.mark.parametrize(("plot", "pictures"), [(True, 4), (False, 1)])
def test_plot_draws_after_every_epoch(
    plot: bool, pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def draw(path: Path, title: str, lines: list[object], best_epoch: int) -> None:
        assert path == tmp_path / "curves.png"
        drawn.append(len(lines))

    monkeypatch.setattr(loop, "draw", draw)
    toy_fit(toy_recipe(), tmp_path, plot=plot)
    assert drawn == [1, 2, 3, 3][-pictures:]
