"""Rows of an archive without Ray, and questions to it."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support.archives import RATE, rows_of, s3_server, write_songs
from support.commands import run_here
from support.paths import ROOT
from support.sounds import tone, write_wav
from support.streaming_toy import streaming_tagger

from streamtag.errors import StreamtagError
from streamtag.history.archive.files import open_place
from streamtag.history.archive.query import find, parse_condition
from streamtag.history.archive.tables import ArchiveCard, ArchiveFolder, BatchWriter
from streamtag.history.archive.tagging import tag_into
from streamtag.model.tagger import Tagger
from streamtag.sources.recording import tag_file

pytest.importorskip("pyarrow", reason="the extra archive is not installed")
pytest.importorskip("duckdb", reason="the extra archive is not installed")
TAGS = ("jazz", "calm", "female voice", "drum and bass", "drum", "genre---rock")


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """A small model with embeddings."""
    return streaming_tagger(tmp_path_factory.mktemp("model"))


def card_of(tagger: Tagger, **changes: bool) -> ArchiveCard:
    wanted = {"exact": True, "windows": True, "embeddings": True} | changes
    return ArchiveCard.of(tagger.card, tagger.checksum, **wanted)


def fill(out: Path | str, tagger: Tagger, files: list[Path]) -> None:
    """What a run does with one batch."""
    place, card = open_place(str(out)), card_of(tagger)
    with ArchiveFolder(place, card) as folder:
        writer = BatchWriter(card, work := place.join("_work", "1"))
        for file in files:
            tag_into(writer, card, tagger, str(file), file)
        writer.close()
        folder.commit(work, "one")


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    write_songs(folder, 3, 6.0)
    (folder / "broken.mp3").write_text("no audio")
    whole = write_wav(folder / "whole.wav", tone(200, RATE, 300), RATE)
    (folder / "damaged.flac").write_bytes(damaged(whole))
    whole.unlink()
    return folder


def damaged(whole: Path) -> bytes:
    """A FLAC file that cannot be decoded near its end."""
    import soundfile

    samples, rate = soundfile.read(whole, dtype="float32")
    flac = whole.with_suffix(".flac")
    soundfile.write(flac, samples, rate)
    data = bytearray(flac.read_bytes())
    flac.unlink()
    end = len(data) * 19 // 20
    data[end - 1000 : end] = b"\xff" * 1000
    return bytes(data)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, tagger: Tagger, music: Path) -> Path:
    out = tmp_path_factory.mktemp("out") / "OUT"
    fill(out, tagger, sorted(music.iterdir()))
    return out


def test_rows_are_what_tag_file_finds(out: Path, tagger: Tagger, music: Path) -> None:
    events, windows = rows_of(out, "events"), rows_of(out, "windows")
    for row in rows_of(out, "recordings"):
        file = row["file"]
        if row["error"]:
            continue
        one = tag_file(file, tagger, exact=True)
        assert [r for r in events if r["file"] == file] == [
            {"file": file, "tag": e.tag, "on": e.on, "off": e.off, "peak": e.peak,
             "reason": e.reason.value} for e in one.events
        ]  # fmt: skip
        mine = [r for r in windows if r["file"] == file]
        assert [(r["start"], r["end"], r["provisional"], tuple(r["values"].values()))
                for r in mine] == [
            (r.start, r.end, r.provisional, r.values) for r in one.scores
        ]  # fmt: skip
        assert (row["seconds"], row["rate"]) == (one.seconds, RATE)
        on = sum(e.off - e.on for e in one.events if e.tag == "low")
        assert row["share"]["low"] == pytest.approx(on / one.seconds)
        assert row["peak"]["low"] == pytest.approx(max(r.smoothed[0] for r in one.scores))
        full = [r.values[0] for r in one.scores if not r.provisional]
        assert row["mean"]["low"] == pytest.approx(sum(full) / len(full))


def test_a_broken_recording_is_one_row_with_its_reason(out: Path) -> None:
    errors = {Path(r["file"]).name: r["error"] for r in rows_of(out, "recordings") if r["error"]}
    assert set(errors) == {"broken.mp3", "damaged.flac"}
    assert "expected audio" in errors["broken.mp3"]
    for table in ("events", "windows", "embeddings"):
        assert {Path(r["file"]).name for r in rows_of(out, table)} == {
            "song-00.wav", "song-01.wav", "song-02.wav"
        }  # fmt: skip


def test_the_lines_of_the_page_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tagger: Tagger
) -> None:
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pandas")
    fill(tmp_path / "OUT", tagger, write_songs(tmp_path, 2, 6.0))
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "archive.md").read_text()
    found = {}
    for kind in ("sql", "python"):
        (text,) = re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)
        for name, ours in {"female voice": "low", "jazz": "high", "0.5": "0", ".5": "0"}.items():
            text = text.replace(name, ours)
        found[kind] = text
    assert len(duckdb.sql(found["sql"]).fetchall()) == 2
    names: dict[str, Any] = {}
    exec(found["python"], names)
    assert len(names["high"]) == 2
    assert set(names["events"].index) == {row["tag"] for row in rows_of(tmp_path / "OUT", "events")}


def test_the_commands_find_and_print(out: Path, music: Path) -> None:
    found = run_here("archive", "query", out, "mean(low) > 0 and seconds < 10", "-f", "json")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [set(row) for row in rows] == [{"file", "seconds", "low"}] * 3
    assert [row["low"] for row in rows] == sorted((row["low"] for row in rows), reverse=True)
    assert run_here("archive", "query", out, "low > 2", "-f", "csv").stdout == "file,seconds,low\n"
    like = run_here("archive", "query", out, "--like", music / "song-01.wav", "--limit", 2)
    lines = like.stdout.splitlines()
    assert len(lines) == 3
    assert lines[1].split()[0].endswith("song-01.wav")
    assert lines[1].split()[2] == "1.000"


def test_a_song_from_elsewhere_is_compared_by_the_same_model(
    out: Path, music: Path, tmp_path: Path, tagger: Tagger
) -> None:
    other = tmp_path / "other.wav"
    os.link(music / "song-02.wav", other)
    words = ("archive", "query", out, "--like", other, "--limit", 1, "-f", "json")
    wrong = run_here(*words)
    assert "expected the model of the archive" in str(wrong.exception)
    assert tagger.path is not None
    row = json.loads(run_here(*words, "--model", tagger.path).stdout)
    assert Path(row["file"]).name == "song-02.wav"
    assert row["similarity"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("jazz > .5 and calm > .4", '(("mean"."jazz" > 0.5) AND ("mean"."calm" > 0.4))'),
        ("drum and bass>.5", '("mean"."drum and bass" > 0.5)'),
        ("drum > 1 and female voice <= 1e-1",
         '(("mean"."drum" > 1) AND ("mean"."female voice" <= 0.1))'),
        ('not share("Drum and Bass") > .5', '(NOT ("share"."drum and bass" > 0.5))'),
        (".2 < peak(genre---rock) < .4",
         '(0.2 < "peak"."genre---rock" AND "peak"."genre---rock" < 0.4)'),
        ("valence > -0.5 or (calm != 0 AND seconds == 3)",
         '(("valence" > (-0.5)) OR (("mean"."calm" <> 0) AND ("seconds" = 3)))'),
    ],
)  # fmt: skip
def test_conditions(text: str, sql: str) -> None:
    assert parse_condition(text, TAGS).sql == sql


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jaz > .5", "got 'jaz'; did you mean jazz"),
        ("femal voice > .5 and calm > 1", "got 'femal voice'; did you mean female voice"),
        ("xqk > 1", "it has: arousal, calm"),
        ("jazz", "no comparison"),
        ("jazz > ", "expected comparisons"),
        ("jazz > calm + 1", "expected tags of this archive, got '+"),
        ("share(seconds) > 1", "seconds is no tag"),
        ("jazz > .5; drop table recordings", "got ';"),
        ("jazz > 'x'", "expected tags"),
        ("(((((jazz > .5", "expected comparisons"),
        ("__import__('os') > 1", "expected tags"),
        ("jazz(calm) > 1", "expected comparisons"),
        ("", "expected comparisons"),
        ("jazz > .5 and " * 400 + "calm > 1", "more than 500 words"),
        ("(" * 300 + "jazz > 1" + ")" * 300, "expected comparisons"),
    ],
)
def test_what_is_no_condition_is_explained(text: str, words: str) -> None:
    with pytest.raises(StreamtagError) as error:
        parse_condition(text, TAGS)
    assert words in str(error.value)


def test_folders_that_do_not_fit_are_refused(
    out: Path, tmp_path: Path, tagger: Tagger, toy_bundle: Path
) -> None:
    with pytest.raises(StreamtagError, match=r"expected an archive, got no archive\.json"):
        find(open_place(str(tmp_path)), "jazz > 1")
    with pytest.raises(StreamtagError, match="with windows False, got one with windows True"):
        ArchiveFolder(open_place(str(out)), card_of(tagger, windows=False))
    other = Tagger.load(toy_bundle, "cpu")
    with pytest.raises(StreamtagError, match="expected an archive with model toy-1"):
        ArchiveFolder(open_place(str(out)), card_of(other))
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(StreamtagError, match="expected an archive or an empty folder"):
        ArchiveFolder(open_place(str(tmp_path)), card_of(tagger))
    with (
        ArchiveFolder(open_place(str(out)), card_of(tagger)),
        pytest.raises(StreamtagError, match="another `streamtag archive` is writing"),
    ):
        ArchiveFolder(open_place(str(out)), card_of(tagger))
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamtagError, match="expected a folder that can be written"):
        ArchiveFolder(open_place(str(tmp_path / "file" / "out")), card_of(tagger))


def test_half_a_batch_of_a_killed_run_is_removed(tmp_path: Path, tagger: Tagger) -> None:
    fill(tmp_path / "OUT", tagger, write_songs(tmp_path, 1))
    half = tmp_path / "OUT" / "events" / "half.parquet"
    os.link(tmp_path / "OUT" / "events" / "one.parquet", half)
    (tmp_path / "OUT" / "_work").mkdir()
    with ArchiveFolder(open_place(str(tmp_path / "OUT")), card_of(tagger)) as folder:
        assert not half.exists()
        assert list(folder.done()) == [str(tmp_path / "song-00.wav")]


def test_errors_are_forgotten_if_they_are_to_be_tried_again(tmp_path: Path, tagger: Tagger) -> None:
    (tmp_path / "a.mp3").write_text("no audio")
    fill(tmp_path / "OUT", tagger, [tmp_path / "a.mp3", *write_songs(tmp_path, 1)])
    with ArchiveFolder(open_place(str(tmp_path / "OUT")), card_of(tagger)) as folder:
        assert len(folder.done()) == 2
        folder.forget_errors()
        assert list(folder.done()) == [str(tmp_path / "song-00.wav")]


def test_an_archive_on_s3(tmp_path: Path, tagger: Tagger) -> None:
    pytest.importorskip("moto.server", reason="moto, of the extra dev, is not installed")
    with s3_server() as (options, _):
        target = f"s3://music/out?{options}"
        (tmp_path / "a.mp3").write_text("no audio")
        fill(target, tagger, [tmp_path / "a.mp3", *write_songs(tmp_path, 1)])
        with ArchiveFolder(open_place(target), card_of(tagger)) as folder:
            folder.forget_errors()
            assert list(folder.done()) == [str(tmp_path / "song-00.wav")]
        found = run_here("archive", "query", target, "peak(low) > 0", "-f", "csv").stdout
        assert found.splitlines()[1].startswith(f"{tmp_path / 'song-00.wav'},3.0,")
