"""The commands of those who make models, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tones import RATE, RECIPE, write_tones
from typer.testing import CliRunner, Result

from streamtag.cli import main
from streamtag.errors import RecipeError
from streamtag.model.bundle import read_card


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def streamtag_(*words: object) -> Result:
    """The command in this process; errors of ours come out as they are raised."""
    result = CliRunner().invoke(main.app, [str(word) for word in words], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, a recipe, and two models trained from them."""
    folder = tmp_path_factory.mktemp("work")
    write_tones(folder)
    (folder / "tones.toml").write_text(RECIPE)
    for seed in (1, 2):
        result = streamtag_(
            "train", folder / "tones.toml", "--data", folder / "tones.csv",
            "-o", folder / f"tones-{seed}.pt", "--cache", folder / "cache",
            "--runs", folder / f"runs-{seed}", "--set", f"seed={seed}",
            "--set", "fit.stages.0.epochs=8", "--device", "cpu",
        )  # fmt: skip
        assert result.exit_code == 0
        assert f"inspect it: streamtag inspect {folder / f'tones-{seed}.pt'}" in result.stderr
    return folder


def test_train_set_changes_the_recipe(work: Path) -> None:
    cards = [read_card(work / f"tones-{seed}.pt") for seed in (1, 2)]
    assert [card.extra["recipe"]["seed"] for card in cards] == [1, 2]
    assert cards[0].golden != cards[1].golden
    log = (work / "runs-1" / "tones" / "log.jsonl").read_text().splitlines()
    assert len(log) == 8


def test_train_refuses_an_unknown_key(work: Path) -> None:
    with pytest.raises(RecipeError, match=r"tones\.toml: .*fit\.epochz"):
        streamtag_("train", work / "tones.toml", "--data", work / "tones.csv",
                   "--set", "fit.epochz=3")  # fmt: skip


def test_evaluate_tags_recordings_with_the_engine(work: Path) -> None:
    words = ("evaluate", work / "tones-1.pt", "--data", work / "tones.csv")
    found = json.loads(streamtag_(*words, "--json", "--plot", work / "live.png").stdout)
    assert json.dumps(found).count("roc_auc") >= 2
    assert (work / "live.png").read_bytes().startswith(b"\x89PNG")
    table = streamtag_(*words).stdout
    assert "false events" in table.lower()
    assert "cut to on" in table


def test_export_of_a_run_is_its_bundle(work: Path) -> None:
    out = work / "again.pt"
    streamtag_("export", work / "runs-1" / "tones", "-o", out, "--data", work / "tones.csv",
               "--cache", work / "cache")  # fmt: skip
    assert read_card(out).golden == read_card(work / "tones-1.pt").golden


def test_export_with_the_front_end_needs_torch_alone(work: Path) -> None:
    out = work / "audio.pt"
    streamtag_("export", work / "tones-1.pt", "--with-frontend", "-o", out)
    module = torch.jit.load(str(out))
    samples = torch.from_numpy(np.sin(np.arange(2 * RATE) / 4).astype(np.float32))
    with torch.inference_mode():
        scores = module(samples[None])
    assert scores.shape[0] == 1
    assert scores.shape[2] == 2
    assert ((scores >= 0) & (scores <= 1)).all()


def test_ensemble_of_two_models(work: Path) -> None:
    out = work / "two.pt"
    result = streamtag_("ensemble", work / "tones-1.pt", work / "tones-2.pt", "-o", out)
    assert "two, mean of 2" in result.stderr
    golden = [np.array(read_card(work / name).golden.probabilities)  # type: ignore[union-attr]
              for name in ("two.pt", "tones-1.pt", "tones-2.pt")]  # fmt: skip
    assert golden[0] == pytest.approx((golden[1] + golden[2]) / 2, abs=1e-4)


def test_score_prints_metrics_of_arrays(tmp_path: Path) -> None:
    truth = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], bool)
    np.save(tmp_path / "truth.npy", truth)
    np.save(tmp_path / "scores.npy", truth * 0.8 + 0.1)
    np.save(tmp_path / "decisions.npy", truth)
    arrays = ("--truth", tmp_path / "truth.npy", "--predictions", tmp_path / "scores.npy")
    found = json.loads(streamtag_("score", *arrays, "--json").stdout)
    assert found["macro"]["roc_auc"] == 1.0
    assert found["decisions"] is None
    assert found["oracle"]["macro"]["f"] < 1  # the row on the threshold is lost
    given = ("--decisions", tmp_path / "decisions.npy")
    assert (
        json.loads(streamtag_("score", *arrays, *given, "--json").stdout)["decisions"]["macro"]["f"]
        == 1.0
    )
    table = streamtag_("score", *arrays).stdout
    assert "oracle" in table
