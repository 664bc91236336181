"""One channel silent, or both the same: told once, at the right sample, in blocks of any size."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chain import daemon, receive_until
from support.faulty_server import CODECS, OK, Connection, Server, encoded, sends
from support.peers import wait_until
from support.ports import blocks_of
from support.sounds import tone

from streamtag.audio.block import Block
from streamtag.audio.level import LevelSettings
from streamtag.audio.stereo import ChannelChange, ChannelMeter, ChannelState, channel_changes
from streamtag.feed.messages import Channels as ChannelsMessage
from streamtag.feed.messages import Message
from streamtag.sources.loss_causes import SourceLost
from streamtag.sources.pcm import PcmFormat, TcpSource
from streamtag.sources.source import ConnectionLimits
from streamtag.sources.url import UrlSource

RATE = 1000
WATCH = LevelSettings(channels_seconds=2.0)
PATIENT = ConnectionLimits(connect=60, stall=60)


def noise(seconds: float, seed: int) -> np.ndarray:
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE))
    return samples.astype(np.float32)


def part(kind: str, seconds: float, seed: int = 0) -> np.ndarray:
    """(n, 2) samples that are like this."""
    left, right = noise(seconds, 2 * seed), noise(seconds, 2 * seed + 1)
    nothing = np.zeros_like(left)
    pairs = {
        "stereo": (left, right),
        "left_silent": (nothing, right),
        "right_silent": (left, nothing + np.float32(0.2)),  # DC is no sound
        "mono": (left, left * np.float32(1.001)),
        "silent": (nothing, nothing),
        "opposite": (left, -left),
    }
    return np.stack(pairs[kind], 1)


def changes(parts: list[np.ndarray], sizes: list[int], start: int = 0) -> list[ChannelChange]:
    """What is told of the parts, one after the other, in blocks of these sizes."""
    sides, meter, at, found = (
        np.concatenate(parts),
        ChannelMeter(RATE, start, WATCH),
        0,
        list[ChannelChange](),
    )
    while at < len(sides):
        for size in sizes:
            found += channel_changes(meter.push(start + at, sides[at : at + size]))
            at += len(sides[at : at + size])
    return found


@pytest.mark.parametrize("kind", ["left_silent", "right_silent", "mono"])
def test_a_fault_is_told_when_it_has_lasted_and_its_end_too(kind: str) -> None:
    parts = [part("stereo", 3), part(kind, 5, 1), part("stereo", 3, 2)]
    assert changes(parts, [100]) == [
        ChannelChange(ChannelState(kind), 3000, 5000),
        ChannelChange(ChannelState.STEREO, 8000, 9000),
    ]


@pytest.mark.parametrize("kind", ["stereo", "silent", "opposite"])
def test_what_is_no_fault(kind: str) -> None:
    assert changes([part("stereo", 3), part(kind, 9, 1), part("stereo", 3, 2)], [100]) == []


def test_what_does_not_last_is_not_told() -> None:
    short = [part("left_silent", 1.9), part("stereo", 0.1), part("left_silent", 1.9)]
    assert changes([part("stereo", 1), *short], [100]) == []
    blink = [part("mono", 3), part("stereo", 0.9), part("mono", 3)]
    assert changes(blink, [100]) == [ChannelChange(ChannelState.MONO, 0, 2000)]


def test_silence_says_nothing_about_channels() -> None:
    parts = [part("mono", 1), part("silent", 9), part("mono", 2, 1)]
    assert changes(parts, [100]) == [ChannelChange(ChannelState.MONO, 0, 11_000)]


def test_from_one_fault_to_another() -> None:
    found = changes([part("left_silent", 3), part("right_silent", 3)], [100])
    assert [turn.state for turn in found] == ["left_silent", "right_silent"]


def test_after_a_gap_cells_are_counted_anew_and_what_was_told_holds() -> None:
    meter = ChannelMeter(RATE, 0, WATCH)
    assert meter.push(0, part("mono", 3))
    assert meter.push(5050, part("mono", 3)) == []
    assert channel_changes(meter.push(9033, part("stereo", 2))) == [
        ChannelChange(ChannelState.STEREO, 9033, 10_033)
    ]


@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from(["stereo", "left_silent", "right_silent", "mono", "silent"]),
            st.floats(0.05, 4),
        ),
        min_size=1, max_size=5,
    ),
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=4),
    start=st.integers(0, 2**40),
)  # fmt: skip
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_cutting_gives_the_same(
    kinds: list[tuple[str, float]], sizes: list[int], start: int
) -> None:
    parts = [part(kind, seconds, i) for i, (kind, seconds) in enumerate(kinds)]
    whole = sum(map(len, parts))
    assert changes(parts, sizes, start) == changes(parts, [whole], start)


def test_a_source_that_has_one_channel_from_now_on_has_no_fault() -> None:
    meter = ChannelMeter(RATE, 0, WATCH)
    assert meter.push(0, None) == []
    assert meter.push(0, part("left_silent", 3))
    assert channel_changes(meter.push(3000, None)) == [
        ChannelChange(ChannelState.STEREO, 3000, 3000)
    ]
    assert meter.push(4000, None) == []
    assert channel_changes(meter.push(5000, part("left_silent", 2))) == [
        ChannelChange(ChannelState.LEFT_SILENT, 5000, 7000)
    ]


# From the sources


def received(
    source: UrlSource, heard: threading.Event | None = None
) -> tuple[np.ndarray, list[np.ndarray | None], list[int]]:
    """Samples, the sides of each block, and where something is missing. `heard` is set at the
    first ones."""
    parts, both, holes, end = [np.zeros(0, np.float32)], list[np.ndarray | None](), [0], 0
    try:
        for item in blocks_of(source):
            if isinstance(item, Block):
                assert item.sides is None or item.sides.shape == (len(item.samples), 2)
                holes += [end] if item.start != end else []
                parts.append(item.samples)
                both.append(item.sides)
                end = item.end
                if heard:
                    heard.set()
    except SourceLost:
        pass
    finally:
        source.close()
    return np.concatenate(parts), both, holes[1:]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("channels", [1, 2])
def test_who_is_watched_gives_the_same_samples_and_both_channels(
    tmp_path: Path, codec: str, channels: int
) -> None:
    one, other = tone(1.5, 48000, 440, 0.4), tone(1.5, 48000, 1000, 0.2)
    samples = np.stack([one, other], 1) if channels == 2 else one
    with Server(sends(OK, encoded(tmp_path, samples, 48000, codec))) as server:
        plain, none, _ = received(UrlSource(server.url, rate=16000, limits=PATIENT))
        mixed, both, _ = received(UrlSource(server.url, rate=16000, limits=PATIENT, watch=True))
    assert all(sides is None for sides in none)
    np.testing.assert_array_equal(mixed, plain)
    watched = [sides is not None for sides in both]
    if channels == 1:
        assert not any(watched)
    else:
        assert all(watched)
        assert sum(watched) >= 13
        left, right = np.concatenate([s for s in both if s is not None])[4000:20000].T
        assert np.argmax(np.abs(np.fft.rfft(left))) == 440
        assert np.argmax(np.abs(np.fft.rfft(right))) == 1000


def test_a_seam_of_who_is_watched(tmp_path: Path) -> None:
    wide = encoded(tmp_path, np.stack([tone(1.5, 44100, 440, 0.4)] * 2, 1), 44100, "aac")
    narrow = encoded(tmp_path, tone(1.5, 22050, 440, 0.4), 22050, "aac")
    half, watching, heard = len(narrow) // 2, list[UrlSource](), threading.Event()

    def answer(connection: Connection) -> None:
        connection.send(OK + wide)
        if watching:  # the log and the audio come through two pipes
            assert heard.wait(60)
        connection.send(narrow[:half])
        if watching:
            wait_until(lambda: watching[0]._log.layout == "mono", "the log does not say mono")
        connection.send(narrow[half:])

    with Server(answer) as server:
        plain, _, expected = received(UrlSource(server.url, rate=16000, limits=PATIENT))
        watching += [UrlSource(server.url, rate=16000, limits=PATIENT, watch=True)]
        mixed, both, holes = received(watching[0], heard)
    assert holes == expected
    np.testing.assert_array_equal(mixed, plain)
    assert both[0] is not None
    assert both[-1] is None  # it is mono by then


@pytest.mark.parametrize(("channels", "watched"), [(1, False), (2, True), (6, False)])
def test_raw_samples(channels: int, watched: bool) -> None:
    frames = np.arange(channels * 800, dtype="<i2")
    with Server(sends(frames.tobytes(), freeze=True), http=False) as server:
        url = f"tcp://127.0.0.1:{server.port}"
        source = TcpSource(url, PcmFormat.S16LE, 8000, channels, limits=PATIENT, watch=True)
        blocks = blocks_of(source)
        block = next(blocks)
        source.close()
        assert list(blocks) == []
    assert (block.sides is not None) == watched
    if block.sides is not None:
        np.testing.assert_array_equal(block.sides, frames.reshape(-1, 2) / np.float32(32768))


def test_on_the_feed(tmp_path: Path, toy_bundle: Path) -> None:
    """A cable is pulled, and put in again; a neighbour that is not watched says nothing."""
    low, high = tone(6, 8000, 200, 0.4), tone(6, 8000, 3000, 0.1)
    pulled = np.stack([low, np.concatenate([high[:8000], 0 * high[:16000], high[24000:]])], 1)
    raw = (pulled * 32767).astype("<i2").tobytes()

    def answer(connection: Connection) -> None:
        connection.send(raw)
        connection.freeze()

    with Server(answer, http=False) as server:
        keys = f'source = "tcp://127.0.0.1:{server.port}", rate = 8000, channels = 2'
        streams = f"a = {{ {keys}, level.channels_seconds = 0.5 }}\nb = {{ {keys} }}\n"

        def enough(messages: list[Message]) -> bool:
            return sum(isinstance(m, ChannelsMessage) for m in messages) == 2

        with daemon(tmp_path, toy_bundle, streams) as feed:
            messages = receive_until(feed, enough)
    found = [m for m in messages if isinstance(m, ChannelsMessage)]
    assert [(m.stream, m.t, m.balance, m.decided) for m in found] == [
        ("a", 1.0, "right_silent", 1.5),
        ("a", 3.0, "stereo", 4.0),
    ]
    assert "right_silent" in str(found[0])
