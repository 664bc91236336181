"""Tags recordings on Ray Data: batches of recordings go to a pool of workers.

A worker uses one CPU. It decodes recordings, computes frames, smooths scores and writes rows. The
model runs in the same process, or in an actor on a GPU. Only names and paths go through Ray's
object store, so it stays small. `tag_archive` runs on a machine of the cluster, because Ray Data
cannot be used through `ray://`.
"""

import logging
import os
import pickle
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamtag
from streamtag.errors import StreamtagError
from streamtag.history.archive.files import open_place
from streamtag.history.archive.model_actor import ModelActor, RemoteTagger
from streamtag.history.archive.recordings import ArchivedFile, find_recordings, local_copies
from streamtag.history.archive.tables import (
    RECORDINGS,
    WORK,
    ArchiveCard,
    ArchiveFolder,
    BatchWriter,
    UnwritableError,
    unwritable,
)
from streamtag.history.archive.tagging import tag_into
from streamtag.model.bundle import BundleFile
from streamtag.model.tagger import Tagger

MOST_IN_BATCH = 64
"""The most recordings in a batch. Their rows share files."""
BATCH_BYTES = 256 * 2**20
"""A batch gets no more recordings once they have this size in all."""
BATCHES_EACH = 4
"""The least number of batches for each worker, so that all end at about the same time."""
ROUNDS = 4
"""How often recordings are tried whose worker or model was lost; from the second time, one in a
batch."""
RETRIES = 3
"""How often Ray gives a batch to another worker when one has ended."""


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """What to tag, and how."""

    sources: tuple[str, ...]
    output: str
    model: str
    """Name of the bundle's file, for error messages."""
    bundle: bytes
    card: ArchiveCard
    workers: int | None = None
    """Number of workers; None for one per CPU."""
    model_actors: int | None = None
    """Number of models in processes of their own; None for one per GPU."""
    retry: bool = False
    """Tag recordings that failed in an earlier run again."""


@dataclass(frozen=True, slots=True)
class ArchiveProgress:
    """The progress of a run."""

    total: int
    """Recordings in all."""
    before: int = 0
    """Recordings that earlier runs tagged."""
    done: int = 0
    """Recordings that this run has tagged."""
    broken: int = 0
    """How many of these are broken."""
    audio: float = 0.0
    """Seconds of audio that this run has tagged."""
    elapsed: float = 0.0
    """Seconds since the run began."""
    left: float | None = None
    """Estimated seconds until it ends; None before there is an estimate."""
    waiting: str = ""
    """What it waits for before it begins."""

    @property
    def hours_per_minute(self) -> float:
        """Hours of audio that are tagged per minute."""
        return self.audio / 60 / self.elapsed if self.elapsed else 0.0


@dataclass(frozen=True, slots=True)
class _Written:
    """A worker's answer to a batch."""

    folder: str
    """The folder with the files of its rows."""
    seconds: tuple[float, ...]
    """Length of each recording; 0 for a broken one."""
    fatal: str = ""
    """An error that ends the whole run; empty for none."""


class BatchTagger:
    """A worker that tags batches of recordings. Ray Data runs a pool of them.

    Args:
        job: its `sources` are not used.
        version: of streamtag where the run was started.
        actors: handles of `ModelActor`; empty for a model in this process.
    """

    def __init__(self, job: ArchiveJob, version: str, actors: list[Any]) -> None:
        self._job, self._problem = job, ""
        if version != streamtag.__version__:
            self._problem = (
                f"worker on {os.uname().nodename}: expected streamtag {version}, got "
                f"{streamtag.__version__}; use the same image everywhere"
            )
            return
        bundle = BundleFile(Path(job.model), job.bundle)
        self._tagger = RemoteTagger(bundle, actors) if actors else Tagger.load(bundle, "cpu")

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[bytes]]:
        """Tags one batch and returns a `_Written`; both are pickled."""
        number, batch = pickle.loads(rows["batch"][0])
        return {"written": [pickle.dumps((number, self._written(batch)))]}

    def _written(self, batch: list[ArchivedFile]) -> _Written:
        if self._problem:
            return _Written("", (), self._problem)
        output = open_place(self._job.output)
        folder = output.join(WORK, uuid.uuid4().hex)
        try:
            writer = BatchWriter(self._job.card, folder)
            seconds = []
            for one, path in local_copies(batch):
                seconds.append(tag_into(writer, self._job.card, self._tagger, one.file, path))
                self._ensure_models()
            writer.close()
        except UnwritableError as error:
            return _Written("", (), str(error))
        except OSError as error:
            return _Written("", (), str(unwritable(output, error)))
        return _Written(folder.path, tuple(seconds))

    def _ensure_models(self) -> None:
        """Raises an error if a model was lost: recordings only look broken then."""
        if isinstance(self._tagger, RemoteTagger) and self._tagger.lost:
            problem, self._tagger.lost = self._tagger.lost, ""
            raise RuntimeError(problem)


