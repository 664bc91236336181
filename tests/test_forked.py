"""`support.forked`: processes that tests start are like those that Python starts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.forked import Forked, run, start_server

SECONDS = 60


def test_torch_and_the_daemon_are_imported_already() -> None:
    modules = {"torch", "streamtag.daemon.daemon", "streamtag.model.tagger"}
    code = f"import sys; print(*({modules} - set(sys.modules)), sep='')"
    assert run("-c", code, timeout=SECONDS).stdout == "\n"
    assert "torch" in subprocess.check_output([sys.executable, "-c", code], text=True)


def test_the_server_has_one_thread_and_is_the_parent() -> None:
    """A fork copies no other thread, and would keep its locks."""
    server = start_server()
    done = run("-c", "import os; print(os.getppid())", timeout=SECONDS)
    assert done.stdout == f"{server}\n"
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1


def test_arguments_environment_and_folder(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    code = "import os, sys; print(__name__, sys.argv[1:], *os.environ.items(), os.getcwd())"
    script.write_text(code)
    expected = f"__main__ ['x', 'y'] ('A', 'b') {tmp_path}\n"
    for arguments in (["-c", code], [script]):
        done = run(*arguments, "x", "y", env={"A": "b"}, cwd=tmp_path, timeout=SECONDS)
        assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("", 0), ("raise SystemExit(3)", 3), ("import os; os._exit(4)", 4), ("1 / 0", 1)],
)
def test_exit_codes(code: str, expected: int) -> None:
    done = run("-c", code, timeout=SECONDS)
    assert done.returncode == expected
    assert ("ZeroDivisionError" in done.stderr) == ("/" in code)


def test_commands_are_those_of_the_program() -> None:
    usual = subprocess.run([sys.executable, "-m", "streamtag", "check", "none.toml"], text=True,
                           capture_output=True, check=False)  # fmt: skip
    forked = run("-m", "streamtag", "check", "none.toml", timeout=SECONDS)
    assert forked.returncode == usual.returncode == 1
    assert (forked.stdout, forked.stderr) == (usual.stdout, usual.stderr)
    assert "none.toml" in forked.stdout + forked.stderr


ECHO = (
    "import sys; sys.stdout.write(sys.stdin.readline()); sys.stdout.flush(); sys.stdin.readline()"
)


def test_pipes_and_signals() -> None:
    with Forked("-c", ECHO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("hello\n")
        assert process.stdout.readline() == "hello\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.terminate()
        assert process.stdout.read() == ""
        assert process.wait(SECONDS) == process.returncode == -signal.SIGTERM
        process.kill()  # nothing is left to kill


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    code = "import sys, time; file = open(sys.argv[1], 'w'); time.sleep(600)"
    with pytest.raises(subprocess.TimeoutExpired):
        run("-c", code, pipe, timeout=0.5)
    assert os.read(reader, 1) == b""  # nobody has it open
    os.close(reader)
