"""Excerpts of music that is installed."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamtag.errors import RecipeError
from streamtag.train.data.extraction import read_samples
from streamtag.train.distillation import packages
from streamtag.train.distillation.packages import Package, packaged_music
from streamtag.train.distillation.splits import TEST

RATE = 8000


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packages, "SHARE", tmp_path)
    monkeypatch.setattr(packages, "PACKAGES", {"game-music": Package("games/game/music", "GPL")})
    return tmp_path


def write(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", RATE, 1, format="OGG") as file:
        for _ in range(round(seconds)):
            file.write(np.full(RATE, 0.1, np.float32))


def test_what_is_not_installed_is_named(share: Path) -> None:
    with pytest.raises(RecipeError, match="none of game-music; install them, or set distil"):
        packaged_music()


def test_a_long_piece_has_several_excerpts_and_a_jingle_none(share: Path) -> None:
    folder = share / "games/game/music"
    write(folder / "long way.ogg", 400)
    write(folder / "menu" / "short.ogg", 40)
    write(folder / "jingle.ogg", 10)
    (folder / "broken.ogg").write_bytes(b"no audio")
    (folder / "readme.txt").write_text("no audio")
    found = packaged_music()
    names = ["long_way.ogg-0", "long_way.ogg-1", "menu-short.ogg-0"]
    assert [k.item.name for k in found] == [f"debian/game-music/{name}" for name in names]
    assert [(k.item.start, k.item.end) for k in found] == [(70, 130), (270, 330), (0, 40)]
    assert {(k.item.split, k.item.group, k.licence) for k in found} == {
        ("train", "game-music", "GPL")
    }
    assert all(k.tags == {"music": 1.0} for k in found)
    assert len(read_samples(found[0].item, RATE)) == 60 * RATE


def test_a_large_package_does_not_outweigh_the_others(
    share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MOST", 3)
    for k in range(8):
        write(share / f"games/game/music/{k}.ogg", 30)
    assert [k.item.path.stem for k in packaged_music()] == ["0", "2", "5"]


def test_no_package_is_in_the_test() -> None:
    games = {name.rpartition("/")[2].partition("-")[0] for name in TEST}
    assert not games & {name.partition("-")[0] for name in packages.PACKAGES}
