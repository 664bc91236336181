"""torchaudio comes in without its extension, from any thread, or not at all and without a trace."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from streamtag.errors import StreamtagError
from streamtag.train.exporting import torchaudio_loader
from streamtag.train.exporting.torchaudio_loader import torchaudio


def said(code: str, folder: Path | None = None) -> str:
    """What a fresh Python prints, with a folder before all others on its path."""
    head = f"import sys; sys.path.insert(0, {str(folder)!r})\n" if folder else ""
    command = [sys.executable, "-W", "error", "-c", head + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_its_transforms_work() -> None:
    """The edges of a mel filterbank against HTK's formula, and decibels against the logarithm."""
    package = torchaudio()
    bank = package.functional.melscale_fbanks(513, 0.0, 8000.0, 40, 16000).numpy()
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42)[1:-1]
    hertz = 700 * (10 ** (mel / 2595) - 1)
    assert bank.argmax(axis=0) * 16000 / 1024 == pytest.approx(hertz, abs=16000 / 1024)
    decibel = package.transforms.AmplitudeToDB()(torch.tensor([1.0, 0.1, 1e-5]))
    assert decibel.numpy() == pytest.approx([0, -10, -50], abs=1e-4)
    torch.jit.script(package.transforms.MelSpectrogram(16000, n_mels=40))


def test_it_comes_in_once() -> None:
    assert torchaudio() is torchaudio() is sys.modules["torchaudio"]


def test_functions_that_need_the_extension_fail_with_advice() -> None:
    missing = torchaudio_loader._without_extension(len)
    with pytest.raises(StreamtagError, match=r"expected its compiled extension for len, got none"):
        missing([1])


def test_many_threads_get_the_same_whole_package() -> None:
    code = """
import threading
from streamtag.train.exporting.torchaudio_loader import torchaudio
gate, found, faults = threading.Barrier(8), [], []
def enter():
    gate.wait()
    try:
        found.append(torchaudio().transforms.MelSpectrogram)
    except BaseException as error:
        faults.append(error)
threads = [threading.Thread(target=enter) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(faults, len(found), len(set(found)))
"""
    assert said(code) == "[] 8 1"


ENTER = """
from streamtag.errors import StreamtagError
from streamtag.train.exporting.torchaudio_loader import torchaudio
before = set(sys.modules)
for _ in range(2):
    try:
        torchaudio()
    except StreamtagError as error:
        print(error)
print(sorted(n for n in sys.modules if n.startswith("torchaudio")))
"""


def test_a_broken_package_leaves_no_trace(tmp_path: Path) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "part.py").write_text("")
    (package / "__init__.py").write_text(
        "from . import _extension, part\nraise OSError('no libc10_cuda.so')"
    )
    first, second, left = said(ENTER, tmp_path).splitlines()
    assert first == second
    assert "can be imported beside torch, got no libc10_cuda.so" in first
    assert first.endswith("pip install 'streamtag[train]'")
    assert left == "[]"


def test_a_missing_package_is_named() -> None:
    code = """
import importlib.machinery, sys
class Blind(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "torchaudio" else super().find_spec(name, path, target)
sys.meta_path = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder] + [Blind]
"""
    first, second, left = said(code + ENTER).splitlines()
    assert first == second
    assert "expected the package, 2.11, got none: pip install 'streamtag[train]'" in first
    assert left == "[]"


def test_nothing_at_run_time_opens_the_door() -> None:
    """Not even the augmentation: only the export and tests do."""
    code = (
        "import sys, streamtag.daemon.daemon, streamtag.train.training.loop; "
        "import streamtag.train.data.effects; "
        "print([m for m in sys.modules if m.startswith('torchaudio')])"
    )
    assert said(code) == "[]"