def tag_archive(job: ArchiveJob, on_progress: Callable[[ArchiveProgress], None]) -> ArchiveProgress:
    """Tags the recordings that an archive does not have yet, on the Ray that is connected.

    Raises:
        StreamtagError: a source or the archive's folder cannot be used, or a worker cannot go on.
            Finished recordings are kept, and the same job continues with the others.
    """
    found = find_recordings(job.sources)
    idle = ArchiveProgress(len(found))

    def wait(text: str) -> None:
        on_progress(replace(idle, waiting=text))

    with ArchiveFolder(open_place(job.output), job.card, wait) as folder:
        if job.retry:
            folder.forget_errors()
        done = folder.done()
        todo = [one for one in found if one.file not in done]
        run = _Run(job, folder, len(found), todo, on_progress)
        return run.tag_all()


class _Run:
    """One run: sends batches to workers and commits what they have written."""

    def __init__(
        self,
        job: ArchiveJob,
        folder: ArchiveFolder,
        total: int,
        todo: Sequence[ArchivedFile],
        on_progress: Callable[[ArchiveProgress], None],
    ) -> None:
        self._job, self._folder, self._on_progress = job, folder, on_progress
        self._todo = {one.file: one for one in todo}
        self._size = sum(one.size or 1 for one in todo)
        self._began = time.monotonic()
        self._progress = ArchiveProgress(total, before=total - len(todo))
        self._id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}"
        self._n_batches = 0

    def tag_all(self) -> ArchiveProgress:
        self._on_progress(self._progress)
        for _ in range(ROUNDS):
            if self._todo:
                self._tag_round()
        if self._todo:
            self._give_up()
        return self._progress

    def _tag_round(self) -> None:
        """Tags the recordings that are left, and commits their rows."""
        workers, actors = _workers(self._job), _model_actors(self._job)
        again = self._n_batches > 0
        batches = list(_batches(list(self._todo.values()), workers, 1 if again else MOST_IN_BATCH))
        numbered = dict(enumerate(batches, self._n_batches))
        self._n_batches += len(batches)
        for number, written in _results(self._job, numbered, workers, actors):
            if written.fatal:
                raise StreamtagError(written.fatal)
            self._take(number, numbered[number], written)

    def _take(self, number: int, batch: list[ArchivedFile], written: _Written) -> None:
        place = self._folder.place.at(written.folder)
        self._folder.commit(place, f"{self._id}-{number:06}")
        place.delete()
        self._count(batch, written.seconds)

    def _count(self, batch: list[ArchivedFile], seconds: Sequence[float]) -> None:
        for one in batch:
            del self._todo[one.file]
        elapsed = time.monotonic() - self._began
        size = self._size - sum(one.size or 1 for one in self._todo.values())
        self._progress = replace(
            self._progress,
            done=self._progress.done + len(batch),
            broken=self._progress.broken + sum(not one for one in seconds),
            audio=self._progress.audio + sum(seconds),
            elapsed=elapsed,
            left=elapsed * (self._size - size) / size,
        )
        self._on_progress(self._progress)

    def _give_up(self) -> None:
        """Writes error rows for recordings whose workers ended every time."""
        lost = list(self._todo.values())
        place = self._folder.place.join(WORK, uuid.uuid4().hex)
        writer = BatchWriter(self._job.card, place)
        reason = "expected a worker that tags it to the end, but each one ended: out of memory?"
        rows = [{"file": one.file, "error": f"{one.file}: {reason}"} for one in lost]
        writer.add(RECORDINGS, rows)
        writer.close()
        self._take(self._n_batches, lost, _Written(place.path, (0.0,) * len(lost)))


def _batches(
    files: Sequence[ArchivedFile], workers: int, most: int
) -> Iterator[list[ArchivedFile]]:
    """Groups recordings into batches of at most `most` recordings."""
    most = max(1, min(most, len(files) // (workers * BATCHES_EACH)))
    batch: list[ArchivedFile] = []
    size = 0
    for one in files:
        batch.append(one)
        size += one.size
        if len(batch) >= most or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _workers(job: ArchiveJob) -> int:
    import ray

    return job.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))


def _model_actors(job: ArchiveJob) -> list[Any]:
    """Actors with models; empty where each worker has a model in its own process."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = gpus if job.model_actors is None else job.model_actors
    actor = ray.remote(ModelActor).options(
        num_cpus=0, num_gpus=min(1, gpus / count) if count else 0,
        max_restarts=-1, max_task_retries=-1,
    )  # fmt: skip
    device = "cuda" if gpus else "cpu"
    return [actor.remote(job.model, job.bundle, device) for _ in range(count)]


def _results(
    job: ArchiveJob, batches: dict[int, list[ArchivedFile]], workers: int, actors: list[Any]
) -> Iterator[tuple[int, _Written]]:
    """The workers' answers by number of the batch, in the order in which they finish."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # `_Run` tries them again
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # Ray has no newer way to limit the retries yet.
    warnings.filterwarnings("ignore", "`ray_remote_args", DeprecationWarning)
    rows = [{"batch": pickle.dumps(item)} for item in batches.items()]
    answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        BatchTagger,
        fn_constructor_args=(replace(job, sources=()), streamtag.__version__, actors),
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(
            size=min(workers, len(rows)), max_tasks_in_flight_per_actor=2
        ),
        ray_remote_args_fn=lambda: {"max_restarts": -1, "max_task_retries": RETRIES},
    )
    for row in answers.iter_rows():
        yield pickle.loads(row["written"])
