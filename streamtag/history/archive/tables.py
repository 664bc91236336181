"""The Parquet tables of an archive and their folder. docs/archive.md describes both.

Workers write the rows of a batch to files under `_work`. The run that has locked the folder moves
these files to their final places, the file of the table `recordings` last. A batch is valid once
that file is there. If the run is killed before, the next run removes the other files and tags the
batch again.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from streamtag.errors import StreamtagError
from streamtag.history.archive.files import Place
from streamtag.history.archive.lock import Lock, lock

if TYPE_CHECKING:
    import pyarrow as pa

    from streamtag.model.card import Card

VERSION = 1
"""Version of the tables."""
ABOUT = "archive.json"
WORK = "_work"
RECORDINGS, EVENTS, WINDOWS, EMBEDDINGS = "recordings", "events", "windows", "embeddings"
TABLES = (WINDOWS, EMBEDDINGS, EVENTS, RECORDINGS)
"""The tables, in the order in which their files are moved to their final places."""
MOODS = ("valence", "arousal", "certainty")
_ROWS = 2000
"""Number of rows in a row group of a Parquet file."""


@dataclass(frozen=True, slots=True)
class ArchiveCard:
    """What all rows of an archive have in common. It is stored in `archive.json`."""

    version: int
    model: str
    """Name of the model."""
    checksum: str
    """SHA-256 of its bundle."""
    exact: bool
    windows: bool
    embeddings: bool
    tags: tuple[str, ...]
    """In the order of the model's outputs."""

    @classmethod
    def of(
        cls, card: "Card", checksum: str, *, exact: bool, windows: bool, embeddings: bool
    ) -> Self:
        """The card of a new archive."""
        return cls(VERSION, card.name, checksum, exact, windows, embeddings, card.tags)

    @classmethod
    def read(cls, folder: Place) -> Self:
        """Reads the card of an archive.

        Raises:
            StreamtagError: it is missing or cannot be understood.
        """
        try:
            table = json.loads(folder.join(ABOUT).read())
            if table.get("version") != VERSION:
                raise StreamtagError(
                    f"{folder.name}: expected an archive of version {VERSION}, got version "
                    f"{table.get('version')!r:.60}; use the streamtag that made it, or a new folder"
                )
            return cls(**{**table, "tags": tuple(table["tags"])})
        except FileNotFoundError:
            raise StreamtagError(
                f"{folder.name}: expected an archive, got no {ABOUT}; "
                "make one: streamtag archive PATH -o FOLDER"
            ) from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StreamtagError(
                f"{folder.join(ABOUT).name}: expected the description of an archive, got "
                f"{error!s:.300}; name the folder of an archive, or make one: "
                "streamtag archive PATH -o FOLDER"
            ) from None

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that the archive has."""
        wanted = {WINDOWS: self.windows, EMBEDDINGS: self.embeddings}
        return tuple(name for name in TABLES if wanted.get(name, True))

    def schema(self, table: str) -> "pa.Schema":
        """The columns of a table."""
        import pyarrow as pa

        per_tag = pa.struct([(tag, pa.float32()) for tag in self.tags])
        moods = [(name, pa.float64()) for name in MOODS]
        columns: Mapping[str, Sequence[tuple[str, Any]]] = {
            RECORDINGS: [
                ("file", pa.string()), ("seconds", pa.float64()), ("rate", pa.int32()),
                ("error", pa.string()), *moods,
                ("mean", per_tag), ("peak", per_tag), ("share", per_tag),
            ],
            EVENTS: [
                ("file", pa.string()), ("tag", pa.string()), ("on", pa.float64()),
                ("off", pa.float64()), ("peak", pa.float64()), ("reason", pa.string()),
            ],
            WINDOWS: [
                ("file", pa.string()), ("start", pa.float64()), ("end", pa.float64()),
                ("provisional", pa.bool_()), *moods, ("values", per_tag),
            ],
            EMBEDDINGS: [("file", pa.string()), ("embedding", pa.list_(pa.float32()))],
        }  # fmt: skip
        about = {"streamtag": json.dumps(asdict(self))}
        return pa.schema(columns[table], metadata=about)


class UnwritableError(StreamtagError):
    """The folder of an archive cannot be written. It is not a recording's fault."""


