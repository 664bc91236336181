"""Music of Debian's free games: more hours, by more people.

Nothing is known of it but that it is music, so its labels are the teachers'. It serves for training
alone; what teachers are worth is learned without it.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from streamtag.errors import RecipeError, SourceError
from streamtag.sources.file import FileSource
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.known import KnownItem

SHARE = Path("/usr/share")
"""Where packages have their data."""


class Package(NamedTuple):
    """A package with music."""

    folder: str
    """Of its music, below `SHARE`."""
    licence: str


PACKAGES: Mapping[str, Package] = {
    "asc-music": Package("games/asc/music", "GPL"),
    "berusky2-data": Package("games/berusky2/music", "GPL"),
    "colobot-common-sounds": Package("games/colobot/music", "GPL"),
    "davegnukem-data": Package("games/davegnukem/music", "CC BY 3.0"),
    "enigma-data": Package("games/enigma/music", "GPL"),
    "extremetuxracer-data": Package("games/etr/music", "GPL"),
    "fillets-ng-data": Package("games/fillets-ng/music", "GPL"),
    "flare-game": Package("games/flare/mods/fantasycore/music", "CC BY-SA 3.0"),
    "freedroidrpg-data": Package("freedroidrpg/data/sound/music", "GPL"),
    "fretsonfire-songs-sectoid": Package("games/fretsonfire/data/songs/sectoid", "MIT"),
    "hedgewars-data": Package("games/hedgewars/Data/Music", "GPL"),
    "hyperrogue-music": Package("hyperrogue/music", "CC BY-SA 3.0"),
    "lordsawar-data": Package("games/lordsawar/music", "GPL"),
    "naev-data": Package("naev/dat/snd/music", "GPL or CC BY 3.0"),
    "neverball-common": Package("games/neverball/bgm", "GPL"),
    "planetblupi-music-ogg": Package("planetblupi/music", "GPL"),
    "singularity-music": Package("games/singularity/music", "CC BY-SA 3.0"),
    "starfighter-data": Package("starfighter/music", "CC BY 3.0"),
    "supertux-data": Package("games/supertux2/music", "GPL or CC BY-SA"),
    "supertuxkart-data": Package("games/supertuxkart/data/music", "CC BY-SA 3.0"),
    "warmux-data": Package("games/warmux/music/ingame", "GPL"),
    "warzone2100-music": Package("games/warzone2100/music", "GPL"),
    "widelands-data": Package("games/widelands/data/music", "GPL or CC BY-SA"),
    "wizznic-data": Package("games/wizznic/packs/000_wizznic/music", "GPL"),
    "xmoto-data": Package("games/xmoto/Textures/Musics", "GPL"),
}
"""By name, with the licence of most of its music. Neither its copyright file nor the tags of its
files name an artist of the validation or test recordings."""
ENDINGS = (".ogg", ".opus", ".mp3")
EXCERPT, APART = 60.0, 150.0
"""Seconds of an excerpt, and from one to the next of the same piece."""
SHORTEST = 25.0
"""Seconds of a piece below which it is a jingle, and is left out."""
MOST = 40
"""Excerpts of a package."""


def packaged_music() -> list[KnownItem]:
    """Excerpts of the music of all `PACKAGES`.

    Raises:
        RecipeError: packages are not installed.
    """
    if missing := [name for name, one in PACKAGES.items() if not (SHARE / one.folder).is_dir()]:
        raise RecipeError(
            f"distil.packages: expected the music of {len(PACKAGES)} Debian packages in {SHARE}, "
            f"got none of {', '.join(missing)}; install them, or set distil.packages = false"
        )
    return [known for name in PACKAGES for known in _evenly(_excerpts(name), MOST)]


def _excerpts(name: str) -> list[KnownItem]:
    folder, licence = SHARE / PACKAGES[name].folder, PACKAGES[name].licence
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in ENDINGS):
        seconds = _seconds(path)
        if seconds < SHORTEST:
            continue
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(path.relative_to(folder).parts))
        count = max(1, round((seconds - EXCERPT) / APART))
        for k in range(count):
            start = max(0.0, (k + 0.5) / count * seconds - EXCERPT / 2)
            end = min(seconds, start + EXCERPT)
            item = Item(f"debian/{name}/{plain}-{k}", path, (), "train", name, start, end)
            found.append(KnownItem(item, {"music": 1.0}, licence=licence))
    return found


def _seconds(path: Path) -> float:
    """The length of a piece; 0 if it cannot be decoded."""
    try:
        with closing(FileSource(path)) as source:
            return source.duration or 0.0
    except SourceError:
        return 0.0


def _evenly(some: Sequence[KnownItem], most: int) -> list[KnownItem]:
    """All of them, or `most` at even distances."""
    step = max(1.0, len(some) / most)
    return [some[int(i * step)] for i in range(min(most, len(some)))]
