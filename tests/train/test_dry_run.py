"""`streamtag train --dry-run` says what a training would do, and does nothing of it."""

import csv
from pathlib import Path

import pytest
import torch
from support.tones import RECIPE, write_tones
from typer.testing import CliRunner, Result

from streamtag.cli import main
from streamtag.errors import RecipeError
from streamtag.train import dry_run, job


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_tones(folder)
    (folder / "tones.toml").write_text(RECIPE.replace("epochs = 12", "epochs = 2"))
    return folder


def facts(work: Path, out: Path, manifest: str = "tones.csv", **more: object) -> dict[str, str]:
    """The facts of a dry run of the recipe."""
    return dict(report(work, out, manifest, **more).facts)


def report(work: Path, out: Path, manifest: str = "tones.csv", **more: object) -> dry_run.DryRun:
    found = job.try_training(work / "tones.toml", work / manifest, out / "models", device="cpu",
                             cache=out / "cache", runs=out / "runs", **more)  # type: ignore[arg-type] # fmt: skip
    (name,) = found
    assert name == more.get("name", "tones")
    return found[name]


def test_data_net_memory_time_and_what_would_be_written(work: Path, tmp_path: Path) -> None:
    found = report(work, tmp_path)
    told = dict(found.facts)
    assert told["train"] == "12 recordings (1 unusable), 36 windows"
    assert told["validation"] == "8 recordings, 8 windows"
    assert told["test"] == "8 recordings, 8 windows"
    assert told["first batch"] == "frames (12, 48, 80), targets (12, 2)"
    assert told["memory"].startswith("about 0.")
    assert told["epoch"].startswith("3 batches, about ")
    assert told["training"].startswith("2 epochs, about ")
    assert told["run"] == f"{tmp_path / 'runs' / 'tones'}: a new run"
    assert told["bundle"] == str(tmp_path / "models" / "tones.pt")
    assert told["cache"].startswith(str(tmp_path / "cache" / "frames-"))
    assert found.tags == (("high", (6, 4, 4)), ("low", (7, 4, 4)))
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


def test_several_trainings_take_so_many_times_as_long(work: Path, tmp_path: Path) -> None:
    told = facts(work, tmp_path, changes=["fit.trainings=3"])
    assert told["training"].startswith("3 trainings of 2 epochs, about ")


def test_what_the_net_would_begin_with(work: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "old.pt"
    bundle.touch()
    assert facts(work, tmp_path, changes=[f"pretrained={bundle}"])["begins with"] == str(bundle)
    told = facts(work, tmp_path, changes=["pretrained=taiwan-vqvae-1"])
    assert told["begins with"] == "taiwan-vqvae-1, to be trained first"
    with pytest.raises(
        RecipeError, match=r"pretrained: expected a finished run in .* got 'nothing'"
    ):
        facts(work, tmp_path, changes=["pretrained=nothing"])


def test_of_a_large_corpus_a_sample_is_read(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "SAMPLE", 8)
    told = facts(work, tmp_path)
    assert told["train"] == "13 recordings, about 39 windows"
    assert told["frames"].startswith("21 recordings still to be read: about ")
    assert told["run"].endswith("its data are compared when all recordings are read")
    assert len(list((tmp_path / "cache").rglob("*.npy"))) <= 8


def test_whether_the_run_would_go_on_or_be_refused(work: Path, tmp_path: Path) -> None:
    job.train(work / "tones.toml", work / "tones.csv", tmp_path / "models", device="cpu",
              cache=tmp_path / "cache", runs=tmp_path / "runs")  # fmt: skip
    run = tmp_path / "runs" / "tones"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert facts(work, tmp_path)["run"] == f"{run}: finished; only the bundle would be written"
    assert "would be moved aside" in facts(work, tmp_path, fresh=True)["run"]
    assert facts(work, tmp_path, name="other")["run"].endswith("other: a new run")
    with (work / "tones.csv").open(newline="") as file:
        rows = [[a, {"low": "high", "high": "low"}.get(b, b), c] for a, b, c in csv.reader(file)]
    with (work / "swapped.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = report(work, tmp_path, "swapped.csv")
    assert "labels of 12 of 12 train recordings differ" in found.refused
    assert dict(found.facts)["run"] == found.refused
    (run / "weights.pt").unlink()
    assert facts(work, tmp_path)["run"] == f"{run}: goes on after epoch 2"
    assert all(p.read_bytes() == text for p, text in before.items() if p.name != "weights.pt")
    refused = command(work, tmp_path, "swapped.csv")
    assert refused.exit_code == 1
    assert "labels of 12 of 12" in refused.stdout
    fine = command(work, tmp_path, "tones.csv")
    assert fine.exit_code == 0
    assert "2 tags" in fine.stdout


def command(work: Path, out: Path, manifest: str) -> Result:
    words = ("train", work / "tones.toml", "--data", work / manifest, "--dry-run", "--device",
             "cpu", "--cache", out / "cache", "--runs", out / "runs",
             "-o", out / "models")  # fmt: skip
    return CliRunner().invoke(main.app, [str(word) for word in words], env={"COLUMNS": "400"})


def test_what_is_synthesised_is_not_made(tmp_path: Path) -> None:
    found = job.try_training("instruments", tmp_path, tmp_path / "models", device="cpu",
                             cache=tmp_path / "cache", runs=tmp_path / "runs")  # fmt: skip
    assert "synthesised when the training begins" in dict(found["instruments-1"].facts)["data"]
    assert not list(tmp_path.iterdir())
