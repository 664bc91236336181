"""Every reader of the trainer's tables makes something of its input, or says what is wrong."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.malformed import Parser, as_toml, cells, check_cell
from train.test_corpora_jamendo import table as jamendo_table
from train.test_corpora_jamendo import write as write_jamendo

from streamtag.train.data.corpora import Corpus, Item, read_corpus
from streamtag.train.data.corpora.jamendo import read_tracks
from streamtag.train.data.corpora.magnatagatune import read_annotations
from streamtag.train.data.side_values import NAMES, with_side
from streamtag.train.recipes.file import RECIPES, load_any, read_table, replace_key

MANIFEST = b"""file,tags,split,start,end,group
a.wav,rain; dog;rain,train,,,x
a.wav,dog,train,10.5,20,x
"a.wav",wind|dog,validation,0,1.5,y
"""
LINES = [
    {"file": "a.wav", "tags": ["rain", "dog"], "split": "train", "end": 20, "group": None},
    {"file": "a.wav", "tags": "dog|rain", "split": "test", "start": 1.5, "end": 3},
]
ANNOTATIONS = (
    b'"clip_id"\t"beat"\t"drums"\t"guitar"\t"mp3_path"\r\n'
    b'"2"\t"1"\t"0"\t"0"\t"f/a-b-1.mp3"\r\n"6"\t"0"\t"1"\t"1"\t"c/a-b-2.mp3"\r\n'
)
CORPUS = Corpus("c", ("a",), (Item("24/3524", Path("/x/24/3524.mp3"), (0,), "train"),))
SIDE = {"track": "track_0003524", "x": 1, "y": 2.5}
ROWS = [
    ("24", "3524", "mood/theme---happy", "mood/theme---deep"),
    ("25", "3525", "mood/theme---sad"),
]


def placed(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    """A reader of a file as a reader of bytes."""

    def run(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return run


def nested() -> dict[str, object]:
    """As AcousticBrainz writes it."""
    table: dict[str, object] = {}
    for i, name in enumerate(NAMES):
        *path, last = name.split(".")
        inner = table
        for key in path:
            inner = inner.setdefault(key, {})  # type: ignore[assignment]
        inner[last] = i / 7
    return table


def change(data: bytes) -> None:
    """As `--set` does it."""
    replace_key({"fit": {"stages": [{"lr": 1.0}], "epochs": 3}}, data.decode(errors="replace"))


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parser]:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.wav").touch()
    write_jamendo(folder)
    (folder / "24").mkdir()
    jamendo = folder / "autotagging_moodtheme-train.tsv"
    side = partial(with_side, CORPUS, count=2)
    recipes = [read_table(RECIPES / f"{name}.toml") for name in ("amlag-2", "general")]
    return {
        "manifest, CSV": Parser([MANIFEST], placed(folder / "m.csv", read_corpus), r"m\.csv: "),
        "manifest, JSON lines": Parser(
            LINES, placed(folder / "m.jsonl", read_corpus), r"m\.jsonl: "
        ),
        "MTG-Jamendo's TSV": Parser(
            [jamendo_table(ROWS)],
            placed(jamendo, lambda path: read_tracks(path.parent, "mood/theme")),
            r"\.tsv: ",
        ),
        "MagnaTagATune's CSV": Parser(
            [ANNOTATIONS], placed(folder / "n.csv", read_annotations), r"n\.csv: "
        ),
        "side values, CSV": Parser(
            [b"file,x,y\n24/3524.mp3,1,2.5\n24/1.mp3,3,4\n"],
            placed(folder / "s.csv", side),
            r"s\.csv: ",
        ),
        "side values, JSON lines": Parser([SIDE], placed(folder / "s.jsonl", side), r"s\.jsonl: "),
        "AcousticBrainz' JSON": Parser(
            [nested()],
            placed(folder / "24" / "3524.json", lambda _: with_side(CORPUS, folder, 2)),
            str(folder),
        ),
        "recipe": Parser(recipes, placed(folder / "r.toml", load_any), r"r\.toml: ", as_toml),
        "--set": Parser([b"fit.stages.0.lr=1e-4"], change, ""),
    }


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize(("name", "fault", "outcome"), cells("the trainer"))
def test_what_it_gets(parsers: dict[str, Parser], name: str, fault: str, outcome: str) -> None:
    check_cell(name, parsers[name], fault, outcome)


def test_every_reader_is_in_the_table(parsers: dict[str, Parser]) -> None:
    assert {name for name, _, _ in cells("the trainer")} == parsers.keys()
