"""What is wrong with an archive, its machine or its cluster is said in four parts. No Ray here."""

import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.archives import s3_server
from support.commands import run_here

from streamtag.errors import StreamtagError
from streamtag.history.archive import lock
from streamtag.history.archive.cluster import run_archive
from streamtag.history.archive.files import Place, open_place
from streamtag.history.archive.lock import MARK, MARKS, MarkLock
from streamtag.history.archive.query import find
from streamtag.history.archive.run import ArchiveJob
from streamtag.history.archive.tables import ArchiveCard, ArchiveFolder, BatchWriter

pytest.importorskip("pyarrow", reason="the extra archive is not installed")
CARD = ArchiveCard(1, "toy", "0" * 64, False, False, False, ("low", "high"))


@contextmanager
def explained(*words: str) -> Iterator[None]:
    """An error that says which thing, what was expected, what was got and what to do."""
    with pytest.raises(StreamtagError) as error:
        yield
    text = str(error.value)
    assert re.fullmatch(r"\S.*?: expected .+?, got:? .+; \S.+", text, re.DOTALL), text
    for word in words:
        assert word in text, text


@contextmanager
def another_user(folder: Path) -> Iterator[None]:
    """Who may not enter the folder; root may do all."""
    mode = folder.stat().st_mode
    folder.chmod(0)
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(mode)


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_a_missing_extra(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [one for one in sys.modules if one.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    job = ArchiveJob((str(tmp_path),), str(tmp_path / "OUT"), "toy", b"", CARD)
    with explained("packages ray and pyarrow", missing, 'pip install "streamtag[archive]"'):
        run_archive(job, None, lambda _: None)


def test_a_query_without_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ArchiveFolder(open_place(str(tmp_path)), CARD).close()
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with explained("the package duckdb", 'pip install "streamtag[archive]"'):
        find(open_place(str(tmp_path)), "low > 0")


@pytest.mark.parametrize("address", ["ray://127.0.0.1:9", "127.0.0.1:9", "http://127.0.0.1:8265"])
def test_a_cluster_that_is_not_there(address: str, tmp_path: Path) -> None:
    job = ArchiveJob((str(tmp_path),), str(tmp_path / "OUT"), "toy", b"", CARD)
    with explained(address, "expected a Ray cluster"):
        run_archive(job, address, lambda _: None)
    assert not (tmp_path / "OUT").exists()


def test_folders_without_permission(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.mp3").write_text("")
    ArchiveFolder(open_place(str(tmp_path / "OUT")), CARD).close()
    with another_user(tmp_path / "OUT"), explained(str(tmp_path / "OUT"), "ermission denied"):
        ArchiveFolder(open_place(str(tmp_path / "OUT")), CARD)
    with another_user(tmp_path / "OUT"), explained(str(tmp_path / "OUT"), "ermission denied"):
        find(open_place(str(tmp_path / "OUT")), "low > 0")
    from streamtag.history.archive.recordings import find_recordings

    with another_user(tmp_path / "music"), explained(str(tmp_path / "music"), "ermission denied"):
        find_recordings([str(tmp_path / "music")])


def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "_work").mkdir()
    for table in CARD.tables:
        (tmp_path / "_work" / f"{table}.parquet").symlink_to("/dev/full")
    with explained(str(tmp_path), "No space left", "the same command goes on"):
        BatchWriter(CARD, open_place(str(tmp_path / "_work")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 1, got version 2"),
        ({"model": "other"}, "model toy, got one with model other"),
        ({"checksum": "1" * 64}, "checksum 000"),
        ({"tags": ["low"]}, "tags"),
        ({"windows": True}, "windows False, got one with windows True"),
        ({"more": 1}, "description of an archive"),
        ({"tags": None}, "description of an archive"),
    ],
)
def test_the_archive_of_another_model_or_version(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    about = json.dumps(dataclasses.asdict(CARD) | changes)
    (tmp_path / "archive.json").write_text(about)
    with explained(str(tmp_path), words):
        ArchiveFolder(open_place(str(tmp_path)), CARD)
    assert (tmp_path / "archive.json").read_text() == about


def test_what_is_no_folder_or_no_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with explained(str(tmp_path / "file"), "a folder that can be written"):
        ArchiveFolder(open_place(str(tmp_path / "file")), CARD)
    with explained("file"):
        find(open_place(str(tmp_path / "file")), "low > 0")
    with explained(str(tmp_path), "other files"):
        ArchiveFolder(open_place(str(tmp_path)), CARD)
    ArchiveFolder(open_place(str(tmp_path / "OUT")), CARD).close()
    (tmp_path / "OUT" / "recordings" / "half.parquet").write_bytes(b"PAR1 and no more")
    with ArchiveFolder(open_place(str(tmp_path / "OUT")), CARD) as folder, explained("half.parq"):
        folder.done()
    with explained("half.parquet"):
        find(open_place(str(tmp_path / "OUT")), "low > 0")
    with explained("s3x://a/b", "a URL that PyArrow can open"):
        open_place("s3x://a/b")


def test_commands_say_what_is_missing(tmp_path: Path) -> None:
    assert "--output" in run_here("archive", tmp_path).output
    assert "a condition, or --like FILE" in run_here("archive", "query", tmp_path).output


@pytest.fixture
def at_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An archive on S3, with locks that beat often."""
    pytest.importorskip("moto.server", reason="moto, of the extra dev, is not installed")
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lock, "LOST_SECONDS", 600.0)
    with s3_server() as (options, _):
        yield open_place(f"s3://music/{tmp_path.name}?{options}")


def mark(place: Place, **about: Any) -> Place:
    """The mark of a run on another machine."""
    made = place.join(MARKS, "0.json")
    made.write(json.dumps({"host": "far", "boot": "", "process": 1} | about).encode())
    return made


def test_one_run_at_a_time_writes_at_a_url(at_s3: Place) -> None:
    with ArchiveFolder(at_s3, CARD) as folder:
        with explained("another `streamtag archive` is writing", f"process {os.getpid()}"):
            ArchiveFolder(at_s3, CARD)
        folder.done()
    ArchiveFolder(at_s3, CARD).close()
    assert not list(at_s3.join(MARKS).walk())


def test_the_lock_of_a_run_that_was_killed_is_taken_after_a_while(
    at_s3: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOST_SECONDS", 0.5)
    left, waited = mark(at_s3, holds=True, beat=3), list[str]()
    held = MarkLock(at_s3, waited.append)
    assert "waiting" in waited[0]
    assert not left.exists()
    mark(at_s3, **held._about)
    ended = json.loads(left.read()) | {
        "process": 2**22 + 1
    }  # on this machine: nobody is waited for
    left.write(json.dumps(ended).encode())
    held.close()
    waited.clear()
    MarkLock(at_s3, waited.append).close()
    assert not waited


def test_a_run_that_lost_its_lock_writes_nothing(at_s3: Place) -> None:
    with ArchiveFolder(at_s3, CARD) as folder:
        for one, _ in at_s3.join(MARKS).walk():  # as another run does
            if one.path.endswith(MARK):
                one.delete()
        writer = BatchWriter(CARD, work := at_s3.join("_work", "1"))
        writer.add("recordings", [{"file": "a.mp3", "error": "broken"}])
        writer.close()
        with explained("expected to hold its lock"):
            folder.commit(work, "one")
        assert not folder.done()
    assert work.join("recordings.parquet").exists()  # nor does it remove what is not its own
