"""The C++ core under AddressSanitizer and UndefinedBehaviorSanitizer, on every instruction set."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from streamtag import _core


def tool(name: str) -> str | None:
    """A program from the path, or from the environment this Python belongs to."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.skipif(not (tool("c++") or tool("g++")), reason="no C++ compiler")
@pytest.mark.skipif(not tool("cmake"), reason="no cmake")
def test_core_is_clean_under_sanitizers(tmp_path: Path) -> None:
    cmake = tool("cmake") or ""
    run(cmake, "-S", str(ROOT), "-B", str(tmp_path), "-DSTREAMTAG_SANITIZE=ON",
        "-DSTREAMTAG_WERROR=ON")  # fmt: skip
    run(cmake, "--build", str(tmp_path), "--parallel", "2")
    report = run(str(tmp_path / "core_tests"))
    for isa in _core.instruction_sets():
        assert f"{isa} done" in report
    assert "0 failures" in report
