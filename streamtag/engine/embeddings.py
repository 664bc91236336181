"""Streaming nets: each stretch of a stream goes through the net's trunk once.

The embeddings are kept, and each window's head runs over the embeddings of the window. Embedding k
of a stream stands for the frames [k * stride, (k + 1) * stride) since its last gap. It is final
when the frames of its context have arrived. Until then it is computed anew for each window, whose
end the net pads as it would pad that of a whole window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamtag._core import FrameRing, gather
from streamtag.engine.windows import Window
from streamtag.model.card import Card, PastPadding, Trunk
from streamtag.model.tagger import Tagger

_LONGEST_CALL = 0.02
"""Seconds; a batch on a CPU may take so long."""
_GAIN = 0.95
"""A larger batch must take at most this share of a window's time in a smaller one."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The embeddings [first, end) that a window lacks."""

    first: int
    end: int
    context: int
    """Embeddings before `first` that are computed too, for the context, and not used."""


class EmbeddingBuffer:
    """The final embeddings of one stream for one tagger.

    Args:
        card: of the tagger; it has a trunk.
        hop_frames: between the ends of two windows.
    """

    def __init__(self, card: Card, hop_frames: int) -> None:
        assert card.trunk is not None
        self.trunk: Trunk = card.trunk
        self.padding, self._window_frames = card.padding, card.window_frames
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
        strides = self.trunk.columns + self.trunk.short + 1
        return max(0, strides * self.trunk.stride - 1 - self._window_frames)

    def set_hop(self, hop_frames: int) -> None:
        """Sets the frames between the ends of two windows."""
        self._step = -(-hop_frames // self.trunk.stride) + self._open

    def last(self, end_frame: int) -> int:
        """One past the last embedding of a window that ends with this frame."""
        return end_frame // self.trunk.stride - self.trunk.short

    def serves(self, window: Window) -> bool:
        """Whether embeddings save work and the stream has them for a window. Their past can be
        padded, too."""
        if not self.useful:
            return False
        if window.provisional:
            return self.last(window.end) > 0 and self.padding is not PastPadding.MINIMUM
        return self.last(window.end) >= self.trunk.columns

    def final(self, end: int) -> int:
        """One past the last final embedding when `end` of them can be computed."""
        return end - self._open

    def missing(self, end_frame: int, known: range) -> Stretch:
        """What a window lacks. In a stream's middle its length is always the same.

        Args:
            end_frame: one past the window's last frame.
            known: final embeddings.
        """
        end = self.last(end_frame)
        first, new = max(0, end - self.trunk.columns), end - self._step
        if known.start <= first < known.stop and self._left <= new <= known.stop:
            return Stretch(new, end, self._left)
        return Stretch(first, end, 0)

    def typical(self) -> Stretch:
        """What most windows lack."""
        return Stretch(self._left, self._left + self._step, self._left)

    def frames(self, stretch: Stretch) -> tuple[int, int]:
        """The first frame that a stretch is computed from, and how many."""
        first = (stretch.first - stretch.context) * self.trunk.stride
        return first, (stretch.end + self.trunk.short) * self.trunk.stride - first


def saves_work(card: Card) -> bool:
    """Whether a stream costs less by embeddings, at the card's own hop."""
    return card.trunk is not None and EmbeddingBuffer(card, card.hop_frames).useful


class BufferedWindow(NamedTuple):
    """A window that is scored by embeddings."""

    buffer: EmbeddingBuffer
    ring: FrameRing
    """Where its frames are."""
    end: int
    """One past its last frame."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The final embeddings of a stream while a batch is scored."""

    first: int
    values: np.ndarray

    @property
    def end(self) -> int:
        return self.first + len(self.values)


def score_by_embeddings(
    tagger: Tagger, batch: Sequence[BufferedWindow], sizes: Sequence[int], past: np.ndarray
) -> np.ndarray:
    """Probabilities of windows, (n, n_tags) float32.

    The buffers of the streams are only changed if the model succeeds.

    Args:
        tagger: its card has a trunk.
        batch: windows that their buffers serve; those of one stream tagger are in their order.
        sizes: ascending; batches are padded to them.
        past: (size,) embedding of a padded past; `past_embedding` makes it.
    """
    lacking = _stretches(batch)
    computed = _embeddings(tagger, batch, lacking, sizes)
    known: dict[EmbeddingBuffer, _Known] = {}
    trunk = batch[0].buffer.trunk
    rows = np.zeros((_padded(len(batch), sizes), trunk.columns, trunk.size), np.float32)
    for row, (buffer, _, _), stretch, new in zip(rows, batch, lacking, computed, strict=False):
        have = known.get(buffer) or _Known(buffer.ring.begin, _all(buffer.ring))
        if not have.first <= stretch.first <= have.end:
            have = _Known(stretch.first, new[:0])
        fresh = new[have.end - stretch.first :]
        begin = max(0, stretch.end - trunk.columns)
        present = row[trunk.columns - (stretch.end - begin) :]
        n_have = have.end - begin
        present[:n_have], present[n_have:] = have.values[begin - have.first :], fresh
        _pad(row, len(present), buffer.padding, past)
        values = np.concatenate(
            [have.values, fresh[: max(0, buffer.final(stretch.end) - have.end)]]
        )
        known[buffer] = _Known(have.first, values)
    answers = tagger.head(rows)[: len(batch)]
    for buffer, after in known.items():
        if not after.first <= buffer.ring.end <= after.end:
            buffer.ring.clear(after.first)
        buffer.ring.push(after.values[buffer.ring.end - after.first :])
    return answers


def past_embedding(tagger: Tagger, silence: np.ndarray) -> np.ndarray:
    """The embedding of the frames before a stream, (size,) float32; 0 if they are no constant.

    Args:
        tagger: its card has a trunk.
        silence: (width,) frame that the front end gives for digital silence.
    """
    card, trunk = tagger.card, tagger.card.trunk
    assert trunk is not None
    if card.padding not in (PastPadding.SILENCE, PastPadding.ZERO):
        return np.zeros(trunk.size, np.float32)
    left, right = (-(-side // trunk.stride) for side in (trunk.left, trunk.right))
    frames = np.zeros((1, (left + 1 + right + trunk.short) * trunk.stride, len(silence)), "f4")
    if card.padding is PastPadding.SILENCE:
        frames[:] = silence
    embedding: np.ndarray = tagger.trunk(frames)[0, left]
    return embedding


def _pad(row: np.ndarray, count: int, padding: PastPadding, past: np.ndarray) -> None:
    """Fills the embeddings before the newest `count` of a window, in place."""
    missing = len(row) - count
    if padding is PastPadding.WRAP:
        row[:missing] = row[missing:][np.arange(-missing, 0) % count]
    else:
        row[:missing] = past


def _all(ring: FrameRing) -> np.ndarray:
    return ring.copy(ring.begin, ring.end - ring.begin)


def _stretches(batch: Sequence[BufferedWindow]) -> list[Stretch]:
    """What each window lacks, after the windows before it."""
    known: dict[EmbeddingBuffer, range] = {}
    found: list[Stretch] = []
    for buffer, _, end in batch:
        have = known.get(buffer, range(buffer.ring.begin, buffer.ring.end))
        found.append(stretch := buffer.missing(end, have))
        joins = have.start <= stretch.first <= have.stop
        first = have.start if joins else stretch.first
        known[buffer] = range(first, max(buffer.final(stretch.end), have.stop if joins else first))
    return found


def _embeddings(
    tagger: Tagger,
    batch: Sequence[BufferedWindow],
    stretches: Sequence[Stretch],
    sizes: Sequence[int],
) -> list[np.ndarray]:
    """The embeddings of the stretches, (end - first, size) each. Equal lengths share a call."""
    found: list[np.ndarray] = [np.empty(0)] * len(batch)
    frames = [one.buffer.frames(stretch) for one, stretch in zip(batch, stretches, strict=True)]
    for some in _groups([count for _, count in frames], batch[0].buffer.trunk):
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


def _groups(counts: Sequence[int], trunk: Trunk) -> Iterator[list[int]]:
    """Indices of stretches with equally many frames; those as long as a window alone."""
    groups: dict[int, list[int]] = {}
    for i, count in enumerate(counts):
        if count >= trunk.columns * trunk.stride:
            yield [i]
        else:
            groups.setdefault(count, []).append(i)
    yield from groups.values()


def cheap_sizes(tagger: Tagger, hop_frames: int, max_batch: int) -> list[int]:
    """Batch sizes for a CPU: powers of two, as long as they make a window cheaper and are quick.

    They are measured, and the parts of the model compiled for them. A large batch would keep the
    results of its first windows back.

    Args:
        tagger: its card has a trunk.
        hop_frames: between the ends of two windows.
        max_batch: the largest.
    """
    buffer = EmbeddingBuffer(tagger.card, hop_frames)
    _, n_frames = buffer.frames(buffer.typical())
    sizes, best = list[int](), np.inf
    for n in (2**i for i in range(max_batch.bit_length())):
        quick = tagger.compile_part("trunk", (n, n_frames, tagger.card.features.width))
        quick += tagger.compile_part("head", (n, buffer.trunk.columns, buffer.trunk.size))
        if sizes and (quick > _LONGEST_CALL or quick / n > _GAIN * best):
            break
        sizes.append(n)
        best = quick / n
    return sizes


def _padded(n: int, sizes: Sequence[int]) -> int:
    return next((size for size in sizes if size >= n), n)
