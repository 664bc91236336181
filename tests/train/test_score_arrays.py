"""The arrays in a run folder: `streamtag score` gives the card's own figures from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tones import RECIPE, write_tones

from streamtag.errors import RecipeError
from streamtag.model.bundle import read_card
from streamtag.train.evaluation.score_arrays import ScoreArrays
from streamtag.train.evaluation.scores import score_files
from streamtag.train.job import export_run, train
from streamtag.train.run_folder import result
from streamtag.train.training.card import rounded

FILES = {"truth": "groundtruth.npy", "predictions": "predictions.npy",
         "decisions": "decisions.npy", "tags": "tags.txt"}  # fmt: skip
FEW = ("fit.stages.0.epochs=2",)
"""So few epochs that the scores are not perfect."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, a recipe without side values, one with a side value, and an ensemble."""
    folder = tmp_path_factory.mktemp("place")
    lines = write_tones(folder).read_text().splitlines()
    (folder / "tones.toml").write_text(RECIPE)
    (folder / "twin.toml").write_text('like = "tones"\nname = "twin"\nseed = 2\n')
    (folder / "both.toml").write_text(
        f'name = "both"\nmembers = ["{folder}/tones.toml", "{folder}/twin.toml"]\n'
    )
    (folder / "sided.toml").write_text(
        'like = "tones"\nname = "sided"\n[net]\nname = "innsbruck-crnn"\nside = 22\n'
        "[features]\nn_mels = 96\n[recordings]\nside = 22\n"
    )
    values = np.random.default_rng(1).random((len(lines), 22)).round(3).astype(str).tolist()
    rows = [[line.partition(",")[0], *row] for line, row in zip(lines, values, strict=True)]
    rows[0] = ["file", *map(str, range(22))]
    (folder / "side.csv").write_text("\n".join(map(",".join, rows)))
    return folder


def trained(place: Path, name: str, **more: Any) -> Path:
    return train(place / f"{name}.toml", place / "tones.csv", place / f"{name}.pt", changes=FEW,
                 cache=place / "cache", runs=place / "runs", device="cpu", **more)  # fmt: skip


def judged(folder: Path) -> dict[str, Any]:
    """What `streamtag score` says of the arrays in a folder."""
    return score_files(**{key: folder / name for key, name in FILES.items()})


def check_agreement(found: dict[str, Any], scores: dict[str, Any]) -> None:
    """A report of arrays has the figures of a card's test, as exactly as the card has them."""
    for key in ("roc_auc", "pr_auc"):
        assert round(found["macro"][key], 6) == scores[key], key
    for key in ("micro", "oracle"):
        assert rounded(found[key]) == scores[key]
    for mean in ("macro", "micro"):
        assert rounded(found["decisions"][mean]) == scores["decisions"][mean]


@pytest.mark.parametrize("name", ["tones", "both"])
def test_score_gives_the_cards_own_figures(place: Path, name: str) -> None:
    card = read_card(trained(place, name))
    run = place / "runs" / name
    check_agreement(judged(run), card.scores["test"])
    assert (run / "tags.txt").read_text().split() == list(card.tags)
    names = (run / "recordings.txt").read_text().split()
    truth = np.load(run / "groundtruth.npy")
    assert names == [f"test-{i}.flac" for i in range(8)]
    assert truth[:, card.tags.index("high")].tolist() == [0, 1] * 4
    assert np.load(run / "predictions.npy").dtype == np.float64
    assert np.load(run / "decisions.npy").dtype == bool


def test_export_writes_them_anew_also_with_side_values(place: Path) -> None:
    card = read_card(trained(place, "sided", side=place / "side.csv"))
    run, out = place / "runs" / "sided", place / "again.pt"
    before = {name: (run / name).read_bytes() for name in FILES.values()}
    for name in FILES.values():
        (run / name).write_text("spoilt")
    where = {"data": place / "tones.csv", "cache": place / "cache"}
    with pytest.raises(RecipeError, match=r"expected a file with 22 values .*--side"):
        export_run(run, out, **where)
    assert result(run)
    export_run(run, out, side=place / "side.csv", **where)
    assert {name: (run / name).read_bytes() for name in FILES.values()} == before
    check_agreement(judged(run), read_card(out).scores["test"])
    assert json.dumps(read_card(out).scores) == json.dumps(card.scores)


def test_other_test_sets_have_folders_and_nothing_old_remains(tmp_path: Path) -> None:
    truth, scores = np.eye(2), np.full((2, 2), 0.25)
    whole = ScoreArrays(("a", "b"), ("x", "y"), truth, scores, scores > 0.1)
    assert whole.write(tmp_path) == tmp_path
    place = whole.write(tmp_path, "unseen notes, mixed")
    assert place == tmp_path / "unseen-notes-mixed"
    assert {path.name for path in place.iterdir()} == {*FILES.values(), "recordings.txt"}
    ScoreArrays(("a", "b"), (), truth, scores, None).write(tmp_path, "unseen notes, mixed")
    assert {path.name for path in place.iterdir()} == {
        "groundtruth.npy", "predictions.npy", "tags.txt"
    }  # fmt: skip
