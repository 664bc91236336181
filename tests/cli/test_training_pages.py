"""docs/training*.md: every command of these pages runs, in the order in which a reader meets them.

Epochs are shortened as the pages say (`--set fit.max_epochs=1`). The recordings are made here, in
the layout of the reader's or of the paper's data; `torchrun` starts two processes on the CPU.
"""

import csv
import io
import os
import re
import shlex
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from support import forked
from support.forked import Forked
from support.paths import ROOT
from support.quick_models import without_processes_and_pictures
from support.sounds import write_wav
from typer.testing import CliRunner

from streamtag.cli import main
from streamtag.errors import StreamtagError
from streamtag.model.bundle import read_card
from streamtag.train.data import extraction

SECONDS = 120
SHORT = ["--set", "fit.max_epochs=1", "--set", "fit.accumulate=1", "--device", "cpu"]
"""No steps are tried for their memory: `tests/train/test_memory.py` does that."""
TAGS = ("dog", "rain", "rooster")
RATE = 16000
FENCE = re.compile(r"^```(\w*)(?: title=\"([\w.]+)\")?\n(.*?)^```", re.M | re.S)


def sound(tag: str, seconds: float, rate: int, seed: int) -> np.ndarray:
    """Barks, noise or a crowing tone; (n,) float32."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * rate)) / rate
    noise = rng.normal(0, 0.1, len(at))
    if tag == "dog":
        noise *= np.sin(2 * np.pi * 3 * at) > 0.5
    elif tag == "rooster":
        noise = 0.01 * noise + 0.3 * np.sin(2 * np.pi * (900 * at + 80 * np.sin(4 * at)))
    return noise.astype(np.float32)


class Reader:
    """Somebody who follows a page, in a folder with recordings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def follow(self, page: str) -> str:
        """Runs the commands of a page and writes its files; returns what was printed."""
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        printed = []
        for kind, title, body in FENCE.findall(text):
            if kind == "sh":
                lines = [line.partition("  #")[0] for line in body.splitlines()]
                printed += [self.run(shlex.split(line)) for line in lines if line]
            elif title:
                (self.folder / title).write_text(body, encoding="utf-8")
            elif kind == "csv":
                (self.folder / "clips.csv").write_text(body, encoding="utf-8")
                self.record(body)
        return "\n".join(printed)

    def run(self, words: list[str]) -> str:
        """Runs one command; returns its output."""
        if words[0] == "torchrun":
            return self.run_several(words[1:])
        if words[:2] in (["streamtag", "watch"], ["streamtag", "run"]):
            return self.go_on_air(words)
        if words[0] == "make":  # of a checkout; tests/train has the target's own test
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
            return ""
        assert words[0] == "streamtag", words
        short = SHORT if words[1] == "train" else []
        result = CliRunner().invoke(main.app, [*words[1:], *short], env={"COLUMNS": "100"})
        if isinstance(result.exception, StreamtagError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    def run_several(self, words: list[str]) -> str:
        words[words.index("--nproc-per-node") + 1] = "2"
        words[words.index("--workers") + 1] = "0"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = forked.run(
            "-m", "torch.distributed.run", "--standalone", *words, *SHORT, "--name", "several",
            cwd=self.folder, env=environment, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def go_on_air(self, words: list[str]) -> str:
        """`watch` is another terminal, so it is started just before the daemon."""
        if words[1] == "watch":
            return ""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        config = self.folder / words[2]
        config.write_text(f'feed.bind = "{address}"\n{config.read_text()}')
        watch = Forked("-m", "streamtag", "watch", address, cwd=self.folder, text=True,
                       stdout=subprocess.PIPE,
                       env=os.environ | {"PYTHONUNBUFFERED": "1"})  # fmt: skip
        try:
            done = forked.run("-m", *words, timeout=SECONDS, cwd=self.folder)
            assert done.returncode == 0, done.stderr
            assert watch.stdout is not None
            seen = []
            for line in watch.stdout:
                seen.append(line)
                if "stream_down" in line:
                    break
            return "".join(seen)
        finally:
            watch.kill()
            watch.wait(SECONDS)
            if watch.stdout:
                watch.stdout.close()

    def record(self, manifest: str) -> None:
        """Makes the recordings of a manifest: 10 s each."""
        for row in csv.DictReader(io.StringIO(manifest)):
            path = self.folder / row["file"]
            path.parent.mkdir(exist_ok=True)
            tags = row["tags"].split(";")
            parts = [sound(tag, 10, RATE, len(row["file"])) for tag in tags]
            write_wav(path, np.mean(parts, axis=0), RATE)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extraction, "_cores", lambda: 1)
    for tag in TAGS:
        (tmp_path / "sounds" / tag).mkdir(parents=True)
        for i in range(8):
            name = f"{chr(ord('a') + i)}.wav"
            write_wav(tmp_path / "sounds" / tag / name, sound(tag, 3, RATE, i), RATE)
    return Reader(tmp_path)


@pytest.fixture
def jamendo(reader: Reader) -> Path:
    """Nine made tracks in the layout of MTG-Jamendo."""
    folder = reader.folder / "mtg-jamendo-dataset"
    tables = folder / "data" / "splits" / "split-0"
    tables.mkdir(parents=True)
    (folder / "audio" / "00").mkdir(parents=True)
    for part, split in enumerate(("train", "validation", "test")):
        lines = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
        for i, tag in enumerate(TAGS, 10 * part):
            path = folder / "audio" / "00" / f"{i}.wav"
            write_wav(path, sound(tag, 30, 12000, i), 12000)
            ids = f"track_{i:07}\tartist_{i:06}\talbum_{i:06}"
            lines.append(f"{ids}\t00/{i}.mp3\t30.0\tmood/theme---{tag}")
        (tables / f"autotagging_moodtheme-{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_from_a_folder_of_recordings_to_a_tagger_on_air(reader: Reader) -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (config,) = (body for kind, _, body in FENCE.findall(text) if kind == "toml")
    (reader.folder / "on-air.toml").write_text(config)
    assert len(config.splitlines()) == 3
    printed = reader.follow("training.md")
    assert "best at epoch 1" in printed
    assert "calibration on validation data" in printed
    assert "garden 0:00.0 stream_up" in printed
    assert read_card(reader.folder / "models" / "small.pt").tags == TAGS
    for picture in ("runs/small/curves.png", "a.taggram.png"):
        assert (reader.folder / picture).stat().st_size > 5000


def test_a_manifest_is_copied_and_trained_on(reader: Reader) -> None:
    reader.follow("training-manifest.md")
    card = read_card(reader.folder / "models" / "yard.pt")
    assert card.tags == TAGS
    assert card.data == "clips.csv, as it says: 4 train, 2 validation, 2 test"


def test_a_papers_recipe_is_trained_and_its_table_compared(
    reader: Reader, jamendo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_processes_and_pictures(monkeypatch)
    for path in (reader.folder / "sounds").glob("*/[f-h].wav"):  # windows of 22 s take long
        path.unlink()
    printed = reader.follow("training-paper.md")
    assert "Bogdanov" in printed
    for name in ("vggish", "mine"):
        assert read_card(reader.folder / "models" / f"{name}.pt").tags == TAGS
    assert "ROC-AUC" in reader.follow("training-table.md")


def test_two_processes_train_as_on_several_gpus(reader: Reader) -> None:
    assert "best at epoch 1" in reader.follow("training-gpus.md")
    assert (reader.folder / "models" / "several.pt").is_file()
