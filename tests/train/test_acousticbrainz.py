"""AcousticBrainz' dumps: recordings are joined by MusicBrainz id; docs/side-values.md works."""

import csv
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.commands import run_here
from support.paths import ROOT
from support.tones import write_tones

from streamtag.errors import RecipeError
from streamtag.model.bundle import read_card
from streamtag.train.data.corpora import Corpus, Item
from streamtag.train.data.side_values import NAMES, with_side

IDS = [f"{i:08x}-16cc-4bf0-8961-fd31d124b01b" for i in range(0xABC0, 0xABC0 + 40)]
DAY = "20220623"
CORPUS = Corpus(
    "c", ("a",), tuple(Item(f"{n}.mp3", Path(f"/x/{n}.mp3"), (0,), "train") for n in range(3))
)


def values(base: float) -> list[float]:
    return [round(base + i / 100, 2) for i in range(len(NAMES))]


def answers(numbers: Sequence[float]) -> dict[str, Any]:
    """The JSON of a submission; of its levels only what is asked for matters."""
    table: dict[str, Any] = {"metadata": {"tags": {"title": ["x"]}}}
    for name, value in zip(NAMES, numbers, strict=True):
        *path, last = name.split(".")
        inner = table
        for key in path:
            inner = inner.setdefault(key, {"probability": 0.5} if key == "all" else {})
        inner[last] = value
    return table


def put(folder: Path, level: str, mbid: str, number: int, table: dict[str, Any]) -> None:
    """A file where the dumps of 2022 have it."""
    path = folder / level / mbid[:2] / mbid[2] / f"{mbid}-{number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("highlevel", "metadata") if level == "highlevel" else ("lowlevel", "rhythm", "metadata")
    path.write_text(json.dumps({key: table[key] for key in keys}))


def join(folder: Path, *rows: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "recordings.csv").write_text("\n".join(["file,mbid", *rows]) + "\n")


def test_the_first_submission_that_has_all_values_counts(tmp_path: Path) -> None:
    join(tmp_path, f"0.mp3,{IDS[0].upper()}", f"1,{IDS[1]}", f"7,{IDS[2]}")
    for number in (0, 2, 10):
        put(tmp_path, "highlevel", IDS[0], number, answers(values(number + 1)))
    for number in (2, 10):
        put(tmp_path, "lowlevel", IDS[0], number, answers(values(number + 1)))
    inside = tmp_path / f"acousticbrainz-highlevel-json-{DAY}"
    put(inside, "highlevel", IDS[1], 0, answers(values(5)))
    old = tmp_path / "lowlevel" / IDS[1][0] / IDS[1][:2] / f"{IDS[1]}-0.json"
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps(answers(values(5))))
    sided = with_side(CORPUS, tmp_path, 23)
    assert [list(item.side) for item in sided.corpus.items] == [values(3), values(5), []]
    assert sided.missing == ("2.mp3",)


def features(folder: Path, kind: str, columns: str, *rows: str) -> Path:
    path = folder / f"acousticbrainz-lowlevel-features-{DAY}"
    path.mkdir(parents=True, exist_ok=True)
    file = path / f"{path.name}-{kind}.csv"
    file.write_text("\n".join([f"mbid,submission_offset,{columns}", *rows]) + "\n")
    return file


def test_loudness_and_tempo_come_from_tables_too(tmp_path: Path) -> None:
    join(tmp_path, *(f"{i}.mp3,{IDS[i]}" for i in range(3)))
    for i in (0, 1):
        put(tmp_path, "highlevel", IDS[i], 0, answers(values(1)))
    strangers = [f"{IDS[9]},0,0.5,0.1"]
    features(tmp_path, "lowlevel", "average_loudness,dynamic_complexity",
             *strangers, f"{IDS[0]},0,0.75,2", f"{IDS[1]},1,0.5,2")  # fmt: skip
    sided = with_side(CORPUS, tmp_path, 22)
    assert list(sided.corpus.items[0].side) == [0.75, *values(1)[1:22]]
    assert sided.missing == ("1.mp3", "2.mp3")
    with pytest.raises(RecipeError, match="none for any of the 3"):
        with_side(CORPUS, tmp_path, 23)
    features(tmp_path, "rhythm", "bpm,danceability", f"{IDS[0]},0,120.5,1")
    assert with_side(CORPUS, tmp_path, 23).corpus.items[0].side[22] == 120.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,mbid\n0.mp3,nascence\n", r"recordings.csv: 0.mp3: expected a MusicBrainz id such"),
        ("file,id\n0.mp3,x\n", r"line 2, column 3 \(mbid\): expected a column mbid"),
        ("file,mbid\n0.mp3,x\n0.mp3,y\n", r"line 3, column 1 \(file\): .* line 2 has it too"),
    ],
)
def test_faults_of_the_table_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recordings.csv").write_text(text)
    with pytest.raises(RecipeError, match=message):
        with_side(CORPUS, tmp_path, 22)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Recordings, their ids, and dumps as they are downloaded."""
    manifest = write_tones(tmp_path).rename(tmp_path / "songs.csv")
    names = [row[0] for row in csv.reader(manifest.read_text().splitlines())][1:]
    join(tmp_path / "acousticbrainz", *(f"{n},{i}" for n, i in zip(names, IDS, strict=False)))
    for part in (0, 1):
        folder = tmp_path / f"acousticbrainz-highlevel-json-{DAY}"
        for mbid in [*IDS[: len(names)][part::2], IDS[-1 - part]]:
            put(folder, "highlevel", mbid, 0, answers(values(part)))
        pack(folder, f"{folder.name}-{part}")
    table = features(tmp_path, "lowlevel", "average_loudness", *(f"{i},0,0.5" for i in IDS))
    pack(table.parent, table.stem)
    return tmp_path


def pack(folder: Path, name: str) -> None:
    archive = folder.with_name(f"{name}.tar.zst")
    subprocess.run(["tar", "--zstd", "-cf", archive, "-C", folder.parent, folder.name], check=True)
    shutil.rmtree(folder)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd to make archives with")
def test_the_example_of_the_page_joins_a_dump(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, but with shorter windows and one epoch of steps that are not tried."""
    page = (ROOT / "docs" / "side-values.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    *lines, last = script.splitlines()
    subprocess.run(["bash", "-euc", "\n".join(lines)], cwd=place, check=True)
    monkeypatch.chdir(place)
    shorter = "window_frames=192", "first_frames=94", "fit.stages.0.epochs=1", "fit.accumulate=1"
    done = run_here(*shlex.split(last)[1:], *(f"--set={change}" for change in shorter))
    assert last.startswith("streamtag train ")
    assert done.exit_code == 0, done.output
    found = {path.stem[:-2] for path in (place / "acousticbrainz").rglob("*-0.json")}
    assert found == set(IDS[:29])  # and none of the others
    card = read_card(place / "models" / "innsbruck-run-4.pt")
    assert set(card.scores["test"]) >= {"roc_auc", "live, without side values"}
    assert "left out" not in done.output
