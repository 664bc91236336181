import numpy as np
import pytest
from support.toy import FEATURES, card, music

from streamtag import _core
from streamtag._core import FrameRing
from streamtag.audio.block import Block
from streamtag.audio.feature_config import FeatureConfig
from streamtag.engine.events import Reason, TagEnded, TagStarted, WindowScored
from streamtag.engine.settings import LagPolicy, TaggerSettings
from streamtag.engine.stream import Stream, StreamFrontEnd
from streamtag.engine.stream_tagger import PendingWindow, StreamTagger, update_all
from streamtag.errors import StreamError
from streamtag.model.card import Settling

RATE = 44100


def stream_tagger(rate: int = 8000, **changes: object) -> StreamTagger:
    plain = {"smoothing_seconds": 0.0, "min_on_seconds": 0.0, "min_off_seconds": 0.0}
    return StreamTagger("x", "toy", card(**{**plain, **changes}), TaggerSettings(), rate)


def ring(n_frames: int) -> FrameRing:
    filled = FrameRing(1000, FEATURES.width)
    filled.push(np.zeros((n_frames, FEATURES.width), np.float32))
    return filled


def results(dues: list[PendingWindow], *values: float) -> list[object]:
    rows = [np.full(3, value, np.float32) for value in values]
    return [e for events in update_all(list(zip(dues, rows, strict=True))) for e in events]


