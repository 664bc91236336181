"""Side files: values are found by the recording's name, faults by line and column."""

import json
from pathlib import Path

import pytest

from streamtag.errors import RecipeError
from streamtag.train.data.corpora import Corpus, Item
from streamtag.train.data.side_values import NAMES, with_side

CORPUS = Corpus(
    "c",
    ("a",),
    tuple(Item(f"24/{n}", Path(f"/x/24/{n}.mp3"), (0,), "train") for n in (3524, 1024, 24)),
)


def numbers(base: float, count: int = 22) -> list[float]:
    return [round(base + i / 100, 2) for i in range(count)]


def nested(names: tuple[str, ...], values: list[float]) -> dict[str, object]:
    """As AcousticBrainz writes them."""
    table: dict[str, object] = {}
    for name, value in zip(names, values, strict=False):
        *path, last = name.split(".")
        inner = table
        for key in path:
            inner = inner.setdefault(key, {})  # type: ignore[assignment]
        inner[last] = value
    return table


def test_the_values_are_the_22_of_the_authors_and_the_tempo() -> None:
    assert len(NAMES) == 23
    assert NAMES[0] == "lowlevel.average_loudness"
    assert NAMES[10] == "highlevel.genre_tzanetakis.all.reg"
    assert NAMES[21:] == ("highlevel.tonal_atonal.all.tonal", "rhythm.bpm")


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "side.csv"
    shuffled = list(reversed(NAMES))
    rows = [
        ",".join(["file", *shuffled]),
        ",".join(["24/3524.mp3", *map(str, reversed(numbers(1, 23)))]),
        ",".join(["24/1024", *map(str, reversed(numbers(2, 23)))]),
    ]
    path.write_bytes("\r\n".join(rows).encode())
    sided = with_side(CORPUS, path, 22)
    assert list(sided.corpus.items[0].side) == numbers(1)
    assert list(sided.corpus.items[1].side) == numbers(2)
    assert sided.missing == ("24/24",)
    assert str(sided) == "1 of 3 recordings have no side values: 24/24"
    assert len(with_side(CORPUS, path, 23).corpus.items[0].side) == 23


def test_other_values_are_read_in_order_and_tracks_found_by_id(tmp_path: Path) -> None:
    path = tmp_path / "side.jsonl"
    rows = [{"track": "track_0003524", "x": 1, "y": 2.5, "z": 3}, {"track": "1024", "x": 4, "y": 5}]
    path.write_text("\n".join(map(json.dumps, rows)))
    sided = with_side(CORPUS, path, 2)
    assert [item.side for item in sided.corpus.items] == [(1, 2.5), (4, 5), ()]


@pytest.mark.parametrize("together", [True, False])
def test_a_folder_of_acousticbrainz_files(tmp_path: Path, together: bool) -> None:
    low, high = ("", "") if together else ("lowlevel/", "highlevel/")
    for number, base in ((3524, 1), (1024, 2)):
        table = nested(NAMES, numbers(base, 23))
        for folder, keys in ((low, ("lowlevel", "rhythm")), (high, ("highlevel",))):
            path = tmp_path / f"{folder}24/{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(table if together else {key: table[key] for key in keys}))
    (tmp_path / f"{low}24/24.json").write_text(json.dumps({"lowlevel": {"average_loudness": 0.9}}))
    sided = with_side(CORPUS, tmp_path, 23)
    assert [list(item.side) for item in sided.corpus.items] == [numbers(1, 23), numbers(2, 23), []]
    assert sided.missing == ("24/24",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x,y\na,1,2\n", r"line 2, column 4 \(file\): expected a column file or track"),
        ("file,x\n24/24,1\n", r"line 2, column 3 \(value\): expected 2 values, not 1"),
        ("file,x,y\n24/24,1\n", r"line 2, column 4 \(the row\): expected 3 columns, not 2"),
        ("file,x,y\n24/24,1,nan\n", r"line 2, column 3 \(y\): expected a finite number, got 'nan'"),
        ("file,x,y\n24/24,one,2\n", r"line 2, column 2 \(x\): expected a finite number, got 'one'"),
        ("file,x,y\n24/24,1,2\n24/24,1,2\n", r"line 3, column 1 \(file\): .* line 2 has it too"),
        ("file,x,x\n24/24,1,2\n", r"line 1, column 3 \(x\): expected every column once"),
        ("file,x,y\n99/99,1,2\n", r"got none for any of the 3, such as '24/3524'"),
        ("", r"got none for any of the 3"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "side.csv"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        with_side(CORPUS, path, 2)


def test_faults_of_json_are_named(tmp_path: Path) -> None:
    path = tmp_path / "side.jsonl"
    path.write_text('{"file": "24/24", "x": 1}\n{"file": }\n')
    with pytest.raises(RecipeError, match=r"side.jsonl: line 2, column 10: expected a JSON object"):
        with_side(CORPUS, path, 1)
    (tmp_path / "24").mkdir()
    (tmp_path / "24" / "24.json").write_text('{"lowlevel": {\n"average_loudness": }}')
    with pytest.raises(RecipeError, match=r"24.json: line 2, column 21: expected JSON"):
        with_side(CORPUS, tmp_path, 22)
    with pytest.raises(RecipeError, match=r"recordings.side: expected at most 23 .* got 24"):
        with_side(CORPUS, tmp_path, 24)
