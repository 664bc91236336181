"""The trial of a bundle: before a bundle is loaded, a confined process of its own runs it.

    python -m streamtag.model.trial CPU_SECONDS MEGABYTES      with the bundle on standard input

The process imports torch, reads the bundle, and then gives up what it could do harm with: it can
open nothing, write nothing, connect to nothing, and its memory and time are bounded. Within these
bounds it looks at every operator of the model, replays the golden answer and calls the model a few
times more. What hangs, crashes, writes or takes too much ends with that process, and the bundle is
refused.

A bundle that has passed is remembered by its checksum, for this process and, in the user's cache,
for others. It is tried again with another torch.
"""

import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamtag
from streamtag.errors import BundleError
from streamtag.model.archive import FORBIDDEN
from streamtag.model.bundle import BundleFile
from streamtag.model.shipped import KNOWN_CHECKSUMS

if TYPE_CHECKING:
    import torch

START_SECONDS = 180.0
"""How long the process may take to import torch."""
CALLS, CALLS_SECONDS = 20, 2.0
"""How often a model is called after its golden answer, unless that takes too long."""
_PATIENCE, _LEAST_PATIENCE = 8.0, 120.0
"""The process may take so many seconds for a second of CPU before it hangs without using any, and
so many in any case: the machine may be busy."""
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL")
"""Variables of the environment that the process gets. The others may hold passwords."""
_FOREIGN_NAMESPACES = ("c10d", "_c10d_functional", "symm_mem", "debugprims", "_test")
NEVER_BEGAN: dict[str, Any] = {"began": False}
HUNG: dict[str, Any] = {"hung": True}

_lock = threading.Lock()
_passed: set[str] = set()
_trying: dict[str, threading.Lock] = {}


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """What a bundle may use in its trial."""

    cpu_seconds: float = 20.0
    """After the import of torch."""
    megabytes: int = 4096
    """Of address space, beyond that of torch."""


def ensure_tried(bundle: BundleFile, limits: TrialLimits | None = None) -> None:
    """Tries a bundle, unless its checksum is known. Several threads wait for one trial.

    Raises:
        BundleError: it did not pass, with the reason.
    """
    bundle.check_code()
    with _lock:
        one_at_a_time = _trying.setdefault(bundle.checksum, threading.Lock())
    with one_at_a_time:
        if not is_known(bundle.checksum):
            try_bundle(bundle, limits or TrialLimits())
            remember(bundle.checksum)


def is_known(checksum: str) -> bool:
    """Whether a bundle comes with streamtag, was made by this user, or has passed a trial."""
    if checksum in KNOWN_CHECKSUMS or checksum in _passed:
        return True
    place = _cache()
    return place is not None and (place / _entry(checksum)).is_file()


def remember(checksum: str) -> None:
    """A bundle needs no trial: it has passed, or this user has just made it."""
    _passed.add(checksum)
    if (place := _cache()) is not None:
        with contextlib.suppress(OSError):  # it is tried again next time
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            (place / _entry(checksum)).touch(mode=0o600)


def try_bundle(bundle: BundleFile, limits: TrialLimits) -> None:
    """Runs a bundle in a confined process.

    Raises:
        BundleError: it fails, hangs, crashes, writes, or takes too much.
    """
    with (
        tempfile.TemporaryFile() as file,
        tempfile.TemporaryFile() as errors,
        tempfile.TemporaryDirectory() as folder,
    ):
        file.write(bundle.data)
        file.seek(0)
        variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(limits.cpu_seconds), str(limits.megabytes)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env=variables | {"OMP_NUM_THREADS": "1", "TMPDIR": folder, "HOME": folder},
            start_new_session=True,
        )
        try:
            answer = _answer(process, limits)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        if answer == NEVER_BEGAN:
            errors.seek(0)
            last = errors.read()[-400:].decode(errors="replace").strip().rpartition("\n")[2]
            raise BundleError(
                f"{bundle.path}: its trial cannot begin (exit code {process.returncode}): {last}"
            )
        if fault := _fault(answer, process.returncode, limits):
            raise BundleError(f"{bundle.path}: refused: in its trial {fault}")
        if written := os.listdir(folder):
            raise BundleError(f"{bundle.path}: refused: in its trial it wrote {written[0]!r:.100}")


def _answer(process: "subprocess.Popen[bytes]", limits: TrialLimits) -> dict[str, Any] | None:
    """The last answer of the process; None if it ended or hung before."""
    assert process.stdout is not None
    lines: list[bytes] = []
    ready, done = threading.Event(), threading.Event()

    def read() -> None:
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in process.stdout:
                lines.append(line)
                ready.set()
        ready.set()
        done.set()

    reader = threading.Thread(target=read, name="trial", daemon=True)
    reader.start()
    if ready.wait(START_SECONDS):
        done.wait(max(_LEAST_PATIENCE, limits.cpu_seconds * _PATIENCE))
    if not done.is_set():
        process.kill()
        lines.append(json.dumps(HUNG if lines else NEVER_BEGAN).encode())
    process.wait()
    reader.join()
    if not lines:
        return NEVER_BEGAN
    found = json.loads(lines[-1])
    return found if isinstance(found, dict) and found != {"ready": True} else None


