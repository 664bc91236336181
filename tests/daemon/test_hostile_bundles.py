"""Bundles that a daemon must not run, and one that hangs while it runs."""

import dataclasses
import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from daemon.test_daemon import SECONDS, check_contract, down, expected, running, stretches, until
from support.hostile import HangsAtHighTones, LoopingBands, SavingBands, rewritten_code, saved
from support.sounds import tone, write_wav
from support.toy import tagger

from streamtag.config.config import load_config
from streamtag.config.control_socket import send_command
from streamtag.daemon.admission import admit_all, trusted_bundle
from streamtag.daemon.check import complaints_about
from streamtag.daemon.worker import Worker, WorkerOutput
from streamtag.daemon.worker_channel import Channel
from streamtag.engine.offline import tag_blocks
from streamtag.errors import BundleError, ControlError
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Dropped, Scores
from streamtag.model import trial
from streamtag.model.bundle import checksum, read_card
from streamtag.model.shipped import default_bundle
from streamtag.model.signature import make_keys, sign
from streamtag.model.tagger import Tagger
from streamtag.sources.file import FileSource
from streamtag.train.exporting.bundle import export

RATE = 22050


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low, then high, then low; 2 s each."""
    parts = [tone(2.0, RATE, hertz, 0.4) for hertz in (200, 3000, 200)]
    return write_wav(tmp_path_factory.mktemp("audio") / "song.wav", np.concatenate(parts), RATE)


def written(path: Path, tables: str, streams: str = 'a = { source = "device:" }') -> Path:
    path.write_text(
        f'[feed]\nbind = "tcp://127.0.0.1:0"\nwait_for_subscriber_seconds = {SECONDS}\n'
        f'[control]\nsocket = "c.sock"\n{tables}\n[streams]\n{streams}\n'
    )
    return path


def pinned(bundle: Path, sha256: str) -> str:
    return f'[taggers.toy]\nbundle = {json.dumps(str(bundle))}\nsha256 = "{sha256}"\n'


def test_check_names_another_file_than_the_pinned_one(tmp_path: Path, toy_bundle: Path) -> None:
    right = checksum(toy_bundle)
    path = written(tmp_path / "d.toml", pinned(toy_bundle, right.upper()))
    assert complaints_about(path) == []
    path = written(tmp_path / "d.toml", pinned(toy_bundle, "0" * 64))
    (found,) = complaints_about(path)
    assert f"taggers.toy.bundle: {toy_bundle}: expected the pinned file with sha256 000" in found
    assert found.endswith(f"got one with {right}; restore it, or change the pin if you trust the "
                          "new one")  # fmt: skip
    path = written(tmp_path / "d.toml", pinned(toy_bundle, "abc"))
    assert (
        "taggers.toy.sha256: expected 64 hexadecimal digits, got 'abc'"
        in (complaints_about(path)[0])
    )


def test_with_a_trusted_key_bundles_need_a_signature(tmp_path: Path, toy_bundle: Path) -> None:
    pytest.importorskip("minisign", reason="needs py-minisign")
    public = make_keys(tmp_path / "models.key")
    mine = Path(shutil.copy(toy_bundle, tmp_path / "mine.pt"))
    rules = f'[models]\ntrusted_keys = ["{public}"]\n'
    path = written(tmp_path / "d.toml", rules + f'[taggers.toy]\nbundle = "{mine}"\n')
    assert (
        "expected a signature by one of 1 trusted keys in mine.pt.minisig, got none"
        in (complaints_about(path)[0])
    )
    models = load_config(path).models
    with pytest.raises(BundleError, match="expected a signature"):
        trusted_bundle(mine, models)
    trusted_bundle(mine, models, checksum(mine))  # the pin is stronger
    trusted_bundle(default_bundle(), models)  # it comes with streamtag
    sign(mine, tmp_path / "models.key", "")
    assert complaints_about(path) == []
    path = written(tmp_path / "d.toml", '[models]\ntrusted_keys = ["RWQ"]\n')
    assert (
        "expected a public key of minisign, the line of 56 characters"
        in (complaints_about(path)[0])
    )


def test_the_trial_can_be_turned_off(
    tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = rewritten_code(toy_bundle, tmp_path / "other.pt", b"\n  def", b"\n\n\n  def")
    tried: list[tuple[str, trial.TrialLimits]] = []
    monkeypatch.setattr(trial, "try_bundle", lambda b, limits: tried.append((b.path.name, limits)))
    tagger = f'[taggers.toy]\nbundle = "{other}"\n'
    admit_all(load_config(written(tmp_path / "d.toml", "[models]\ntrial = false\n" + tagger)))
    assert tried == []
    rules = "[models]\ntrial_seconds = 7\ntrial_megabytes = 99\n"
    admit_all(load_config(written(tmp_path / "d.toml", rules + tagger)))
    assert tried == [("other.pt", trial.TrialLimits(7.0, 99))]


def test_a_swap_to_a_refused_bundle_leaves_the_old_one(
    tmp_path: Path, song: Path, toy_bundle: Path
) -> None:
    """In two workers, which find the bundle known that the daemon has tried."""
    tables = (
        '[engine]\ndevice = "cpu"\nthreads = 1\nworkers = 2\n'
        "[models]\ntrial_seconds = 3\n" + pinned(toy_bundle, old := checksum(toy_bundle))
    )
    stream = f'a = {{ source = "file:{song}", pace = true, loop = true }}'
    config = written(tmp_path / "d.toml", tables, stream)
    other = rewritten_code(toy_bundle, tmp_path / "other.pt", b"\n  def", b"\n\n\n\n  def")
    toy = tagger(tmp_path).card
    looping = saved(tmp_path / "loop.pt", LoopingBands(), toy)
    saving = saved(tmp_path / "save.pt", SavingBands(str(tmp_path / "new")), toy)
    with running(config) as daemon, Subscriber(daemon.address, scores=True) as feed:
        until(feed, lambda messages: isinstance(messages[-1], Scores) if messages else False)

        def ask(command: str, **fields: Any) -> Any:
            fields |= {"command": command}
            return send_command(tmp_path / "c.sock", fields, 2 * SECONDS)

        swap = {"command": "swap", "tagger": "toy"}
        with pytest.raises(ControlError, match="expected the pinned file with sha256"):
            ask(**swap, bundle=str(other))
        with pytest.raises(ControlError, match=r"loop\.pt: refused: in its trial it hangs"):
            ask(**swap, bundle=str(looping), sha256=checksum(looping))
        with pytest.raises(ControlError, match="expected code that only computes, got save"):
            ask("shadow", tagger="toy", bundle=str(saving))
        good = config.read_text()
        config.write_text(good.replace(old, "1" * 64))
        with pytest.raises(ControlError, match="expected the pinned file with sha256 111"):
            ask("reload")
        with pytest.raises(ControlError, match="expected the pinned file with sha256 111"):
            ask("set", table={"taggers": {"toy": {"sha256": "1" * 64}}})
        assert ask("status")["taggers"]["toy"]["checksum"] == old[:12]
        assert ask(**swap, bundle=str(other), sha256=checksum(other)) == {
            "taggers_swapped": ["toy"]
        }
        assert ask("status")["taggers"]["toy"]["checksum"] == checksum(other)[:12]
        until(feed, lambda messages: isinstance(messages[-1], Scores) if messages else False)


def test_a_model_that_hangs_in_service_does_not_keep_the_others(
    tmp_path: Path, song: Path, toy_bundle: Path
) -> None:
    hanging = tmp_path / "hanging.pt"
    card = dataclasses.replace(read_card(toy_bundle), name="hanging", golden=None)
    export(HangsAtHighTones(), card, hanging)
    tables = (
        '[engine]\ndevice = "cpu"\nthreads = 1\nslack_seconds = 4\n'
        f'[taggers.toy]\nbundle = "{toy_bundle}"\n[taggers.bad]\nbundle = "{hanging}"\n'
    )
    config = written(tmp_path / "d.toml", tables, f'a = {{ source = "file:{song}" }}')
    with running(config) as daemon, Subscriber(daemon.address, scores=True) as feed:
        messages = until(feed, down(1))
        assert daemon.end() == 0
    check_contract(messages)
    dropped = [m for m in messages if isinstance(m, Dropped)]
    assert {m.tagger for m in dropped} == {"bad"}
    assert dropped[0].detail.startswith("its model hangs: a call has not returned in ")
    source = FileSource(song)
    alone = tag_blocks(source, source.rate, {"toy": Tagger.load(toy_bundle, "cpu")})["toy"]
    heard = [m for m in messages if getattr(m, "tagger", "toy") == "toy"]
    assert stretches(heard) == expected(alone)
    assert sum(isinstance(m, Scores) for m in heard) == len(alone.scores)


def test_a_worker_whose_model_hangs_again_and_again_ends_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("streamtag.daemon.worker.os._exit", ended.append)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        engine = SimpleNamespace(worn_out=False, histograms=dict)
        streams = SimpleNamespace(streams=(), audio_seconds=0.0)
        loop: Any = SimpleNamespace(engine=engine, streams=streams, series=dict)
        worker = Worker(Channel(ours), loop, WorkerOutput())
        worker.end_round(0.0, 1.0)
        assert ended == []
        engine.worn_out = True
        worker.end_round(1.0, 2.0)
    assert ended == [1]
