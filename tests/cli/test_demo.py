"""`streamtag demo`, with a file and a model of the tests."""

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import httpx
import numpy as np
from support.forked import Forked, run
from support.sounds import tone, write_wav

from streamtag.cli.demo import WIDTH, Truth, summary
from streamtag.engine import events
from streamtag.engine.events import Reason
from streamtag.feed.event_encoder import EventEncoder
from streamtag.history.taggram import TagSpan

SECONDS = 120


def demo(*words: object) -> subprocess.CompletedProcess[str]:
    return run("-m", "streamtag", "demo", *words, timeout=SECONDS)


def test_demo_shows_the_events_of_a_file(tmp_path: Path, toy_bundle: Path) -> None:
    samples = np.concatenate([tone(2, 22050, 200), tone(2, 22050, 3000)])
    done = demo(write_wav(tmp_path / 'a "b".wav', samples, 22050), "--model", toy_bundle)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("▶ low" in line for line in lines)
    assert any("■ high" in line for line in lines)
    (low,) = (line.split()[1] for line in lines if line.startswith("   low "))
    (high,) = (line.split()[1] for line in lines if line.startswith("  high "))
    assert len(low) == len(high) == WIDTH
    assert 0.4 * WIDTH > low.index("█") > 0
    assert high.rindex("█") == WIDTH - 1
    assert any("streamtag tag song.mp3" in line for line in lines)


def test_a_missing_file_is_reported(tmp_path: Path, toy_bundle: Path) -> None:
    done = demo(tmp_path / "none.ogg", "-m", toy_bundle)
    assert done.returncode == 1
    assert "none.ogg: expected an audio file, got nothing there" in done.stderr


def test_a_failed_start_of_the_daemon_is_reported(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", tone(1, 8000), 8000)
    done = demo(wav, "-m", wav)
    assert done.returncode == 1
    assert "the daemon ended" in done.stderr
    assert "not a bundle" in done.stderr


def test_the_summary_compares_with_the_truth() -> None:
    wire = EventEncoder({"m": ("strings", "brass", "voice")}, 10**18)
    sent = [
        events.StreamOpened("demo", 0, 100, 0, ("m",)),
        events.WindowScored("demo", "m", 0, 100, (0.1,) * 3, (0.1,) * 3, False),
        events.TagEnded("demo", "m", "strings", 3000, 3000, 1000, 0.9, Reason.BELOW_THRESHOLD),
        events.StreamClosed("demo", 6000, Reason.STREAM_CLOSED),
    ]
    spans = (TagSpan("strings", 0, 20), TagSpan("brass", 50, 60), TagSpan("kazoo", 0, 60))
    truth = Truth(spans, frozenset({"strings", "brass", "kazoo"}))
    lines = summary([wire.message(event) for event in sent], truth).plain.splitlines()
    marks = {line.split()[0]: line.split()[1] for line in lines if len(line.split()) == 2}
    assert marks["strings"] == "░" * 10 + "█" * 10 + "▒" * 10 + "·" * 30
    assert marks["brass"] == "·" * 50 + "░" * 10
    assert "kazoo" not in marks  # the model does not know it
    assert any(
        "33% of what plays was detected; 50% of what was detected plays." in x for x in lines
    )


def test_demo_with_the_wall_ends_without_a_terminal(tmp_path: Path, toy_bundle: Path) -> None:
    done = demo(
        write_wav(tmp_path / "a.wav", tone(2, 22050, 200), 22050), "-m", toy_bundle, "--web"
    )
    assert done.returncode == 0, done.stderr
    assert "In a terminal, `streamtag demo --web`" in done.stdout


def test_demo_names_the_wall_in_a_terminal(tmp_path: Path, toy_bundle: Path) -> None:
    sound = write_wav(tmp_path / "a.wav", tone(2, 22050, 200), 22050)
    words = ("-m", "streamtag", "demo", sound, "-m", toy_bundle, "--web")
    ours, theirs = pty.openpty()
    quiet = os.environ | {"BROWSER": "true", "COLUMNS": "200", "NO_COLOR": "1"}
    done = Forked(*words, stdin=theirs, stdout=theirs, stderr=theirs, env=quiet)
    os.close(theirs)
    try:
        text = ""
        while (found := re.search(r"(http://[\d.:]+)/wall", text)) is None:
            text += os.read(ours, 4096).decode(errors="replace")
        page = httpx.get(found[0], trust_env=False, verify=False)
        assert "static/" in page.text
        done.send_signal(signal.SIGINT)
        assert done.wait(SECONDS) == 0
    finally:
        done.kill()
        done.wait()
        os.close(ours)
