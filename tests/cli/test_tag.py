"""The command `streamtag tag`."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyNet
from support.commands import RATE, make_song, run_here, run_process
from support.sounds import tone, write_wav

from streamtag.model.bundle import read_card
from streamtag.train.exporting.bundle import export


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_song(tmp_path_factory.mktemp("audio"))


def test_a_table_of_events(song: Path, toy_bundle: Path) -> None:
    result = run_here("tag", song, "--model", toy_bundle)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert lines[0] == [str(song), "0:04.0", "by", "toy-1"]
    assert lines[1] == ["tag", "from", "to", "for", "peak"]
    assert [line[0] for line in lines[2:]] == ["low", "high"]
    assert lines[3][2] == "0:04.0"  # high lasts to the end


def test_json_as_documented(song: Path, toy_bundle: Path) -> None:
    result = run_here("tag", song, song, "-m", toy_bundle, "--format", "json", "--scores")
    assert result.exit_code == 0
    one, other = json.loads(result.stdout)
    assert one == other
    assert list(one) == [
        "file",
        "model",
        "window_seconds",
        "hop_seconds",
        "tags",
        "scores",
        "events",
        "mood",
    ]
    assert one["mood"] is None
    assert (one["file"], one["model"]) == (str(song), "toy-1")
    assert (one["window_seconds"], one["hop_seconds"]) == (1.022, 0.25)
    assert one["tags"] == ["low", "high", "never"]
    ends = np.array([row["end"] for row in one["scores"]])
    np.testing.assert_allclose(np.diff(ends[:-1]), 0.25, atol=1e-4)
    for row in one["scores"]:
        assert list(row) == ["start", "end", "values", "provisional"]
        assert len(row["values"]) == 3
        assert row["provisional"] == (row["end"] < 1.02)
    assert [list(event) for event in one["events"]] == [["tag", "on", "off", "peak", "reason"]] * 2
    assert [event["tag"] for event in one["events"]] == ["low", "high"]
    assert [e["reason"] for e in one["events"]] == ["below_threshold", "stream_closed"]
    assert one["events"][0]["off"] == pytest.approx(2.0, abs=0.3)
    assert one["events"][1]["on"] == pytest.approx(2.5, abs=0.3)


def test_json_without_scores_and_into_a_file(song: Path, toy_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    result = run_here("tag", song, "-m", toy_bundle, "-f", "json", "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "scores" not in json.loads(target.read_text())[0]


def test_json_says_moods_as_a_whole_and_over_time(
    song: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    tags, categories = (
        ("calm", "loud", "sad"),
        {"calm": "mood", "loud": "genre", "sad": "mood/theme"},
    )
    moody = dataclasses.replace(
        read_card(toy_bundle), tags=tags, categories=categories, off_by_default=("sad",)
    )
    export(ToyNet().eval(), moody, bundle := tmp_path / "moody.pt")
    result = run_here("tag", song, "-m", bundle, "--format", "json", "--scores")
    assert result.exit_code == 0
    (one,) = json.loads(result.stdout)
    mood = one["mood"]
    assert list(mood) == ["valence", "arousal", "certainty", "tags", "over_time"]
    full = np.array([row["values"] for row in one["scores"] if not row["provisional"]])
    assert mood["tags"] == pytest.approx({"calm": full[:, 0].mean(), "sad": full[:, 2].mean()})
    assert [list(p) for p in mood["over_time"]] == [["t", "valence", "arousal", "certainty"]] * 4
    times = [point["t"] for point in mood["over_time"]]
    np.testing.assert_allclose(np.diff(times), 1.0, atol=0.26)


def test_csv(song: Path, toy_bundle: Path) -> None:
    result = run_here("tag", song, "-m", toy_bundle, "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(r["file"], r["tag"], r["reason"]) for r in rows] == [
        (str(song), "low", "below_threshold"),
        (str(song), "high", "stream_closed"),
    ]
    result = run_here("tag", song, "-m", toy_bundle, "-f", "csv", "--scores")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == ["file", "start", "end", "provisional", "low", "high", "never"]
    assert float(rows[7]["low"]) > 0.99


def test_a_broken_file_is_reported_and_the_rest_is_tagged(
    song: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text("no audio")
    done = run_process("tag", tmp_path / "words.txt", tmp_path / "none", song, "-m", toy_bundle)
    assert done.returncode == 1
    assert "high" in done.stdout
    told = done.stderr.splitlines()
    assert told[0].startswith(f"streamtag: {tmp_path}/words.txt: expected audio")
    assert told[1].startswith(f"streamtag: {tmp_path}/none: expected an audio file, got nothing")
    assert len(told) == 2


def test_nothing_reached_its_threshold(tmp_path: Path, toy_bundle: Path) -> None:
    quiet = write_wav(tmp_path / "quiet.wav", tone(2, RATE) * 0, RATE)
    short = write_wav(tmp_path / "short.wav", tone(0.01, RATE), RATE)
    result = run_here("tag", quiet, short, "-m", toy_bundle)
    assert result.exit_code == 0
    assert "No tag reached its threshold. Closest: never 0.00" in result.stdout
    assert result.stdout.count("No tag reached its threshold") == 2


@pytest.mark.parametrize(
    ("words", "picture"),
    [
        (["--plot"], "song.taggram.png"),
        (["--plot", "a.png"], "a.png"),
        (["--plot=a.svg"], "a.svg"),
        (["--plot", "--format", "csv"], "song.taggram.png"),
    ],
)
def test_plot_writes_a_picture(
    song: Path,
    toy_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    picture: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_here("tag", *words, song, "-m", toy_bundle)
    assert result.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == [picture]
    assert f"{picture}: written" in result.stderr


def test_one_picture_for_two_files_is_wrong_usage(song: Path, toy_bundle: Path) -> None:
    result = run_here("tag", song, song, "--plot", "a.png", "-m", toy_bundle)
    assert result.exit_code == 2
    assert "leave the name out" in result.stderr
