"""Tags one recording and makes its rows, with at most a minute of audio in memory."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamtag._core import Resampler
from streamtag.audio.block import Block
from streamtag.audio.front_end import FrontEnd
from streamtag.engine.events import Event, TagEnded, WindowScored
from streamtag.engine.offline import Means, MoodFold, interval, read_ahead, recording_events
from streamtag.errors import SourceError, StreamtagError
from streamtag.history.archive.tables import (
    EMBEDDINGS,
    EVENTS,
    MOODS,
    RECORDINGS,
    WINDOWS,
    ArchiveCard,
    BatchWriter,
    UnwritableError,
)
from streamtag.model.card import Card
from streamtag.model.tagger import Tagger
from streamtag.model.threads import one_thread
from streamtag.sources.file import FileSource
from streamtag.sources.recording import BLOCK_SECONDS


def tag_into(
    writer: BatchWriter, archive: ArchiveCard, tagger: Tagger, file: str, path: Path | SourceError
) -> float:
    """Tags a recording and adds its rows; returns its seconds, 0 if it is broken.

    A broken recording has only one row, with the error.

    Args:
        writer: gets the rows.
        archive: which tables are wanted.
        tagger: the model.
        file: the recording's name in the archive.
        path: the local file, or the error why there is none.
    """
    try:
        if isinstance(path, SourceError):
            raise path
        rows = _Rows(archive, tagger.card, file)
        for table, some in rows.of(path, tagger):
            writer.add(table, some)
        seconds, last = rows.seconds, rows.recording()
    except UnwritableError:
        raise
    except Exception as error:  # one broken recording must not end the run
        writer.drop(file)
        reason = str(error) if isinstance(error, StreamtagError) else f"{file}: {error!r}"
        seconds, last = 0.0, {"file": file, "error": reason.replace(str(path), file)}
    writer.add(RECORDINGS, [last])
    return seconds


@dataclass(slots=True)
class _Rows:
    """Collects the rows of one recording."""

    archive: ArchiveCard
    card: Card
    file: str
    seconds: float = 0.0
    _rate: int = 0
    _means: Means = field(default_factory=Means)
    _mood: MoodFold | None = None
    _peak: np.ndarray | None = None
    _on: dict[str, float] = field(default_factory=dict)

    def of(self, path: Path, tagger: Tagger) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Tags the recording; yields tables with their next rows."""
        with closing(FileSource(path, block_seconds=BLOCK_SECONDS)) as source:
            rate = self._rate = source.rate
            self._mood = MoodFold(self.card, rate)
            embedder = Embedder(tagger, rate) if self.archive.embeddings else None
            blocks = read_ahead(source)
            if embedder is not None:
                blocks = embedder.watch(blocks)
            for end, events in recording_events(
                blocks, rate, {self.card.name: tagger}, exact=self.archive.exact
            ):
                self.seconds = end / rate
                yield from self._found(events)
            if embedder is not None and (embedding := embedder.result()) is not None:
                yield EMBEDDINGS, [{"file": self.file, "embedding": embedding}]

    def recording(self) -> dict[str, Any]:
        """The row of the table `recordings`, after the last window."""
        row: dict[str, Any] = {"file": self.file, "seconds": self.seconds, "rate": self._rate}
        if self._mood is not None and (mood := self._mood.result()) is not None:
            row |= {name: getattr(mood, name) for name in MOODS}
        means = self._means.result()
        if means is not None and self._peak is not None:
            shares = [self._on.get(tag, 0.0) / self.seconds for tag in self.card.tags]
            columns: dict[str, Iterable[float]] = {
                "mean": means,
                "peak": self._peak,
                "share": shares,
            }
            row |= {
                name: dict(zip(self.card.tags, values, strict=True))
                for name, values in columns.items()
            }
        return row

    def _found(self, events: list[Event]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        assert self._mood is not None
        scored = [e for e in events if isinstance(e, WindowScored)]
        moods = self._mood.add(scored)
        for one in scored:
            self._means.add(one.values, one.provisional)
            smoothed = np.array(one.smoothed)
            self._peak = smoothed if self._peak is None else np.maximum(self._peak, smoothed)
        if self.archive.windows and scored:
            yield WINDOWS, [self._window(one, moods[i : i + 1]) for i, one in enumerate(scored)]
        ended = [interval(e, self._rate) for e in events if isinstance(e, TagEnded)]
        for event in ended:
            self._on[event.tag] = self._on.get(event.tag, 0.0) + event.off - event.on
        names = ("tag", "on", "off", "peak", "reason")
        yield (
            EVENTS,
            [{"file": self.file} | {name: getattr(one, name) for name in names} for one in ended],
        )

    def _window(self, one: WindowScored, mood: list[list[float]]) -> dict[str, Any]:
        return {
            "file": self.file,
            "start": one.start / self._rate,
            "end": one.end / self._rate,
            "provisional": one.provisional,
            **(dict(zip(MOODS, mood[0], strict=True)) if mood else {}),
            "values": dict(zip(self.card.tags, one.values, strict=True)),
        }


def embedding_of(path: Path, tagger: Tagger) -> list[float]:
    """The embedding of a recording, computed as for an archive.

    Raises:
        StreamtagError: the recording cannot be decoded, or is too short.
    """
    with closing(FileSource(path, block_seconds=BLOCK_SECONDS)) as source:
        embedder = Embedder(tagger, source.rate)
        for _ in embedder.watch(source):
            pass
    if (found := embedder.result()) is None:
        raise StreamtagError(f"{path}: expected music, got too little of it for an embedding")
    return found


class Embedder:
    """Computes the embedding of a recording: the mean of the trunk's outputs.

    The trunk gets consecutive windows without overlap.

    Args:
        tagger: its card has a trunk.
        rate: of the recording, in Hz.
    """

    def __init__(self, tagger: Tagger, rate: int) -> None:
        assert tagger.card.trunk is not None
        self._tagger, self._trunk = tagger, tagger.card.trunk
        features = tagger.card.features
        self._n_frames = (self._trunk.columns + self._trunk.short) * self._trunk.stride
        self._front_end = FrontEnd(features, 2 * self._n_frames)
        self._resampler = Resampler(rate, features.sample_rate)
        self._next, self._n = 0, 0
        self._sum = np.zeros(self._trunk.size)

    def watch(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yields the same blocks, after it has used each."""
        with one_thread():
            for block in blocks:
                self._take(self._resampler.push(np.nan_to_num(block.samples)))
                yield block
            self._take(self._resampler.close())
            self._embed((self._front_end.ring.end - self._next) // self._trunk.stride)

    def result(self) -> list[float] | None:
        """The embedding, (size,) float32 numbers; None for less than a stride of audio."""
        return (self._sum / self._n).astype(np.float32).tolist() if self._n else None

    def _take(self, samples: np.ndarray) -> None:
        """Takes samples at the rate of the front end."""
        ring, piece = self._front_end.ring, self._n_frames * self._front_end.config.frame_hop
        for first in range(0, len(samples), piece):
            self._front_end.push(np.ascontiguousarray(samples[first : first + piece]))
            if ring.end - self._next >= self._n_frames:
                self._embed(self._n_frames // self._trunk.stride)

    def _embed(self, strides: int) -> None:
        if strides <= self._trunk.short:
            return
        n_frames = strides * self._trunk.stride
        frames = self._front_end.ring.copy(self._next, n_frames)
        columns = self._tagger.trunk(frames[np.newaxis])[0]
        self._sum += columns.sum(axis=0, dtype=np.float64)
        self._n += len(columns)
        self._next += n_frames
