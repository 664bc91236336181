"""The application: help, exit codes, start-up, and the commands about devices and training."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.commands import SECONDS, make_song, run_here, run_process

import streamtag
from streamtag.engine.events import StreamOpened
from streamtag.errors import StreamtagError
from streamtag.feed.event_encoder import EventEncoder
from streamtag.feed.journal.journal import Journal
from streamtag.feed.publisher import Publisher
from streamtag.sources import soundcard
from streamtag.sources.soundcard import Device


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_song(tmp_path_factory.mktemp("audio"))


def test_errors_are_one_line_and_exit_code_1(song: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('streams.a.source = "device:"\nfed.x = 1')
    for words, complaint in (
        (["inspect", song], "not a bundle: expected a TorchScript file"),
        (["run", tmp_path / "c.toml"], "unknown key fed; allowed here: streams"),
    ):
        done = run_process(*words, fresh=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("streamtag: ")
        assert complaint in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["tag"], ["nonsense"], ["run"], ["tag", "a", "--format", "x"]])
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    assert run_here(*words).exit_code == 2


def test_help_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_here("--version").stdout == f"streamtag {streamtag.__version__}\n"
    result = run_here("--help")
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
        assert run_here(command, "-h").exit_code == 0


def test_the_commands_load_neither_torch_nor_numpy() -> None:
    code = "import sys, streamtag.cli.main; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_only_commands_that_call_a_model_load_torch(toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "daemon.toml").write_text(
        f'[taggers.toy]\nbundle = "{toy_bundle}"\n[streams]\na = "file:{toy_bundle}"\n'
    )
    Journal(tmp_path / "journal.db").close()
    commands = [
        "--help", "check daemon.toml", "ctl list --socket none", "inspect " + str(toy_bundle),
        "history --journal journal.db", "history shares --journal journal.db", "keygen pair",
        "watch tcp://127.0.0.1:no", "schema config", "schema messages", "devices", "tag --help",
    ]  # fmt: skip
    code = """
import sys
from typer.testing import CliRunner
from streamtag.cli.main import app
for command in sys.argv[1:]:
    CliRunner().invoke(app, command.split())
    heavy = {"torch", "matplotlib"} & sys.modules.keys()
    assert not heavy, f"{command} loads {heavy}"
print("streamtag.feed.client.subscriber" in sys.modules, len(sys.modules))"""
    done = subprocess.run(
        [sys.executable, "-c", code, *commands], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    watched, count = done.stdout.split()
    assert watched == "True"
    assert int(count) < 1100  # torch alone brings about a thousand more


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
    result = run_here("devices")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split("  ")[0] == " *"
    assert "USB [red] mixer" in result.stdout
    monkeypatch.setattr(soundcard, "devices", lambda: [])
    assert isinstance(run_here("devices").exception, StreamtagError)


def test_training_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['soundfile'] = None; from streamtag.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "train", "instruments", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "'soundfile'" in done.stderr
    assert "streamtag[train]" in done.stderr
