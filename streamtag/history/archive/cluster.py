"""Connects to Ray: starts a local Ray for one run, or uses an existing cluster."""

import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamtag.errors import StreamtagError
from streamtag.history.archive.run import ArchiveJob, ArchiveProgress, tag_archive

OBJECT_STORE = 100 * 2**20
"""Size of Ray's object store in bytes. Only names and paths go through it."""
CONNECT_SECONDS = 10.0
"""How long to wait for a cluster to answer."""
_PREFIX = "streamtag-ray-"
"""Prefix of the temporary folder for Ray's sockets and logs; the process number follows."""
POLL_SECONDS = 1.0
"""How often the progress of a run on a cluster is polled."""


def run_archive(
    job: ArchiveJob, address: str | None, on_progress: Callable[[ArchiveProgress], None]
) -> ArchiveProgress:
    """Tags the recordings that an archive does not have yet. See `tag_archive` for its errors.

    Args:
        job: what to tag, and how.
        address: `ray://host:10001`, or another address that Ray accepts; None for a local Ray.
        on_progress: called whenever the progress has changed.

    Raises:
        StreamtagError: Ray is not installed, or the cluster cannot be reached.
    """
    with _ray(address, job.workers):
        if (address or "").startswith("ray://"):
            return _through_client(job, on_progress)
        return tag_archive(job, on_progress)


@contextmanager
def _ray(address: str | None, cpus: int | None) -> Iterator[None]:
    """Connects to Ray, and disconnects at the end."""
    _set_environment(address)
    if address is not None and (problem := _unreachable(address)):
        raise _no_cluster(address, problem)
    ray = load_ray()
    if address is not None:
        _connect(ray, address)
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Ray puts Unix sockets there, and their paths must be short.
    _remove_abandoned(_short_folder())
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_short_folder())
    try:
        with _silent():
            ray.init(
                num_cpus=cpus or len(os.sched_getaffinity(0)), object_store_memory=OBJECT_STORE,
                include_dashboard=False, log_to_driver=False, logging_level="ERROR",
                _node_ip_address="127.0.0.1", _temp_dir=folder,
            )  # fmt: skip
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _silent() -> Iterator[None]:
    """Discards standard error: Ray's C++ code prints there where it logs."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _remove_abandoned(folder: str) -> None:
    """Removes the temporary folders of runs that were killed."""
    for path in Path(folder).glob(f"{_PREFIX}*-*"):
        if not Path("/proc", path.name.split("-")[2]).exists():
            shutil.rmtree(path, ignore_errors=True)


def _short_folder() -> str:
    return "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()


def _set_environment(address: str | None) -> None:
    """Sets the variables that Ray reads at its import. It sends no usage statistics, and a local
    Ray accepts commands only from this process: they need a random token."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    if address is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def load_ray() -> Any:
    """The module `ray`.

    Raises:
        StreamtagError: Ray or PyArrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ImportError as error:
        raise StreamtagError(
            f"archive: expected the packages ray and pyarrow, got none ({error}); "
            'install them: pip install "streamtag[archive]"'
        ) from None
    return ray


def _connect(ray: Any, address: str) -> None:
    try:
        with _silent():
            ray.init(address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises whatever its parts raise
        raise _no_cluster(address, str(error).strip().splitlines()[-1][:300]) from None


def _no_cluster(address: str, problem: str) -> StreamtagError:
    return StreamtagError(
        f"{address}: expected a Ray cluster, got: {problem}; `ray status` there says whether it "
        "runs, and RAY_AUTH_TOKEN or RAY_AUTH_MODE=token whether it may be used"
    )


def _unreachable(address: str) -> str:
    """Why nothing answers at an address; empty if something does, or Ray is to look for it."""
    if "://" in address and not address.startswith("ray://"):
        return "an address that is neither ray://HOST:10001 nor HOST:6379"
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return ""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            return ""
    except (OSError, OverflowError) as error:
        return str(error)


class RemoteRun:
    """A run on the cluster that a client outside has started. It is a Ray actor."""

    def __init__(self) -> None:
        self._progress: ArchiveProgress | None = None

    def run(self, job: ArchiveJob) -> ArchiveProgress | str:
        """Runs the job; returns its final progress, or the text of its error."""
        try:
            return tag_archive(job, self._note)
        except StreamtagError as error:
            return str(error)

    def progress(self) -> ArchiveProgress | None:
        """The newest progress; None before the first."""
        return self._progress

    def _note(self, progress: ArchiveProgress) -> None:
        self._progress = progress


def _through_client(
    job: ArchiveJob, on_progress: Callable[[ArchiveProgress], None]
) -> ArchiveProgress:
    """Runs the job in an actor on the cluster, and polls its progress."""
    import ray

    actor = ray.remote(RemoteRun).options(num_cpus=0, max_concurrency=2).remote()
    answer, last = actor.run.remote(job), None
    while not ray.wait([answer], timeout=POLL_SECONDS)[0]:
        if (progress := ray.get(actor.progress.remote())) is not None and progress != last:
            on_progress(last := progress)
    ended: ArchiveProgress | str = ray.get(answer)
    if isinstance(ended, str):
        raise StreamtagError(ended)
    on_progress(ended)
    return ended
