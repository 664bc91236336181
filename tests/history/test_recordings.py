"""Which recordings sources name: folders, globs, lists, manifests, S3."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.archives import s3_server

from streamtag.errors import SourceError, StreamtagError
from streamtag.history.archive.recordings import find_recordings, local_copies


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for name in ("b.mp3", "a.WAV", "deep/c.flac", "cover.jpg", ".hidden/d.mp3", ".e.mp3"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 10)
    return tmp_path


def names(*sources: object) -> list[str]:
    return [one.file for one in find_recordings(map(str, sources))]


def test_a_folder_has_the_audio_in_it_and_below(music: Path) -> None:
    assert names(music) == [str(music / name) for name in ("a.WAV", "b.mp3", "deep/c.flac")]
    assert [one.size for one in find_recordings([str(music)])] == [10, 10, 10]


def test_a_glob_takes_what_it_names_and_nothing_comes_twice(music: Path) -> None:
    assert names(music / "*.mp3", music / "b.mp3") == [str(music / "b.mp3")]
    assert names(music / "**" / "*.flac") == [str(music / "deep/c.flac")]
    assert names(music / "cover.jpg") == [str(music / "cover.jpg")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# mine\nb.mp3\n\ndeep/c.flac\n"),
        ("list.m3u", "#EXTM3U\n#EXTINF:1,x\nb.mp3\ndeep/c.flac\n"),
        ("songs.csv", "file,tags\nb.mp3,dog\ndeep/c.flac,\n"),
        ("songs.tsv", "tags\tfile\ndog\tb.mp3\n\tdeep/c.flac\n"),
        ("songs.jsonl", '{"file": "b.mp3"}\n{"file": "deep/c.flac", "tags": []}\n'),
    ],
)
def test_lists_and_manifests_are_relative_to_themselves(music: Path, name: str, text: str) -> None:
    (music / name).write_text(text)
    assert names(music / name) == [str(music / "b.mp3"), str(music / "deep/c.flac")]


def test_what_is_not_there_and_what_is_empty_are_named(music: Path, tmp_path: Path) -> None:
    with pytest.raises(StreamtagError, match=r"none\.mp3: expected a recording.*nothing there"):
        names(music / "none.mp3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StreamtagError, match=r"empty: expected recordings, got none.*\.mp3"):
        names(tmp_path / "empty")
    (tmp_path / "bad.csv").write_text("path\nb.mp3\n")
    with pytest.raises(StreamtagError, match=r"bad\.csv: expected a table with a column `file`"):
        names(tmp_path / "bad.csv")
    with pytest.raises(StreamtagError, match="ftp://host/a: expected a URL that PyArrow can open"):
        names("ftp://host/a")


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, Any]]:
    pytest.importorskip("moto.server", reason="moto, of the extra dev, is not installed")
    with s3_server() as served:
        yield served


def put(files: Any, path: str, data: bytes) -> None:
    with files.open_output_stream(path) as stream:
        stream.write(data)


def test_s3_has_folders_globs_and_lists_too(s3: tuple[str, Any]) -> None:
    options, files = s3
    for name in ("a.mp3", "b.mp3", "deep/c.flac", "cover.jpg"):
        put(files, f"music/all/{name}", name.encode())
    put(files, "music/all/list.txt", b"b.mp3\ns3://music/all/a.mp3\nnone.mp3\n")
    wanted = [f"s3://music/all/{name}" for name in ("a.mp3", "b.mp3", "deep/c.flac")]
    assert names(f"s3://music/all?{options}") == wanted
    assert names(f"s3://music/all/*.mp3?{options}") == wanted[:2]
    listed = find_recordings([f"s3://music/all/list.txt?{options}"])
    assert [one.file for one in listed] == [wanted[1], wanted[0], "s3://music/all/none.mp3"]
    assert "test" not in json.dumps([one.file for one in listed])  # no keys, no options
    copies = list(map(lambda pair: (pair[0].file, _text(pair[1])), local_copies(listed)))
    assert copies[:2] == [(wanted[1], "b.mp3"), (wanted[0], "a.mp3")]
    assert copies[2][1].startswith("s3://music/all/none.mp3: expected a recording, got")


def _text(path: Path | SourceError) -> str:
    return str(path) if isinstance(path, SourceError) else path.read_text()
