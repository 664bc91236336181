"""Hours, licences and voices of the data of a model."""

import math
from pathlib import Path

import numpy as np
import pytest

from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.known import KnownItem
from streamtag.train.data.sheet import OTHER, SheetEntry, data_sheet, licence_class
from streamtag.train.distillation.sets import sheet_entries


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CC-BY-SA-3.0", "CC BY-SA"),
        ("CC BY-SA 4.0 (repo assets; OGA FoxSynergy CC BY 3.0)", "CC BY-SA"),
        ("CC BY SA 3.0", "CC BY-SA"),
        ("GPLv2, CC BY SA 3.0", "CC BY-SA or another"),
        ("CC BY-SA / CC BY", "CC BY-SA or another"),
        ("CC-BY 4.0", "CC BY"),
        ("CC BY-NC-SA 4.0", "CC BY-NC"),
        ("GPLv3 (repo)", "GPL"),
        ("(CC0)", "public domain"),
        ("Public domain (dedicated by the author)", "public domain"),
        ("MIT", "MIT, BSD or Apache"),
        ("", OTHER),
    ],
)
def test_licences_have_classes(text: str, name: str) -> None:
    assert licence_class(text) == name


def test_a_sheet_adds_up() -> None:
    entries = [
        SheetEntry("music", "train", "CC0", 2700, 0.0),
        SheetEntry("music", "train", "GPLv2", 900, 1.0),
        SheetEntry("music", "train", "CC0", 3600),
        SheetEntry("music", "train", "MIT", 1),
        SheetEntry("speech", "train", "CC BY-SA 3.0", 360, 1.0),
        SheetEntry("noise", "test", "CC BY 3.0", 36, math.nan),
    ]
    assert data_sheet(entries).splitlines() == [
        "Train: music 2.00 h (public domain 87 %, GPL 12 %, MIT, BSD or Apache under 1 %; "
        "voices in 25 %), "
        "speech 0.10 h (CC BY-SA 100 %; voices in 100 %).",
        "Test: noise 0.01 h (CC BY 100 %).",
    ]
    assert data_sheet([]) == ""


def test_recordings_have_a_voice_where_their_labels_say_so() -> None:
    tags = ("music", "singing", "rap")
    rows = np.array([[1, 0.9, 0], [1, 0.2, 0.7], [1, 0, 0], [1, 0, np.nan]], np.float32)
    song = KnownItem(Item("songs/a", Path("a"), (), "train"), licence="CC0")
    piano = KnownItem(Item("emopia/b", Path("b"), (), "test"), licence="CC BY 4.0")
    labels = {"songs/a": rows, "emopia/b": rows[2:]}
    entries = sheet_entries([song, piano], labels, tags, lambda _: 36.0)
    assert data_sheet(entries).splitlines() == [
        "Train: music 0.01 h (public domain 100 %; voices in 50 %).",
        "Test: judged piano pieces, rendered 0.01 h (CC BY 100 %; voices in 0 %).",
    ]
