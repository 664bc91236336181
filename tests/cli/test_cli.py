"""The commands, as a user types them."""

import csv
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.sounds import tone, write_wav
from typer.testing import CliRunner, Result

import streamtag
from streamtag.cli import main
from streamtag.engine.events import StreamOpened
from streamtag.errors import StreamtagError
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.publisher import Publisher
from streamtag.model.bundle import checksum
from streamtag.sources import soundcard
from streamtag.sources.soundcard import Device

SECONDS = 60
RATE = 22050


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low for 2 s, then high for 2 s."""
    samples = np.concatenate([tone(2, RATE, 200), tone(2, RATE, 3000)])
    return write_wav(tmp_path_factory.mktemp("audio") / "song.wav", samples, RATE)


def streamtag_(*words: object) -> Result:
    """The command in this process; errors of ours come out as they are raised."""
    return CliRunner().invoke(main.app, [str(word) for word in words], env={"COLUMNS": "200"})


def process(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamtag", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=cwd)


def test_a_table_of_events(song: Path, toy_bundle: Path) -> None:
    result = streamtag_("tag", song, "--model", toy_bundle)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert lines[0] == [str(song), "0:04.0", "by", "toy-1"]
    assert lines[1] == ["tag", "from", "to", "for", "peak"]
    assert [line[0] for line in lines[2:]] == ["low", "high"]
    assert lines[3][2] == "0:04.0"  # high lasts to the end


def test_json_as_documented(song: Path, toy_bundle: Path) -> None:
    result = streamtag_("tag", song, song, "-m", toy_bundle, "--format", "json", "--scores")
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
    ]
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
    result = streamtag_("tag", song, "-m", toy_bundle, "-f", "json", "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "scores" not in json.loads(target.read_text())[0]


def test_csv(song: Path, toy_bundle: Path) -> None:
    result = streamtag_("tag", song, "-m", toy_bundle, "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(r["file"], r["tag"], r["reason"]) for r in rows] == [
        (str(song), "low", "below_threshold"),
        (str(song), "high", "stream_closed"),
    ]
    result = streamtag_("tag", song, "-m", toy_bundle, "-f", "csv", "--scores")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == ["file", "start", "end", "provisional", "low", "high", "never"]
    assert float(rows[7]["low"]) > 0.99


def test_a_broken_file_is_reported_and_the_rest_is_tagged(
    song: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text("no audio")
    done = process("tag", tmp_path / "words.txt", tmp_path / "none", song, "-m", toy_bundle)
    assert done.returncode == 1
    assert "high" in done.stdout
    told = done.stderr.splitlines()
    assert told[0].startswith(f"streamtag: {tmp_path}/words.txt: expected audio")
    assert told[1].startswith(f"streamtag: {tmp_path}/none: expected an audio file, got nothing")
    assert len(told) == 2


def test_nothing_reached_its_threshold(tmp_path: Path, toy_bundle: Path) -> None:
    quiet = write_wav(tmp_path / "quiet.wav", tone(2, RATE) * 0, RATE)
    short = write_wav(tmp_path / "short.wav", tone(0.01, RATE), RATE)
    result = streamtag_("tag", quiet, short, "-m", toy_bundle)
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
    result = streamtag_("tag", *words, song, "-m", toy_bundle)
    assert result.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == [picture]
    assert f"{picture}: written" in result.stderr


def test_one_picture_for_two_files_is_wrong_usage(song: Path, toy_bundle: Path) -> None:
    result = streamtag_("tag", song, song, "--plot", "a.png", "-m", toy_bundle)
    assert result.exit_code == 2
    assert "leave the name out" in result.stderr


def test_inspect(toy_bundle: Path) -> None:
    result = streamtag_("inspect", toy_bundle)
    assert result.exit_code == 0
    for words in ("toy-1", checksum(toy_bundle), "Apache-2.0", "accuracy: 1", "For tests."):
        assert words in result.stdout
    assert ["low", "0.500", "0.400"] in [line.split() for line in result.stdout.splitlines()]
    card = json.loads(streamtag_("inspect", toy_bundle, "--json").stdout)
    assert (card["sha256"], card["name"]) == (checksum(toy_bundle), "toy-1")


def test_errors_are_one_line_and_exit_code_1(song: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('streams.a.source = "device:"\nfed.x = 1')
    for words, complaint in (
        (["inspect", song], "not a bundle: expected a TorchScript file"),
        (["run", tmp_path / "c.toml"], "unknown key fed; allowed here: streams"),
    ):
        done = process(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("streamtag: ")
        assert complaint in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["tag"], ["nonsense"], ["run"], ["tag", "a", "--format", "x"]])
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    assert streamtag_(*words).exit_code == 2


def test_help_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert streamtag_("--version").stdout == f"streamtag {streamtag.__version__}\n"
    result = streamtag_("--help")
    assert result.exit_code == 0
    for group, commands in {
        "Live": ["demo", "run", "watch", "devices"],
        "Recordings": ["tag"],
        "Models": ["inspect", "import"],
        "Making models": ["train", "recipes"],
    }.items():
        _, _, panel = result.stdout.partition(f" {group} ")
        assert all(f"│ {command} " in panel.partition("╰")[0] for command in commands)
    for command in ("demo", "run", "watch", "devices", "tag", "inspect", "import", "train"):
        assert streamtag_(command, "-h").exit_code == 0


def test_help_of_import_names_all_kinds() -> None:
    from streamtag.train.importing.published import KINDS

    text = streamtag_("import", "--help").stdout
    assert all(kind in text for kind in KINDS)


def test_import_refuses_an_unknown_kind(tmp_path: Path, song: Path) -> None:
    done = process("import", "hearsay", song, "-o", tmp_path / "a.pt")
    assert done.returncode == 1
    assert "expected one of mtg-jamendo-vggish" in done.stderr


def test_the_commands_load_neither_torch_nor_numpy() -> None:
    code = "import sys, streamtag.cli.main; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_ctrl_c_ends_watch_with_130() -> None:
    publisher = Publisher("tcp://127.0.0.1:0")
    command = [sys.executable, "-m", "streamtag", "watch", publisher.address]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever starts the tests in the background may have told them to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as watch:
        killer = threading.Timer(SECONDS, watch.kill)
        killer.start()
        assert watch.stdout is not None
        assert publisher.wait_for_subscriber(SECONDS)
        publisher.publish(EventEncoder({}).message(StreamOpened("radio", 0, 8000, 0, ("moods",))))
        assert watch.stdout.readline() == b"radio 0:00.0 stream_up 8000 Hz, tagged by moods\n"
        watch.send_signal(signal.SIGINT)
        _, errors = watch.communicate()
        killer.cancel()
    publisher.close()
    assert (watch.returncode, errors) == (130, b"")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer = Device(3, "USB [red] mixer", "ALSA", 18, 48000, True)
    monkeypatch.setattr(soundcard, "devices", lambda: [mixer])
    result = streamtag_("devices")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split("  ")[0] == " *"
    assert "USB [red] mixer" in result.stdout
    monkeypatch.setattr(soundcard, "devices", lambda: [])
    assert isinstance(streamtag_("devices").exception, StreamtagError)


def test_training_without_its_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("streamtag.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    result = streamtag_("train", "instruments", "--data", tmp_path)
    assert isinstance(result.exception, StreamtagError)
    assert "'soundfile'" in str(result.exception)
    assert "streamtag[train]" in str(result.exception)