def _fault(answer: dict[str, Any] | None, code: int, limits: TrialLimits) -> str:
    """Why a bundle did not pass. Empty if it did."""
    seconds, memory = f"{limits.cpu_seconds:g} s", f"{limits.megabytes} MB"
    match answer:
        case {"passed": True}:
            return ""
        case {"fault": str(text)}:
            if any(mark in text for mark in ("can't allocate memory", "bad_alloc", "MemoryError")):
                return f"it takes more memory than {memory}: {text}"
            return f"it fails: {text}"
        case {"hung": True}:
            return "it hangs: it did not come back, and used little CPU time"
    if -code == signal.SIGXCPU:
        return f"it hangs: it did not come back after {seconds} of CPU time"
    if code < 0:
        return f"it crashes with {signal.Signals(-code).name}"
    return f"its process ended with {code}"


def _cache() -> Path | None:
    """Where verdicts are kept; None where there is no place for this user."""
    if place := os.environ.get("CACHE_DIRECTORY") or "":
        return Path(place.split(":")[0]) / "tried"
    if place := os.environ.get("XDG_CACHE_HOME", ""):
        return Path(place) / "streamtag" / "tried"
    try:
        return Path.home() / ".cache" / "streamtag" / "tried"
    except RuntimeError:
        return None


def _entry(checksum: str) -> str:
    torch_version = importlib.metadata.version("torch")
    return f"{checksum}-torch-{torch_version}-streamtag-{streamtag.__version__}"


# What follows runs in the process of the trial.


def main(cpu_seconds: str, megabytes: str) -> None:
    """Tries the bundle on standard input; writes lines of JSON to standard output."""
    results = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):
        os.dup2(nowhere, number)
    _prepare()
    data = sys.stdin.buffer.read()
    os.dup2(nowhere, 0)
    print(json.dumps({"ready": True}), file=results)
    try:
        bundle = BundleFile(Path("bundle"), data)
        bundle.check_code()  # nothing of it runs yet
        confine(float(cpu_seconds), int(megabytes))
        _run(bundle)
        answer: dict[str, Any] = {"passed": True}
    except BundleError as error:
        answer = {"fault": _in_short(str(error).removeprefix("bundle: "))}
    except BaseException as error:
        answer = {"fault": _in_short(f"{type(error).__name__}: {error}")}
    print(json.dumps(answer), file=results)
    results.flush()
    os._exit(0)


def _in_short(text: str) -> str:
    """The first line and the error; TorchScript puts a traceback between them."""
    first, *others = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in others if "Error" in line] or others
    return f"{first:.300} … {errors[-1]:.300}" if errors else first


def _prepare() -> None:
    """Imports everything and has torch read what it reads once, before nothing can be opened."""
    import linecache

    import torch

    from streamtag.model import tagger

    torch.set_num_threads(1)
    torch.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
    torch.jit.script(torch.nn.ReLU())
    linecache.getlines(tagger.__file__)


def confine(cpu_seconds: float, megabytes: int) -> None:
    """Gives up the rights of this process that a model does not need."""
    import resource

    cpu = int(time.process_time() + cpu_seconds) + 1
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    memory = pages * resource.getpagesize() + megabytes * 2**20
    _restrict_files_and_network()
    for name, limit in {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_AS": memory if pages else resource.RLIM_INFINITY,
        "RLIMIT_CPU": cpu,
        "RLIMIT_NOFILE": 0,
    }.items():
        hard = resource.getrlimit(number := getattr(resource, name))[1]
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(number, (bound, hard if name == "RLIMIT_CPU" else bound))  # a signal


def _restrict_files_and_network() -> None:
    """No file, no folder, no connection, no new privileges, where the kernel has Landlock."""
    try:
        import landlockpy
    except ImportError:
        return
    with contextlib.suppress(landlockpy.LandlockError, OSError):
        scopes = landlockpy.Scope.ABSTRACT_UNIX_SOCKET | landlockpy.Scope.SIGNAL
        with landlockpy.Ruleset(scoped=scopes) as nothing_is_allowed:
            nothing_is_allowed.restrict()


def _run(bundle: BundleFile) -> None:
    """Looks at the operators, replays the golden answer, and calls the model a few times more."""
    import torch

    from streamtag.model.tagger import Tagger, read_module

    if found := sorted(set(forbidden_operators(read_module(bundle, torch.device("cpu"))))):
        raise BundleError(f"its code uses {', '.join(found)}")
    tagger = Tagger.load(bundle, "cpu")
    windows, began = tagger.staging(2), time.monotonic()
    for _ in range(CALLS):
        windows[:] = torch.randn(windows.shape).numpy()
        tagger(windows[:1])
        tagger(windows)
        if time.monotonic() - began > CALLS_SECONDS:
            return


def forbidden_operators(module: "torch.jit.ScriptModule") -> Iterator[str]:
    """The operators in all methods of a module that no bundle may use, as torch has read them."""
    for part in module.modules():
        inner: Any = part._c
        for name in inner._method_names():
            yield from _forbidden_in(inner._get_method(name).inlined_graph)


def _forbidden_in(block: Any) -> Iterator[str]:
    for node in block.nodes():
        namespace, _, name = node.kind().partition("::")
        if name in FORBIDDEN or namespace in _FOREIGN_NAMESPACES:
            yield node.kind()
        for inner in node.blocks():
            yield from _forbidden_in(inner)


if __name__ == "__main__":
    main(*sys.argv[1:])
