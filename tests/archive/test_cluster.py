"""`streamtag archive` on a Ray cluster of two nodes, whose processes are killed.

`STREAMTAG_ARCHIVE_KILLS` is how many kills there are: of drivers, workers and nodes in turn.
"""

import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.archives import KEYS, rows_of, s3_server, write_songs
from support.commands import run_here
from support.forked import Forked

from streamtag.sources.recording import tag_file

KILLS = int(os.environ.get("STREAMTAG_ARCHIVE_KILLS", "3"))
SECONDS = 120.0
"""For anything to happen; the machine may be very busy."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and another node, each with one CPU."""
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

        options = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        started = Cluster(initialize_head=True, head_node_args=options)
        started.add_node(num_cpus=1, object_store_memory=80 * 2**20)
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
    """Processes that tag."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


class Killer:
    """Ends processes of a run, as power cuts and the kernel do."""

    def __init__(self, cluster: Any, words: list[str], out: Path) -> None:
        self._cluster, self._words, self._out = cluster, words, out
        self.driver: Forked | None = None

    def start(self) -> None:
        self.driver = Forked("-m", "streamtag", *self._words)

    def committed(self) -> int:
        return len(list(self._out.glob("recordings/*.parquet")))

    def wait_for_more(self) -> None:
        """Waits until the run has written something more, or has ended."""
        assert self.driver is not None
        before, driver = self.committed(), self.driver
        wait_for(lambda: self.committed() > before or driver.poll() is not None)

    def kill(self, kind: str) -> None:
        if kind == "driver":
            assert self.driver is not None
            os.kill(self.driver.pid, signal.SIGKILL)
            self.driver.wait(SECONDS)
            self.start()
        elif kind == "worker":
            for pid in workers()[:1]:
                os.kill(pid, signal.SIGKILL)
        else:
            node = self._cluster.worker_nodes.copy().pop()
            self._cluster.remove_node(node, allow_graceful=False)
            self._cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)


def test_nothing_is_lost_and_nothing_comes_twice(
    cluster: Any, tmp_path: Path, toy_bundle: Path
) -> None:
    songs = write_songs(tmp_path, max(12, 4 * KILLS), 8.0)
    (tmp_path / "broken.mp3").write_text("no audio")
    (tmp_path / "list.txt").write_text("broken.mp3\nnone.wav\nsong-00.wav\n")
    out = tmp_path / "OUT"
    sources = [str(tmp_path / name) for name in ("*.wav", "list.txt")]
    options = ["--windows", "--exact", "-m", str(toy_bundle), "--address", cluster.address]
    words = ["archive", *sources, "-o", str(out), *options]
    killer = Killer(cluster, words, out)
    killer.start()
    for kind in itertools.islice(itertools.cycle(("driver", "worker", "node")), KILLS):
        killer.wait_for_more()
        killer.kill(kind)
    assert killer.driver is not None
    assert killer.driver.wait(SECONDS + 10 * KILLS) == 1  # two recordings are broken
    rows = rows_of(out, "recordings")
    names = [str(tmp_path / name) for name in ("broken.mp3", "none.wav")]
    assert sorted(row["file"] for row in rows) == sorted([*names, *map(str, songs)])
    assert {row["file"] for row in rows if row["error"]} == set(names)
    events, windows = rows_of(out, "events"), rows_of(out, "windows")
    for song in songs:  # bit for bit
        one = tag_file(song, toy_bundle, exact=True)
        assert [(r["tag"], r["on"], r["off"], r["peak"]) for r in events
                if r["file"] == str(song)] == [
            (e.tag, e.on, e.off, e.peak) for e in one.events
        ]  # fmt: skip
        assert [(r["end"], tuple(r["values"].values())) for r in windows
                if r["file"] == str(song)] == [(r.end, r.values) for r in one.scores]  # fmt: skip
    assert {row["file"] for row in (*events, *windows)} == set(map(str, songs))
    assert not (out / "_work").exists()


def test_from_s3_to_s3_with_the_models_in_actors(
    cluster: Any, tmp_path: Path, toy_bundle: Path
) -> None:
    pytest.importorskip("moto.server", reason="moto, of the extra dev, is not installed")
    (song,) = write_songs(tmp_path, 1)
    with s3_server() as (options, files):
        with files.open_output_stream("music/in/a.wav") as stream:
            stream.write(song.read_bytes())
        words = ["-m", toy_bundle, "--address", cluster.address, "--models", 1, "--windows"]
        target = f"s3://music/out?{options}"
        done = Forked("-m", "streamtag", "archive", f"s3://music/in?{options}", "-o", target,
                      *map(str, words))  # fmt: skip
        assert done.wait(SECONDS) == 0
        found = run_here("archive", "query", target, "seconds == 3 and peak(low) > 0", "-f", "csv")
        assert found.exception is None
        assert found.stdout.splitlines()[1].startswith("s3://music/in/a.wav,3.0,")