def test_windows_are_told_in_samples_of_the_stream() -> None:
    dues = stream_tagger(RATE).due_windows(ring(70), 1000, 10**6, 0.5, last=False)
    assert [d.window.end for d in dues] == [20, 30, 40, 50, 60, 70]
    assert [d.start for d in dues] == [1000] * 4 + [1000 + 4410, 1000 + 8820]
    for due in dues:  # 8000 Hz, hop 80, 256 samples per frame
        assert due.end == 1000 + -(-((due.window.end - 1) * 80 + 256) * RATE // 8000)
    assert {d.due_at for d in dues} == {0.5}


def test_a_stream_switches_by_its_cards_thresholds_of_settled_tags() -> None:
    """One window each tenth of a second; the on threshold is 0.55, and 0.8 after 0.3 s."""
    later = Settling(change=0.9, seconds=0.3, on_thresholds=(0.8,) * 3, off_thresholds=(0.1,) * 3)
    for first, values in ((0, (0.7, 0.7)), (5, (0.1, 0.1, 0.1, 0.1, 0.7, 0.9))):
        some = stream_tagger(settling=later)
        dues = some.due_windows(ring(70), 0, 10**6, 0.0, last=False)[: len(values)]
        on = [e for e in results(dues, *values) if isinstance(e, TagStarted)]
        assert {e.decided for e in on} == {dues[first].end}


def test_a_stream_holds_tags_for_as_long_as_its_card_says() -> None:
    """One window each tenth of a second; the on threshold is 0.55, the settled one 0.8."""
    values = (0.7, 0.7, 0.7, 0.1, 0.7, 0.7, 0.7)
    for held, first in (
        ({}, [0, 4]),
        ({"start_seconds": 0.15}, [2, 4]),
        ({"again_seconds": 0.25}, [0, 6]),
    ):
        later = Settling(
            change=0.001, seconds=9.0, on_thresholds=(0.8,) * 3, off_thresholds=(0.1,) * 3, **held
        )
        some = stream_tagger(settling=later)
        dues = some.due_windows(ring(80), 0, 10**6, 0.0, last=False)[: len(values)]
        on = [e.decided for e in results(dues, *values) if isinstance(e, TagStarted)]
        assert sorted(set(on)) == [dues[k].end for k in first]


def test_windows_end_where_the_audio_ends() -> None:
    (due,) = stream_tagger().due_windows(ring(3), 500, 890, 0.0, last=True)
    assert (due.start, due.end) == (500, 890)


def test_a_tag_is_dated_to_the_middle_of_what_was_heard() -> None:
    some = stream_tagger()
    dues = some.due_windows(ring(70), 0, 10**6, 0.0, last=False)
    events = results(dues, 0.1, 0.9, 0.9, 0.9, 0.9, 0.1)
    on = [e for e in events if isinstance(e, TagStarted)]
    off = [e for e in events if isinstance(e, TagEnded)]
    assert len(on) == len(off) == 3
    assert (on[0].at, on[0].decided) == (dues[1].end // 2, dues[1].end)
    assert on[0].provisional
    assert on[0].probability == pytest.approx(0.9)
    assert (off[0].at, off[0].decided) == ((dues[5].start + dues[5].end) // 2, dues[5].end)
    assert (off[0].since, off[0].reason) == (on[0].at, Reason.BELOW_THRESHOLD)
    assert some.close(9000, Reason.SHUTDOWN) == []


def test_closing_ends_what_is_on() -> None:
    some = stream_tagger()
    results(some.due_windows(ring(20), 0, 10**6, 0.0, last=False), 0.9)
    ended = some.close(9000, Reason.STREAM_LOST)
    assert [(e.tag, e.at, e.decided, e.reason) for e in ended if isinstance(e, TagEnded)] == [
        (tag, 9000, 9000, "stream_lost") for tag in ("low", "high", "loud")
    ]


def test_after_begin_like_new_but_what_is_on_stays_on() -> None:
    some = stream_tagger(smoothing_seconds=1.0)
    first = results(some.due_windows(ring(30), 0, 10**6, 0.0, last=False), 0.9, 0.1)
    some.restart()
    again = results(some.due_windows(ring(30), 0, 10**6, 0.0, last=False), 0.9, 0.1)
    scores = [e for e in first if isinstance(e, WindowScored)]
    assert scores == [e for e in again if isinstance(e, WindowScored)]
    assert sum(isinstance(e, TagStarted) for e in first) == 3
    assert not [e for e in again if isinstance(e, TagStarted | TagEnded)]


def test_a_ring_holds_the_longest_window_and_the_slack() -> None:
    some = [stream_tagger(window_frames=50), stream_tagger(window_frames=200)]
    assert StreamFrontEnd(some, 3.0).ring.capacity == 200 + 300
    assert StreamFrontEnd(some, 0.0).ring.capacity >= 200 + 2 * 10


def test_front_ends_that_begin_together_see_the_same_samples() -> None:
    other = FeatureConfig(sample_rate=8000, n_fft=512, hop=80, n_mels=8)
    third = FeatureConfig(sample_rate=16000)
    some = [stream_tagger(RATE, features=features) for features in (FEATURES, other, third)]
    stream = Stream("x", RATE, 0, some, LagPolicy.WAIT, 1.0)
    stream.append(Block(music(1, RATE), 0, RATE))
    assert _core.allow([stream.audio], 10.0) == ([0], False)
    going = [0]
    while going:
        *_, going = _core.advance([stream.audio])
    before = [front_end.position for front_end in stream.front_ends]
    assert before[0] == before[1]
    assert before[2] > 1.9 * before[0]
    _core.flush([stream.audio])
    assert [front_end.position for front_end in stream.front_ends] == [8000, 8000, 16000]


def test_blocks_that_cannot_follow_are_refused() -> None:
    stream = Stream("x", 8000, 0, [stream_tagger()], LagPolicy.WAIT, 1.0)
    block = Block(np.zeros(10, np.float32), 90, 8000)
    stream.check(block, 90)
    stream.check(block, 0)
    with pytest.raises(StreamError, match="sample 91 or later, got one at 90"):
        stream.check(block, 91)


def test_what_was_about_to_change_before_a_gap_begins_to_count_anew() -> None:
    some = stream_tagger(min_on_seconds=0.15)
    assert not [
        e
        for e in results(some.due_windows(ring(30), 0, 10**6, 0.0, last=False), 0.9, 0.9)
        if isinstance(e, TagStarted)
    ]
    some.restart()
    dues = some.due_windows(ring(50), 90000, 10**6, 0.0, last=False)
    on = [e for e in results(dues, 0.9, 0.9, 0.9, 0.9) if isinstance(e, TagStarted)]
    assert {(e.at, e.decided) for e in on} == {((90000 + dues[0].end) // 2, dues[2].end)}
