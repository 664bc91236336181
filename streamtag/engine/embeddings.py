"""Streaming nets: each stretch of a stream goes through the net's trunk once.

The embeddings are kept, and each window's head runs over the embeddings of the window. Embedding k
of a stream stands for the frames [k * stride, (k + 1) * stride) since its last gap. It is final
when the frames of its context have arrived. Until then it is computed anew for each window, whose
end the net pads as it would pad that of a whole window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamtag._core import FrameRing, gather
from streamtag.model.card import Card, Trunk
from streamtag.model.tagger import Tagger

if TYPE_CHECKING:
    from streamtag.engine.stream_tagger import PendingWindow


@dataclass(frozen=True, slots=True)
class Stretch:
    """The embeddings [first, end) that a window lacks."""

    first: int
    end: int
    context: int
    """Embeddings before `first` that are computed too, for the context, and not used."""

    @property
    def count(self) -> int:
        """Embeddings to compute."""
        return self.end - self.first + self.context


class EmbeddingBuffer:
    """The final embeddings of one stream for one tagger.

    Args:
        card: of the tagger; it has a trunk.
        hop_frames: between the ends of two windows.
    """

    def __init__(self, card: Card, hop_frames: int) -> None:
        assert card.trunk is not None
        self.trunk: Trunk = card.trunk
        self._left = -(-self.trunk.left // self.trunk.stride)
        self._open = max(0, -(-self.trunk.right // self.trunk.stride) - self.trunk.short)
        self.ring = FrameRing(self.trunk.columns, self.trunk.size)
        self.set_hop(hop_frames)

    @property
    def useful(self) -> bool:
        """Whether a window needs fewer new embeddings than it has."""
        return self._left + self._step < self.trunk.columns

    @property
    def margin(self) -> int:
        """Frames before a window that its first embedding may need."""
        return (self.trunk.short + 1) * self.trunk.stride - 1

    def set_hop(self, hop_frames: int) -> None:
        """Sets the frames between the ends of two windows."""
        self._step = -(-hop_frames // self.trunk.stride) + self._open

    def last(self, end_frame: int) -> int:
        """One past the last embedding of a window that ends with this frame."""
        return end_frame // self.trunk.stride - self.trunk.short

    def covers(self, end_frame: int) -> bool:
        """Whether the stream has all embeddings of a window that ends with this frame."""
        return self.last(end_frame) >= self.trunk.columns

    def final(self, end: int) -> int:
        """One past the last final embedding when `end` of them can be computed."""
        return end - self._open

    def missing(self, end_frame: int, known: range) -> Stretch:
        """What a full window lacks. The number of embeddings to compute is one of two.

        Args:
            end_frame: one past the window's last frame.
            known: final embeddings.
        """
        end = self.last(end_frame)
        first = end - self.trunk.columns
        if self.useful and known.start <= first < known.stop and end - self._step <= known.stop:
            return Stretch(end - self._step, end, self._left)
        return Stretch(first, end, 0)

    def frames(self, stretch: Stretch) -> tuple[int, int]:
        """The first frame that a stretch is computed from, and how many."""
        first = (stretch.first - stretch.context) * self.trunk.stride
        return first, (stretch.end + self.trunk.short) * self.trunk.stride - first


@dataclass(slots=True)
class _Known:
    """The final embeddings of a stream while a batch is scored."""

    first: int
    values: np.ndarray

    @property
    def indices(self) -> range:
        return range(self.first, self.first + len(self.values))


def score_by_embeddings(
    tagger: Tagger,
    batch: Sequence["PendingWindow"],
    buffers: Sequence[EmbeddingBuffer],
    sizes: Sequence[int],
) -> np.ndarray:
    """Probabilities of full windows, (n, n_tags) float32.

    The buffers of the streams are only changed if the model succeeds.

    Args:
        tagger: its card has a trunk.
        batch: full windows; those of one stream tagger are in their order.
        buffers: theirs.
        sizes: ascending; batches are padded to them.
    """
    lacking = _stretches(batch, buffers)
    computed = _embeddings(tagger, batch, buffers, lacking, sizes)
    known: dict[EmbeddingBuffer, _Known] = {}
    trunk = buffers[0].trunk
    rows = np.zeros((_padded(len(batch), sizes), trunk.columns, trunk.size), np.float32)
    for row, buffer, stretch, new in zip(rows, buffers, lacking, computed, strict=False):
        past = known.get(buffer) or _Known(buffer.ring.begin, _all(buffer.ring))
        if not stretch.context and stretch.first not in past.indices:
            past = _Known(stretch.first, new[:0])
        stop = past.indices.stop
        fresh = new[stop - stretch.first :]
        begin = stretch.end - trunk.columns
        row[:] = np.concatenate([past.values[begin - past.first :], fresh])
        final = past.values, fresh[: max(0, buffer.final(stretch.end) - stop)]
        values = np.concatenate(final)[-trunk.columns :]
        known[buffer] = _Known(stop + len(final[1]) - len(values), values)
    answers = tagger.head(rows)[: len(batch)]
    for buffer, after in known.items():
        if buffer.ring.end < after.first or buffer.ring.end > after.indices.stop:
            buffer.ring.clear(after.first)
        buffer.ring.push(after.values[max(0, buffer.ring.end - after.first) :])
    return answers


def _all(ring: FrameRing) -> np.ndarray:
    return ring.copy(ring.begin, ring.end - ring.begin)


def _stretches(
    batch: Sequence["PendingWindow"], buffers: Sequence[EmbeddingBuffer]
) -> list[Stretch]:
    """What each window lacks, after the windows before it."""
    known: dict[EmbeddingBuffer, range] = {}
    found: list[Stretch] = []
    for pending, buffer in zip(batch, buffers, strict=True):
        have = known.get(buffer, range(buffer.ring.begin, buffer.ring.end))
        found.append(stretch := buffer.missing(pending.window.end, have))
        first = have.start if stretch.context else stretch.first
        known[buffer] = range(first, max(buffer.final(stretch.end), first))
    return found


def _embeddings(
    tagger: Tagger,
    batch: Sequence["PendingWindow"],
    buffers: Sequence[EmbeddingBuffer],
    stretches: Sequence[Stretch],
    sizes: Sequence[int],
) -> list[np.ndarray]:
    """The embeddings of the stretches, (end - first, size) each. Equal lengths share a call."""
    found: list[np.ndarray] = [np.empty(0)] * len(batch)
    frames = [one.frames(stretch) for one, stretch in zip(buffers, stretches, strict=True)]
    for some in _groups([count for _, count in frames], stretches):
        rows = np.zeros(
            (_padded(len(some), sizes), frames[some[0]][1], batch[0].ring.width), np.float32
        )
        gather(
            [batch[i].ring for i in some], [frames[i][0] for i in some], rows.shape[1],
            rows[: len(some)],
        )  # fmt: skip
        for i, values in zip(some, tagger.trunk(rows), strict=False):
            found[i] = values[stretches[i].context :]
    return found


def _groups(counts: Sequence[int], stretches: Sequence[Stretch]) -> Iterator[list[int]]:
    """Indices of stretches of equal length; those without context, which are long, alone."""
    groups: dict[int, list[int]] = {}
    for i, (count, stretch) in enumerate(zip(counts, stretches, strict=True)):
        if stretch.context:
            groups.setdefault(count, []).append(i)
        else:
            yield [i]
    yield from groups.values()


def _padded(n: int, sizes: Sequence[int]) -> int:
    return next((size for size in sizes if size >= n), n)
