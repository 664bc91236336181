"""Archives of tones, and S3 on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.sounds import tone, write_wav

RATE = 16000
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""All processes that use the server need them."""


def write_songs(folder: Path, count: int, seconds: float = 3.0) -> list[Path]:
    """Recordings of low and high tones; each is another one."""
    songs = []
    for i in range(count):
        parts = [tone(seconds / 2, RATE, hertz) for hertz in (200 + 7 * i, 2500 + 90 * i)]
        songs.append(write_wav(folder / f"song-{i:02}.wav", np.concatenate(parts), RATE))
    return songs


@contextmanager
def s3_server() -> Iterator[tuple[str, Any]]:
    """Moto's server with a bucket `music`: the options of its URLs, and PyArrow's filesystem."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    place = f"{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        files = S3FileSystem(
            endpoint_override=place, scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        files.create_dir("music")
        yield f"endpoint_override={place}&scheme=http&region=us-east-1", files
    server.stop()


def rows_of(folder: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table of an archive, as anybody reads them."""
    import pyarrow.parquet as pq

    return [row for file in sorted((folder / table).glob("*.parquet"))
            for row in pq.ParquetFile(file).read().to_pylist()]  # fmt: skip
