"""`streamtag check` and the schema: what can be said without starting anything."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.config.config import Config, load_config
from streamtag.daemon.check import complaints_about, is_bindable
from streamtag.feed.journal.journal import Journal

FAULTY = """
feed.bind = "127.0.0.1:5757"
control.socket = "nowhere/c.sock"
defaults.tuning.deny = ["violin"]
languages.de = {low = "tief", tuba = "Tuba"}
taggers.toy.bundle = BUNDLE
taggers.toy.tuning.on_thresholds.low = 0.2
streams.a.source = "file:none.ogg"
streams.b.source = "folder:none"
streams.b.tuning.toy.tags = ["harp"]
taggers.toy.tuning.off_thresholds.low = 0.3
"""


def write(folder: Path, text: str, bundle: Path) -> Path:
    path = folder / "c.toml"
    path.write_text(text.replace("BUNDLE", json.dumps(str(bundle))))
    return path


def test_all_errors_are_reported_at_once(tmp_path: Path, toy_bundle: Path) -> None:
    path = write(tmp_path, FAULTY, toy_bundle)
    found = "\n".join(complaints_about(path))
    assert all(line.startswith(f"{path}: ") for line in found.splitlines())
    for words in (
        "feed.bind: expected an address such as tcp://127.0.0.1:5757",
        "control.socket: expected a path in a folder that exists",
        "streams.a.source: expected an existing file, got",
        "streams.b.source: expected an existing folder, got",
        "defaults.tuning: no tagger knows the tag 'violin'; known: high, low, never",
        "languages.de: no tagger knows the tag 'tuba'",
        "thresholds of 'low': expected 0 < off <= on < 1, got on=0.2, off=0.3",
        "streams.b, tagger 'toy': tagger 'toy-1': unknown tag 'harp'",
    ):
        assert words in found


def test_an_error_of_a_tagger_is_reported_once_and_one_of_a_stream_beside_it(
    tmp_path: Path, toy_bundle: Path
) -> None:
    text = (
        'taggers.toy.bundle = BUNDLE\ntaggers.toy.tuning.deny = ["kazoo", "lur"]\n'
        'streams.a.source = "device:"\nstreams.b.source = "device:1"\n'
        'streams.c.source = "device:2"\nstreams.c.tuning.toy.tags = ["harp"]\n'
    )
    path = write(tmp_path, text, toy_bundle)
    first, second = (line.removeprefix(f"{path}: ") for line in complaints_about(path))
    known = "it knows low, high, never"
    assert first == f"taggers.toy.tuning: tagger 'toy-1': unknown tag 'kazoo', 'lur'; {known}"
    assert second.startswith("streams.c, tagger 'toy': tagger 'toy-1': unknown tag 'harp', 'kazoo'")


def test_a_missing_bundle_is_reported_with_its_key(tmp_path: Path) -> None:
    path = write(tmp_path, "taggers.x.bundle = BUNDLE\nstreams.a.source='device:'", Path("none.pt"))
    (line,) = complaints_about(path)
    assert "taggers.x.bundle: " in line
    assert "expected a bundle, got No such file" in line


def test_the_check_command(tmp_path: Path, toy_bundle: Path) -> None:
    good = 'taggers.toy.bundle = BUNDLE\nstreams.a.source = "device:"\n'
    path = write(tmp_path, good, toy_bundle)
    run = CliRunner().invoke(app, ["check", str(path)])
    assert (run.exit_code, "no errors" in run.output) == (0, True)
    other = tmp_path / "d.toml"
    other.write_text("streams = 1\nfeed.bind = 2")
    run = CliRunner().invoke(app, ["check", str(path), str(other)])
    assert run.exit_code == 1
    assert [line.split(": ")[1] for line in run.stdout.splitlines()] == ["streams", "feed.bind"]


def test_the_schema_describes_every_key() -> None:
    run = CliRunner().invoke(app, ["schema", "config"])
    schema = json.loads(run.stdout)
    assert schema["properties"].keys() == Config.model_fields.keys()
    stream = schema["$defs"]["StreamConfig"]
    assert stream["required"] == ["source"]
    assert stream["additionalProperties"] is False
    assert stream["properties"]["loop"]["description"].startswith("Files and folders:")


@pytest.mark.parametrize(
    ("address", "sound"),
    [
        ("tcp://127.0.0.1:5757", True),
        ("tcp://*:0", True),
        ("tcp://[::1]:5757", True),
        ("tcp://host:*", True),
        ("ipc:///tmp/x", True),
        ("tcp://host", False),
        ("tcp://host:70000", False),
        ("http://host:80", False),
        ("", False),
    ],
)
def test_which_addresses_can_be_bound(address: str, sound: bool) -> None:
    assert is_bindable(address) is sound


def test_paths_are_relative_to_the_file_not_to_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.ogg").touch()
    path = write(tmp_path, 'streams.a.source = "file:a.ogg"', Path())
    monkeypatch.chdir("/")
    assert not complaints_about(path)
    assert load_config(path).stream("a").place == str(tmp_path / "a.ogg")


HIDING = """
feed.scores = "yes"
feed.bnid = "tcp://127.0.0.1:5757"
engine.max_batch = 0
defaults.language = "fr"
taggers.toy = { bundle = BUNDLE, tuning = { smoothing_seconds = -1 } }
streams.a = { source = "file:none.ogg", pace = 3 }
streams.b = { source = "device:", taggers = ["toys"] }
streams.c = { source = "tcp://127.0.0.1:9000", rate = 3, channels = 0 }
streams.d = { source = "smoke:signals" }
streams.e = { source = "folder:none", tuning.toy.deny = ["harp"], level.threshold_dbfs = 3 }
"""


def test_no_error_hides_another(tmp_path: Path, toy_bundle: Path) -> None:
    path = write(tmp_path, HIDING, toy_bundle)
    lines = [line.removeprefix(f"{path}: ") for line in complaints_about(path)]
    expected = [
        "feed.scores: expected a valid boolean, got 'yes'",
        "unknown key feed.bnid; allowed here: bind",
        "engine.max_batch: expected greater than or equal to 1, got 0",
        "defaults.language: expected one of en, got 'fr'",
        "taggers.toy.tuning.smoothing_seconds: expected greater than or equal to 0, got -1",
        "streams.a.source: expected an existing file, got",
        "streams.a.pace: expected a valid boolean, got 3",
        "streams.b: no tagger 'toys'; there are: toy",
        "streams.c.rate: expected greater than or equal to 1000, got 3",
        "streams.c.channels: expected greater than or equal to 1, got 0",
        "streams.d.source: expected 'file:PATH'",
        "streams.e.source: expected an existing folder, got",
        "streams.e, tagger 'toy': tagger 'toy-1': unknown tag 'harp'; it knows low, high, never",
        "streams.e.level.threshold_dbfs: expected less than or equal to 0, got 3",
    ]
    for words in expected:
        assert [line for line in lines if line.startswith(words)], words
    assert len(lines) == len(expected)


def about_journal(folder: Path, bundle: Path, journal: Path) -> list[str]:
    """What is said against a daemon whose journal is to be there."""
    text = "streams.a.source = 'device:'\ntaggers.t.bundle = BUNDLE\n"
    return complaints_about(
        write(folder, f"{text}feed.journal = {json.dumps(str(journal))}\n", bundle)
    )


def test_an_unusable_journal_is_reported_and_not_touched(tmp_path: Path, toy_bundle: Path) -> None:
    song, foreign, folder = tmp_path / "song.opus", tmp_path / "other.db", tmp_path / "folder"
    song.write_bytes(b"OggS" + bytes(5000))
    with closing(sqlite3.connect(foreign)) as db:
        db.execute("CREATE TABLE books (title)")
    folder.mkdir()
    for place, words in (
        (song, "expected a journal or no file, got another (file is not a database)"),
        (foreign, "expected a journal or no file, got a database with books"),
        (folder, "expected a file, got a folder"),
        (song / "j.db", f"expected a folder to write to, got {song}"),
    ):
        (told,) = about_journal(tmp_path, toy_bundle, place)
        assert "feed.journal: " in told
        assert words in told
    assert song.read_bytes() == b"OggS" + bytes(5000)


def test_a_journal_may_be_new_or_in_use(tmp_path: Path, toy_bundle: Path) -> None:
    place = tmp_path / "a" / "new.db"
    assert not about_journal(tmp_path, toy_bundle, place)
    journal = Journal(place)
    assert not about_journal(tmp_path, toy_bundle, place)
    journal.close()
    assert not about_journal(tmp_path, toy_bundle, place)
