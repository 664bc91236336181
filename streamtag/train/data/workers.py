"""Several processes that read recordings at once."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from streamtag.errors import RecipeError
from streamtag.train.data.extraction import ExtractionJob, extract


def extract_all(jobs: Sequence[ExtractionJob], workers: int | None) -> Iterator[ExtractionJob]:
    """The jobs as they get done.

    Args:
        jobs: what to do.
        workers: processes; None means one per core, 1 none besides this one.

    Raises:
        RecipeError: the folder cannot be written to, or a process was killed.
    """
    workers = min(workers or _cores(), len(jobs))
    if workers <= 1:
        for job in jobs:
            extract(job)
            yield job
        return
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _leave_with_parent
    ) as pool:
        try:
            running = {pool.submit(extract, job): job for job in jobs}
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BrokenProcessPool as error:
            raise RecipeError(
                "feature cache: expected every process to finish, but one was killed, perhaps for "
                "want of memory; run it again with fewer workers: what is done is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_with_parent() -> None:
    """Ends this process when the one that started it is gone, also by `kill -9`."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def _cores() -> int:
    """Those that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
