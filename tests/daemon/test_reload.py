"""SIGHUP and systemd's reload of a real daemon: taken as a whole, or not at all."""

import json
import shutil
import signal
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ToyNet
from daemon.test_daemon import SECONDS, Process, check_contract, events_of, running
from daemon.test_running_changes import Feed, is_down, is_up, stop
from daemon.test_systemd import Systemd
from support.sounds import tone, write_wav
from support.toy import card

from streamtag.audio.feature_config import FeatureConfig
from streamtag.config.control_socket import send_command
from streamtag.daemon.check import complaints_about
from streamtag.errors import ControlError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Scores, StreamUp, TaggersChanged, TagOff, TagOn
from streamtag.model.card import Card
from streamtag.train.exporting.bundle import export

RATE = 22050


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low all the time, high in turns, 6 s."""
    high = [level * tone(1.5, RATE, 3000, 0.4) for level in (1, 0, 1, 0)]
    sound = tone(6, RATE, 200, 0.4) + np.concatenate(high)
    return write_wav(tmp_path_factory.mktemp("audio") / "song.wav", sound, RATE)


def write(path: Path, taggers: str, streams: str, more: str = "") -> Path:
    path.write_text(
        f"exit_when_done = false\n{more}\n"
        f'[feed]\nbind = "tcp://127.0.0.1:0"\nstats_seconds = 0.5\n'
        '[engine]\ndevice = "cpu"\nthreads = 1\n[control]\nsocket = "c.sock"\n'
        '[metrics]\nbind = "127.0.0.1:0"\n'
        f"[taggers]\n{taggers}\n[streams]\n{streams}\n"
    )
    return path


def metrics(daemon: Process) -> str:
    """What Prometheus would read."""
    (line,) = (line for line in daemon.log if "metrics on http" in line)
    with urllib.request.urlopen(line.split()[-1], timeout=SECONDS) as page:
        text: str = page.read().decode()
    return text


def tell(socket: Path, command: str, **fields: object) -> Any:
    return send_command(socket, {"command": command, **fields}, SECONDS)


def receive_until(systemd: Systemd, wanted: str, received: list[str]) -> None:
    while not any(message.startswith(wanted) for message in received):
        received.append(systemd.receive())


def test_a_faulty_file_changes_nothing_and_is_reported_to_systemd_and_the_log(
    tmp_path: Path, song: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    taggers = f"toy.bundle = {json.dumps(str(toy_bundle))}"
    streams = f'a = {{ source = "file:{song}", pace = true, loop = true }}\n'
    other = f'b = {{ source = "file:{song}", pace = true, loop = true }}\n'
    config = write(tmp_path / "d.toml", taggers, streams + other)
    try:
        with running(config) as daemon, Subscriber(daemon.address) as subscriber:
            feed, received = Feed(subscriber), list[str]()
            feed.until(is_up("b"))
            receive_until(systemd, "STATUS=streams: 2 up", received)
            assert "READY=1" in received
            good = config.read_text()
            hidden = 'c = { source = "device:", taggers = ["toys"] }\n'
            config.write_text(good.replace("pace = true", "pace = 7") + hidden)
            received.clear()
            daemon.popen.send_signal(signal.SIGHUP)
            receive_until(systemd, "STATUS=streams: 2 up; new configuration refused: ", received)
            (reloading,) = (m for m in received if m.startswith("RELOADING=1\nMONOTONIC_USEC="))
            assert int(reloading.rpartition("=")[2]) > 0
            assert received.index(reloading) < received.index("READY=1")
            assert "d.toml: streams.a.pace: expected a valid boolean, got 7" in received[-1]
            with pytest.raises(ControlError) as caught:
                tell(tmp_path / "c.sock", "reload")
            assert str(caught.value).splitlines() == (told := complaints_about(config))
            (tmp_path / "no.pt").write_text("no bundle")
            write(config, 'toy.bundle = "no.pt"', streams)  # a model that is none, a stream less
            with pytest.raises(ControlError, match=r"no\.pt: not a bundle"):
                tell(tmp_path / "c.sock", "reload")
            assert [row["state"] for row in tell(tmp_path / "c.sock", "list")] == ["up", "up"]
            write(config, taggers, streams)
            received.clear()
            daemon.popen.send_signal(signal.SIGHUP)
            feed.until(is_down("b"))
            receive_until(systemd, "STATUS=streams: 1 up", received)
            assert received[-1] == "STATUS=streams: 1 up"
            page = metrics(daemon)
            assert 'streamtag_streams{state="up"} 1.0' in page
            assert 'streamtag_streams{state="down"} 0.0' in page
            stop(daemon, feed, "a")
    finally:
        systemd.close()
    first, second, third = (line for line in daemon.log if "refused" in line)
    assert [line.split(": ")[1] for line in told] == [
        "streams.a.pace",
        "streams.b.pace",
        "streams.c",
    ]
    assert " | ".join(told) in first
    assert " | ".join(told) in second
    assert "not a bundle" in third
    assert sum(isinstance(m, StreamUp) for m in feed.messages) == 2
    check_contract(feed.messages)


@pytest.fixture(scope="module")
def other_front_end(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy net on frames of 8 kHz, every 20 ms; the same tags."""
    path = tmp_path_factory.mktemp("models") / "eight.pt"
    features = FeatureConfig(sample_rate=8000, n_fft=512, hop=160, n_mels=32)
    fields = {"name": "eight", "window_frames": 50, "hop_frames": 12, "first_frames": 12}
    export(ToyNet(), toy_card(features=features, **fields), path)
    return path


