import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import FEATURES, card, music, tagger

from streamtag.audio.front_end import FrontEnd
from streamtag.engine.batcher import Batcher, fixed_sizes
from streamtag.engine.counters import Counters, dotted
from streamtag.engine.engine import Engine
from streamtag.engine.settings import TaggerSettings
from streamtag.engine.stream_tagger import PendingWindow, StreamTagger
from streamtag.model.bundle import silence_frame
from streamtag.model.card import PastPadding
from streamtag.model.tagger import Tagger


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return tagger(tmp_path_factory.mktemp("taggers"))


def batcher(toy: Tagger, sizes: list[int] | None, max_wait: float = 1.0) -> Batcher:
    return Batcher("toy", toy, 64, max_wait, sizes, Counters())


def due(
    n_frames: int, due_at: list[float], seed: int = 0, capacity: int = 500
) -> list[PendingWindow]:
    """Windows of one stream tagger, at most as many as there are times."""
    front_end = FrontEnd(FEATURES, capacity)
    front_end.push(music((n_frames * 80 + 200) / 8000, 8000, seed))
    some = StreamTagger(f"s{seed}", "toy", card(), TaggerSettings(), 8000)
    dues = some.due_windows(front_end.ring, 0, 10**6, 0.0, last=False)
    return [
        PendingWindow(d.stream_tagger, d.ring, d.window, d.start, d.end, at)
        for d, at in zip(dues, due_at, strict=False)
    ]


@pytest.mark.parametrize(
    ("n", "device", "sizes"),
    [
        (64, "cpu", [1]),
        (1, "cuda", [1]),
        (2, "cuda", [1, 2]),
        (64, "cuda", [1, 2, 4, 8, 16, 32, 64]),
        (48, "cuda:1", [1, 2, 4, 8, 16, 32, 48]),
    ],
)
def test_sizes_are_few_and_reach_the_maximum(n: int, device: str, sizes: list[int]) -> None:
    assert fixed_sizes(n, device) == sizes


def test_the_deadline_is_that_of_the_oldest_or_now_if_full(toy: Tagger) -> None:
    some = batcher(toy, [1, 2, 4], max_wait=2.0)
    assert some.deadline() is None
    dues = due(70, [5.0, 6.0, 7.0, 8.0])
    for k, expected in enumerate([7.0, 7.0, 7.0, 5.0]):
        some.add(dues[k])
        assert some.deadline() == expected
    assert some.next_batch() == dues[:4]
    assert some.deadline() is None
    assert len(some) == 0


def test_streams_take_turns_with_their_oldest_windows(toy: Tagger) -> None:
    some = batcher(toy, [3])
    a, b = due(70, [0.0] * 4, seed=1), due(70, [0.0] * 2, seed=2)
    for one in (*a, *b):
        some.add(one)
    assert some.next_batch() == [a[0], b[0], a[1]]
    c = due(70, [0.0], seed=3)
    some.add(c[0])
    assert some.next_batch() == [b[1], a[2], c[0]]
    assert some.next_batch() == [a[3]]
    assert some.next_batch() == []


def test_overwritten_windows_are_taken_out(toy: Tagger) -> None:
    some = batcher(toy, [8])
    front_end = FrontEnd(FEATURES, 80)
    front_end.push(music(1.0))
    lost = StreamTagger("x", "toy", card(), TaggerSettings(), 8000)
    dues = lost.due_windows(front_end.ring, 0, 8000, 0.0, last=False)
    for one in dues:
        some.add(one)
    other = due(50, [0.0], seed=1)
    some.add(other[0])
    begin = front_end.ring.begin
    assert begin > 0
    gone = some.drop_overwritten(lost)
    assert gone == [d for d in dues if d.window.first < begin]
    assert gone
    assert some.drop_overwritten(lost) == []
    front_end.push(music(1.0))
    assert some.drop_overwritten(lost) == [d for d in dues if d not in gone]
    assert some.next_batch() == other


