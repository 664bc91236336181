"""Clips of a daemon: audio, metadata and messages, and what becomes of them in the worst case."""

import csv
import hashlib
import io
import json
import os
import random
import re
import signal
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from daemon.test_killed_daemon import children
from support.forked import Forked
from support.paths import ROOT
from support.peers import wait_until
from support.sounds import tone, write_wav
from support.web_server import Server
from typer.testing import CliRunner

from streamtag.cli.main import app
from streamtag.errors import FeedError
from streamtag.feed.messages import Clip, Message, SilenceOn
from streamtag.feed.timestamps import ns_of
from streamtag.history.history import History
from streamtag.history.query import Query

RATE = 16000
SECONDS = 120


def programme(rate: int = RATE) -> np.ndarray:
    """4 s of a tone, 3 s of silence, 4 s of another tone."""
    first, second = tone(4, rate, 440), tone(4, rate, 1000)
    return np.concatenate([first, np.zeros(3 * rate, np.float32), second])


def configuration(
    folder: Path, bundle: Path, streams: str, clips: str = "", more: str = "", done: bool = True
) -> Path:
    path = folder / "daemon.toml"
    path.write_text(
        f"exit_when_done = {json.dumps(done)}\n"
        '[feed]\nbind = "tcp://127.0.0.1:0"\njournal = "events.db"\nbeat_seconds = 0.2\n'
        f'[engine]\ndevice = "cpu"\nthreads = 1\n{more}\n[control]\nenabled = false\n'
        "[level]\nsilence_seconds = 1\nsound_seconds = 0.2\n"
        f'[clips]\nfolder = "clips"\non = ["silence_on"]\nseconds = 60\nbefore_seconds = 1\n'
        f"after_seconds = 1\nlongest_seconds = 30\nfree_megabytes = 0\n{clips}\n"
        f"[taggers.toy]\nbundle = {json.dumps(str(bundle))}\n[streams]\n{streams}\n"
    )
    return path


