"""No wrong model in silence: a run goes on with its own recipe and its own data alone."""

import csv
import json
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support.forked import Forked
from support.peers import training_group
from support.tones import RECIPE, write_tones
from support.toy_training import ToySamples

from streamtag.errors import RecipeError
from streamtag.model.bundle import read_card
from streamtag.train.data.samples import Sets
from streamtag.train.job import export_run, train
from streamtag.train.recipes.file import load_recipe
from streamtag.train.training.card import UNSTATED, described

pytestmark = pytest.mark.usefixtures("one_thread")  # equal to the last bit

QUICK = RECIPE.replace("epochs = 12", "epochs = 1").replace("segments = 3\n", "")


@dataclass
class Work:
    """Where a test works: its own runs and bundles, on the recordings and the cache of all."""

    sounds: Path
    own: Path

    @property
    def recipe(self) -> Path:
        return self.own / "tones.toml"

    @property
    def runs(self) -> Path:
        return self.own / "runs"

    @property
    def run(self) -> Path:
        return self.runs / "tones"

    @property
    def cache(self) -> Path:
        return self.sounds / "cache"

    def again(self, manifest: str = "tones.csv", **more: Any) -> Path:
        """The command, given once more."""
        return train(self.recipe, self.sounds / manifest, self.own / "out", cache=self.cache,
                     runs=self.runs, device="cpu", **more)  # fmt: skip

    def export(self, manifest: str, **more: Any) -> Path:
        """Exports the run."""
        return export_run(self.run, self.own / "x.pt", data=self.sounds / manifest,
                          cache=self.cache, **more)  # fmt: skip

    def rewrite(self, change: Any) -> None:
        """Writes `other.csv`, whose rows are those of `tones.csv` mapped by `change`."""
        with (self.sounds / "tones.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
        with (self.sounds / "other.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *(new for row in rows if (new := change(row)))])

    def command(self, manifest: str, *words: str) -> list[str]:
        """The command for a process of its own, in the folder `own`."""
        return ["train", "tones.toml", "--data", str(self.sounds / manifest), "-o", "out",
                "--cache", str(self.cache), "--device", "cpu", *words]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A finished run."""
    work = Work(tmp_path_factory.mktemp("sounds"), tmp_path_factory.mktemp("trained"))
    write_tones(work.sounds)
    work.recipe.write_text(QUICK)
    work.again()
    return work


@pytest.fixture
def work(trained: Work, tmp_path: Path) -> Work:
    """A copy of the finished run that a test may change."""
    shutil.copytree(trained.own, tmp_path / "work")
    return Work(trained.sounds, tmp_path / "work")


def weights(run: Path) -> dict[str, Any]:
    members: list[dict[str, Any]] = torch.load(run / "weights.pt", weights_only=True)["members"]
    return members[0]


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_data_under_another_path_are_the_same(work: Work, tmp_path: Path) -> None:
    before = weights(work.run)
    work.sounds = shutil.copytree(work.sounds, tmp_path / "moved")
    card = read_card(work.again())
    assert all(torch.equal(v, before[k]) for k, v in weights(work.run).items())
    assert card.data.startswith("tones.csv")
    (work.sounds / "train-0.flac").unlink()
    shutil.copy2(work.sounds / "train-2.flac", work.sounds / "train-0.flac")
    with pytest.raises(RecipeError, match=r"audio of 1 of 12 train recordings differ"):
        work.again()


def swapped(row: list[str]) -> list[str]:
    return [row[0], {"low": "high", "high": "low"}[row[1]], row[2]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swapped, r"labels of 12 of 12 train recordings differ, first: 'train-0\.flac'"),
        (
            lambda row: [row[0], row[1] + ";third" * (row[0] == "train-0.flac"), row[2]],
            r"2 tags in the run, 3 now, with 'third'",
        ),
        (
            lambda row: None if row[0] == "train-3.flac" else row,
            r"1 of 12 train recordings are gone, first: 'train-3\.flac'",
        ),
        (
            lambda row: [*row[:2], "train"] if row[0] == "validation-0.flac" else row,
            r"1 of 13 train recordings are new, first: 'validation-0\.flac'",
        ),
    ],
    ids=["labels", "tags", "recordings", "splits"],
)
def test_other_data_are_refused_and_nothing_is_written(work: Path, change: Any, said: str) -> None:
    work.rewrite(change)
    before = files(work.runs) | files(work.own / "out")
    with pytest.raises(RecipeError, match=rf"tones: expected a run on the data of now.*{said}"
                       r".*--fresh.*--name NAME"):  # fmt: skip
        work.again("other.csv")
    assert files(work.runs) | files(work.own / "out") == before
    with pytest.raises(RecipeError, match=said):
        work.export("other.csv")


def test_other_test_recordings_are_scored_with_the_old_weights(work: Work) -> None:
    work.rewrite(lambda row: swapped(row) if row[2] == "test" else row)
    with (work.own / "said").open("w") as said:
        work.again("other.csv", console=Console(file=said, width=400))
    assert "the scores are of other data: labels of 8 of 8 test" in (work.own / "said").read_text()


def test_fresh_begins_anew_and_keeps_the_old_run(work: Work) -> None:
    old = files(work.run)
    work.rewrite(swapped)
    for i in (1, 2):
        work.again("other.csv" if i == 1 else "tones.csv", fresh=True)
        assert (work.runs / f"tones.{i}" / "weights.pt").exists()
    assert files(work.runs / "tones.1") == old
    assert not same(work.run, work.runs / "tones.2")
    assert same(work.run, work.runs / "tones.1")


def test_a_name_of_its_own_has_a_run_and_a_bundle_of_its_own(work: Work) -> None:
    old = files(work.run)
    work.rewrite(swapped)
    path = work.again("other.csv", name="swapped")
    assert path == work.own / "out" / "swapped.pt"
    assert read_card(path).name == "swapped"
    assert files(work.run) == old
    with pytest.raises(RecipeError, match=r"--name: expected 1 to 64 .*'a/b'"):
        work.again(name="a/b")


def test_another_value_of_the_recipe_is_named_with_both_values(work: Work) -> None:
    before = files(work.runs)
    changes = ["fit.stages.0.lr=0.1", "window_frames=40"]
    with pytest.raises(RecipeError, match=r"expected a run of this recipe") as refused:
        work.again(changes=changes)
    assert "fit.stages.0.lr is 0.003 in the run and 0.1 now" in str(refused.value)
    assert "window_frames is 48 in the run and 40 now" in str(refused.value)
    assert files(work.runs) == before


def test_a_refused_set_names_the_key_and_both_values(work: Work) -> None:
    with pytest.raises(
        RecipeError, match=r"fit\.batch_size: expected .*, got 0; the recipe has 12"
    ):
        work.again(changes=["seed=3", "fit.batch_size=0"])


def test_a_run_of_unknown_data_is_refused_but_can_be_exported(work: Work) -> None:
    (work.run / "data.json").unlink()
    with pytest.raises(RecipeError, match=r"expected a run with data\.json, got one without"):
        work.again()
    with (work.own / "said").open("w") as said:
        work.export("tones.csv", console=Console(file=said, width=400))
    assert "nobody can say whether it learned from" in (work.own / "said").read_text()


def test_members_of_an_ensemble_are_known_by_their_data(work: Work) -> None:
    member = work.own / "tones-2.toml"
    member.write_text(QUICK.replace('"tones"', '"tones-2"\nseed = 2'))
    members = [str(work.recipe), str(member)]
    work.recipe.rename(work.own / "first.toml")
    members[0] = str(work.own / "first.toml")
    (work.recipe).write_text(f'name = "both"\nmembers = {json.dumps(members)}\n')
    work.rewrite(swapped)
    with pytest.raises(RecipeError, match=r"runs/tones: expected a run on the data of now"):
        work.again("other.csv")
    path = work.again("other.csv", name="own")
    assert path.name == "own.pt"
    assert {p.name for p in (work.runs).iterdir()} >= {"tones", "own-tones", "own-tones-2"}


def test_ctrl_c_writes_the_checkpoint_and_says_how_to_go_on(work: Work) -> None:
    changes = ["fit.stages.0.epochs=400"]
    words = work.command("tones.csv", "--name", "long", "--set", changes[0])
    log, errors = work.runs / "long" / "log.jsonl", work.own / "errors"
    with errors.open("w") as file:
        process = Forked("-m", "streamtag", *words, "--fresh", cwd=work.own, stderr=file)
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 2):
        assert process.poll() is None, errors.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    said = errors.read_text()
    assert f"To go on from there: streamtag {' '.join(words)}\n" in said
    state = torch.load(log.with_name("checkpoint.pt"), weights_only=True)["run"]
    assert f"{state['epoch']}" in said
    work.rewrite(swapped)
    with pytest.raises(RecipeError, match=r"runs/long: expected a run on the data of now"):
        work.again("other.csv", name="long", changes=changes)


def test_the_first_of_several_processes_decides_and_all_hear(work: Work) -> None:
    work.rewrite(swapped)
    words = ["-m", "streamtag", *work.command("other.csv")]
    assert training_group(*words, cwd=work.own, log=(log := work.own / "errors")) == [1, 1]
    assert log.read_text().count("labels of 12 of 12 train recordings differ") == 2


def test_the_card_does_not_say_of_own_data_what_the_paper_says_of_its_own(work: Work) -> None:
    (work.recipe).write_text(
        'corpus = "MTG-Jamendo"\npaper = "Doe: Tones. Venue 2019"\nrun = "best"\n'
        'licence = """of the weights: not settled; the recordings are under Creative Commons '
        'licences, many of them non-commercial"""\n' + QUICK + "[published]\nroc_auc = 0.9\n"
    )
    card = read_card(work.again())
    assert card.data.startswith("tones.csv")
    assert card.licence == UNSTATED
    assert card.description == "low and high tones"  # nobody else's
    assert card.extra["recipe"]["published"] == {}
    assert card.extra["recipe"]["corpus"] == ""
    changes = ["licence=CC0-1.0", "data=tones of my own"]
    stated = read_card(work.again(changes=changes))
    assert (stated.licence, stated.data) == ("CC0-1.0", "tones of my own")


@pytest.mark.parametrize(
    ("corpus", "changes", "published", "stated"),
    [
        ("MTG-Jamendo", [], True, True),
        ("MTG-Jamendo", ["recordings.subset=genre"], False, True),
        ("MTG-Jamendo", ["recordings.split=split-1"], False, True),
        ("MagnaTagATune", ['recordings.subset="50"'], False, False),
        ("own", ["recordings.subset="], False, False),
    ],
)
def test_published_scores_and_licence_belong_to_their_corpus(
    corpus: str, changes: list[str], published: bool, stated: bool
) -> None:
    samples = ToySamples(2, 1)
    recipe = load_recipe("vggish", changes)
    card = described(recipe, Sets(samples.tags, samples, None, corpus=corpus))
    assert bool(card.published) is bool(card.run) is published
    assert bool(card.licence) is stated
    assert ("on other data than the paper's" in card.description) is not stated
