"""Python processes that begin with torch and streamtag imported.

Importing them takes 2 s of CPU, and tests start hundreds of processes. So the first `Forked` of a
test process starts a fork server, which imports `support.preloaded` once. Every `Forked` is forked
from it.
"""

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing import forkserver, get_context, reduction
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from support.paths import ROOT

DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
TEMPORARY = tempfile.gettempdir()
"""A folder for the server's socket. The tests' own is gone when multiprocessing cleans up."""


class Forked:
    """`python ARGUMENTS` with what tests need of `subprocess.Popen`.

    Args:
        arguments: of the interpreter: `-m MODULE …`, `-c CODE …` or `FILE …`.
        stdin, stdout, stderr: as of `subprocess.Popen`; a pipe is line-buffered if it carries text.
        env: the environment; None is that of this process.
        cwd: the working folder; None is that of this process.
        text: whether pipes carry text.
    """

    def __init__(
        self,
        *arguments: str | Path,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        text: bool = False,
    ) -> None:
        start_server()
        self.args = [str(argument) for argument in arguments]
        ours: list[int] = []
        """Descriptors to close here once the process has them."""
        self.stdin, theirs_in = _end(stdin, 0, text, ours)
        self.stdout, theirs_out = _end(stdout, 1, text, ours)
        self.stderr, theirs_err = _end(stderr, 2, text, ours)
        self._process = _Process(
            target=_main,
            args=(
                self.args,
                _Descriptors((theirs_in, theirs_out, theirs_err)),
                dict(os.environ if env is None else env),
                str(cwd or Path.cwd()),
            ),
        )
        try:
            self._process.start()
        finally:
            for descriptor in ours:
                os.close(descriptor)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, or None while it runs; a signal is a negative number."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end; returns the exit code.

        Raises:
            TimeoutExpired: it runs for longer.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("forked process", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()
        self.wait()


def run(
    *arguments: object,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` to its end, with nothing on its standard input.

    Raises:
        TimeoutExpired: it takes longer. The process is killed.
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = Forked(
            *words, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=env, cwd=cwd
        )
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), errors.read())


def start_server() -> int:
    """Starts the fork server unless it runs; returns its process id, the parent of all `Forked`."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", *THREADS)}
    folder, tempfile.tempdir = tempfile.tempdir, TEMPORARY
    paths = (str(ROOT), str(ROOT / "tests"), before["PYTHONPATH"])
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        _context.set_forkserver_preload(["support.preloaded"])
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = folder
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    pid: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


_context = get_context("forkserver")
_Process = _context.Process


class _Descriptors:
    """Descriptors that become 0, 1 and 2 of the process."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers

    def __getstate__(self) -> list[Any]:  # called while the process is being started
        return [reduction.DupFd(number) for number in self._numbers]

    def __setstate__(self, state: list[Any]) -> None:
        self._numbers = tuple(copy.detach() for copy in state)

    def take_over(self) -> None:
        for standard, number in enumerate(self._numbers):
            os.dup2(number, standard)
            os.close(number)


def _end(
    wanted: int | IO[Any] | None, standard: int, text: bool, ours: list[int]
) -> tuple[IO[Any] | None, int]:
    """Our end of a standard stream, if it is a pipe, and the descriptor for the process."""
    if wanted == subprocess.PIPE:
        read, write = os.pipe()
        mine, theirs = (write, read) if standard == 0 else (read, write)
        ours.append(theirs)
        mode = ("w" if standard == 0 else "r") + ("" if text else "b")
        return os.fdopen(mine, mode, buffering=1 if text else -1), theirs
    if wanted == subprocess.DEVNULL:
        ours.append(os.open(os.devnull, os.O_RDWR))
        return None, ours[-1]
    if wanted is None:
        return None, standard
    return None, wanted if isinstance(wanted, int) else wanted.fileno()


def _main(
    arguments: list[str], descriptors: _Descriptors, environment: dict[str, str], folder: str
) -> None:
    """What the forked process runs."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    descriptors.take_over()
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the process's life
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    time.tzset()
    tempfile.tempdir = None
    if environment.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    first, *rest = arguments
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = [first, *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        runpy.run_path(first, run_name="__main__")
