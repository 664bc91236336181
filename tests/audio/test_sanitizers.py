"""The C++ core under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer."""

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


pytestmark = pytest.mark.timeout(900)  # it compiles with time limits of its own
needs_compiler = pytest.mark.skipif(
    not ((tool("c++") or tool("g++")) and tool("cmake")), reason="no C++ compiler or no cmake"
)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def built(sanitizers: str) -> str:
    """Builds the C++ tests with these sanitizers; returns the program.

    What was built before is kept: only files that have changed are compiled.
    """
    folder = ROOT / "build" / f"sanitizers-{sanitizers.replace(',', '-')}"
    cache = folder / "CMakeCache.txt"
    if cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={ROOT}\n" not in cache.read_text():
        shutil.rmtree(folder)  # the repository was moved
    cmake = tool("cmake") or ""
    run(cmake, "-S", str(ROOT), "-B", str(folder), f"-DSTREAMTAG_SANITIZE={sanitizers}",
        "-DSTREAMTAG_WERROR=ON")  # fmt: skip
    run(cmake, "--build", str(folder), "--parallel", "2")
    return str(folder / "core_tests")


@needs_compiler
def test_core_is_clean_under_sanitizers() -> None:
    report = run(built("address,undefined"))
    for isa in _core.instruction_sets():
        assert f"{isa} done" in report
    assert "0 failures" in report


@needs_compiler
def test_reader_and_streams_have_no_data_races() -> None:
    assert "0 failures" in run(built("thread"), "threads")
