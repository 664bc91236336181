"""Manifests: what they may say, and how their faults are named."""

import json
from pathlib import Path

import pytest

from streamtag.errors import RecipeError
from streamtag.train.data.corpora import read_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "c,d.wav"):
        (tmp_path / name).touch()
    return tmp_path


def written(folder: Path, text: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_table_with_everything(folder: Path) -> None:
    text = (
        "\ufefffile,tags,split,start,end,group\r\n"
        "a.wav,rain; dog;rain,train,,,x\r\n"
        "a.wav,dog,train,10.5,20,x\r\n"
        '"c,d.wav",wind|dog,validation,0,,y\r\n'
        "\r\n"
        "b.wav,,test,3,,\r\n"
    )
    corpus = read_corpus(written(folder, text))
    assert corpus.tags == ("dog", "rain", "wind")
    got = [(i.path, i.tags, i.split, i.start, i.end, i.group) for i in corpus.items]
    assert got == [
        (folder / "a.wav", (0, 1), "train", 0.0, 0.0, "x"),
        (folder / "a.wav", (0,), "train", 10.5, 20.0, "x"),
        (folder / "c,d.wav", (0, 2), "validation", 0.0, 0.0, "y"),
        (folder / "b.wav", (), "test", 3.0, 0.0, ""),
    ]
    assert len({item.name for item in corpus.items}) == 4
    assert "2 train, 1 validation, 1 test" in corpus.note


def test_lines_of_json_give_the_same_corpus(folder: Path) -> None:
    rows = [
        {"file": "a.wav", "tags": ["rain", "dog"], "split": "train", "end": 20, "group": None},
        {"file": str(folder / "b.wav"), "tags": "dog|rain", "split": "test", "start": 1.5},
    ]
    text = "\r\n".join(json.dumps(row) for row in rows) + "\n\n"
    corpus = read_corpus(written(folder, text, "m.jsonl"))
    assert corpus.tags == ("dog", "rain")
    assert [(i.path.name, i.tags, i.split, i.start, i.end) for i in corpus.items] == [
        ("a.wav", (0, 1), "train", 0.0, 20.0),
        ("b.wav", (0, 1), "test", 1.5, 0.0),
    ]


def test_without_a_split_groups_stay_together_and_nothing_depends_on_the_order(
    folder: Path,
) -> None:
    rows = [f"{i}.wav,dog,artist {i // 10}" for i in range(2000)]
    (folder / "0.wav").touch()
    corpora = [
        read_corpus(written(folder, "\n".join(["file,tags,group", *some])))
        for some in (rows, rows[::-1])
    ]
    splits = [{item.path.name: item.split for item in corpus.items} for corpus in corpora]
    assert splits[0] == splits[1]
    by_group = {item.group: set() for item in corpora[0].items}
    for item in corpora[0].items:
        by_group[item.group].add(item.split)
    assert all(len(found) == 1 for found in by_group.values())
    sizes = [len(corpora[0].of(split)) for split in ("train", "validation", "test")]
    assert 1440 < sizes[0] < 1760
    assert min(sizes) > 100


GOOD = "file,tags,split\na.wav,dog,train\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1, column 1: expected a header with file,tags"),
        (
            "file,split\na.wav,train\n",
            r"line 1, column 3: expected a header .* add the column 'tags'",
        ),
        (
            "file,tags,spilt\na.wav,dog,train\n",
            r"line 1, column 3 \(spilt\): expected each of file, tags",
        ),
        ("file,tags,file\n", r"line 1, column 3 \(file\): expected each of"),
        (
            GOOD + "b.wav,dog\n",
            r"line 3, column 3 \(split\): expected 3 columns, not 2, got nothing",
        ),
        (
            GOOD + "b.wav,dog,test,1\n",
            r"line 3, column 4 \(one too many\): expected 3 columns, not 4",
        ),
        (
            GOOD + "b.wav,dog,tets\n",
            r"line 3, column 3 \(split\): expected one of train, .* got 'tets'",
        ),
        (GOOD + "b.wav,dog,\n", r"line 3, column 3 \(split\): expected one of train"),
        (GOOD + ",dog,test\n", r"line 3, column 1 \(file\): expected a file, got ''"),
        (
            GOOD + "a.wav,cat,test\n",
            r"line 3, column 1 \(file\): expected every recording once.*line 2",
        ),
        (
            GOOD + 'b.wav,"dog,test\n',
            r"m.csv: line \d, column 1: expected a row .* stray quotation mark",
        ),
        (GOOD + "b.wav,d\x07g,test\n", r"line 3, column 2 \(tags\): expected printable tags"),
        (b"file,tags\na.wav,caf\xe9\n", r"line 2, column 10: expected UTF-8, got the byte 0xe9"),
        (
            "file,tags,start,end\na.wav,dog,x,\n",
            r"line 2, column 3 \(start\): expected seconds, .* got 'x'",
        ),
        (
            "file,tags,start,end\na.wav,dog,-1,\n",
            r"column 3 \(start\): expected seconds, at least 0",
        ),
        ("file,tags,start,end\na.wav,dog,5,nan\n", r"column 4 \(end\): expected seconds"),
        (
            "file,tags,start,end\na.wav,dog,5,4\n",
            r"column 4 \(end\): expected more than 5 s, got '4'",
        ),
        (
            "file,tags\nx.wav,dog\ny.wav,dog\n",
            r"line 2, column 1 \(file\).*none of the 2 files is there",
        ),
        ("file,tags\n", r"expected labelled recordings, got none"),
        (
            "file,tags,split,group\na.wav,dog,train,x\nb.wav,dog,test,x\n",
            r"line 3, column 3 \(split\): expected train, as the group 'x' in line 2, got 'test'",
        ),
    ],
)
def test_faults_of_a_table_are_named_by_line_and_column(
    folder: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        read_corpus(written(folder, text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file": "b.wav", "tags": }', r"m.jsonl: line 2, column 27: expected a JSON object"),
        ('["b.wav"]', r"line 2, column 1 \(the line\): expected a JSON object"),
        (
            '{"file": "b.wav", "labels": "dog"}',
            r"line 2, column 2 \(labels\): expected keys among file",
        ),
        ('{"tags": "dog"}', r"line 2, column 2 \(file\): expected a file, got nothing"),
        (
            '{"file": "b.wav", "tags": 3}',
            r"line 2, column 2 \(tags\): expected tags separated by ';', got",
        ),
        (
            '{"file": "b.wav", "tags": "dog", "split": 1}',
            r"line 2, column 3 \(split\): expected one of",
        ),
        (
            '{"file": "b.wav", "tags": "dog", "end": "soon"}',
            r"line 2, column 3 \(end\): expected seconds",
        ),
    ],
)
def test_faults_of_json_are_named_by_line_and_column(folder: Path, line: str, message: str) -> None:
    text = '{"file": "a.wav", "tags": ["dog"]}\n' + line
    with pytest.raises(RecipeError, match=message):
        read_corpus(written(folder, text, "m.jsonl"))


def test_a_manifest_has_no_subsets(folder: Path) -> None:
    with pytest.raises(
        RecipeError, match="subset: expected nothing for a manifest, got 'genre'; use --set"
    ):
        read_corpus(written(folder, GOOD), subset="genre")
