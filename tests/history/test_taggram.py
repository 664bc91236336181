"""The picture of a recording: what is in it, and where."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from streamtag.errors import StreamtagError
from streamtag.history.taggram import ACCENT, MAX_TAGS, TagSpan, draw, importance, minutes

TAGS = ("quiet", "short", "long", "likely")
TIMES = np.arange(0.5, 60, 0.5)
VALUES = np.tile([0.01, 0.2, 0.3, 0.6], (len(TIMES), 1))
SPANS = (TagSpan("short", 10, 12), TagSpan("long", 30, 45), TagSpan("short", 50, 51))


def test_tags_are_ordered_by_time_on_then_by_probability() -> None:
    assert [TAGS[i] for i in importance(TAGS, VALUES, SPANS)] == [
        "long",
        "short",
        "likely",
        "quiet",
    ]
    assert importance(TAGS, VALUES[:0], ()) == [0, 1, 2, 3]


def orange(path: Path) -> np.ndarray:
    """Which pixels are part of a bar."""
    picture = imread(path)[:, :, :3]
    colour = np.array([int(ACCENT[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.abs(picture - colour).max(axis=2) < 0.02


def test_bars_stand_where_tags_were_on(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    draw(path, "song · model", TAGS, TIMES, VALUES, SPANS, 60.0)
    bars = orange(path)
    rows = np.flatnonzero(bars.any(axis=1))
    upper, lower = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    long = np.flatnonzero(bars[upper].any(axis=0))
    short = np.flatnonzero(bars[lower].any(axis=0))
    per_second = (long[-1] - long[0] + 1) / 15
    zero = long[0] - 30 * per_second
    assert short[0] == pytest.approx(zero + 10 * per_second, abs=2)
    assert short[-1] == pytest.approx(zero + 51 * per_second, abs=2)
    assert len(short) == pytest.approx(3 * per_second, abs=4)


@pytest.mark.parametrize("windows", [0, 1, 2])
def test_pictures_of_almost_nothing(tmp_path: Path, windows: int) -> None:
    path = tmp_path / "a.png"
    draw(path, "t", TAGS, TIMES[:windows], VALUES[:windows], (), 0.0)
    assert imread(path).shape[2] == 4
    assert not orange(path).any()


def test_a_picture_has_a_limited_number_of_rows(tmp_path: Path) -> None:
    path, tags = tmp_path / "a.png", [f"tag {i}" for i in range(300)]
    draw(path, "t", tags, TIMES, np.full((len(TIMES), 300), 0.5), (), 60.0)
    assert imread(path).shape[0] < 120 * (2 + 0.3 * MAX_TAGS)


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "a.png", tmp_path / "a.xyz"):
        with pytest.raises(StreamtagError, match=f"{path}: the picture cannot be written"):
            draw(path, "t", TAGS, TIMES, VALUES, SPANS, 60.0)


def test_minutes() -> None:
    assert [minutes(x) for x in (0, 59.95, 75, 90.5, 3600)] == [
        "0:00",
        "1:00",
        "1:15",
        "1:30.5",
        "60:00",
    ]
