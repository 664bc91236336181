"""Streaming nets: each stretch of a stream goes through the net's trunk once.

The embeddings are kept, and each window's head runs over the embeddings of the window. Embedding k
of a stream stands for the frames [k * stride, (k + 1) * stride) since its last gap. It is final
when the frames of its context have arrived. Until then it is computed anew for each window, whose
end the net pads as it would pad that of a whole window.

A trunk without context computes each embedding once. If it has a state, the state goes from call
to call with the stream. Where frames are missing in between, the state begins anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamtag._core import FrameRing, append_each, gather
from streamtag.engine.windows import Window
from streamtag.model.card import Card, PastPadding, Trunk
from streamtag.model.tagger import Tagger

_LONGEST_CALL = 0.02
"""The longest time of a batch on a CPU, in seconds."""
_GAIN = 0.95
"""A larger batch must take at most this share of a window's time in a smaller one."""


_AT_ONCE = 64
"""So many windows of a stream are scored at once, by embeddings that are computed once."""


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
        self.set_hop(hop_frames)
        more = _AT_ONCE * self._step if self.trunk.once else 0
        self.ring = FrameRing(self.trunk.columns + more, self.trunk.size)
        self.state = np.zeros(self.trunk.state, np.float32)
        """What the trunk remembers of the frames before the end of the ring."""

    @property
    def useful(self) -> bool:
        """Whether a window needs fewer new embeddings than it has."""
        return self._left + self._step < self.trunk.columns

    @property
    def margin(self) -> int:
        """Frames before a window that its first embedding may need."""
        strides = self.trunk.columns + self.trunk.short + 1
        return max(0, strides * self.trunk.stride - 1 - self._window_frames)

    def clear(self, first: int = 0) -> None:
        """Forgets everything. The next embedding is number `first`, by default that of frame 0."""
        self.ring.clear(first)
        self.state[:] = 0

    def set_hop(self, hop_frames: int) -> None:
        """Sets the frames between the ends of two windows."""
        self._step = -(-hop_frames // self.trunk.stride) + self._open
        self._whole_strides = hop_frames % self.trunk.stride == 0

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
        """What a window lacks.

        Args:
            end_frame: one past the window's last frame.
            known: final embeddings.
        """
        end = self.last(end_frame)
        first, new = max(0, end - self.trunk.columns), min(known.stop, end)
        if known.start <= first and first + self._left <= new:
            return Stretch(new, end, self._left)
        return Stretch(first, end, 0)

    def typical(self) -> list[Stretch]:
        """What most windows lack, the longest first."""
        first, end = self._left, self._left + self._step
        shorter = [] if self._whole_strides else [Stretch(first, end - 1, first)]
        return [Stretch(first, end, first), *shorter]

    def first(self, end_frame: int) -> list[Stretch]:
        """What the first window of a stream lacks, if it is scored by embeddings."""
        return [self.missing(end_frame, range(0))] if self.last(end_frame) > 0 else []

    def frames(self, stretch: Stretch) -> tuple[int, int]:
        """The first frame that a stretch is computed from, and how many: none for an empty one."""
        first = (stretch.first - stretch.context) * self.trunk.stride
        if stretch.first == stretch.end:
            return first, 0
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
    """What the model gives for windows, (n, n_outputs) float32.

    A stream whose answer is not finite begins anew, so that no state keeps what it was.

    Args:
        tagger: its card has a trunk.
        batch: windows that their buffers serve; those of one stream tagger are in their order.
        sizes: ascending; batches are padded to them.
        past: (size,) embedding of a padded past; `past_embedding` makes it.
    """
    score = _score_once if batch[0].buffer.trunk.once else _score_with_context
    answers = score(tagger, batch, sizes, past)
    for i in np.flatnonzero(~np.isfinite(answers).all(axis=1)).tolist():
        batch[i].buffer.clear()
    return answers


def _score_once(
    tagger: Tagger, batch: Sequence[BufferedWindow], sizes: Sequence[int], past: np.ndarray
) -> np.ndarray:
    """Windows whose embeddings are final as soon as they are computed.

    The rings first get what they lack. They are longer than a window, and the windows are then
    copied from them.
    """
    trunk = batch[0].buffer.trunk
    ends: dict[EmbeddingBuffer, int] = {}
    frames: dict[EmbeddingBuffer, FrameRing] = {}
    firsts: list[int] = []
    counts: list[int] = []
    oldest: dict[EmbeddingBuffer, int] = {}
    for i, (buffer, ring, end_frame) in enumerate(batch):
        end = buffer.last(end_frame)
        first = max(0, end - trunk.columns)
        known = ends.get(buffer, buffer.ring.end)
        continues = buffer.ring.begin <= first <= known
        if buffer in ends and not (continues and end - oldest[buffer] <= buffer.ring.capacity):
            before = _score_once(tagger, batch[:i], sizes, past)
            return np.concatenate([before, _score_once(tagger, batch[i:], sizes, past)])
        if not continues:
            buffer.clear(first)
            known = first
        ends[buffer], frames[buffer] = max(known, end), ring
        oldest.setdefault(buffer, first)
        firsts.append(first)
        counts.append(end - first)
    _extend(tagger, ends, frames, sizes)
    rows = np.zeros((_padded(len(batch), sizes), trunk.columns, trunk.size), np.float32)
    gather([one.buffer.ring for one in batch], firsts, counts, rows[: len(batch)])
    for row, count, one in zip(rows, counts, batch, strict=False):
        if count < trunk.columns:
            _pad(row, count, one.buffer.padding, past)
    return tagger.head(rows)[: len(batch)]


def _extend(
    tagger: Tagger,
    ends: Mapping[EmbeddingBuffer, int],
    frames: Mapping[EmbeddingBuffer, FrameRing],
    sizes: Sequence[int],
) -> None:
    """Computes the embeddings that rings lack up to their ends. Equal numbers share a call."""
    buffers = list(ends)
    trunk = buffers[0].trunk
    lacking = [end - buffer.ring.end for buffer, end in ends.items()]
    for some in _groups([count * trunk.stride for count in lacking], trunk):
        going = [buffers[i] for i in some]
        n, n_frames = _padded(len(some), sizes), lacking[some[0]] * trunk.stride
        rings = [frames[buffer] for buffer in going]
        rows = np.zeros((n, n_frames, rings[0].width), np.float32)
        begins = [buffer.ring.end * trunk.stride for buffer in going]
        gather(rings, begins, n_frames, rows[: len(some)])
        if not trunk.state:
            append_each([buffer.ring for buffer in going], tagger.trunk(rows)[: len(some)])
            continue
        states = np.zeros((n, trunk.state), np.float32)
        for state, buffer in zip(states, going, strict=False):
            state[:] = buffer.state
        found, after = tagger.advance(rows, states)
        append_each([buffer.ring for buffer in going], found[: len(some)])
        for buffer, state in zip(going, after, strict=False):
            buffer.state[:] = state


def _score_with_context(
    tagger: Tagger, batch: Sequence[BufferedWindow], sizes: Sequence[int], past: np.ndarray
) -> np.ndarray:
    """Windows whose newest embeddings are computed anew when more frames are there.

    The rings are only changed if the model succeeds.
    """
    lacking = _stretches(batch)
    trunk = batch[0].buffer.trunk
    computed = _compute(tagger, batch, lacking, sizes)
    known: dict[EmbeddingBuffer, _Known] = {}
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


def _compute(
    tagger: Tagger,
    batch: Sequence[BufferedWindow],
    stretches: Sequence[Stretch],
    sizes: Sequence[int],
) -> list[np.ndarray]:
    """The embeddings of the stretch of each window, (end - first, size). Equal lengths share a
    call."""
    trunk = batch[0].buffer.trunk
    values = [np.empty((0, trunk.size), np.float32)] * len(batch)
    frames = [one.buffer.frames(stretch) for one, stretch in zip(batch, stretches, strict=True)]
    for some in _groups([count for _, count in frames], trunk):
        n, count = _padded(len(some), sizes), frames[some[0]][1]
        rings = [batch[i].ring for i in some]
        rows = np.zeros((n, count, rings[0].width), np.float32)
        gather(rings, [frames[i][0] for i in some], count, rows[: len(some)])
        for i, found in zip(some, tagger.trunk(rows), strict=False):
            values[i] = found[stretches[i].context :]
    return values


def _groups(counts: Sequence[int], trunk: Trunk) -> Iterator[list[int]]:
    """Indices of stretches with equally many frames; those as long as a window alone."""
    groups: dict[int, list[int]] = {}
    for i, count in enumerate(counts):
        if not count:
            continue
        if count >= trunk.columns * trunk.stride:
            yield [i]
        else:
            groups.setdefault(count, []).append(i)
    yield from groups.values()


def cheap_sizes(tagger: Tagger, hop_frames: int, max_batch: int) -> list[int]:
    """Batch sizes for a CPU: 1 and larger powers of two that make a window cheaper and are quick.

    They are measured, and the parts of the model compiled for them. A large batch would keep the
    results of its first windows back.

    Args:
        tagger: its card has a trunk.
        hop_frames: between the ends of two windows.
        max_batch: the largest.
    """
    sizes, best = [1], warm_up_parts(tagger, hop_frames, 1)
    for n in (2**i for i in range(1, max_batch.bit_length())):
        quick = warm_up_parts(tagger, hop_frames, n)
        if quick / n <= _GAIN * best and quick <= _LONGEST_CALL:
            sizes.append(n)
            best = quick / n
        elif quick > _LONGEST_CALL or n >= 8 * sizes[-1]:
            break
    for n in sizes:  # many streams may begin at once
        _warm_up_first(tagger, hop_frames, n)
    return sizes


def warm_up_parts(tagger: Tagger, hop_frames: int, n: int) -> float:
    """Warms trunk and head up for batches of `n` windows; returns the seconds of a batch.

    On a CPU they are compiled for them.
    """
    buffer = EmbeddingBuffer(tagger.card, hop_frames)
    trunk = buffer.trunk
    seconds = _warm_up_trunk(tagger, buffer, buffer.typical(), n)
    return max(seconds) + tagger.compile_part("head", (n, trunk.columns, trunk.size))


def _warm_up_first(tagger: Tagger, hop_frames: int, n: int) -> None:
    """The same for the first windows of `n` streams."""
    card, buffer = tagger.card, EmbeddingBuffer(tagger.card, hop_frames)
    end = -(-min(card.first_frames, card.window_frames) // hop_frames) * hop_frames
    if end < card.window_frames:
        _warm_up_trunk(tagger, buffer, buffer.first(end), n)


def _warm_up_trunk(
    tagger: Tagger, buffer: EmbeddingBuffer, stretches: Sequence[Stretch], n: int
) -> list[float]:
    """The seconds of a call for each stretch of `n` windows."""
    trunk, seconds = buffer.trunk, list[float]()
    for stretch in stretches:
        _, n_frames = buffer.frames(stretch)
        frames = n, n_frames, tagger.card.features.width
        if trunk.state:
            seconds.append(tagger.compile_part("advance", frames, (n, trunk.state)))
        elif n_frames:
            seconds.append(tagger.compile_part("trunk", frames))
    return seconds


def _padded(n: int, sizes: Sequence[int]) -> int:
    return next((size for size in sizes if size >= n), n)