class BatchWriter:
    """Writes the rows of a batch of recordings, a file for each table.

    Args:
        card: of the archive.
        folder: for the files, which are named after their tables.
    """

    def __init__(self, card: ArchiveCard, folder: Place) -> None:
        import pyarrow.parquet as pq

        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in card.tables}
        self._open, self._folder = ExitStack(), folder
        self._dropped: list[str] = []
        self._flushed: set[str] = set()
        self._writers: dict[str, Any] = {}
        try:
            folder.make()
            for name in card.tables:
                path, schema = folder.join(f"{name}.parquet").path, card.schema(name)
                writer = pq.ParquetWriter(
                    path, schema, filesystem=folder.filesystem, compression="zstd"
                )
                self._writers[name] = self._open.enter_context(writer)
        except OSError as error:
            raise unwritable(folder, error) from None

    def add(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows to a table that the archive has."""
        waiting = self._rows[table]
        waiting += rows
        if len(waiting) >= _ROWS:
            self._flush(table)

    def drop(self, file: str) -> None:
        """Removes the rows of a recording that turned out to be broken."""
        self._dropped.append(file)
        for table, rows in self._rows.items():
            self._rows[table] = [row for row in rows if row["file"] != file]

    def close(self) -> None:
        """Writes what waits, and closes the files."""
        try:
            with self._open:
                for table in self._rows:
                    self._flush(table)
            if self._dropped:
                for table in self._flushed - {RECORDINGS}:
                    self._without_dropped(table)
        except OSError as error:
            raise unwritable(self._folder, error) from None

    def _without_dropped(self, table: str) -> None:
        """Writes a file again without the rows of broken recordings."""
        import pyarrow.compute as pc
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        place, schema = self._folder.join(f"{table}.parquet"), self._writers[table].schema
        whole = self._folder.join(f"{table}.whole")
        there = ds.dataset(place.path, schema, format="parquet", filesystem=place.filesystem)
        kept = there.scanner(filter=~pc.field("file").isin(self._dropped), batch_size=_ROWS)
        with pq.ParquetWriter(whole.path, schema, filesystem=whole.filesystem) as writer:
            for batch in kept.to_batches():
                writer.write_batch(batch)
        whole.move(place)

    def _flush(self, table: str) -> None:
        import pyarrow as pa

        writer, rows = self._writers[table], self._rows[table]
        if rows:
            try:
                writer.write_table(pa.Table.from_pylist(rows, schema=writer.schema))
            except OSError as error:
                raise unwritable(self._folder, error) from None
            rows.clear()
            self._flushed.add(table)


class ArchiveFolder:
    """The folder of an archive, locked by the run that adds to it.

    Args:
        place: the folder; created if it is missing.
        card: what the rows have in common.
        on_wait: called with what it waits for.

    Raises:
        StreamtagError: the folder has an archive with another card, or other files; it is locked,
            or cannot be written.
    """

    def __init__(
        self, place: Place, card: ArchiveCard, on_wait: Callable[[str], None] = lambda _: None
    ) -> None:
        self.place, self.card = place, card
        self._lock: Lock | None = None
        try:
            with self._writing():
                self._open(on_wait)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with suppress(OSError, StreamtagError):
            self._ensure_lock()
            self.place.join(WORK).delete()
        self.close()

    def close(self) -> None:
        """Unlocks the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def done(self) -> dict[str, str | None]:
        """The recordings in the archive, each with its error or None."""
        with reading(self.place):
            table = read_table(self.place, RECORDINGS, ["file", "error"])
        return dict(zip(table["file"].to_pylist(), table["error"].to_pylist(), strict=True))

    def commit(self, written: Place, name: str) -> None:
        """Moves the files of a batch to their final places, that of the recordings last."""
        with self._writing():
            self._ensure_lock()
            for table in self.card.tables:
                source = written.join(f"{table}.parquet")
                if not source.exists():
                    raise StreamtagError(
                        f"{source.name}: expected a file that a worker has written, got nothing; "
                        "-o has to be a folder that all machines of the cluster share, or a URL"
                    )
                source.move(self.place.join(table, f"{name}.parquet"))

    def forget_errors(self) -> None:
        """Removes the rows of recordings that failed, so that they are tagged again."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        with self._writing():
            for file, _ in list(self.place.join(RECORDINGS).walk()):
                with file.filesystem.open_input_file(file.path) as source:
                    rows = pq.read_table(source)
                kept = rows.filter(pc.is_null(rows["error"]))
                if len(kept) < len(rows):
                    partial = self.place.join(WORK, "kept.parquet")
                    self.place.join(WORK).make()
                    pq.write_table(kept, partial.path, filesystem=partial.filesystem)
                    partial.move(file)

    def _ensure_lock(self) -> None:
        assert self._lock is not None
        self._lock.ensure()

    def _open(self, on_wait: Callable[[str], None]) -> None:
        self.place.make()
        self._lock = lock(self.place, on_wait)
        self._check()
        if not self.place.join(ABOUT).exists():
            self.place.join(ABOUT).write(json.dumps(asdict(self.card), indent=1).encode())
        for table in self.card.tables:
            self.place.join(table).make()
        self._remove_unfinished()

    def _check(self) -> None:
        """Raises a StreamtagError for other files, or an archive with another card."""
        if not self.place.join(ABOUT).exists():
            if any(True for _ in self.place.walk()):
                raise StreamtagError(
                    f"{self.place.name}: expected an archive or an empty folder, got other files; "
                    "name another folder for the archive"
                )
            return
        there, wanted = asdict(ArchiveCard.read(self.place)), asdict(self.card)
        for key, value in wanted.items():
            if there[key] != value:
                got, asked = (f"{key} {one!s:.40}" for one in (there[key], value))
                raise StreamtagError(
                    f"{self.place.name}: expected an archive with {asked}, got one with {got}; "
                    "take another folder, or the options that it was made with"
                )

    def _remove_unfinished(self) -> None:
        """Removes the unfinished batches of a run that was killed."""
        self.place.join(WORK).delete()
        whole = {_base(file) for file, _ in self.place.join(RECORDINGS).walk()}
        for table in self.card.tables[:-1]:
            for file, _ in list(self.place.join(table).walk()):
                if _base(file) not in whole:
                    file.delete()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.place, error) from None


def unwritable(place: Place, error: OSError) -> UnwritableError:
    """The error for a folder that cannot be written. The files in it are not changed."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UnwritableError(
        f"{place.name}: expected a folder that can be written, got: {text:.300}; "
        "once it can be written, the same command goes on with what is missing"
    )


@contextmanager
def reading(folder: Place, *errors: type[Exception]) -> Iterator[None]:
    """Says which archive it is whose files cannot be read; errors of PyArrow and those named."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, ValueError, *errors)):
            raise
        raise StreamtagError(
            f"{folder.name}: expected Parquet files that can be read, got: {error!s:.300}; remove "
            "the file that is damaged, and `streamtag archive` tags its recordings again"
        ) from None


def read_table(folder: Place, table: str, columns: list[str] | None = None) -> "pa.Table":
    """Reads a table of an archive, or some of its columns."""
    return dataset(folder, table).to_table(columns=columns)


def dataset(folder: Place, table: str) -> Any:
    """A table of an archive as a PyArrow dataset, which DuckDB can query."""
    import pyarrow.dataset as ds

    files = [file.path for file, _ in folder.join(table).walk()]
    schema = ArchiveCard.read(folder).schema(table)
    return ds.dataset(files, schema, format="parquet", filesystem=folder.filesystem)


def _base(file: Place) -> str:
    return os.path.basename(file.path)