def toy_card(**changes: object) -> Card:
    """As that of the toy bundle."""
    tags = ("low", "high", "never")
    times = dict.fromkeys(("smoothing_seconds", "min_on_seconds", "min_off_seconds"), 0.2)
    usual = {"tags": tags, "on_thresholds": (0.5,) * 3, "off_thresholds": (0.4,) * 3}
    return card(**usual | times | changes)


def test_a_swap_to_a_model_with_another_front_end(
    tmp_path: Path, song: Path, toy_bundle: Path, other_front_end: Path
) -> None:
    streams = f'a = {{ source = "file:{song}", pace = true, loop = true }}\n'
    config = write(tmp_path / "d.toml", f"toy.bundle = {json.dumps(str(toy_bundle))}", streams)
    socket = tmp_path / "c.sock"
    with running(config) as daemon, Subscriber(daemon.address, scores=True) as subscriber:
        feed = Feed(subscriber)
        feed.until(lambda m: isinstance(m, TagOn) and m.tag == "low")
        tell(socket, "shadow", tagger="toy", bundle=str(other_front_end))
        page = metrics(daemon)
        assert 'streamtag_windows_total{shadow="false",tagger="toy"}' in page
        assert 'tagger="toy~"' not in page
        shadow = {"windows": 0}
        while not shadow["windows"]:
            feed.until(lambda m: isinstance(m, Scores))
            shadow = tell(socket, "status")["shadows"]["toy"]
        assert shadow["model"] == "eight"
        assert 'streamtag_windows_total{shadow="true",tagger="toy"}' in metrics(daemon)
        assert tell(socket, "swap", tagger="toy") == {"taggers_swapped": ["toy"]}
        changed = feed.until(lambda m: isinstance(m, TaggersChanged))
        assert changed.models == ("eight",)  # type: ignore[attr-defined]
        feed.until(lambda m: isinstance(m, TagOff) and m.reason == "below_threshold")
        feed.until(lambda m: isinstance(m, TagOn) and m.model == "eight" and m.tag == "high")
        assert 'shadow="true"' not in metrics(daemon)
        stop(daemon, feed, "a")
    check_contract(feed.messages)
    at = next(i for i, m in enumerate(feed.messages) if isinstance(m, TaggersChanged))
    scores = [m for m in feed.messages[at:] if isinstance(m, Scores)]
    assert np.diff([m.t for m in scores[:-1]]) == pytest.approx(0.24, abs=1e-3)
    before = [m.tag for m in feed.messages[:at] if getattr(m, "reason", "") == "model_swapped"]
    assert "low" in before  # it is heard all the time, so the new one begins with it
    again = [m.tag for m in feed.messages[at : at + 3] if isinstance(m, TagOn)]
    assert "low" in again


