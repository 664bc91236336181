"""The truth about voices and genres, from the tables of recordings.

It is true of a recording, not of every moment: songs have parts without a voice. Where a table says
that nobody sings, nobody does at any moment.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.known import KnownItem
from streamtag.train.distillation.splits import (
    TEST,
    Recording,
    groups,
    read_recordings,
    split_recordings,
)

VOICES = ("singing", "female voice", "male voice", "rap", "choir")
SINGERS: dict[str, dict[str, float]] = {
    "female": {"female voice": 1, "male voice": 0, "choir": 0},
    "male": {"male voice": 1, "female voice": 0, "choir": 0},
    "choir": {"choir": 1},
    "male choir": {"choir": 1, "male voice": 1, "female voice": 0},
}
"""The tags of voices for each word for a singer."""
GENRES: dict[str, tuple[str, ...]] = {
    "pop": ("pop", "electronic pop"),
    "rock": ("rock", "indie rock", "surf rock", "grunge", "punk", "death metal"),
    "indie": ("indie rock", "grunge"),
    "punk": ("punk",),
    "metal": ("death metal",),
    "country": ("country", "bluegrass", "western", "hawaiian"),
    "folk": ("folk", "singer-songwriter", "celtic", "old-time", "bluegrass"),
    "jazz": ("jazz", "big band", "swing", "ragtime"),
    "soul": ("soul", "r&b"),
    "funk": ("funk",),
    "disco": ("disco",),
    "reggae": ("reggae", "dub"),
    "hip-hop": ("hip hop", "rap", "trip hop"),
    "latin": ("bossa nova",),
    "world": ("world", "middle eastern", "japanese", "indian", "persian", "egyptian", "taiko",
              "north african", "shakuhachi"),
    "classical": ("classical", "baroque", "renaissance", "art song", "lied", "aria", "opera",
                  "romantic"),
    "opera": ("opera", "aria"),
    "electronic": ("electronic", "electronic pop", "house", "synth"),
    "house": ("house",),
    "ambient": ("ambient", "ethereal", "space"),
    "chillout": ("chillout", "chill", "lounge", "downtempo", "lo-fi"),
}  # fmt: skip
"""The words of the tables that mean a genre."""


def known_recordings(data: Path) -> list[KnownItem]:
    """All recordings of the tables with their truth, by split of general-2.

    Raises:
        RecipeError: a table is missing or broken.
    """
    recordings = read_recordings(data)
    group_of = groups(recordings)
    return [
        KnownItem(
            Item(_name(recording), recording.path, (), split, group_of[recording.path]),
            recording_truth(recording),
            licence=recording.licence,
        )
        for split, some in split_recordings(recordings, TEST).items()
        for recording in some
    ]


def recording_truth(recording: Recording) -> Mapping[str, float]:
    """The truth about a recording, from its table: 1 or 0 by tag; other tags are unknown.

    Of genres it has those that the words name. Other genres may be true as well.
    """
    found = {"music": 1.0} | {
        genre: 1.0 for genre, words in GENRES.items() if set(words) & set(recording.words)
    }
    if recording.vocals == "no":
        found |= dict.fromkeys(VOICES, 0.0)
    elif recording.vocals in ("yes", "likely"):
        found |= {"singing": 1.0} | SINGERS.get(recording.voice, {})
    if "rap" in recording.words:
        found["rap"] = 1.0
    return found


def _name(recording: Recording) -> str:
    folder = re.sub(r"[^A-Za-z0-9._-]", "_", recording.path.parent.name)
    return f"{folder}/{recording.path.stem}"
