"""`streamtag archive` on a Ray cluster whose processes are killed.

`STREAMTAG_ARCHIVE_KILLS` is how many kills there are: of drivers, workers and nodes in turn.
"""

import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.archives import KEYS, rows_of, s3_server, write_songs
from support.forked import Forked

from streamtag.sources.recording import tag_file

KILLS = int(os.environ.get("STREAMTAG_ARCHIVE_KILLS", "1"))
SECONDS = 300.0
"""For anything to happen; the machine may be very busy."""
SMALL = {"object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with a CPU; if nodes are killed, a head that only drives, and two with a CPU each."""
    if find_spec("ray") is None:
        pytest.skip("the extra archive is not installed")
    folder = tempfile.mkdtemp(prefix="st-", dir="/tmp")  # names of sockets are short
    os.mkdir(f"{folder}/ray")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "of-the-tests" * 3, "RAY_BACKEND_LOG_LEVEL": "fatal",
            "OMP_NUM_THREADS": "1", **KEYS,
        }.items():  # fmt: skip
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster  # it reads the variables when it is imported

        cpus = 1 if KILLS < 3 else 0
        head = {"num_cpus": cpus, "include_dashboard": False, **SMALL}
        started = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2 - 2 * cpus):
            started.add_node(num_cpus=1, **SMALL)
        yield started
        started.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def workers() -> list[int]:
    """Processes of this cluster that tag; other tests may have a Ray of their own."""
    ours = os.environ["RAY_TMPDIR"].encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                if ours in Path("/proc", parent, "cmdline").read_bytes():
                    found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, signal.SIGKILL)


class Killer:
    """Ends processes of a run, as power cuts and the kernel do."""

    def __init__(self, cluster: Any, words: list[str], out: Path) -> None:
        self._cluster, self._words, self._out = cluster, words, out
        self.driver: Forked | None = None

    def start(self) -> None:
        # A batch for each recording: something is left to do at every kill.
        code = "from streamtag.history.archive import run; run.MOST_IN_BATCH = 1"
        code += "; from streamtag.cli.main import main; main()"
        self.driver = Forked("-c", code, *self._words)

    def committed(self) -> int:
        return len(list(self._out.glob("recordings/*.parquet")))

    def wait_for_more(self) -> None:
        """Waits until the run has written something more, or has ended."""
        assert self.driver is not None
        before, driver = self.committed(), self.driver
        wait_for(lambda: self.committed() > before or driver.poll() is not None)

    def kill(self, kind: str) -> None:
        assert self.driver is not None
        alive = "running" if self.driver.poll() is None else "ended"
        print(f"kill of {kind}: run {alive}, {self.committed()} batches, workers {workers()}")
        if kind == "driver":
            kill(self.driver.pid)
            self.driver.wait(SECONDS)
            self.start()
        elif kind == "worker":
            for pid in workers()[:1]:
                kill(pid)
        else:
            node = self._cluster.worker_nodes.copy().pop()
            self._cluster.remove_node(node, allow_graceful=False)
            self._cluster.add_node(num_cpus=1, **SMALL)


@pytest.fixture
def bucket() -> Iterator[tuple[str, Any]]:
    pytest.importorskip("moto.server", reason="moto, of the extra dev, is not installed")
    with s3_server() as served:
        yield served


@pytest.mark.timeout(SECONDS + 60 * KILLS)
def test_nothing_is_lost_and_nothing_comes_twice(
    cluster: Any, bucket: tuple[str, Any], tmp_path: Path, toy_bundle: Path
) -> None:
    """Recordings here and on S3, models in an actor, and processes that are killed."""
    songs = write_songs(tmp_path, max(8, 4 * KILLS), 8.0)
    with bucket[1].open_output_stream("music/in/a.wav") as stream:
        stream.write(songs[0].read_bytes())
    (tmp_path / "broken.mp3").write_text("no audio")
    (tmp_path / "list.txt").write_text("broken.mp3\nnone.wav\nsong-00.wav\n")
    out = tmp_path / "OUT"
    sources = [
        *(str(tmp_path / name) for name in ("*.wav", "list.txt")),
        f"s3://music/in?{bucket[0]}",
    ]
    models = "0" if KILLS < 3 else "1"  # in an actor of its own, if nodes are killed
    options = ["--windows", "--exact", "--models", models, "-m", str(toy_bundle)]
    words = ["archive", *sources, "-o", str(out), *options, "--address", cluster.address]
    killer = Killer(cluster, words, out)
    killer.start()
    for kind in itertools.islice(
        itertools.cycle(("driver", "worker", "node", "worker", "node")), KILLS
    ):
        killer.wait_for_more()
        killer.kill(kind)
    assert killer.driver is not None
    assert killer.driver.wait(SECONDS + 10 * KILLS) in (0, 1)  # 1 if it found the broken ones
    broken = {str(tmp_path / name) for name in ("broken.mp3", "none.wav")}
    tagged = {str(song): song for song in songs} | {"s3://music/in/a.wav": songs[0]}
    rows = rows_of(out, "recordings")
    assert sorted(row["file"] for row in rows) == sorted([*broken, *tagged])
    errors = {row["file"]: row["error"] for row in rows if row["error"]}
    assert errors.keys() == broken, errors
    events, windows = rows_of(out, "events"), rows_of(out, "windows")
    assert {row["file"] for row in (*events, *windows)} == set(tagged)
    for file, song in tagged.items():  # bit for bit
        one = tag_file(song, toy_bundle, exact=True)
        mine = [row for row in events if row["file"] == file]
        assert [(r["tag"], r["on"], r["off"], r["peak"]) for r in mine] == [
            (e.tag, e.on, e.off, e.peak) for e in one.events
        ]
        mine = [row for row in windows if row["file"] == file]
        assert [(r["start"], r["end"], tuple(r["values"].values())) for r in mine] == [
            (r.start, r.end, r.values) for r in one.scores
        ]
    assert not (out / "_work").exists()