@pytest.mark.parametrize("padding", list(PastPadding))
@pytest.mark.parametrize("sizes", [[1], [2, 8], [16]])
def test_every_row_is_scored_as_if_alone(
    tmp_path: Path, padding: PastPadding, sizes: list[int]
) -> None:
    """Padded past, padded batch: a row holds its own window and nothing of its neighbours."""
    toy = tagger(tmp_path, padding=padding)
    dues = [d for seed, n in ((1, 20), (2, 70), (3, 45)) for d in due(n, [0.0] * 9, seed)]
    some = batcher(toy, sizes)
    toy.staging(16)[:] = 1e6  # rubbish of earlier batches
    for first in range(0, len(dues), sizes[-1]):
        part = dues[first : first + sizes[-1]]
        for one, answer in zip(part, some.score(part), strict=True):
            heard = one.ring.copy(one.window.first, one.window.count)
            past = {
                PastPadding.SILENCE: np.tile(silence_frame(FEATURES), (50, 1)),
                PastPadding.ZERO: np.zeros((50, 8), np.float32),
                PastPadding.MINIMUM: np.full((50, 8), heard.min()),
                PastPadding.WRAP: np.concatenate([heard] * 3),
            }[padding]
            window = np.ascontiguousarray(np.concatenate([past, heard])[-50:][None])
            assert isinstance(answer, np.ndarray)
            assert np.abs(answer - toy(window)[0]).max() < 1e-6


def test_answers_stay_when_the_next_batch_comes(toy: Tagger) -> None:
    some = batcher(toy, [4])
    first, second = due(70, [0.0] * 4, 1), due(70, [0.0] * 4, 2)
    answers = some.score(first)
    kept = [np.array(a) for a in answers]
    some.score(second)
    assert all(np.array_equal(a, k) for a, k in zip(answers, kept, strict=True))


class Rendezvous:
    """A model on a CPU that answers when as many calls are running as there are threads."""

    device, cpu_seconds = "cpu", 0.0

    def __init__(self, toy: Tagger, threads: int) -> None:
        self.card, self.staging, self._toy = toy.card, toy.staging, toy
        self._barrier = threading.Barrier(threads)
        self.torch_threads: set[int] = set()

    def warm_up(self, sizes: list[int]) -> None:
        """Nothing to do."""

    def outputs(self, windows: np.ndarray) -> np.ndarray:
        self._barrier.wait(30)
        self.torch_threads.add(torch.get_num_threads())
        return self._toy(windows)


def test_threads_score_windows_side_by_side_and_keep_their_order(toy: Tagger) -> None:
    model = Rendezvous(toy, 3)
    some = Engine({}, threads=3).prepare("toy", model)  # type: ignore[arg-type]
    windows = due(70, [0.0] * 5)
    for one in windows:
        some.add(one)
    batch = some.next_batch()
    assert batch == windows[:3]
    expected = batcher(toy, [1])
    for answer, one in zip(some.score(batch), batch, strict=True):
        (alone,) = expected.score([one])
        assert np.array_equal(answer, alone)
    assert model.torch_threads == {1}


def test_discarded_windows_are_gone_and_leave_the_others_their_turns(toy: Tagger) -> None:
    some = batcher(toy, [8])
    a, b = due(70, [1.0] * 3, seed=1), due(70, [2.0] * 2, seed=2)
    for one in (*a, *b):
        some.add(one)
    assert some.oldest(a[0].stream_tagger) is a[0]
    some.discard(a[0].stream_tagger)
    some.discard(a[0].stream_tagger)
    assert some.oldest(a[0].stream_tagger) is None
    assert (len(some), some.deadline()) == (2, 3.0)
    assert some.next_batch() == b


def test_windows_and_batches_are_counted(toy: Tagger) -> None:
    counters = Counters()
    some = Batcher("toy", toy, 8, 1.0, [8], counters)
    before = toy.cpu_seconds
    some.score(due(70, [0.0] * 5))
    some.score(due(70, [0.0] * 2))
    model = pytest.approx(toy.cpu_seconds - before)
    assert toy.cpu_seconds > before
    assert dotted(counters.snapshot()) == {
        "toy.batches": 2, "toy.model_cpu_seconds": model, "toy.windows": 7
    }  # fmt: skip