def test_ten_changes_at_once(
    tmp_path: Path, song: Path, toy_bundle: Path, other_front_end: Path
) -> None:
    bundle, twin = json.dumps(str(toy_bundle)), tmp_path / "twin.pt"
    shutil.copy(toy_bundle, twin)
    source = f'source = "file:{song}", pace = true, loop = true'
    config = write(
        tmp_path / "d.toml",
        f"toy.bundle = {bundle}\ntwin.bundle = {json.dumps(str(twin))}\ngone.bundle = {bundle}\n",
        f'stays = {{ {source}, taggers = ["toy"] }}\n'
        f'tuned = {{ {source}, taggers = ["toy"] }}\n'
        f'swapped = {{ {source}, taggers = ["twin"] }}\n'
        f'leaves = {{ {source}, taggers = ["gone"] }}\n'
        f'moved = {{ {source}, taggers = ["toy"] }}\n',
    )
    socket = tmp_path / "c.sock"
    with running(config) as daemon, Subscriber(daemon.address, scores=True) as subscriber:
        feed = Feed(subscriber)
        for name in ("stays", "tuned", "swapped", "leaves", "moved"):
            feed.until(lambda m, n=name: isinstance(m, TagOn) and m.stream == n)  # type: ignore[misc]
        write(
            config,
            f"toy.bundle = {bundle}\ntwin.bundle = {json.dumps(str(other_front_end))}\n"
            f"new.bundle = {json.dumps(str(twin))}\n",
            f'stays = {{ {source}, taggers = ["toy"] }}\n'
            f'tuned = {{ {source}, taggers = ["toy", "new"], language = "de", '
            'tuning.toy = { deny = ["low"], tag.high.min_on_seconds = 0.5 } }\n'
            f'swapped = {{ {source}, taggers = ["twin"] }}\n'
            f'moved = {{ {source}, taggers = ["toy"], level.threshold_dbfs = -50 }}\n'
            f'comes = {{ {source}, taggers = ["new"] }}\n',
            '[languages]\nde = { low = "tief", high = "hoch" }\n[defaults]\n'
            "tuning.hop_seconds = 0.25\n",
        )
        # Defaults reach `stays`, too, but its hop is as it was.
        assert tell(socket, "reload") == {
            "added": ["comes"], "removed": ["leaves"], "restarted": ["moved"],
            "retuned": ["stays", "tuned", "swapped"],
            "taggers_added": ["new"], "taggers_removed": ["gone"], "taggers_swapped": ["twin"],
        }  # fmt: skip
        begun = len(feed.messages)
        feed.until(lambda m: isinstance(m, TagOn) and m.stream == "tuned" and m.tagger == "new")
        feed.until(lambda m: isinstance(m, TagOn) and m.stream == "swapped" and m.model == "eight")
        feed.until(lambda m: isinstance(m, TagOn) and m.stream == "tuned" and m.tagger == "toy")
        rows = {r["name"]: r for r in tell(socket, "list")}
        assert {name: row["taggers"] for name, row in rows.items()} == {
            "stays": ["toy"], "tuned": ["toy", "new"], "swapped": ["twin"], "moved": ["toy"],
            "comes": ["new"],
        }  # fmt: skip
        stop(daemon, feed, "stays", "tuned", "swapped", "moved", "comes")
    check_contract(feed.messages)
    tuned = [m for m in events_of(feed.messages[begun:], "tuned") if isinstance(m, TagOn)]
    assert {(m.tag, m.display) for m in tuned if m.tagger == "new"} == {
        ("low", "tief"), ("high", "hoch"),
    }  # fmt: skip
    assert {m.tag for m in tuned if m.tagger == "toy"} == {"high"}
    denied = [
        m for m in events_of(feed.messages, "tuned") if getattr(m, "reason", "") == "configuration"
    ]
    assert [m.tag for m in denied if isinstance(m, TagOff)] == ["low"]
    kept = events_of(feed.messages, "stays")
    assert sum(isinstance(m, StreamUp) for m in kept) == 1
    ends = [m.t for m in kept if isinstance(m, Scores)]
    assert np.diff(ends[:-1]) == pytest.approx(0.25, abs=1e-3)  # every window once
