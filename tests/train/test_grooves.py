"""Arrangements are in their style, and their truth is what was written."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from train.test_known import TAGS, fluidsynth

from streamtag.train.synthesis import grooves
from streamtag.train.synthesis.grooves import CHORDS, STYLES, arrangement, groove_items


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_whole(name: str) -> None:
    style = STYLES[name]
    assert style.genre in TAGS
    patterns = [*style.bass, *style.comping, *(p for some in style.drums.values() for p in some)]
    assert len({len(pattern) for pattern in patterns}) == 1  # one grid
    assert all(re.fullmatch(r"[xo?.]+", p) for some in style.drums.values() for p in some)
    assert all(re.fullmatch(r"[r358w.-]+", p) for p in style.bass)
    assert all(re.fullmatch(r"[xXa.]+", p) for p in style.comping)
    assert all(len(text.split()) in (2, 4, 12) for text in style.chords)


@pytest.mark.parametrize(
    ("text", "root", "kind"),
    [("0", 0, ""), ("10maj7", 10, "maj7"), ("57", 5, "7"), ("105", 10, "5"), ("9m", 9, "m"),
     ("7", 7, ""), ("09", 0, "9")],
)  # fmt: skip
def test_chords_are_read(text: str, root: int, kind: str) -> None:
    assert grooves._chord(text) == (root, CHORDS[kind])


def test_a_chord_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"chord: expected semitones and kind.*got 'Cm'"):
        grooves._chord("Cm")


@pytest.mark.parametrize("name", STYLES)
def test_an_arrangement_keeps_time_and_range(name: str) -> None:
    style = STYLES[name]
    parts = arrangement(style, 12.0, rng())
    assert parts == arrangement(style, 12.0, rng())
    assert parts != arrangement(style, 12.0, rng(1))
    assert sum(drums for _, drums, _ in parts) == 1
    assert 1 <= sum(not drums for _, drums, _ in parts) <= 4
    notes = [note for _, _, some in parts for note in some]
    assert 9 < max(n.start for n in notes) < 16
    assert all(0 <= n.start < n.end and 25 <= n.velocity <= 127 for n in notes)
    assert all(28 <= n.pitch <= 108 for _, drums, some in parts if not drums for n in some)


def test_a_house_has_four_on_the_floor() -> None:
    (_, _, drums), *_ = arrangement(STYLES["house"], 16.0, rng())
    kicks = np.diff([n.start for n in drums if n.pitch == grooves.KICK])
    assert np.ptp(kicks) < 1e-6
    assert 118 <= 60 / kicks[0] <= 128


@pytest.mark.skipif(not fluidsynth(), reason="no fluidsynth with TimGM6mb")
def test_pieces_are_rendered_once_and_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grooves, "STYLES", {"jazz": STYLES["jazz"]})
    monkeypatch.setattr(grooves, "FONTS", dict.fromkeys(grooves.FONTS, ("TimGM6mb",)))
    monkeypatch.setattr(grooves, "SECONDS", 3.0)
    (known,) = groove_items(tmp_path, 1, lambda *_: None)
    written = known.item.path.stat().st_mtime_ns
    assert (known.tags["jazz"], known.tags["drums"], known.tags["bass"]) == (1, 1, 1)
    assert known.tags["singing"] == 0
    samples, rate = soundfile.read(known.item.path)
    assert 2 < len(samples) / rate < 9
    assert np.abs(samples[: 2 * rate]).max() > 0.01
    first, second = groove_items(tmp_path, 2, lambda *_: None)
    assert first == known
    assert first.item.path.stat().st_mtime_ns == written
    assert second.item.path != first.item.path


def test_the_splits_have_soundfonts_of_their_own() -> None:
    assert not set(grooves.FONTS["train"]) & set(grooves.FONTS["test"])
    splits = [grooves._split(i) for i in range(16)]
    assert (splits.count("validation"), splits.count("test")) == (2, 2)
