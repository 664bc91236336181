"""The mood plane: sane places, a slow point, and its way through the daemon."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyNet
from daemon.test_daemon import configuration, down, running, until
from hypothesis import given
from hypothesis import strategies as st
from support.sounds import tone, write_wav

from streamtag.engine.events import MoodUpdated, Reason, StreamClosed, WindowScored
from streamtag.engine.mood import (
    STEP_SECONDS,
    TAG_POSITIONS,
    TIME_CONSTANT_SECONDS,
    MoodPlane,
    mood_of,
    position_of,
    tag_pulls,
)
from streamtag.feed.client.subscriber import Subscriber
from streamtag.feed.messages import Mood as MoodMessage
from streamtag.model.bundle import read_card
from streamtag.train.exporting.bundle import export

TAGS = ("calm", "piano", "quiet", "metal", "loud", "fast", "happy", "sad", "violin")
ON = (0.5,) * len(TAGS)
PIANO = (0.9, 0.9, 0.9, 0.01, 0.01, 0.01, 0.2, 0.2, 0.1)
METAL = (0.01, 0.01, 0.01, 0.9, 0.9, 0.9, 0.1, 0.1, 0.01)
RATE = 1000


def at(probabilities: tuple[float, ...]) -> np.ndarray:
    return mood_of(tag_pulls(TAGS, ON), probabilities)


def test_calm_piano_against_loud_metal() -> None:
    piano, metal = at(PIANO), at(METAL)
    assert piano[1] < -0.4
    assert metal[1] > 0.6
    assert piano[0] > metal[0] + 0.3
    assert min(piano[2], metal[2]) > 0.7


def test_happy_is_right_of_sad() -> None:
    none = [0.01] * len(TAGS)
    happy, sad = list(none), list(none)
    happy[6], sad[7] = 0.95, 0.95
    assert at(tuple(happy))[0] > 0.3
    assert at(tuple(sad))[0] < -0.3


def test_where_nothing_is_certain_the_point_rests() -> None:
    valence, arousal, certainty = at((0.01,) * len(TAGS))
    assert abs(valence) < 0.01
    assert abs(arousal) < 0.01
    assert certainty < 0.01


def test_a_tag_pulls_as_far_as_it_is_above_its_own_threshold() -> None:
    low, high = (mood_of(tag_pulls(["happy"], [on]), [0.3]) for on in (0.1, 0.6))
    assert low[0] > 0.4 > 0.1 > high[0] > 0


def test_tags_of_any_spelling_are_known_and_others_pull_nowhere() -> None:
    assert position_of("mood/theme---happy") == TAG_POSITIONS["happy"]
    assert position_of("Happy") == TAG_POSITIONS["happy"]
    assert position_of("violin") is None
    assert mood_of(tag_pulls(["violin"], [0.5]), [0.99]).tolist() == [0, 0, 0]


@given(st.lists(st.floats(0, 1), min_size=9, max_size=9), st.floats(0.001, 0.999))
def test_it_never_leaves_the_plane(probabilities: list[float], on: float) -> None:
    valence, arousal, certainty = mood_of(tag_pulls(TAGS, [on] * 9), probabilities)
    assert -1 <= valence <= 1
    assert -1 <= arousal <= 1
    assert 0 <= certainty < 1


def test_places_are_on_the_plane() -> None:
    assert all(-1 <= x <= 1 for place in TAG_POSITIONS.values() for x in place)
    assert all(tag == tag.lower() for tag in TAG_POSITIONS)


def plane(folder: Path) -> MoodPlane:
    path = bundle(folder)
    card = read_card(path)
    fields = {"tags": TAGS, "on_thresholds": ON, "off_thresholds": ON, "golden": None}
    return MoodPlane(dataclasses.replace(card, **fields))


def bundle(folder: Path) -> Path:
    """The bundle of the other tests with tags that say something of moods."""
    from streamtag.audio.feature_config import FeatureConfig
    from streamtag.model.card import Card, PastPadding

    card = Card(
        name="toy-1", net="ToyNet", features=FeatureConfig(n_mels=32), window_frames=100,
        hop_frames=25, first_frames=25, padding=PastPadding.SILENCE,
        tags=("calm", "energetic", "never"), on_thresholds=(0.5,) * 3, off_thresholds=(0.4,) * 3,
    )  # fmt: skip
    export(ToyNet().eval(), card, folder / "moods.pt")
    return folder / "moods.pt"


def step(moods: MoodPlane, scored: WindowScored) -> MoodUpdated | None:
    return moods.update(scored, moods.moods([scored])[0], RATE)


def scores(end: int, smoothed: tuple[float, ...], stream: str = "a") -> WindowScored:
    return WindowScored(stream, "m", max(0, end - 3000), end, smoothed, smoothed, False)


def test_it_moves_slowly_and_is_reported_once_a_second(tmp_path: Path) -> None:
    moods = plane(tmp_path)
    first = step(moods, scores(1000, PIANO))
    assert isinstance(first, MoodUpdated)
    assert (first.stream, first.tagger, first.at) == ("a", "m", 1000)
    assert first.arousal == pytest.approx(at(PIANO)[1])
    told = [step(moods, scores(1000 + 250 * i, METAL)) for i in range(1, 121)]
    heard = [m for m in told if m is not None]
    assert [m.at for m in heard] == list(range(2000, 31001, round(STEP_SECONDS * RATE)))
    way = at(METAL)[1] - at(PIANO)[1]
    for m in heard:
        left = np.exp(-(m.at - 1000) / RATE / TIME_CONSTANT_SECONDS)
        assert m.arousal == pytest.approx(at(METAL)[1] - left * way)
    assert heard[-1].arousal > 0.6


def test_streams_do_not_share_it_and_a_new_one_begins_anew(tmp_path: Path) -> None:
    moods = plane(tmp_path)
    step(moods, scores(1000, PIANO))
    other = step(moods, scores(1000, METAL, "b"))
    assert other is not None
    assert other.arousal == pytest.approx(at(METAL)[1])
    moods.end_stream(StreamClosed("a", 1000, Reason.STREAM_CLOSED))
    again = step(moods, scores(500, METAL))
    assert again is not None
    assert again.arousal == pytest.approx(at(METAL)[1])


def test_through_the_daemon(tmp_path: Path) -> None:
    low, high = tone(8, 22050, 200, 0.4), tone(8, 22050, 3000, 0.4)
    song = write_wav(tmp_path / "song.wav", np.concatenate([low, high]), 22050)
    config = configuration(tmp_path, bundle(tmp_path), f'a.source = "file:{song}"')
    with running(config) as process, Subscriber(process.address, mood=True) as feed:
        messages = until(feed, down(1))
    found = [m for m in messages if isinstance(m, MoodMessage)]
    assert [m.seq for m in found] == list(range(1, len(found) + 1))
    assert len(found) == pytest.approx(16, abs=1)
    assert {m.topic for m in found} == {"mood/a/"}
    assert min(m.arousal for m in found if m.t < 8.1) < -0.2
    assert found[-1].arousal > 0.2


def test_a_model_without_moods_says_nothing(tmp_path: Path, toy_bundle: Path) -> None:
    song = write_wav(tmp_path / "song.wav", tone(3, 22050, 200), 22050)
    config = configuration(tmp_path, toy_bundle, f'a.source = "file:{song}"')
    with running(config) as process, Subscriber(process.address, mood=True) as feed:
        messages = until(feed, down(1))
    assert not [m for m in messages if isinstance(m, MoodMessage)]


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    song = write_wav(tmp_path / "song.wav", tone(3, 22050, 200), 22050)
    config = configuration(
        tmp_path, bundle(tmp_path), f'a.source = "file:{song}"', feed="mood = false"
    )
    with running(config) as process, Subscriber(process.address, mood=True) as feed:
        messages = until(feed, down(1))
    assert not [m for m in messages if isinstance(m, MoodMessage)]
