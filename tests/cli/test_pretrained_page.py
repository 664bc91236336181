"""docs/pretrained.md: every command of the page runs, one after the other.

Windows are short, nets narrow and epochs few; four folders of tones stand for the data sets.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from support.narrow_nets import narrow_nets
from support.paths import ROOT
from support.quick_models import without_processes_and_pictures
from support.sounds import write_wav
from support.tones import RATE, tone
from support.torchvision_nets import TorchvisionMobilenet
from typer.testing import CliRunner

from streamtag.cli import main
from streamtag.errors import RecipeError
from streamtag.model.bundle import read_card
from streamtag.train.nets import NETS

DATA = ("sounds", "any-music", "magnatagatune", "mtg-jamendo-dataset")
SHORT = ("fit.max_epochs=1", "fit.batch_size=4", "fit.accumulate=1", "recordings.subset=",
         "recordings.split=", "recordings.short=wrap")  # fmt: skip
WINDOWS = {"musicnn": (50, 12, 50), "amlag-1": (65, 47, 47), "taiwan": (16, 8, 16)}  # fmt: skip
"""Window, hop and first window in frames by the beginning of the recipe's name."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    without_processes_and_pictures(monkeypatch)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recordings and checkpoints under the names of the page."""
    rng = np.random.default_rng(1)
    for data in DATA:
        for tag in ("low", "high"):
            (tmp_path / data / tag).mkdir(parents=True)
            for i in range(9):
                write_wav(tmp_path / data / tag / f"{i}.wav", tone(tag, rng), RATE)
    torch.save(NETS["musicnn"](50).state_dict(), tmp_path / "jamendo_musicnn.pth")
    torch.save(TorchvisionMobilenet().state_dict(), tmp_path / "mobilenet_v2-b0353104.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> str:
    """Runs a command of the page, a training shortened; returns what it printed."""
    words = shlex.split(line)[1:]
    if words[0] == "train":
        sizes = next(n for name, n in WINDOWS.items() if words[1].startswith(name))
        frames = zip(("window", "hop", "first"), sizes, strict=True)
        changes = [*SHORT, *(f"{key}_frames={n}" for key, n in frames)]
        words += [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(main.app, words, env={"COLUMNS": "300"})
    if result.exception:
        raise result.exception
    return result.output


def test_the_commands_of_the_page_run(place: Path) -> None:
    page = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 7
    with pytest.raises(RecipeError, match="train it on its own data first: streamtag train taiwan"):
        run(lines[-2])
    with narrow_nets():
        said = [run(line) for line in lines]
    assert (
        "musicnn: begins with the weights of musicnn-jamendo.pt; new for 2 tags instead of 50 "
        "other tags: dense2.bias, dense2.weight" in said[1]
    )
    assert "ImageNet's weights from mobilenet_v2-b0353104.pth" in said[2]
    assert "begins with the codec of runs/taiwan-vqvae-1;" in said[4]
    for text in said[5:]:
        assert "begins with the codec of runs/taiwan-chain-mtat;" in text
    for name in ("musicnn", "amlag-1", "taiwan-chain-mtat", "taiwan-chain-run-1", "taiwan-run-2"):
        assert read_card(Path("models") / f"{name}.pt").tags == ("high", "low")
