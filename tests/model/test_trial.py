"""The trial of a bundle in a confined process. Each trial imports torch, so there are few."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile import GreedyBands, LoopingBands, SavingBands, rewritten_code, saved
from support.paths import ROOT
from support.toy import tagger

from streamtag.errors import BundleError
from streamtag.model import trial
from streamtag.model.bundle import BundleFile, read_card
from streamtag.model.shipped import default_bundle
from streamtag.model.trial import TrialLimits, ensure_tried, is_known, remember, try_bundle

DEPTH = 400_000
"""Parentheses that no parser survives which calls itself for each."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    tagger(folder)
    return folder / "toy.pt"


def test_a_bundle_that_passes_is_remembered(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = BundleFile.read(rewritten_code(toy, tmp_path / "copy.pt", b"\n  def", b"\n\n  def"))
    assert not is_known(copy.checksum)
    ensure_tried(copy)
    assert is_known(copy.checksum)
    monkeypatch.setattr(trial, "try_bundle", None)
    ensure_tried(copy)  # this process knows
    trial._passed.discard(copy.checksum)
    ensure_tried(copy)  # and so do others
    monkeypatch.setattr(trial.importlib.metadata, "version", lambda _: "99.0")
    assert not is_known(copy.checksum)  # with another torch it is tried again


def test_what_was_exported_here_or_is_shipped_is_known(toy: Path) -> None:
    assert is_known(BundleFile.read(toy).checksum)
    assert is_known(BundleFile.read(default_bundle()).checksum)
    assert not is_known("0" * 64)


def test_a_place_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember("1" * 64)
    assert is_known("1" * 64)


def test_a_model_that_hangs_is_refused(toy: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "loop.pt", LoopingBands(), read_card(toy))
    with pytest.raises(BundleError, match=r"loop\.pt: refused: in its trial it hangs: it did not"):
        try_bundle(BundleFile.read(path), TrialLimits(cpu_seconds=1.5))


def test_a_model_that_takes_too_much_memory_is_refused(toy: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "greedy.pt", GreedyBands(), read_card(toy))
    with pytest.raises(BundleError, match="it takes more memory than 1000 MB"):
        try_bundle(BundleFile.read(path), TrialLimits(megabytes=1000))


def test_a_model_that_crashes_is_refused(toy: Path, tmp_path: Path) -> None:
    deep = b"(" * DEPTH + b"_2" + b")" * DEPTH
    path = rewritten_code(toy, tmp_path / "deep.pt", b"return _2", b"return " + deep)
    with pytest.raises(BundleError, match=r"in its trial it crashes with SIG(SEGV|BUS|ABRT)"):
        try_bundle(BundleFile.read(path), TrialLimits())


def test_torch_itself_says_which_operators_a_model_has(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the search of the text miss one."""
    import torch

    path = saved(tmp_path / "evil.pt", SavingBands("/tmp/x"), read_card(toy))
    module = torch.jit.load(str(path))
    assert set(trial.forbidden_operators(module)) == {"aten::save"}
    assert not set(trial.forbidden_operators(torch.jit.load(str(toy))))


CONFINED = """
import os, socket, sys
from streamtag.model.trial import confine
out = os.fdopen(os.dup(1), "w", buffering=1)
confine(60.0, 1000)
for what, do in {
    "read": lambda: open("/etc/hostname"),
    "write": lambda: open(sys.argv[1] + "/new", "w"),
    "folder": lambda: os.mkdir(sys.argv[1] + "/folder"),
    "remove": lambda: os.unlink(sys.argv[1] + "/old"),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5),
    "memory": lambda: bytearray(4 * 2**30),
    "run": lambda: os.posix_spawn("/bin/true", ["true"], {}),
}.items():
    try:
        do()
    except (OSError, MemoryError) as error:
        print(what, "refused", file=out)
    else:
        print(what, "done", file=out)
"""


def test_a_confined_process_can_do_nothing_to_others(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = subprocess.run(
            [sys.executable, "-c", CONFINED, str(tmp_path), str(server.getsockname()[1])],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    results = dict(line.split() for line in found.stdout.splitlines())
    always = {"read", "write", "connect", "memory"}
    assert {name for name in always if results[name] != "refused"} == set(), found.stderr
    if landlock():
        assert set(results.values()) == {"refused"}
        assert os.listdir(tmp_path) == ["old"]


def landlock() -> bool:
    try:
        import landlockpy
    except ImportError:
        return False
    return bool(landlockpy.supported())