def run(config: Path) -> None:
    """Runs a daemon until its streams have ended."""
    log = config.with_name("daemon.log")
    with log.open("ab") as output:
        process = Forked("-m", "streamtag", "run", config, stderr=output)
    try:
        assert process.wait(SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def messages(config: Path, kind: type[Message] = Clip) -> list[Message]:
    """All messages of a type in the journal."""
    journal = History(config.with_name("events.db"))
    try:
        return [e.message for e in journal.entries(Query()) if isinstance(e.message, kind)]
    finally:
        journal.close()


def clips(config: Path) -> list[Clip]:
    return [clip for clip in messages(config) if isinstance(clip, Clip)]


def test_a_clip_shows_its_event_from_before_to_after(tmp_path: Path, toy_bundle: Path) -> None:
    write_wav(tmp_path / "a.wav", programme(), RATE)
    config = configuration(tmp_path, toy_bundle, 'radio = {source = "file:a.wav"}')
    run(config)
    begun, ready = clips(config)
    (silence,) = messages(config, SilenceOn)
    assert (begun.stage, begun.id, begun.end) == ("begun", ready.id, silence.t)
    assert (ready.stage, ready.event, ready.complete) == ("ready", "silence_on", True)
    assert (ready.t, ready.end) == pytest.approx((3, 8), abs=0.15)
    assert ns_of(ready.utc) - ns_of(silence.utc) == pytest.approx((ready.t - silence.t) * 1e9)
    path = tmp_path / "clips" / ready.file
    assert path.read_bytes()[:4] == b"fLaC"
    assert (ready.bytes, ready.url) == (path.stat().st_size, f"/clip/{ready.id}")
    assert ready.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    samples, rate = soundfile.read(path, dtype="float32")
    first = round(ready.t * RATE)
    wanted = programme()[first : first + len(samples)]
    assert rate == RATE
    np.testing.assert_allclose(samples, wanted, atol=2**-15)
    with soundfile.SoundFile(path) as file:
        assert file.title == "radio: silence_on"
    assert f"UTC {ready.utc} to ".encode() in path.read_bytes()
    assert not list((tmp_path / "clips/spool").iterdir())


def test_a_clip_is_as_long_as_allowed_and_in_opus(tmp_path: Path, toy_bundle: Path) -> None:
    write_wav(tmp_path / "a.wav", np.concatenate([programme(44100)[: 44100 * 6]] * 3), 44100)
    keys = 'format = "opus"\nrate = 24000'
    config = configuration(tmp_path, toy_bundle, 'radio = {source = "file:a.wav"}', keys)
    config.write_text(config.read_text().replace("longest_seconds = 30", "longest_seconds = 2"))
    run(config)
    ready = [clip for clip in clips(config) if clip.stage == "ready"]
    assert [round(clip.end - clip.t, 1) for clip in ready] == [2.0] * len(ready)
    assert len(ready) == 3, clips(config)
    assert all(clip.complete for clip in ready)
    samples, rate = soundfile.read(tmp_path / "clips" / ready[0].file, dtype="float32")
    assert len(samples) / rate == pytest.approx(2, abs=0.05)
    spectrum = np.abs(np.fft.rfft(samples[: rate // 2]))
    assert np.argmax(spectrum) * 2 == pytest.approx(440, abs=4)


def test_a_stream_can_deny_it(tmp_path: Path, toy_bundle: Path) -> None:
    write_wav(tmp_path / "a.wav", programme(), RATE)
    streams = (
        'open = {source = "file:a.wav"}\nprivate = {source = "file:a.wav", clips = false}\n'
        "[defaults]\nclips = true"
    )
    config = configuration(tmp_path, toy_bundle, streams)
    run(config)
    assert {clip.stream for clip in clips(config)} == {"open"}
    assert {m.stream for m in messages(config, SilenceOn)} == {"open", "private"}


def test_workers_keep_audio_too(tmp_path: Path, toy_bundle: Path) -> None:
    streams = []
    for name in "abc":
        write_wav(tmp_path / f"{name}.wav", programme(), RATE)
        streams.append(f'{name} = {{source = "file:{name}.wav"}}')
    config = configuration(tmp_path, toy_bundle, "\n".join(streams), more="workers = 2")
    run(config)
    assert {c.stream for c in clips(config) if c.stage == "ready" and c.complete} == {*"abc"}


def test_a_full_disk_stops_clips_and_no_events(tmp_path: Path, toy_bundle: Path) -> None:
    write_wav(tmp_path / "a.wav", np.tile(programme(), 2), RATE)
    config = configuration(
        tmp_path, toy_bundle, 'radio = {source = "file:a.wav"}', "free_megabytes = 1e12"
    )
    config.write_text(config.read_text().replace("free_megabytes = 0\n", ""))
    run(config)
    found = clips(config)
    assert {clip.stage for clip in found} == {"begun", "missing"}
    assert "has less than 1e+12 MB left (clips.free_megabytes)" in found[-1].detail
    assert len(messages(config, SilenceOn)) == 2
    log = (tmp_path / "daemon.log").read_text()
    assert log.count("clips: none is made") <= 1


def live(folder: Path, bundle: Path) -> Path:
    """A daemon with two streams that go on for ever, with a silence every 4 s."""
    samples = np.concatenate([tone(1, RATE), np.zeros(2 * RATE, np.float32), tone(1, RATE, 1000)])
    write_wav(folder / "a.wav", samples, RATE)
    write_wav(folder / "b.wav", np.roll(samples, 2 * RATE), RATE)
    streams = "\n".join(
        f'{name} = {{source = "file:{name}.wav", loop = true, pace = true}}' for name in "ab"
    )
    return configuration(folder, bundle, streams, done=False)


def until_stage(config: Path, enough: int, state: str) -> None:
    def there() -> bool:
        try:
            return sum(clip.stage == state for clip in clips(config)) >= enough
        except FeedError:  # it has no journal yet
            return False

    wait_until(there, config.with_name("daemon.log").read_text)


def check_evidence(config: Path) -> None:
    """Each clip that was begun is ready or missing, once; files are whole."""
    found = clips(config)
    begun = [clip.id for clip in found if clip.stage == "begun"]
    ended = [clip.id for clip in found if clip.stage != "begun"]
    assert sorted(begun) == sorted(set(begun))
    assert sorted(ended) == sorted(begun)
    folder = config.parent / "clips"
    for clip in found:
        if clip.stage == "ready":
            assert hashlib.sha256((folder / clip.file).read_bytes()).hexdigest() == clip.sha256
    named = {path.stem for path in folder.glob("*/*.flac") if not path.name.startswith(".")}
    assert named == {clip.id for clip in found if clip.stage == "ready"}
    for path in folder.glob("2*/*.flac"):
        if not path.name.startswith("."):
            soundfile.read(path)


KILLS = int(os.environ.get("STREAMTAG_CLIP_KILLS", "3"))


def test_a_killed_daemon_finishes_what_it_has_begun(tmp_path: Path, toy_bundle: Path) -> None:
    config = live(tmp_path, toy_bundle)
    log, moment = tmp_path / "daemon.log", random.Random(1)
    for number in range(KILLS + 1):
        known = clips(config) if (tmp_path / "events.db").exists() else []
        before = sum(clip.stage == "begun" for clip in known)
        with log.open("ab") as output:
            process = Forked("-m", "streamtag", "run", config, stderr=output)
        try:
            if number < KILLS:
                until_stage(config, before + 1, "begun")
                time.sleep(moment.uniform(0, 2.5))  # during the event, its end, the encoding
                process.send_signal(signal.SIGKILL)
            else:
                until_stage(config, 1, "ready")
                process.terminate()
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()
    write_wav(tmp_path / "a.wav", tone(0.5, RATE), RATE)
    streams = 'a = {source = "file:a.wav"}'
    run(configuration(tmp_path, toy_bundle, streams))  # finishes what is left
    assert sum(clip.stage == "begun" for clip in clips(config)) >= KILLS
    check_evidence(config)


def engines_of(daemon: int) -> list[int]:
    """Its engine processes: children of the launcher. An ffmpeg beside it has none."""
    found: list[int] = []
    for child in children(daemon):
        with suppress(FileNotFoundError):  # it has just ended
            found += children(child)
    return found


def test_a_killed_worker_costs_the_rest_of_a_clip(tmp_path: Path, toy_bundle: Path) -> None:
    config = live(tmp_path, toy_bundle)
    config.write_text(config.read_text().replace("threads = 1", "threads = 1\nworkers = 2"))
    with (tmp_path / "daemon.log").open("ab") as output:
        process = Forked("-m", "streamtag", "run", config, stderr=output)
    try:
        until_stage(config, 1, "begun")
        for worker in engines_of(process.pid):
            os.kill(worker, signal.SIGKILL)
        until_stage(config, 3, "begun")  # the streams are back
        process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    write_wav(tmp_path / "a.wav", tone(0.5, RATE), RATE)
    run(configuration(tmp_path, toy_bundle, 'a = {source = "file:a.wav"}'))
    check_evidence(config)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Path:
    """The configuration of a daemon that has made one clip and ended."""
    folder = tmp_path_factory.mktemp("kept")
    write_wav(folder / "a.wav", programme(), RATE)
    config = configuration(folder, toy_bundle, 'radio = {source = "file:a.wav"}')
    run(config)
    return config


def listed(config: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["history", "-j", str(config), "clips", *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_history_lists_clips(kept: Path) -> None:
    _, ready = clips(kept)
    assert ready.file in listed(kept)
    (row,) = map(json.loads, listed(kept, "--json").splitlines())
    assert (row["id"], row["stage"], row["sha256"]) == (ready.id, "ready", ready.sha256)
    assert row["seconds"] == pytest.approx(ready.end - ready.t, abs=1e-3)
    (line,) = csv.DictReader(io.StringIO(listed(kept, "--csv")))
    assert {key: str(row[key]) for key in row} == line
    assert listed(kept, "--stream", "other", "--json") == ""
    assert listed(kept, "--to", ready.utc, "--json") == ""
    there = kept.parent / "clips" / ready.file
    gone = there.rename(there.with_suffix(".moved"))
    try:
        (row,) = map(json.loads, listed(kept, "--json").splitlines())
        assert row["stage"] == "removed"
    finally:
        gone.rename(there)


def test_the_web_server_sends_clips_to_who_may_have_them(kept: Path, tmp_path: Path) -> None:
    _, ready = clips(kept)
    table = f'token = "word"\n[clips]\nfolder = {json.dumps(str(kept.parent / "clips"))}'
    server = Server(tmp_path, "tcp://127.0.0.1:9", kept.with_name("events.db"), table)
    try:
        assert server.get(ready.url).status_code == 401
        me = {"headers": {"Authorization": "Bearer word"}}
        answer = server.get(ready.url, **me)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/flac")
        assert hashlib.sha256(answer.content).hexdigest() == ready.sha256
        for name in ("x", "..%2Fspool", ready.id.replace("radio", "other"), f"{ready.id}.flac"):
            assert server.get(f"/clip/{name}", **me).status_code == 404
        (found,) = server.get("/api/clips?stream=radio", **me).json()["clips"]
        assert (found["id"], found["url"]) == (ready.id, ready.url)
        assert server.get("/api/clips?stream=other", **me).json() == {"clips": []}
        page = server.get(f"/report/radio?day={ready.utc[:10]}&tz=UTC", **me).text
        assert f'href="../clip/{ready.id}"' in page
        assert ready.sha256 in page
    finally:
        server.close()


PAGE = ROOT / "docs" / "evidence.md"
RECIPES = re.findall(r"^## (A [\w ]+)\n.*?```toml\n(.*?)```", PAGE.read_text(), re.M | re.S)


@pytest.mark.parametrize(("name", "recipe"), RECIPES, ids=[name for name, _ in RECIPES])
def test_the_recipes_of_the_page_work(
    name: str, recipe: str, tmp_path: Path, toy_bundle: Path
) -> None:
    """As they are, but for sources, addresses and the model."""
    table = tomllib.loads(recipe)
    loud = np.clip(tone(4, RATE, 440, 1.5), -1, 1)
    parts = [tone(4, RATE), np.zeros(14 * RATE, np.float32), loud, tone(4, RATE)]
    write_wav(tmp_path / "a.wav", np.concatenate(parts), RATE)
    text = re.sub('^source = ".*"', 'source = "file:a.wav"', recipe, flags=re.M)
    text = text.replace('"127.0.0.1:8080"', '"127.0.0.1:0"')
    text = text.replace("[feed]\n", '[feed]\nbind = "tcp://127.0.0.1:0"\n')
    text += '\n[engine]\ndevice = "cpu"\nthreads = 1\n[control]\nenabled = false\n'
    text += f"[taggers.toy]\nbundle = {json.dumps(str(toy_bundle))}\n"
    config = tmp_path / "daemon.toml"
    config.write_text(f"exit_when_done = true\n{text}")
    run(config)
    ready = [clip for clip in clips(config) if clip.stage == "ready"]
    wanted = {"silence_on"} if "radio" in name else {"silence_on", "clipping"}
    assert {clip.event for clip in ready} == wanted
    assert {clip.stream for clip in ready} == {
        stream
        for stream, keys in table["streams"].items()
        if keys.get("clips", table.get("defaults", {}).get("clips", True))
    }
    assert all((tmp_path / table["clips"]["folder"] / clip.file).is_file() for clip in ready)
